import numpy as np
import pytest
from PIL import Image

from mtface import tasks
from mtface.config.files import load_config
from mtface.data.prepared import described
from mtface.data.sources import load_source
from mtface.errors import UserError
from tests.cartoons import cartoon
from tests.prepared import build_set, by_id, read_summary

HEADER = 'path,person,smile,mood,worn/hat,worn/mask'
LINES = [
  'a/1.png,ann,yes,calm,1,0',
  'a/2.png,ann,no,glad,,1',
  'a/3.png,bob,,cross,0,0',
  'b/4.png,eve,1,glad,1,',
  'b/5.png,,0,,,',
]


@pytest.fixture(autouse=True)
def own_tasks(monkeypatch):
  """Tasks that a csv brings are forgotten after each test."""
  monkeypatch.setattr(tasks, 'TASKS', dict(tasks.TASKS))


def write(folder, lines=LINES, header=HEADER):
  for i, name in enumerate(('a/1.png', 'a/2.png', 'a/3.png', 'b/4.png', 'b/5.png')):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    drawn = cartoon(size=160, center=(80, 80), scale=1.2 + i / 20)
    Image.fromarray(drawn).save(folder / name)
  (folder / 'trip.csv').write_text('\n'.join([header, *lines]) + '\n')
  return folder


def test_a_csv_becomes_a_set(tmp_path):
  raw = write(tmp_path / 'raw')
  path = build_set('image_csv/trip_gray48', raw, tmp_path)
  records = by_id(path)
  first = records['a/1.png']
  assert first['image'].shape == (48, 48, 1) and first['subject'] == b'ann'
  assert (first['labels']['smile'], first['mask']['smile']) == (1, True)
  assert (first['labels']['mood'], first['mask']['mood']) == (0, True)
  assert records['a/2.png']['mask']['worn'].tolist() == [False, True]
  assert not any(np.any(records['b/5.png']['mask'][name]) for name in ('mood', 'worn'))
  assert read_summary(path)['labels']['train']['mood'] == {'calm': 1, 'cross': 1, 'glad': 2}
  found = described('image_csv/trip_gray48', tmp_path)
  assert found.image_shape == (48, 48, 1) and found.splits == {'train': 5}
  assert [task.name for task in found.tasks] == ['smile', 'mood', 'worn']
  assert found.tasks[2] == tasks.Task('worn', ('hat', 'mask'), multi_label=True)


def test_without_a_form_it_is_in_colour_and_whole_images_stay_whole(tmp_path):
  raw = write(tmp_path / 'raw')
  cut = by_id(build_set('image_csv/trip', raw, tmp_path))['a/1.png']
  whole = by_id(build_set('image_csv/trip_rgb32_whole', raw, tmp_path))['a/1.png']
  assert cut['image'].shape == (64, 64, 3) and cut['attributes']['confidence'] > 0.5
  with Image.open(raw / 'a/1.png') as image:
    expected = np.asarray(image.convert('RGB').resize((32, 32), Image.Resampling.BOX))
  assert np.abs(whole['image'].astype(int) - expected).max() <= 1
  assert 'landmarks' not in whole and 'attributes' not in whole


def test_people_stay_on_one_side(tmp_path):
  build_set('image_csv/trip_rgb32_whole', write(tmp_path / 'raw'), tmp_path)
  for fold in range(3):
    parts = [
      set(load_source(f'image_csv/trip_rgb32_whole:train[{of}{fold}/3]', tmp_path).subjects) - {''}
      for of in ('fold=', 'fold!=')
    ]
    assert not parts[0] & parts[1]


def test_a_split_of_its_own_and_a_config_for_it(tmp_path):
  lines = [f'{line},{"test" if i > 2 else "train"}' for i, line in enumerate(LINES)]
  build_set(
    'image_csv/trip_rgb32_whole', write(tmp_path / 'raw', lines, f'{HEADER},split'), tmp_path
  )
  config = load_config('mine:trip_rgb32_whole', str(tmp_path))
  (training,) = config.sources.values()
  (test,) = config.evaluation.sets.values()
  assert training.name.endswith(':train') and test.name.endswith(':test')
  assert list(config.classes) == ['mood', 'worn']
  assert config.tasks.worn.loss == 'sigmoid_cross_entropy'
  assert tasks.get_task('mood').classes == ('calm', 'cross', 'glad')


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('image_csv/other', 'has no other.csv; expected the folder with other.csv and its images'),
    ('image_csv', 'name your set: image_csv/NAME for NAME.csv'),
    ('image_csv/trip_rgb8', 'the size is 8; expected 32 to 256 pixels'),
    ('image_csv/9', "image_csv has no config '9'"),
  ],
)
def test_names_that_are_none(tmp_path, name, expected):
  raw = write(tmp_path / 'raw')
  with pytest.raises(UserError) as error:
    build_set(name, raw, tmp_path)
  assert expected in str(error.value)


def test_an_image_that_is_missing_and_one_that_is_cut_short(tmp_path):
  raw = write(tmp_path / 'raw')
  whole = (raw / 'b/4.png').read_bytes()
  (raw / 'b/4.png').write_bytes(whole[: len(whole) // 2])
  path = build_set('image_csv/trip_rgb32_whole', raw, tmp_path)
  (left_out,) = read_summary(path)['left_out']['list']
  assert left_out['image_id'] == 'b/4.png' and 'truncated' in left_out['detail']
  (raw / 'b/4.png').unlink()
  with pytest.raises(
    UserError, match=r'trip\.csv: line 5, column .path.: there is no such image: .*b/4\.png'
  ):
    build_set('image_csv/trip_gray48', raw, tmp_path)


def test_the_set_has_to_be_built_first(tmp_path):
  with pytest.raises(
    UserError, match=r'no prepared set found; build it with `mtface build image_csv/trip'
  ):
    load_config('mine:trip', str(tmp_path))
