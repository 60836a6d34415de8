"""Trackers beside TensorBoard: what they get, that a resumed run is the same run there, and that
none of their errors reaches the training.
"""

import json
import sys
import textwrap

import pytest

from mtface import process
from mtface.config import tables
from mtface.errors import UserError
from mtface.training.logs import MetricsLog, Silent, open_log, read_metrics
from mtface.training.trackers import check_tracker
from tests.tiny import get_config


class Run:
  """A run of a made-up tracker: notes what it is told, and fails at the steps of `broken`."""

  def __init__(self, opened, broken=()):
    self.opened, self.logged, self.finished, self._broken = opened, [], 0, broken

  def log(self, metrics, step):
    print('on stdout, as some trackers do')
    if step in self._broken:
      raise ConnectionError('no route to host\nsecond line')
    self.logged.append((step, metrics))

  def finish(self):
    self.finished += 1


@pytest.fixture
def opened(monkeypatch):
  """The runs that are opened in the tracker `made_up`, in order."""
  runs = []
  monkeypatch.setattr(tables, 'TRACKERS', tables.Table('tracker', package=''))
  monkeypatch.setattr('mtface.training.trackers.TRACKERS', tables.TRACKERS)
  tables.TRACKERS.add('made_up', lambda **how: runs.append(Run(how)) or runs[-1])
  tables.TRACKERS.add('weak', lambda **how: runs.append(Run(how, broken=(4,))) or runs[-1])
  tables.TRACKERS.add('absent', lambda **how: 1 / 0)
  return runs


def config(tracker='made_up'):
  found = get_config()
  found.tracker = tracker
  return found


def write(workdir, start, steps, tracker='made_up'):
  with open_log(workdir, start, config(tracker), 'a2') as log:
    for step in steps:
      log.write(step, {'train/loss': step / 2})


def test_a_run_gets_the_config_and_every_line(opened, tmp_path, capsys):
  write(tmp_path, 0, (2, 4), 'made_up:faces')
  (run,) = opened
  assert run.logged == [(2, {'train/loss': 1.0}), (4, {'train/loss': 2.0})] and run.finished == 1
  assert (run.opened['project'], run.opened['name']) == ('faces', 'a2')
  assert run.opened['config']['tasks']['smile']['weight'] == 1.0
  json.dumps(run.opened['config'])
  assert capsys.readouterr().out == '', "mtface's own output stays clean"


def test_a_resumed_run_goes_on_and_nothing_is_sent_twice(opened, tmp_path):
  write(tmp_path, 0, (2, 4, 6))  # killed; its last checkpoint is of step 4
  write(tmp_path, 4, (6, 8))
  before, after = opened
  assert after.opened['run_id'] == before.opened['run_id']
  assert after.opened['project'] == 'mtface'
  assert [step for step, _ in before.logged + after.logged] == [2, 4, 6, 8]


def test_a_run_that_begins_again_is_another_run(opened, tmp_path):
  write(tmp_path, 0, (2,))
  write(tmp_path, 0, (2,))
  before, after = opened
  assert after.opened['run_id'] != before.opened['run_id']
  assert [step for step, _ in after.logged] == [2]


def test_what_was_logged_without_the_tracker_is_sent_first(opened, tmp_path):
  with MetricsLog(tmp_path, 0) as log:
    log.write(2, {'train/loss': 1.0})
  write(tmp_path, 2, (4,))
  assert opened[0].logged == [(2, {'train/loss': 1.0}), (4, {'train/loss': 2.0})]


def test_a_tracker_that_fails_is_left_alone_and_gets_the_rest_when_the_run_resumes(
  opened, tmp_path, capsys
):
  write(tmp_path, 0, (2, 4, 6), 'weak')
  assert [step for step, _ in opened[0].logged] == [2] and opened[0].finished == 0
  assert [line['step'] for line in read_metrics(tmp_path)] == [2, 4, 6]
  (line,) = capsys.readouterr().err.splitlines()[-1:]
  assert line == (
    'mtface: warning: config.tracker: weak failed (ConnectionError: no route to host); training '
    'goes on without it, and metrics.jsonl has everything'
  )
  noted = json.loads((tmp_path / 'tracker.json').read_text())
  assert noted['weak']['step'] == 2
  write(tmp_path, 6, (8,), 'made_up')
  assert [step for step, _ in opened[1].logged] == [2, 4, 6, 8]


def test_one_that_cannot_be_opened_is_told_once(opened, tmp_path, capsys):
  write(tmp_path, 0, (2, 4), 'absent')
  assert [line['step'] for line in read_metrics(tmp_path)] == [2, 4]
  (line,) = capsys.readouterr().err.splitlines()
  assert 'absent failed (ZeroDivisionError: division by zero)' in line


@pytest.mark.parametrize('damage', ['', '{', '[]', '{"made_up": {"run": "x"}}', '{"made_up": 3}'])
def test_a_damaged_note_makes_a_new_run(opened, tmp_path, damage):
  write(tmp_path, 0, (2,))
  (tmp_path / 'tracker.json').write_text(damage)
  write(tmp_path, 2, (4,))
  assert [step for step, _ in opened[1].logged] == [2, 4]


def test_only_the_first_process_opens_one(opened, tmp_path, monkeypatch):
  monkeypatch.setattr(process, 'index', 1)
  assert isinstance(open_log(tmp_path, 0, config(), 'a2'), Silent)
  assert not opened


def test_none_is_opened_unless_it_is_asked_for(opened, tmp_path):
  write(tmp_path, 0, (2,), '')
  assert not opened and not (tmp_path / 'tracker.json').exists()


# --- trackio and wandb ----------------------------------------------------------------------------

FAKE = """
calls = []

def log(metrics, step=None): calls.append(('log', metrics, step))
def finish(): calls.append(('finish',))

class Run:
  log, finish = staticmethod(log), staticmethod(finish)

def init(project=None, **how):
  calls.append(('init', project, how))
  return Run()
"""


@pytest.fixture
def fake(request, tmp_path, monkeypatch):
  """A package of that name, which notes its calls."""
  (tmp_path / 'packages').mkdir()
  (tmp_path / 'packages' / f'{request.param}.py').write_text(textwrap.dedent(FAKE))
  monkeypatch.syspath_prepend(tmp_path / 'packages')
  monkeypatch.delitem(sys.modules, request.param, raising=False)
  yield request.param
  sys.modules.pop(request.param, None)


@pytest.mark.parametrize('fake', ['trackio', 'wandb'], indirect=True)
def test_the_call_names_the_same_run_when_it_resumes(fake, tmp_path):
  check_tracker(fake)
  for start, step in ((0, 2), (2, 4)):
    write(tmp_path / 'run', start, (step,), f'{fake}:faces')
  calls = sys.modules[fake].calls
  assert [call[0] for call in calls] == ['init', 'log', 'finish'] * 2
  assert [call[1:] for call in calls if call[0] == 'log'] == [
    ({'train/loss': 1.0}, 2),
    ({'train/loss': 2.0}, 4),
  ]
  (_, project, how), (_, _, again) = calls[0], calls[3]
  assert project == 'faces' and how == again and how['resume'] == 'allow'
  noted = json.loads((tmp_path / 'run' / 'tracker.json').read_text())[f'{fake}:faces']
  assert noted['run'] == (how['id'] if fake == 'wandb' else how['name'].removeprefix('a2-'))


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('tensorboard', r"^config.tracker 'tensorboard' is unknown; there are trackio, wandb$"),
    (
      'trackio:faces',
      r"^config.tracker: trackio is not installed; pip install 'mtface\[trackio\]', or leave",
    ),
  ],
)
def test_mistakes_are_told_before_the_training(text, message, monkeypatch):
  monkeypatch.setattr('mtface.training.trackers.importlib.util.find_spec', lambda name: None)
  with pytest.raises(UserError, match=message):
    check_tracker(text)
  check_tracker('')


def test_with_trackio_itself(tmp_path, monkeypatch):
  monkeypatch.setenv('TRACKIO_DIR', str(tmp_path / 'kept'))  # which it reads when it is imported
  pytest.importorskip('trackio')
  from trackio.sqlite_storage import SQLiteStorage

  write(tmp_path / 'run', 0, (2, 4), 'trackio:faces')
  write(tmp_path / 'run', 4, (6,), 'trackio:faces')
  run_id = json.loads((tmp_path / 'run' / 'tracker.json').read_text())['trackio:faces']['run']
  assert SQLiteStorage.get_runs('faces') == [f'a2-{run_id}']
  logs = SQLiteStorage.get_logs('faces', f'a2-{run_id}')
  assert [(line['step'], line['train/loss']) for line in logs] == [(2, 1.0), (4, 2.0), (6, 3.0)]


def test_with_wandb_itself_offline(tmp_path, monkeypatch):
  monkeypatch.setenv('WANDB_MODE', 'offline')
  wandb = pytest.importorskip('wandb')
  for start, step in ((0, 2), (2, 4)):
    write(tmp_path / 'run', start, (step,), 'wandb:faces')
  run_id = json.loads((tmp_path / 'run' / 'tracker.json').read_text())['wandb:faces']['run']
  files = sorted((tmp_path / 'run').glob(f'wandb/offline-run-*/run-{run_id}.wandb'))
  assert len(files) == 2, 'two parts of one run, which `wandb sync` puts together'
  assert wandb.run is None
