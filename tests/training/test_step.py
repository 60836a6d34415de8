"""The training step around a network so small that NumPy can do it again: linear scores of the
pixels.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtface.data.blend import make_blend
from mtface.errors import UserError
from mtface.outputs import Outputs
from mtface.tasks import get_task
from mtface.training.state import new_state
from mtface.training.step import make_step
from mtface.training.tally import NEVER, new_tally
from tests.tiny import get_config

TASKS = {'smile': get_task('smile'), 'gender': get_task('gender')}
RATE = 0.5


class Linear:
  """Scores = scaled pixels @ kernel + bias for each task; the running statistic is the mean pixel;
  `noise` scales dropout's stream.
  """

  noise, outputs = 0.0, Outputs.heads(TASKS.values())

  def train_scores(self, params, stats, images, key):
    pixels = images.reshape(len(images), -1)
    scores = {task: pixels @ p['kernel'] + p['bias'] for task, p in params.items()}
    scores = {task: x + self.noise * jax.random.normal(key, x.shape) for task, x in scores.items()}
    return scores, {'mean': 0.9 * stats['mean'] + 0.1 * pixels.mean()}


def parameters(seed=0, size=12):
  rng = np.random.default_rng(seed)
  return {
    task: {'kernel': rng.normal(size=(size, 2)).astype(np.float32), 'bias': np.zeros(2, np.float32)}
    for task in TASKS
  }


def batch(count=6, seed=1, known=None):
  """`known`: {task: [count] bool}; by default half of the samples are labelled for each task.
  Unknown labels are out of range.
  """
  rng = np.random.default_rng(seed)
  known = known or {'smile': np.arange(count) % 2 == 0, 'gender': np.arange(count) % 2 == 1}
  return {
    'image': rng.integers(0, 256, (count, 3, 4, 1), dtype=np.uint8),
    'labels': {
      task: np.where(known[task], rng.integers(0, 2, count), -1).astype(np.int32) for task in TASKS
    },
    'mask': known,
    'source': np.zeros(count, np.int32),
    'position': np.arange(count, dtype=np.uint32),
    'stop': np.zeros(count, np.int32),
  }


def config(**changes):
  found = get_config()
  found.update_from_flattened_dict(
    {'augment.pad': 0, 'augment.flip': False, 'augment.rotate': 0.0} | changes
  )
  return found


def take(step_config, *batches, network=None, class_weights=None):
  """The state and the tally after a step on each batch, with plain gradient descent at RATE."""
  optimizer = optax.sgd(RATE)
  state = new_state(parameters(), {'mean': jnp.zeros(())}, optimizer, step_config.ema)
  tally = new_tally(TASKS)
  step = jax.jit(make_step(network or Linear(), optimizer, TASKS, step_config, class_weights or {}))
  for one in batches:
    state, tally = step(state, tally, one)
  return jax.device_get(state), jax.device_get(tally)


def expected(task, one, over, class_weights=(1, 1), at=None):
  """(loss, gradient of the kernel, gradient of the bias) of one task by NumPy, in float64; `at`
  other parameters than the first ones.
  """
  p = {name: x.astype(np.float64) for name, x in (at or parameters())[task].items()}
  pixels = one['image'].reshape(len(one['image']), -1) / 127.5 - 1
  scores = pixels @ p['kernel'] + p['bias']
  chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
  mask = one['mask'][task]
  labels = np.where(mask, one['labels'][task], 0)
  weights = np.asarray(class_weights)[labels] * mask
  terms = -np.log(chances[np.arange(len(labels)), labels]) * weights
  divisor = len(labels) if over == 'all' else mask.sum()
  residual = (chances - np.eye(2)[labels]) * weights[:, None] / divisor
  return terms.sum() / divisor, pixels.T @ residual, residual.sum(axis=0)


@pytest.mark.parametrize('over', ['all', 'labelled'])
def test_loss_and_update_are_equation_3(over):
  # Sang 2017, eq. 3: sum_t mu_t L_t + lambda ||W||^2; labelled divides each L_t by its own labels.
  mu, l2 = {'smile': 2.0, 'gender': 0.25}, 0.03
  one = batch()
  changes = {f'tasks.{task}.weight': weight for task, weight in mu.items()} | {
    'loss.over': over,
    'loss.l2': l2,
  }
  state, tally = take(config(**changes), one)
  total = 0.0
  for task, before in parameters().items():
    loss, kernel, bias = expected(task, one, over)
    total += mu[task] * loss + l2 * (before['kernel'].astype(np.float64) ** 2).sum()
    labelled = one['mask'][task].sum()
    np.testing.assert_allclose(
      tally.task_losses[task], loss * (6 if over == 'all' else labelled), rtol=1e-5
    )
    np.testing.assert_allclose(
      state.params[task]['kernel'],
      before['kernel'] - RATE * (mu[task] * kernel + 2 * l2 * before['kernel']),
      atol=2e-6,
    )
    np.testing.assert_allclose(
      state.params[task]['bias'], -RATE * mu[task] * bias, atol=2e-6
    )  # no decay of a bias
  np.testing.assert_allclose(tally.loss, total, rtol=1e-5)
  pixels = one['image'] / 127.5 - 1
  np.testing.assert_allclose(state.stats['mean'], 0.1 * pixels.mean(), rtol=1e-4)


@pytest.mark.parametrize('decay', [0.5, 0.05])
def test_moving_averages_of_weights_and_statistics(decay):
  # d is at most (1 + t) / (10 + t): 2/11, 3/12, 4/13 after the steps
  batches = [batch(seed=seed) for seed in (1, 2, 3)]
  mean = {task: p['kernel'] for task, p in parameters().items()} | {'mean': 0.0}
  for t in (1, 2, 3):
    state, _ = take(config(ema=decay), *batches[:t])
    plain, _ = take(config(), *batches[:t])
    d = min(decay, (1 + t) / (10 + t))
    for task in TASKS:
      np.testing.assert_array_equal(state.params[task]['kernel'], plain.params[task]['kernel'])
      mean[task] = d * mean[task] + (1 - d) * plain.params[task]['kernel']
      np.testing.assert_allclose(state.weights[0][task]['kernel'], mean[task], rtol=1e-5, atol=1e-6)
    mean['mean'] = d * mean['mean'] + (1 - d) * plain.stats['mean']
    np.testing.assert_allclose(state.weights[1]['mean'], mean['mean'], rtol=1e-5)
  assert plain.weights == (plain.params, plain.stats)


@pytest.mark.parametrize('over', ['all', 'labelled'])
def test_the_loss_of_a_blend_is_that_of_both_labels(over):
  # images of one grey, so that a cut is a mix: each of a pair is labelled for the other task
  one = batch()
  one['image'] = np.broadcast_to(one['image'][:, :1, :1], one['image'].shape).copy()
  changes = {'blend.name': 'mixup', 'blend.alpha': 1.0, 'loss.over': over}
  _, tally = take(config(**changes), one)
  key = jax.random.fold_in(jax.random.key(config().seed), 2)
  images, share = make_blend(config(**changes).blend)(
    one['image'].astype(np.float32), one['position'], key
  )
  swap = [1, 0, 3, 2, 5, 4]
  total = 0.0
  for task in TASKS:
    p = {name: x.astype(np.float64) for name, x in parameters()[task].items()}
    pixels = np.asarray(images, np.float64).reshape(6, -1) / 127.5 - 1
    scores = pixels @ p['kernel'] + p['bias']
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    for rows, part in ((range(6), share), (swap, 1 - share)):
      for i, j in enumerate(rows):
        if one['mask'][task][j]:
          divisor = 6 if over == 'all' else one['mask'][task].sum()
          total -= float(part[i]) * np.log(chances[i, one['labels'][task][j]]) / divisor
  np.testing.assert_allclose(tally.loss, total, rtol=1e-5)


def test_sam_takes_the_gradient_uphill():
  # Foret 2021, eq. 2 and 3, in two steps by hand: epsilon = rho g / ||g||, then the gradient at w +
  # epsilon.
  rho, one = 0.3, batch()
  state, tally = take(config(**{'optimizer.sam': rho}), one)
  at = parameters()
  gradients = {
    task: dict(zip(('kernel', 'bias'), expected(task, one, 'all')[1:], strict=True))
    for task in TASKS
  }
  norm = np.sqrt(sum((g**2).sum() for of_task in gradients.values() for g in of_task.values()))
  uphill = {
    task: {name: at[task][name] + rho * g / norm for name, g in of.items()}
    for task, of in gradients.items()
  }
  for task in TASKS:
    loss, kernel, bias = expected(task, one, 'all', at=uphill)
    np.testing.assert_allclose(
      state.params[task]['kernel'], at[task]['kernel'] - RATE * kernel, atol=2e-6
    )
    np.testing.assert_allclose(state.params[task]['bias'], -RATE * bias, atol=2e-6)
    plain = expected(task, one, 'all')[0]
    np.testing.assert_allclose(
      tally.task_losses[task], 6 * plain, rtol=1e-5
    )  # what is reported is of w
    assert loss > plain


def test_sam_where_there_is_no_gradient():
  still = config(**{'optimizer.sam': 0.3, 'tasks.smile.weight': 0.0, 'tasks.gender.weight': 0.0})
  state, _ = take(still, batch())
  jax.tree.map(np.testing.assert_array_equal, state.params, parameters())


@pytest.mark.parametrize('rho', [0.0, 0.3])
def test_no_gradient_reaches_what_is_frozen(rho):
  one = batch()
  state, _ = take(config(**{'freeze.params': ('smile/kernel',), 'optimizer.sam': rho}), one)
  np.testing.assert_array_equal(state.params['smile']['kernel'], parameters()['smile']['kernel'])
  assert (state.params['smile']['bias'] != 0).all()


def test_class_weights_multiply_their_class():
  one, weights = batch(), {'smile': np.array([0.5, 3.0], np.float32)}
  _, tally = take(config(), one, class_weights=weights)
  np.testing.assert_allclose(
    tally.task_losses['smile'], 6 * expected('smile', one, 'all', (0.5, 3.0))[0], rtol=1e-5
  )
  np.testing.assert_allclose(
    tally.task_losses['gender'], 6 * expected('gender', one, 'all')[0], rtol=1e-5
  )


def test_an_unlabelled_task_keeps_its_parameters_exactly():
  one = batch(known={'smile': np.ones(6, bool), 'gender': np.zeros(6, bool)})
  state, tally = take(config(), one)
  np.testing.assert_array_equal(state.params['gender']['kernel'], parameters()['gender']['kernel'])
  np.testing.assert_array_equal(state.params['gender']['bias'], 0.0)
  assert (state.params['smile']['kernel'] != parameters()['smile']['kernel']).any()
  assert (tally.task_losses['gender'], tally.counts['gender']['n']) == (0, 0)


def test_the_tally_adds_up():
  batches = [batch(seed=seed) for seed in range(3)]
  _, tally = take(config(), *batches)
  assert tally.steps == 3
  for task in TASKS:
    assert tally.counts[task]['n'] == sum(one['mask'][task].sum() for one in batches)
    labels = np.concatenate([one['labels'][task][one['mask'][task]] for one in batches])
    np.testing.assert_array_equal(
      tally.counts[task]['confusion'].sum(axis=1), np.bincount(labels, minlength=2)
    )
  single = [take(config(), *batches[: n + 1])[1].loss for n in range(3)]
  assert single[0] < single[1] < single[2] == tally.loss


def test_statistics_are_those_of_the_weights_and_not_of_the_point_uphill():
  # Its statistic depends on the weights of one class: a softmax moves the sum over classes by 0.
  class Moves(Linear):
    def train_scores(self, params, stats, images, key):
      scores, _ = super().train_scores(params, stats, images, key)
      return scores, {'mean': params['smile']['kernel'][:, 0].sum()}

  state, _ = take(config(**{'optimizer.sam': 0.3}), batch(), network=Moves())
  np.testing.assert_allclose(
    state.stats['mean'], parameters()['smile']['kernel'][:, 0].sum(), rtol=1e-5
  )


def test_the_first_bad_step_is_remembered():
  class Breaks(Linear):
    def train_scores(self, params, stats, images, key):
      scores, stats = super().train_scores(params, stats, images, key)
      bad = images.max() > 0.995  # a pixel of 255
      return {task: jnp.where(bad, jnp.nan, x) for task, x in scores.items()}, stats

  good, bad = batch(), batch()
  good['image'] = np.minimum(good['image'], 254)
  bad['image'][2] = 255
  assert take(config(), good, good, network=Breaks())[1].first_bad_step == NEVER
  # Steps are counted from 1 where they are shown: the third batch is step 3.
  assert take(config(), good, good, bad, good, network=Breaks())[1].first_bad_step == 3


def test_dropout_differs_between_steps_and_not_between_runs():
  noisy = Linear()
  noisy.noise = 1.0
  still = config(
    **{'tasks.smile.weight': 0.0, 'tasks.gender.weight': 0.0}
  )  # nothing moves: only the noise differs
  first, both, again = (
    take(still, *[batch()] * n, network=noisy)[1].task_losses['smile'] for n in (1, 2, 1)
  )
  assert first == again
  assert both - first != first
  other = config(**{'tasks.smile.weight': 0.0, 'tasks.gender.weight': 0.0, 'seed': 1})
  assert take(other, batch(), network=noisy)[1].task_losses['smile'] != first


def test_augmentation_follows_the_position_and_not_the_place_in_the_batch():
  turned = config(**{'augment.flip': True, 'augment.rotate': 30.0, 'augment.pad': 1})
  one = batch(known={task: np.ones(6, bool) for task in TASKS})
  order = np.array([3, 0, 5, 1, 4, 2])
  moved = jax.tree.map(lambda x: x[order], one)
  elsewhere = {**one, 'position': one['position'] + 6}
  losses = [float(take(turned, x)[1].loss) for x in (one, moved, elsewhere)]
  np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
  assert abs(losses[0] - losses[2]) > 1e-4


def test_an_unknown_loss():
  with pytest.raises(
    UserError, match=r"config.tasks.smile.loss 'hinge' is unknown; there are softmax_cross_entropy"
  ):
    take(config(**{'tasks.smile.loss': 'hinge'}), batch())
