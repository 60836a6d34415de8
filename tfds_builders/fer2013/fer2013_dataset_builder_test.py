import numpy as np
import pytest

from mtface.errors import UserError
from tests.cartoons import make_fer2013
from tests.prepared import build_set, by_id, read_summary
from tfds_builders.fer2013.fer2013_dataset_builder import emotion_votes, majority

HEADER = (
  'Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF'
)
USAGES = ('Training', 'PublicTest', 'PrivateTest', 'Training')
VOTES = {
  'angry': (1, 0, 0, 1, 8, 0, 0, 0, 0, 0),
  'contempt': (2, 0, 0, 1, 1, 0, 0, 6, 0, 0),
  'tie': (5, 5, 0, 0, 0, 0, 0, 0, 0, 0),
  'not a face': (0, 0, 0, 0, 0, 0, 0, 0, 0, 10),
}


def faces(number, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (number, 48, 48), dtype=np.uint8)


def rows():
  return list(zip([0, 6, 3, 5], faces(4), USAGES, strict=True))


def add_votes(folder, votes=None, usages=USAGES):
  votes = votes or VOTES.values()
  lines = [
    f'{u},fer{i:07d}.png,{",".join(map(str, v))}'
    for i, (u, v) in enumerate(zip(usages, votes, strict=True))
  ]
  (folder / 'fer2013new.csv').write_text('\r\n'.join([HEADER, *lines]) + '\r\n')


def test_the_last_line_needs_no_newline(tmp_path):
  raw = make_fer2013(tmp_path / 'raw', rows()[:3])
  text = (raw / 'fer2013.csv').read_text()
  (raw / 'fer2013.csv').write_text(text.rstrip('\n'))
  ((image_id, record),) = by_id(
    build_set('fer2013', raw, tmp_path / 'data'), 'private_test'
  ).items()
  assert image_id == 'fer2013_00002'
  np.testing.assert_array_equal(record['image'][:, :, 0], rows()[2][1])


@pytest.fixture(scope='module')
def with_votes(tmp_path_factory):
  raw = make_fer2013(tmp_path_factory.mktemp('raw') / 'fer2013', rows())
  add_votes(raw)
  return build_set('fer2013/gray48', raw.parent, tmp_path_factory.mktemp('data'))


def test_pixels_labels_and_splits(with_votes):
  splits = {
    'train': ['fer2013_00000', 'fer2013_00003'],
    'public_test': ['fer2013_00001'],
    'private_test': ['fer2013_00002'],
  }
  expected = rows()
  for split, ids in splits.items():
    records = by_id(with_votes, split)
    assert sorted(records) == ids
    for image_id, record in records.items():
      emotion, pixels, _ = expected[int(image_id[-1])]
      np.testing.assert_array_equal(record['image'][:, :, 0], pixels)
      assert record['labels']['emotion7'] == emotion
      assert record['mask']['emotion7']


def test_votes(with_votes):
  records = by_id(with_votes)
  labels = [int(records[f'fer2013_0000{i}']['labels']['emotion8']) for i in range(4)]
  mask = [bool(records[f'fer2013_0000{i}']['mask']['emotion8']) for i in range(4)]
  assert labels == [0, 7, 0, 0]  # angry, contempt, and two that are masked
  assert mask == [True, True, False, False]
  np.testing.assert_array_equal(records['fer2013_00001']['attributes']['votes'], VOTES['contempt'])
  of_classes = [records[f'fer2013_0000{i}']['attributes']['votes_emotion8'] for i in range(4)]
  angry, contempt = [8, 0, 0, 0, 1, 0, 1, 0], [1, 0, 0, 0, 1, 0, 2, 6]
  tie = [0, 0, 0, 5, 0, 0, 5, 0]
  np.testing.assert_array_equal(of_classes, [angry, contempt, tie, [0] * 8])
  listed = read_summary(with_votes)['notes']['ferplus_without_majority']['image_ids']
  assert sorted(listed) == ['fer2013_00002', 'fer2013_00003']


# Columns: neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, NF;
# classes in FER-2013's order.
@pytest.mark.parametrize(
  ('votes', 'expected'),
  [
    (VOTES['angry'], 0),
    ((0, 0, 0, 0, 0, 10, 0, 0, 0, 0), 1),
    ((0, 0, 0, 0, 0, 0, 10, 0, 0, 0), 2),
    ((0, 10, 0, 0, 0, 0, 0, 0, 0, 0), 3),
    ((0, 0, 0, 10, 0, 0, 0, 0, 0, 0), 4),
    ((0, 0, 10, 0, 0, 0, 0, 0, 0, 0), 5),
    ((10, 0, 0, 0, 0, 0, 0, 0, 0, 0), 6),
    (VOTES['contempt'], 7),
    (VOTES['tie'], None),
    ((4, 3, 3, 0, 0, 0, 0, 0, 0, 0), None),  # most, but not more than half
    ((5, 1, 1, 1, 1, 1, 0, 0, 0, 0), 6),  # single votes are dropped
    ((0, 0, 0, 0, 0, 0, 0, 0, 9, 1), None),  # unknown
    ((1, 1, 1, 1, 1, 1, 1, 1, 1, 1), None),
  ],
)
def test_majority(votes, expected):
  assert majority(votes) == expected


@pytest.mark.parametrize(
  ('votes', 'expected'),
  [
    ((1, 2, 0, 0, 0, 2, 0, 0, 5, 0), [0, 2, 0, 2, 0, 0, 1, 0]),  # half of them can name it
    ((1, 2, 0, 0, 0, 1, 0, 0, 5, 1), [0] * 8),
    ((0,) * 10, [0] * 8),
  ],
)
def test_votes_of_those_who_could_not_name_it(votes, expected):
  assert emotion_votes(votes) == expected


def test_without_votes_emotion8_is_masked(tmp_path, with_votes):
  path = build_set('fer2013', make_fer2013(tmp_path / 'raw', rows()), tmp_path)
  records = by_id(path)
  assert not any(record['mask']['emotion8'] for record in records.values())
  assert read_summary(path)['notes']['ferplus_without_majority']['images'] == 0
  features = [(folder / 'features.json').read_text() for folder in (path, with_votes)]
  assert features[0] == features[1]


def test_copies_across_splits_are_reported(tmp_path):
  images = faces(3)
  raw = make_fer2013(
    tmp_path / 'raw',
    [
      (0, images[0], 'Training'),
      (1, images[1], 'Training'),
      (0, images[0], 'PublicTest'),
      (2, images[1], 'Training'),
    ],
  )
  duplicates = read_summary(build_set('fer2013', raw, tmp_path))['duplicates']
  assert (
    duplicates['groups'],
    duplicates['groups_across_splits'],
    duplicates['groups_with_other_labels'],
  ) == (2, 1, 1)
  assert duplicates['list'][0]['splits'] == ['train', 'public_test']


def edit(raw, number, change):
  """Changes the fields of one row of the csv."""
  path = raw / 'fer2013.csv'
  lines = path.read_text().splitlines()
  lines[number + 1] = ','.join(change(lines[number + 1].split(',')))
  path.write_text('\n'.join(lines) + '\n')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda f: [f[0], f[1].rsplit(' ', 1)[0], f[2]], 'row 2 has 2303 pixels; expected 2304'),
    (lambda f: [f[0], f[1] + ' 7', f[2]], 'row 2 has 2305 pixels; expected 2304'),
    (
      lambda f: [f[0], '256 ' + f[1].split(' ', 1)[1], f[2]],
      "row 2 has the pixel '256'; expected 0 to 255",
    ),
    (
      lambda f: [f[0], '-1 ' + f[1].split(' ', 1)[1], f[2]],
      "row 2 has the pixel '-1'; expected 0 to 255",
    ),
    (lambda f: ['7', f[1], f[2]], "row 2 has the emotion '7'; expected a label from 0 to 6"),
    (lambda f: ['', f[1], f[2]], "row 2 has the emotion ''; expected a label from 0 to 6"),
    (
      lambda f: [f[0], f[1], 'Test'],
      "row 2 has the Usage 'Test'; expected one of Training, PublicTest, PrivateTest",
    ),
    (lambda f: [f[1], f[2]], 'row 2 has 2 fields; expected emotion,pixels,Usage'),
  ],
)
def test_a_bad_row_is_named(tmp_path, change, message):
  raw = make_fer2013(tmp_path / 'raw', rows())
  edit(raw, 2, change)
  with pytest.raises(UserError, match=message) as error:
    build_set('fer2013', raw, tmp_path)
  assert 'fer2013.csv' in str(error.value)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('', 'the file is empty'),
    ('emotion,pixels\n0,1 2 3\n', 'the column Usage is missing'),
    ('emotion,pixels,Usage,emotion\n', 'the column emotion occurs twice'),
    ('emotion,pixels,Usage\n', 'fer2013.csv: no images'),
  ],
)
def test_a_bad_file_is_named(tmp_path, content, message):
  (tmp_path / 'fer2013.csv').write_text(content)
  with pytest.raises(UserError, match=message):
    build_set('fer2013', tmp_path, tmp_path / 'data')


@pytest.mark.parametrize(
  ('kwargs', 'message'),
  [
    ({'votes': list(VOTES.values())[:3], 'usages': USAGES[:3]}, '3 rows, but .* has 4'),
    ({'votes': [*VOTES.values(), VOTES['tie']], 'usages': [*USAGES, 'Training']}, '5 rows'),
    (
      {'usages': ['Training', 'PublicTest', 'Training', 'Training']},
      "row 2 has the Usage 'Training'",
    ),
    (
      {'votes': [VOTES['angry'], (*VOTES['tie'][:9], 'x'), VOTES['tie'], VOTES['tie']]},
      "row 1 has NF = 'x'",
    ),
  ],
)
def test_bad_votes_are_named(tmp_path, kwargs, message):
  raw = make_fer2013(tmp_path / 'raw', rows())
  add_votes(raw, **kwargs)
  with pytest.raises(UserError, match=message) as error:
    build_set('fer2013', raw, tmp_path)
  assert 'fer2013new.csv' in str(error.value)


def test_votes_without_a_column(tmp_path):
  raw = make_fer2013(tmp_path / 'raw', rows())
  (raw / 'fer2013new.csv').write_text(HEADER.replace(',contempt', '') + '\n')
  with pytest.raises(UserError, match='the column contempt is missing'):
    build_set('fer2013', raw, tmp_path)


def test_small_colour_faces_are_the_grey_ones_enlarged(tmp_path):
  blocks = (
    np.random.default_rng(1)
    .integers(0, 256, (4, 3, 3), dtype=np.uint8)
    .repeat(16, axis=1)
    .repeat(16, axis=2)
  )
  raw = make_fer2013(
    tmp_path / 'fer2013', [(0, pixels, usage) for pixels, usage in zip(blocks, USAGES, strict=True)]
  )
  records = by_id(build_set('fer2013/rgb96', raw, tmp_path))
  for i, pixels in enumerate(blocks):
    image = records[f'fer2013_0000{i}']['image'].astype(float)
    assert image.shape == (96, 96, 3)
    # The middles of the blocks, which neither the interpolation nor JPEG has changed much; the
    # three channels are equal.
    np.testing.assert_allclose(
      image[16::32, 16::32], pixels[8::16, 8::16, None].repeat(3, axis=2), atol=12
    )


def test_rgb32_averages_areas(tmp_path):
  """Two of its pixels are three of the original: weights 2/3 and 1/3 in each direction."""
  pixels = np.random.default_rng(2).integers(0, 256, (48, 48), dtype=np.uint8)
  raw = make_fer2013(tmp_path / 'fer2013', [(0, pixels, usage) for usage in USAGES])
  image = by_id(build_set('fer2013/rgb32', raw, tmp_path))['fer2013_00000']['image']
  weights = np.kron(np.eye(16), np.array([[2, 1, 0], [0, 1, 2]]) / 3)
  expected = weights @ pixels.astype(float) @ weights.T
  assert image.shape == (32, 32, 3)
  np.testing.assert_allclose(image, expected[..., None].repeat(3, axis=2), atol=0.51)
