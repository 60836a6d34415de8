"""Tables of compiled programs, from rows that were written down, in the place that a page has."""

import pytest

from benchmarks import compiled
from mtface.errors import UserError
from mtface.files import write_json


def row(target, traffic, all_reduces):
  efficiency = [{'devices': n, 'alone': 0.5 + n / 100, 'overlapped': 0.9} for n in (8, 16)]
  return {
    'network': 'vgg',
    'target': target,
    'images': 32,
    'devices': 16,
    'memory': {'total': 3 * 2**30, 'fits': True},
    'flops_image': 2.5e9,
    'bytes_image': traffic * 2**20,
    'kernels': {'fusion': {'number': 1500}, 'copy': {'number': 34}},
    'parts': {'scatter': 2, 'select-and-scatter': 1},
    'collectives': {'all-reduce': {'number': all_reduces, 'bytes': 3 * 2**20}},
    'waiting': 5,
    'roofline': {'images_per_second': 12345.6},
    'efficiency': efficiency,
    'versions': {'jax': '1.2', 'libtpu': '3.4', 'numpy': '5.6'},
    'date': '2026-01-02',
  }


@pytest.fixture
def rows(tmp_path):
  write_json(tmp_path / 'after.json', [row('v5e:4x4', 2, 7), row('v5e:16x16', 4, 7)])
  write_json(tmp_path / 'before.json', [row('v5e:4x4', 6.5, 7)])
  return [f'--json={tmp_path}/after.json', f'--before={tmp_path}/before.json', '--networks=vgg']


def cells(text):
  lines = [line.strip('| ').split(' | ') for line in text.splitlines() if line.startswith('| ')]
  return {line[0]: line[1:] for line in lines}


def test_rows_that_are_written_down_become_columns_beside_those_of_before(rows, capsys):
  compiled.main([*rows, '--targets=v5e:4x4,v5e:16x16'])
  text = capsys.readouterr().out
  found = cells(text)
  assert found['MiB of traffic an image'] == ['6.50 -> 2.00', '4.00']
  assert found['kernels'] == ['1,534', '1,534']
  assert found['scatters'] == ['3', '3']
  assert found['collectives'] == ['7 all-reduce', '7 all-reduce']
  assert found['MiB sent a step'] == ['3.0', '3.0']
  assert found['efficiency, nothing overlaps'] == ['66%', '66%']
  assert text.rstrip().endswith('jax 1.2, libtpu 3.4; 2026-01-02.')


def test_a_page_has_several_tables(rows, tmp_path):
  page = tmp_path / 'page.md'
  theirs = '<!-- compiled steps -->\n\nkept\n<!-- end -->'
  page.write_text(f'a\n{theirs}\nb\n<!-- compiled tpu -->\nold\n<!-- end -->\nc\n')
  compiled.main([*rows, '--targets=v5e:4x4', f'--into={page}', '--at=tpu'])
  text = page.read_text()
  assert text.startswith(f'a\n{theirs}\nb\n<!-- compiled tpu -->\n\n**VGG-16')
  assert text.endswith('2026-01-02.\n\n<!-- end -->\nc\n')
  assert 'old' not in text
  with pytest.raises(UserError, match=r'has no <!-- compiled gpu -->'):
    compiled.main([*rows, '--targets=v5e:4x4', f'--into={page}', '--at=gpu'])
