"""The total loss against NumPy; weights of classes; options of losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtface.config import tables
from mtface.config.schema import task, teacher
from mtface.errors import UserError
from mtface.tasks import get_task
from mtface.training.objective import Objective, class_weights
from mtface.training.run import plan
from tests.tiny import get_config

SCORES = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
LABELS = np.array([0, 1, 1, 0, 1])
MASK = np.array([True, True, False, True, True])


def negative_log_likelihood():
  exp = np.exp(SCORES.astype(np.float64))
  return -np.log((exp / exp.sum(1, keepdims=True))[np.arange(5), LABELS])


def total(config):
  of = dict.fromkeys(config.tasks)
  params = {'kernel': jnp.full((2, 3), 2.0), 'bias': jnp.ones(3)}
  scores, labels, mask = (dict.fromkeys(of, jnp.asarray(x)) for x in (SCORES, LABELS, MASK))
  return Objective(config)(params, scores, labels, mask)


def test_the_total_is_the_weighted_terms_and_the_penalty_on_kernels():
  config = get_config()
  config.tasks = {'smile': task(weight=1.0), 'gender': task(weight=0.5)}
  config.loss.over, config.loss.l2 = 'labelled', 0.1
  loss, sums = total(config)
  terms = negative_log_likelihood()[MASK]
  assert float(loss) == pytest.approx(1.5 * terms.mean() + 0.1 * 6 * 4, rel=1e-6)
  assert {k: float(v) for k, v in sums.items()} == {
    k: pytest.approx(terms.sum(), rel=1e-6) for k in config.tasks
  }
  config.loss.over = 'all'
  assert float(total(config)[0]) == pytest.approx(1.5 * terms.sum() / 5 + 2.4, rel=1e-6)


@pytest.mark.parametrize('over', ['all', 'labelled'])
@pytest.mark.parametrize('share', [None, 0.75])
def test_what_teachers_say_is_learnt_beside_the_labels(over, share):
  # sum_t mu_t (L_t + w T^2 L_t(shares)); of blends, each part by its share
  rng, scores = np.random.default_rng(1), np.concatenate([SCORES, SCORES[:1] + 1])
  labels, mask = np.append(LABELS, 1), np.append(MASK, True)
  shares, known = rng.dirichlet([1, 1], 6), np.array([False, True, True, True, False, True])
  config = get_config()
  config.tasks, config.loss.over = {'smile': task(weight=0.5)}, over
  config.teachers = {'t': teacher('run', 'smile', temperature=2.0, weight=3.0)}
  given = [{'smile': jnp.asarray(x)} for x in (scores, labels, mask)]
  lessons = {'smile': jnp.asarray(shares, jnp.float16)}, {'smile': jnp.asarray(known)}
  part = None if share is None else jnp.full(6, share)
  loss, sums = Objective(config)({}, *given, part, lessons)
  swap, soft = [1, 0, 3, 2, 5, 4], np.asarray(lessons[0]['smile'], np.float64)
  sides = [(range(6), 1.0)] if share is None else [(range(6), share), (swap, 1 - share)]
  expected = of_labels = 0.0
  for rows, weight in sides:
    for i, j in enumerate(rows):
      for q, there, t, w in ((np.eye(2)[labels[j]], mask, 1, 1), (soft[j], known, 2, 3)):
        s = scores[i].astype(np.float64) / t
        term = weight * there[j] * (np.log(np.exp(s).sum()) - q @ s)
        divisor = 6 if over == 'all' else there.sum()
        expected += 0.5 * w * t**2 * term / divisor
        of_labels += term if t == 1 else 0
  assert float(loss) == pytest.approx(expected, rel=1e-3)
  assert float(sums['smile']) == pytest.approx(of_labels, rel=1e-5)


def test_teachers_of_a_task_are_alike():
  config = get_config()
  config.teachers = {'a': teacher('run', 'smile'), 'b': teacher('other', 'smile', weight=2.0)}
  with pytest.raises(UserError, match=r'config.teachers.b: teachers of smile have different'):
    Objective(config)


@pytest.mark.parametrize(
  # of six kernels of 2 and three biases of 1
  ('convention', 'penalty'),
  [('squares', 24.0), ('tensorflow', 12.0), ('caffe', 13.5)],
)
def test_the_penalty_is_of_the_convention_that_is_named(convention, penalty):
  config = get_config()
  config.tasks = {'smile': task(weight=0.0)}
  config.loss.l2, config.loss.decay = 0.5, convention
  assert float(total(config)[0]) == pytest.approx(0.5 * penalty)


def test_a_loss_of_the_users_own_gets_its_options(monkeypatch):
  def powered(scores, labels, mask, class_weights=None, *, power):
    return jnp.where(mask, jnp.abs(scores[:, 0]) ** power, 0)

  monkeypatch.setattr(tables.LOSSES, '_entries', dict(tables.LOSSES._entries))
  tables.LOSSES.register('powered', {'power': 2.0})(powered)
  config = get_config()
  config.loss.over = 'labelled'
  for power in (2.0, 3.0):
    config.tasks = {'smile': task('powered', **({} if power == 2.0 else {'power': power}))}
    expected = (np.abs(SCORES[MASK, 0].astype(np.float64)) ** power).mean()
    assert float(total(config)[0]) == pytest.approx(expected, rel=1e-5)


# --- one loss over a union of label spaces (Pons 2018, eq. 1) -------------------------------------


def union_config(*tasks, apart=(), **of):
  config = get_config()
  config.outputs.layer, config.outputs.apart = 'union', apart
  config.tasks = {name: task('sigmoid_cross_entropy', **of) for name in tasks}
  config.loss.over = 'labelled'
  return config


def faces(seed=3, size=12):
  """Labels of emotion7, compound_emotion and action_units; a sample has one, two or three."""
  rng = np.random.default_rng(seed)
  labels = {
    'emotion7': rng.integers(0, 7, size),
    'compound_emotion': rng.integers(0, 16, size),
    'action_units': rng.integers(0, 2, (size, 11)),
  }
  of = {name: rng.random(size) < 0.6 for name in ('emotion7', 'compound_emotion')}
  units = rng.random((size, 11)) < 0.7
  units[rng.random(size) < 0.4] = False
  mask = of | {'action_units': units}
  mask['emotion7'][0] = mask['compound_emotion'][0] = False
  mask['action_units'][0] = False  # a sample without any label
  mask['emotion7'][1] = mask['compound_emotion'][1] = True
  return labels, mask


def by_hand(tasks, scores, labels, mask, mu=1.0, over_all=False):
  """(mean over the samples with a label, gradient): the equation in float64, by outputs' names."""
  names = list(dict.fromkeys(name for t in tasks for name in get_task(t).classes))
  values, gradient = [], np.zeros(scores.shape)
  for i, row in enumerate(scores.astype(np.float64)):
    yes = {}
    for t in tasks:
      for k, name in enumerate(get_task(t).classes):
        multi = get_task(t).multi_label
        if mask[t][i][k] if multi else mask[t][i]:
          says = labels[t][i][k] == 1 if multi else labels[t][i] == k
          yes[name] = yes.get(name, False) or bool(says)
    n = len(names) if over_all else max(len(yes), 1)
    value = 0.0
    for name, is_yes in yes.items():
      j = names.index(name)
      p = 1 / (1 + np.exp(-row[j]))
      value -= mu / n * np.log(p if is_yes else 1 - p)
      gradient[i, j] = mu / n * (p - is_yes)
    values.append(value)
  count = sum(any(np.any(mask[t][i]) for t in tasks) for i in range(len(scores)))
  return sum(values) / count, gradient / count


@pytest.mark.parametrize(
  'tasks',
  [
    ('action_units', 'emotion7'),
    ('action_units', 'compound_emotion', 'emotion7'),
    ('emotion7',),
  ],
)
@pytest.mark.parametrize('mean_over', ['labelled', 'all'])
def test_the_loss_of_a_union_is_the_papers(tasks, mean_over):
  labels, mask = ({name: x[name] for name in tasks} for x in faces())
  config = union_config(*tasks, mean_over=mean_over)
  outputs = Objective(config)._outputs.layers[0].num_classes
  assert outputs == {2: 18, 3: 28, 1: 7}[len(tasks)]  # 11 + 7; and 16 of which six are shared
  scores = np.random.default_rng(1).normal(size=(12, outputs)).astype(np.float32)

  def loss(scores):
    return Objective(config)({}, {'union': scores}, labels, mask)[0]

  found, gradient = jax.value_and_grad(loss)(jnp.asarray(scores))
  value, expected = by_hand(sorted(tasks), scores, labels, mask, over_all=mean_over == 'all')
  assert float(found) == pytest.approx(value, rel=1e-6)
  np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-9)


def test_classes_outside_of_a_sources_label_space_get_no_gradient_at_all():
  labels, mask = faces()
  mask['emotion7'][:] = True
  mask['action_units'][:] = False
  mask['compound_emotion'][:] = False
  config = union_config('action_units', 'emotion7')
  scores = jnp.asarray(np.random.default_rng(2).normal(size=(12, 18)), jnp.float32)
  gradient = np.asarray(
    jax.grad(lambda s: Objective(config)({}, {'union': s}, labels, mask)[0])(scores)
  )
  assert (gradient[:, :11] == 0).all()  # not nearly: exactly
  assert (gradient[:, 11:] != 0).all()


def test_weights_of_tasks_in_a_union():
  labels, mask = faces()
  config = union_config('action_units', 'emotion7', weight=2.0)
  scores = np.random.default_rng(2).normal(size=(12, 18)).astype(np.float32)
  loss, _ = Objective(config)({}, {'union': jnp.asarray(scores)}, labels, mask)
  expected, _ = by_hand(['action_units', 'emotion7'], scores, labels, mask, mu=2.0)
  assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_a_softmax_in_a_union_is_over_the_tasks_own_classes():
  labels, mask = faces()
  config = union_config('action_units', 'emotion7')
  config.tasks.emotion7 = task('softmax_cross_entropy')
  scores = np.random.default_rng(2).normal(size=(12, 18)).astype(np.float64)
  loss, _ = Objective(config)({}, {'union': jnp.asarray(scores, jnp.float32)}, labels, mask)
  units, _ = by_hand(['action_units'], scores[:, :11], labels, mask)
  own = scores[:, 11:]
  terms = np.log(np.exp(own).sum(1)) - own[np.arange(12), labels['emotion7']]
  expected = units + terms[mask['emotion7']].mean()
  assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_joined_tasks_must_have_one_loss():
  config = union_config('action_units', 'emotion7')
  config.tasks.emotion7.mean_over = 'all'
  with pytest.raises(UserError, match='give both the same loss and options'):
    Objective(config)
  config = union_config('compound_emotion', 'emotion7')
  config.tasks.emotion7.weight = 0.5
  with pytest.raises(UserError, match='share the output angry, and their weights differ'):
    Objective(config)
  config.outputs.apart = ('emotion7',)
  assert Objective(config).joined == ('compound_emotion', 'emotion7')


def test_a_shared_output_is_read_in_one_way():
  config = union_config('compound_emotion', 'emotion7')
  config.tasks.emotion7 = task('multiclass_squared_hinge')
  with pytest.raises(
    UserError, match=r'compound_emotion \(sigmoid\), emotion7 \(margins\) share the output angry'
  ):
    Objective(config)
  config.outputs.apart = ('emotion7',)
  assert Objective(config).joined == ('compound_emotion',)


def test_an_unknown_loss():
  config = get_config()
  config.tasks.smile.loss = 'hinge'
  with pytest.raises(UserError, match=r"^config.tasks.smile.loss 'hinge' is unknown; there are"):
    Objective(config)


def test_balanced_class_weights_are_of_the_labels_that_train(tiny_data):
  config = get_config()
  config.tasks.gender.class_weights = 'balanced'
  run = plan(config, tiny_data)
  weights = class_weights(run)
  people = run.sources[list(config.sources).index('people')]
  labels = people.labels['gender'][people.mask['gender']]
  counts = np.array([(labels == 0).sum(), (labels == 1).sum()])
  assert list(weights) == ['gender']
  np.testing.assert_allclose(
    weights['gender'], counts.max() / counts, rtol=1e-6
  )  # Savchenko 2021, eq. 2
