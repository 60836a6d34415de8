"""The table of several targets, one of which is refused, and what else is said of them."""

from mtface.compiled.report import report, table


def record(target, **changes):
  """A made-up record of two devices that exchange 8 MiB a step of 4 images."""
  scatter = {'bytes': 4 * 2**20, 'times': 1, 'kind': 'fusion', 'result': 'f32[4]'}
  of = {'operation': 'backward add', 'source': 'layers.py:1'}
  efficiency = [
    {'devices': n, 'alone': 0.9 / n, 'overlapped': 0.95 / n, 'waiting': 0, 'beside': 0}
    for n in (2, 8)
  ]
  return {
    'config': 'tiny',
    'stage': 'main',
    'program': 'train',
    'dtype': 'bfloat16',
    'fsdp': 1,
    'target': target,
    'card': {'name': 'h100', 'source': 'its data sheet'},
    'notes': ['class weights of smile: 1'],
    'devices': 2,
    'images': 4,
    'flops_image': 3e6,
    'bytes_image': 3 * 2**20,
    'memory': {
      'arguments': 2**30,
      'temporary': 2**29,
      'outputs': 0,
      'program': 0,
      'total': 3 * 2**29,
      'card': 2**31,
      'fits': True,
    },
    'kernels': {
      'fusion': {'number': 7, 'bytes': 12 * 2**20 - 8},
      'copy': {'number': 3, 'bytes': 8},
    },
    'parts': {'scatter': 1, 'select-and-scatter': 2, 'sort': 0, 'transpose': 0, 'gather': 0},
    'unknown_loops': 0,
    'collectives': {'all-reduce': {'number': 5, 'bytes': 8 * 2**20}},
    'waiting': 4,
    'most_traffic': [scatter | of],
    'scatters': [scatter | of],
    'largest': [{'bytes': 2**28, 'result': 'f32[4]'} | of],
    'roofline': {'memory_seconds': 0.5, 'compute_seconds': 0.25, 'images_per_second': 8.0},
    'efficiency': efficiency,
    'compile_seconds': 12.3,
  } | changes


def cells(text):
  return {
    line[: len(line) - len(line.lstrip(' '))] + line.split('  ')[0].strip() or line.strip(): [
      cell.strip() for cell in line.strip().split('  ') if cell.strip()
    ][1:]
    for line in text.splitlines()
  }


def test_a_row_a_figure_and_a_column_a_target():
  larger = {'memory': record('')['memory'] | {'total': 3 * 2**30, 'fits': False}}
  found = cells(table([record('h100:2'), record('h100:1x2', **larger)]))
  assert found['memory'] == ['1.50 GiB of 2.00 GiB', '3.00 GiB of 2.00 GiB: does not fit']
  assert found['MFLOP an image'] == ['3.0', '3.0']
  assert found['traffic an image'] == ['3.00 MiB', '3.00 MiB']
  assert found['kernels'] == ['10', '10']
  assert found['all-reduce'] == ['5', '5']
  assert found['roofline, images/s a device'] == ['8', '8']
  assert found['efficiency, nothing overlaps'] == ['45.0%', '45.0%']
  assert found['efficiency, overlapped'] == ['47.5%', '47.5%']


def test_what_is_small_has_no_row_of_its_own_and_scatters_are_counted_together():
  text = table([record('h100:2')])
  rows = [(line.split('  ')[0] or line).strip() for line in text.splitlines()]
  assert not any(row.startswith('copy') for row in rows)
  (scatters,) = [line for line in text.splitlines() if 'with a scatter' in line]
  assert scatters.split()[-1] == '3'


def test_a_target_that_is_refused():
  refused = {'refused': 'RESOURCE_EXHAUSTED: 17 of 16 GiB'}
  gone = ('memory', 'kernels', 'parts', 'collectives', 'roofline', 'efficiency')
  other = {k: v for k, v in record('v5e:2x2', **refused).items() if k not in gone}
  text = report([record('h100:2'), other])
  found = cells(text)
  assert found['memory'] == ['1.50 GiB of 2.00 GiB', 'does not fit']
  assert found['kernels'] == ['10', '-']
  assert 'v5e:2x2: RESOURCE_EXHAUSTED: 17 of 16 GiB' in text


def test_what_is_said_below_the_table():
  text = report([record('h100:2', unknown_loops=2)])
  lines = text.splitlines()
  assert lines[0] == 'tiny: training step, bfloat16'
  place = lines.index('most traffic, an image')
  assert lines[place + 1].split() == [
    '1.00',
    'MiB',
    'fusion',
    'f32[4]',
    'backward',
    'add,',
    'layers.py:1',
  ]
  place = lines.index('h100:2: in memory when most is, beside the arguments')
  assert lines[place + 1].split() == ['256.00', 'MiB', 'f32[4]', 'backward', 'add,', 'layers.py:1']
  assert '           8  11.2%  11.9%' in lines
  assert '2 loops of unknown length count once' in lines
  assert 'h100: its data sheet' in lines
  assert 'class weights of smile: 1' in lines
