import errno
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest

from mtface.data import build as build_lib
from mtface.errors import UserError
from tests.cartoons import make_utkface
from tests.prepared import build_set, read_records, read_summary
from tfds_builders.utkface import utkface_dataset_builder as utkface

NAMES = [f'{age}_{age % 2}_{age % 5}_20170116{age:09d}.jpg.chip.jpg' for age in range(1, 41)]


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
  return make_utkface(tmp_path_factory.mktemp('raw'), NAMES)


def assert_one_line(error, *words):
  message = str(error.value)
  assert '\n' not in message
  for word in words:
    assert word in message


def assert_same_records(path_a, path_b):
  for a, b in zip(read_records(path_a), read_records(path_b), strict=True):
    assert a['image_id'] == b['image_id']
    assert (a['labels'], a['mask']) == (b['labels'], b['mask'])
    np.testing.assert_array_equal(a['image'], b['image'])


# --- Names ----------------------------------------------------------------------------------------


def test_available_lists_every_builder_in_the_package():
  folder = pathlib.Path(build_lib.tfds_builders.__file__).parent
  expected = {path.parent.name for path in folder.glob('*/*_dataset_builder.py')}
  found = build_lib.available()
  assert set(found) == expected
  assert found['genki4k'] == ['gray48', 'rgb224']
  assert found['utkface'] == ['gray48', 'rgb64', 'rgb96', 'rgb224', 'rgb64_mtcnn', 'rgb224_mtcnn']
  assert found['fer2013'] == ['gray48', 'rgb32', 'rgb64', 'rgb96', 'rgb224']


def test_every_builder_has_the_files_that_tfds_reads():
  from tensorflow_datasets.core import dataset_metadata

  for name in build_lib.available():
    metadata = build_lib.find_builder(name)[0].get_metadata()
    assert name in metadata.description
    assert '@' in metadata.citation or name in ('synthetic_faces', 'image_csv')
    assert metadata.tags
    assert set(metadata.tags) <= set(dataset_metadata.valid_tags())


@pytest.mark.parametrize(
  ('name', 'words'),
  [
    ('celebb', ["'celebb'", 'genki4k/gray48', 'fer2013/gray48', 'utkface/rgb224']),
    ('fer2013/rgb33', ["'rgb33'", 'fer2013', 'gray48']),
    ('genki4k/rgb64_crop6', ["'rgb64_crop6'", 'rgb224', '(gray|rgb)32...256[_crop1|crop2']),
    ('', ['genki4k/gray48']),
  ],
)
def test_unknown_names_list_what_there_is(tmp_path, name, words):
  with pytest.raises(UserError) as error:
    build_lib.build(name, data_dir=tmp_path)
  assert_one_line(error, *words)


# --- Where the download is ------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('name', 'looked_for', 'source'),
  [
    ('genki4k', 'labels.txt and files/', 'https://inc.ucsd.edu/mplab/398/'),
    ('fer2013', 'fer2013.csv', 'https://www.kaggle.com/'),
    ('utkface', '*.chip.jpg', 'https://susanqq.github.io/UTKFace/'),
    ('lfw', 'NAME/NAME_0001.jpg', 'http://vis-www.cs.umass.edu/lfw/'),
    ('vggface2', 'identity_meta.csv', 'https://github.com/ox-vgg/vgg_face2'),
    ('affectnet', 'training.csv', 'http://mohammadmahoor.com/affectnet/'),
    ('fairface', 'fairface_label_train.csv', 'https://github.com/joojs/fairface'),
    ('afew', 'Train_AFEW/Angry/', 'https://users.cecs.anu.edu.au/~few_group/AFEW.html'),
    ('vgaf', 'Train_labels.txt', 'https://sites.google.com/view/emotiw2020'),
    ('emotionet', 'EmotioNet_FACS.csv', 'http://cbcsl.ece.ohio-state.edu/EmotionNetChallenge/'),
    ('sfew', 'Train_Aligned_Faces/Angry/', 'https://users.cecs.anu.edu.au/~few_group/AFEW.html'),
    ('ckplus', 'cohn-kanade-images/S005/', 'https://www.jeffcohn.net/resources/'),
    ('jaffe', 'KA.AN1.39.tiff', 'https://zenodo.org/records/3451524'),
  ],
)
def test_a_wrong_manual_dir_says_what_was_looked_for_and_where_it_is_to_be_had(
  tmp_path, name, looked_for, source
):
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'set.tar').write_text('not unpacked')
  cases = {
    None: '--manual_dir is not given',
    'gone': 'no such folder',
    'set.tar': 'not a folder',
    'empty': 'found no',
  }
  for manual_dir, found in cases.items():
    with pytest.raises(UserError) as error:
      build_lib.build(
        name, data_dir=tmp_path / 'data', manual_dir=manual_dir and tmp_path / manual_dir
      )
    assert_one_line(error, found, looked_for, source, '--manual_dir')
    if manual_dir:
      assert str(tmp_path / manual_dir) in str(error.value)
  assert not (tmp_path / 'data').exists()


# --- Building -------------------------------------------------------------------------------------


def test_build_prints_an_account_and_returns_the_folder(raw, tmp_path, capsys):
  path = build_set('utkface', raw, tmp_path)
  assert path == tmp_path / 'utkface/gray48/1.0.0'
  printed = capsys.readouterr().out
  for text in (
    '40 images',
    'gender: 40 labelled: female 20, male 20',
    'left out: 0',
    'duplicates: 0',
    str(path),
  ):
    assert text in printed
  assert sorted(p.name for p in path.parent.iterdir()) == ['.build.lock', '1.0.0']
  assert read_summary(path)['images'] == 40


def test_records_do_not_depend_on_the_number_of_workers(raw, tmp_path):
  alone = build_set('utkface', raw, tmp_path / '1', workers=1)
  shared = build_set('utkface', raw, tmp_path / '2', workers=2)
  assert_same_records(alone, shared)
  about_time = ('seconds', 'built')
  a, b = (
    {k: v for k, v in read_summary(path).items() if k not in about_time} for path in (alone, shared)
  )
  assert a == b


def test_what_is_built_is_not_built_again(raw, tmp_path, capsys):
  path = build_set('utkface', raw, tmp_path)
  before = (path / 'build_summary.json').stat().st_mtime_ns
  assert build_lib.build('utkface', data_dir=tmp_path) == path  # needs no download any more
  assert 'already built' in capsys.readouterr().out
  assert (path / 'build_summary.json').stat().st_mtime_ns == before


def test_overwrite(raw, tmp_path):
  folder = tmp_path / 'raw'
  shutil.copytree(raw, folder)
  path = build_set('utkface', folder, tmp_path)
  (folder / NAMES[0]).unlink()
  assert build_set('utkface', folder, tmp_path, overwrite=True) == path
  assert read_summary(path)['images'] == len(read_records(path)) == 39


def test_a_failed_overwrite_keeps_the_old_set(raw, tmp_path):
  folder = tmp_path / 'raw'
  shutil.copytree(raw, folder)
  path = build_set('utkface', folder, tmp_path)
  for name in NAMES[:20]:
    (folder / name).write_bytes(b'')
  with pytest.raises(UserError, match='20 of 40 images'):
    build_set('utkface', folder, tmp_path, overwrite=True)
  assert len(read_records(path)) == 40
  assert sorted(p.name for p in path.parent.iterdir()) == ['.build.lock', '1.0.0']


# --- Interruption ---------------------------------------------------------------------------------


def wait_until(true, seconds=60):
  end = time.monotonic() + seconds
  while not true():
    assert time.monotonic() < end, 'waited too long'
    time.sleep(0.05)


def is_running(pid):
  try:
    return pathlib.Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
  except FileNotFoundError:
    return False


def start_slow_build(raw, tmp_path):
  pids = tmp_path / 'pids'
  pids.mkdir()
  command = [
    sys.executable,
    '-m',
    'tests.slow_builder',
    str(raw),
    str(tmp_path / 'data'),
    str(pids),
  ]
  root = pathlib.Path(__file__).parents[2]
  process = subprocess.Popen(
    command, cwd=root, stderr=subprocess.PIPE, text=True, start_new_session=True
  )
  wait_until(lambda: len(list(pids.iterdir())) == 2 or process.poll() is not None)
  assert process.poll() is None, process.stderr.read()
  return process, [int(p.name) for p in pids.iterdir()]


@pytest.mark.skipif(not os.path.isdir('/proc'), reason='looks for processes in /proc')
@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_build_leaves_nothing_that_looks_finished(raw, tmp_path, how, capsys):
  process, workers = start_slow_build(raw, tmp_path)
  folder = tmp_path / 'data/utkface/gray48'
  assert list(folder.glob('incomplete.*'))
  if how == signal.SIGINT:
    os.killpg(process.pid, how)  # as a terminal does on Ctrl-C: to the workers too
  else:
    process.send_signal(how)
  _, printed = process.communicate(timeout=30)
  assert process.returncode != 0
  assert 'Process-' not in printed, 'a worker printed a traceback of its own'
  assert not (folder / '1.0.0').exists()
  wait_until(lambda: not any(map(is_running, workers)), seconds=20)  # no orphans
  left = list(folder.glob('incomplete.*'))
  assert bool(left) == (how == signal.SIGKILL)

  path = build_set('utkface', raw, tmp_path / 'data')
  assert ('removing leftovers of an interrupted build' in capsys.readouterr().out) == bool(left)
  assert not list(folder.glob('incomplete.*'))
  assert_same_records(path, build_set('utkface', raw, tmp_path / 'undisturbed'))


def test_two_builds_of_one_set_do_not_meet(raw, tmp_path):
  process, _ = start_slow_build(raw, tmp_path)
  try:
    with pytest.raises(UserError) as error:
      build_set('utkface', raw, tmp_path / 'data')
    assert_one_line(error, 'another build of this set is running')
  finally:
    process.kill()
    process.wait()


def test_a_folder_in_the_way(raw, tmp_path):
  (tmp_path / 'utkface/gray48/1.0.0').mkdir(parents=True)
  with pytest.raises(UserError) as error:
    build_set('utkface', raw, tmp_path)
  assert_one_line(error, '1.0.0', 'remove it')


# --- Disks and memory -----------------------------------------------------------------------------


def test_data_dir_that_cannot_be_written(raw, tmp_path):
  (tmp_path / 'file').write_text('in the way')
  with pytest.raises(UserError) as error:
    build_set('utkface', raw, tmp_path / 'file')
  assert_one_line(error, str(tmp_path / 'file'), 'nothing was built', '--data_dir')


@pytest.mark.parametrize(
  ('raised', 'words'),
  [
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), ['the disk is full', '--data_dir']),
    # What array_record raised on a full tmpfs.
    (
      RuntimeError('write() failed: No space left on device; writing /data/x; at byte 2093056'),
      ['the disk is full'],
    ),
    (
      PermissionError(errno.EACCES, 'Permission denied', '/data/x'),
      ['/data/x: Permission denied', '--data_dir'],
    ),
    (BrokenProcessPool('a child process terminated'), ['killed', 'memory']),
  ],
)
def test_what_the_system_refuses_is_said_in_one_line(raw, tmp_path, monkeypatch, raised, words):
  def fail(*_, **__):
    raise raised

  monkeypatch.setattr(utkface, 'convert', fail)
  with pytest.raises(UserError) as error:
    build_set('utkface', raw, tmp_path)
  assert_one_line(error, 'nothing was built', *words)
  assert [p.name for p in (tmp_path / 'utkface/gray48').iterdir()] == ['.build.lock']


def test_a_bug_keeps_its_traceback(raw, tmp_path, monkeypatch):
  monkeypatch.setattr(utkface, 'convert', lambda path, **_: [path.no_such_attribute])
  with pytest.raises(AttributeError):
    build_set('utkface', raw, tmp_path)


def test_a_builder_asks_no_bucket_and_leaves_nothing_in_tmpdir(tmp_path, monkeypatch):
  from tensorflow_datasets.core.utils import gcs_utils

  temporary = tmp_path / 'tmp'
  temporary.mkdir()
  monkeypatch.setattr(build_lib.tempfile, 'tempdir', str(temporary))
  asked = []
  monkeypatch.setattr(gcs_utils, 'gcs_dataset_info_files', lambda name: asked.append(name))
  build_lib.find_builder('synthetic_faces/smile_gray48')[0](
    config='smile_gray48', data_dir=tmp_path / 'data'
  )
  assert (asked, list(temporary.iterdir())) == ([], [])
