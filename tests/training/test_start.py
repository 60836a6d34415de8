"""Where weights come from: trees made by hand, and every form of `start.weights` with checkpoints
whose arrays are one number each.
"""

import json

import jax
import numpy as np
import pytest

from mtface.config.schema import outputs_of
from mtface.config.stages import MAIN, stages_of
from mtface.errors import UserError
from mtface.models.paths import by_path, head_of
from mtface.models.weights import export_weights
from mtface.training.checkpoints import Checkpoints
from mtface.training.start import graft, saved_weights, start_weights
from mtface.training.workdir import write_config
from tests.fakes import state_shapes
from tests.tiny import get_config as get_tiny
from tests.tiny_stages import get_config as get_stages


def tree(value, *tasks, classes=2):
  trunk = {'blocks': {0: {'kernel': np.full((3, 4), value), 'bias': np.full(4, value)}}}
  return trunk | {'branches': {task: {'kernel': np.full((4, classes), value)} for task in tasks}}


def values(found):
  """{the trunk's or a task's name: the one value of its arrays}."""
  trunk = {float(x) for leaf in found['blocks'][0].values() for x in np.unique(leaf)}
  heads = {task: set(np.unique(head['kernel'])) for task, head in found['branches'].items()}
  return {'trunk': trunk} | heads


def test_everything_that_is_there_is_taken():
  assert values(graft(tree(0.0, 'smile'), tree(1.0, 'smile'), (), 'x')) == {
    'trunk': {1.0},
    'smile': {1.0},
  }


def test_heads_of_other_tasks_are_left_behind_and_new_ones_drawn():
  found = graft(tree(0.0, 'smile', 'gender'), tree(1.0, 'gender', 'age_group'), (), 'x')
  assert values(found) == {'trunk': {1.0}, 'smile': {0.0}, 'gender': {1.0}}


def test_what_is_asked_for_is_drawn():
  found = graft(tree(0.0, 'smile'), tree(1.0, 'smile'), ('branches/smile', 'blocks/0/bias'), 'x')
  np.testing.assert_array_equal(found['blocks'][0]['bias'], 0.0)
  np.testing.assert_array_equal(found['blocks'][0]['kernel'], 1.0)
  assert values(found)['smile'] == {0.0}


def test_a_head_of_other_classes_must_be_drawn():
  mine, theirs = tree(0.0, 'identity', classes=5), tree(1.0, 'identity', classes=9)
  with pytest.raises(
    UserError,
    match=r'^from y: branches/identity/kernel is \(4, 9\), the network expects \(4, 5\); list '
    'it in ',
  ):
    graft(mine, theirs, (), 'from y')
  assert values(graft(mine, theirs, ('branches',), 'x')) == {'trunk': {1.0}, 'identity': {0.0}}


def test_a_trunk_must_fit():
  without = tree(1.0, 'smile')
  del without['blocks'][0]['bias']
  with pytest.raises(UserError, match=r'^x: blocks/0/bias is missing, the network expects \(4,\)'):
    graft(tree(0.0, 'smile'), without, (), 'x')
  with pytest.raises(
    UserError, match=r'^x: blocks/0/bias \(and 0 more\) does not exist in the network'
  ):
    graft(without, tree(0.0, 'smile'), (), 'x')


# --- Every form of `start.weights` ----------------------------------------------------------------


def filled(config, value):
  """A training state of one number: `value` in parameters, and half a unit more in statistics."""
  state = jax.tree.map(lambda x: np.full(x.shape, value, x.dtype), state_shapes(config))
  return state._replace(stats=jax.tree.map(lambda x: np.full_like(x, value + 0.5), state.stats))


def save_states(workdir, stage, config, best):
  """One checkpoint for each score in `best`, {step: score}: that of step N is full of N."""
  with Checkpoints(workdir, stage, keep_last=10) as checkpoints:
    for step, score in best.items():
      checkpoints.save(step, filled(config, step), best=score)


def assert_filled(found, step, drawn=lambda name: False):
  """That parameters and statistics are those of `filled(step)`, but those of `filled(-1)` where a
  name is `drawn`.
  """
  for tree, more in zip(found, (0.0, 0.5), strict=True):
    for name, x in by_path(tree).items():
      assert set(np.unique(x)) == {(-1 if drawn(name) else step) + more}, name


@pytest.fixture(scope='module')
def staged(tmp_path_factory):
  """(workdir, stages) of tests/tiny_stages.py with checkpoints of its first two stages. Not to be
  changed.
  """
  workdir, config = tmp_path_factory.mktemp('staged'), get_stages()
  stages = stages_of(config)
  write_config(config, workdir)
  save_states(workdir, 'smiles', stages['smiles'], {2: 0.5, 4: 0.9, 6: 0.7})
  save_states(workdir, 'genders', stages['genders'], {12: 0.8, 13: 0.6})
  save_states(workdir, 'both', stages['both'], {21: 0.4, 22: 0.4, 23: 0.1})
  return workdir, stages


@pytest.mark.parametrize(
  ('stage', 'weights', 'step'),
  [
    ('genders', 'stage:smiles', 6),
    ('genders', 'stage:smiles@last', 6),
    ('genders', 'stage:smiles@best', 4),
    ('genders', 'stage:smiles@2', 2),
    ('both', 'stage:genders@best', 12),
    ('both', 'stage:smiles@4', 4),  # which is not the stage just before
  ],
)
def test_a_stage_starts_from_the_checkpoint_that_is_named(staged, stage, weights, step):
  workdir, stages = staged
  config = stages[stage].copy_and_resolve_references()
  config.start.weights = weights
  _, params, stats, _ = filled(config, -1)
  known = {
    None,
    {'smiles': 'smile', 'genders': 'gender'}[weights.removeprefix('stage:').partition('@')[0]],
  }
  assert_filled(
    start_weights(config, workdir, params, stats), step, lambda name: head_of(name) not in known
  )


@pytest.mark.parametrize(('at', 'step'), [('', 23), ('@last', 23), ('@best', 22), ('@21', 21)])
def test_a_run_starts_from_the_last_stage_of_another(staged, at, step):
  config = get_tiny()
  config.start.weights = f'{staged[0]}{at}'
  _, params, stats, _ = filled(config, -1)
  assert_filled(start_weights(config, staged[0] / 'elsewhere', params, stats), step)


def test_saved_weights_are_of_the_stage_and_the_step(staged):
  workdir = staged[0]
  assert_filled(saved_weights(workdir, 'smiles', '4'), 4)
  assert_filled(saved_weights(workdir, 'genders', 'best'), 12)
  assert_filled(saved_weights(workdir), 23)
  for step, words in (
    ('7', 'has no checkpoint of step 7; available: 2, 4, 6'),
    ('first', '@first: expected last, best or'),
  ):
    with pytest.raises(UserError, match=words):
      saved_weights(workdir, 'smiles', step)


def test_what_is_fresh_is_drawn_whatever_the_weights_come_from(staged, tmp_path):
  config = get_tiny()
  _, params, stats, _ = filled(config, 3)
  file = tmp_path / 'three.safetensors'
  export_weights(params, stats, file, config.model, format='mtface')
  write_config(config, tmp_path / 'run')
  save_states(tmp_path / 'run', MAIN, config, {3: None})
  config.start.fresh = ('branches/gender', 'blocks/0/norms/1')
  _, params, stats, _ = filled(config, -1)
  for weights in (str(file), str(tmp_path / 'run')):
    config.start.weights = weights
    found = start_weights(config, tmp_path, params, stats)
    assert_filled(found, 3, lambda name: name.startswith(('branches/gender/', 'blocks/0/norms/1/')))


def test_heads_that_a_file_does_not_know_are_drawn(tmp_path):
  config = get_tiny()
  _, params, stats, _ = filled(config, 3)
  file = tmp_path / 'three.safetensors'
  export_weights(params, stats, file, config.model, format='mtface')
  del config.tasks['smile']
  config.tasks.emotion7 = config.tasks.gender
  config.start.weights = str(file)
  _, params, stats, _ = filled(config, -1)
  assert_filled(
    start_weights(config, tmp_path, params, stats), 3, lambda name: head_of(name) == 'emotion7'
  )


def test_without_weights_all_are_drawn(tmp_path):
  _, params, stats, _ = filled(get_tiny(), -1)
  assert_filled(start_weights(get_tiny(), tmp_path, params, stats), -1)


@pytest.mark.parametrize('kind', ['run', 'file'])
def test_a_union_of_other_classes_is_another_head(tmp_path, kind):
  config = get_tiny()
  config.outputs.layer = 'union'
  _, params, stats, _ = filled(config, 3)
  weights = tmp_path / ('three.safetensors' if kind == 'file' else 'run')
  if kind == 'file':
    notes = {'tasks': json.dumps({'union': outputs_of(config).layers[0].classes})}
    export_weights(params, stats, weights, config.model, format='mtface', notes=notes)
  else:
    write_config(config, weights)
    save_states(weights, MAIN, config, {3: None})
  config.start.weights = str(weights)
  _, params, stats, _ = filled(config, -1)
  assert_filled(start_weights(config, tmp_path, params, stats), 3)
  # As many outputs, but of men and women apart.
  config.outputs.apart = ('gender',)
  found = start_weights(config, tmp_path, params, stats)
  assert_filled(found, 3, lambda name: head_of(name) == 'union')
