import itertools
import re

import jax
import pytest

from mtface.config.files import config_folder, load_config_file
from mtface.config.schema import switched, tasks_of
from mtface.models.network import abstract_network
from mtface.report.describe import _device_bytes, describe, parameter_report
from mtface.training.optim import make_optimizer
from tests.tiny import get_config
from tests.tiny_stages import get_config as get_stages


def test_parameter_report_of_a_paper():
  report = parameter_report(load_config_file(config_folder() / 'rohani2023.py', 'C'))
  assert 'parameters without batch normalisation: 3,953,130' in report  # Rohani 2023, Table 3
  rows = [int(line.split()[-1].replace(',', '')) for line in report.split('\n\n')[0].splitlines()]
  assert f'parameters: {sum(rows):,}\n' in report


def test_describe_counts_the_labels_an_epoch(tiny_data):
  config = get_config()
  text = describe(config, tiny_data)
  found = dict(
    re.findall(
      r'(\w+) ([\d,]+)(?:, |\n)', re.search(r'labelled samples per epoch: (.*\n)', text)[1]
    )
  )
  assert set(found) == set(config.tasks)
  assert len(set(found.values())) == 1, 'equal mixing'
  for entry in config.sources.values():
    assert entry.name in text


def lines_of(config, data_dir):
  return describe(config, data_dir).splitlines()


def test_describe_says_how_often_samples_are_drawn_and_how_many_have_labels(tiny_data):
  # 24 smiles and 40 people, of whom 30 have a gender, in batches of 8: 30 labels of each task, of
  # which no unlabelled face is one.
  rows = {
    line.split()[0]: line.split()[1:]
    for line in lines_of(get_config(), tiny_data)
    if line.startswith('tiny/')
  }
  assert rows == {
    'tiny/smile:train': ['24', '30', '1-2', 'times', 'smile', '24'],
    'tiny/people:train': ['40', '30', '0-1', 'times', 'gender', '30'],
  }


def test_describe_says_how_long_a_run_is(tiny_data):
  config = get_config()
  config.duration = '30 steps'
  lines = lines_of(config, tiny_data)
  assert 'epoch: 60 samples, 7.5 steps of 8' in lines
  assert 'run: 30 steps = 30 steps, 4.0 epochs' in lines  # of 60 samples
  config.duration = '2 epochs'
  assert 'run: 2 epochs = 15 steps, 2.0 epochs' in lines_of(config, tiny_data)


def numbers_of(config):
  """{part: its number of parameters} of tests/tiny.py's network, from the widths: 1, 1, 2, 2, 4, 4,
  8, 8, 8 and branches of 8.
  """
  channels = [config.image_shape[2], 1, 1, 2, 2, 4, 4, 8, 8, 8]
  convolutions = sum(
    9 * a * b + 3 * b for a, b in itertools.pairwise(channels)
  )  # a bias, a scale and a bias of its norm
  branch = (8 * 8 + 3 * 8) * 2 + 8 * 2 + 2
  return {'blocks': convolutions, 'branches/gender': branch, 'branches/smile': branch}


@pytest.mark.parametrize(('optimizer', 'kept'), [('sgd', 1), ('adam', 2)])
@pytest.mark.parametrize('frozen', [(), ('blocks',), ('branches/gender', 'branches/smile')])
def test_memory_of_a_device_is_parameters_and_what_the_optimiser_keeps_of_them(
  optimizer, kept, frozen
):
  config = get_config()
  switched(config, 'optimizer.name', optimizer)
  config.freeze.params = frozen
  _, params, _ = abstract_network(config.model, list(tasks_of(config).values()), config.image_shape)
  expected = sum(
    4 * n * (1 if part in frozen else 1 + kept) for part, n in numbers_of(config).items()
  )
  assert _device_bytes(config, params) == expected
  state = jax.eval_shape(make_optimizer(config.optimizer, 12, frozen).init, params)
  of_arrays = sum(4 * x.size for x in jax.tree.leaves(state) if x.ndim)  # counters aside
  assert of_arrays == expected - 4 * sum(numbers_of(config).values())


def test_each_part_has_its_rate(tiny_data):
  config = get_config()
  config.optimizer.rate, config.optimizer.factors, config.freeze.params = (
    0.5,
    ('branches=0.1',),
    ('branches/smile',),
  )
  n = numbers_of(config)
  found = [
    re.split('  +', line.strip()) for line in lines_of(config, tiny_data) if line.startswith('  b')
  ]
  assert found == [
    ['blocks', f'{n["blocks"]:,} parameters', 'learning rate 0.5'],
    ['branches/gender', f'{n["branches/gender"]:,} parameters', 'learning rate 0.05'],
    [
      'branches/smile',
      f'{n["branches/smile"]:,} parameters',
      'frozen (batch norms use running statistics)',
    ],
  ]


def test_reports_of_stages_are_each_stages(tiny_data):
  found = dict(part.split(':', 1) for part in parameter_report(get_stages()).split('stage ')[1:])
  assert {
    name: ('branches/smile' in text, 'branches/gender' in text) for name, text in found.items()
  } == {
    'smiles': (True, False),
    'genders': (False, True),
    'both': (True, True),
  }
