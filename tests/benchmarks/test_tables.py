"""Tables against figures reckoned by hand, and the document against what its results give."""

import numpy as np
import pytest

from benchmarks import pages, tables

MACHINE = {'processor': 'P', 'cores': 2, 'memory_gb': 8.0, 'system': 'Linux x'}


def result(show='rate', **contestants):
  row = {
    'date': '2026-11-28 12:00 UTC',
    'commit': 'abc',
    'load_before': [0.1, 0, 0],
    'load_after': [0.2, 0, 0],
    'show': show,
    'count': 128,
    'notes': {'paper': {'theirs': '7'}},
    'contestants': contestants,
  }
  about = {'subject': 's', 'command': 'python -m benchmarks.s', 'machine': MACHINE, 'tiny': False}
  return {**about, 'cases': {'a case': row}}


def cells(text):
  """{contestant: {column: cell}}."""
  lines = [line.strip('| ').split(' | ') for line in text.splitlines() if line.startswith('|')]
  lines = [line.split('|') for line in text.splitlines() if line.startswith('|')]
  head, _, *rows = [[cell.strip() for cell in line[1:-1]] for line in lines]
  return {row[1]: dict(zip(head, row, strict=True)) for row in rows}


def test_rates_and_ratios():
  ours = {'wall': [1.0, 2.0, 4.0], 'cpu': [2.0, 2.0, 2.0], 'facts': {'parameters': 1000}}
  theirs = {'wall': [2.0, 2.0, 2.0], 'cpu': [3.0, 3.0, 3.0], 'facts': {'parameters': 1500}}
  theirs |= {'distance': {'loss': 1.25e-6}, 'peak_mb': 123.4, 'versions': {'torch': '9.9'}}
  text = tables.table(result(ours=ours, theirs=theirs))
  found = cells(text)
  # 128 / (1, 2, 4) = 128, 64, 32; quartiles in the middle between them
  assert found['ours']['images/s, wall'] == '64.0 (48.0-96.0)'
  assert found['ours']['ratio, wall'] == '1'
  assert found['theirs']['ratio, wall'] == '1.00 (0.750-1.50)'  # of 2, 1, 0.5
  assert found['theirs']['ratio, processor'] == '1.50 (1.50-1.50)'
  assert found['theirs']['parameters'] == '1,500 (1.50)' and found['ours']['parameters'] == '1,000'
  assert found['theirs']['loss: distance'] == '1e-06' and found['theirs']['memory, MB'] == '123'
  assert found['theirs']['paper'] == '7' and found['ours']['paper'] == ''
  assert 'P, 2 cores, 8.0 GB' in text and 'torch 9.9' in text and '2026-11-28, commit abc' in text
  assert 'load average 0.100 to 0.200.' in text


def test_what_the_host_gave_away_is_said():
  of = result(ours={'wall': [1.0], 'cpu': [1.0]})
  of['cases']['a case']['steal'] = 0.043
  of['cases']['another'] = of['cases']['a case'] | {'steal': 0.0}
  text = tables.table(of)
  assert '0.200; 0.0 to 4.3% of the processors went to other machines.' in text


def test_what_was_not_measured_has_no_ratio():
  ours = {'wall': [1.0], 'cpu': [1.0]}
  differs = {'differs': True, 'distance': {'gradients': 0.5}}
  text = tables.table(result(ours=ours, theirs=differs, gone={'unavailable': 'no torch'}))
  assert set(cells(text)) == {'ours'}
  assert "- a case: theirs computes something else: {'gradients': 0.5}" in text
  assert '- a case: gone: no torch' in text


@pytest.mark.parametrize(
  ('x', 'expected'),
  [
    (0, '0'),
    (1234.5, '1,234'),
    (99.96, '100.0'),
    (12.345, '12.3'),
    (0.012345, '0.0123'),
    (1, '1.00'),
  ],
)
def test_digits(x, expected):
  assert tables.digits(x) == expected


def grown(power):
  sizes = (1, 2, 4, 8)
  of = {str(n): {'wall': [0.5 * n**power] * 3, 'cpu': [1.0] * 3} for n in sizes}
  return result('growth', **of)


@pytest.mark.parametrize('power', [0.0, 1.0, 1.7])
def test_the_slope_of_a_power_is_its_exponent(power):
  sizes, seconds = tables.points(grown(power)['cases']['a case'])
  assert sizes == [1, 2, 4, 8] and seconds[0] == 0.5
  assert tables.slope(sizes, seconds) == pytest.approx(power, abs=1e-9)
  assert f'| a case | {power:.2f} | 1: 0.500,' in tables.table(grown(power)).replace(
    '-0.00', '0.00'
  )


def test_the_drawing_names_cases_and_slopes(tmp_path):
  tables.draw(grown(1.0), tmp_path / 'growth.svg')
  text = (tmp_path / 'growth.svg').read_text()
  assert 'a case: 1.00' in text
  tables.draw(grown(1.0), tmp_path / 'again.svg')
  assert (tmp_path / 'again.svg').read_text() == text


def test_a_page_is_filled_and_emptied_between_its_markers():
  page = (
    'before\n<!-- benchmark s -->\nold\n<!-- end -->\nafter\n<!-- benchmark t -->\n<!-- end -->\n'
  )
  made = result(ours={'wall': [1.0], 'cpu': [1.0]})
  filled = tables.filled(page, {'s': made})
  assert tables.table(made) in filled and 'old' not in filled
  assert (
    filled.startswith('before\n')
    and '<!-- end -->\nafter\n<!-- benchmark t -->\n<!-- end -->' in filled
  )
  assert tables.filled(filled, {'s': made}) == filled
  assert tables.filled(filled, {}) == page.replace('old\n', '')


def test_the_document_is_what_its_results_give():
  page = tables.PAGE.read_text()
  assert page == tables.filled(page, tables.results(tables.PUBLISHED))


def test_the_document_has_a_place_for_every_subject():
  from benchmarks.run import SUBJECTS

  assert sorted(pages.names(tables.PAGE.read_text(), 'benchmark')) == sorted(SUBJECTS)
  assert np.isin(list(tables.results(tables.PUBLISHED)), SUBJECTS).all()
