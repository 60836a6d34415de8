"""Bad input, through the entry point: one clear line that names what is wrong and what to do, exit code 2, nothing half-written.

Most cases run in this process (`mtface` of tests/conftest.py, whose `error` checks the line and the code); those that need real processes
are in test_full_disk.py, test_devices.py and test_resume.py.
"""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from mtface import optim
from mtface.checkpoints import Checkpoints
from tests.cartoons import make_fer2013, make_genki4k, make_utkface
from tests.command import TINY
from tests.fakes import write_prepared

# --- Flags and configs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('arguments', 'pieces'),
  [
    (['trian'], ["'trian' is no command", 'train, evaluate']),
    (['train', '--workdir=w'], ['--config is missing', '--config=demo']),
    (['train', f'--config={TINY}'], ['--workdir is missing', 'name the folder']),
    (['train', f'--config={TINY}', '--workdir=w', '--steps=3'], ['steps', 'mtface train --help']),
    (['train', f'--config={TINY}', '--workdir=w', 'now'], ["'now': train takes only flags", 'mtface train --help']),
    (['evaluate', f'--config={TINY}', '--workdir=w'], ['--config: evaluate takes none', 'mtface evaluate --help']),
    (['train', '--config=sang2071', '--workdir=w'], ['--config=sang2071', 'there are', 'sang2017']),
    (['params', '--config=sang2017:A9'], ['argument row', "'A9' is not one of A1, A2, A3, A4"]),
    (['params', '--config=sang2017:A2,fold=x'], ['argument fold', "'x' is not of type int"]),
    (['params', '--config=sang2017:A2,colour=red'], ["argument 'colour=red' is unknown", 'row=A1|A2|A3|A4']),
    (['params', '--config=demo:A2'], ["demo.py: takes no argument, 'A2' was given", 'leave out']),
    (['build'], ['build: name a set', 'docs/datasets.md']),
  ],
  ids=lambda value: ' '.join(value[:3]).replace(TINY, 'tiny') if value and value[0].isalpha() else '',
)
def test_flags(mtface, arguments, pieces):
  error = mtface(*arguments).error
  assert all(piece in error for piece in pieces), error


@pytest.mark.parametrize(
  ('text', 'pieces'),
  [
    ('def get_config(:', ['mine.py:1: SyntaxError', 'correct the config file']),
    ('x = 1\nfrom mtface.config import experimnt', ['mine.py:2: ImportError', 'experimnt']),
    ('config = 3', ['mine.py: has no function get_config', 'get_config(arg=None) -> ConfigDict']),
    ('def get_config():\n  return {}[5]', ['mine.py:2: KeyError: 5']),
    ('def get_config():\n  return {}', ['mine.py: get_config returned dict', 'experiment()']),
    (
      'import ml_collections\nget_config = ml_collections.ConfigDict',
      ['mine.py: the field', 'is missing', 'experiment()'],
    ),
    (
      'from mtface.config import experiment\ndef get_config():\n  c = experiment()\n  c.batch_size = "many"\n  return c',
      ['mine.py:4: TypeError', 'batch_size'],
    ),
    (
      'from mtface.config import *\ndef get_config():\n  c = experiment()\n  c.tasks.smile = {"weight": 1.0}\n  return c',
      ['mine.py: the field tasks.smile.class_weights is missing', 'task()'],
    ),
    ('from mtface.config import *\nget_config = experiment', ['config: no tasks or no sources']),
  ],
)
def test_config_files(mtface, tiny_data, tmp_path, text, pieces):
  (tmp_path / 'mine.py').write_text(text)
  error = mtface('train', f'--config={tmp_path}/mine.py', f'--workdir={tmp_path}/w', f'--data_dir={tiny_data}').error
  assert all(piece in error for piece in pieces), error
  assert not (tmp_path / 'w').exists()


@pytest.mark.parametrize(
  ('override', 'pieces'),
  [
    ('batch_size=abc', ['--config.batch_size=abc', 'int']),
    ('batch_sise=8', ['--config.batch_sise', 'the fields here are: ', 'batch_size']),
    ('tasks.laugh.weight=1', ['--config.tasks.laugh.weight', 'gender, smile']),
    ('augment.flip=maybe', ['--config.augment.flip=maybe', 'boolean']),
    ('batch_size=0', ['config.batch_size: 0', 'from 1 to']),
    ('evaluation.batch_size=-8', ['config.evaluation.batch_size: -8', 'from 1 to']),
    ('seed=-1', ['config.seed: -1', 'from 0 to']),
    ('optimizer.rate=nan', ['config.optimizer.rate: nan', 'more than 0']),
    ('loss.l2=inf', ['config.loss.l2: inf', 'at least 0']),
    ('tasks.smile.weight=nan', ['config.tasks.smile.weight: nan', 'at least 0']),
    ('model.dropout=1.5', ['config.model.dropout: 1.5', 'less than 1']),
    ('model.width=-1', ['config.model.width: -1.0', 'more than 0']),
    ('augment.pad=-1', ['config.augment.pad: -1', 'at least 0']),
    ('checkpoint.keep_last=0', ['config.checkpoint.keep_last: 0', 'at least 1']),
    ('duration=0 steps', ["config.duration: '0 steps'", 'more than 0']),
    ('log_every=soon', ["config.log_every: 'soon'", '2000 steps']),
    ('checkpoint.every=-1 epochs', ["config.checkpoint.every: '-1 epochs'", '10 epochs']),
    ('duration=99999999999999 steps', ['config.duration', 'at most 2^31']),
    ('model.name=vgg', ["config.model.name 'vgg'", 'bknet']),
    ('model.dtype=float17', ["config.model.dtype 'float17'", 'float32, bfloat16']),
    ('model.init=zeros', ["config.model.init 'zeros'", 'gaussian, he']),
    ('mixture=equally', ["mixture 'equally'", 'equal, proportional, alternate']),
    ('loss.over=some', ["config.loss.over 'some'", 'all, labelled']),
    ('tasks.smile.loss=hinge', ["config.tasks.smile.loss 'hinge'", 'multiclass_squared_hinge']),
    ('tasks.smile.class_weights=heavy', ["config.tasks.smile.class_weights 'heavy'", 'none, balanced']),
    ('optimizer.schedule=cosine', ["config.optimizer.schedule 'cosine'", 'exponential, one_cycle']),
    ('image_shape=(16,16)', ['config.image_shape: (16, 16)', '(height, width, channels)']),
    ('image_shape=(48,48,1)', ['tiny/people:train: its images are 16x16x1', 'change config.image_shape']),
    ('evaluation.best_on=("x",)', ["config.evaluation.best_on: 'x'", 'people, smiles']),
    ('evaluation.best_on=("people",)', ['config.evaluation.best_on: people', 'during_training too']),
    ('evaluation.sets.smiles.name=tiny/smile', ["source 'tiny/smile'", 'genki4k/gray48:train']),
    ('sources.smiles.name=tiny/smile', ["source 'tiny/smile'", 'genki4k/gray48:train']),
    ('sources.smiles.name=tiny:train', ["source 'tiny'", 'name the prepared config too']),
    ('sources.smiles.name=tiny/none:train', ['tiny/none: no prepared set', 'mtface build tiny/none']),
    ('sources.smiles.name=tiny/smile:validation', ["no split 'validation'", 'test, train']),
    ('sources.smiles.name=tiny/smile:train[fold=4/4]', ['fold 4/4 does not exist', '0 to N-1']),
    ('sources.smiles.name=tiny/smile:train[fold=-1/4]', ['[fold=-1/4]', '[fold=K/N]']),
    ('sources.smiles.name=tiny/smile:train[fold=0/99]', ['folds is 99', 'only 24 images']),
    ('sources.smiles.tasks=("gender",)', ["tiny/smile:train: has no labels for task 'gender'", 'it has smile']),
    ('sources.smiles.tasks=("laugh",)', ["task 'laugh' is unknown", 'smile, emotion7']),
  ],
  ids=lambda value: value if isinstance(value, str) else '',
)
def test_overrides(mtface, tiny_data, tmp_path, override, pieces):
  workdir = tmp_path / 'w'
  error = mtface(
    'train', f'--config={TINY}', f'--workdir={workdir}', f'--data_dir={tiny_data}', f'--config.{override}'
  ).error
  assert all(piece in error for piece in pieces), error
  assert not workdir.exists(), 'the corrected command would find a run with the bad config there'


# --- Workdirs -----------------------------------------------------------------------------------------------------------------------


def test_a_changed_config_does_not_continue_another_run(mtface, tiny_data, run_copy):
  command = ['train', f'--config={TINY}', f'--workdir={run_copy}', f'--data_dir={tiny_data}']
  error = mtface(*command, '--config.optimizer.rate=0.02', '--config.seed=1').error
  assert 'optimizer.rate=0.01, the config now says 0.02 (and 1 more fields)' in error
  assert 'another --workdir' in error
  assert mtface(*command).code == 0


@pytest.mark.parametrize('folder', ['/proc/mtface', '{file}/run'])
def test_a_workdir_that_cannot_be_made(mtface, tiny_data, tmp_path, folder):
  (tmp_path / 'file').write_text('')
  folder = folder.format(file=tmp_path / 'file')
  error = mtface('train', f'--config={TINY}', f'--workdir={folder}', f'--data_dir={tiny_data}').error
  assert error.startswith(f'{folder}: the workdir cannot be written')
  assert 'choose another --workdir' in error


def damage_config(run, text):
  (run / 'config.json').write_text(text)


def drop_field(run):
  config = json.loads((run / 'config.json').read_text())
  del config['config']['optimizer']['rate']
  damage_config(run, json.dumps(config))


WORKDIRS = {
  'absent': (shutil.rmtree, ['config.json: not found', 'mtface train']),
  'a file': (lambda run: (shutil.rmtree(run), run.write_text('')), ['config.json: not found', '--workdir']),
  'no config': (lambda run: (run / 'config.json').unlink(), ['config.json: not found', '--workdir']),
  'cut config': (lambda run: damage_config(run, '{"config": {"na'), ['config.json: is damaged', 'another --workdir']),
  'config is a list': (lambda run: damage_config(run, '[]'), ['config.json: is damaged', 'another --workdir']),
  'binary config': (
    lambda run: (run / 'config.json').write_bytes(b'\xff\xfe\x00'),
    ['config.json: is damaged', '--workdir'],
  ),
  'a field is gone': (drop_field, ['config.json: is damaged', 'optimizer.rate is missing']),
  'no checkpoints': (
    lambda run: shutil.rmtree(run / 'checkpoints'),
    ['checkpoints/main: no checkpoints', 'train first'],
  ),
  'empty folder': (
    lambda run: [shutil.rmtree(path) for path in (run / 'checkpoints/main').iterdir()],
    ['checkpoints/main: holds no checkpoint yet', 'train first'],
  ),
  'cut results': (lambda run: (run / 'results.json').write_text('{"resul'), ['results.json: is damaged', 'delete it']),
  'other results': (
    lambda run: (run / 'results.json').write_text('{"results": [3]}'),
    ['results.json: is damaged', 'delete'],
  ),
}


@pytest.mark.parametrize('damage', WORKDIRS)
def test_evaluate_needs_a_whole_workdir(mtface, tiny_data, run_copy, damage):
  do, pieces = WORKDIRS[damage]
  do(run_copy)
  error = mtface('evaluate', f'--workdir={run_copy}', f'--data_dir={tiny_data}').error
  assert all(piece in error for piece in pieces), error


@pytest.mark.parametrize(
  ('flags', 'pieces'),
  [
    (['--checkpoint=first'], ['--checkpoint=first', 'last, best, a step, average:K or ensemble:K']),
    (['--checkpoint=average:0'], ['--checkpoint=average:0', 'average:K']),
    (['--checkpoint=average:99'], ['holds 3 checkpoints', 'average:99 needs 99']),
    (['--checkpoint=last,ensemble:99'], ['holds 3 checkpoints', 'ensemble:99 needs 99']),
    (['--checkpoint=5'], ['no checkpoint of step 5', 'there are 4, 8, 12']),
    (['--checkpoint=best'], ['no checkpoint is marked best', 'config.evaluation.best_on', 'use last']),
    (['--on=faces'], ["source 'faces'", 'SET/CONFIG:SPLIT']),
    (
      ['--on=tiny/age:train'],
      ['--on=tiny/age:train: labels age_group', 'the network predicts gender, smile; name a set'],
    ),
    (['--sheets'], ['sheets', 'mtface evaluate --help']),
  ],
  ids=lambda value: value[0] if value[0].startswith('--') else '',
)
def test_evaluate_flags(mtface, tiny_data, tiny_run, flags, pieces):
  if '--on=tiny/age:train' in flags:
    write_prepared(tiny_data, 'tiny/age', {'train': 6}, {'age_group': 1.0})
  error = mtface('evaluate', f'--workdir={tiny_run}', f'--data_dir={tiny_data}', *flags).error
  assert all(piece in error for piece in pieces), error
  assert not (tiny_run / 'results.json').exists()


def flip_bytes(path, at=0.5):
  """Changes 16 bytes of a file."""
  data = bytearray(path.read_bytes())
  start = int(len(data) * at)
  data[start : start + 16] = bytes(255 - byte for byte in data[start : start + 16])
  path.write_bytes(data)


def largest_file(folder):
  return max((path for path in folder.rglob('*') if path.is_file()), key=lambda path: path.stat().st_size)


def test_evaluate_says_that_a_checkpoint_is_damaged(mtface, tiny_data, run_copy):
  flip_bytes(largest_file(run_copy / 'checkpoints/main/000000012/state'))
  command = ['evaluate', f'--workdir={run_copy}', f'--data_dir={tiny_data}', '--on=smiles']
  error = mtface(*command).error
  assert 'checkpoints/main: checkpoint 12 is damaged' in error
  assert '--checkpoint' in error
  assert mtface(*command, '--checkpoint=8').code == 0


@pytest.mark.parametrize('part', ['state', 'metrics'])
def test_training_skips_a_damaged_newest_checkpoint(mtface, tiny_data, tiny_run, run_copy, part):
  checkpoint = run_copy / 'checkpoints/main/000000012'
  flip_bytes(largest_file(checkpoint / 'state') if part == 'state' else checkpoint / 'metrics/metrics')
  result = mtface('train', f'--config={TINY}', f'--workdir={run_copy}', f'--data_dir={tiny_data}')
  assert result.code == 0, result.err
  (warning,) = result.warnings
  assert 'checkpoint 12 is damaged' in warning
  assert 'checkpoint 8 is used' in warning
  assert 'Traceback' not in result.err
  # Steps 9 to 12 were trained again, to the same parameters.
  stored = [Checkpoints(run)._scores(12)['checksum'] for run in (tiny_run, run_copy)]
  assert stored[0] == stored[1]


@pytest.mark.parametrize(('update', 'what'), [(6, 'step 7: the loss is not finite'), (8, "step 8: state.params['")])
def test_nan_names_the_step_and_keeps_the_checkpoints_before(
  mtface, tiny_data, tiny_run, tmp_path, monkeypatch, update, what
):
  command = ['train', f'--config={TINY}', f'--workdir={tmp_path}/run', f'--data_dir={tiny_data}']
  make_schedule = optim.make_schedule

  def spoilt(config, steps):
    return lambda count: jnp.where(count == update - 1, jnp.inf, make_schedule(config, steps)(count))

  with monkeypatch.context() as patched:
    patched.setattr(optim, 'make_schedule', spoilt)
    error = mtface(*command).error
  assert error.startswith(what)
  assert 'Lower config.optimizer.rate' in error
  assert Checkpoints(tmp_path / 'run').steps == [4]

  assert mtface(*command).code == 0, 'the same workdir, the cause removed'
  assert Checkpoints(tmp_path / 'run')._scores(12)['checksum'] == Checkpoints(tiny_run)._scores(12)['checksum']


# --- Prepared sets ------------------------------------------------------------------------------------------------------------------


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
  error = mtface('train', f'--config={TINY}', f'--workdir={tmp_path}/w', f'--data_dir={data_copy}').error
  assert error.startswith(f'{folder}: the prepared set cannot be read')
  assert 'build it again with `mtface build tiny/smile --overwrite`' in error
  assert not (tmp_path / 'w').exists()
  assert not (folder / 'arrays' / 'train').exists()


def test_a_prepared_set_without_its_info_is_none(mtface, data_copy, tmp_path):
  (data_copy / 'tiny/smile/1.0.0/dataset_info.json').unlink()
  error = mtface('describe', f'--config={TINY}', f'--data_dir={data_copy}').error
  assert 'tiny/smile: no prepared set is here' in error
  assert '`mtface build tiny/smile' in error


CACHES = {
  'cut array': lambda cache: (cache / 'images.npy').write_bytes((cache / 'images.npy').read_bytes()[:500]),
  'no numpy file': lambda cache: (cache / 'images.npy').write_bytes(b'x' * (cache / 'images.npy').stat().st_size),
  'missing array': lambda cache: (cache / 'labels.smile.npy').unlink(),
  'cut index': lambda cache: (cache / 'index.json').write_text('{"form'),
  'index is a list': lambda cache: (cache / 'index.json').write_text('[]'),
}


@pytest.mark.parametrize('damage', CACHES)
def test_a_damaged_cache_is_made_again(mtface, data_copy, damage):
  command = ['describe', f'--config={TINY}', f'--data_dir={data_copy}']
  good = mtface(*command)
  cache = data_copy / 'tiny/smile/1.0.0/arrays/train'
  CACHES[damage](cache)
  result = mtface(*command)
  assert (result.code, result.out) == (0, good.out)
  if damage != 'missing array':
    assert 'the cache is damaged' in result.warnings[0]
  assert not mtface(*command).warnings


# --- Builds: what the sets' own tests do not run through the command line -----------------------------------------------------------


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
  from tfds_builders import parallel

  monkeypatch.setattr(parallel, 'num_cpus', lambda: 1)  # the workers would start longer than these sets take


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
  'no such config': ('genki4k/gray49', lambda raw: raw.mkdir(), ["no config 'gray49'", 'gray48, rgb224']),
  'no such folder': ('fer2013', lambda raw: None, ['there is no such folder', 'fer2013.csv', 'kaggle.com']),
  'empty folder': ('genki4k', lambda raw: raw.mkdir(), ['found no labels.txt and files/', 'inc.ucsd.edu']),
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
    lambda raw: csv(raw, lambda text: second_row(text, lambda row: row.replace(' ', ' 256 ', 1).replace(' 1', '', 1))),
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
  error = mtface('build', set_name, f'--manual_dir={tmp_path}/raw', f'--data_dir={tmp_path}/data').error
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


@pytest.mark.parametrize('contents', [b'', b'no image', None], ids=['zero bytes', 'no image', 'truncated'])
def test_a_damaged_image_is_counted_and_listed(mtface, tmp_path, contents):
  make_utkface(tmp_path / 'raw', [f'{age}_0_1_20170109150557335.jpg.chip.jpg' for age in range(20, 24)])
  broken = tmp_path / 'raw' / '21_0_1_20170109150557335.jpg.chip.jpg'
  broken.write_bytes(broken.read_bytes()[:900] if contents is None else contents)
  result = mtface('build', 'utkface/gray48', f'--manual_dir={tmp_path}/raw', f'--data_dir={tmp_path}/data')
  assert result.code == 0, result.err
  assert 'left out: 1 (damaged image 1)' in result.out
  summary = json.loads((tmp_path / 'data/utkface/gray48/1.0.0/build_summary.json').read_text())
  assert (summary['images'], summary['left_out']['list'][0]['image_id']) == (3, '21_0_1_20170109150557335.jpg')
