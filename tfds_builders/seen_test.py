"""What is remembered of each image, against a plain dictionary that keeps everything."""

import collections
import tracemalloc

import numpy as np
import pytest

from mtface import tasks
from mtface.errors import UserError
from tfds_builders.seen import Seen
from tfds_builders.summary import Account, Face, LeftOut

SIZE = 500


def images():
  """Every tenth has no digest, and about half of the rest have one that another has too."""
  rng = np.random.default_rng(0)
  for i in range(SIZE):
    digest = b'' if i % 10 == 0 else b'%d' % rng.integers(SIZE)
    yield f'split{i % 3}', f'é/{i}', {'smile': i % 2, 'units': np.array([i, -1])}, digest


def test_copies_are_those_that_a_dictionary_finds_in_its_order(tmp_path):
  seen, expected = Seen(tmp_path), collections.defaultdict(list)
  for split, image_id, labels, digest in images():
    seen.add(split, image_id, labels, digest)
    expected[digest or image_id].append((split, image_id, labels))
  groups = [group for group in expected.values() if len(group) > 1]
  assert len(groups) > 50
  assert repr(list(seen.copies())) == repr(groups)
  assert seen.repeated_id() is None
  seen.add('other', 'é/77', {}, b'')
  assert seen.repeated_id() == 'é/77'
  assert not list(tmp_path.iterdir()), 'the file has no name'


def test_nothing_seen():
  seen = Seen()
  assert list(seen.copies()) == []
  assert seen.repeated_id() is None


def test_memory_is_a_few_bytes_an_image():
  seen, number = Seen(), 5_000
  tracemalloc.start()
  for i in range(number):
    seen.add(
      'train', f'{i % 100:02d}/nm{i:07d}_rm{i:09d}_1970-1-1_2005', {'age_years': i % 100}, b'%d' % i
    )
  taken, _ = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert taken < 60 * number, f'{taken / number} bytes an image'


# --- The account ----------------------------------------------------------------------------------


def account(*outcomes, notes=()):
  made = Account([tasks.get_task('smile'), tasks.get_task('emotion7')], dict(notes))
  for split, outcome in outcomes:
    (made.add if isinstance(outcome, Face) else made.leave_out)(split, outcome)
  return made


def face(image_id, smile=None, **kwargs):
  return Face(image_id, b'', {} if smile is None else {'smile': smile}, **kwargs)


def test_what_is_counted():
  made = account(
    ('a', face('1', 1, digest=b'x', notes=('n',))),
    ('a', face('2', 1)),
    ('a', face('3')),
    ('b', face('4', 0, digest=b'x')),
    ('b', LeftOut('5', 'damaged image', 'why')),
    ('b', LeftOut('6', 'a rule', damaged=False)),
    notes=[('n', 'meaning'), ('m', 'of none')],
  )
  summary = made.as_dict(digest_of='pixels', seconds=1.26, name='set')
  assert (summary['name'], summary['seconds'], summary['images']) == ('set', 1.3, 4)
  assert summary['records'] == {'a': 3, 'b': 1}
  assert summary['labelled'] == {'a': {'smile': 2, 'emotion7': 0}, 'b': {'smile': 1, 'emotion7': 0}}
  assert summary['labels']['a']['smile'] == {'no_smile': 0, 'smile': 2}
  assert summary['labels']['b']['smile'] == {'no_smile': 1, 'smile': 0}
  assert summary['notes']['n'] == {'means': 'meaning', 'images': 1, 'image_ids': ['1']}
  assert summary['notes']['m'] == {'means': 'of none', 'images': 0, 'image_ids': []}
  assert summary['left_out'] == {
    'images': 2,
    'by_reason': {'damaged image': 1, 'a rule': 1},
    'list': [{'split': 'b', 'image_id': '5', 'reason': 'damaged image', 'detail': 'why'}],
    'by_rule': {'a rule': ['6']},
  }
  assert summary['duplicates'] == {
    **{
      'compared': 'pixels',
      'groups': 1,
      'copies': 1,
      'groups_across_splits': 1,
      'groups_with_other_labels': 1,
    },
    'list': [{'image_ids': ['1', '4'], 'splits': ['a', 'b'], 'differs_in': ['smile']}],
  }


def test_multi_label_classes_that_are_not_known_count_neither_way():
  task = tasks.get_task('action_units')
  made = Account([task], {})
  label = np.full(task.num_classes, -1)
  made.add('a', Face('unknown', b'', {task.kind: label}))
  label = label.copy()
  label[:2] = 1, 0
  made.add('a', Face('known', b'', {task.kind: label}))
  summary = made.as_dict(digest_of='', seconds=0)
  assert summary['labelled'] == {'a': {task.kind: 1}}
  assert summary['labels']['a'][task.kind] == {
    name: int(i == 0) for i, name in enumerate(task.classes)
  }


@pytest.mark.parametrize(('damaged', 'ends'), [(0, False), (10, False), (11, True), (12, True)])
def test_ten_damaged_images_are_always_allowed(damaged, ends):
  outcomes = [('a', face(f'{i}')) for i in range(5)]
  outcomes += [('a', LeftOut(f'd{i}', 'damaged image')) for i in range(damaged)]
  made = account(*outcomes, *[('b', LeftOut(f'e{i}', 'damaged image')) for i in range(50)])
  if ends:
    with pytest.raises(
      UserError, match=rf'{damaged} of {5 + damaged} images of a could not be used; the first is d0'
    ):
      made.check_left_out('a', 0.01, 10)
  else:
    made.check_left_out('a', 0.01, 10)


@pytest.mark.parametrize('damaged', [20, 21])
def test_a_share_of_a_large_set_may_be_damaged(damaged):
  made = account(*[('a', face(f'{i}')) for i in range(2000 - damaged)])
  for i in range(damaged):
    made.leave_out('a', LeftOut(f'd{i}', 'damaged image'))
  if damaged == 20:
    made.check_left_out('a', 0.01, 10)
  else:
    with pytest.raises(UserError, match=r'at most 20 may be damaged'):
      made.check_left_out('a', 0.01, 10)


def test_one_id_twice_ends_the_build_also_across_splits():
  with pytest.raises(UserError, match=r"two images have the image_id 'twin'; expected each once"):
    account(('a', face('twin')), ('b', face('twin'))).check_left_out('b', 0.01, 10)
