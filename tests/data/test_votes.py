"""Votes in place of one label: their shares, in batches, in the loss and in the counts."""

import numpy as np
import pytest

from mtface.config.schema import source, task
from mtface.data.loader import BatchSource
from mtface.data.sources import load_source
from mtface.data.votes import with_votes
from mtface.errors import UserError
from mtface.training import loop
from mtface.training.checks import check_experiment
from mtface.training.logs import read_metrics
from mtface.training.run import plan
from tests.fakes import write_prepared
from tests.tiny import get_config

VOTES = np.array([[3, 1], [0, 0], [2, 2], [0, 5]])  # of face i: VOTES[i % 4]


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  import tensorflow_datasets as tfds

  folder = tmp_path_factory.mktemp('votes')
  feature = tfds.features.Tensor(shape=(2,), dtype=np.int32)
  attributes = {'votes_smile': (feature, lambda i: VOTES[i % 4].astype(np.int32))}
  sizes = {'train': 40, 'test': 8}
  write_prepared(folder, 'tiny/voted', sizes, {'smile': 0.5}, attributes=attributes)
  write_prepared(folder, 'tiny/smile', sizes, {'smile': 1.0}, seed=1)
  write_prepared(folder, 'tiny/people', sizes, {'gender': 1.0}, seed=2)
  return folder


def config_of(**options):
  config = get_config()
  config.tasks.smile = task(votes=True, **options)
  config.sources.voted = source('tiny/voted:train', 'smile')
  return config


def test_labels_become_shares_of_those_who_chose_a_class(data_dir):
  found = load_source('tiny/voted:train', data_dir)
  (voted,) = with_votes([found], 'smile')
  votes = found.attributes['votes_smile']
  known = votes.sum(axis=1) > 0
  np.testing.assert_array_equal(voted.mask['smile'], known)
  expected = votes[known] / votes[known].sum(axis=1, keepdims=True)
  np.testing.assert_allclose(voted.labels['smile'][known], expected, rtol=1e-6)
  assert known.sum() == 30 and not found.mask['smile'].all(), 'also those without a label'


def test_batches_have_shares_of_every_source(data_dir):
  run = plan(config_of(), data_dir)
  batches = BatchSource(run.sources, run.mixture, 64)
  batch = batches[0]
  names = np.array(list(run.config.sources))[batch['source']]
  plain = (names == 'smiles') & batch['mask']['smile']
  voted = (names == 'voted') & batch['mask']['smile']
  shares = batch['labels']['smile']
  assert shares.dtype == np.float32 and plain.any() and voted.any()
  assert set(shares[plain].max(axis=1)) == {1.0}
  assert set(shares[voted][:, 0]) == {0.75, 0.5, 0.0}
  np.testing.assert_array_equal(shares[plain | voted].sum(axis=1), 1)
  shapes = batches.shapes()
  assert shapes['labels']['smile'].shape == (64, 2) and shapes['mask']['smile'].shape == (64,)


def test_it_trains(data_dir, tmp_path):
  config = config_of(class_weights='balanced')
  config.duration = '4 steps'
  loop.train(config, tmp_path / 'run', data_dir)
  lines = read_metrics(tmp_path / 'run')
  values = {key: x for line in lines for key, x in line.items()}
  assert np.isfinite(values['train/smile/loss']) and 0 <= values['train/smile/accuracy'] <= 1


def test_what_cannot_be(data_dir):
  config = get_config()
  config.tasks.gender.votes = True
  with pytest.raises(UserError, match=r'tasks\.gender\.votes: no source has votes of gender'):
    plan(config, data_dir)
  with pytest.raises(UserError, match=r'smile\.votes: multiclass_squared_hinge takes one label'):
    check_experiment(config_of(loss='multiclass_squared_hinge'), data_dir)
