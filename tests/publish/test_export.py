"""Exported files against the run and against NumPy, as their users read them."""

import importlib.util
import json
import os
import subprocess
import sys
import zipfile

import jax
import jax.export
import numpy as np
import pytest

import mtface
from mtface.config.saved import read_config
from mtface.data.sources import Source
from mtface.errors import UserError
from mtface.evaluation.calibration import write_temperatures
from mtface.evaluation.chosen import Chosen
from mtface.evaluation.evaluator import Evaluator
from mtface.faces.cropping import Crop
from mtface.publish import contract, measured, onnx_file, precision
from mtface.publish.export import export_program
from mtface.training.selection import Selection
from tests.cartoons import cartoon
from tests.command import ROOT
from tests.publish.programs import FAMILIES, config_of, expected, images_of, program_of

try:
  PYTHON, NO_CONVERTER = onnx_file.converter(), ''
except UserError as error:
  PYTHON, NO_CONVERTER = '', str(error)
if missing := [of for of in ('onnx', 'onnxruntime') if not importlib.util.find_spec(of)]:
  NO_CONVERTER = f'{" and ".join(missing)} not installed'
needs_converter = pytest.mark.skipif(bool(NO_CONVERTER), reason=NO_CONVERTER)
SETS = {'people': 20, 'smiles': 12}
LABELLED = {'people': 15, 'smiles': 12}


@pytest.fixture(autouse=True, scope='module')
def short_times():
  """Times are taken of three batches, however short."""
  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(measured, '_SECONDS', 0)
    yield


def noise(count, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 1), np.uint8)


def said_by_run(workdir, data_dir, selection, images):
  evaluator = Evaluator(workdir, data_dir)
  ids = np.array([str(i) for i in range(len(images))])
  source = Source('by hand', images, np.arange(len(images)), ids, {}, {})
  return evaluator.predictions(evaluator.networks(Selection.parse(selection)), source)


def session_of(path):
  import onnxruntime

  return onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])


def about_onnx(path):
  return json.loads(session_of(path).get_modelmeta().custom_metadata_map['mtface'])


def said_by_onnx(path, images):
  session, names = session_of(path), [of['name'] for of in about_onnx(path)['tasks']]
  return dict(zip(names, session.run(names, {'image': images}), strict=True))


def agree(found, wanted, atol):
  assert set(found) == set(wanted)
  for task, rows in wanted.items():
    np.testing.assert_allclose(found[task], rows, atol=atol, err_msg=task)


# --- ONNX -----------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def onnx_run(tiny_run, tiny_data, tmp_path_factory):
  """(the file of the last checkpoint, what was reported of it)."""
  if NO_CONVERTER:
    pytest.skip(NO_CONVERTER)
  path = tmp_path_factory.mktemp('exported') / 'last.onnx'
  return path, export_program(tiny_run, tiny_data, 'last', path, format='onnx')


@pytest.mark.parametrize('count', [1, 3, 7, 33])
def test_onnx_says_what_the_run_says_in_any_batch(count, onnx_run, tiny_run, tiny_data):
  images = noise(count)
  agree(
    said_by_onnx(onnx_run[0], images), said_by_run(tiny_run, tiny_data, 'last', images), atol=1e-5
  )


def test_its_metadata_are_what_a_program_needs(onnx_run, tiny_run):
  about = about_onnx(onnx_run[0])
  assert about['format'] == 1
  assert [(of['name'], of['classes'], of['readout']) for of in about['tasks']] == [
    ('gender', ['female', 'male'], 'softmax'),
    ('smile', ['no_smile', 'smile'], 'softmax'),
  ]
  assert about['image']['shape'] == [16, 16, 1]
  assert Crop.from_json(about['crop']) == Crop(16, 1)
  noted = json.loads((tiny_run / 'config.json').read_text())['data']['main']
  assert about['run']['data'] == {name: of['fingerprint'] for name, of in noted.items()}
  assert about['run']['steps'] == [12]
  assert str(tiny_run.parent) not in json.dumps(about), 'no path of this machine'
  assert about['check']['images'] == sum(SETS.values())
  assert about['check']['of'] == 'images of people, smiles'
  assert about['check']['largest_difference'] < 1e-5


def test_what_is_reported_is_true(onnx_run):
  path, exported = onnx_run
  assert exported.about == about_onnx(path)
  assert exported.megabytes == path.stat().st_size / 1e6
  assert set(exported.milliseconds) == {1, 32}
  assert min(exported.milliseconds.values()) > 0
  assert [file.name for file in path.parent.iterdir()] == ['last.onnx']


def test_predict_takes_it(onnx_run, tiny_run):
  (ours,), (theirs,) = (mtface.load(of).predict(cartoon()) for of in (tiny_run, onnx_run[0]))
  assert ours.box == theirs.box
  for task, answer in ours.answers.items():
    np.testing.assert_allclose(
      list(theirs.answers[task].probabilities.values()),
      list(answer.probabilities.values()),
      atol=1e-5,
    )


@pytest.fixture(scope='module')
def families(tmp_path_factory):
  """{family: ONNX file}: all converted by one process of the converter, whose start takes longest;
  beside them a union, margins and an ensemble.
  """
  if NO_CONVERTER:
    pytest.skip(NO_CONVERTER)
  folder = tmp_path_factory.mktemp('families')
  jobs = []
  for name, (config, seeds) in CASES.items():
    (folder / name).mkdir()
    program = program_of(config, seeds)
    program.save(folder / name)
    names = {'input': 'image'} | {task: task for task in program.tasks}
    jobs.append((str(folder / name), str(folder / f'{name}.onnx'), names))
  code = (
    'import json, pathlib, sys; from mtface.publish.convert import convert\n'
    'for job, file, names in json.loads(sys.argv[1]):\n'
    '  convert(pathlib.Path(job), pathlib.Path(file), names)'
  )
  env = os.environ | {
    'PYTHONPATH': str(ROOT),
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': '--xla_backend_optimization_level=0',
  }
  subprocess.run([PYTHON, '-c', code, json.dumps(jobs)], env=env, check=True)
  return folder


CASES = {family: (config_of(family), (0,)) for family in FAMILIES} | {
  'union': (
    config_of('bknet', layer='union', tasks=('emotion7', 'compound_emotion', 'action_units')),
    (0,),
  ),
  'margins': (config_of('bknet', loss='multiclass_squared_hinge', tasks=('smile',)), (0,)),
  'ensemble': (config_of('bknet'), (0, 1)),
}


@pytest.mark.parametrize('name', CASES)
def test_every_network_can_be_exported(name, families):
  config, seeds = CASES[name]
  images = images_of(config)
  session = session_of(families / f'{name}.onnx')
  assert [(of.name, of.type) for of in session.get_inputs()] == [('image', 'tensor(uint8)')]
  assert session.get_inputs()[0].shape[1:] == list(config.image_shape)
  names = [of.name for of in session.get_outputs()]
  for count in (1, 5):
    found = dict(zip(names, session.run(None, {'image': images[:count]}), strict=True))
    wanted = expected(config, seeds)
    agree(found, {task: rows[:count] for task, rows in wanted.items()}, atol=1e-4)


@needs_converter
def test_int8_and_its_cost(mtface, tiny_run, tiny_data, tmp_path):
  path = tmp_path / 'small.onnx'
  run = (f'--workdir={tiny_run}', f'--data_dir={tiny_data}', f'--to={path}')
  done = mtface('export', *run, '--checkpoint=average:2', '--int8')
  assert done.code == 0, done.err
  about = about_onnx(path)
  form = about['precision']
  assert (form['name'], form['calibration']['images']) == ('int8', 64)
  assert {(of['set'], of['n']) for of in form['cost']} == set(LABELLED.items())
  said = said_by_onnx(path, noise(40))
  for task, rows in said_by_run(tiny_run, tiny_data, 'average:2', noise(40)).items():
    assert 0 < np.abs(said[task] - rows).mean() < 0.05
  for row in form['cost']:  # measured again, by hand
    source = Evaluator(tiny_run, tiny_data).source(row['set'])
    answers = said_by_onnx(path, source.gather(np.arange(len(source))))[row['task']]
    right = answers.argmax(axis=1) == source.labels[row['task']]
    assert row['int8'] == pytest.approx(right[source.labelled(row['task'])].mean())
    assert f'| {row["set"]} | {row["task"]} | {row["n"]} | accuracy |' in done.out
  assert 'QuantizeLinear' in operators(path)


def operators(path):
  import onnx

  return {node.op_type for node in onnx.load(path).graph.node}


def test_float16_halves_the_weights(families, tmp_path):
  whole, small = families / 'vgg.onnx', tmp_path / 'small.onnx'
  precision.to_float16(whole, small)
  assert small.stat().st_size < 0.6 * whole.stat().st_size
  config = CASES['vgg'][0]
  session = session_of(small)
  found = session.run(None, {'image': images_of(config)})
  names = [of.name for of in session.get_outputs()]
  agree(dict(zip(names, found, strict=True)), expected(config), atol=1e-2)


def test_int8_leaves_the_last_layers(families, tmp_path):
  import onnx

  path = tmp_path / 'small.onnx'
  precision.to_int8(families / 'bknet.onnx', path, images_of(CASES['bknet'][0]))
  graph = onnx.load(path).graph
  made = {name: node for node in graph.node for name in node.output}
  layers = [node for node in graph.node if node.op_type in ('Conv', 'Gemm')]
  plain = [of for of in layers if made[of.input[0]].op_type != 'DequantizeLinear']
  assert len(plain) == 3, 'one for each head'
  assert len(layers) > 3 * 3
  config = CASES['bknet'][0]
  session = session_of(path)
  found = session.run(None, {'image': images_of(config)})
  names = [of.name for of in session.get_outputs()]
  agree(dict(zip(names, found, strict=True)), expected(config), atol=0.1)


# --- StableHLO ------------------------------------------------------------------------------------


def test_stablehlo_is_read_without_mtface(tiny_run, tiny_data, tmp_path):
  selection = 'ensemble:2'
  path, images, answers = tmp_path / 'a.stablehlo', tmp_path / 'a.npy', tmp_path / 'a.npz'
  exported = export_program(tiny_run, tiny_data, selection, path, format='stablehlo')
  assert exported.about == json.loads(zipfile.ZipFile(path).read('mtface.json'))
  assert exported.about['run']['checkpoint'] == selection
  np.save(images, noise(3))
  code = (
    'import sys, zipfile, numpy as np; from jax import export\n'
    'file, images, to = sys.argv[1:]\n'
    "program = export.deserialize(bytearray(zipfile.ZipFile(file).read('program.bin')))\n"
    'found = {n: np.asarray(x) for n, x in program.call(np.load(images)).items()}\n'
    "assert 'mtface' not in sys.modules\n"
    'np.savez(to, **found)'
  )
  subprocess.run([sys.executable, '-c', code, path, images, answers], check=True)
  found = dict(np.load(answers))
  agree(found, said_by_run(tiny_run, tiny_data, selection, noise(3)), atol=1e-5)


def test_a_calibrated_file_says_what_the_calibrated_run_says(run_copy, tiny_data, tmp_path):
  path = tmp_path / 'a.stablehlo'
  head = Chosen('last', Evaluator(run_copy, tiny_data), tiny_data).head()
  name = read_config(run_copy).name
  write_temperatures(run_copy, name, [head | {'task': 'smile', 'temperature': 0.25}])
  exported = export_program(run_copy, tiny_data, 'last', path, format='stablehlo', calibrated=True)
  assert exported.about['run']['temperatures'] == {'smile': 0.25}
  program = jax.export.deserialize(bytearray(zipfile.ZipFile(path).read('program.bin')))
  found = {task: np.asarray(rows) for task, rows in program.call(noise(5)).items()}
  wanted = said_by_run(run_copy, tiny_data, 'last', noise(5))
  sharper = wanted['smile'] ** 4
  wanted['smile'] = sharper / sharper.sum(axis=1, keepdims=True)
  agree(found, wanted, atol=1e-5)


def test_without_sets_it_is_checked_on_noise(tiny_run, tmp_path):
  path = tmp_path / 'a.stablehlo'
  exported = export_program(tiny_run, tmp_path / 'none', '8', path, format='stablehlo')
  assert 'images of noise' in exported.report()


# --- What is refused ------------------------------------------------------------------------------


def test_a_file_that_differs_is_not_written(tiny_run, tiny_data, tmp_path, monkeypatch):
  path = tmp_path / 'a.stablehlo'
  path.write_text('of before')
  right = measured.make_check

  def shifted(chosen):
    check = right(chosen)
    expected = {task: rows + 2e-4 for task, rows in check.expected.items()}
    return measured.Check(check.images, check.of, expected)

  monkeypatch.setattr(measured, 'make_check', shifted)
  with pytest.raises(UserError, match=r'would differ from the run by 2\.0e-04 \(32 images of'):
    export_program(tiny_run, tiny_data, 'last', path, format='stablehlo')
  assert path.read_text() == 'of before'
  assert [file.name for file in tmp_path.iterdir()] == ['a.stablehlo']


@needs_converter
def test_a_converter_that_fails_leaves_nothing(mtface, tiny_run, tiny_data, tmp_path):
  run = (f'--workdir={tiny_run}', f'--data_dir={tiny_data}', f'--to={tmp_path}/a.onnx')
  broken = tmp_path / 'python'
  broken.write_text('#!/bin/sh\necho no such operator; exit 1')
  broken.chmod(0o755)
  done = mtface('export', *run, f'--converter={broken}')
  assert done.code == 2
  assert 'could not convert the network (no such operator); `make setup-export`' in done.err
  assert [file.name for file in tmp_path.iterdir()] == ['python']


def test_a_converter_that_is_no_program_is_told(tmp_path):
  (tmp_path / 'python').write_text('')
  program = program_of(config_of('bknet'))
  with pytest.raises(UserError, match=r'cannot be run \(Permission denied\); expected'):
    onnx_file.convert(program, {}, str(tmp_path / 'python'), tmp_path / 'a.onnx')


def test_what_cannot_be_written_is_told(mtface, tiny_run, tiny_data, tmp_path):
  run = (f'--workdir={tiny_run}', f'--data_dir={tiny_data}')
  for ending, more in (('stablehlo', ()), ('safetensors', ('--format=mtface',))):
    path = tmp_path / f'a.{ending}'
    path.mkdir()
    done = mtface('export', *run, f'--to={path}', *more)
    assert f'a.{ending}: cannot be written (' in done.error
    assert not list(path.iterdir()) and not list(tmp_path.glob('.*'))


def test_bad_input_is_one_line(mtface, tiny_run, tiny_data, tmp_path):
  for argv, message in (
    (('--to=a.onnx', '--format=tflite'), '--format=tflite: unknown format; expected onnx, '),
    (('--to=a.onnx', '--format=stablehlo'), 'writes a file whose name ends in .stablehlo'),
    ((f'--to={tmp_path}/none/a.onnx',), 'none does not exist'),
    (('--to=a.stablehlo', '--int8'), '--int8: --format=stablehlo is float32; use --format=onnx'),
    (('--to=a.safetensors', '--float16'), '--float16: is of --format=onnx'),
    (('--to=a.onnx', '--float16', '--int8'), 'a file has one precision'),
    (('--to=a.onnx', '--converter=/no/python'), '--converter=/no/python: no such file'),
    (('--to=A.ONNX', '--converter=/no/python'), 'writes a file whose name ends in .onnx'),
    (('--to=a.stablehlo', '--converter=python'), '--converter: is of --format=onnx, not of'),
    (('--to=a.onnx', '--classifier=smile'), '--classifier: is of weights; --format=onnx answers'),
    (('--to=a.stablehlo', '--checkpoint=7'), 'has no checkpoint of step 7; there are 4, 8, 12'),
    (('--to=a.stablehlo', '--checkpoint=ensemble:9'), 'holds 3 checkpoints, ensemble:9 needs 9'),
    (('--to=a.stablehlo', '--checkpoint=worst'), '--checkpoint=worst: expected last, best'),
    (('--to=a.stablehlo', '--stage=second'), '--stage=second: the run has main'),
    ((f'--to={tmp_path}/a.stablehlo', f'--workdir={tmp_path}'), 'config.json: not found'),
  ):
    done = mtface('export', f'--workdir={tiny_run}', f'--data_dir={tiny_data}', *argv)
    assert done.code == 2, argv
    assert message in done.err
    assert done.err.count('\n') == 1
  assert not list(tmp_path.iterdir())


def test_a_missing_environment_is_one_line(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(onnx_file, '_PACKAGE', tmp_path / 'mtface')
  monkeypatch.setattr(onnx_file.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(UserError, match='run `make setup-export`, or `python3 -m venv') as found:
    onnx_file.converter()
  assert '\n' not in str(found.value)
  (tmp_path / '.venv-export' / 'bin').mkdir(parents=True)
  (tmp_path / '.venv-export' / 'bin' / 'python').touch()
  assert onnx_file.converter() == str(tmp_path / '.venv-export' / 'bin' / 'python')


@pytest.mark.parametrize(
  ('format', 'missing'), [('onnx', 'onnx and onnxruntime'), ('stablehlo', 'flatbuffers')]
)
def test_missing_libraries_are_one_line(mtface, tiny_run, tmp_path, monkeypatch, format, missing):
  libraries = ('onnx', 'onnxruntime', 'flatbuffers')
  there = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, 'find_spec', lambda name: None if name in libraries else there(name)
  )
  done = mtface('export', f'--workdir={tiny_run}', f'--to={tmp_path}/face.{format}')
  assert done.code == 2
  assert done.err == (
    f"mtface: error: --format={format}: {missing} not installed; pip install 'mtface[export]'\n"
  )


def test_outputs_are_named_as_onnx_wants_it():
  assert contract.output_names(['smile', 'identity:158', 'identity_158', 'image']) == {
    'smile': 'smile',
    'identity:158': 'identity_158',
    'identity_158': 'identity_158_',
    'image': 'image_',
  }


def test_differences_are_found_wherever_they_are():
  expected = {'a': np.zeros((50, 2)), 'b': np.full((50, 3), 0.5)}

  class Model:
    def say(self, images):
      said = {'a': np.zeros((len(images[0]), 2)), 'b': np.full((len(images[0]), 3), 0.5)}
      said['b'][images[0][:, 0, 0, 0] == 9, 1] = 0.75
      return said

  images = np.zeros((50, 1, 1, 1), np.uint8)
  assert measured.Check(images, '', expected).difference(Model()) == 0
  images[49] = 9
  assert measured.Check(images, '', expected).difference(Model()) == 0.25


def test_a_batch_is_as_large_as_it_is_said_to_be():
  images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
  batch = measured.Check(images, '', {}).batch(7)
  assert batch.ravel().tolist() == [0, 1, 2, 3, 4, 0, 1]


def test_runs_that_see_faces_in_two_ways_are_refused(tiny_run, tiny_data, tmp_path, monkeypatch):
  crops = iter([Crop(16, 1), Crop(16, 1, scheme='margin20')])
  monkeypatch.setattr(
    contract, 'crop_of_run', lambda _: type('RunCrop', (), {'crop': next(crops)})()
  )
  with pytest.raises(UserError, match='see a face cut out in 2 ways'):
    export_program(
      tiny_run, tiny_data, f'last+{tiny_run}@8', tmp_path / 'a.stablehlo', format='stablehlo'
    )
