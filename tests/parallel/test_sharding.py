import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from mtface.errors import UserError
from mtface.parallel.sharding import _spec, everywhere, make_mesh, place, shared


@pytest.mark.parametrize(
  ('shape', 'fsdp', 'expected'),
  [
    ((4096, 4096), 1, P()),
    ((25088, 4096), 4, P('fsdp')),  # VGG-16's fc6: along the longer axis
    ((3, 3, 64, 128), 4, P(None, None, None, 'fsdp')),
    ((3, 3, 126, 90), 4, P()),  # no axis that 4 divides
    ((3, 3, 130, 92), 4, P(None, None, None, 'fsdp')),
    ((1000,), 4, P()),  # small
    ((1996,), 4, P()),
    ((2000,), 4, P('fsdp')),  # `shard_from` itself is large
    ((), 4, P()),
  ],
)
def test_large_arrays_are_cut_along_the_longest_axis_that_can_be(shape, fsdp, expected):
  assert _spec(shape, fsdp, shard_from=2000) == expected


def test_the_mesh_has_all_devices():
  mesh = make_mesh()
  assert dict(mesh.shape) == {'data': jax.device_count(), 'fsdp': 1}
  with pytest.raises(
    UserError, match=r'config.mesh.fsdp: 3 devices cannot be split evenly into groups of 2'
  ):
    make_mesh(2, [jax.devices()[0]] * 3)
  with pytest.raises(
    UserError, match=r'config.mesh.fsdp: \d+ devices cannot be split evenly into groups of 0'
  ):
    make_mesh(0)


def test_a_batch_is_shared_along_both_axes():
  assert shared(make_mesh()).spec == P(('data', 'fsdp'))


def test_placed_arrays_have_their_values():
  tree = {
    'a': np.arange(6.0, dtype=np.float32).reshape(2, 3),
    'b': jax.numpy.ones((), jax.numpy.int32),
  }
  placed = place(tree, everywhere(make_mesh()))
  jax.tree.map(np.testing.assert_array_equal, placed, tree)
  assert all(leaf.sharding == everywhere(make_mesh()) for leaf in jax.tree.leaves(placed))
