import numpy as np
import pytest
import tensorflow_datasets as tfds

from mtface.data.build import find_builder
from tests.prepared import by_id, read_summary
from tfds_builders.synthetic_faces import population, render
from tfds_builders.synthetic_faces.draws import Draws
from tfds_builders.synthetic_faces.synthetic_faces_dataset_builder import (
  SOURCES,
  Builder,
  draw_block,
)

FEW = 5


def build_few(config, data_dir):
  """The first few faces of each split, in this process."""
  builder = Builder(config=config, data_dir=data_dir)
  builder.workers = 1
  few = tfds.download.DownloadConfig(max_examples_per_split=FEW)
  builder.download_and_prepare(download_dir=data_dir / 'unused', download_config=few)
  return builder.data_path


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('data')


@pytest.mark.parametrize('source', list(SOURCES))
def test_grey_records(source, folder):
  records = by_id(build_few(f'{source}_gray48', folder))
  assert sorted(records) == sorted(
    f'{source}-{split}-{n:05d}' for split in ('train', 'test') for n in range(FEW)
  )
  parameters = population.sample(Draws(0, source, 'test', range(FEW)), source)
  truth = population.labels(parameters)
  images, landmarks = render.render(parameters, 48, 1)
  labelled = SOURCES[source][0]
  for n in range(FEW):
    record = records[f'{source}-test-{n:05d}']
    np.testing.assert_array_equal(record['image'], images[n])
    np.testing.assert_array_equal(record['landmarks'], landmarks[n])
    assert set(record['labels']) == set(record['mask']) == set(labelled)
    assert all(np.all(mask) for mask in record['mask'].values())
    for task in ('smile', 'emotion7', 'gender', 'age_years', 'age_group'):
      assert record['attributes'][task] == truth[task][n]
    for task in labelled:
      np.testing.assert_array_equal(record['labels'][task], truth[task][n])
    assert (
      record['attributes']['au_intensities'][7] == parameters['au12'][n]
    )  # 1, 2, 4, 5, 6, 7, 9, 12
    assert record['attributes']['yaw'] == parameters['yaw'][n]


def test_colour_records(folder):
  records = by_id(build_few('smile_rgb224', folder))
  image = records['smile-train-00003']['image']
  assert image.shape == (224, 224, 3)
  drawn, _ = render.render(population.sample(Draws(0, 'smile', 'train', [3]), 'smile'), 224, 3)
  # JPEG loses a little, more where there is grain; channels in the wrong order would lose much.
  assert np.abs(image.astype(int) - drawn[0]).mean() < 4


def test_summary(folder):
  summary = read_summary(build_few('people_gray48', folder))
  assert summary['records'] == {'train': FEW, 'test': FEW}
  assert summary['labelled']['train'] == {'gender': FEW, 'age_years': FEW, 'age_group': FEW}


def test_whole_sets_are_of_unequal_sizes():
  sizes = {}
  for config in Builder.BUILDER_CONFIGS:
    builder_class, name = find_builder(f'synthetic_faces/{config.name}')
    builder = builder_class(config=name, data_dir='/nowhere')
    sizes[name] = {
      split: sum(map(builder.images_in, blocks)) for split, blocks in builder.items(None).items()
    }
  assert sizes['smile_gray48'] == sizes['smile_rgb224'] == {'train': 1500, 'test': 600}
  assert sizes['emotion_gray48'] == sizes['emotion_rgb224'] == {'train': 6000, 'test': 1200}
  assert sizes['people_gray48'] == sizes['people_rgb224'] == {'train': 3500, 'test': 800}


def test_blocks_do_not_change_the_faces():
  whole = draw_block(('train', 0, 6), source='people', size=24, channels=1)
  parts = [
    face
    for k in (0, 4)
    for face in draw_block(('train', k, min(k + 4, 6)), source='people', size=24, channels=1)
  ]
  assert [face.image_id for face in parts] == [face.image_id for face in whole]
  for a, b in zip(parts, whole, strict=True):
    np.testing.assert_array_equal(a.image, b.image)
    assert a.labels == b.labels
