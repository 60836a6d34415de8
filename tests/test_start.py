import numpy as np
import pytest

from mtface.errors import UserError
from mtface.start import graft


def tree(value, *tasks, classes=2):
  trunk = {'blocks': {0: {'kernel': np.full((3, 4), value), 'bias': np.full(4, value)}}}
  return trunk | {'branches': {task: {'kernel': np.full((4, classes), value)} for task in tasks}}


def values(found):
  """{the trunk's or a task's name: the one value of its arrays}."""
  trunk = {float(x) for leaf in found['blocks'][0].values() for x in np.unique(leaf)}
  heads = {task: set(np.unique(head['kernel'])) for task, head in found['branches'].items()}
  return {'trunk': trunk} | heads


def test_everything_that_is_there_is_taken():
  assert values(graft(tree(0.0, 'smile'), tree(1.0, 'smile'), (), 'x')) == {'trunk': {1.0}, 'smile': {1.0}}


def test_heads_of_other_tasks_are_left_behind_and_new_ones_drawn():
  found = graft(tree(0.0, 'smile', 'gender'), tree(1.0, 'gender', 'age_group'), (), 'x')
  assert values(found) == {'trunk': {1.0}, 'smile': {0.0}, 'gender': {1.0}}


def test_what_is_asked_for_is_drawn():
  found = graft(tree(0.0, 'smile'), tree(1.0, 'smile'), ('branches/smile', 'blocks/0/bias'), 'x')
  np.testing.assert_array_equal(found['blocks'][0]['bias'], 0.0)
  np.testing.assert_array_equal(found['blocks'][0]['kernel'], 1.0)
  assert values(found)['smile'] == {0.0}


def test_a_head_of_other_classes_must_be_drawn():
  mine, theirs = tree(0.0, 'identity', classes=5), tree(1.0, 'identity', classes=9)
  with pytest.raises(
    UserError, match=r'^from y: branches/identity/kernel is \(4, 9\), the network wants \(4, 5\); name it in '
  ):
    graft(mine, theirs, (), 'from y')
  assert values(graft(mine, theirs, ('branches',), 'x')) == {'trunk': {1.0}, 'identity': {0.0}}


def test_a_trunk_must_fit():
  without = tree(1.0, 'smile')
  del without['blocks'][0]['bias']
  with pytest.raises(UserError, match=r'^x: blocks/0/bias is not there, the network wants \(4,\)'):
    graft(tree(0.0, 'smile'), without, (), 'x')
  with pytest.raises(UserError, match=r'^x: blocks/0/bias \(and 0 more\) has no place in the network'):
    graft(without, tree(0.0, 'smile'), (), 'x')
