"""Clips of folders and of prepared sets, with a network that takes as little as its features'
meaning can be seen by eye.
"""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds

from mtface.data.sources import Source
from mtface.errors import UserError
from mtface.features.classify import Settings
from mtface.features.classify_clips import check_clip_sets, measure_clips, video_table
from mtface.features.clips import ClipSet, Described, Reading, describe, folder_clips, source_clips
from tests.fakes import fake_source, write_prepared
from tests.videos import group_descriptor, write_video


class Brightness:
  """Features of a face: its mean brightness, and 1."""

  size = 2

  def __init__(self, batch_size=4):
    self.evaluator = SimpleNamespace(extractor=SimpleNamespace(batch_size=batch_size))
    self.batches = []

  def stream(self, batches):
    for images, tag in batches:
      self.batches.append(len(images))
      mean = images.reshape(len(images), -1).mean(axis=1)
      yield np.stack([mean, np.ones(len(mean))], axis=1).astype(np.float32), tag


def frames_source(rows, task='emotion7', **changes):
  """A source of (clip, frame, faces, brightness, label), shuffled as records may be."""
  rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
  clips, frames, faces, brightness, labels = (
    np.array(column) for column in zip(*rows, strict=True)
  )
  images = np.broadcast_to(brightness[:, None, None, None], (len(rows), 4, 4, 1)).astype(np.uint8)
  ids = np.array([f'{i:03d}' for i in range(len(rows))])
  source = Source(
    'clips/gray4:train', images, np.arange(len(rows)), ids, {task: labels},
    {task: (labels >= 0) & (faces > 0)},
    attributes={'clip': clips, 'frame': frames, 'faces': faces, 'label': labels},
  )  # fmt: skip
  return dataclasses.replace(source, **changes)


ROWS = [
  *[
    ('b', frame, 1, 10 * frame, 3) for frame in (0, 2, 10)
  ],  # numbers of frames are no text: 10 comes last
  ('a', 7, 1, 50, 0),
  ('dark', -1, 0, 0, 3),  # the black record of a clip without a face, whose label is masked
]


@pytest.mark.parametrize('batch_size', [1, 2, 4, 64])
def test_prepared_clips_are_described_in_their_frames_order(batch_size):
  clips = source_clips(frames_source(ROWS), 'clip', None)
  assert [(clip.name, clip.label) for clip in clips.clips] == [
    ('a', 'angry'),
    ('b', 'happy'),
    ('dark', 'happy'),
  ]
  assert [frame for frame, _ in clips.clips[1].faces()] == [0, 2, 10]
  network = Brightness(batch_size)
  found = describe(clips, network, 'clip')
  values = np.array([0, 20, 100])
  of_b = np.array([values.mean(), 1, 100, 1, 0, 1, values.std(), 0])
  expected = [
    np.array([50, 1, 50, 1, 50, 1, 0, 0]) / np.sqrt(3 * 2501),
    of_b / np.linalg.norm(of_b),
    np.zeros(8),
  ]
  np.testing.assert_allclose(found.vectors, expected, rtol=1e-6)
  assert (found.faces.tolist(), found.damaged) == ([1, 3, 0], 0)
  assert network.batches == [batch_size] * (4 // batch_size) + [4 % batch_size] * (
    4 % batch_size > 0
  ), 'filled over clips'


def test_prepared_groups():
  rows = [('g', 0, 2, 10, 1), ('g', 0, 2, 30, 1), ('g', 5, 1, 60, 1)]
  source = frames_source(rows, task='smile')
  found = describe(source_clips(source, 'group', 'smile'), Brightness(2), 'group')
  expected = group_descriptor([np.array([[10.0, 1], [30, 1]]), np.array([[60.0, 1]])])
  np.testing.assert_allclose(found.vectors[0], expected / np.linalg.norm(expected), rtol=1e-6)
  with pytest.raises(
    UserError, match='the clip g has several faces in one frame; pass --level=group'
  ):
    source_clips(source, 'clip', None)


def test_unlabelled_clips_are_left_out():
  clips = source_clips(frames_source([*ROWS, ('unknown', 0, 1, 9, -1)]), 'clip', None)
  assert 'unknown' not in [clip.name for clip in clips.clips]


@pytest.mark.parametrize(
  ('source', 'task', 'expected'),
  [
    (
      frames_source(ROWS, attributes={}),
      None,
      'lacks the attributes clip, frame, faces; expected a set of clips',
    ),
    (frames_source(ROWS), 'smile', '--task=smile: clips/gray4:train has the labels emotion7'),
    (frames_source(ROWS, labels={}, mask={}), None, '--task is missing'),
    (frames_source([('a', 0, 1, 1, -1)]), None, 'no clip is labelled for emotion7'),
    (
      frames_source([('a', 0, 1, 1, 1), ('a', 1, 1, 1, 2)]),
      None,
      'the clip a have different emotion7 labels',
    ),
  ],
)
def test_sources_that_are_no_clips(source, task, expected):
  with pytest.raises(UserError, match=expected):
    source_clips(source, 'clip', task)


def greys(*values):
  return [np.full((16, 24, 3), value, np.uint8) for value in values]


def test_a_folder(tmp_path, capsys):
  write_video(tmp_path / 'Happy' / 'b.avi', greys(0, 100))
  write_video(tmp_path / 'Happy' / 'a.mkv', greys(40))
  write_video(tmp_path / 'Angry' / 'c.mp4', greys(200, 200, 200))
  (tmp_path / 'Angry' / 'c.MOV').write_bytes(b'no video')
  (tmp_path / 'Angry' / 'notes.txt').write_text('')
  (tmp_path / 'empty').mkdir()
  (tmp_path / '.hidden').mkdir()
  clips = folder_clips(tmp_path, (8, 8, 1), Reading(boxes='whole'))
  assert clips.classes == ('Angry', 'Happy')
  assert [clip.name for clip in clips.clips] == [
    'Angry/c.MOV',
    'Angry/c.mp4',
    'Happy/a.mkv',
    'Happy/b.avi',
  ]
  faces = [face for _, face in clips.clips[3].faces()]
  assert {(face.shape, face.dtype) for face in faces} == {((8, 8, 1), np.dtype(np.uint8))}
  found = describe(clips, Brightness(4), 'clip')
  assert (found.labels.tolist(), found.faces.tolist(), found.damaged) == (
    ['Angry', 'Happy', 'Happy'],
    [3, 1, 2],
    1,
  )
  expected = np.array([50, 1, 100, 1, 0, 1, 50, 0])
  np.testing.assert_allclose(
    found.vectors[2], expected / np.linalg.norm(expected), atol=0.02
  )  # the codec's error
  captured = capsys.readouterr()
  assert captured.err.count('mtface: warning: ') == 1
  assert f'{tmp_path / "Angry" / "c.MOV"}: cannot be read as a video' in captured.err
  assert '4 clips, 6 faces; 0 without a face, 1 damaged' in captured.out


def test_a_clip_that_breaks_off_is_damaged_as_a_whole(tmp_path):
  def broken():
    yield 0, np.zeros((4, 4, 1), np.uint8)
    raise UserError('clip.avi: 1 of 9 frames can be read')

  whole = folder_clips(
    write_video(tmp_path / 'a' / 'x.avi', greys(80)).parents[1], (4, 4, 1), Reading(boxes='whole')
  )
  clips = dataclasses.replace(
    whole, clips=(dataclasses.replace(whole.clips[0], faces=broken), *whole.clips)
  )
  found = describe(clips, Brightness(1), 'clip')
  assert (found.damaged, found.faces.tolist()) == (1, [1])
  assert found.vectors[0, 0] == pytest.approx(1 / 3**0.5, rel=0.01), 'of the other clip'


def test_folders_that_hold_no_clips(tmp_path):
  (tmp_path / 'Happy').mkdir()
  with pytest.raises(
    UserError, match=r'contains no clips; expected <class>/<clip> with extension \.avi, \.mp4'
  ):
    folder_clips(tmp_path, (8, 8, 1), Reading())
  with pytest.raises(UserError, match='faces of clips are square'):
    folder_clips(tmp_path, (8, 9, 1), Reading())


def described(labels, faces, damaged=0):
  """Descriptors that say the class, but for clips without a face."""
  faces = np.array(faces)
  numbers = np.array(['abc'.index(label) for label in labels], int)
  vectors = np.eye(3, dtype=np.float32)[numbers] * (faces > 0)[:, None]
  return Described(vectors, np.array(list(labels)), faces, damaged)


def test_clips_without_a_face_are_not_trained_on_but_count_in_the_test():
  clips = ClipSet('train', ('a', 'b', 'c'), ())
  # If the faceless clips of c were trained on, the test's would be found to be c.
  train = described('aaabbb' + 'ccc', [1] * 6 + [0] * 3, damaged=2)
  row = measure_clips('svm', Settings(), clips, train, described('abbc', [3, 1, 2, 0], damaged=1))
  assert (row['n_train'], row['no_face_train'], row['damaged_train']) == (6, 3, 2)
  assert (row['n'], row['no_face_test'], row['damaged_test']) == (4, 1, 1)
  assert (row['correct'], row['accuracy'], row['accuracy_with_face']) == (3, 0.75, 1.0)
  assert row['per_class_accuracy'] == [1.0, 1.0, 0.0]
  table = video_table([row | {'classifier': 'svm', 'level': 'clip'}])
  assert '| LinearSVC | clip | 6 | 4 | 1 | 75.00% | 30.1% - 95.4% | 100.00% |' in table
  assert '| recall | a | b | c |' in table


def test_no_face_at_all():
  clips = ClipSet('train', ('a', 'b'), ())
  with pytest.raises(UserError, match=r'--train=train: no face found in any clip; .*--boxes=whole'):
    measure_clips('svm', Settings(), clips, described('ab', [0, 0]), described('a', [1]))
  with pytest.raises(UserError, match='--test: none of the clips can be read'):
    measure_clips('svm', Settings(), clips, described('ab', [1, 1]), described('', []))


def test_sets_that_do_not_go_together(tmp_path):
  for name in ('train', 'test'):
    write_video(tmp_path / name / 'a' / 'x.avi', greys(1))
  write_video(tmp_path / 'test' / 'b' / 'x.avi', greys(1))
  train, test = (folder_clips(tmp_path / name, (8, 8, 1), Reading()) for name in ('train', 'test'))
  with pytest.raises(UserError, match=r'has clips of b, of which --train=.*train has none'):
    check_clip_sets(train, test)
  check_clip_sets(test, train)
  with pytest.raises(UserError, match='is the same folder as --train'):
    check_clip_sets(test, dataclasses.replace(test, name=f'{test.name}/../test'))
  prepared = source_clips(frames_source(ROWS), 'clip', None)
  with pytest.raises(UserError, match='5 of its 5 faces are also in --train'):
    check_clip_sets(prepared, prepared)


@pytest.mark.parametrize(
  ('flags', 'expected'),
  [
    ({'train': None}, '--train is missing: pass a folder of clips'),
    (
      {'train': 'nowhere'},
      '--train=nowhere: is not a folder of clips (FOLDER/<class>/<clip>.avi); source',
    ),
    ({'level': 'frame'}, '--level=frame: expected clip or group'),
    ({'every': 0}, '--every=0: 0 is not a positive'),
    ({'boxes': 'all'}, '--boxes=all: expected detect or whole'),
    ({'classifiers': 'net'}, "--classifiers: unknown classifier 'net'"),
    ({'train': 'tiny/people:train'}, 'tiny/people:train: lacks the attributes clip, frame, faces'),
    ({'task': 'smile'}, '--task=smile: applies only to sources; the classes of'),
  ],
)
def test_bad_input_is_one_line(mtface, tiny_run, tiny_data, tmp_path, flags, expected):
  write_video(tmp_path / 'clips' / 'a' / 'x.avi', greys(1))
  given = {'train': tmp_path / 'clips', 'test': tmp_path / 'clips'} | flags
  arguments = [f'--{flag}={value}' for flag, value in given.items() if value is not None]
  assert (
    expected
    in mtface('video', f'--workdir={tiny_run}', f'--data_dir={tiny_data}', *arguments).error
  )
  assert not (tiny_run / 'video.json').exists()


def test_a_set_that_was_built(mtface, run_copy, tiny_data, tmp_path):
  # 12 clips of 5 faces; bright ones are happy. The last clip has no face.
  def draw(split, size):
    source = fake_source(split, size, {'emotion7': 1.0}, shape=(16, 16, 1))
    happy = np.arange(size) // 5 % 2 == 1
    images = (source.images // 4 + 150 * happy[:, None, None, None]).astype(np.uint8)
    labels = {'emotion7': np.where(happy, 3, 0).astype(np.int32)}
    return dataclasses.replace(
      source, images=images, labels=labels, mask={'emotion7': np.arange(size) < 55}
    )

  attributes = {
    'clip': (tfds.features.Text(), lambda i: f'clip {i // 5}'),
    'frame': (tfds.features.Scalar(np.int64), lambda i: i % 5),
    'faces': (tfds.features.Scalar(np.int64), lambda i: int(i < 55)),
    'label': (tfds.features.Scalar(np.int64), lambda i: 3 * (i // 5 % 2)),
  }
  (tmp_path / 'tiny').symlink_to(tiny_data / 'tiny')
  splits = {'train': 60, 'test': 60}
  write_prepared(
    tmp_path, 'clips/gray16', splits, {'emotion7': 1.0}, attributes=attributes, draw=draw
  )
  sources = ['--train=clips/gray16:train', '--test=clips/gray16:test']
  result = mtface(
    'video', f'--workdir={run_copy}', f'--data_dir={tmp_path}', *sources, '--trees=20'
  )
  assert result.code == 0, result.err
  rows = json.loads((run_copy / 'video.json').read_text())['results']
  assert [row['classifier'] for row in rows] == ['svm', 'forest']
  for row in rows:
    assert (row['n_train'], row['no_face_train'], row['n'], row['no_face_test']) == (11, 1, 12, 1)
    assert row['accuracy_with_face'] == 1.0
    assert row['features'] == 4 * 8
  assert 'clips/gray16:test: 12 clips, 55 faces; 1 without a face, 0 damaged' in result.out
  same = mtface(
    'video',
    f'--workdir={run_copy}',
    f'--data_dir={tmp_path}',
    sources[0],
    sources[0].replace('train', 'test', 1),
  )
  assert '60 of its 60 faces are also in --train' in same.error


def test_each_third_frame(tmp_path):
  write_video(tmp_path / 'a' / 'x.avi', greys(*range(0, 70, 10)))
  clips = folder_clips(tmp_path, (8, 8, 1), Reading(boxes='whole', every=3))
  assert [frame for frame, _ in clips.clips[0].faces()] == [0, 3, 6]
