import json
import struct

import pytest
from tensorboardX.proto import event_pb2

from mtface.errors import UserError
from mtface.training.logs import MetricsLog, TrainProgress, read_metrics


def events(workdir):
  """All events of the TensorBoard files in the order they were written: records of length, crc,
  data, crc.
  """
  found = []
  for path in sorted((workdir / 'tensorboard').iterdir(), key=lambda path: path.stat().st_mtime_ns):
    data = path.read_bytes()
    while data:
      (length,) = struct.unpack('Q', data[:8])
      found.append(event_pb2.Event.FromString(data[12 : 12 + length]))
      data = data[16 + length :]
  return found


def write(workdir, start, lines):
  with MetricsLog(workdir, start) as log:
    for step, values in lines:
      log.write(step, values)


def test_lines_and_points(tmp_path):
  write(
    tmp_path, 0, [(2, {'train/loss': 0.5, 'train/rate': 0.01}), (4, {}), (6, {'train/loss': 0.25})]
  )
  lines = read_metrics(tmp_path)
  assert [(line['step'], line['train/loss']) for line in lines] == [(2, 0.5), (6, 0.25)]
  points = [(e.step, v.tag, v.simple_value) for e in events(tmp_path) for v in e.summary.value]
  assert points == [
    (2, 'train/loss', 0.5),
    (2, 'train/rate', pytest.approx(0.01)),
    (6, 'train/loss', 0.25),
  ]
  assert events(tmp_path)[0].file_version == 'brain.Event:2'


def test_a_restart_drops_what_came_after_its_step(tmp_path):
  write(tmp_path, 0, [(step, {'loss': float(step)}) for step in (2, 4, 6, 8)])
  write(tmp_path, 4, [(6, {'loss': 60.0})])
  assert [(line['step'], line['loss']) for line in read_metrics(tmp_path)] == [
    (2, 2.0),
    (4, 4.0),
    (6, 60.0),
  ]
  restarts = [e.step for e in events(tmp_path) if e.HasField('session_log')]
  assert restarts == [1, 5], 'TensorBoard forgets step 5 and later of the file before'


@pytest.mark.parametrize('rubbish', ['{"step": 4, "lo', '[]', '7', '{"loss": 3}', '\xff\x00'])
def test_lines_that_a_kill_cut_short_are_left_out(tmp_path, rubbish):
  write(tmp_path, 0, [(2, {'loss': 1.0})])
  with (tmp_path / 'metrics.jsonl').open('ab') as file:
    file.write(rubbish.encode('latin-1'))
  assert [line['step'] for line in read_metrics(tmp_path)] == [2]
  write(tmp_path, 2, [(4, {'loss': 2.0})])
  assert [
    json.loads(line)['step'] for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()
  ] == [2, 4]


def test_a_workdir_that_is_none(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(
    UserError, match=r'file/run: the metrics cannot be written \(Not a directory\); free up space'
  ):
    MetricsLog(tmp_path / 'file' / 'run', 0)


def test_without_a_terminal_progress_is_lines(capsys):
  with TrainProgress(0, 10, batch_size=4) as bar:
    bar.advance(1)
    bar.show(
      1,
      {
        'train/loss': 0.5,
        'train/smile/accuracy': 0.75,
        'train/smile/loss': 0.5,
        'eval/test/smile/accuracy': 0.5,
      },
    )
  assert capsys.readouterr().err == 'step 1/10    loss 0.500  smile 75.0%  test smile 50.0%\n'


def test_the_rate_leaves_out_pauses_and_the_first_step(monkeypatch):
  now = iter([10.0, 12.0, 13.0, 100.0, 101.0])
  monkeypatch.setattr('mtface.training.logs.time.monotonic', lambda: next(now))
  bar = TrainProgress(0, 10, batch_size=4)
  for step in (1, 2, 3):
    bar.advance(step)
  assert bar.images_per_second == 2 * 4 / 3.0
  bar.pause()
  for step in (4, 5):
    bar.advance(step)
  assert bar.images_per_second == 3 * 4 / 4.0
