"""Bad input, as in test_bad_input.py: prepared sets, their caches, and what is built from a raw
download.
"""

import json
import shutil

import numpy as np
import pytest

from tests.cartoons import make_fer2013, make_genki4k, make_utkface
from tests.command import TINY
from tests.fakes import flip_bytes

# --- Prepared sets --------------------------------------------------------------------------------


@pytest.fixture
def data_copy(tiny_data, tmp_path):
  """Prepared sets to be damaged; tiny/smile lies alone, without its cache."""
  copy = shutil.copytree(tiny_data, tmp_path / 'data')
  shutil.rmtree(copy / 'tiny/smile/1.0.0/arrays', ignore_errors=True)
  return copy


def shard(folder):
  return next(folder.glob('*-train.array_record*'))


PREPARED = {
  'flipped bytes': lambda folder: flip_bytes(shard(folder), at=0.004),
  'cut shard': lambda folder: shard(folder).write_bytes(shard(folder).read_bytes()[:70000]),
  'empty shard': lambda folder: shard(folder).write_bytes(b''),
  'missing shard': lambda folder: shard(folder).unlink(),
  'cut dataset_info': lambda folder: (folder / 'dataset_info.json').write_text('{"name'),
  'no features': lambda folder: (folder / 'features.json').unlink(),
  'cut features': lambda folder: (folder / 'features.json').write_text('{"a'),
}


@pytest.mark.parametrize('damage', PREPARED)
def test_a_damaged_prepared_set(mtface, data_copy, tmp_path, damage):
  folder = data_copy / 'tiny/smile/1.0.0'
  PREPARED[damage](folder)
  error = mtface(
    'train', f'--config={TINY}', f'--workdir={tmp_path}/w', f'--data_dir={data_copy}'
  ).error
  assert error.startswith(f'{folder}: the prepared set cannot be read')
  assert 'rebuild it with `mtface build tiny/smile --overwrite`' in error
  assert not (tmp_path / 'w').exists()
  assert not (folder / 'arrays' / 'train').exists()


def test_a_prepared_set_without_its_info_is_none(mtface, data_copy, tmp_path):
  (data_copy / 'tiny/smile/1.0.0/dataset_info.json').unlink()
  error = mtface('describe', f'--config={TINY}', f'--data_dir={data_copy}').error
  assert 'tiny/smile: no prepared set found' in error
  assert '`mtface build tiny/smile' in error


CACHES = {
  'cut array': lambda cache: (cache / 'mask.smile.npy').write_bytes(
    (cache / 'mask.smile.npy').read_bytes()[:130]
  ),
  'no numpy file': lambda cache: (cache / 'groups.npy').write_bytes(
    b'x' * (cache / 'groups.npy').stat().st_size
  ),
  'missing array': lambda cache: (cache / 'labels.smile.npy').unlink(),
  'cut index': lambda cache: (cache / 'index.json').write_text('{"form'),
  'index is a list': lambda cache: (cache / 'index.json').write_text('[]'),
}


@pytest.mark.parametrize('damage', CACHES)
def test_a_damaged_index_is_made_again(mtface, data_copy, damage):
  def said(result):
    return [
      line for line in result.out.splitlines() if not line.startswith('images: ')
    ]  # which say how much memory is left

  command = ['describe', f'--config={TINY}', f'--data_dir={data_copy}']
  good = mtface(*command)
  cache = data_copy / 'tiny/smile/1.0.0/arrays/train'
  CACHES[damage](cache)
  result = mtface(*command)
  assert (result.code, said(result)) == (0, said(good))
  if damage != 'missing array':
    assert 'the index is damaged' in result.warnings[0]
  assert not mtface(*command).warnings


# --- Builds: what the sets' own tests do not run through the command line -------------------------


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
  from tfds_builders import parallel

  monkeypatch.setattr(
    parallel, 'num_cpus', lambda: 1
  )  # the workers would start longer than these sets take


def faces(count):
  return np.random.default_rng(0).integers(0, 256, (count, 48, 48), dtype=np.uint8)


def csv(folder, change=lambda text: text, rows=4):
  usages = ['Training', 'Training', 'PublicTest', 'PrivateTest']
  make_fer2013(folder, list(zip([0, 3, 6, 2], faces(4), usages, strict=True))[:rows])
  path = folder / 'fer2013.csv'
  path.write_text(change(path.read_text()))


def genki(folder, contents=None, count=3):
  make_genki4k(folder, [np.full((60, 60, 3), 50 * i, np.uint8) for i in range(count)], [0] * count)
  if contents is not None:
    for path in (folder / 'files').iterdir():
      path.write_bytes(contents)


def second_row(text, change):
  lines = text.splitlines()
  lines[2] = change(lines[2])
  return '\n'.join(lines)


BUILDS = {
  'no such set': ('genki5k/gray48', lambda raw: raw.mkdir(), ["'genki5k'", 'genki4k/gray48']),
  'no such config': (
    'genki4k/red48',
    lambda raw: raw.mkdir(),
    ["no config 'red48'", 'gray48, rgb224'],
  ),
  'no such folder': (
    'fer2013',
    lambda raw: None,
    ['no such folder', 'fer2013.csv', 'kaggle.com'],
  ),
  'empty folder': (
    'genki4k',
    lambda raw: raw.mkdir(),
    ['found no labels.txt and files/', 'inc.ucsd.edu'],
  ),
  'no chips': ('utkface', lambda raw: raw.mkdir(), ['found no *.chip.jpg', 'susanqq.github.io']),
  'empty csv': (
    'fer2013',
    lambda raw: csv(raw, lambda text: ''),
    ['fer2013.csv: the file is empty', 'emotion,pixels,Usage'],
  ),
  'header alone': ('fer2013', lambda raw: csv(raw, rows=0), ['fer2013.csv: no images of fer2013']),
  'missing column': (
    'fer2013',
    lambda raw: csv(raw, lambda text: text.replace('pixels', 'image', 1)),
    ['fer2013.csv: the column pixels is missing', 'expected emotion,pixels,Usage'],
  ),
  'short pixel row': (
    'fer2013',
    lambda raw: csv(raw, lambda text: second_row(text, lambda row: row.replace(' 1', '', 1))),
    ['fer2013.csv: row 1 has 2303 pixels', 'expected 2304'],
  ),
  'label out of range': (
    'fer2013',
    lambda raw: csv(raw, lambda text: second_row(text, lambda row: '7' + row[1:])),
    ["fer2013.csv: row 1 has the emotion '7'", 'from 0 to 6'],
  ),
  'pixel out of range': (
    'fer2013',
    lambda raw: csv(
      raw,
      lambda text: second_row(text, lambda row: row.replace(' ', ' 256 ', 1).replace(' 1', '', 1)),
    ),
    ['fer2013.csv: row 1 has', 'expected'],
  ),
  'unknown usage': (
    'fer2013',
    lambda raw: csv(raw, lambda text: text.replace('PublicTest', 'Test')),
    ["fer2013.csv: row 2 has the Usage 'Test'", 'PublicTest'],
  ),
  'missing image': (
    'genki4k',
    lambda raw: (genki(raw), (raw / 'files/file0002.jpg').rename(raw / 'files/file0007.jpg')),
    ['file0002.jpg: the image of line 2', 'is missing'],
  ),
  'smile out of range': (
    'genki4k',
    lambda raw: (genki(raw), (raw / 'labels.txt').write_text('0 0 0 0\n1 0 0 0\n2 0 0 0\n')),
    ["labels.txt: line 3 has the smile label '2'", 'expected 0 or 1'],
  ),
  'all images empty': (
    'genki4k',
    lambda raw: genki(raw, b''),
    ['3 of 3 images', 'file0001.jpg: the file is empty (0 bytes)', 'unpack it again'],
  ),
  'all images cut': (
    'utkface',
    lambda raw: (
      make_utkface(raw, ['1_0_0_20170109150557335.jpg.chip.jpg']),
      [path.write_bytes(path.read_bytes()[:900]) for path in raw.iterdir()],
    ),
    ['1 of 1 images', 'cannot be read as an image', 'unpack it again'],
  ),
}


@pytest.mark.parametrize('name', BUILDS)
def test_build(mtface, tmp_path, name):
  set_name, make, pieces = BUILDS[name]
  make(tmp_path / 'raw')
  error = mtface(
    'build', set_name, f'--manual_dir={tmp_path}/raw', f'--data_dir={tmp_path}/data'
  ).error
  assert all(piece in error for piece in pieces), error
  assert not list((tmp_path / 'data').rglob('1.0.0')), 'nothing looks whole'
  assert not list((tmp_path / 'data').rglob('*.array_record*'))


def test_build_without_a_manual_dir(mtface, tmp_path):
  error = mtface('build', 'fer2013/gray48', f'--data_dir={tmp_path}').error
  assert '--manual_dir is not given' in error
  assert 'kaggle.com' in error


@pytest.mark.parametrize('folder', ['/proc/mtface', '{file}/data'])
def test_build_into_a_folder_that_cannot_be_written(mtface, tmp_path, folder):
  (tmp_path / 'file').write_text('')
  csv(tmp_path / 'raw')
  folder = folder.format(file=tmp_path / 'file')
  error = mtface('build', 'fer2013', f'--manual_dir={tmp_path}/raw', f'--data_dir={folder}').error
  assert str(folder).split('/run')[0].rsplit('/', 1)[0] in error
  assert '--data_dir' in error


@pytest.mark.parametrize(
  'contents', [b'', b'no image', None], ids=['zero bytes', 'no image', 'truncated']
)
def test_a_damaged_image_is_counted_and_listed(mtface, tmp_path, contents):
  make_utkface(
    tmp_path / 'raw', [f'{age}_0_1_20170109150557335.jpg.chip.jpg' for age in range(20, 24)]
  )
  broken = tmp_path / 'raw' / '21_0_1_20170109150557335.jpg.chip.jpg'
  broken.write_bytes(broken.read_bytes()[:900] if contents is None else contents)
  result = mtface(
    'build', 'utkface/gray48', f'--manual_dir={tmp_path}/raw', f'--data_dir={tmp_path}/data'
  )
  assert result.code == 0, result.err
  assert 'left out: 1 (damaged image 1)' in result.out
  summary = json.loads((tmp_path / 'data/utkface/gray48/1.0.0/build_summary.json').read_text())
  assert (summary['images'], summary['left_out']['list'][0]['image_id']) == (
    3,
    '21_0_1_20170109150557335.jpg',
  )
