"""The names of sources: a prepared set, one of its splits, and optionally a part of it. They are
single lines of text, used in configs, `--on` and reports:

genki4k/gray48:train                               a prepared set and one of its splits
genki4k/gray48:train[fold!=0/4]                    three of four stratified folds (training)
genki4k/gray48:train[fold=0/4]                     the fourth (test)
lfw/rgb64_158:train[fold!=0/5,by=image]            folds of images, not of people: to learn who is
                                                   who, everybody must be on both sides
wiki/gray48:train[take=30000,seed=0]               30,000 faces drawn by a seed (training)
wiki/gray48:train[take=4200,after=30000,seed=0]    4,200 of those that the draw of 30,000 left
                                                   (test)
imdb/rgb224:train[upto=264251,seed=0]              as `take`, or as many as there are where they are
                                                   fewer
emotionet/rgb32:train[take=24000,of=action_units,seed=0]
                                                   of the faces with labels of this task (of
                                                   several: of=action_units+compound8), not only of
                                                   those with labels of all tasks of the set
emotionet/rgb32:train[each=15,of=compound8,seed=0] 15 faces of every class of a task (training)
emotionet/rgb32:train[each!=15,of=compound8,seed=0]    all faces with such a label that share no
                                                   person and no picture with those 15 (test)
utkface/rgb224:train[age_years=21-60]              those of which a label or an attribute is known
                                                   and in a range
fer2013/gray48:private_test[copies!=train]         those of which another split (of several:
                                                   copies!=train+public_test) has no copy
utkface/rgb224:train[gender=1,age_years=21-60,fold=0/4]    these come before a fold or a draw
"""

from __future__ import annotations

import dataclasses
import itertools
import re

from mtface.errors import UserError

_NAME = re.compile(r'^(?P<set>[\w\-]+(/[\w\-.]+)?):(?P<split>\w+)(\[(?P<part>[^\[\]]*)\])?$')
_FOLD = re.compile(r'^fold(?P<op>!?=)(?P<index>\d+)/(?P<of>\d+)(?P<by>,by=image)?$')
_RANGE = re.compile(
  r'^(?!(?:fold|take|upto|each|after|of|seed|copies)=)(?P<of>[A-Za-z_]\w*)=(?P<least>\d+)(-(?P<most>\d+))?$'
)
_UNCOPIED = re.compile(r'^copies!=(?P<splits>\w+(\+\w+)*)$')
_TASK = r'[A-Za-z_]\w*(?::\d+)?'  # identity:158 too
_DRAW = re.compile(
  r'^(?P<how>take|upto)=(?P<take>\d+)(,after=(?P<after>\d+))?'
  rf'(,of=(?P<of>{_TASK}(\+{_TASK})*))?(,seed=(?P<seed>\d+))?$'
)
_EACH = re.compile(rf'^each(?P<op>!?=)(?P<each>\d+),of=(?P<of>{_TASK})(,seed=(?P<seed>\d+))?$')


@dataclasses.dataclass(frozen=True)
class Fold:
  """One of `of` stratified folds, or with `others` all but that one; `by_image` assigns images to
  folds regardless of who they show.
  """

  index: int
  of: int
  others: bool = False
  by_image: bool = False

  def __str__(self) -> str:
    by = ',by=image' if self.by_image else ''
    return f'fold{"!=" if self.others else "="}{self.index}/{self.of}{by}'


@dataclasses.dataclass(frozen=True)
class Draw:
  """`take` faces of a random order determined by `seed`: the first ones, or those after the first
  `after`.

  `at_most`: all faces if there are fewer. `of`: the tasks whose labels a face must have to be
  drawn; none stands for all tasks of the set.
  """

  take: int
  after: int = 0
  seed: int = 0
  at_most: bool = False
  of: tuple[str, ...] = ()

  def __str__(self) -> str:
    how, after = 'upto' if self.at_most else 'take', f',after={self.after}' if self.after else ''
    of = f',of={"+".join(self.of)}' if self.of else ''
    return f'{how}={self.take}{after}{of},seed={self.seed}'


@dataclasses.dataclass(frozen=True)
class Each:
  """`each` faces of every class of the single-label task `of`, the first ones of a random order
  determined by `seed`; or with `others` all faces with such a label that share no group (a person,
  copies of a picture) with those.
  """

  each: int
  of: str
  seed: int = 0
  others: bool = False

  def __str__(self) -> str:
    return f'each{"!=" if self.others else "="}{self.each},of={self.of},seed={self.seed}'


Part = Fold | Draw | Each


@dataclasses.dataclass(frozen=True)
class Range:
  """The faces whose label or attribute named `of` is between `least` and `most`, inclusive."""

  of: str
  least: int
  most: int

  def __str__(self) -> str:
    return f'{self.of}={self.least}' + (f'-{self.most}' if self.most != self.least else '')


@dataclasses.dataclass(frozen=True)
class Uncopied:
  """The faces of which none of these splits of the set has a copy: the same stored pixels."""

  splits: tuple[str, ...]

  def __str__(self) -> str:
    return f'copies!={"+".join(self.splits)}'


Limit = Range | Uncopied


@dataclasses.dataclass(frozen=True)
class SourceName:
  """The parts of a source's name."""

  set_name: str
  split: str
  part: Part | None = None
  limits: tuple[Limit, ...] = ()

  @classmethod
  def parse(cls, text: str) -> SourceName:
    """Parses a name as in the module docstring; anything else is a `UserError`."""
    found = _NAME.match(text.strip())
    if not found:
      raise _not_a_name(text)
    if found['part'] is None:
      return cls(found['set'], found['split'])
    return cls(found['set'], found['split'], *_parse_parts(found['part'].split(','), text))

  def __str__(self) -> str:
    parts = [*map(str, self.limits), *([str(self.part)] if self.part else [])]
    return f'{self.set_name}:{self.split}' + (f'[{",".join(parts)}]' if parts else '')

  def rotated(self, fold: int, folds: int) -> SourceName:
    """The same source for another round of a cross-validation: another fold, or a draw with another
    seed.
    """
    if isinstance(self.part, Fold):
      return dataclasses.replace(self, part=dataclasses.replace(self.part, index=fold, of=folds))
    if isinstance(self.part, Draw | Each):
      return dataclasses.replace(self, part=dataclasses.replace(self.part, seed=fold))
    return self


def _parse_parts(parts: list[str], text: str) -> tuple[Part | None, tuple[Limit, ...]]:
  """Any number of limits, then a fold or a draw."""
  limits = tuple(itertools.takewhile(lambda of: of is not None, map(_parse_limit, parts)))
  for of in limits:
    if isinstance(of, Range) and of.least > of.most:
      raise UserError(f'source {text!r}: the range {of} is empty; write the smaller number first')
  rest = parts[len(limits) :]
  return (_parse_part(','.join(rest), text) if rest else None), limits  # type: ignore[return-value]


def _parse_limit(part: str) -> Limit | None:
  if r := _RANGE.match(part):
    return Range(r['of'], int(r['least']), int(r['most'] or r['least']))
  found = _UNCOPIED.match(part)
  return Uncopied(tuple(found['splits'].split('+'))) if found else None


def _parse_part(part: str, text: str) -> Part:
  if fold := _FOLD.match(part):
    index, of = int(fold['index']), int(fold['of'])
    if not (of >= 2 and index < of):
      raise UserError(
        f'source {text!r}: fold {index}/{of} does not exist; folds are numbered 0 to N-1, N at '
        'least 2'
      )
    return Fold(index, of, fold['op'] == '!=', bool(fold['by']))
  if each := _EACH.match(part):
    _check_count('each', each['each'], text)
    return Each(int(each['each']), each['of'], int(each['seed'] or 0), each['op'] == '!=')
  draw = _DRAW.match(part)
  if not draw:
    raise _not_a_name(text)
  _check_count(draw['how'], draw['take'], text)
  tasks = tuple(draw['of'].split('+')) if draw['of'] else ()
  return Draw(
    int(draw['take']), int(draw['after'] or 0), int(draw['seed'] or 0), draw['how'] == 'upto', tasks
  )


def _check_count(how: str, count: str, text: str) -> None:
  if not int(count):
    raise UserError(f'source {text!r}: {how} must be at least 1')


def _not_a_name(text: str) -> UserError:
  return UserError(
    f'source {text!r}: expected SET/CONFIG:SPLIT, optionally with [fold=K/N], [fold!=K/N], '
    '[take=N,after=M,of=TASK+TASK,seed=S] (or upto=N), [each=N,of=TASK,seed=S] or '
    '[each!=N,of=TASK,seed=S], as in genki4k/gray48:train[fold!=0/4]; ranges of labels or '
    'attributes, and [copies!=SPLIT], come first: [age_years=21-60,fold=0/4]'
  )
