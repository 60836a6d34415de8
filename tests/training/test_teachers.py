"""Teachers: what they say of which faces, in batches and from the devices; who cannot teach."""

import jax
import numpy as np
import pytest

from mtface.config.schema import source, task, teacher
from mtface.config.stages import stage
from mtface.data.loader import BatchSource, DrawSource
from mtface.errors import UserError
from mtface.evaluation.evaluator import Evaluator
from mtface.parallel import resident
from mtface.parallel.sharding import make_mesh
from mtface.training import loop
from mtface.training.checks import check_experiment
from mtface.training.logs import read_metrics
from mtface.training.run import plan
from mtface.training.selection import Selection
from mtface.training.teachers import taught
from tests.tiny import get_config


def student(tiny_run, **changes):
  config = get_config()
  config.teachers = {'old': teacher(f'{tiny_run}@8', 'smile', **changes)}
  return config


@pytest.mark.parametrize('where', ['unlabelled', 'all'])
def test_what_is_said_of_whom(tiny_run, tiny_data, where):
  config = student(tiny_run, where=where, temperature=2.0)
  run = taught(plan(config, tiny_data), tiny_run, make_mesh())
  evaluator = Evaluator(tiny_run, tiny_data)
  ((params, stats),) = evaluator.networks(Selection.parse('8'))
  for of in run.sources:
    scores = evaluator.scorer.scores(params, stats, of)['smile'].astype(np.float64) / 2
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(of.shares['smile'], expected, atol=1e-3)
    labelled = of.mask['smile'] if 'smile' in of.labels else np.zeros(len(of), bool)
    np.testing.assert_array_equal(of.taught['smile'], ~labelled if where == 'unlabelled' else True)
  assert sum(of.taught['smile'].sum() for of in run.sources) > 0


def test_what_is_said_of_a_face_and_its_mirror_image(tiny_run, tiny_data):
  config = student(tiny_run)
  config.teachers.old.weights = f'{tiny_run}@8:flip'
  run = taught(plan(config, tiny_data), tiny_run, make_mesh())
  evaluator = Evaluator(tiny_run, tiny_data)
  networks = evaluator.networks(Selection.parse('8'))
  of = run.sources[0]
  images = of.gather(np.arange(len(of)))
  mirrored = np.ascontiguousarray(images[:, :, ::-1])
  seen = [evaluator.of_images(networks, x, len(x))['smile'] for x in (images, mirrored)]
  assert np.abs(seen[0] - seen[1]).max() > 0.01
  np.testing.assert_allclose(of.shares['smile'], np.mean(seen, axis=0), atol=1e-3)


def test_batches_have_it_wherever_images_are(tiny_run, tiny_data):
  run = taught(plan(student(tiny_run), tiny_data), tiny_run, make_mesh())
  one = BatchSource(run.sources, run.mixture, 8)[3]
  drawn = DrawSource(run.sources, run.mixture, 8)[3] | {'stop': np.zeros(8, np.int32)}
  data = resident.place_sources(run.sources, make_mesh())
  there = resident.gathered(data, drawn, run.config.image_shape)
  for name in ('shares', 'taught'):
    np.testing.assert_array_equal(one[name]['smile'], there[name]['smile'])
  assert one['taught']['smile'].any() and one['shares']['smile'].dtype == np.float16
  shapes = BatchSource(run.sources, run.mixture, 8).shapes()
  assert jax.tree.map(lambda x: x.shape, shapes)['shares'] == {'smile': (8, 2)}


def test_a_stage_teaches_the_next(tiny_data, tmp_path):
  config = get_config()
  config.stages = ('first', 'second')
  config.stage.first = stage({'duration': '4 steps'})
  config.stage.second = stage({'duration': '4 steps'})
  config.stage.second.teachers = {'first': teacher('stage:first', 'smile', 'gender', weight=0.5)}
  state = loop.train(config, tmp_path / 'run', tiny_data)
  again = loop.train(config, tmp_path / 'run', tiny_data)  # it is trained already
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), jax.device_get(again))
  with_teacher = read_metrics(tmp_path / 'run' / 'stages' / 'second')
  config.stage.second.teachers.first.weight = 0.0
  loop.train(config, tmp_path / 'without', tiny_data)
  without = read_metrics(tmp_path / 'without' / 'stages' / 'second')
  assert with_teacher[0]['train/loss'] > without[0]['train/loss'] + 0.1  # another term
  assert with_teacher[0]['train/smile/loss'] != without[0]['train/smile/loss']


def refusal(config, tiny_data):
  with pytest.raises(UserError) as error:
    check_experiment(config, tiny_data)
  return str(error.value)


def test_who_cannot_teach(tiny_run, tiny_data):
  assert check_experiment(student(tiny_run), tiny_data)
  config = student(tiny_run, where='here')
  assert "config.teachers.old.where: 'here' is unknown" in refusal(config, tiny_data)
  config = student(tiny_run)
  config.teachers.old.tasks = ('age',)
  assert "config.teachers.old.tasks: 'age' is no task of this stage" in refusal(config, tiny_data)
  config.teachers.old.tasks = ()
  assert 'names no task to teach' in refusal(config, tiny_data)
  config = student(tiny_run)
  config.tasks.smile = task('multiclass_squared_hinge')
  assert 'takes no shares of classes; softmax_cross_entropy' in refusal(config, tiny_data)
  config = student(tiny_run)
  config.teachers.old.weights = f'{tiny_run}@5'
  assert 'has no checkpoint of step 5' in refusal(config, tiny_data)
  config.teachers.old.weights = 'nowhere'
  found = refusal(config, tiny_data)
  assert found.startswith('config.teachers.old.weights: nowhere/config.json: not found; expected')
  config.teachers.old.weights = f'{tiny_run}@ensemble:2'
  assert '.weights: @ensemble:2: a teacher is one checkpoint' in refusal(config, tiny_data)
  config.teachers.old.weights = 'stage:before'
  assert "config.teachers.old.weights: 'before' is not an earlier" in refusal(config, tiny_data)
  config = student(tiny_run, temperature=0.0)
  assert 'config.teachers.old.temperature: 0.0 is out of range' in refusal(config, tiny_data)


def test_a_teacher_that_has_seen_a_test_face_is_refused(tiny_run, tiny_data):
  config = student(tiny_run)
  config.evaluation.sets.seen = source('tiny/smile:train', 'smile')
  found = refusal(config, tiny_data)
  assert found.startswith('config.teachers.old: was trained on tiny/')
  assert 'which has 24 of the faces that config.evaluation.sets.seen tests on' in found
