import re

from mtface.config_files import config_folder, load_config_file
from mtface.describe import describe, parameter_report
from tests.tiny import get_config


def test_parameter_report_of_a_paper():
  report = parameter_report(load_config_file(config_folder() / 'rohani2023.py', 'C'))
  assert 'parameters without batch normalisation: 3,953,130' in report  # Rohani 2023, Table 3
  rows = [int(line.split()[-1].replace(',', '')) for line in report.split('\n\n')[0].splitlines()]
  assert f'parameters: {sum(rows):,}' in report


def test_describe_counts_the_labels_an_epoch(tiny_data):
  config = get_config()
  text = describe(config, tiny_data)
  found = dict(re.findall(r'(\w+) ([\d,]+)(?:, |\n)', re.search(r'labelled samples an epoch: (.*\n)', text)[1]))
  assert set(found) == set(config.tasks)
  assert len(set(found.values())) == 1, 'equal mixing'
  for entry in config.sources.values():
    assert entry.name in text
