"""Programs by shapes alone: FLOPs against a count by hand, and what they take."""

import jax
import pytest

from mtface.compiled.abstract import abstract_program, weighted
from mtface.config.schema import experiment, source, task
from mtface.models.paths import by_path
from mtface.training.gradients import ALL


def get_config(tasks=('smile',), size=16, width=1.0):
  config = experiment()
  for name in tasks:
    config.tasks[name] = task()
  config.sources.faces = source('faces', *tasks)
  config.image_shape, config.model.width = (size, size, 1), width
  return config


def products(size: int, classes: int) -> tuple[int, int]:
  """FLOPs of (BKNet's forward pass, the input gradient of its first layer) for one image, counted
  layer by layer: two for each pair of numbers, without those beyond the border: of 3 x n taps along
  a side, the first pixel lacks one, and the last.
  """
  total, channels = 0, 1
  first = 0
  for block in ((32, 32), (64, 64), (128, 128), (256, 256, 256)):
    for out in block:
      layer = 2 * channels * out * (3 * size - 2) ** 2
      first = first or layer
      total, channels = total + layer, out
    size //= 2
  features = channels * size * size
  for out in (256, 256, classes):
    total, features = total + 2 * features * out, out
  return total, first


def test_flops_of_an_evaluation():
  forward, _ = products(16, 2)
  counted = abstract_program(get_config(), 'evaluate').flops(4) / 4
  assert forward < counted < 1.03 * forward  # with norms, pools, scaling


def test_flops_of_a_training_step():
  """Each product has two gradients, except that images need none."""
  forward, first = products(16, 2)
  images = 64
  counted = abstract_program(get_config(), 'train').flops(images) / images
  expected = 3 * forward - first
  assert expected < counted < 1.06 * expected


def test_a_step_takes_the_state_and_a_batch():
  program = abstract_program(get_config(('smile', 'gender'), width=1 / 32), 'train')
  state, tally, batch = program.arguments(6)
  assert {x.shape[0] for x in jax.tree.leaves(batch)} == {6}
  assert batch['image'].shape == (6, 16, 16, 1)
  assert sorted(batch['labels']) == ['gender', 'smile']
  jax.eval_shape(program.function, state, tally, batch)


def test_norms_of_the_gradient_are_part_of_the_step():
  config = get_config(width=1 / 32)
  config.log_gradients = True
  _, tally, _ = abstract_program(config, 'train').arguments(2)
  assert ALL in tally.gradients


def test_class_weights_are_ones_and_told():
  config = get_config(('emotion7', 'smile'), width=1 / 32)
  assert weighted(config) == []
  config.tasks.emotion7.class_weights = 'balanced'
  assert weighted(config) == ['emotion7']
  program = abstract_program(config, 'train')
  after, _ = jax.eval_shape(program.function, *program.arguments(2))
  assert by_path(after.params)


def test_a_union_of_label_spaces_can_be_compiled():
  config = get_config(('emotion7', 'action_units'), width=1 / 32)
  for name in config.tasks:
    config.tasks[name] = task('sigmoid_cross_entropy')
  config.outputs.layer = 'union'
  program = abstract_program(config, 'train')
  jax.eval_shape(program.function, *program.arguments(2))


@pytest.mark.parametrize('program', ['train', 'evaluate'])
def test_sam_computes_two_gradients_in_training_alone(program):
  config = get_config(width=1 / 8)
  one = abstract_program(config, program).flops(8)
  config.optimizer.sam = 0.05
  ratio = abstract_program(config, program).flops(8) / one
  assert 1.8 < ratio < 2.1 if program == 'train' else ratio == 1
