import pytest

from mtface.errors import UserError
from mtface.tasks import Task, get_task
from tfds_builders import own_cells

LEVELS = Task('level', ('1', '2', '3'))


@pytest.mark.parametrize(
  ('task', 'text', 'expected'),
  [
    (get_task('smile'), 'YES', 1),
    (get_task('smile'), '0.0', 0),
    (get_task('emotion7'), 'Fear', 2),
    (get_task('emotion7'), '6', 6),
    (get_task('emotion7'), '6.0', 6),
    (get_task('age_years'), '0.9', 0),
    (get_task('age_years'), '116.9', 116),
    (LEVELS, '1', 0),
    (LEVELS, '3.0', 2),
    (LEVELS, '', None),
  ],
)
def test_a_name_or_a_number(task, text, expected):
  assert own_cells.label_in(text, task, 'here') == expected


@pytest.mark.parametrize(
  ('task', 'text', 'expected'),
  [
    (get_task('emotion7'), '7', 'surprise, neutral, their numbers 0 to 6, or nothing'),
    (get_task('emotion7'), '-1', 'their numbers 0 to 6'),
    (get_task('emotion7'), '1.5', 'their numbers 0 to 6'),
    (get_task('age_years'), '117', 'expected 0 to 116, or nothing'),
    (get_task('age_years'), 'inf', 'expected 0 to 116, or nothing'),
    (LEVELS, '0', 'expected 1, 2, 3, or nothing'),  # a number is a name here, never a place
  ],
)
def test_no_class(task, text, expected):
  with pytest.raises(UserError, match=f'^here: found {text!r}; ') as error:
    own_cells.label_in(text, task, 'here')
  assert expected in str(error.value)


def test_own_words_are_in_order():
  words = ['10', 'b', '2', 'A', '', '2', '1.5']
  assert own_cells.own_words(enumerate(words), '') == ('1.5', '2', '10', 'A', 'b')
