import numpy as np
import pytest

from mtface import tasks
from mtface.errors import UserError
from tests.cartoons import cartoon, save
from tests.prepared import build_set, by_id, read_summary
from tfds_builders.fairface.fairface_dataset_builder import read_labels

HEADER = 'file,age,gender,race,service_test'
PLAIN = np.full((224, 224, 3), (200, 30, 90), np.uint8)
# All words of the files, and the classes that they are.
ROWS = [
  ('0-2', 'Male', 'East Asian', 'True', '0-2', 'male', 'east_asian', 'asian'),
  ('3-9', 'Female', 'Indian', 'False', '3-9', 'female', 'indian', 'indian'),
  ('10-19', 'Male', 'Black', 'False', '10-19', 'male', 'black', 'black'),
  ('20-29', 'Female', 'White', 'True', '20-29', 'female', 'white', 'white'),
  ('30-39', 'Female', 'Middle Eastern', 'False', '30-39', 'female', 'middle_eastern', 'other'),
  ('40-49', 'Male', 'Latino_Hispanic', 'True', '40-49', 'male', 'latino_hispanic', 'other'),
  ('50-59', 'Male', 'Southeast Asian', 'False', '50-59', 'male', 'southeast_asian', 'asian'),
  ('60-69', 'Male', 'White', 'False', '60-69', 'male', 'white', 'white'),
  ('more than 70', 'Female', 'White', 'False', '70+', 'female', 'white', 'white'),
]


def write(folder, split, name, rows, images):
  lines = [f'{split}/{i}.jpg,{",".join(row[:4])}' for i, row in enumerate(rows, start=1)]
  folder.mkdir(parents=True, exist_ok=True)
  (folder / name).write_text('\n'.join([HEADER, *lines]) + '\n')
  for i, image in enumerate(images, start=1):
    save(folder / split / f'{i}.jpg', image)


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
  folder = tmp_path_factory.mktemp('raw') / 'fairface'
  bystander = cartoon(size=224, center=(112, 112))
  bystander[:, 160:] = cartoon(size=224, center=(112, 112), scale=1.2)[:, 80:144]
  faces = [cartoon(size=224, center=(112, 112), scale=1.5), PLAIN, bystander, *[PLAIN] * 6]
  write(folder, 'train', 'fairface_label_train.csv', ROWS, faces)
  write(
    folder, 'val', 'fairface_label_val.csv', ROWS[:3], [cartoon(size=224, center=(112, 112))] * 2
  )
  return folder


@pytest.fixture(scope='module')
def rgb64(raw, tmp_path_factory):
  return build_set('fairface/rgb64', raw.parent, tmp_path_factory.mktemp('data'))


def test_every_word_is_a_class(rgb64):
  records = by_id(rgb64, 'train')
  for i, (*_, service, age, gender, seven, five) in enumerate(ROWS, start=1):
    record = records[f'train/{i}']
    labels = {
      name: tasks.get_task(name).classes[int(label)] for name, label in record['labels'].items()
    }
    assert labels == {'age_decades': age, 'gender': gender, 'ethnicity7': seven, 'ethnicity5': five}
    assert all(record['mask'].values())
    assert bool(record['attributes']['service_test']) == (service == 'True')


def test_faces_and_what_is_missing(rgb64):
  records, summary = by_id(rgb64, 'train'), read_summary(rgb64)
  left, _, right, _ = records['train/3']['attributes']['box']
  assert left < 112 < right < 160  # not the larger one at the edge
  assert records['train/2']['attributes']['box'].tolist() == [0, 0, 224, 224]
  assert len(summary['notes']['face_not_found']['image_ids']) == 7
  assert summary['records'] == {'train': 9, 'validation': 2}
  (missing,) = summary['left_out']['list']
  assert (missing['image_id'], missing['reason']) == ('val/3', 'missing file')


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    (
      'train/1.jpg,Oct-19,Male,White,True',
      r"line 2 has the age 'Oct-19'.*spreadsheets turn 10-19 into a date",
    ),
    (
      'train/1.jpg,0-2,Man,White,True',
      r"line 2 has the gender 'Man'; expected one of Female, Male$",
    ),
    (
      'train/1.jpg,0-2,Male,Martian,True',
      r"line 2 has the race 'Martian'; expected one of White, Black",
    ),
    (
      'train/1.jpg,0-2,Male,White,True\ntrain/1.jpg,0-2,Male,White,True',
      'train/1.jpg is named twice',
    ),
  ],
)
def test_rows_that_are_not_in_order(tmp_path, row, message):
  path = tmp_path / 'fairface_label_train.csv'
  path.write_text(f'{HEADER}\n{row}\n')
  with pytest.raises(UserError, match=f'fairface_label_train.csv: {message}'):
    read_labels(path)
  path.write_text('file,age,gender,race\n')
  with pytest.raises(UserError, match='the column service_test is missing'):
    read_labels(path)


def test_a_wrong_folder(tmp_path):
  message = (
    r'found no fairface_label_train.csv, fairface_label_val.csv and '
    r'train/.*github.com/joojs/fairface.*--manual_dir'
  )
  with pytest.raises(UserError, match=message):
    build_set('fairface', tmp_path, tmp_path / 'data')
