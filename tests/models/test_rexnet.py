import jax
import numpy as np
import pytest
from flax import nnx

from mtface.models import rexnet
from mtface.models.rexnet import block_shapes, stem_features
from tests.models import reference
from tests.models.networks import count, images, random_network, shapes


def test_parameter_counts_are_timms():
  found = shapes('rexnet', ['emotion8'])
  assert count(found, 'trunk/') == pytest.approx(7.808e6, abs=500)  # timm's rexnet_150
  assert count(found) == pytest.approx(7.823e6, abs=500)
  with_imagenets_classes = count(shapes('rexnet', width=1.0)) + 1000 * (1280 + 1)
  assert with_imagenets_classes / 1e6 == pytest.approx(
    4.8, abs=0.05
  )  # Han et al. 2021, Table 3: ReXNet (x1.0)


def test_channels_grow_by_the_same_amount():
  out = [shape.out_features for shape in block_shapes(1.0, 0.0)]
  assert (out[0], out[-1]) == (16, 185)
  assert set(np.diff(out)) == {11, 12}  # 180 / 16 = 11.25
  # Han et al. 2021's code, RexNet x1.5: first, last.
  wide = [shape.out_features for shape in block_shapes(1.5, 0.0)]
  assert (stem_features(1.5), wide[0], wide[-1]) == (48, 24, 277)


def test_a_narrow_network_keeps_its_first_channels():
  narrow = block_shapes(0.25, 0.3)
  assert (stem_features(0.25), narrow[0].out_features, narrow[-1].out_features) == (32, 16, 58)
  assert narrow[0].drop_path == 0
  assert narrow[-1].drop_path == pytest.approx(0.3)


def test_training_runs_at_an_odd_size(monkeypatch):
  monkeypatch.setattr(rexnet, 'BLOCKS', (1, 2, 2))  # the others are like the last of these
  monkeypatch.setattr(rexnet, 'STRIDES', (1, 2, 1))
  network, params, stats = random_network('rexnet', ['smile', 'gender'], (35, 32, 3), width=0.1)
  one, new = jax.jit(network.train_scores)(params, stats, images(4, 35, 32, 3), jax.random.key(0))
  assert one['gender'].shape == (4, 2)
  assert 'squeeze' in stats['trunk']['blocks'][3]
  moved = [
    np.any(np.asarray(a) != b) for a, b in zip(*map(jax.tree.leaves, (new, stats)), strict=True)
  ]
  assert all(moved)


def test_what_a_block_projects_is_at_most_six(monkeypatch):
  monkeypatch.setattr(rexnet, 'BLOCKS', (1, 1))
  monkeypatch.setattr(rexnet, 'STRIDES', (1, 1))
  network, params, stats = random_network('rexnet', ['smile'], (32, 32, 1), width=0.1)
  block = nnx.merge(network.graph, params, stats).trunk.blocks[0]
  own, kept = params['trunk']['blocks'][0], stats['trunk']['blocks'][0]
  # It expands and squeezes nothing: a depthwise convolution, ReLU6 as in the authors' code, and
  # the projection.
  x, norms = 99 * np.asarray(images(2, 4, 5, 32)), reference.Norms(False, unbiased=True)
  y = reference.conv_norm(
    x, own['depthwise'], kept['depthwise'], norms, reference.relu6, 1, reference.depthwise
  )
  assert (y == 6).any()
  expected = reference.conv_norm(y, own['project'], kept['project'], norms, lambda x: x)
  np.testing.assert_allclose(block(x, False, None), expected, rtol=1e-4, atol=1e-4)
