import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mtface.data.augment import augment, scale_images
from mtface.data.loader import BatchSource
from mtface.errors import UserError
from mtface.evaluate import Evaluator, Selection, evaluate
from mtface.results import read_results, results_table


@pytest.fixture(scope='module')
def evaluator(tiny_run, tiny_data):
  return Evaluator(tiny_run, tiny_data)


@pytest.fixture(scope='module')
def states(evaluator):
  """The parameters and statistics of the three checkpoints, as NumPy arrays."""
  return [jax.device_get(evaluator._restore(step)) for step in (4, 8, 12)]


def assert_equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
  ('text', 'kind', 'count'),
  [
    ('last', 'last', 1),
    ('best', 'best', 1),
    ('1200', 'step', 1200),
    ('average:10', 'average', 10),
    ('ensemble:3', 'ensemble', 3),
  ],
)
def test_selections(text, kind, count):
  assert Selection.parse(text) == Selection(kind, count)


@pytest.mark.parametrize(
  'text', ['', 'first', 'average', 'average:', 'average:0', 'average:-2', 'ensemble:x', '-4', '1.5', 'last:2']
)
def test_what_is_no_selection(text):
  with pytest.raises(UserError, match=r'expected last, best, a step, average:K or ensemble:K'):
    Selection.parse(text)


@pytest.mark.parametrize(
  ('text', 'steps'),
  [('last', [12]), ('4', [4]), ('average:2', [8, 12]), ('ensemble:3', [4, 8, 12]), ('average:1', [12])],
)
def test_the_steps_that_are_meant(evaluator, text, steps):
  assert Selection.parse(text).steps(evaluator.checkpoints) == steps


def test_the_average_and_the_ensemble_of_one_are_that_one(evaluator, states):
  for text in ('average:1', 'ensemble:1', 'last', '12'):
    (network,) = evaluator.networks(Selection.parse(text), re_estimate=False)
    assert_equal(jax.device_get(network), states[2])
  source = evaluator.source('people')
  scores = evaluator.scorer.scores(*states[2], source)
  one = evaluator.predictions(evaluator.networks(Selection.parse('ensemble:1')), source)
  assert_equal(one, evaluator.predictions([states[2]], source))
  for task, values in scores.items():
    np.testing.assert_allclose(one[task], jax.nn.softmax(values), rtol=1e-5)


def test_averaged_weights_are_the_mean(evaluator, states):
  ((params, stats),) = evaluator.networks(Selection.parse('average:3'), re_estimate=False)

  def mean(*leaves):
    return np.mean(np.stack(leaves).astype(np.float64), axis=0).astype(np.float32)

  expected = jax.tree.map(mean, *states)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-12), (params, stats), expected)


def test_an_ensemble_averages_probabilities(evaluator, states):
  source = evaluator.source('smiles')
  found = evaluator.predictions(evaluator.networks(Selection.parse('ensemble:3')), source)
  for task in ('smile', 'gender'):
    single = [np.exp(evaluator.scorer.scores(*state, source)[task].astype(np.float64)) for state in states]
    expected = np.mean([x / x.sum(axis=1, keepdims=True) for x in single], axis=0)
    np.testing.assert_allclose(found[task], expected, rtol=1e-6)
    assert found[task].shape == (12, 2)


def test_a_squared_hinge_averages_scores(tiny_run, tiny_data, states, tmp_path):
  workdir = shutil.copytree(tiny_run, tmp_path / 'run')
  text = (workdir / 'config.json').read_text()
  (workdir / 'config.json').write_text(text.replace('softmax_cross_entropy', 'multiclass_squared_hinge', 1))
  hinge = Evaluator(workdir, tiny_data)
  (of_hinge,) = [task for task in hinge.heads if 'hinge' in hinge.config.tasks[task].loss]
  source = hinge.source('smiles')
  found = hinge.predictions(hinge.networks(Selection.parse('ensemble:3')), source)
  single = [hinge.scorer.scores(*state, source)[of_hinge].astype(np.float64) for state in states]
  np.testing.assert_allclose(found[of_hinge], np.mean(single, axis=0), rtol=1e-6)
  for task, values in found.items():
    assert (np.abs(values.sum(axis=1) - 1) < 1e-9).all() == (task != of_hinge), 'the other task has probabilities'
  one = hinge.predictions(hinge.networks(Selection.parse('ensemble:1')), source)
  np.testing.assert_array_equal(one[of_hinge], single[2], 'an ensemble of one is that one')


def test_scores_do_not_depend_on_the_batches(evaluator, states):
  # 20 people in batches of 8: the last one is filled up, and what fills it is dropped.
  source = evaluator.source('people')
  network, (params, stats) = evaluator.network, states[2]
  whole = network.scores(params, stats, scale_images(jnp.asarray(source.gather(np.arange(20)))))
  found = evaluator.scorer.scores(params, stats, source)
  for task in found:
    np.testing.assert_allclose(found[task], whole[task], rtol=1e-4, atol=1e-5)


def test_re_estimated_statistics_are_means_over_training_batches(evaluator, states):
  ((params, stats),) = evaluator.networks(Selection.parse('average:2'))
  config, run = evaluator.config, evaluator.run
  key = jax.random.key(config.seed)
  loader = BatchSource(run.sources, run.mixture, config.batch_size)
  train = jax.jit(run.network.train_scores)
  old, means = states[0][1], []
  first = []
  for step in range(60 // 8):  # an epoch, less than the 20,000 samples
    batch = loader[step]
    images = scale_images(augment(jnp.asarray(batch['image']), batch['position'], key, **config.augment))
    # A batch norm's update is new = 0.9 old + 0.1 batch, from which the batch's own statistic follows.
    _, new = train(params, old, images, key)
    means.append(jax.tree.map(lambda n, o: (np.asarray(n, np.float64) - 0.9 * o) / 0.1, new, old))
    first.append(np.asarray(images))
  expected = jax.tree.map(lambda *x: np.mean(x, axis=0), *means)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), stats, expected)

  # The first layer once more, without any of our layers.
  kernel, bias = (np.asarray(params['blocks'][0]['convolutions'][0][name]) for name in ('kernel', 'bias'))
  convolution = nnx.Conv(1, kernel.shape[-1], (3, 3), rngs=nnx.Rngs(0))
  convolution.kernel[...], convolution.bias[...] = kernel, bias
  outputs = [np.asarray(convolution(images), np.float64) for images in first]
  norm = stats['blocks'][0]['norms'][0]
  np.testing.assert_allclose(
    norm['mean'], np.mean([x.mean(axis=(0, 1, 2)) for x in outputs], axis=0), rtol=1e-4, atol=1e-6
  )
  np.testing.assert_allclose(norm['var'], np.mean([x.var(axis=(0, 1, 2)) for x in outputs], axis=0), rtol=1e-4)


def test_results_are_those_of_numpy(tiny_run, tiny_data, evaluator, states, tmp_path):
  workdir = shutil.copytree(tiny_run, tmp_path / 'run')
  rows = evaluate(workdir, tiny_data, checkpoints=['last'])
  assert [(row['set'], row['task'], row['steps']) for row in rows] == [
    ('people', 'gender', [12]),
    ('smiles', 'smile', [12]),
  ]
  for row in rows:
    source = evaluator.source(row['set'])
    known = source.mask[row['task']]
    predicted = evaluator.scorer.scores(*states[2], source)[row['task']].argmax(axis=1)
    right = (predicted == source.labels[row['task']])[known]
    assert (row['n'], row['accuracy']) == (known.sum(), right.mean())
    assert row['low'] < row['accuracy'] < row['high']
  assert [row['n'] for row in rows] == [15, 12], 'people without a gender do not count'


def test_results_are_added_and_replaced(tiny_run, tiny_data, tmp_path):
  workdir = shutil.copytree(tiny_run, tmp_path / 'run')
  evaluate(workdir, tiny_data, checkpoints=['last', 'average:2'], on=['smiles'])
  evaluate(workdir, tiny_data, checkpoints=['average:2'], on=['smiles'], re_estimate=False)
  evaluate(workdir, tiny_data, checkpoints=['last'], on=['smiles', 'tiny/people:train'])
  found = [(row['checkpoint'], row['source']) for row in read_results(workdir)]
  assert found == [
    ('last', 'tiny/smile:test'),
    ('average:2', 'tiny/smile:test'),
    ('average:2 (statistics averaged)', 'tiny/smile:test'),
    ('last', 'tiny/people:train'),
  ]
  assert json.loads((workdir / 'results.json').read_text())['name'] == 'tiny'
  lines = results_table(read_results(workdir)).splitlines()
  assert len(lines) == 2 + 4
  assert len({line.count('|') for line in lines}) == 1
  assert '| tiny/people:train | gender | 30 |' in lines[-1]
