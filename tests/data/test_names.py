import re

import pytest

from mtface.data.names import Draw, Each, Fold, Range, SourceName, Uncopied
from mtface.errors import UserError


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('genki4k/gray48:train', SourceName('genki4k/gray48', 'train')),
    (' genki4k/gray48:train ', SourceName('genki4k/gray48', 'train')),
    ('fer2013/gray48:private_test', SourceName('fer2013/gray48', 'private_test')),
    ('a-b/c.d:train[fold=0/4]', SourceName('a-b/c.d', 'train', Fold(0, 4))),
    ('a/b:train[fold!=11/12]', SourceName('a/b', 'train', Fold(11, 12, others=True))),
    (
      'a/b:train[fold!=0/5,by=image]',
      SourceName('a/b', 'train', Fold(0, 5, others=True, by_image=True)),
    ),
    (
      'wiki/gray48:train[take=30000,seed=2]',
      SourceName('wiki/gray48', 'train', Draw(30000, seed=2)),
    ),
    ('wiki/gray48:train[take=42,after=300]', SourceName('wiki/gray48', 'train', Draw(42, 300, 0))),
    ('a/b:train[age_years=21-60]', SourceName('a/b', 'train', None, (Range('age_years', 21, 60),))),
    (
      'a/b:train[gender=1,age_years=21-60,take=5,after=9]',
      SourceName('a/b', 'train', Draw(5, 9), (Range('gender', 1, 1), Range('age_years', 21, 60))),
    ),
    (
      'a/b:train[take=5,of=action_units,seed=3]',
      SourceName('a/b', 'train', Draw(5, seed=3, of=('action_units',))),
    ),
    (
      'a/b:train[upto=5,after=9,of=identity:158+compound8]',
      SourceName('a/b', 'train', Draw(5, 9, 0, True, ('identity:158', 'compound8'))),
    ),
    ('a/b:train[each=15,of=compound8]', SourceName('a/b', 'train', Each(15, 'compound8'))),
    (
      'a/b:train[gender=1,each!=15,of=identity:158,seed=2]',
      SourceName('a/b', 'train', Each(15, 'identity:158', 2, True), (Range('gender', 1, 1),)),
    ),
    (
      'a/b:test[copies!=train+more,fold=0/4]',
      SourceName('a/b', 'test', Fold(0, 4), (Uncopied(('train', 'more')),)),
    ),
    ('genki4k:train', SourceName('genki4k', 'train')),  # refused later, with what is missing
  ],
)
def test_names(text, expected):
  assert SourceName.parse(text) == expected


@pytest.mark.parametrize(
  'text',
  ['', 'genki4k', 'genki4k/gray48', 'a/b/c:train', 'a/b:', ':train', 'a/b:train[',
   'a/b:train[fold]', 'a/b:train[fold=1]',
   'a/b:train[fold=-1/4]', 'a/b:train[fold=1/4]x', 'a/b:train[fold<1/4]', 'a/b:train[:50%]',
   'a/b:train+test', '../a:train',
   'a/b:train[take=x]', 'a/b:train[seed=1]', 'a/b:train[take=1,seed=1,after=2]',
   'a/b:train[take=1][fold=0/2]',
   'a/b:train[fold=0/2,gender=1]', 'a/b:train[age_years=21-]', 'a/b:train[age_years=21-60,]',
   'a/b:train[age_years=x]',
   'a/b:train[]', 'a/b:train[after=3]', 'a/b:train[fold=0/2,fold=1/2]',
   'a/b:train[fold=0/2,by=clip]', 'a/b:train[of=smile]', 'a/b:train[take=1,of=]',
   'a/b:train[take=1,of=smile+]', 'a/b:train[take=1,of=smile,after=2]', 'a/b:train[each=1]',
   'a/b:train[take=1,seed=1,of=smile]', 'a/b:train[each=1,of=smile+gender]',
   'a/b:train[each=1,after=2,of=smile]', 'a/b:train[each=1-2,of=smile]',
   'a/b:train[each=1,of=smile,fold=0/2]', 'a/b:train[take!=1,of=smile]', 'a/b:train[of=1]'],
)  # fmt: skip
def test_what_is_no_name(text):
  with pytest.raises(UserError, match=r'expected SET/CONFIG:SPLIT, optionally with \[fold=K/N\]'):
    SourceName.parse(text)


@pytest.mark.parametrize('fold', ['4/4', '0/1', '0/0', '7/3'])
def test_folds_that_do_not_exist(fold):
  with pytest.raises(UserError, match=rf'fold {fold} does not exist; folds are numbered 0 to N-1'):
    SourceName.parse(f'a/b:train[fold={fold}]')


def test_a_draw_of_nothing():
  for part in ('take=0', 'upto=0', 'each=0,of=smile', 'each!=0,of=smile'):
    with pytest.raises(UserError, match=rf'{re.split("!?=", part)[0]} must be at least 1'):
      SourceName.parse(f'a/b:train[{part}]')


@pytest.mark.parametrize(
  'text',
  [
    'a/b:train',
    'a/b:train[fold=1/4]',
    'a/b:train[fold!=1/4]',
    'a/b:train[take=5,seed=3]',
    'a/b:train[take=5,after=9,seed=3]',
    'a/b:train[gender=1,age_years=21-60]',
    'a/b:train[age_years=21-60,fold!=1/4]',
    'a/b:train[age_years=21-60,take=5,after=9,seed=3]',
    'a/b:train[take=5,after=9,of=smile+gender,seed=3]',
    'a/b:train[upto=5,of=smile,seed=0]',
    'a/b:train[each=15,of=compound8,seed=0]',
    'a/b:train[gender=1,each!=15,of=identity:158,seed=4]',
  ],
)
def test_a_name_is_written_as_it_was_read(text):
  assert str(SourceName.parse(text)) == text


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('a/b:train', 'a/b:train'),
    ('a/b:train[fold=0/4]', 'a/b:train[fold=2/3]'),
    ('a/b:train[fold!=0/4]', 'a/b:train[fold!=2/3]'),
    ('a/b:train[take=5,after=9]', 'a/b:train[take=5,after=9,seed=2]'),
    ('a/b:train[age=1-2,fold=0/4]', 'a/b:train[age=1-2,fold=2/3]'),
    ('a/b:train[age=1-2,take=5,after=9]', 'a/b:train[age=1-2,take=5,after=9,seed=2]'),
    ('a/b:train[upto=5,seed=7]', 'a/b:train[upto=5,seed=2]'),
    ('a/b:train[take=5,of=smile+gender]', 'a/b:train[take=5,of=smile+gender,seed=2]'),
    ('a/b:train[age=1-2,each=5,of=smile]', 'a/b:train[age=1-2,each=5,of=smile,seed=2]'),
    ('a/b:train[each!=5,of=smile,seed=7]', 'a/b:train[each!=5,of=smile,seed=2]'),
  ],
)
def test_another_round_of_a_cross_validation(text, expected):
  assert str(SourceName.parse(text).rotated(2, 3)) == expected


def test_a_range_the_wrong_way_round():
  with pytest.raises(UserError, match=r'the range age_years=60-21 is empty'):
    SourceName.parse('a/b:train[age_years=60-21]')


def test_folds_by_image_stay_so_in_every_round():
  name = SourceName.parse('a/b:train[fold!=0/5,by=image]')
  assert str(name) == 'a/b:train[fold!=0/5,by=image]'
  assert str(name.rotated(2, 4)) == 'a/b:train[fold!=2/4,by=image]'
