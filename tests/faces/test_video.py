import contextlib
import itertools
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mtface.errors import UserError
from mtface.faces import detect, video
from tests.cartoons import cartoon
from tests.videos import set_durations, write_video


def greys(count, size=(48, 64)):
  """Frame i is grey of the value 20 i, but for a red upper left quarter in the first."""
  images = [np.full((*size, 3), 20 * i, np.uint8) for i in range(count)]
  images[0][: size[0] // 2, : size[1] // 2] = (250, 10, 10)
  return images


@pytest.mark.parametrize('ending', ['.avi', '.mp4', '.mkv'])
def test_frames_come_in_order_with_their_times_in_rgb(tmp_path, ending):
  path = write_video(tmp_path / f'clip{ending}', greys(10), fps=8)
  found = list(video.frames(path))
  assert [frame.index for frame in found] == list(range(10))
  np.testing.assert_allclose([frame.seconds for frame in found], np.arange(10) / 8, atol=1e-3)
  assert found[0].image.shape == (48, 64, 3)
  np.testing.assert_allclose(found[0].image[4, 4], (250, 10, 10), atol=12)
  np.testing.assert_allclose(
    [frame.image.mean() for frame in found[1:]], 20 * np.arange(1, 10), atol=6
  )


def test_every_kth_frame(tmp_path):
  path = write_video(tmp_path / 'clip.mp4', greys(10), fps=10)
  found = list(video.frames(path, every=4))
  assert [frame.index for frame in found] == [0, 4, 8]
  np.testing.assert_allclose([frame.seconds for frame in found], [0, 0.4, 0.8], atol=1e-3)
  np.testing.assert_allclose([frame.image.mean() for frame in found[1:]], [80, 160], atol=6)
  with pytest.raises(UserError, match='every=0'):
    next(video.frames(path, every=0))


def test_a_rate_that_varies(tmp_path):
  path = write_video(tmp_path / 'clip.mp4', greys(6))
  durations = [0.04, 0.2, 0.04, 1.0, 0.12, 0.04]
  set_durations(path, durations)
  seconds = [frame.seconds for frame in video.frames(path)]
  np.testing.assert_allclose(seconds, np.cumsum([0, *durations[:-1]]), atol=2e-3)


@pytest.mark.parametrize('ending', ['.avi', '.mp4'])
def test_one_frame(tmp_path, ending):
  (frame,) = video.frames(write_video(tmp_path / f'one{ending}', greys(1)))
  assert (frame.index, frame.seconds) == (0, 0.0)


def test_what_is_no_video(tmp_path):
  sound = write_video(tmp_path / 'sound.mp4', greys(10)).read_bytes()
  for name, content in {
    'text.avi': b'no video',
    'empty.mp4': b'',
    'half.mp4': sound[: len(sound) // 2],
  }.items():
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
      UserError, match=f'{name}: cannot be read as a video; the file may be damaged'
    ):
      next(video.frames(tmp_path / name))
  with pytest.raises(UserError, match=r'gone.mp4: no such file'):
    next(video.frames(tmp_path / 'gone.mp4'))


def test_the_frames_that_are_there_are_used_and_those_that_are_not_are_told(tmp_path):
  path = write_video(tmp_path / 'clip.avi', greys(10))
  whole = path.read_bytes()
  starts = [i for i in range(len(whole)) if whole.startswith(b'00dc', i)][
    :10
  ]  # the frames; then comes the index
  told = []
  lost = bytearray(whole)
  lost[starts[3] : starts[8]] = bytes(starts[8] - starts[3])
  path.write_bytes(lost)
  seen = list(video.frames(path, on_fewer=lambda *numbers: told.append(numbers)))
  assert 3 <= len(seen) < 8
  values = np.array([frame.image.mean() for frame in seen[1:]])
  np.testing.assert_allclose(
    values, 20 * np.round(values / 20), atol=6
  )  # whole frames, of which some are gone
  assert (np.diff(values) > 10).all()
  assert told == [(seen[-1].index + 1, 10)]
  path.write_bytes(whole[: starts[4]])  # truncated: the header still promises ten
  np.testing.assert_allclose(
    [frame.image.mean() for frame in video.frames(path)][1:3], [20, 40], atol=6
  )
  one = bytearray(whole)
  one[starts[9] : starts[9] + 4] = b'JUNK'
  path.write_bytes(one)
  assert len(list(video.frames(path, on_fewer=lambda *_: told.append('too much said')))) == 9
  assert len(told) == 1


class FakeCapture:
  """A container of five frames of a rate and time stamps that say nothing; the third frame cannot
  be decoded.
  """

  def __init__(self, fps, promised):
    self.properties = {
      cv2.CAP_PROP_FPS: fps,
      cv2.CAP_PROP_FRAME_COUNT: promised,
      cv2.CAP_PROP_POS_MSEC: 0.0,
    }
    self.at = -1

  def get(self, name):
    return self.properties[name]

  def grab(self):
    self.at += 1
    return self.at < 5

  def retrieve(self):
    return (False, None) if self.at == 2 else (True, np.full((4, 4, 3), self.at + 1, np.uint8))


@pytest.mark.parametrize(('fps', 'step'), [(0.0, 0.0), (np.nan, 0.0), (np.inf, 0.0), (4.0, 0.25)])
@pytest.mark.parametrize('promised', [-9.2e18, 0, 5])
def test_containers_that_say_nothing_of_rate_and_length(monkeypatch, fps, step, promised):
  monkeypatch.setattr(
    video, '_opened', lambda path: contextlib.nullcontext(FakeCapture(fps, promised))
  )
  found = list(video.frames('x.mp4', on_fewer=lambda *_: pytest.fail('none are missing')))
  assert [(frame.index, frame.image.mean()) for frame in found] == [(0, 1), (1, 2), (3, 4), (4, 5)]
  assert [frame.seconds for frame in found] == [0, step, 3 * step, 4 * step]


def test_nothing_is_printed_about_a_damaged_file(tmp_path):
  (tmp_path / 'text.mp4').write_text('no video')
  code = (
    'import sys; from mtface.faces import video\ntry: list(video.frames(sys.argv[1]))\nexcept '
    'Exception: pass'
  )
  done = subprocess.run(
    [sys.executable, '-c', code, tmp_path / 'text.mp4'], capture_output=True, text=True
  )
  assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_memory_does_not_grow_with_the_length(tmp_path):
  # Frames that are not held by the caller are gone: only the last two are ever alive.
  import weakref

  path = write_video(tmp_path / 'clip.mp4', greys(10))
  alive = []
  for frame in video.frames(path):
    alive.append(weakref.ref(frame.image))
    assert sum(image() is not None for image in alive) <= 2


# --- Writing and cameras --------------------------------------------------------------------------


@pytest.mark.parametrize('ending', video.CODECS)
def test_what_is_written_is_read(tmp_path, ending):
  path = tmp_path / f'a{ending}'
  writer = video.Writer(path, 12.5)
  for level in (20, 120, 220):
    writer.add(np.full((48, 64, 3), level, np.uint8))
  assert not path.exists()
  writer.close()
  assert [file.name for file in tmp_path.iterdir()] == [path.name]
  frames = list(video.frames(path))
  assert video.form_of(path) == (3, 12.5)
  np.testing.assert_allclose([frame.image.mean() for frame in frames], [20, 120, 220], atol=4)


def test_colours_are_written_as_they_are(tmp_path):
  writer = video.Writer(tmp_path / 'a.mkv', 25)  # without loss
  image = np.zeros((16, 16, 3), np.uint8)
  image[:8, :, 0], image[8:, :, 2] = 200, 150
  writer.add(image)
  writer.close()
  (frame,) = video.frames(tmp_path / 'a.mkv')
  np.testing.assert_allclose(frame.image.astype(int), image, atol=2)


def test_nothing_is_left_of_a_video_that_is_not_whole(tmp_path):
  writer = video.Writer(tmp_path / 'a.mp4', 25)
  writer.add(np.zeros((16, 16, 3), np.uint8))
  writer.close(whole=False)
  video.Writer(tmp_path / 'b.mp4', 25).close()  # no frame, no file
  assert list(tmp_path.iterdir()) == []


def test_a_video_that_cannot_be_written_is_told(tmp_path):
  with pytest.raises(UserError, match=r'a\.mp4: cannot be written as a video of 16x16 pixels'):
    video.Writer(tmp_path / 'nowhere' / 'a.mp4', 25).add(np.zeros((16, 16, 3), np.uint8))


def test_frames_of_a_camera(tmp_path, monkeypatch):
  path, real = write_video(tmp_path / 'a.avi', greys(5)), video.cv2.VideoCapture
  monkeypatch.setattr(
    video.cv2, 'VideoCapture', lambda index: real(str(path)) if index == 3 else real()
  )
  frames = list(video.camera(3, every=2))
  assert [frame.index for frame in frames] == [0, 2, 4]
  assert all(a.seconds < b.seconds for a, b in itertools.pairwise(frames))
  with pytest.raises(UserError, match='camera 4: cannot be opened'):
    next(video.camera(4))


# --- Faces ----------------------------------------------------------------------------------------


def test_faces_of_a_frame_are_all_faces_the_largest_first():
  small, large = cartoon(scale=0.75), cartoon(scale=1.25)
  faces = video.faces_of(np.hstack([small, large]))
  assert [face.box[0] // 200 for face in faces] == [1, 0]
  assert video.faces_of(np.full((60, 60, 3), 127, np.uint8)) == []
  assert [
    face.box[0] // 200 for face in video.faces_of(np.hstack([small, large]), min_face=150)
  ] == [1]


def face(left, side):
  return detect.Detection((left, 0, left + side, side), 0.9, np.zeros((5, 2), np.float32))


def test_a_box_outside_the_frame_is_no_face(monkeypatch):
  def at(left, top):
    return detect.Detection((left, top, left + 20, top + 20), 0.9, np.zeros((5, 2), np.float32))

  found = [at(-5, -5), at(60, 0), at(0, 40), at(59, 39)]
  monkeypatch.setattr(detect, 'cached_detector', lambda min_face: lambda image: found)
  assert video.faces_of(np.zeros((40, 60, 3), np.uint8)) == [found[0], found[3]]


def test_the_main_face_is_the_largest_or_the_one_before_if_it_is_nearly_as_large():
  left, right = face(0, 40), face(100, 44)
  assert video.follow([right, left], None) is right
  assert video.follow([right, left], (4, 0, 44, 40)) is left
  assert video.follow([right, left], (300, 0, 340, 40)) is right  # nobody of the frame before
  much_larger = face(100, 60)
  assert video.follow([much_larger, left], (4, 0, 44, 40)) is much_larger
  assert video.follow([], (0, 0, 4, 4)) is None
