import numpy as np
import pytest

from mtface import tasks
from mtface.errors import UserError
from tests.cartoons import cartoon, save
from tests.prepared import build_set, by_id, read_summary
from tfds_builders.affectnet import layouts
from tfds_builders.affectnet.affectnet_dataset_builder import labels

HEADER = ','.join(layouts.COLUMNS)
PLAIN = np.full((100, 120, 3), (200, 30, 90), np.uint8)
TWO = np.hstack([cartoon(scale=0.75), cartoon(scale=1.25)])  # in the list it is about the left one
# file, box, expression, valence, arousal, image
ROWS = [
  ('1/aa.jpg', (55, 45, 90, 115), 6, -0.5, 0.75, cartoon()),
  ('1/bb.JPG', (10, 20, 40, 50), 1, 0.9, 0.1, PLAIN),
  ('2/cc.png', (70, 65, 60, 80), 7, -2, -2, TWO),
  ('2/dd.jpg', (0, 0, 50, 50), 8, -2, -2, None),
  ('2/ee.jpg', (0, 0, 50, 50), 9, -2, -2, None),
  ('2/ff.jpg', ('NULL', 'NULL', 'NULL', 'NULL'), 10, -2, -2, None),
  ('1/aa.jpg', (55, 45, 90, 115), 6, -0.5, 0.75, None),
  ('3/gg.jpg', (0, 0, 50, 50), 0, 0, 0, None),  # its file is missing
  ('3/hh.jpg', (500, 500, 50, 50), 0, 0, 0, PLAIN),  # a box outside the image
]


def line(row):
  name, box, expression, valence, arousal, _ = row
  return ','.join(map(str, (name, *box, '1.0;2.0;3.0;4.0', expression, valence, arousal)))


def write_lists(folder, rows, header=True):
  lists = folder / 'Manually_Annotated_file_lists'
  lists.mkdir(parents=True)
  (lists / 'training.csv').write_text('\n'.join([HEADER, *map(line, rows)]) + '\n')
  valid = [('9/zz.jpg', (55, 45, 90, 115), 3, 0.25, -0.25, cartoon())]
  (lists / 'validation.csv').write_text(
    '\n'.join([HEADER] * header + [line(row) for row in valid]) + '\n'
  )
  for name, *_, image in [*rows, *valid]:
    if image is not None:
      save(folder / 'Manually_Annotated_Images' / name, image)
  return folder


@pytest.fixture(scope='module')
def lists(tmp_path_factory):
  raw = write_lists(tmp_path_factory.mktemp('raw') / 'AffectNet', ROWS, header=False)
  return build_set('affectnet/rgb64', raw.parent, tmp_path_factory.mktemp('data'))


# The order is that of the published list: 0 Neutral, 1 Happy, 2 Sad, 3 Surprise, 4 Fear, 5 Disgust,
# 6 Anger, 7 Contempt.
def test_the_order_of_the_expressions():
  names = ['neutral', 'happy', 'sad', 'surprise', 'fear', 'disgust', 'angry', 'contempt']
  of8, of7 = tasks.get_task('emotion8').classes, tasks.get_task('emotion7').classes
  for i, name in enumerate(names[:7]):
    assert (of8[labels(i)['emotion8']], of7[labels(i)['emotion7']]) == (name, name)
  assert labels(7) == {'emotion8': 7}


def test_labels_valence_and_arousal(lists):
  records = by_id(lists, 'train')
  assert sorted(records) == ['train/1/aa', 'train/1/bb', 'train/2/cc', 'train/3/hh']
  anger, contempt = records['train/1/aa'], records['train/2/cc']
  assert {t: int(v) for t, v in anger['labels'].items()} == {'emotion8': 0, 'emotion7': 0}
  assert [float(anger['attributes'][name]) for name in ('valence', 'arousal')] == [-0.5, 0.75]
  assert {t: bool(v) for t, v in contempt['mask'].items()} == {'emotion8': True, 'emotion7': False}
  assert np.isnan([contempt['attributes'][name] for name in ('valence', 'arousal')]).all()
  assert int(by_id(lists, 'validation')['validation/9/zz']['labels']['emotion8']) == 5
  summary = read_summary(lists)
  assert summary['notes']['contempt']['image_ids'] == ['train/2/cc']
  assert summary['notes']['valence_or_arousal_unknown']['image_ids'] == ['train/2/cc']


def test_what_is_left_out(lists):
  left_out = read_summary(lists)['left_out']
  assert left_out['by_rule'] == {
    'no expression named (8: None)': ['train/2/dd'],
    'uncertain (9)': ['train/2/ee'],
    'no face (10)': ['train/2/ff'],
    'listed twice': ['train/1/aa'],
  }
  assert [(image['image_id'], image['reason']) for image in left_out['list']] == [
    ('train/3/gg', 'missing file')
  ]


def test_the_annotated_face_is_stored_or_else_the_annotated_box(lists):
  records = by_id(lists, 'train')
  assert records['train/2/cc']['attributes']['box'][2] < 200  # the smaller one, at the left
  assert records['train/1/bb']['attributes']['box'].tolist() == [10, 20, 50, 70]
  assert records['train/3/hh']['attributes']['box'].tolist() == [10, 0, 110, 100]
  assert set(read_summary(lists)['notes']['face_not_found']['image_ids']) == {
    'train/1/bb',
    'train/3/hh',
  }


# --- The later layout -----------------------------------------------------------------------------


def write_folders(folder):
  for split, ids in {'train_set': (0, 7, 12, 13), 'val_set': (5,)}.items():
    for i in ids:
      save(
        folder / split / 'images' / f'{i}.jpg',
        cartoon(size=224, center=(112, 112), scale=1.3 + i / 100),
      )
      annotations = folder / split / 'annotations'
      annotations.mkdir(exist_ok=True)
      expression = {0: '4', 7: '7', 12: '2', 13: '2', 5: '0'}[i]
      values = {
        'exp': np.array(expression),
        'val': np.array(str(-i / 20)),
        'aro': np.array('-2' if i == 7 else '0.5'),
      }
      values['lnd'] = np.arange(136.0)
      for name, value in values.items():
        np.save(annotations / f'{i}_{name}.npy', value)
  (folder / 'train_set/annotations/12_exp.npy').unlink()
  (folder / 'train_set/annotations/13_val.npy').write_bytes(b'broken')
  return folder


def test_the_layout_of_folders(tmp_path):
  path = build_set('affectnet/rgb64', write_folders(tmp_path / 'raw'), tmp_path / 'data')
  train = by_id(path, 'train')
  assert {i: int(r['labels']['emotion8']) for i, r in train.items()} == {'train/0': 2, 'train/7': 7}
  assert float(train['train/7']['attributes']['valence']) == pytest.approx(-0.35)
  assert np.isnan(train['train/7']['attributes']['arousal'])
  assert int(by_id(path, 'validation')['validation/5']['labels']['emotion7']) == 6
  left_out = read_summary(path)['left_out']
  assert left_out['by_reason'] == {'damaged or missing annotation': 2}
  assert '12_exp.npy: no such file' in left_out['list'][0]['detail']
  assert '13_val.npy: cannot be read as one number' in left_out['list'][1]['detail']


# --- Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (
      line(('1/a.jpg', (0, 0, 9, 9), 11, 0, 0, None)),
      'line 1 has the expression 11; expected 0 to 10',
    ),
    (line(('1/a.jpg', (0, 0, 9, 9), 'happy', 0, 0, None)), 'line 1 is not an image, a box'),
    ('1/a.jpg,0,0', 'line 1 has 3 fields .*; expected 9'),
    (HEADER.replace('face_x,', ''), 'the column face_x is missing'),
  ],
)
def test_a_list_that_is_not_in_order(tmp_path, text, message):
  (tmp_path / 'Manually_Annotated_Images').mkdir()
  (tmp_path / 'training.csv').write_text(text + '\n')
  with pytest.raises(UserError, match=f'training.csv: {message}'):
    layouts.read_list(tmp_path, 'train')


def test_wrong_folders(tmp_path):
  with pytest.raises(
    UserError,
    match=r'found no training.csv .*train_set/annotations/.*mohammadmahoor.com.*--manual_dir',
  ):
    build_set('affectnet', tmp_path, tmp_path / 'data')
  (tmp_path / 'training.csv').write_text(HEADER + '\n')
  with pytest.raises(UserError, match=r'found no Manually_Annotated_Images/ beside training.csv'):
    build_set('affectnet', tmp_path, tmp_path / 'data')
  (tmp_path / 'other/train_set/annotations').mkdir(parents=True)
  with pytest.raises(UserError, match=r'train_set/images: no such folder'):
    build_set('affectnet', tmp_path / 'other', tmp_path / 'data')
