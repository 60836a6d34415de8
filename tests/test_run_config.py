import json
import pathlib

import jax
import pytest

from mtface.errors import UserError
from mtface.run_config import read_config, write_config
from mtface.stages import stage
from tests.tiny import get_config


def test_a_config_is_written_once_and_read_back(tmp_path):
  config = get_config()
  write_config(config, tmp_path / 'new' / 'run')
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
  config = get_config()
  config.log_every = '1 steps'
  write_config(config, tmp_path)
  config.model.dropout = 0.25
  with pytest.raises(UserError, match=r'model.dropout=0.5, the config now says 0.25; use the same config'):
    write_config(config, tmp_path)
  config.batch_size = 16
  with pytest.raises(UserError, match=r'batch_size=8, the config now says 16 \(and 1 more fields\)'):
    write_config(config, tmp_path)


def test_a_killed_write_leaves_no_config(tmp_path, monkeypatch):
  def killed(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patched:
    patched.setattr(pathlib.Path, 'rename', killed)
    with pytest.raises(KeyboardInterrupt):
      write_config(get_config(), tmp_path)
  with pytest.raises(UserError, match='not found'):
    read_config(tmp_path)
  write_config(get_config(), tmp_path)


def test_what_may_change_of_a_stage_is_what_may_change_of_an_experiment(tmp_path):
  config = get_config()
  config.stages, config.stage.one = ('one',), stage({'log_every': '2 steps', 'duration': '8 steps'})
  write_config(config, tmp_path)
  config.stage.one.log_every = '4 steps'
  write_config(config, tmp_path)
  config.stage.one.duration = '9 steps'
  with pytest.raises(
    UserError, match=r"stage.one.duration='8 steps', the config now says '9 steps'; use the same config"
  ):
    write_config(config, tmp_path)
