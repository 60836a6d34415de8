import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx

from mtface.config import schema as configs
from mtface.config.tables import NETWORKS, Entry
from mtface.data.augment import augment
from mtface.data.inputs import scale_images
from mtface.data.loader import BatchSource
from mtface.errors import UserError
from mtface.evaluation.evaluate import evaluate
from mtface.evaluation.evaluator import Evaluator
from mtface.evaluation.results import read_results, results_table
from mtface.evaluation.statistics import re_estimated
from mtface.models.paths import path_name
from mtface.parallel.sharding import make_mesh
from mtface.training.checkpoints import Checkpoints
from mtface.training.run import prepare
from mtface.training.selection import Selection
from mtface.training.workdir import write_config
from tests.fakes import fake_source, state_shapes, write_prepared
from tests.tiny import get_config


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
  assert Selection.parse(f'{text}:flip') == Selection(kind, count, 'flip')
  assert Selection.parse(f'{text}:ten') == Selection(kind, count, 'ten')


@pytest.mark.parametrize(
  'text',
  [
    '',
    'first',
    'average',
    'average:',
    'average:0',
    'average:-2',
    'ensemble:x',
    '-4',
    '1.5',
    'last:2',
    'flip',
    ':ten',
    'last:flip:ten',
  ],
)
def test_what_is_no_selection(text):
  with pytest.raises(UserError, match=r'expected last, best, a step, average:K or ensemble:K'):
    Selection.parse(text)


@pytest.mark.parametrize(
  ('text', 'steps'),
  [
    ('last', [12]),
    ('4', [4]),
    ('average:2', [8, 12]),
    ('ensemble:3', [4, 8, 12]),
    ('average:1', [12]),
  ],
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
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-12), (params, stats), expected
  )


def test_an_ensemble_averages_probabilities(evaluator, states):
  source = evaluator.source('smiles')
  found = evaluator.predictions(evaluator.networks(Selection.parse('ensemble:3')), source)
  for task in ('smile', 'gender'):
    single = [
      np.exp(evaluator.scorer.scores(*state, source)[task].astype(np.float64)) for state in states
    ]
    expected = np.mean([x / x.sum(axis=1, keepdims=True) for x in single], axis=0)
    np.testing.assert_allclose(found[task], expected, rtol=1e-6)
    assert found[task].shape == (12, 2)


def test_a_squared_hinge_averages_scores(tiny_run, tiny_data, states, tmp_path):
  workdir = shutil.copytree(tiny_run, tmp_path / 'run')
  text = (workdir / 'config.json').read_text()
  (workdir / 'config.json').write_text(
    text.replace('softmax_cross_entropy', 'multiclass_squared_hinge', 1)
  )
  hinge = Evaluator(workdir, tiny_data)
  (of_hinge,) = [task for task in hinge.outputs.tasks if 'hinge' in hinge.config.tasks[task].loss]
  source = hinge.source('smiles')
  found = hinge.predictions(hinge.networks(Selection.parse('ensemble:3')), source)
  single = [hinge.scorer.scores(*state, source)[of_hinge].astype(np.float64) for state in states]
  np.testing.assert_allclose(found[of_hinge], np.mean(single, axis=0), rtol=1e-6)
  for task, values in found.items():
    assert (np.abs(values.sum(axis=1) - 1) < 1e-9).all() == (task != of_hinge), (
      'the other task has probabilities'
    )
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
    images = scale_images(
      augment(jnp.asarray(batch['image']), batch['position'], key, pad=4, flip=True, rotate=15.0)
    )
    # A batch norm's update is new = 0.9 old + 0.1 batch, from which the batch's own statistic
    # follows.
    _, new = train(params, old, images, key)
    means.append(jax.tree.map(lambda n, o: (np.asarray(n, np.float64) - 0.9 * o) / 0.1, new, old))
    first.append(np.asarray(images))
  expected = jax.tree.map(lambda *x: np.mean(x, axis=0), *means)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), stats, expected)

  # The first layer once more, without any of our layers.
  kernel, bias = (
    np.asarray(params['blocks'][0]['convolutions'][0][name]) for name in ('kernel', 'bias')
  )
  convolution = nnx.Conv(1, kernel.shape[-1], (3, 3), rngs=nnx.Rngs(0))
  convolution.kernel[...], convolution.bias[...] = kernel, bias
  outputs = [np.asarray(convolution(images), np.float64) for images in first]
  norm = stats['blocks'][0]['norms'][0]
  np.testing.assert_allclose(
    norm['mean'], np.mean([x.mean(axis=(0, 1, 2)) for x in outputs], axis=0), rtol=1e-4, atol=1e-6
  )
  np.testing.assert_allclose(
    norm['var'], np.mean([x.var(axis=(0, 1, 2)) for x in outputs], axis=0), rtol=1e-4
  )


class Plain(nnx.Module):
  """A network of the user's with Flax's own batch norm, whose momentum is another one."""

  def __init__(self, tasks, image_shape, *, rngs, dtype):
    self.norm = nnx.BatchNorm(1, momentum=0.99, rngs=rngs)
    self.heads = nnx.Dict({task.name: nnx.Linear(1, task.num_classes, rngs=rngs) for task in tasks})

  def __call__(self, images, train=False, rngs=None):
    x = self.norm(images, use_running_average=not train).mean((1, 2))
    return {name: head(x) for name, head in self.heads.items()}


def test_statistics_are_re_estimated_whatever_the_momentum_of_a_norm_is(tiny_data, monkeypatch):
  monkeypatch.setitem(NETWORKS._entries, 'plain', Entry(Plain, {}, {}))
  config = get_config()
  config.model = configs.model('plain')
  config.augment.pad, config.augment.flip, config.augment.rotate = 0, False, 0.0
  run = prepare(config, tiny_data)
  found = re_estimated(run, make_mesh(), run.params, run.stats)
  loader = BatchSource(run.sources, run.mixture, config.batch_size)
  batches = [loader[step]['image'] / 127.5 - 1 for step in range(60 // 8)]
  norm = found['norm']
  np.testing.assert_allclose(norm['mean'], [np.mean([x.mean() for x in batches])], atol=1e-5)
  np.testing.assert_allclose(norm['var'], [np.mean([x.var() for x in batches])], rtol=1e-4)


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


# --- Runs made by hand: checkpoints of random numbers ---------------------------------------------


def random_states(config, steps, held=()):
  """{step: a training state}; what `held` begins the name of is the same in all."""
  states = {}
  for step in steps:
    rng, same = np.random.default_rng(step), np.random.default_rng(0)

    def draw(path, x, rng=rng, same=same):
      numbers = (same if path_name(path).startswith(held or ' ') else rng).normal(0, 0.5, x.shape)
      return (np.abs(numbers) + 0.5 if path_name(path).endswith('var') else numbers).astype(x.dtype)

    shapes = state_shapes(config)
    params, stats = (
      jax.tree_util.tree_map_with_path(draw, tree) for tree in (shapes.params, shapes.stats)
    )
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    states[step] = zeros._replace(params=params, stats=stats, step=np.int32(step))
  return states


def write_run(workdir, config, states):
  write_config(config, workdir)
  with Checkpoints(workdir, keep_last=10) as checkpoints:
    for step, state in states.items():
      checkpoints.save(step, state, best=1.0 / step)


@pytest.fixture(scope='module')
def by_hand(tmp_path_factory):
  """(workdir, data_dir, states) of a run with a task of each form on 30 faces; checkpoints 1 (the
  best), 2 and 3. Not to be changed.
  """
  folder = tmp_path_factory.mktemp('by_hand')
  tasks = {'smile': 0.8, 'age_years': 0.7, 'action_units': 0.6}

  def draw(split, size):
    source = fake_source(split, size, tasks)
    source.mask['action_units'][:] &= (np.arange(size)[:, None] + np.arange(11)) % 3 > 0
    return source

  write_prepared(folder / 'data', 'tiny/faces', {'train': 30, 'test': 21}, tasks, draw=draw)
  config = get_config()
  config.tasks = {
    'smile': configs.task(),
    'age_years': configs.task(top=4),
    'action_units': configs.task('sigmoid_cross_entropy'),
  }
  config.sources = {'faces': configs.source('tiny/faces:train')}
  config.evaluation.sets = {
    'tests': configs.source('tiny/faces:test'),
    'trained': configs.source('tiny/faces:train'),
  }
  states = random_states(config, (1, 2, 3))
  write_run(folder / 'run', config, states)
  return folder / 'run', folder / 'data', states


def expected_rows(evaluator, states, name):
  """What a set's rows say of an ensemble of states, by NumPy and SciPy from
  each network's scores.
  """
  source = evaluator.source(name)
  scores = [evaluator.scorer.scores(state.params, state.stats, source) for state in states]
  known = source.mask
  mean = lambda of, task: np.mean([of(s[task].astype(np.float64)) for s in scores], axis=0)  # noqa: E731
  softmax = functools.partial(scipy.special.softmax, axis=1)
  smile, years, units = (
    mean(softmax, 'smile'),
    mean(softmax, 'age_years'),
    mean(scipy.special.expit, 'action_units'),
  )
  yes, labels = units > 0.5, source.labels['action_units'] > 0
  best = np.argsort(-years, axis=1)[:, :4]  # which are years and classes in one
  weights = np.take_along_axis(years, best, axis=1)
  ages, true = (weights * best).sum(1) / weights.sum(1), source.labels['age_years']
  return {
    'smile': {'accuracy': np.mean((smile.argmax(1) == source.labels['smile'])[known['smile']])},
    'age_years': {
      'mae': np.abs(ages - true)[known['age_years']].mean(),
      'mae_most_probable': np.abs(years.argmax(1) - true)[known['age_years']].mean(),
    },
    'action_units': {
      'tp': (yes & labels & known['action_units']).sum(0).tolist(),
      'fp': (yes & ~labels & known['action_units']).sum(0).tolist(),
      'fn': (~yes & labels & known['action_units']).sum(0).tolist(),
    },
  }


MEANT = {'last': [3], 'best': [1], '2': [2], 'ensemble:2': [2, 3]}


@pytest.fixture(scope='module')
def measured(by_hand, tmp_path_factory):
  """(workdir, data_dir, rows) of that run with four selections measured on two sets. Not to be
  changed.
  """
  workdir = shutil.copytree(by_hand[0], tmp_path_factory.mktemp('measured') / 'run')
  return workdir, by_hand[1], evaluate(workdir, by_hand[1], checkpoints=list(MEANT))


def test_every_selection_is_measured_by_its_own_networks(by_hand, measured):
  workdir, data_dir, states = by_hand
  rows = measured[2]
  assert len(rows) == 4 * 2 * 3
  evaluator, seen = Evaluator(workdir, data_dir), set()
  for row in rows:
    assert row['steps'] == MEANT[row['checkpoint']]
    expected = expected_rows(evaluator, [states[step] for step in row['steps']], row['set'])[
      row['task']
    ]
    assert {key: row[key] for key in expected} == {
      key: value if isinstance(value, list) else pytest.approx(value, rel=1e-5)
      for key, value in expected.items()
    }, (row['checkpoint'], row['set'], row['task'])
    seen |= {str(expected)} if row['task'] == 'age_years' else set()
  assert len(seen) == 8, 'no two selections and sets say the same'
  key = lambda row: (row['checkpoint'], row['set'], row['task'])  # noqa: E731
  assert sorted(read_results(measured[0]), key=key) == sorted(rows, key=key)


CHANGES = {  # of the rows of (selection, set) in results.json; what is changed is measured again
  ('last', 'tests'): {},
  ('last', 'trained'): {'source': 'tiny/faces:train[fold=0/2]'},  # under our name of the set
  ('best', 'tests'): {'data': '0123456789abcdef'},  # the set was built again
  ('best', 'trained'): {'checksums': [None]},
  ('2', 'tests'): {'checksums': [17]},
  ('2', 'trained'): {'steps': [3]},
  ('ensemble:2', 'tests'): {'checkpoint': 'ensemble:3'},
  ('ensemble:2', 'trained'): {},
}


def doctored(measured, tmp_path):
  """(a copy of that run whose rows of results say an accuracy of -1, with the changes above;
  data_dir; its rows before that).
  """
  workdir, data_dir, rows = measured
  copy = shutil.copytree(workdir, tmp_path / 'run')
  results = json.loads((copy / 'results.json').read_text())
  for row in results['results']:
    row |= {'accuracy': -1.0} | CHANGES[row['checkpoint'], row['set']]
  (copy / 'results.json').write_text(json.dumps(results))
  return copy, data_dir, rows


def test_rows_are_taken_over_from_the_same_checkpoints_on_the_same_faces_alone(measured, tmp_path):
  workdir, data_dir, rows = doctored(measured, tmp_path)
  again = evaluate(workdir, data_dir, checkpoints=list(MEANT), skip_measured=True)
  for row, before in zip(again, rows, strict=True):
    taken_over = not CHANGES[row['checkpoint'], row['set']]
    assert row['accuracy'] == (-1.0 if taken_over else before['accuracy']), (
      row['checkpoint'],
      row['set'],
    )


def test_rows_of_checkpoints_without_a_checksum_are_never_taken_over(
  measured, tmp_path, monkeypatch
):
  workdir, data_dir, _ = doctored(measured, tmp_path)
  monkeypatch.setattr(Checkpoints, 'checksum', lambda *_: None)  # as those of older versions
  rows = evaluate(workdir, data_dir, checkpoints=['best'], on=['trained'], skip_measured=True)
  assert min(row['accuracy'] for row in rows) >= 0


def test_predictions_are_written_although_a_set_is_measured(measured, tmp_path):
  workdir, data_dir, _ = doctored(measured, tmp_path)
  rows = evaluate(
    workdir, data_dir, checkpoints=['last'], on=['tests'], skip_measured=True, predictions=True
  )
  assert min(row['accuracy'] for row in rows) >= 0
  with (workdir / 'predictions/last/tests.csv').open() as file:
    assert len(file.readlines()) == 1 + 21
  assert len(list((workdir / 'predictions').rglob('*.csv'))) == 1


def test_frozen_statistics_are_not_estimated_anew(tiny_data, tmp_path):
  config = get_config()
  config.freeze.params = ('blocks',)
  states = random_states(config, (1, 2), held=('blocks',))
  write_run(tmp_path / 'run', config, states)
  evaluator = Evaluator(tmp_path / 'run', tiny_data)
  ((params, stats),) = evaluator.networks(Selection.parse('average:2'))
  before = states[2].stats
  assert_equal(jax.device_get(params)['blocks'], states[2].params['blocks'])
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), stats['blocks'], before['blocks']
  )
  others = zip(*(jax.tree.leaves(tree['branches']) for tree in (stats, before)), strict=True)
  assert all(np.abs(a - b).max() > 0.01 for a, b in others)


def test_a_set_of_another_image_size_is_one_line(tiny_run, tiny_data, tmp_path):
  shutil.copytree(tiny_data, tmp_path / 'data')
  write_prepared(tmp_path / 'data', 'tiny/large', {'test': 8}, {'smile': 1.0}, shape=(24, 24, 1))
  with pytest.raises(
    UserError, match=r'^tiny/large:test: its images are 24x24x1, config.image_shape says 16x16x1; '
  ):
    Evaluator(tiny_run, tmp_path / 'data').source('tiny/large:test')
