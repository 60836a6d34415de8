import pathlib

import pytest

from mtface.config.schema import check_fields
from mtface.config.stages import MAIN, stage, stage_folder, stage_of, stages_of
from mtface.errors import UserError
from tests.tiny import get_config as get_tiny
from tests.tiny_stages import get_config


def test_names_with_dots_are_groups():
  changes = stage({'duration': '1 epochs', 'optimizer.rate': 0.1, 'optimizer.sam': 0.05}).to_dict()
  assert changes == {'duration': '1 epochs', 'optimizer': {'rate': 0.1, 'sam': 0.05}}


def test_a_config_without_stages_is_one():
  config = get_tiny()
  assert stages_of(config) == {MAIN: config}


def test_a_stage_is_the_experiment_with_its_changes():
  config = get_config()
  found = stages_of(config)
  assert list(found) == ['smiles', 'genders', 'both'], (
    'in the order of training, not of the alphabet'
  )
  for one in found.values():
    check_fields(one, 'a stage')
    assert (one.stages, one.stage.to_dict()) == ((), {})
  assert list(found['genders'].tasks) == ['gender'], 'its own in place of the experiment`s'
  assert list(found['genders'].sources) == list(found['genders'].evaluation.sets) == ['people']
  assert list(found['both'].tasks) == ['gender', 'smile'], 'the experiment`s'
  assert (
    found['genders'].optimizer.name,
    found['genders'].optimizer.sam,
    found['genders'].batch_size,
  ) == (
    'adam',
    0.05,
    8,
  )
  assert (found['both'].optimizer.name, found['both'].duration) == ('sgd', '6 steps')
  assert config.duration == '12 steps', 'which stays as it was'


def test_the_last_stage_is_meant_where_none_is_named():
  assert stage_of(get_config())[0] == 'both'
  assert stage_of(get_config(), 'smiles')[1].duration == '6 steps'
  assert stage_of(get_tiny())[0] == MAIN
  with pytest.raises(UserError, match=r'^--stage=other: the run has smiles, genders, both$'):
    stage_of(get_config(), 'other')


def test_where_a_stage_logs():
  assert stage_folder(pathlib.Path('w'), MAIN) == pathlib.Path('w')
  assert stage_folder(pathlib.Path('w'), 'both') == pathlib.Path('w/stages/both')


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    (
      {'stages': ('smiles', 'all')},
      "config.stages: 'all' is not described in config.stage, which has both, genders, smiles",
    ),
    (
      {'stages': ('smiles', 'smiles')},
      "config.stages: 'smiles' cannot be a stage; names are of letters, digits, - and _, each ",
    ),
    ({'stages': ('../x',)}, "config.stages: '../x' cannot be a stage"),
    (
      {'stages': ('both', 'genders')},
      "config.stage.both.start.weights: 'genders' is not an earlier stage",
    ),
    (
      {'stage.both.start.weights': 'stage:both'},
      "config.stage.both.start.weights: 'both' is not an earlier stage",
    ),
  ],
)
def test_stages_that_make_no_order(changes, words):
  config = get_config()
  config.update_from_flattened_dict(changes)
  with pytest.raises(UserError, match=f'^{words}'):
    stages_of(config)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    (
      {'rate': 0.1},
      'config.stage.both.rate: an experiment has no such field; there are arguments, ',
    ),
    (
      {'optimizer.rhythm': 0.1},
      'config.stage.both.optimizer.rhythm: an experiment has no such field; there are accumulate, ',
    ),
    ({'seed': 1}, 'config.stage.both.seed: belongs to the experiment; set config.seed'),
  ],
)
def test_a_stage_changes_fields_of_an_experiment(changes, words):
  config = get_config()
  config.stage.both = stage(changes)
  with pytest.raises(UserError, match=f'^{words}'):
    stages_of(config)


@pytest.mark.parametrize(
  'field',
  [
    'name',
    'arguments',
    'seed',
    'stages',
    'stage',
    'mesh.fsdp',
    'mesh.shard_from',
    'distributed.heartbeat',
  ],
)
def test_what_all_stages_share_is_no_stages(field):
  config = get_config()
  config.stage.both = stage({field: 1})
  group = field.partition('.')[0]
  with pytest.raises(
    UserError, match=f'^config.stage.both.{group}: belongs to the experiment; set config.{group}$'
  ):
    stages_of(config)


def test_stages_do_not_share_what_they_may_change():
  config = get_config()
  before = config.to_json()
  for one in stages_of(config).values():
    one.optimizer.rate, one.start.weights = 9.0, 'changed'
    for group in (one.tasks, one.sources, one.evaluation.sets):
      for entry in group.values():
        entry.name = 'changed'
  assert config.to_json() == before


@pytest.mark.parametrize('at', ['', '@last', '@best', '@4'])
def test_a_stage_may_start_from_any_stage_before_and_any_of_its_checkpoints(at):
  config = get_config()
  for earlier in ('smiles', 'genders'):
    config.stage.both.start.weights = f'stage:{earlier}{at}'
    assert stages_of(config)['both'].start.weights == f'stage:{earlier}{at}'
