import numpy as np
import pytest

from mtface.data.loader import BatchSource, load_batches
from mtface.data.mixing import make_mixture
from mtface.errors import UserError
from tests.fakes import fake_source


def sources():
  return [fake_source('a', 30, {'smile': 1.0}), fake_source('b', 70, {'gender': 1.0, 'age_group': 0.9}, seed=1)]


def batch_source(parts=1, part=0, batch_size=8):
  made = sources()
  return BatchSource(made, make_mixture('equal', made, seed=5, batch_size=batch_size), batch_size, part, parts)


def joined(batches):
  import jax

  return jax.tree.map(lambda *parts: np.concatenate(parts), *batches)


def same(a, b):
  import jax

  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize('parts', [2, 8])
def test_shards_make_up_the_same_global_batches(parts):
  whole = batch_source()
  shards = [batch_source(parts, part) for part in range(parts)]
  for step in [0, 1, 17, 18, 40]:  # an epoch ends within
    same(joined([shard[step] for shard in shards]), whole[step])


def test_a_batch_is_what_its_positions_say():
  made = sources()
  mixture = make_mixture('equal', made, seed=5, batch_size=8)
  batch = BatchSource(made, mixture, 8)[3]
  draws = mixture.at(24, 32)
  assert batch['position'].tolist() == list(range(24, 32))
  for i in range(8):
    source, row = made[draws.source[i]], draws.row[i]
    np.testing.assert_array_equal(batch['image'][i], source.images[row])
    for task in ('smile', 'gender', 'age_group'):
      hidden = task in draws.hidden and draws.hidden[task][i]
      known = task in source.mask and source.mask[task][row] and not hidden
      assert batch['mask'][task][i] == known
      if known:
        assert batch['labels'][task][i] == source.labels[task][row]


def test_grain_yields_the_same_batches_from_any_start():
  source = batch_source()
  for step, batch in enumerate(load_batches(source, 5, 9, threads=2), 5):
    same(batch, source[step])
  assert step == 8


def test_hiding_does_not_touch_the_source():
  made = sources()
  before = {t: m.copy() for t, m in made[1].mask.items()}
  loader = BatchSource(made, make_mixture('equal', made, seed=5, batch_size=8), 8)
  for step in range(40):
    loader[step]
  same(before, made[1].mask)
  assert loader._mask['gender'].sum() == 70


def test_a_batch_that_processes_cannot_share_is_refused():
  with pytest.raises(UserError, match='batch_size 8 cannot be shared by 3 processes'):
    batch_source(parts=3)
