"""From encoded clips of drawn faces to the classes of clips: `mtface video` with a small network
that was trained on other people.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtface.config.schema import experiment, source, task
from mtface.data.inputs import scale_images
from mtface.evaluation.evaluator import Evaluator
from mtface.faces import crop, video
from mtface.features.clips import Reading, describe, file_faces, load_clips
from mtface.features.extract import FeatureNetwork
from mtface.training.loop import train
from mtface.training.selection import Selection
from tests.fakes import write_prepared
from tests.moving_faces import EMOTIONS, in_a_scene, moving_face, stills
from tests.videos import set_durations, write_video
from tfds_builders import clips as prepared
from tfds_builders.base import FaceConfig

SIDE = 32
SPLITS = {'train': range(20), 'test': range(100, 110)}  # people, of whom each shows all emotions


def small_config():
  config = experiment()
  config.name = 'moving'
  config.tasks.emotion7 = task()
  config.sources.stills = source('stills/gray32:train', 'emotion7')
  config.image_shape = (SIDE, SIDE, 1)
  config.model.update(width=1 / 8, init='he', dropout=0.0)
  config.optimizer.rate = 0.02
  config.augment.update(pad=0, rotate=0.0)
  config.batch_size = 64
  config.evaluation.batch_size = 32
  config.duration = '300 steps'
  config.checkpoint.every = '300 steps'
  config.log_every = '100 steps'
  return config


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  data_dir = tmp_path_factory.mktemp('data')
  write_prepared(
    data_dir,
    'stills/gray32',
    {'train': 1500},
    {'emotion7': 1.0},
    shape=(SIDE, SIDE, 1),
    draw=lambda split, size: stills(split, size, SIDE),
  )
  return data_dir


@pytest.fixture(scope='module')
def run(data_dir, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('run') / 'run'
  train(small_config(), workdir, data_dir)
  return workdir


@pytest.fixture(scope='module')
def network(run, data_dir):
  return FeatureNetwork(Evaluator(run, data_dir), Selection.parse('last'))


def write_clips(
  folder: pathlib.Path, people: range, frames: int, side: int, scene: bool
) -> pathlib.Path:
  for emotion in EMOTIONS:
    for person in people:
      clip = moving_face(emotion, person, frames, side)
      write_video(folder / emotion / f'{person:03d}.avi', in_a_scene([clip]) if scene else clip)
  return folder


def by_hand(network, faces):
  """Features of faces, uint8 [n, H, W, C], by one call of the network; float64 [n, D]."""
  images = scale_images(jnp.asarray(np.stack(faces)))
  return np.asarray(
    jax.jit(network.evaluator.network.features)(network._params, network._stats, images), np.float64
  )


def length_one(vector):
  return vector / np.linalg.norm(vector)


def of_clip(features):
  return length_one(
    np.concatenate([features.mean(0), features.max(0), features.min(0), features.std(0)])
  )


def run_video(mtface, run, data_dir, folders, *flags):
  (run / 'video.json').unlink(missing_ok=True)
  flags = [f'--train={folders[0]}', f'--test={folders[1]}', *flags]
  result = mtface('video', f'--workdir={run}', f'--data_dir={data_dir}', *flags)
  assert result.code == 0, result.err
  return result, json.loads((run / 'video.json').read_text())['results']


def test_expressions_that_come_and_go_are_told_apart(mtface, run, data_dir, tmp_path):
  folders = [
    write_clips(tmp_path / name, people, 10, 48, scene=False) for name, people in SPLITS.items()
  ]
  result, rows = run_video(mtface, run, data_dir, folders, '--boxes=whole', '--trees=300')
  assert [row['classifier'] for row in rows] == ['svm', 'forest'], 'those of the paper'
  for row in rows:
    # 90% and 87% here, where a third is chance; the interval's lower end is above a half from 70%
    # on.
    assert (row['n_train'], row['n'], row['classes']) == (60, 30, list(EMOTIONS))
    assert row['low'] > 0.5, f'{row["classifier"]}: {row["accuracy"]:.0%} of three classes'
    assert np.trace(row['confusion']) == row['correct']
    assert f'| 30 | 0 | {row["accuracy"]:.2%} |' in result.out


def test_faces_are_found_and_odd_clips_are_counted(mtface, run, data_dir, tmp_path):
  # The drawn faces are found by MTCNN: 24 of 24 at 96 pixels without glasses or what covers them,
  # 46 of 48 as they come.
  folders = [
    write_clips(tmp_path / name, range(3), 4, 96, scene=True) for name in ('train', 'test')
  ]
  angry = folders[1] / 'angry'
  for folder in folders:
    write_video(folder / 'angry' / 'wall.avi', np.full((4, 120, 160, 3), 90, np.uint8))
    (folder / 'happy' / 'damaged.avi').write_bytes((angry / '000.avi').read_bytes()[:3000])
  write_video(angry / 'one.avi', in_a_scene([moving_face('angry', 7, 1, 96)]))
  result, rows = run_video(mtface, run, data_dir, folders, '--classifiers=svm,forest', '--trees=50')
  for row in rows:
    assert (row['n_train'], row['no_face_train'], row['damaged_train']) == (9, 1, 1)
    assert (row['n'], row['no_face_test'], row['damaged_test']) == (11, 1, 1), (
      'the wall counts, what is damaged does not'
    )
    with_face = round(row['accuracy_with_face'] * 10)
    assert row['correct'] - with_face in (0, 1)
  assert len(result.warnings) == 2
  assert all(str(folder / 'happy' / 'damaged.avi') in result.err for folder in folders)
  assert f'{folders[1]}: 12 clips' in result.out


@pytest.mark.parametrize('level', ['clip', 'group'])
def test_descriptors_by_hand(network, tmp_path, level):
  big, small = moving_face('happy', 3, 3, 96), moving_face('angry', 4, 3, 96)
  path = write_video(tmp_path / 'a' / 'two.avi', in_a_scene([big, small], 120))
  write_video(tmp_path / 'a' / 'one.avi', in_a_scene([moving_face('happy', 5, 1, 96)]))
  reading = Reading(level)
  found = describe(
    load_clips(network.evaluator, str(tmp_path), 'train', reading, None), network, level
  )
  of_frames, main, left = [], [], 0
  for frame in video.frames(path):
    boxes = [face.box for face in video.faces_of(frame.image)]
    assert len(boxes) == 2, 'both faces are found'
    faces = [crop.crop_face(frame.image, box, SIDE, 1) for box in boxes]
    of_frames.append(by_hand(network, faces))
    # The largest of the first frame, and then the one that stands where it stood.
    left = left or boxes[0][0]
    main.append(of_frames[-1][np.argmin([abs(box[0] - left) for box in boxes])])
  if level == 'clip':
    expected = of_clip(np.stack(main))
  else:
    pairs = np.stack([np.concatenate([f.mean(0), f.std(0)]) for f in of_frames])
    expected = length_one(np.concatenate([pairs.mean(0), pairs.std(0)]))
  one, two = found.vectors
  np.testing.assert_allclose(two, expected, atol=1e-5)
  size = network.size
  assert (one[-size:] == 0).all(), 'one frame has no deviation'
  assert np.linalg.norm(one) == pytest.approx(1)
  assert found.faces.tolist() == [1, 3 if level == 'clip' else 6]


def test_a_varying_rate_does_no_harm(network, tmp_path):
  clip = moving_face('surprise', 2, 5, 48)
  write_video(tmp_path / 'a' / 'even.mp4', clip)
  set_durations(write_video(tmp_path / 'a' / 'uneven.mp4', clip), [0.04, 0.5, 0.04, 1.0, 0.2])
  found = describe(
    load_clips(network.evaluator, str(tmp_path), 'train', Reading(boxes='whole'), None),
    network,
    'clip',
  )
  assert found.faces.tolist() == [5, 5]
  np.testing.assert_array_equal(*found.vectors)


@pytest.mark.parametrize('level', ['clip', 'group'])
def test_a_folders_faces_are_those_of_a_prepared_set(tmp_path, level):
  two = in_a_scene([moving_face('happy', 3, 3, 96), moving_face('angry', 4, 3, 96)])
  path = write_video(tmp_path / 'two.avi', two)
  form = prepared.video_config(FaceConfig(name='gray32', size=SIDE, channels=1), every=2)
  records = prepared.convert(
    prepared.Clip('train/two', path, 3), config=form, task='emotion7', all_faces=level == 'group'
  )
  found = list(file_faces(path, size=SIDE, channels=1, reading=Reading(level, every=2)))
  assert [frame for frame, _ in found] == [record.attributes['frame'] for record in records]
  assert len(found) == (2 if level == 'clip' else 4)
  for (_, face), record in zip(found, records, strict=True):
    np.testing.assert_array_equal(face, record.image)
