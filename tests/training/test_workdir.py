import json
import pathlib

import jax
import pytest

from mtface.config.saved import read_config
from mtface.config.schema import flat, source
from mtface.config.stages import stage
from mtface.data import sources
from mtface.errors import UserError
from mtface.training import workdir as run_config
from mtface.training.run import plan
from mtface.training.workdir import check_config, fingerprints, write_config
from tests.tiny import get_config
from tests.tiny_stages import get_config as get_stages


def begin(workdir, stage='main'):
  """A stage that has a checkpoint."""
  (workdir / 'checkpoints' / stage / '000000004').mkdir(parents=True)


def staged(**changes):
  config = get_stages()
  for name, changed in changes.items():
    for field, value in changed.items():
      config.stage[name][field] = value
  return config


def test_a_config_is_written_once_and_read_back(tmp_path):
  config = get_config()
  write_config(config, tmp_path / 'new' / 'run')
  begin(tmp_path / 'new' / 'run')
  text = json.loads((tmp_path / 'new/run/config.json').read_text())
  assert text['versions']['jax'] == jax.__version__
  read = read_config(tmp_path / 'new/run')
  assert read.model.to_dict() == config.model.to_dict()
  assert tuple(read.image_shape) == (16, 16, 1)
  assert list(read.sources.people.tasks) == ['gender']
  write_config(config, tmp_path / 'new/run')
  write_config(read, tmp_path / 'new/run')  # lists for tuples are no change


def test_what_may_change_and_what_may_not(tmp_path):
  write_config(get_config(), tmp_path)
  begin(tmp_path)
  config = get_config()
  config.log_every, config.name, config.arguments = '1 steps', 'other', {'row': 'A1'}
  write_config(config, tmp_path)
  assert read_config(tmp_path).log_every == '1 steps', 'which is the latest'
  config.model.dropout = 0.25
  with pytest.raises(
    UserError, match=r'model.dropout=0.5, the config now says 0.25; use the same config'
  ):
    write_config(config, tmp_path)
  config.batch_size = 16
  with pytest.raises(
    UserError, match=r'batch_size=8, the config now says 16 \(and 1 more fields\)'
  ):
    check_config(config, tmp_path)
  assert read_config(tmp_path).batch_size == 8


def test_a_workdir_without_a_checkpoint_binds_nobody(tmp_path):
  (tmp_path / 'config.json').write_text('{"half')
  write_config(get_config(), tmp_path)
  (tmp_path / 'metrics.jsonl').write_text('{"step": 2}\n')
  (tmp_path / 'tensorboard').mkdir()
  (tmp_path / 'tensorboard' / 'events.out.tfevents.1.host.0').write_text('')
  config = get_config()
  config.batch_size = 16
  check_config(config, tmp_path)
  assert read_config(tmp_path).batch_size == 8, 'only looked at'
  write_config(config, tmp_path)
  assert read_config(tmp_path).batch_size == 16
  assert [path.name for path in tmp_path.rglob('*') if path.is_file()] == ['config.json'], (
    'no curves of another run'
  )


def test_a_killed_write_leaves_no_config(tmp_path, monkeypatch):
  def killed(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patched:
    patched.setattr(pathlib.Path, 'replace', killed)
    with pytest.raises(KeyboardInterrupt):
      write_config(get_config(), tmp_path)
  with pytest.raises(UserError, match='not found'):
    read_config(tmp_path)
  write_config(get_config(), tmp_path)


def test_a_stage_that_has_not_begun_may_change(tmp_path):
  write_config(staged(), tmp_path)
  begin(tmp_path, 'smiles')
  corrected = staged(genders={'batch_size': 16}, both={'duration': '9 steps'})
  corrected.stages = ('smiles', 'genders', 'more', 'both')
  corrected.stage.more = stage({'start.weights': 'stage:genders'})
  write_config(corrected, tmp_path)
  assert read_config(tmp_path).stage.genders.batch_size == 16
  with pytest.raises(
    UserError,
    match=r'this workdir holds stage smiles with batch_size=8, the config now says '
    r'16; use the same config',
  ):
    write_config(staged(smiles={'batch_size': 16}), tmp_path)
  fewer = staged()
  fewer.stages = ('genders',)
  fewer.stage.genders.start.weights = ''
  with pytest.raises(
    UserError, match=r'holds a run with a stage smiles, which the config no longer has; keep it'
  ):
    write_config(fewer, tmp_path)
  begin(tmp_path, 'genders')
  with pytest.raises(
    UserError, match=r'holds stage genders with batch_size=16, the config now says 8'
  ):
    write_config(staged(), tmp_path)


def test_what_may_change_of_a_stage_is_what_may_change_of_an_experiment(tmp_path):
  write_config(staged(), tmp_path)
  begin(tmp_path, 'both')
  write_config(staged(both={'log_every': '4 steps'}), tmp_path)
  assert read_config(tmp_path).stage.both.log_every == '4 steps'


def test_the_end_of_a_run_may_move(tmp_path):
  write_config(get_config(), tmp_path)
  begin(tmp_path)
  longer = get_config()
  longer.duration = '16 steps'
  write_config(longer, tmp_path)
  assert read_config(tmp_path).duration == '16 steps'
  longer.seed = 1
  with pytest.raises(UserError, match=r'seed=0, the config now says 1; use the same config'):
    write_config(longer, tmp_path)


def test_where_the_end_cannot_move_it_is_said_how(tmp_path):
  config = get_config()
  config.optimizer.schedule = 'one_cycle'
  write_config(config, tmp_path / 'cycle')
  begin(tmp_path / 'cycle')
  config.duration = '16 steps'
  with pytest.raises(
    UserError,
    match=r"duration='12 steps', the config now says '16 steps'; it cannot be made "
    r'longer, since its learning rate .* in another --workdir, '
    r'with --config.start.weights=\S+/cycle@last$',
  ):
    write_config(config, tmp_path / 'cycle')
  write_config(staged(), tmp_path / 'stages')
  begin(tmp_path / 'stages', 'smiles')
  write_config(staged(smiles={'duration': '7 steps'}), tmp_path / 'stages')
  begin(tmp_path / 'stages', 'genders')
  with pytest.raises(
    UserError, match=r'it cannot be made longer, since later stages have begun from its end; use'
  ):
    write_config(staged(smiles={'duration': '8 steps'}), tmp_path / 'stages')


def test_folds_bind_the_config_of_them_all(tmp_path):
  folds = [tmp_path / 'fold0of2', tmp_path / 'fold1of2']
  write_config(get_config(), tmp_path, runs=folds)
  config = get_config()
  config.batch_size = 16
  write_config(config, tmp_path, runs=folds)
  begin(folds[1])
  with pytest.raises(UserError, match=r'batch_size=16, the config now says 8'):
    write_config(get_config(), tmp_path, runs=folds)


def test_a_run_goes_on_with_the_sets_that_it_has_read(tmp_path):
  first = {'smiles': {'a/b:train': '11'}, 'genders': {'a/b:train': '11'}}
  second = {'smiles': {'a/b:train': '11'}, 'genders': {'a/b:train': '22'}}
  write_config(staged(), tmp_path, first)
  begin(tmp_path, 'smiles')
  write_config(staged(), tmp_path, second)  # a stage that has not begun reads what is there now
  begin(tmp_path, 'genders')
  noted = json.loads((tmp_path / 'config.json').read_text())['data']['genders']['a/b:train']
  assert noted['fingerprint'] == '22'
  with pytest.raises(UserError) as error:
    check_config(staged(), tmp_path, first)
  assert str(error.value) == (
    f'{tmp_path}/config.json: the set a/b is no longer the one that this run has read (a/b:train: '
    f'fingerprint 22 on {noted["noted"]}, '
    'now 11); put that one back to continue, or use another --workdir'
  )
  check_config(staged(), tmp_path, second)


def test_runs_of_before_sets_had_fingerprints_go_on_and_note_them(tmp_path):
  write_config(get_config(), tmp_path)
  text = json.loads((tmp_path / 'config.json').read_text())
  del text['data']
  (tmp_path / 'config.json').write_text(json.dumps(text))
  begin(tmp_path)
  write_config(get_config(), tmp_path, {'main': {'a/b:train': '11'}})
  with pytest.raises(UserError, match='the set a/b is no longer'):
    check_config(get_config(), tmp_path, {'main': {'a/b:train': '22'}})


def test_fingerprints_are_of_all_that_training_reads(tiny_data, monkeypatch):
  asked = []
  monkeypatch.setattr(
    sources, 'fingerprint', lambda name, data_dir: asked.append(data_dir) or name[::-1]
  )
  config = get_config()
  config.evaluation.during_training = ('people',)
  assert fingerprints(plan(config, tiny_data), tiny_data) == {
    name: name[::-1] for name in ('tiny/people:train', 'tiny/smile:train', 'tiny/people:test')
  }
  assert set(asked) == {tiny_data}
  assert run_config.NOTHING == {}


# And a longer duration, see below; the name and the arguments of a config file mean nothing by
# themselves.
FREE = (
  'name',
  'duration',
  'log_every',
  'log_gradients',
  'tracker',
  'store',
  'steps_a_call',
  'profile.start',
  'profile.steps',
  'evaluation.patience',
  'mesh.fsdp',
  'mesh.shard_from',
  'distributed.start_timeout',
  'distributed.heartbeat',
)


def test_every_other_field_belongs_to_the_run(tmp_path):
  write_config(get_config(), tmp_path)
  begin(tmp_path)
  path = tmp_path / 'config.json'
  written = json.loads(path.read_text())
  for field, value in flat(get_config().to_dict()).items():
    if value in ({}, []):  # a group without anything
      continue
    changed = json.loads(json.dumps(written))
    *groups, last = field.split('.')
    group = changed['config']
    for name in groups:
      group = group[name]
    group[last] = (
      {'bknet': 'mobilenet'}.get(value, 'another') if isinstance(value, str) else [value, 17]
    )
    path.write_text(json.dumps(changed))
    if field.endswith(('.name', '.schedule', '.loss')):  # of an entry that is not there
      continue
    if field in FREE:
      write_config(get_config(), tmp_path)
    else:
      with pytest.raises(UserError, match=rf'this workdir holds a run with {field}='):
        write_config(get_config(), tmp_path)


def test_what_is_new_in_the_config_is_a_change_too(tmp_path):
  write_config(get_config(), tmp_path)
  begin(tmp_path)
  more, less = get_config(), get_config()
  more.evaluation.sets.others = source('tiny/smile:train', 'smile')
  with pytest.raises(
    UserError,
    match=r"with evaluation.sets.others.name=None, the config now says 'tiny/smile:train'",
  ):
    write_config(more, tmp_path)
  del less.evaluation.sets['people']
  with pytest.raises(
    UserError,
    match=r"with evaluation.sets.people.name='tiny/people:test', the config now says None",
  ):
    write_config(less, tmp_path)


def test_a_run_that_goes_on_keeps_the_versions_that_it_was_begun_with(tmp_path):
  write_config(get_config(), tmp_path)
  begin(tmp_path)
  path = tmp_path / 'config.json'
  before = json.loads(path.read_text()) | {'versions': {'jax': '0.0.1'}}
  path.write_text(json.dumps(before))
  write_config(get_config(), tmp_path)
  assert json.loads(path.read_text()) == before
  config = get_config()
  config.log_every = '3 steps'
  write_config(config, tmp_path)
  before['config']['log_every'] = '3 steps'
  assert json.loads(path.read_text()) == before


def test_a_run_of_before_a_field_came_is_read_and_goes_on(tmp_path):
  write_config(get_config(), tmp_path)
  begin(tmp_path)
  path = tmp_path / 'config.json'
  text = json.loads(path.read_text())
  del text['config']['optimizer']['sam'], text['config']['freeze'], text['config']['mesh']
  path.write_text(json.dumps(text))
  config = read_config(tmp_path)
  assert (config.optimizer.sam, config.freeze.norms, config.mesh.fsdp) == (0.0, 'running', 1)
  write_config(get_config(), tmp_path)


def test_a_config_that_lacks_a_field_is_damaged(tmp_path):
  write_config(get_config(), tmp_path)
  path = tmp_path / 'config.json'
  text = json.loads(path.read_text())
  del text['config']['batch_size']
  path.write_text(json.dumps(text))
  with pytest.raises(
    UserError,
    match=r'config.json: is damaged \(.*the field batch_size is missing.*\); restore it, or',
  ):
    read_config(tmp_path)


def test_a_run_keeps_the_hardware_that_it_was_begun_on(tmp_path, monkeypatch):
  write_config(get_config(), tmp_path)
  path = tmp_path / 'config.json'
  begun = json.loads(path.read_text())['hardware']
  assert (begun['devices'], begun['platform']) == (jax.device_count(), jax.default_backend())
  begin(tmp_path)
  monkeypatch.setattr(run_config, 'hardware', lambda: {'devices': 4096})
  config = get_config()
  config.log_every = '1 steps'
  write_config(config, tmp_path)
  assert json.loads(path.read_text())['hardware'] == begun


def test_what_an_older_run_was_begun_on_is_not_guessed(tmp_path):
  write_config(get_config(), tmp_path)
  begin(tmp_path)
  path = tmp_path / 'config.json'
  content = json.loads(path.read_text())
  del content['hardware']
  path.write_text(json.dumps(content))
  config = get_config()
  config.log_every = '1 steps'
  write_config(config, tmp_path)
  assert 'hardware' not in json.loads(path.read_text())


def test_a_config_with_a_group_in_place_of_a_field_is_damaged(tmp_path):
  write_config(get_config(), tmp_path)
  path = tmp_path / 'config.json'
  text = json.loads(path.read_text())
  text['config']['seed'] = {'first': 1}
  path.write_text(json.dumps(text))
  with pytest.raises(
    UserError,
    match=r'config.json: is damaged, or of another version of mtface: the field seed is missing',
  ):
    read_config(tmp_path)
