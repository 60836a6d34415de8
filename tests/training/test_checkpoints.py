import json
import shutil
import sys
import time
import types
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtface.errors import UserError
from mtface.training import checkpoints as checkpoints_module
from mtface.training.checkpoints import (
  Checkpoints,
  DamagedCheckpointError,
  _sums,
  _weighted_sum,
  average,
  checksum,
)
from mtface.training.state import AveragedState, TrainState


def state(seed=0):
  """Arrays of several types and sizes; the large ones lie in files of their own."""
  rng = np.random.default_rng(seed)
  return {
    'step': jnp.int32(seed),
    'params': {
      'kernel': jnp.asarray(rng.normal(size=(3, 3, 16, 32)), jnp.float32),
      'bias': jnp.zeros(32),
    },
    'half': jnp.asarray(rng.normal(size=(40, 8)), jnp.bfloat16),
    'trace': [jnp.asarray(rng.normal(size=(200, 32)), jnp.float32), jnp.ones((), jnp.float32)],
  }


def assert_equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def write(workdir, best, keep_last=10):
  """One checkpoint for each score in `best`, {step: score or None}, with state(step)."""
  with Checkpoints(workdir, keep_last=keep_last) as checkpoints:
    for step, score in best.items():
      checkpoints.save(step, state(step), {'accuracy': 0.5}, score)


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  """Checkpoints 1, 2 and 3. Not to be changed."""
  workdir = tmp_path_factory.mktemp('written')
  write(workdir, {1: 0.7, 2: 0.9, 3: 0.9})
  return workdir


@pytest.fixture
def copied(written, tmp_path):
  return shutil.copytree(written, tmp_path / 'copied')


def test_a_state_comes_back_as_it_was(written):
  checkpoints = Checkpoints(written)
  assert checkpoints.steps == [1, 2, 3]
  assert_equal(checkpoints.restore(2, state()), state(2))
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state()
  )
  assert_equal(checkpoints.restore(3, shapes), state(3))
  assert checkpoints.restore_latest(state())[0] == 3


def test_the_last_ones_and_the_best_are_kept(tmp_path):
  write(tmp_path, {1: 0.5, 2: 0.9, 3: 0.8, 4: None, 5: 0.7}, keep_last=2)
  checkpoints = Checkpoints(tmp_path)
  assert checkpoints.steps == [2, 4, 5]
  assert checkpoints.best_step() == 2


def test_what_a_stop_has_saved_goes_with_the_next_one_and_not_before(tmp_path):
  with Checkpoints(tmp_path, keep_last=2) as checkpoints:
    for step, best in {1: 0.9, 2: 0.5}.items():
      checkpoints.save(step, state(step), best=best)
    checkpoints.save(3, state(3), extra=True)
  assert Checkpoints(tmp_path).steps == [1, 2, 3]
  with Checkpoints(tmp_path, keep_last=2) as checkpoints:
    assert checkpoints.restore_latest(state())[0] == 3
    checkpoints.save(4, state(4), best=0.1)
  assert Checkpoints(tmp_path).steps == [1, 2, 4]  # the best, and the last two that are regular
  assert Checkpoints(tmp_path).best_step() == 1


@pytest.mark.parametrize('averaged', [False, True])
def test_weights_are_read_without_what_the_optimizer_keeps(tmp_path, averaged):
  kernel, mean = jnp.arange(6.0).reshape(2, 3), jnp.ones(3)
  trained = {'kernel': -kernel}, {'mean': -mean}
  weights = {'kernel': kernel}, {'mean': mean}
  kept = {'trace': jnp.full((500, 500), 7.0)}
  saved = (
    AveragedState(jnp.int32(1), *trained, kept, *weights)
    if averaged
    else TrainState(jnp.int32(1), *weights, kept)
  )
  with Checkpoints(tmp_path, keep_last=2) as checkpoints:
    checkpoints.save(1, saved)
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), saved
  )
  assert_equal(Checkpoints(tmp_path).restore_weights(1, shapes.params, shapes.stats), weights)
  with pytest.raises(
    UserError, match=r'params/kernel has shape \(2, 3\), the config expects \(3, 2\)'
  ):
    Checkpoints(tmp_path).restore_weights(
      1, {'kernel': jax.ShapeDtypeStruct((3, 2), jnp.float32)}, shapes.stats
    )
  scores = tmp_path / 'checkpoints/main/000000001/metrics/metrics'
  content = json.loads(scores.read_text())
  content['checksum_weights'] += 1
  content.pop('seal')
  scores.write_text(json.dumps(content))
  with pytest.raises(UserError, match=r'checkpoint 1 is damaged .its checksum is wrong'):
    Checkpoints(tmp_path).restore_weights(1, shapes.params, shapes.stats)


def test_of_equally_good_ones_the_latest_is_best(written):
  assert Checkpoints(written).best_step() == 3


def test_without_scores_there_is_no_best(tmp_path):
  write(tmp_path, {1: None})
  with pytest.raises(
    UserError, match=r'no checkpoint is marked best; train with config.evaluation.best_on'
  ):
    Checkpoints(tmp_path).best_step()


def test_retention_goes_on_after_a_restart(tmp_path):
  write(tmp_path, {1: 0.9, 2: 0.5}, keep_last=2)
  write(tmp_path, {3: 0.6, 4: 0.7}, keep_last=2)
  assert Checkpoints(tmp_path).steps == [1, 3, 4]


def test_reading_changes_nothing(copied):
  (copied / 'checkpoints/main/000000009.orbax-checkpoint-tmp').mkdir()
  before = sorted(copied.rglob('*'))
  Checkpoints(copied).restore(1, state())
  assert sorted(copied.rglob('*')) == before
  with pytest.raises(UserError, match=r'no checkpoints found; train first'):
    Checkpoints(copied / 'elsewhere')
  assert not (copied / 'elsewhere').exists()


def test_an_uncommitted_checkpoint_is_ignored_and_cleared_away(copied):
  folder = copied / 'checkpoints/main'
  (folder / '000000003').rename(
    folder / '000000003.orbax-checkpoint-tmp'
  )  # what a kill before the last rename leaves
  assert Checkpoints(copied).steps == [1, 2]
  with Checkpoints(copied, keep_last=10) as checkpoints:
    step, found = checkpoints.restore_latest(state())
    checkpoints.save(3, state(7))
  assert step == 2
  assert_equal(found, state(2))
  assert not list(folder.glob('*tmp*'))
  assert_equal(Checkpoints(copied).restore(3, state()), state(7))


# --- Damage ---------------------------------------------------------------------------------------


def test_the_checksum_is_of_all_bytes_in_the_order_of_the_tree():
  tree = state(5)
  # jax.tree orders the keys of a dictionary: half, params (bias, kernel), step, trace.
  leaves = [
    tree['half'],
    tree['params']['bias'],
    tree['params']['kernel'],
    tree['step'],
    *tree['trace'],
  ]
  sums = []
  for leaf in map(np.asarray, leaves):
    size, data = leaf.dtype.itemsize, leaf.tobytes()
    words = [int.from_bytes(data[i : i + size], 'little') for i in range(0, len(data), size)]
    sums.append(sum(word * (2 * i + 1) for i, word in enumerate(words)) % 2**32)
  assert checksum(tree) == zlib.crc32(b''.join(n.to_bytes(4, 'little') for n in sums))


def test_the_checksum_of_arrays_that_are_spread_over_hosts_is_the_same():
  leaves = jax.tree.leaves(state(5))
  assert [int(x) for x in _sums(leaves)] == [
    int(_weighted_sum(np, np.asarray(leaf))) for leaf in leaves
  ]


def test_an_extra_checkpoint_goes_when_a_newer_one_is_there(tmp_path):
  with Checkpoints(tmp_path, keep_last=2) as checkpoints:
    for step, extra in ((10, False), (20, False), (23, True)):
      checkpoints.save(step, state(step), extra=extra)
    checkpoints.wait()
    assert checkpoints.steps == [10, 20, 23], 'it does not count among the last two'
    checkpoints.save(30, state(30))
    checkpoints.wait()
    assert checkpoints.steps == [20, 30]


def data_files(workdir, step):
  files = [
    path for path in (workdir / f'checkpoints/main/{step:09d}/state').rglob('*') if path.is_file()
  ]
  return sorted(
    (path for path in files if path.name != 'commit_success.txt'),
    key=lambda path: -path.stat().st_size,
  )


def test_damaged_ones_are_set_aside_and_the_one_before_is_used(copied, capsys):
  data_files(copied, 3)[0].write_bytes(b'')
  (copied / 'checkpoints/main/000000002/metrics/metrics').write_text('{"best"')
  with Checkpoints(copied, keep_last=10) as checkpoints:
    step, found = checkpoints.restore_latest(state())
    assert step == 1
    assert_equal(found, state(1))
    checkpoints.save(2, state(2), best=0.1)
    checkpoints.save(3, state(3), best=0.2)
  lines = capsys.readouterr().err.splitlines()
  assert [line.split('checkpoint ')[1][0] for line in lines] == ['2', '3']
  assert lines[0].endswith(
    'using checkpoint 3 instead, and keeping the damaged one as damaged-000000002'
  )  # it looks whole so far
  assert lines[1].endswith(
    'using checkpoint 1 instead, and keeping the damaged one as damaged-000000003'
  )
  assert all(line.startswith('mtface: warning: ') for line in lines)
  assert Checkpoints(copied).steps == [1, 2, 3]
  assert sorted(path.name for path in (copied / 'checkpoints/main').glob('damaged-*')) == [
    'damaged-000000002',
    'damaged-000000003',
  ]


@pytest.mark.parametrize('part', ['state', 'metrics'])
def test_without_a_readable_one_nothing_is_moved(copied, part):
  # What is wrong with all of them may be wrong with the disk, or with this program: training must
  # not begin again by itself.
  for step in (1, 2, 3):
    (
      copied
      / f'checkpoints/main/{step:09d}'
      / ('state/manifest.ocdbt' if part == 'state' else 'metrics/metrics')
    ).write_bytes(b'')
  before = sorted(copied.rglob('*'))
  for _ in range(2):
    with (
      pytest.raises(
        UserError,
        match=r'checkpoint 3 is damaged .*, and no other checkpoint can be '
        r'read; remove .*main to',
      ),
      Checkpoints(copied, keep_last=10) as checkpoints,
    ):
      checkpoints.restore_latest(state())
  assert sorted(copied.rglob('*')) == before


def test_before_the_first_checkpoint_there_is_none(tmp_path):
  with Checkpoints(tmp_path, keep_last=10) as checkpoints:
    assert checkpoints.restore_latest(state()) is None


def test_damaged_metrics_spoil_that_checkpoint_alone(copied):
  (copied / 'checkpoints/main/000000002/metrics/metrics').write_text(
    '{"best"'
  )  # orbax reads all of them when it starts
  checkpoints = Checkpoints(copied)
  assert checkpoints.best_step() == 3
  assert_equal(checkpoints.restore(3, state()), state(3))
  with pytest.raises(DamagedCheckpointError, match='checkpoint 2 is damaged'):
    checkpoints.restore(2, state())


@pytest.mark.parametrize(
  'change',
  [
    lambda tree: tree['params'].update(kernel=jnp.zeros((3, 3, 16, 8))),
    lambda tree: tree['params'].pop('bias'),
    lambda tree: tree['params'].update(scale=jnp.zeros(3)),
  ],
  ids=['other shape', 'one less', 'one more'],
)
def test_another_network_is_not_damage(written, change):
  # It must not be set aside: the mistake is the caller's, and the checkpoint is whole.
  like = state()
  change(like)
  with pytest.raises(
    UserError,
    match=r'checkpoint 3 belongs to another network: params/\w+ has shape .* the config expects',
  ) as error:
    Checkpoints(written).restore(3, like)
  assert not isinstance(error.value, DamagedCheckpointError)


def test_a_step_that_is_not_there(written):
  with pytest.raises(UserError, match=r'has no checkpoint of step 7; available: 1, 2, 3'):
    Checkpoints(written).restore(7, state())


# --- Averages -------------------------------------------------------------------------------------


def test_averages_are_means_in_double_precision():
  rng = np.random.default_rng(0)
  states = [
    {'a': rng.normal(size=(50,)).astype(np.float32) * 1e4, 'n': np.int32(i)} for i in (1, 2, 6)
  ]
  found = average(states)
  expected = (states[0]['a'].astype(np.float64) + states[1]['a'] + states[2]['a']) / 3
  np.testing.assert_array_equal(found['a'], expected.astype(np.float32))
  assert found['a'].dtype == np.float32
  assert (found['n'], found['n'].dtype) == (3, np.int32)


def test_the_average_of_one_is_that_one():
  assert_equal(average([jax.device_get(state(4))]), jax.device_get(state(4)))


def test_the_hook_for_what_cannot_be_raised_is_given_back(monkeypatch):
  monkeypatch.setattr(checkpoints_module, '_ECHO_SECONDS', 0.2)
  heard = []
  monkeypatch.setattr(
    sys, 'unraisablehook', mine := lambda unraisable: heard.append(str(unraisable.exc_value))
  )
  for damaged in (['shard'], ['shard'], []):
    with checkpoints_module._without_echoes() as damage:
      damage += damaged
  for what in ('Event loop is closed', 'of another'):
    sys.unraisablehook(types.SimpleNamespace(exc_value=RuntimeError(what)))
  assert heard[-1] == 'of another'
  deadline = time.monotonic() + 20
  while sys.unraisablehook is not mine:
    assert time.monotonic() < deadline
    time.sleep(0.02)
