import numpy as np
import pytest

from mtface.errors import UserError
from tests.cartoons import cartoon, make_imdb_wiki
from tests.prepared import build_set, by_id, read_summary

FACE = cartoon(size=120, center=(60, 60))
ENTRIES = [
  {'full_path': '17/1000017_1981-05-05_2009.jpg', 'image': FACE, 'name': 'Åse Nobody', 'gender': 0},
  {'full_path': '48/1000048_1925-04-04_1964.jpg', 'image': FACE, 'name': ' åse NOBODY '},
  {
    'full_path': '12/1000012_1948-07-03_2010.jpg',
    'image': FACE,
    'name': '',
    'gender': np.nan,
    'dob': 711677,
  },
  {'full_path': '65/1000065_1930-05-23_1961.jpg', 'image': FACE, 'face_score': -np.inf},
]


@pytest.fixture(scope='module')
def gray48(tmp_path_factory):
  raw = make_imdb_wiki(tmp_path_factory.mktemp('raw') / 'wiki_crop', 'wiki', ENTRIES)
  return build_set('wiki/gray48', raw, tmp_path_factory.mktemp('data'))


def test_subjects_are_names_in_lower_case(gray48):
  subjects = {
    image_id[:2]: record['subject'].decode() for image_id, record in by_id(gray48).items()
  }
  assert subjects == {'17': 'åse nobody', '48': 'åse nobody', '12': ''}


def test_labels(gray48):
  record = by_id(gray48)['12/1000012_1948-07-03_2010']
  # Born on 3 July 1948, so that the birthday of 2010 is two days after 1 July.
  assert {
    task: (int(record['labels'][task]), bool(record['mask'][task])) for task in record['labels']
  } == {
    'age_years': (61, True),
    'age_group': (5, True),
    'gender': (0, False),
  }
  summary = read_summary(gray48)
  assert summary['left_out']['by_reason'] == {'no face in the photograph': 1}
  assert summary['notes']['gender_missing']['image_ids'] == ['12/1000012_1948-07-03_2010']


def test_without_names(tmp_path):
  raw = make_imdb_wiki(tmp_path / 'raw', 'wiki', ENTRIES, {'name': None})
  with pytest.raises(
    UserError,
    match=r"wiki.mat: the struct 'wiki' has no field name; expected dob, .* wiki_crop.tar",
  ):
    build_set('wiki', raw, tmp_path / 'data')


def test_a_folder_of_the_other_set(tmp_path):
  make_imdb_wiki(tmp_path / 'imdb_crop', 'imdb', ENTRIES)
  with pytest.raises(
    UserError, match=r'found no wiki.mat with folders 00 ... 99 beside it.* wiki_crop.tar'
  ):
    build_set('wiki', tmp_path, tmp_path / 'data')
