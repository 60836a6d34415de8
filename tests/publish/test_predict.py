"""`mtface predict` as it is used, on drawn faces."""

import csv
import json
import os
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from mtface.faces import video
from tests.cartoons import cartoon, save
from tests.videos import write_video

TWO = np.hstack([cartoon(scale=0.75), cartoon(scale=1.25)])
NOBODY = np.full((200, 200, 3), 90, np.uint8)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
  folder = tmp_path_factory.mktemp('photos')
  save(folder / 'one.png', cartoon())
  save(folder / 'more' / 'two.jpg', TWO)
  save(folder / 'nobody.png', NOBODY)
  save(folder / '.thumbnails' / 'hidden.png', cartoon())
  (folder / 'notes.txt').write_text('not a photograph')
  return folder


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
  """Half a second with a face, half a second without."""
  images = [cartoon()] * 5 + [NOBODY] * 5
  return write_video(tmp_path_factory.mktemp('clip') / 'clip.avi', images, fps=10)


@pytest.fixture
def predict(mtface, tiny_run):
  return lambda *args: mtface('predict', f'--workdir={tiny_run}', *args)


def lines(text):
  return [json.loads(line) for line in text.splitlines()]


def test_lines_of_json(predict, photos):
  found = predict(photos / 'more' / 'two.jpg', photos / 'nobody.png')
  assert found.code == 0
  two, nobody = lines(found.out)
  assert (two['input'], two['size']) == (str(photos / 'more' / 'two.jpg'), [400, 200])
  larger, smaller = two['faces']
  assert larger['box'][0] > 200 > smaller['box'][0] + smaller['box'][2]
  assert list(larger['answers']) == ['gender', 'smile'] or list(larger['answers']) == [
    'smile',
    'gender',
  ]
  assert sum(larger['answers']['smile']['probabilities'].values()) == pytest.approx(1, abs=1e-5)
  assert nobody['faces'] == []
  assert 'faces: 2, photographs: 2, photographs without a face: 1' in found.err
  assert 'by default' in found.err  # nobody knows how the tiny sets were cut


def test_a_folder_to_a_folder(predict, photos, tmp_path):
  assert predict(f'--input={photos}', f'--output={tmp_path}').code == 0
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'nobody.jpg',
    'one.jpg',
    'predictions.jsonl',
    'two.jpg',
  ]
  found = lines((tmp_path / 'predictions.jsonl').read_text())
  assert [len(line['faces']) for line in found] == [0, 1, 2]
  drawn = np.asarray(Image.open(tmp_path / 'two.jpg'))
  assert drawn.shape == (640, 1280, 3)
  plain = cv2.resize(TWO, (1280, 640), interpolation=cv2.INTER_CUBIC)
  x, y, _, height = (round(3.2 * of) for of in found[2]['faces'][0]['box'])
  edge = np.abs(drawn[y : y + height, x : x + 3].astype(int) - plain[y : y + height, x : x + 3])
  assert edge.mean() > 40, 'there is a box'


def test_a_table(predict, photos, tmp_path):
  assert predict(f'--input={photos}/**/*.*', f'--output={tmp_path / "faces.csv"}').code == 0
  rows = list(csv.DictReader((tmp_path / 'faces.csv').open(newline='')))
  assert [(row['input'].rpartition('/')[2], row['face']) for row in rows] == [
    ('two.jpg', '0'),
    ('two.jpg', '1'),
    ('one.png', '0'),
  ]
  for row in rows:
    p = {name: float(row[f'gender/{name}']) for name in ('female', 'male')}
    assert row['gender'] == max(p, key=p.get)
    assert float(row['confidence']) > 0.7 and row['frame'] == ''


def test_one_picture_to_one_picture(predict, photos, tmp_path):
  path = tmp_path / 'out' / 'boxes.png'
  assert predict(photos / 'one.png', f'--output={path},{tmp_path / "a.jsonl"}').code == 0
  assert Image.open(path).size == (640, 640)
  assert len(lines((tmp_path / 'a.jsonl').read_text())) == 1


def test_of_equal_names_the_later_ones_are_numbered(predict, tmp_path):
  for folder in 'ab':
    save(tmp_path / folder / 'x.png', cartoon())
  assert predict(tmp_path / 'a', tmp_path / 'b', f'--output={tmp_path / "out"}').code == 0
  assert {path.name for path in (tmp_path / 'out').glob('*.jpg')} == {'x.jpg', 'x_1.jpg'}


def test_a_link_back_to_its_folder_is_not_followed_again(predict, tmp_path):
  save(tmp_path / 'in' / 'more' / 'x.png', NOBODY)
  (tmp_path / 'in' / 'more' / 'back').symlink_to(tmp_path / 'in')
  found = predict(tmp_path / 'in')
  assert [line['input'] for line in lines(found.out)] == [str(tmp_path / 'in' / 'more' / 'x.png')]


def test_names_that_are_not_utf_8_are_kept(predict, tmp_path):
  photo = save(tmp_path / os.fsdecode(b'\xe9.png'), cartoon())
  to = (tmp_path / 'a.jsonl', tmp_path / 'a.csv')
  assert predict(f'--input={tmp_path}/*.png', f'--output={to[0]},{to[1]}').code == 0
  assert lines(to[0].read_text())[0]['input'] == str(photo)
  (row,) = csv.DictReader(to[1].open(newline=''))
  assert row['input'] == f'{tmp_path}/\\udce9.png'


def test_damaged_files_are_told_and_the_others_go_on(predict, photos, tmp_path):
  shutil.copytree(photos / 'more', tmp_path / 'in')
  whole = (tmp_path / 'in' / 'two.jpg').read_bytes()
  (tmp_path / 'in' / 'half.jpg').write_bytes(whole[: len(whole) // 2])
  (tmp_path / 'in' / 'empty.png').write_bytes(b'')
  (tmp_path / 'in' / 'text.mp4').write_text('no video')
  found = predict(tmp_path / 'in')
  assert found.code == 2
  assert [len(line['faces']) for line in lines(found.out)] == [2]
  told = [line for line in found.err.splitlines() if line.startswith('mtface:')]
  for line, name, what in zip(
    told,
    ('empty.png', 'half.jpg', 'text.mp4'),
    ('is empty', 'truncated', 'cannot be read as a video'),
    strict=False,
  ):
    assert name in line and what in line
  assert told[3:] == [
    'mtface: error: 3 of 4 inputs could not be read, as told above; the others are done'
  ]


def test_the_only_input_is_damaged(predict, tmp_path):
  (tmp_path / 'a.jpg').write_bytes(b'\xff\xd8\xff')
  found = predict(tmp_path / 'a.jpg', f'--output={tmp_path / "a.jsonl"}')
  assert found.code == 2 and not (tmp_path / 'a.jsonl').exists()
  assert found.err.splitlines()[-1].startswith('mtface: error:') and 'a.jpg' in found.err


def test_a_video_and_its_timeline(predict, clip, tmp_path):
  out = tmp_path / 'out'
  assert predict(clip, f'--output={out}', '--timeline', '--every=2').code == 0
  found = lines((out / 'predictions.jsonl').read_text())
  assert [line['frame'] for line in found] == [0, 2, 4, 6, 8]
  assert [line['seconds'] for line in found] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
  assert [len(line['faces']) for line in found] == [1, 1, 1, 0, 0]
  frames = list(video.frames(out / 'clip.mp4'))
  assert len(frames) == 5 and frames[0].image.shape == (640, 640, 3)
  assert frames[1].seconds == pytest.approx(0.2)
  rows = list(csv.DictReader((out / 'clip.timeline.csv').open(newline='')))
  assert [float(row['share_with_face']) for row in rows] == [1, 1, 1, 0, 0]
  smile = found[0]['faces'][0]['answers']['smile']['probabilities']['smile']
  assert float(rows[0]['smile/smile']) == pytest.approx(smile, abs=1e-5)
  assert Image.open(out / 'clip.timeline.png').size[0] == 1100


def test_one_video_to_one_video(predict, clip, tmp_path):
  assert predict(clip, f'--output={tmp_path / "boxes.avi"}').code == 0
  assert [path.name for path in tmp_path.iterdir()] == ['boxes.avi']
  assert len(list(video.frames(tmp_path / 'boxes.avi'))) == 10


def test_a_video_in_a_place_that_is_no_folder_is_told(predict, clip, tmp_path):
  (tmp_path / 'file').touch()
  error = predict(clip, f'--output={tmp_path}/file/boxes.avi').error
  assert 'boxes.avi: cannot be written as a video' in error


def test_a_camera_until_it_is_stopped(predict, clip, tmp_path, monkeypatch):
  """The camera is a file here, and Ctrl-C comes after seven frames."""
  real = cv2.VideoCapture

  class Camera:
    def __init__(self, index):
      self._file, self._left = real(str(clip), cv2.CAP_FFMPEG), 7
      self.isOpened = lambda: index == 1
      self.release = self._file.release

    def read(self):
      self._left -= 1
      if self._left < 0:
        raise KeyboardInterrupt
      return self._file.read()

  monkeypatch.setattr(cv2, 'VideoCapture', Camera)
  out = tmp_path / 'out'
  assert predict('--input=1', f'--output={out}', '--timeline').code == 0
  monkeypatch.undo()
  found = lines((out / 'predictions.jsonl').read_text())
  assert [len(line['faces']) for line in found] == [1] * 5 + [0] * 2
  assert len(list(video.frames(out / 'camera1.mp4'))) == 7
  assert (out / 'camera1.timeline.csv').is_file()


def test_there_is_no_camera(predict):
  found = predict('--input=7')
  assert found.code == 2 and 'camera 7: cannot be opened' in found.err


@pytest.mark.parametrize(
  'args, told',
  [
    (['nowhere.jpg'], '--input=nowhere.jpg: no such file'),
    (['--input=nowhere/*.jpg'], 'no photograph or video matches'),
    ([], '--input is missing'),
    ([''], "--input='': is empty"),
    ([300 * 'a' + '.jpg'], 'a.jpg: cannot be looked up (File name too long)'),
    (['99999999999'], '--input=99999999999: no such file'),
    (['PHOTOS', '--output=x.png'], 'there are 3 photographs; pass a folder'),
    (['PHOTOS/one.png', '--output=x.mp4'], 'there are 0 videos; pass a folder'),
    (['PHOTOS', '--output=PHOTOS'], 'is an input; write to another place'),
    (['PHOTOS/one.png', '--output=PHOTOS/one.png'], 'is an input; write to another place'),
    (['PHOTOS/one.png', '--output=x.pdf'], 'the ending .pdf is unknown'),
    (['PHOTOS/one.png', '--output=out', '--timeline'], '--timeline: is of a video'),
    (['CLIP', '--timeline'], 'needs a folder'),
    (['CLIP', '--every=0'], '--every=0: 0 is not a positive'),
    (['PHOTOS/one.png', '--model=a.onnx'], 'pass the folder of a run as --workdir, or an exported'),
    (['PHOTOS/one.png', '--checkpoint=newest'], 'expected last, best'),
  ],
)
def test_what_does_not_go_together_is_told(
  predict, photos, clip, args, told, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  found = predict(*(x.replace('PHOTOS', str(photos)).replace('CLIP', str(clip)) for x in args))
  assert found.code == 2 and told in found.err
  assert len([line for line in found.err.splitlines() if line.startswith('mtface:')]) == 1
  assert list(tmp_path.iterdir()) == []


def test_a_second_look(predict, tmp_path, monkeypatch):
  from mtface.faces import detect

  real = detect.cached_detector
  monkeypatch.setattr(
    detect,
    'cached_detector',
    lambda min_face=20, thresholds=detect.USUAL_THRESHOLDS: (
      (lambda image: []) if thresholds == detect.USUAL_THRESHOLDS else real(min_face, thresholds)
    ),
  )
  photo = save(tmp_path / 'a.png', cartoon())
  assert lines(predict(photo).out)[0]['faces'] == []
  assert len(lines(predict(photo, '--second_look').out)[0]['faces']) == 1


def test_an_unknown_ending_is_told_before_the_model_is_loaded(mtface, photos, tmp_path):
  found = mtface(
    'predict', f'--workdir={tmp_path / "none"}', photos / 'one.png', f'--output={tmp_path}/x.pdf'
  )
  assert found.code == 2 and 'the ending .pdf is unknown' in found.err
