import collections

import jax
import numpy as np
import pytest

from mtface.config.tables import MIXTURES
from mtface.data.loader import BatchSource, load_batches
from mtface.data.mixing import make_mixture
from mtface.errors import UserError
from mtface.parallel.feed import to_devices
from mtface.parallel.sharding import make_mesh
from tests.fakes import fake_source


def sources():
  return [
    fake_source('a', 30, {'smile': 1.0}),
    fake_source('b', 70, {'gender': 1.0, 'age_group': 0.9}, seed=1),
  ]


def batch_source(parts=1, part=0, batch_size=8):
  made = sources()
  return BatchSource(
    made, make_mixture('equal', made, seed=5, batch_size=batch_size), batch_size, part, parts
  )


def joined(batches):
  return jax.tree.map(lambda *parts: np.concatenate(parts), *batches)


def same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize('parts', [2, 8])
def test_shards_make_up_the_same_global_batches(parts):
  whole = batch_source()
  shards = [batch_source(parts, part) for part in range(parts)]
  for step in [0, 1, 17, 18, 40]:  # an epoch ends within
    same(joined([shard[step] for shard in shards]), whole[step])


def four_sources():
  """Of unlike sizes, each with other tasks; some labels are hidden, and some units of faces are
  unknown.
  """
  made = [
    fake_source('a', 13, {'smile': 1.0}, seed=1),
    fake_source('b', 31, {'gender': 1.0, 'age_group': 0.9}, seed=2),
    fake_source('c', 7, {'action_units': 1.0, 'smile': 0.6}, seed=3),
    fake_source('d', 22, {'age_group': 0.5, 'action_units': 0.5}, seed=4),
  ]
  made[2].mask['action_units'][:] = (np.arange(7)[:, None] + np.arange(11)) % 3 > 0
  return made


@pytest.mark.parametrize('kind', MIXTURES)
@pytest.mark.parametrize('parts', [1, 4])
def test_every_batch_is_what_its_positions_say(kind, parts):
  made = four_sources()
  mixture = make_mixture(kind, made, seed=5, batch_size=8)
  shares = [BatchSource(made, mixture, 8, part, parts) for part in range(parts)]
  seen = collections.Counter()
  for step in range(40):
    draws, batch = mixture.at(8 * step, 8 * step + 8), joined([share[step] for share in shares])
    assert batch['position'].tolist() == list(range(8 * step, 8 * step + 8))
    assert (
      batch['labels'].keys()
      == batch['mask'].keys()
      == {'smile', 'gender', 'age_group', 'action_units'}
    )
    np.testing.assert_array_equal(batch['source'], draws.source)
    for i, (index, row) in enumerate(zip(draws.source, draws.row, strict=True)):
      source = made[index]
      np.testing.assert_array_equal(batch['image'][i], source.images[source.rows[row]])
      for task, mask in batch['mask'].items():
        hidden = task in draws.hidden and draws.hidden[task][i]
        known = (
          source.mask[task][row] if task in source.mask and not hidden else np.zeros_like(mask[i])
        )
        np.testing.assert_array_equal(mask[i], known)
        if task in source.labels:
          np.testing.assert_array_equal(
            batch['labels'][task][i][known], source.labels[task][row][known]
          )
        seen[task, int(index)] += int(np.any(known))
  assert (
    min(seen[task, index] for index, source in enumerate(made) for task in source.labels) > 0
  ), 'all were looked at'


def test_a_source_that_is_a_part_of_a_split_gives_its_own_rows():
  made = four_sources()
  made[1] = made[1].take(np.array([30, 2, 17, 9, 4]))
  made[3] = made[3].take(np.arange(21, 0, -2))
  batches = BatchSource(made, make_mixture('proportional', made, seed=5, batch_size=4), 4)
  draws = make_mixture('proportional', made, seed=5, batch_size=4)
  for step in range(9):
    batch, drawn = batches[step], draws.at(4 * step, 4 * step + 4)
    for i, (index, row) in enumerate(zip(drawn.source, drawn.row, strict=True)):
      np.testing.assert_array_equal(batch['image'][i], made[index].gather(np.array([row]))[0])


def test_a_request_to_stop_travels_with_the_batches():
  asked = iter([False, False, True, True])
  batches = to_devices(load_batches(batch_source(), 0, 4), make_mesh(), stop=lambda: next(asked))
  found = [np.asarray(batch['stop']) for batch in batches]
  assert [x.dtype for x in found] == [np.int32] * 4
  assert np.stack(found).tolist() == [[0] * 8, [0] * 8, [1] * 8, [1] * 8]
  assert not any(
    np.any(batch['stop']) for batch in to_devices(load_batches(batch_source(), 0, 2), make_mesh())
  )


def test_devices_that_are_cpus_use_the_images_where_they_lie():
  batch = batch_source()[0]
  images = batch['image']
  each = images.nbytes // len(jax.devices())
  assert each % 64 == 0, 'every share begins where JAX need not copy'
  placed = next(to_devices(iter([batch]), make_mesh()))['image']
  addresses = sorted(x.data.unsafe_buffer_pointer() for x in placed.addressable_shards)
  assert addresses == [images.ctypes.data + i * each for i in range(len(addresses))]


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
  with pytest.raises(UserError, match='batch_size 8 cannot be split evenly over 3 processes'):
    batch_source(parts=3)
