"""The total loss against NumPy; weights of classes; options of losses."""

import jax.numpy as jnp
import numpy as np
import pytest

from mtface.config import tables
from mtface.config.schema import task
from mtface.errors import UserError
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
