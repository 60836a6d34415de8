import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mtface.models import mobilenet
from mtface.models.convolution import Make
from tests.models import reference
from tests.models.networks import count, images, random_network, shapes


def test_parameter_counts_are_timms():
  found = shapes('mobilenet', ['emotion8'])
  assert count(found, 'trunk/') == pytest.approx(3.207e6, abs=500)  # timm's mobilenetv1_100
  assert count(found) == pytest.approx(3.215e6, abs=500)


def test_layers_are_those_of_the_papers_table():
  found = shapes('mobilenet')
  kernels = [shape for path, shape in found.items() if path.endswith('pointwise/conv/kernel')]
  # Howard et al. 2017, Table 1, the rows "Conv / s1" with a filter of 1x1.
  rows = [
    (32, 64),
    (64, 128),
    (128, 128),
    (128, 256),
    (256, 256),
    (256, 512),
    *[(512, 512)] * 5,
    (512, 1024),
    (1024, 1024),
  ]
  assert kernels == [(1, 1, *row) for row in rows]
  assert found['trunk/stem/conv/kernel'] == (3, 3, 3, 32)


@pytest.fixture(scope='module')
def tiny():
  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(
      mobilenet, 'STAGES', ((64, 1, 1), (128, 2, 2), (1024, 1, 2))
    )  # the others are like these
    return random_network('mobilenet', ['smile', 'emotion7'], (33, 47, 1), width=0.1)


def test_any_size_and_grey_images(tiny):
  network, params, stats = tiny
  x = images(3, 33, 47, 1)
  scores, features = jax.jit(
    lambda x: (network.scores(params, stats, x), network.features(params, stats, x))
  )(x)
  assert {task: s.shape for task, s in scores.items()} == {'smile': (3, 2), 'emotion7': (3, 7)}
  assert features.shape == (3, 104)  # 1024 * 0.1, as a multiple of 8
  assert features.dtype == scores['smile'].dtype == jnp.float32
  head = params['heads']['smile']['scores']
  np.testing.assert_allclose(
    scores['smile'], features @ head['kernel'] + head['bias'], rtol=1e-4, atol=1e-5
  )


def test_every_parameter_has_a_gradient_and_every_statistic_moves(tiny):
  network, params, stats = tiny

  def loss(params):
    scores, new = network.train_scores(params, stats, images(4, 33, 47, 1), jax.random.key(0))
    return sum(jnp.sum(s**2) for s in scores.values()), new

  grads, new = jax.jit(jax.grad(loss, has_aux=True))(params)
  assert all(np.any(np.asarray(g) != 0) for g in jax.tree.leaves(grads))
  assert all(
    np.any(np.asarray(a) != b) for a, b in zip(*map(jax.tree.leaves, (new, stats)), strict=True)
  )


def test_what_a_block_gives_is_at_most_six():
  block, x = mobilenet.Separable(4, 5, 1, Make(nnx.Rngs(0))), 9 * images(2, 5, 4, 4)
  block.pointwise.norm.scale[...] *= 9
  unit = np.sqrt(1 + 1e-5)  # all normalisations as they start
  y = reference.relu6(reference.depthwise(np.asarray(x), block.depthwise.conv.kernel, 1) / unit)
  y = reference.relu6(9 * y @ np.asarray(block.pointwise.conv.kernel[0, 0]) / unit)
  assert (y == 6).any()
  np.testing.assert_allclose(block(x, False), y, rtol=1e-4, atol=1e-5)
