"""A task's layers: what they compute, their dropout, and that every network takes a branch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mtface.config.schema import model
from mtface.models.convolution import Make
from mtface.models.heads import Branch, Head, all_scores
from mtface.models.network import abstract_network
from mtface.tasks import get_task
from tests.models.networks import images, random_network, shapes


def _branch(in_features, classes, widths, dropout):
  made = {'kernel_init': nnx.initializers.normal(1.0), 'unbiased': False}
  return Branch(in_features, classes, Make(nnx.Rngs(0)), widths=widths, dropout=dropout, **made)


def test_hidden_layers_are_relus_of_products():
  head = Head(3, 2, Make(nnx.Rngs(0)), hidden=(4,), dropout=0.5)
  x = images(5, 3)
  hidden = np.maximum(np.asarray(x) @ np.asarray(head.hidden[0].kernel[...]), 0)
  expected = hidden @ np.asarray(head.scores.kernel[...])
  np.testing.assert_allclose(head(x, False, None), expected, rtol=1e-4, atol=1e-6)
  assert (np.asarray(head(x, True, nnx.Rngs(dropout=jax.random.key(0)))) != expected).any()


@pytest.mark.parametrize('rate', [0.25, 0.6])
@pytest.mark.parametrize('kind', ['head', 'branch'])
def test_dropout_leaves_out_what_its_rate_says_and_only_in_training(kind, rate):
  # Inputs of 1, and for the last layer an identity: its scores are what dropout has left.
  if kind == 'head':
    layer = Head(256, 256, Make(nnx.Rngs(0)), hidden=(), dropout=rate)
  else:
    layer = _branch(3, 256, (256, 256), rate)
    for norm in layer.norms:
      norm.scale[...], norm.bias[...] = jnp.zeros(256), jnp.ones(256)
  layer.scores.kernel[...] = jnp.eye(256)
  x = jnp.ones((40, 256 if kind == 'head' else 3))
  train = np.asarray(layer(x, True, nnx.Rngs(dropout=1)))
  np.testing.assert_allclose(np.unique(train), [0, 1 / (1 - rate)], rtol=1e-6)
  assert np.mean(train == 0) == pytest.approx(rate, abs=0.02)  # of 10,240: four standard deviations
  assert (np.asarray(layer(x, False, None)) == 1).all()


def test_a_branch_has_dropout_behind_its_first_hidden_layer_too():
  branch = _branch(3, 2, (32, 32), 0.5)
  branch.norms[0].scale[...], branch.norms[0].bias[...] = jnp.zeros(32), jnp.ones(32)
  # All samples are alike before that dropout; if they still were behind it, the second
  # normalisation would leave nothing of them.
  assert np.asarray(branch(jnp.ones((20, 3)), True, nnx.Rngs(dropout=1))).std(0).min() > 0.1


FIELDS = {
  'mobilenet': {},
  'efficientnet': {},
  'rexnet': {},
  'resnet': {'depth': 8},
  'vgg': {'width': 1 / 64},
}


@pytest.mark.parametrize('name', FIELDS)
def test_every_head_of_every_network_takes_a_branch(name):
  found = shapes(name, ['gender', 'age_years'], (32, 32, 3), branch=(12, 5), **FIELDS[name])
  features = {'mobilenet': 1024, 'efficientnet': 1280, 'rexnet': 1920, 'resnet': 64, 'vgg': 64}
  for task, classes in (('gender', 2), ('age_years', 117)):  # Sang 2017, section 3.1
    heads = {k.removeprefix(f'heads/{task}/'): v for k, v in found.items() if f'/{task}/' in k}
    assert heads == {
      'hidden/0/kernel': (features[name], 12),
      'hidden/0/bias': (12,),
      'norms/0/scale': (12,),
      'norms/0/bias': (12,),
      'hidden/1/kernel': (12, 5),
      'hidden/1/bias': (5,),
      'norms/1/scale': (5,),
      'norms/1/bias': (5,),
      'scores/kernel': (5, classes),
      'scores/bias': (classes,),
    }


def test_a_branch_on_a_backbone_keeps_statistics_as_pytorch_does():
  network, params, stats = random_network(
    'resnet', ['smile'], (4, 4, 1), depth=8, width=0.1, branch=(3,)
  )
  x = images(5, 4, 4, 1)
  features = np.asarray(network.features(params, stats, x), np.float64)
  head, kept = params['heads']['smile'], stats['heads']['smile']['norms'][0]
  dense = head['hidden'][0]
  # Only the head's own statistics are looked at: the trunk's are taken as they are.
  network, _, _ = _frozen('resnet', ['smile'], (4, 4, 1), depth=8, width=0.1, branch=(3,))
  scores, new = network.train_scores(params, stats, x, jax.random.key(0))
  y = features @ np.asarray(dense['kernel'], np.float64) + np.asarray(dense['bias'])
  found = new['heads']['smile']['norms'][0]
  np.testing.assert_allclose(found['mean'], 0.9 * kept['mean'] + 0.1 * y.mean(0), rtol=1e-4)
  np.testing.assert_allclose(found['var'], 0.9 * kept['var'] + 0.1 * y.var(0, ddof=1), rtol=1e-4)
  y = np.maximum(
    (y - y.mean(0)) / np.sqrt(y.var(0) + 1e-5) * head['norms'][0]['scale']
    + head['norms'][0]['bias'],
    0,
  )
  expected = y @ head['scores']['kernel'] + head['scores']['bias']
  np.testing.assert_allclose(scores['smile'], expected, rtol=1e-3, atol=1e-4)


def _frozen(name, tasks, shape, **fields):
  return abstract_network(model(name, **fields), [get_task(t) for t in tasks], shape, ['trunk'])


def _branches(number, *, frozen=False):
  made = []
  for seed in range(number):
    make = Make(nnx.Rngs(seed))
    branch = Branch(6, 2 + seed, make, widths=(5, 4), dropout=0.0, unbiased=False)
    for i, norm in enumerate(branch.norms):
      rng = np.random.default_rng((seed, i))
      for of in (norm.scale, norm.bias, norm.mean):
        of[...] = rng.normal(size=of[...].shape)
      norm.frozen = frozen and seed > 0
    for dense in branch.hidden:
      dense.bias[...] = np.random.default_rng(seed).normal(size=dense.bias[...].shape)
    made.append(branch)
  return {f'task{i}': branch for i, branch in enumerate(made)}


@pytest.mark.parametrize(('train', 'frozen'), [(True, False), (False, False), (True, True)])
def test_branches_together_give_what_each_gives(train, frozen):
  together, alone = _branches(3, frozen=frozen), _branches(3, frozen=frozen)
  x = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
  found = all_scores(together, x, train, None if not train else nnx.Rngs(dropout=0))
  for task, branch in alone.items():
    expected = branch(x, train, None if not train else nnx.Rngs(dropout=0))
    np.testing.assert_allclose(found[task], expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(together[task].norms, branch.norms, strict=True):
      np.testing.assert_allclose(ours.mean[...], theirs.mean[...], rtol=1e-5, atol=1e-6)
      np.testing.assert_allclose(ours.var[...], theirs.var[...], rtol=1e-5, atol=1e-6)


def test_branches_together_are_one_product_a_layer():
  def scores(x):
    return all_scores(_branches(3), x, False, None)

  program = str(jax.make_jaxpr(scores)(np.zeros((8, 6), np.float32)))
  assert (
    program.count('dot_general') == 1 + 1 + 3
  )  # of the hidden layers, and of each task's scores
