import pytest

from mtface.config.schema import source
from mtface.report.words import in_words, of_source, of_task
from mtface.tasks import get_task
from tests.tiny import get_config


@pytest.mark.parametrize(
  ('name', 'words'),
  [
    ('fer2013/gray48:train', 'fer2013/gray48, split train'),
    (
      'genki4k/gray48:train[fold!=0/4]',
      'genki4k/gray48, split train, all folds but 0 of 4 (folds keep people and copies of a '
      'picture together)',
    ),
    (
      'lfw/rgb64_158:train[fold=1/5,by=image]',
      'lfw/rgb64_158, split train, only fold 1 of 5 (folds keep images together)',
    ),
    (
      'wiki/gray48:train[take=4200,after=30000,seed=3]',
      'wiki/gray48, split train, 4,200 faces drawn by seed 3 after the first 30,000',
    ),
    (
      'imdb/rgb224:train[upto=264251,seed=0]',
      'imdb/rgb224, split train, up to 264,251 faces drawn by seed 0',
    ),
    (
      'emotionet/rgb32:train[each!=15,of=compound8,seed=0]',
      'emotionet/rgb32, split train, all but 15 faces of each class of compound8, drawn by seed 0',
    ),
    (
      'utkface/rgb224:train[gender=1,age_years=21-60]',
      'utkface/rgb224, split train, with gender 1, with age_years 21 to 60',
    ),
  ],
)
def test_sources(name, words):
  assert of_source(name) == words


def test_tasks():
  assert of_task(get_task('smile')) == 'smile (no_smile, smile)'
  assert of_task(get_task('identity:9131')) == 'identity:9131 (9,131 classes)'
  assert of_task(get_task('action_units')).startswith('action_units (each yes or no: AU1, AU2')


def test_an_experiment():
  network, data, training, measured = in_words(get_config())
  assert 'bknet' in network and '16x16 pixels in grey and answers 2 tasks' in network
  assert 'tiny/people:train' not in data
  assert 'tiny/people, split train, for gender; tiny/smile, split train, for smile' in data
  assert 'drawn at random with seed 0' in training
  assert '12 steps in batches of 8 with sgd, at a learning rate of 0.01' in training
  assert measured.startswith('It is measured on people (tiny/people, split test)')


def test_what_is_unlike_the_usual_is_said():
  config = get_config()
  config.start.weights, config.freeze.params = 'runs/a@best', ('trunk',)
  config.tasks.smile.weight = 0.5
  config.tasks.smile.class_weights = 'balanced'
  config.optimizer.sam = 0.05
  config.outputs.layer = 'union'
  config.sources.all = source('tiny/all:train')
  config.evaluation.best_on = ('people',)
  network, data, training, measured = in_words(config)
  assert 'one output layer over the union' in network
  assert 'tiny/all, split train, for all of its labels' in data
  assert 'taken from runs/a@best' in training and 'stay as they are: trunk' in training
  assert 'SAM of radius 0.05' in training
  assert 'smile softmax cross entropy times 0.5, classes weighted equally' in training
  assert measured.endswith('The best checkpoint is chosen on people.')
