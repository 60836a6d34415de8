import jax
import pytest

from mtface.config.schema import source
from mtface.errors import UserError
from mtface.models import network
from mtface.publish.weights import export_network
from mtface.training import checks
from mtface.training.checks import check_experiment
from tests.tiny import get_config
from tests.tiny_stages import get_config as get_stages


def test_all_stages_are_planned_and_nothing_is_drawn(tiny_data, tmp_path, monkeypatch):
  monkeypatch.setattr(network, 'make_network', None)
  runs = check_experiment(get_stages(), tiny_data, tmp_path / 'run')
  assert {name: run.steps for name, run in runs.items()} == {'smiles': 6, 'genders': 8, 'both': 6}
  assert all(
    isinstance(x, jax.ShapeDtypeStruct)
    for run in runs.values()
    for x in jax.tree.leaves(run.params)
  )
  assert not list(tmp_path.iterdir())


def test_start_weights_are_looked_for_until_a_stage_has_begun(tiny_data, tmp_path):
  config = get_config()
  config.start.weights = f'{tmp_path}/gone.safetensors'
  with pytest.raises(UserError, match=r'gone.safetensors: no such weight file'):
    check_experiment(config, tiny_data, tmp_path)
  with pytest.raises(UserError, match=r'gone.safetensors: no such weight file'):
    check_experiment(config, tiny_data)
  (tmp_path / 'checkpoints/main/000000004').mkdir(parents=True)
  check_experiment(config, tiny_data, tmp_path)


def test_the_checkpoint_of_another_run_is_there_and_fits(tiny_run, tiny_data, tmp_path):
  config = get_config()
  config.start.weights = f'{tiny_run}@8'
  check_experiment(config, tiny_data)
  config.model.width = 1 / 16
  with pytest.raises(
    UserError,
    match=rf'^config.start.weights={tiny_run}@8: blocks/0/convolutions/0/bias is \(1,\), the ',
  ):
    check_experiment(config, tiny_data)
  for step, words in {
    '7': 'has no checkpoint of step 7; available: 4, 8, 12',
    'best': 'no checkpoint is marked best',
  }.items():
    config.start.weights = f'{tiny_run}@{step}'
    with pytest.raises(UserError, match=f'^{tiny_run}/checkpoints/main: {words}'):
      check_experiment(config, tiny_data)


def test_a_file_of_weights_is_read_and_fits(tiny_run, tiny_data, tmp_path):
  export_network(tiny_run, tiny_data, 'last', tmp_path / 'tiny.safetensors', format='mtface')
  config = get_config()
  config.start.weights = f'{tmp_path}/tiny.safetensors'
  check_experiment(config, tiny_data)
  config.model.width = 1 / 16
  with pytest.raises(UserError, match=r'tiny.safetensors: does not match this network: blocks/'):
    check_experiment(config, tiny_data)
  (tmp_path / 'tiny.h5').write_text('')
  config.start.weights = f'{tmp_path}/tiny.h5'
  with pytest.raises(
    UserError, match=r'tiny.h5: is not a weight file; weights are read from .safetensors'
  ):
    check_experiment(config, tiny_data)


def test_a_run_is_not_made_shorter_than_it_is(tiny_data, tmp_path):
  (tmp_path / 'checkpoints/main/000000012').mkdir(parents=True)
  config = get_config()
  check_experiment(config, tiny_data, tmp_path)
  config.duration = '11 steps'
  with pytest.raises(
    UserError,
    match=r"'11 steps' is 11 steps, and \S+ holds step 12 already; a run may be made longer",
  ):
    check_experiment(config, tiny_data, tmp_path)


def test_missing_sets_of_any_stage_come_before_data_are_looked_at(tiny_data, monkeypatch):
  monkeypatch.setattr(checks, 'plan', None)
  config = get_stages()
  config.stage.both.evaluation = {'sets': {'gone': source('tiny/gone:test')}}
  with pytest.raises(UserError, match=r'^stage both: \S+/tiny/gone: no prepared set found'):
    check_experiment(config, tiny_data)


@pytest.mark.parametrize('loss', ['softmax_cross_entropy', 'multiclass_squared_hinge'])
def test_losses_of_single_label_tasks(tiny_data, loss):
  config = get_config()
  config.tasks.smile.loss = loss
  check_experiment(config, tiny_data)


def test_a_device_is_one_too_few(tiny_data):
  config = get_config()
  config.mesh.fsdp = jax.device_count() + 1
  with pytest.raises(
    UserError, match=r'^config.mesh.fsdp: \d+ devices cannot be split evenly into groups of'
  ):
    check_experiment(config, tiny_data)
