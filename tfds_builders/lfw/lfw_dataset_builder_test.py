import numpy as np
import pytest

from mtface.errors import UserError
from tests.cartoons import cartoon, make_lfw
from tests.prepared import build_set, by_id, read_summary
from tfds_builders.lfw.lfw_dataset_builder import Builder, photos

PLAIN = np.full((250, 250, 3), (200, 30, 90), np.uint8)


def photo(offset=(0, 0), **kwargs):
  """A face in the middle of 250x250, as LFW's photographs were cut out."""
  return cartoon(size=250, center=(125 + offset[0], 121 + offset[1]), **kwargs)


def with_a_larger_face_at_the_edge():
  image = photo(scale=0.9)
  image[:, 175:] = cartoon(size=250, center=(125, 121), scale=1.3)[:, 85:160]
  return image


PEOPLE = {
  'Bob_Baker': [photo(), PLAIN],
  'Zoe': [photo(scale=1.1)],
  'Ann_Ash': [photo((3, 2)), photo(scale=0.9), with_a_larger_face_at_the_edge()],
  'Émile_Noël': [photo((2, 0)), photo((-2, 0))],
}


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
  folder = make_lfw(tmp_path_factory.mktemp('raw') / 'lfw-deepfunneled', PEOPLE)
  (folder / 'ytf_subjects.txt').write_text(
    '# of YouTube Faces\nAnn Ash\nZoe\nNot_Here\n\nBob_Baker\n', 'utf-8'
  )
  (folder / 'Bob_Baker' / 'Thumbs.jpg').write_bytes(b'not one of the photographs')
  return folder


@pytest.fixture(scope='module')
def rgb64(raw, tmp_path_factory):
  return build_set('lfw/rgb64', raw.parent, tmp_path_factory.mktemp('data'))


def test_subjects_and_attributes(rgb64):
  records = by_id(rgb64)
  assert len(records) == 8
  subjects = {image_id: record['subject'].decode() for image_id, record in records.items()}
  assert all(image_id == f'{subject}_{image_id[-4:]}' for image_id, subject in subjects.items())
  images = {subjects[i]: int(record['attributes']['images']) for i, record in records.items()}
  assert images == {name: len(of_person) for name, of_person in PEOPLE.items()}
  # Zoe is listed with one photograph, Émile is not listed.
  assert {subjects[i] for i, record in records.items() if record['attributes']['ytf']} == {
    'Ann_Ash',
    'Bob_Baker',
  }


def test_a_part_of_the_people_has_no_numbers(rgb64):
  assert not any(record['mask']['identity'] for record in by_id(rgb64).values())
  summary = read_summary(rgb64)
  assert summary['notes']['identity_unknown']['images'] == 8
  assert summary['labelled']['train'] == {'identity': 0}


def test_all_people_have_numbers_in_the_order_of_their_names(raw):
  numbers = {photo.subject: photo.identity for photo in photos(raw, people=4)}
  assert numbers == {'Ann_Ash': 0, 'Bob_Baker': 1, 'Zoe': 2, 'Émile_Noël': 3}
  assert {p.subject: p.identity for p in photos(raw, people=3, least=2)} == {
    'Ann_Ash': 0,
    'Bob_Baker': 1,
    'Émile_Noël': 2,
  }


def test_a_subset_states_its_label_space(raw, tmp_path, monkeypatch):
  with pytest.raises(
    UserError,
    match=r'lfw-deepfunneled: 0 people have at least 10 photographs; expected 158.*lfw/rgb64',
  ):
    build_set('lfw/rgb64_158', raw, tmp_path)
  config = Builder.builder_configs['rgb64_158']
  monkeypatch.setattr(config, 'least', 2)
  monkeypatch.setattr(config, 'people', 3)
  records = by_id(build_set('lfw/rgb64_158', raw, tmp_path))
  assert len(records) == 7
  labels = {
    record['subject'].decode(): int(record['labels']['identity']) for record in records.values()
  }
  assert labels == {'Ann_Ash': 0, 'Bob_Baker': 1, 'Émile_Noël': 2}
  assert all(record['mask']['identity'] for record in records.values())


def test_the_face_in_the_middle_is_stored_and_what_has_none_is_listed(rgb64):
  records, notes = by_id(rgb64), read_summary(rgb64)['notes']
  left, top, right, bottom = records['Ann_Ash_0003']['attributes']['box']
  assert left < 125 < right < 175  # the larger face begins there
  assert top < 121 < bottom
  assert 'Ann_Ash_0003' in notes['several_faces_found']['image_ids']
  assert notes['face_not_found']['image_ids'] == ['Bob_Baker_0002']
  plain = records['Bob_Baker_0002']
  np.testing.assert_allclose(plain['attributes']['box'], [62, 62, 187, 187], atol=1)
  assert np.isnan(plain['landmarks']).all()
  np.testing.assert_allclose(plain['image'], np.broadcast_to((200, 30, 90), (64, 64, 3)), atol=2)


def test_the_center_crop_is_the_central_224(raw, tmp_path):
  path = build_set('lfw/rgb224_center', raw, tmp_path)
  record = by_id(path)['Zoe_0001']
  assert record['attributes']['box'].tolist() == [13, 13, 237, 237]
  np.testing.assert_allclose(
    record['image'], photo(scale=1.1)[13:237, 13:237], atol=25
  )  # JPEG, twice
  assert abs(record['image'].astype(float) - photo(scale=1.1)[13:237, 13:237]).mean() < 2
  assert np.isnan(record['landmarks']).all()
  assert set(read_summary(path)['notes']) == {'identity_unknown'}


def test_a_list_of_other_names(raw, tmp_path):
  folder = make_lfw(tmp_path / 'lfw', {'Zoe': [PLAIN]})
  (tmp_path / 'ytf_subjects.txt').write_text('zoe\n')
  with pytest.raises(
    UserError,
    match=r'ytf_subjects.txt: none of its 1 lines is the name of a folder .* Aaron_Eckhart',
  ):
    build_set('lfw', folder, tmp_path / 'data')


def test_a_damaged_photograph_and_a_wrong_folder(tmp_path):
  folder = make_lfw(tmp_path / 'lfw', {'Zoe': [PLAIN, PLAIN]})
  (folder / 'Zoe' / 'Zoe_0002.jpg').write_bytes(b'')
  assert (
    read_summary(build_set('lfw', folder, tmp_path))['left_out']['list'][0]['image_id']
    == 'Zoe_0002'
  )
  with pytest.raises(
    UserError, match=r'found no NAME/NAME_0001.jpg.*http://vis-www.cs.umass.edu/lfw/.*--manual_dir'
  ):
    build_set('lfw', folder / 'Zoe', tmp_path / 'data')
