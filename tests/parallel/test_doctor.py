"""`mtface doctor` over several processes: what it reports is of all of them together."""

import re

from tests.command import free_port, start

# Threads of Gloo write these words to the standard output piece by piece, so their lines mix.
_GLOO = r'\[Gloo\]|Rank|connected|Expected|number|peer|ranks|is|of|to|[\d\s.:]'


def own_lines(text: str) -> list[str]:
  return [line for line in text.splitlines() if re.sub(_GLOO, '', line)]


def test_lines_of_gloo_are_told_apart_in_any_order():
  mixed = (
    '[Gloo] Rank [Gloo] Rank 2 is connected to 3 peer ranks. Expected number of connected '
    'peer ranks is : 3\n3 is connected to 3 peer ranks. Expected number of connected peer '
    'ranks is : 3\n\nprocess 0 of 2: 2 x cpu\n'
  )
  assert own_lines(mixed) == ['process 0 of 2: 2 x cpu']


def test_two_processes_report_as_one(tmp_path):
  port = free_port()
  place = [f'--coordinator=localhost:{port}', '--processes=2']
  started = [
    start(
      'mtface', 'doctor', f'--workdir={tmp_path}', '--fsdp=2', *place, f'--process={k}', devices=2
    )
    for k in (0, 1)
  ]
  (out, err), (other, other_err) = (process.communicate(timeout=400) for process in started)
  assert [process.returncode for process in started] == [0, 0], err + other_err
  assert not own_lines(other), 'the first one speaks for all'
  lines = own_lines(out)
  assert re.match(r'versions: mtface [\d.]+, jax [\d.]+', lines[0])
  assert [re.sub(r': .*', '', line) for line in lines[1:3]] == ['process 0 of 2', 'process 1 of 2']
  assert all(', 2 x cpu, ' in line for line in lines[1:3])
  answers = [
    re.fullmatch(r'known answer, [a-z ]+: right to \de[+-]\d\d', line) for line in lines[3:9]
  ]
  assert all(answers), lines
  del lines[3:9]
  assert lines[3] == 'mesh: data 2 x fsdp 2, 4 devices'
  sums = [
    re.fullmatch(r'all-reduce of (\d+) MB: ([\d,.]+) ms, ([\d,.]+) GB/s per device', x)
    for x in lines[4:7]
  ]
  for match, size in zip(sums, (1, 8, 64), strict=True):
    megabytes, milliseconds, rate = (float(text.replace(',', '')) for text in match.groups())
    assert megabytes == size
    # Each of 4 devices sends 2 * 3/4 of the array; the report rounds to 0.1 ms and 0.01 GB/s.
    expected = 1.5 * size * 2**20 / (milliseconds / 1000) / 1e9
    assert abs(rate - expected) <= 0.006 + expected * 0.06 / milliseconds
  assert re.fullmatch(
    rf'{tmp_path}: 64 MB written and synced at [\d,]+ MB/s by process 0', lines[7]
  )
  assert lines[8] == f'{tmp_path}: all 2 processes see the same files'
  assert [line.partition(': ')[0] for line in lines[9:]] == ['memory', 'cores', 'compiled programs']
  assert not list(tmp_path.iterdir()), 'it leaves nothing'
