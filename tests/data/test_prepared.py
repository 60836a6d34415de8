import json

import pytest

from mtface import tasks
from mtface.data.prepared import check_words, described
from mtface.data.sources import load_source
from mtface.errors import UserError
from mtface.tasks import Task, register
from tests.fakes import write_prepared

WORDS = ('calm', 'cross')


@pytest.fixture(autouse=True)
def own_tasks(monkeypatch):
  monkeypatch.setattr(tasks, 'TASKS', dict(tasks.TASKS))


@pytest.fixture
def a_set(tmp_path):
  """A prepared set with moods of its own words, as its build left it."""
  register(Task('mood', WORDS))
  folder = write_prepared(tmp_path, 'mine/trip', {'train': 6}, {'mood': 1.0, 'smile': 1.0})
  counts = {'mood': dict.fromkeys(WORDS, 3), 'smile': {'no_smile': 3, 'smile': 3}}
  summary = {'records': {'train': 6}, 'labels': {'train': counts}}
  (folder / 'build_summary.json').write_text(json.dumps(summary))
  return folder


def test_described(a_set, tmp_path):
  tasks.TASKS.pop('mood')
  found = described('mine/trip', tmp_path)
  assert found.tasks == (Task('mood', WORDS), tasks.get_task('smile'))
  assert (found.splits, found.image_shape) == ({'train': 6}, (16, 16, 1))


def test_a_set_keeps_its_own_words(a_set, tmp_path):
  """Another set may have called other words mood before, in the same process."""
  tasks.TASKS['mood'] = Task('mood', ('cross', 'calm'))
  assert described('mine/trip', tmp_path).tasks[0].classes == WORDS


def test_words_of_another_set_are_not_taken_for_its_own(a_set, tmp_path):
  assert len(load_source('mine/trip:train', tmp_path, ['mood'])) == 6
  tasks.TASKS['mood'] = Task('mood', ('cross', 'calm'))  # as many: labels would fit
  with pytest.raises(
    UserError, match='mine/trip: its classes of mood are calm, cross; expected cross, calm'
  ):
    load_source('mine/trip:train', tmp_path, ['mood'])
  assert len(load_source('mine/trip:train', tmp_path, ['smile'])) == 6


def test_a_set_without_a_summary_is_believed(a_set, tmp_path):
  (a_set / 'build_summary.json').unlink()
  check_words('mine/trip', ['mood'], tmp_path)


@pytest.mark.parametrize('content', ['{', '{"records": {}}', '{"records": {}, "labels": {}}'])
def test_a_damaged_summary(a_set, tmp_path, content):
  (a_set / 'build_summary.json').write_text(content)
  with pytest.raises(UserError, match='mine/trip'):
    described('mine/trip', tmp_path)
