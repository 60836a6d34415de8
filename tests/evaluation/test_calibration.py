"""Calibration against direct computations: loops, scikit-learn, PyTorch-style formulas in NumPy."""

import numpy as np
import pytest
from scipy import special
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from mtface.errors import UserError
from mtface.evaluation.calibration import (
  TEMPERATURES,
  confidences,
  fit_temperature,
  negative_log_likelihood,
  reliability,
  with_temperature,
)


def drawn(n=4000, classes=5, sharpness=1.0, seed=0):
  """(probabilities [n, classes], labels [n]): labels are drawn from the softmax of scores, and the
  probabilities are those of `sharpness` times the scores.
  """
  rng = np.random.default_rng(seed)
  scores = rng.normal(0, 1.5, (n, classes))
  true = special.softmax(scores, axis=1)
  labels = (true.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
  return special.softmax(sharpness * scores, axis=1), labels


def slow_ece(confidence, correct, bins):
  """Guo et al. 2017, eq. 3, sample by sample."""
  total = 0.0
  for m in range(bins):
    inside = [
      i for i, c in enumerate(confidence) if m / bins < c <= (m + 1) / bins or (m == 0 and c == 0)
    ]
    if inside:
      gap = np.mean([correct[i] for i in inside]) - np.mean([confidence[i] for i in inside])
      total += len(inside) / len(confidence) * abs(gap)
  return total


@pytest.mark.parametrize('bins', [1, 10, 15])
def test_ece_is_that_of_a_loop(bins):
  rng = np.random.default_rng(bins)
  confidence, correct = rng.random(500), rng.random(500) < 0.6
  found = reliability(confidence, correct, bins)
  assert found.ece == pytest.approx(slow_ece(confidence, correct, bins))
  assert found.count.sum() == 500
  assert found.edges.tolist() == np.linspace(0, 1, bins + 1).tolist()


def test_the_curve_is_that_of_scikit_learn():
  rng = np.random.default_rng(3)
  confidence = rng.random(2000) * 0.4 + 0.6  # the lower bins stay empty
  correct = rng.random(2000) < confidence**2
  found = reliability(confidence, correct, 10)
  right, sure = calibration_curve(correct, confidence, n_bins=10)
  some = found.count > 0
  np.testing.assert_allclose(found.accuracy[some], right)
  np.testing.assert_allclose(found.confidence[some], sure)
  assert np.isnan(found.accuracy[~some]).all() and (~some).sum() == 6


def test_a_bin_holds_its_upper_edge():
  # 0.2 * 15 is 3.0000000000000004 in floating point: no bin may be found by multiplying.
  found = reliability(np.array([0.0, 0.2, 0.2 + 1e-9, 1.0]), np.array([0, 1, 1, 1]), 15)
  assert np.flatnonzero(found.count).tolist() == [0, 2, 3, 14]
  assert found.ece == pytest.approx((0 + 0.8 + 0.8 + 0) / 4)


def test_what_is_no_answer():
  with pytest.raises(UserError, match='no labelled answer'):
    reliability(np.array([]), np.array([]))
  for wrong in (1.2, -0.1, np.nan):
    with pytest.raises(UserError, match='from 0 to 1'):
      reliability(np.array([0.5, wrong]), np.array([True, True]))


@pytest.mark.parametrize('sharpness', [0.4, 1.0, 2.5])
def test_the_temperature_that_made_it_is_found_again(sharpness):
  probabilities, labels = drawn(20_000, sharpness=sharpness)
  temperature = fit_temperature(probabilities, labels)
  assert temperature == pytest.approx(sharpness, rel=0.05)
  mended = with_temperature(probabilities, temperature)
  before, after = (reliability(*confidences(p, labels)).ece for p in (probabilities, mended))
  assert after < 0.012
  assert sharpness == 1.0 or after < before / 3


def test_no_other_temperature_is_likelier():
  probabilities, labels = drawn(500, sharpness=1.7)
  best = fit_temperature(probabilities, labels)
  tried = np.geomspace(1, 3, 401)
  losses = [log_loss(labels, with_temperature(probabilities, t)) for t in tried]
  assert best == pytest.approx(tried[np.argmin(losses)], rel=0.005)


def test_likelihood_is_that_of_scikit_learn():
  probabilities, labels = drawn(300)
  expected = log_loss(labels, probabilities)
  assert negative_log_likelihood(probabilities, labels) == pytest.approx(expected)
  some = np.where(np.arange(300) % 3 == 0, -1, labels)
  expected = log_loss(labels[some >= 0], probabilities[some >= 0])
  assert negative_log_likelihood(probabilities, some) == pytest.approx(expected)


def test_a_temperature_divides_the_scores():
  scores = np.random.default_rng(1).normal(0, 4, (50, 7))
  for t in (0.3, 1.0, 4.0):
    np.testing.assert_allclose(
      with_temperature(special.softmax(scores, axis=1), t),
      special.softmax(scores / t, axis=1),
      atol=1e-11,
    )
    np.testing.assert_allclose(
      with_temperature(special.expit(scores), t, 'sigmoid'), special.expit(scores / t), atol=1e-9
    )


def test_sigmoids_of_several_classes():
  rng = np.random.default_rng(5)
  scores = rng.normal(0, 1.5, (8000, 3))
  labels = (rng.random(scores.shape) < special.expit(scores)).astype(int)
  labels[rng.random(scores.shape) < 0.2] = -1
  sure = special.expit(2 * scores)
  temperature = fit_temperature(sure, labels, 'sigmoid')
  assert temperature == pytest.approx(2, rel=0.05)
  known = labels >= 0
  assert negative_log_likelihood(sure, labels, 'sigmoid') == pytest.approx(
    log_loss(labels[known], sure[known])
  )
  confidence, correct = confidences(sure, labels)
  assert len(confidence) == known.sum() and (confidence >= 0.5).all()
  assert correct.mean() == pytest.approx(((sure > 0.5) == labels)[known].mean())
  assert (
    reliability(*confidences(with_temperature(sure, temperature, 'sigmoid'), labels)).ece < 0.02
  )


def test_a_single_label_read_by_sigmoids():
  probabilities = np.array([[0.9, 0.2, 0.1], [0.3, 0.6, 0.8], [0.5, 0.5, 0.5]])
  labels = np.array([0, 1, -1])
  expected = -np.log([0.9, 0.8, 0.9, 0.7, 0.6, 0.2]).mean()
  assert negative_log_likelihood(probabilities, labels, 'sigmoid') == pytest.approx(expected)


def test_certain_answers_stay_finite():
  probabilities, labels = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), np.array([0, 1, 1])
  assert np.isfinite(negative_log_likelihood(probabilities, labels))
  # The likeliest probability is 2 of 3; the highest temperature is not enough for a 1 in 10^12.
  assert fit_temperature(probabilities, labels) == pytest.approx(TEMPERATURES[1], rel=1e-3)


def test_margins_and_no_labels():
  probabilities, labels = drawn(10)
  with pytest.raises(UserError, match='the scores are margins'):
    fit_temperature(probabilities, labels, 'margins')
  with pytest.raises(UserError, match='nothing is labelled'):
    fit_temperature(probabilities, np.full(10, -1))
