"""Label spaces: sizes and orders against the papers and the sets' own files; errors that say what
to do.
"""

import pytest

from mtface import errors, outputs, tasks


def test_sizes_are_those_of_the_papers():
  # Of mtface's own: modules of users register more.
  sizes = {
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
    'compound8': 8,
    'celeba_attributes': 40,
  }
  assert sizes.items() <= {name: task.num_classes for name, task in tasks.TASKS.items()}.items()


def test_orders_that_outside_files_fix():
  assert tasks.TASKS['emotion7'].classes == (
    'angry',
    'disgust',
    'fear',
    'happy',
    'sad',
    'surprise',
    'neutral',
  )
  assert tasks.TASKS['emotion8'].classes == (*tasks.TASKS['emotion7'].classes, 'contempt')
  assert tasks.TASKS['gender'].classes == ('female', 'male')
  assert tasks.TASKS['ethnicity5'].classes == ('white', 'black', 'asian', 'indian', 'other')
  assert tasks.TASKS['group_emotion'].classes == ('positive', 'neutral', 'negative')
  # Zero-based columns of list_attr_celeba.txt, counted in the file.
  celeba = tasks.TASKS['celeba_attributes'].classes
  assert [celeba.index(name) for name in ('5_o_Clock_Shadow', 'Male', 'Smiling', 'Young')] == [
    0,
    20,
    31,
    39,
  ]
  assert tasks.TASKS['action_units'].classes[6] == 'AU12'


# Copied from outside: EmotioNet's challenge and Pons 2018, section 4; FairFace's predict.py;
# list_attr_celeba.txt; FairFace's csv.
CLASSES = {
  'smile': 'no_smile smile',
  'emotion7': 'angry disgust fear happy sad surprise neutral',
  'emotion8': 'angry disgust fear happy sad surprise neutral contempt',
  'gender': 'female male',
  'age_group': '0-15 16-25 26-35 36-45 46-60 61+',
  'ethnicity5': 'white black asian indian other',
  'ethnicity7': 'white black latino_hispanic east_asian southeast_asian indian middle_eastern',
  'age_decades': '0-2 3-9 10-19 20-29 30-39 40-49 50-59 60-69 70+',
  'group_emotion': 'positive neutral negative',
  'action_units': 'AU1 AU2 AU4 AU5 AU6 AU9 AU12 AU17 AU20 AU25 AU26',
  'compound_emotion': 'angry disgust fear happy sad surprise angrily_disgusted angrily_surprised '
  'fearfully_angry fearfully_surprised '
  'happily_disgusted happily_surprised sadly_angry sadly_disgusted appalled awed',
  'compound8': 'angrily_disgusted angrily_surprised fearfully_angry fearfully_surprised '
  'happily_disgusted happily_surprised sadly_angry sadly_disgusted',
  'celeba_attributes': '5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs '
  'Big_Lips Big_Nose Black_Hair Blond_Hair '
  'Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup '
  'High_Cheekbones Male '
  'Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose '
  'Receding_Hairline Rosy_Cheeks Sideburns Smiling '
  'Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace '
  'Wearing_Necktie Young',
}


def test_every_order_stays_as_it_is():
  # Every prepared set, checkpoint and table of results says its classes by number.
  found = {name: ' '.join(task.classes) for name, task in tasks.TASKS.items()}
  assert CLASSES.items() <= found.items()
  years = tasks.TASKS['age_years']
  assert [int(name) for name in years.classes] == list(years.values) == list(range(117))


def test_a_view_has_the_names_of_the_columns_that_it_takes():
  assert 'emotion7' in outputs.VIEWS
  for view, (base, columns) in outputs.VIEWS.items():
    assert tuple(tasks.TASKS[base].classes[i] for i in columns) == tasks.TASKS[view].classes


def test_label_shapes():
  assert tasks.TASKS['smile'].label_shape == ()
  assert tasks.TASKS['action_units'].label_shape == (11,)
  assert {name for name, task in tasks.TASKS.items() if task.multi_label} == {
    'action_units',
    'celeba_attributes',
  }


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
  'name',
  ['smiles', '', 'smile:2', 'identity', 'identity:', 'identity:x', 'identity:1', 'identity:-3'],
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


def test_a_task_of_ones_own(monkeypatch):
  monkeypatch.setattr(tasks, 'TASKS', dict(tasks.TASKS))
  mine = tasks.Task('glance', ('left', 'right'))
  assert tasks.register(mine) is mine
  assert tasks.get_task('glance') is mine
  assert tasks.register(tasks.Task('glance', ('left', 'right'))) == mine, 'a module loaded again'
  with pytest.raises(errors.UserError, match=r"^task 'glance' is registered already, with other"):
    tasks.register(tasks.Task('glance', ('left', 'right', 'up')))
  for name in ('smile', 'a task', 'identity', ''):
    with pytest.raises(errors.UserError, match=f"^task '{name}'"):
      tasks.register(tasks.Task(name, ('no', 'yes')))
