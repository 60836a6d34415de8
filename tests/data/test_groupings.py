"""Groups that training balances."""

import numpy as np
import pytest

from mtface.data.groupings import balanced_groups
from mtface.data.sources import load_source
from mtface.errors import UserError
from mtface.training.run import plan
from tests.fakes import write_prepared
from tests.tiny import get_config


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('groups')
  people = {'gender': 1.0, 'ethnicity5': 0.8}
  write_prepared(folder, 'tiny/people', {'train': 60, 'test': 8}, people)
  write_prepared(folder, 'tiny/smile', {'train': 20, 'test': 8}, {'smile': 1.0})
  return folder


def test_groups_of_all_names_that_a_source_has(data_dir):
  names = ('tiny/smile:train', 'tiny/people:train[fold!=0/4]')
  sources = [load_source(names[0], data_dir), load_source(names[1], data_dir, ('gender',))]
  found = balanced_groups(sources, data_dir, ('gender', 'ethnicity5'))
  assert list(found) == [1]
  whole = load_source(names[1], data_dir)
  known = whole.mask['ethnicity5']
  np.testing.assert_array_equal(found[1] < 0, ~known)
  pairs = 5 * whole.labels['gender'] + whole.labels['ethnicity5']
  for code in np.unique(found[1][known]):
    assert len(set(pairs[found[1] == code].tolist())) == 1
  assert len(np.unique(found[1][known])) == len(np.unique(pairs[known]))


def test_a_run_draws_them_equally(data_dir):
  config = get_config()
  config.balance = ('ethnicity5',)
  run = plan(config, data_dir)
  people = list(config.sources).index('people')
  draws = run.mixture.epoch(0)
  rows = draws.row[draws.source == people]
  whole = load_source('tiny/people:train', data_dir)
  drawn = whole.labels['ethnicity5'][rows][whole.mask['ethnicity5'][rows]]
  counts = np.bincount(drawn, minlength=5)
  assert counts.max() - counts.min() <= 1 and counts.sum() == 48
  config.balance = ('light',)
  with pytest.raises(
    UserError, match=r"config\.balance: no source has a label or attribute 'light'"
  ):
    plan(config, data_dir)
