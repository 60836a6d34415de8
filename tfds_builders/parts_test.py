import functools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mtface.data import build as build_lib
from mtface.errors import UserError
from tests import slow_parts
from tests.cartoons import make_imdb_wiki
from tests.prepared import build_set, read_records, read_summary
from tfds_builders import parts
from tfds_builders.summary import Face, LeftOut
from tfds_builders.wiki import wiki_dataset_builder as wiki

COUNT = 40


def entries():
  """Images of noise in every fifth of which the label is missing, and some that are left out."""
  rng = np.random.default_rng(0)
  for i in range(COUNT):
    entry = {
      'full_path': f'{i % 3:02d}/{i:04d}.jpg',
      'image': rng.integers(0, 256, (24, 24, 3), dtype=np.uint8),
    }
    odd = {0: {'gender': np.nan}, 3: {'second_face_score': 1.0}}
    yield entry | (odd.get(i % 5, {}))


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
  return make_imdb_wiki(tmp_path_factory.mktemp('raw'), 'wiki', list(entries()))


@pytest.fixture(scope='module')
def undisturbed(raw, tmp_path_factory):
  return build_set('wiki', raw, tmp_path_factory.mktemp('undisturbed'))


@pytest.fixture
def converted(monkeypatch, tmp_path):
  """Returns how often each image has been converted since it was last asked."""
  log = tmp_path / 'log'
  log.mkdir()
  monkeypatch.setattr(wiki.Builder, 'PART_SIZE', slow_parts.PART_SIZE)
  monkeypatch.setattr(
    wiki.Builder, 'converter', lambda self: functools.partial(slow_parts.convert, **about(self))
  )

  def about(builder):
    return {
      'log': log,
      'seconds': 0,
      'size': builder.builder_config.size,
      'channels': builder.builder_config.channels,
    }

  def since():
    counts = {path.name: len(path.read_text()) for path in log.iterdir()}
    for path in log.iterdir():
      path.unlink()
    return counts

  return since


def assert_same(path_a, path_b):
  for a, b in zip(read_records(path_a), read_records(path_b), strict=True):
    assert repr({**a, 'image': a['image'].tolist()}) == repr({**b, 'image': b['image'].tolist()})
  about_time = ('seconds', 'built')
  a, b = (
    {k: v for k, v in read_summary(path).items() if k not in about_time}
    for path in (path_a, path_b)
  )
  assert a == b


def names_in(paths):
  return {outcome.image_id[3:] for path in paths for outcome in parts.read_account(path)}


def folder(tmp_path):
  return tmp_path / 'data/wiki/gray48/.parts-1.0.0'


def fail_to_commit(monkeypatch):
  """Ends a build when all is converted, before TFDS has written the records."""
  monkeypatch.setattr(
    'tfds_builders.summary.Account.check_left_out',
    lambda *_: (_ for _ in ()).throw(UserError('stop')),
  )


def interrupted(raw, tmp_path, name='wiki/gray48'):
  """Leaves all parts of a build that has come to nothing."""
  with pytest.MonkeyPatch.context() as patched:
    fail_to_commit(patched)
    with pytest.raises(UserError, match='stop'):
      build_set(name, raw, tmp_path / 'data')


# --- A build that is killed -----------------------------------------------------------------------


def start(raw, tmp_path):
  log = tmp_path / 'log_of_the_killed'
  log.mkdir()
  command = [sys.executable, '-m', 'tests.slow_parts', str(raw), str(tmp_path / 'data'), str(log)]
  process = subprocess.Popen(
    command, cwd=pathlib.Path(__file__).parents[1], stderr=subprocess.PIPE, text=True
  )
  end = time.monotonic() + 60
  while len(list(folder(tmp_path).glob('*.part'))) < 3:
    assert time.monotonic() < end, 'waited too long'
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.02)
  return process, log


def wait_until_still(log, seconds=0.5):
  """Workers end themselves when their parent is gone."""
  before = None
  while before != (before := sorted(log.iterdir())):
    time.sleep(seconds)


def test_a_killed_build_goes_on_where_it_was(raw, undisturbed, tmp_path, converted, capsys):
  process, log = start(raw, tmp_path)
  process.send_signal(signal.SIGKILL)
  process.communicate(timeout=30)
  wait_until_still(log)
  kept = list(folder(tmp_path).glob('*.part'))
  assert 3 <= len(kept) < COUNT / slow_parts.PART_SIZE
  names = names_in(kept)
  assert len(names) == slow_parts.PART_SIZE * len(kept)
  assert not (tmp_path / 'data/wiki/gray48/1.0.0').exists()

  path = build_set('wiki', raw, tmp_path / 'data')
  assert converted() == {f'{i:04d}': 1 for i in range(COUNT) if f'{i:04d}' not in names}
  assert not folder(tmp_path).exists()
  printed = capsys.readouterr().out
  assert f'resuming an interrupted build: {len(kept)} of 10 parts' in printed
  assert 'removing leftovers of an interrupted build' in printed  # TFDS's own folder, as ever
  assert_same(path, undisturbed)


def test_with_workers_parts_make_the_same_set(raw, undisturbed, tmp_path):
  assert_same(build_set('wiki', raw, tmp_path, workers=2), undisturbed)


# --- What is taken over, and what is not ----------------------------------------------------------


def test_all_parts_are_taken_over(raw, undisturbed, tmp_path, converted, capsys):
  interrupted(raw, tmp_path)
  assert f'are kept for the next build of this set: {folder(tmp_path)}' in capsys.readouterr().out
  assert len(converted()) == COUNT
  path = build_set('wiki', raw, tmp_path / 'data')
  assert converted() == {}
  assert_same(path, undisturbed)


DAMAGES = {
  'truncated': lambda content: content[:-100],
  'empty': lambda content: b'',
  'one byte': lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:],
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_part_is_converted_again(raw, undisturbed, tmp_path, converted, damage):
  interrupted(raw, tmp_path)
  part = sorted(folder(tmp_path).glob('*.part'))[2]
  names = names_in([part])
  part.write_bytes(DAMAGES[damage](part.read_bytes()))
  converted()
  path = build_set('wiki', raw, tmp_path / 'data')
  assert set(converted()) == names
  assert_same(path, undisturbed)


def test_a_part_with_a_missing_image_is_converted_again(raw, undisturbed, tmp_path, converted):
  copy = shutil.copytree(raw, tmp_path / 'raw')
  missing = copy / '02/0005.jpg'
  missing.unlink()
  interrupted(copy, tmp_path)
  converted()
  shutil.copy(raw / '02/0005.jpg', missing)
  path = build_set('wiki', copy, tmp_path / 'data')
  assert set(converted()) == {'0004', '0005', '0006', '0007'}
  assert_same(path, undisturbed)


def changed_entry(raw):
  changed = list(entries())
  changed[9] |= {'gender': 0}
  make_imdb_wiki(raw, 'wiki', changed)


@pytest.mark.parametrize(
  ('change', 'again'),
  [
    (lambda raw, patched: None, 0),
    (lambda raw, patched: changed_entry(raw), 4),
    (lambda raw, patched: patched.setattr(wiki.Builder, 'VERSION', '1.0.1'), COUNT),
    (lambda raw, patched: patched.setattr(parts, 'code_digest', lambda: 'other code'), COUNT),
    (lambda raw, patched: patched.setattr(wiki.Builder, 'PART_SIZE', 5), COUNT),
  ],
  ids=['nothing', 'an entry', 'the version', 'the code', 'the size of the parts'],
)
def test_parts_of_something_else_are_not_taken(
  raw, tmp_path, converted, monkeypatch, change, again
):
  copy = shutil.copytree(raw, tmp_path / 'raw')
  interrupted(copy, tmp_path)
  converted()
  change(copy, monkeypatch)
  path = build_set('wiki', copy, tmp_path / 'data')
  assert len(converted()) == again
  assert read_summary(path)['images'] == len(read_records(path)) == COUNT * 4 / 5


def test_configs_have_parts_of_their_own(raw, tmp_path, converted):
  interrupted(raw, tmp_path)
  converted()
  build_set('wiki/rgb224', raw, tmp_path / 'data')
  assert len(converted()) == COUNT
  assert len(list(folder(tmp_path).iterdir())) == 10, 'those of gray48 are still there'


def test_strangers_are_removed(raw, tmp_path, converted, capsys):
  interrupted(raw, tmp_path)
  (folder(tmp_path) / '000000-0123456789abcdef.part').write_bytes(b'of older code')
  (folder(tmp_path) / 'x.part.tmp').write_bytes(b'half')
  interrupted(raw, tmp_path)
  assert len(list(folder(tmp_path).iterdir())) == 10
  assert '10 of 10 parts' in capsys.readouterr().out


# --- Sets that are finished -----------------------------------------------------------------------


def test_overwrite_converts_everything_again(raw, tmp_path, converted):
  build_set('wiki', raw, tmp_path / 'data')
  converted()
  build_set('wiki', raw, tmp_path / 'data', overwrite=True)
  assert set(converted().values()) == {1}


def test_parts_that_a_finished_build_has_left_are_removed(raw, tmp_path, converted):
  interrupted(raw, tmp_path)
  left = shutil.copytree(folder(tmp_path), tmp_path / 'left')
  path = build_set('wiki', raw, tmp_path / 'data')
  # Killed after the set was renamed and before this was removed.
  shutil.copytree(left, folder(tmp_path))
  before = (path / 'dataset_info.json').stat().st_mtime_ns - 10**9
  os.utime(folder(tmp_path), ns=(before, before))
  converted()
  assert build_lib.build('wiki', data_dir=tmp_path / 'data') == path
  assert not folder(tmp_path).exists()


def test_an_overwrite_that_failed_is_taken_over_by_the_next(raw, tmp_path, converted, monkeypatch):
  build_set('wiki', raw, tmp_path / 'data')
  with monkeypatch.context() as patched:
    fail_to_commit(patched)
    with pytest.raises(UserError, match='stop'):
      build_set('wiki', raw, tmp_path / 'data', overwrite=True)
  assert set(converted().values()) == {2}
  build_set('wiki', raw, tmp_path / 'data', overwrite=True)
  assert converted() == {}


# --- The files ------------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path):
  image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
  outcomes = [
    Face('a', image, {'smile': 1}, notes=('n',)),
    LeftOut('b', 'a reason', 'a detail'),
    Face('c', b'jpeg', attributes={'box': np.array([1, 2, 3, 4])}),
  ]
  parts.write(tmp_path / '0.part', outcomes)
  read = list(parts.read(tmp_path / '0.part'))
  assert [type(outcome) for outcome in read] == [Face, LeftOut, Face]
  np.testing.assert_array_equal(read[0].image, image)
  assert (read[0].labels, read[0].notes, read[1], read[2].image) == (
    {'smile': 1},
    ('n',),
    outcomes[1],
    b'jpeg',
  )
  assert [outcome.image_id for outcome in parts.read_account(tmp_path / '0.part')] == [
    'a',
    'b',
    'c',
  ]
  assert [path.name for path in tmp_path.iterdir()] == ['0.part']


def test_a_disk_that_is_full_while_parts_are_written(raw, tmp_path, monkeypatch):
  def full(self, content):
    raise OSError(28, 'No space left on device', str(self))

  monkeypatch.setattr(pathlib.Path, 'write_bytes', full)
  with pytest.raises(UserError, match='the disk is full; nothing was built'):
    build_set('wiki', raw, tmp_path / 'data')
