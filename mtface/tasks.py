"""What is predicted from a face: the label spaces of the field, by name.

A label is what annotators perceived, or what a file name or a web page said; it is not a fact about
the person. Class indices here are the ones that every prepared set, checkpoint and table of results
uses, so they never change.
"""

from __future__ import annotations

import bisect
import dataclasses

from mtface import errors


@dataclasses.dataclass(frozen=True)
class Task:
  """One thing that is predicted.

  Attributes:
    name: what labels, masks, heads and metrics are keyed by.
    classes: the class names; index i of a label or score is `classes[i]`.
    multi_label: False: exactly one class holds (labels [B]); True: each class is its own yes or no
      (labels [B, C]).
    values: the years that each class of an age task stands for; None where a mean absolute error
      has no meaning.
  """

  name: str
  classes: tuple[str, ...]
  multi_label: bool = False
  values: tuple[float, ...] | None = None

  def __post_init__(self) -> None:
    if len(set(self.classes)) != len(self.classes):
      raise ValueError(f'{self.name}: class names repeat: {self.classes}')
    if self.values is not None and len(self.values) != len(self.classes):
      raise ValueError(f'{self.name}: {len(self.values)} values for {len(self.classes)} classes')

  @property
  def kind(self) -> str:
    """What prepared sets call the label: the name, but `identity` for identity:158."""
    return self.name.partition(':')[0]

  @property
  def num_classes(self) -> int:
    """C, the number of scores of the task's head."""
    return len(self.classes)

  @property
  def label_shape(self) -> tuple[int, ...]:
    """Shape of one sample's label and mask: () for a single-label task, (C,)
    for a multi-label one.
    """
    return (self.num_classes,) if self.multi_label else ()


# Upper bounds, inclusive, of all age groups but the last, which is open (Rohani 2023, section 4.1).
AGE_GROUP_BOUNDS: tuple[int, ...] = (15, 25, 35, 45, 60)

MAX_AGE = 116  # the oldest age that UTKFace's file names give


def age_to_group(age: float) -> int:
  """Returns the index in `age_group` of an age in completed years: 0-15, 16-25, 26-35, 36-45,
  46-60, 61 and older.

  Rohani 2023 writes the last two groups as 46-60 and 60-100; the age of 60 goes to the first of
  them here, and the last one has no upper end. An age with a fraction belongs to its completed
  year: 15.9 is 15.
  """
  if not age >= 0:  # also true of NaN
    raise ValueError(f'age is {age}; expected 0 or more')
  return bisect.bisect_left(AGE_GROUP_BOUNDS, int(age))


# FER-2013's order; SFEW 2.0 uses the same one.
_EMOTION7 = ('angry', 'disgust', 'fear', 'happy', 'sad', 'surprise', 'neutral')

# The 16 categories of EmotioNet's emotion file: six basic ones, the eight compound ones that Pons
# 2018 names (section 4.3, table 4), appalled and awed. Pons counts "7 emotion expressions and 9
# compound emotions" in them and lists eight; the total, 16, is the same, but EmotioNet has no
# neutral one: a seventh basic class would have no label.
_COMPOUND_EMOTION = (
  *_EMOTION7[:-1],
  'angrily_disgusted',
  'angrily_surprised',
  'fearfully_angry',
  'fearfully_surprised',
  'happily_disgusted',
  'happily_surprised',
  'sadly_angry',
  'sadly_disgusted',
  'appalled',
  'awed',
)

# The header of list_attr_celeba.txt, in its order, as it spells them.
_CELEBA = (
  '5_o_Clock_Shadow',
  'Arched_Eyebrows',
  'Attractive',
  'Bags_Under_Eyes',
  'Bald',
  'Bangs',
  'Big_Lips',
  'Big_Nose',
  'Black_Hair',
  'Blond_Hair',
  'Blurry',
  'Brown_Hair',
  'Bushy_Eyebrows',
  'Chubby',
  'Double_Chin',
  'Eyeglasses',
  'Goatee',
  'Gray_Hair',
  'Heavy_Makeup',
  'High_Cheekbones',
  'Male',
  'Mouth_Slightly_Open',
  'Mustache',
  'Narrow_Eyes',
  'No_Beard',
  'Oval_Face',
  'Pale_Skin',
  'Pointy_Nose',
  'Receding_Hairline',
  'Rosy_Cheeks',
  'Sideburns',
  'Smiling',
  'Straight_Hair',
  'Wavy_Hair',
  'Wearing_Earrings',
  'Wearing_Hat',
  'Wearing_Lipstick',
  'Wearing_Necklace',
  'Wearing_Necktie',
  'Young',
)

_ALL = (
  Task('smile', ('no_smile', 'smile')),
  Task('emotion7', _EMOTION7),
  Task('emotion8', (*_EMOTION7, 'contempt')),
  Task('gender', ('female', 'male')),
  Task(
    'age_years',
    tuple(str(year) for year in range(MAX_AGE + 1)),
    values=tuple(float(year) for year in range(MAX_AGE + 1)),
  ),
  # No values: the last group is open and a group's middle is nobody's age, so an error in years
  # would say nothing.
  Task('age_group', ('0-15', '16-25', '26-35', '36-45', '46-60', '61+')),
  Task('ethnicity5', ('white', 'black', 'asian', 'indian', 'other')),  # UTKFace's order and names
  # FairFace's file names them; the order is that of its authors' own network.
  Task(
    'ethnicity7',
    (
      'white',
      'black',
      'latino_hispanic',
      'east_asian',
      'southeast_asian',
      'indian',
      'middle_eastern',
    ),
  ),
  # FairFace's nine ages. No values, as in age_group.
  Task('age_decades', ('0-2', '3-9', '10-19', '20-29', '30-39', '40-49', '50-59', '60-69', '70+')),
  Task('group_emotion', ('positive', 'neutral', 'negative')),  # VGAF's 1, 2, 3
  # The 11 action units (AUs) of the EmotioNet challenge's training set (Pons 2018, section 4).
  Task(
    'action_units',
    tuple(f'AU{n}' for n in (1, 2, 4, 5, 6, 9, 12, 17, 20, 25, 26)),
    multi_label=True,
  ),
  Task('compound_emotion', _COMPOUND_EMOTION),
  # Those of the 16 that Pons 2018 tells apart (table 4).
  Task('compound8', _COMPOUND_EMOTION[6:14]),
  Task('celeba_attributes', _CELEBA, multi_label=True),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}
SHIPPED = frozenset(TASKS)  # mtface's own


def register(task: Task) -> Task:
  """Adds a task of your own to TASKS, and returns it; a module of `config.imports` calls it.

  Raises:
    UserError: its name is not one of letters, digits and _, or is taken by another task.
  """
  if not task.name.isidentifier() or task.name == 'identity':
    raise errors.UserError(
      f'task {task.name!r}: a name is of letters, digits and _, and not identity'
    )
  if TASKS.setdefault(task.name, task) != task:
    raise errors.UserError(
      f'task {task.name!r} is registered already, with other classes: '
      f'{", ".join(TASKS[task.name].classes)}; here {", ".join(task.classes)}'
    )
  return task


def identity_task(num_subjects: int) -> Task:
  """Returns the single-label task identity:N of telling `num_subjects` people apart; its classes
  are '0', '1', ...
  """
  return Task(f'identity:{num_subjects}', tuple(str(i) for i in range(num_subjects)))


def get_task(name: str) -> Task:
  """Returns the task called `name`; 'identity:N' is the identity of one of N people (VGGFace2's
  training set: 9131).

  Raises:
    UserError: no task has this name, or the N of 'identity:N' is not a whole number of at least 2.
  """
  if name in TASKS:
    return TASKS[name]
  prefix, _, number = name.partition(':')
  if prefix != 'identity':
    raise errors.UserError(
      f"task '{name}' is unknown; expected one of {', '.join(TASKS)}, identity:N"
    )
  if not number.isdecimal() or int(number) < 2:
    raise errors.UserError(
      f"task '{name}' does not say how many people there are; expected identity:N with a whole N "
      'of at least 2,'
      ' such as identity:9131'
    )
  return identity_task(int(number))
