"""Photographs through `mtface.load` against crops made by hand and evaluated as a set is."""

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

import mtface
from mtface.data.sources import Source
from mtface.errors import UserError
from mtface.evaluation.evaluator import Evaluator
from mtface.faces import crop, detect, schemes
from mtface.faces.cropping import Crop
from mtface.publish.predictor import BATCH, read_picture
from mtface.training.selection import Selection
from tests.cartoons import cartoon, save

TWO = np.hstack([cartoon(scale=0.75), cartoon(scale=1.25)])


@pytest.fixture(scope='module')
def model(tiny_run):
  return mtface.load(tiny_run)


def said(workdir, selection, images):
  """What evaluation says of images: {task: [N, C]}."""
  evaluator = Evaluator(workdir, '')
  ids = np.array([str(i) for i in range(len(images))])
  source = Source('by hand', images, np.arange(len(images)), ids, {}, {})
  return evaluator.predictions(evaluator.networks(Selection.parse(selection)), source)


def by_hand(photo, scheme=''):
  found = detect.Detector()(photo)
  cut = schemes.get_scheme(scheme).cut
  return found, np.stack([cut(photo, x.box, x.landmarks, 16, 1).image for x in found])


def numbers(faces, task):
  return np.array([list(face.answers[task].probabilities.values()) for face in faces])


@pytest.mark.parametrize('selection', ['last', '4', 'ensemble:2'])
def test_answers_are_those_of_evaluation(selection, tiny_run):
  faces = mtface.load(tiny_run, selection).predict(TWO)
  found, images = by_hand(TWO)
  assert len(faces) == 2
  for face, detection in zip(faces, found, strict=True):
    x, y, width, height = face.box
    assert (x, y, x + width, y + height) == detection.box
    np.testing.assert_array_equal(face.landmarks, detection.landmarks)
  for task, rows in said(tiny_run, selection, images).items():
    np.testing.assert_allclose(numbers(faces, task), rows, atol=1e-6)


def test_averages_read_the_training_sets(tiny_run, tiny_data):
  faces = mtface.load(tiny_run, 'average:2', data_dir=tiny_data).predict(TWO)
  plain = mtface.load(tiny_run, 'average:2', re_estimate=False).predict(TWO)
  assert np.abs(numbers(faces, 'smile') - numbers(plain, 'smile')).max() > 1e-6
  with pytest.raises(UserError, match='tiny/'):
    mtface.load(tiny_run, 'average:2', data_dir=tiny_data / 'elsewhere')


def with_source(tiny_run, folder, name):
  """The same run, as if it had been trained on another set."""
  shutil.copytree(tiny_run, folder)
  content = json.loads((folder / 'config.json').read_text())
  content['config']['sources']['smiles']['name'] = f'{name}:train'
  (folder / 'config.json').write_text(json.dumps(content))
  return folder


def test_each_run_of_an_ensemble_sees_its_own_crop(tiny_run, tmp_path):
  other = with_source(tiny_run, tmp_path / 'other', 'genki4k/gray48_crop2')
  model = mtface.load(tiny_run, f'last+{other}@4')
  assert model.model.crops == (Crop(16, 1), Crop(16, 1, 'crop2'))
  _, images = by_hand(TWO)
  _, others = by_hand(TWO, 'crop2')
  mean = (said(tiny_run, 'last', images)['smile'] + said(other, '4', others)['smile']) / 2
  np.testing.assert_allclose(numbers(model.predict(TWO), 'smile'), mean, atol=1e-6)


def test_a_list_of_pictures_is_answered_as_each(model):
  pictures = [cartoon(), TWO, np.full((120, 100, 3), 90, np.uint8), cartoon(scale=0.8)]
  together = model.predict(pictures)
  assert [len(faces) for faces in together] == [1, 2, 0, 1]
  for picture, faces in zip(pictures, together, strict=True):
    alone = model.predict(picture)
    assert [x.box for x in alone] == [x.box for x in faces]
    if faces:
      np.testing.assert_allclose(numbers(alone, 'smile'), numbers(faces, 'smile'), atol=1e-6)
  assert model.predict([]) == []


def test_the_forms_of_a_picture(model, tmp_path):
  grey = crop.cv2.cvtColor(cartoon(), crop.cv2.COLOR_RGB2GRAY)
  wide = np.repeat(grey[..., None], 3, axis=2)
  path = save(tmp_path / 'a.png', wide)
  for picture in (path, str(path), wide, grey, grey[..., None], Image.open(path)):
    np.testing.assert_array_equal(read_picture(picture), wide)
    assert len(model.predict(picture)) == 1


def test_a_pillow_image_is_turned_as_its_file_is(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6
  Image.fromarray(np.rot90(TWO).copy()).save(tmp_path / 'a.png', exif=exif)
  np.testing.assert_array_equal(read_picture(Image.open(tmp_path / 'a.png')), TWO)


def test_few_programs_for_any_number_of_faces(tiny_run):
  model = mtface.load(tiny_run)
  photo = cartoon()
  (face,) = model.crop.find(photo)
  for count in (1, 2, 3, 7, 8, 9, 30, BATCH, BATCH + 1, BATCH + 20):
    assert len(model.of_faces(photo, [face] * count)) == count
  runner = model.model._chosen.evaluators[0].scorer._runner
  assert runner._run._cache_size() == 3


def test_batches_are_given_back_before_all_photographs_are_read(model):
  read = []

  def photos():
    for i in range(3 * BATCH):
      read.append(i)
      yield cartoon(), i

  stream = model.stream(photos())
  assert next(stream)[1] == 0
  assert len(read) == BATCH
  assert [tag for _, tag in model.stream(((cartoon(), i) for i in range(3)), wait=False)] == [
    0,
    1,
    2,
  ]


@pytest.mark.parametrize(
  'picture, told',
  [
    (np.zeros((10, 10, 3)), 'float64'),
    (np.zeros((10, 10, 4), np.uint8), r'\[10, 10, 4\]'),
    (np.zeros((2, 10, 10, 3), np.uint8), r'\[2, 10, 10, 3\]'),
    (np.zeros((0, 10, 3), np.uint8), r'\[0, 10, 3\]'),
    ('nowhere.jpg', 'nowhere.jpg: no such file'),
    (Image.new('RGBA', (9, 9)), 'cannot be read .the whole picture is transparent'),
  ],
)
def test_what_is_no_picture_is_told(model, picture, told):
  with pytest.raises(UserError, match=told):
    model.predict(picture)


def test_what_is_no_run_is_told(tiny_run, tmp_path):
  with pytest.raises(UserError, match=r'config\.json: not found'):
    mtface.load(tmp_path)
  with pytest.raises(UserError, match='average:99'):
    mtface.load(tiny_run, 'average:99')
  with pytest.raises(UserError, match='expected last, best'):
    mtface.load(tiny_run, 'newest')


# --- Exported files -------------------------------------------------------------------------------


def exported(path, **changes):
  """An ONNX file in the form of `mtface export`: softmax(weights @ mean of the picture)."""
  onnx = pytest.importorskip('onnx')
  pytest.importorskip('onnxruntime')
  from onnx import TensorProto, helper, numpy_helper

  weights = np.random.default_rng(0).normal(0, 0.02, (1, 117)).astype(np.float32)
  nodes = [
    helper.make_node('Cast', ['image'], ['float'], to=TensorProto.FLOAT),
    helper.make_node('ReduceMean', ['float'], ['mean'], axes=[1, 2], keepdims=0),
    helper.make_node('MatMul', ['mean', 'weights'], ['scores']),
    helper.make_node('Softmax', ['scores'], ['age_years'], axis=1),
  ]
  value = helper.make_tensor_value_info
  graph = helper.make_graph(
    nodes,
    'exported',
    [value('image', TensorProto.UINT8, ['N', 16, 16, 1])],
    [value('age_years', TensorProto.FLOAT, ['N', 117])],
    [numpy_helper.from_array(weights, 'weights')],
  )
  made = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=8)
  task = {'name': 'age_years', 'output': 'age_years', 'readout': 'softmax', 'kind': 'age_years'}
  content = {
    'format': 1,
    'tasks': [task | {'classes': [str(i) for i in range(117)], 'top': 5}],
    'crop': Crop(16, 1, 'crop2').to_json(),
  }
  helper.set_model_props(made, {'mtface': json.dumps(content | changes)})
  onnx.save(made, path)
  return path, weights


def test_an_exported_file(tmp_path):
  path, weights = exported(tmp_path / 'a.onnx')
  model = mtface.load(path)
  assert (model.tasks, model.crop) == (('age_years',), Crop(16, 1, 'crop2'))
  faces = model.predict(TWO)
  _, images = by_hand(TWO, 'crop2')
  scores = np.exp(images.mean(axis=(1, 2)) @ weights)
  expected = scores / scores.sum(axis=1, keepdims=True)
  np.testing.assert_allclose(numbers(faces, 'age_years'), expected, rtol=1e-4)
  for face, row in zip(faces, expected, strict=True):
    best = np.argsort(-row)[:5]
    assert face.answers['age_years'].value == pytest.approx(
      (best * row[best]).sum() / row[best].sum()
    )


@pytest.mark.parametrize(
  'changes, told',
  [
    ({'format': 2}, 'is of format 2'),
    ({'tasks': [{'name': 'smile'}]}, "KeyError: 'output'"),
    ({'crop': {}}, 'crop: is damaged'),
    ({'crop': Crop(17, 1).to_json()}, r'17, 17, 1'),
  ],
)
def test_a_file_that_does_not_fit_its_metadata_is_told(tmp_path, changes, told):
  path, _ = exported(tmp_path / 'a.onnx', **changes)
  with pytest.raises(UserError, match=told):
    mtface.load(path)


@pytest.mark.parametrize('name', ['a.stablehlo', 'a.safetensors'])
def test_other_exported_files_are_not_opened(tmp_path, name):
  with pytest.raises(UserError, match=r'is not opened here.*--to=FILE\.onnx'):
    mtface.load(tmp_path / name)


def test_what_is_no_exported_file_is_told(tmp_path, monkeypatch):
  onnx = pytest.importorskip('onnx')
  path, _ = exported(tmp_path / 'a.onnx')
  with pytest.raises(UserError, match='which has no checkpoints'):
    mtface.load(path, 'last')
  with pytest.raises(UserError, match='no such file'):
    mtface.load(tmp_path / 'b.onnx')
  (tmp_path / 'half.onnx').write_bytes(path.read_bytes()[:200])
  with pytest.raises(UserError, match='cannot be read as ONNX'):
    mtface.load(tmp_path / 'half.onnx')
  plain = onnx.load(path)
  del plain.metadata_props[:]
  onnx.save(plain, tmp_path / 'plain.onnx')
  with pytest.raises(UserError, match='no metadata of mtface'):
    mtface.load(tmp_path / 'plain.onnx')
  monkeypatch.setitem(sys.modules, 'onnxruntime', None)
  with pytest.raises(UserError, match=r"pip install 'mtface\[export\]'"):
    mtface.load(path)
