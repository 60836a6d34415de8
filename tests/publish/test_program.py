"""Programs against the scores of their networks, read out by NumPy."""

import dataclasses

import jax
import numpy as np
import pytest
from jax import export

from mtface.publish.program import Program
from tests.publish.programs import FAMILIES, config_of, expected, images_of, program_of


def close(program, config, said, seeds=(0,)):
  wanted = expected(config, seeds)
  assert set(program.tasks) == set(wanted)
  assert max(np.ptp(rows, axis=0).max() for rows in wanted.values()) > 5e-5, 'images differ'
  for task, found in zip(program.tasks, said, strict=True):
    np.testing.assert_allclose(found, wanted[task], atol=1e-5, err_msg=task)


# RexNet takes half a minute to compile twice; test_export.py has it too.
@pytest.mark.parametrize('family', [of for of in FAMILIES if of != 'rexnet'])
def test_a_program_says_what_the_network_does(family):
  config = config_of(family)
  program = program_of(config)
  assert program.image_shape == tuple(config.image_shape)
  close(program, config, jax.jit(program.answers)(images_of(config)))


@pytest.mark.parametrize(
  'form',
  [
    {'layer': 'union', 'tasks': ('emotion7', 'compound_emotion', 'action_units')},
    {'loss': 'multiclass_squared_hinge', 'tasks': ('smile', 'age_years')},
    {'loss': 'sigmoid_cross_entropy', 'tasks': ('emotion7', 'gender')},
  ],
)
def test_unions_margins_and_sigmoids_of_single_labels(form):
  config = config_of('bknet', **form)
  program = program_of(config)
  close(program, config, jax.jit(program.answers)(images_of(config)))


def test_an_ensemble_is_the_mean_of_probabilities():
  config = config_of('bknet')
  program = program_of(config, (0, 1, 2))
  close(program, config, jax.jit(program.answers)(images_of(config)), (0, 1, 2))


def test_probabilities_have_their_temperature():
  config = config_of('bknet')
  program = dataclasses.replace(
    program_of(config, (0, 1)), temperatures={'emotion8': 1.7, 'action_units': 0.6}
  )
  said = dict(zip(program.tasks, jax.jit(program.answers)(images_of(config)), strict=True))
  wanted = expected(config, (0, 1))
  powers = wanted['emotion8'] ** (1 / 1.7)  # of a softmax, exp(log p / T)
  np.testing.assert_allclose(
    said['emotion8'], powers / powers.sum(axis=1, keepdims=True), atol=1e-5
  )
  odds = (wanted['action_units'] / (1 - wanted['action_units'])) ** (1 / 0.6)
  np.testing.assert_allclose(said['action_units'], odds / (1 + odds), atol=1e-5)
  np.testing.assert_allclose(said['age_years'], wanted['age_years'], atol=1e-5)


def test_a_saved_program_is_the_same(tmp_path):
  config = config_of('mbknet')
  program = dataclasses.replace(program_of(config, (0, 1)), temperatures={'age_years': 2.0})
  program.save(tmp_path)
  found = Program.load(tmp_path)
  assert (found.tasks, found.temperatures) == (program.tasks, program.temperatures)
  images = images_of(config)
  for ours, theirs in zip(
    jax.jit(program.answers)(images), jax.jit(found.answers)(images), strict=True
  ):
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize('family', FAMILIES)
def test_batches_of_any_size_can_be_traced(family):
  config = config_of(family)
  (batch,) = export.symbolic_shape('N')
  images = jax.ShapeDtypeStruct((batch, *config.image_shape), np.uint8)
  shapes = jax.eval_shape(program_of(config).answers, images)
  assert {of.shape[0] for of in shapes} == {batch}


def test_a_network_in_bfloat16_is_computed_in_float32():
  config = config_of('bknet')
  program = program_of(config)
  exact = jax.jit(program.answers)(images_of(config))
  config.model.dtype = 'bfloat16'
  for ours, theirs in zip(
    jax.jit(program_of(config).answers)(images_of(config)), exact, strict=True
  ):
    np.testing.assert_array_equal(ours, theirs)
