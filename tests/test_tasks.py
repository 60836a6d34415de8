"""Label spaces: sizes and orders against the papers and the sets' own files; errors that say what to do."""

import pytest

from mtface import errors, tasks


def test_sizes_are_those_of_the_papers():
  sizes = {name: task.num_classes for name, task in tasks.TASKS.items()}
  assert sizes == {
    'smile': 2,
    'emotion7': 7,
    'emotion8': 8,
    'gender': 2,
    'age_years': 117,
    'age_group': 6,
    'ethnicity5': 5,
    'ethnicity7': 7,
    'age_decades': 9,
    'group_emotion': 3,
    'action_units': 11,
    'compound_emotion': 16,
    'celeba_attributes': 40,
  }


def test_orders_that_outside_files_fix():
  assert tasks.TASKS['emotion7'].classes == ('angry', 'disgust', 'fear', 'happy', 'sad', 'surprise', 'neutral')
  assert tasks.TASKS['emotion8'].classes == (*tasks.TASKS['emotion7'].classes, 'contempt')
  assert tasks.TASKS['gender'].classes == ('female', 'male')
  assert tasks.TASKS['ethnicity5'].classes == ('white', 'black', 'asian', 'indian', 'other')
  assert tasks.TASKS['group_emotion'].classes == ('positive', 'neutral', 'negative')
  # Zero-based columns of list_attr_celeba.txt, counted in the file.
  celeba = tasks.TASKS['celeba_attributes'].classes
  assert [celeba.index(name) for name in ('5_o_Clock_Shadow', 'Male', 'Smiling', 'Young')] == [0, 20, 31, 39]
  assert tasks.TASKS['action_units'].classes[6] == 'AU12'


def test_label_shapes():
  assert tasks.TASKS['smile'].label_shape == ()
  assert tasks.TASKS['action_units'].label_shape == (11,)
  assert {name for name, task in tasks.TASKS.items() if task.multi_label} == {'action_units', 'celeba_attributes'}


def test_only_age_years_has_values():
  assert [name for name, task in tasks.TASKS.items() if task.values is not None] == ['age_years']
  assert tasks.TASKS['age_years'].values[30] == 30.0
  assert tasks.TASKS['age_years'].classes[116] == '116'


@pytest.mark.parametrize(
  ('age', 'group'),
  [
    (0, 0),
    (15, 0),
    (15.9, 0),
    (16, 1),
    (25, 1),
    (26, 2),
    (35, 2),
    (36, 3),
    (45, 3),
    (46, 4),
    (60, 4),
    (61, 5),
    (116, 5),
  ],
)
def test_age_to_group(age, group):
  assert tasks.age_to_group(age) == group


@pytest.mark.parametrize('age', [-1, float('nan')])
def test_age_to_group_refuses(age):
  with pytest.raises(ValueError, match='expected 0 or more'):
    tasks.age_to_group(age)


def test_age_groups_are_named_after_their_members():
  for name in tasks.TASKS['age_group'].classes:
    lowest = int(name.rstrip('+').split('-')[0])
    assert tasks.TASKS['age_group'].classes[tasks.age_to_group(lowest)] == name


def test_get_task():
  assert tasks.get_task('smile') is tasks.TASKS['smile']
  identity = tasks.get_task('identity:9131')
  assert (identity.name, identity.kind, identity.num_classes) == ('identity:9131', 'identity', 9131)
  assert tasks.get_task('smile').kind == 'smile'


@pytest.mark.parametrize(
  'name', ['smiles', '', 'smile:2', 'identity', 'identity:', 'identity:x', 'identity:1', 'identity:-3']
)
def test_get_task_errors_are_one_line_with_a_remedy(name):
  with pytest.raises(errors.UserError) as error:
    tasks.get_task(name)
  message = str(error.value)
  assert '\n' not in message
  assert f"'{name}'" in message
  assert 'identity:N' in message


def test_a_task_checks_itself():
  with pytest.raises(ValueError, match='repeat'):
    tasks.Task('twice', ('a', 'a'))
  with pytest.raises(ValueError, match='1 values for 2 classes'):
    tasks.Task('ages', ('a', 'b'), values=(1.0,))
