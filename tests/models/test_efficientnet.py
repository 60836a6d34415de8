import jax
import numpy as np
import pytest

from mtface.models.efficientnet import block_shapes
from tests.models.networks import count, images, random_network, shapes


def test_parameter_counts_are_timms():
  found = shapes('efficientnet', ['emotion8'])
  assert count(found, 'trunk/') == pytest.approx(4.008e6, abs=500)  # timm's efficientnet_b0
  assert count(found) == pytest.approx(4.018e6, abs=500)


# Tan & Le 2019, Table 2, in millions, with ImageNet's 1000 classes.
@pytest.mark.parametrize(
  ('width', 'depth', 'features', 'published', 'digits'),
  [(1.0, 1.0, 1280, 5.3, 0.05), (1.0, 1.1, 1280, 7.8, 0.05), (1.2, 1.4, 1536, 12, 0.5)],
)
def test_the_family_has_the_published_counts(width, depth, features, published, digits):
  found = count(shapes('efficientnet', width=width, depth=depth)) + 1000 * (features + 1)
  assert found / 1e6 == pytest.approx(published, abs=digits)


def test_blocks_are_those_of_the_papers_table():
  stages = block_shapes(1.0, 1.0, 0.2)
  # Tan & Le 2019, Table 1: operator, channels, layers; strides by its column of resolutions.
  table = [
    (3, 16, 1, 1),
    (3, 24, 2, 2),
    (5, 40, 2, 2),
    (3, 80, 3, 2),
    (5, 112, 3, 1),
    (5, 192, 4, 2),
    (3, 320, 1, 1),
  ]
  assert [(s[0].size, s[-1].out_features, len(s), s[0].stride) for s in stages] == table
  blocks = [block for stage in stages for block in stage]
  assert [b.inside // b.in_features for b in blocks] == [1] + [6] * 15
  rates = [b.drop_path for b in blocks]
  np.testing.assert_allclose(rates, 0.2 * np.arange(16) / 16)


def test_stochastic_depth_is_drawn_from_the_key():
  fields = {
    'width': 0.1,
    'depth': 0.33,
    'drop_path': 0.9,
    'dropout': 0.0,
  }  # stage 5 has a block that adds its input
  network, params, stats = random_network('efficientnet', ['smile'], (32, 32, 3), **fields)
  x = images(8, 32, 32, 3)
  train = jax.jit(network.train_scores)
  one, other, same = (
    np.asarray(train(params, stats, x, jax.random.key(k))[0]['smile']) for k in (0, 1, 0)
  )
  np.testing.assert_array_equal(one, same)
  assert (one != other).any()


def test_bfloat16_computes_and_gives_float32():
  fields = {'width': 0.1, 'depth': 0.1, 'dtype': 'bfloat16'}
  network, params, stats = random_network('efficientnet', ['smile'], (32, 32, 3), **fields)
  x = images(2, 32, 32, 3)
  scores = jax.jit(network.scores)(params, stats, x)['smile']
  assert str(scores.dtype) == 'float32'
  assert np.isfinite(np.asarray(scores)).all()
  assert 'bf16[2,1,1,128]' in str(jax.make_jaxpr(network.scores)(params, stats, x))  # the last map
