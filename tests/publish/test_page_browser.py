"""The demo page in headless Chromium: a photograph is dropped, and its answers are Python's.

Needs Node.js, Chromium, and the folder of an npm installation of playwright-core in
MTFACE_PLAYWRIGHT: `make test-page` sets these up. `MTFACE_SAME=RUN,FILE.onnx,PHOTO` adds a
comparison of a run, the file that was exported of it, and its page.
"""

import functools
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import threading
import urllib.parse

import cv2
import numpy as np
import pytest
from PIL import Image

from mtface.faces.cropping import Crop
from mtface.publish import demo_page
from mtface.publish.predictor import load
from tests.cartoons import cartoon
from tests.publish import node

onnxruntime = pytest.importorskip('onnxruntime', reason="pip install 'mtface[export]'")
pytest.importorskip('onnx', reason='pip install onnx: it writes the small network of these tests')
from tests.publish import exported  # noqa: E402

CHROME = shutil.which('chromium')
MODULES = os.environ.get('MTFACE_PLAYWRIGHT')
pytestmark = pytest.mark.skipif(
  not (CHROME and MODULES and shutil.which('npm')),
  reason='Node.js, Chromium or playwright-core is missing: make test-page installs what it can',
)
CROPS = {
  'clipped': Crop(48, 1),
  'grey in three': Crop(64, 3, 'crop2', grey=True),
  'aligned': Crop(64, 3, 'crop1'),
  'aligned, JPEG': Crop(48, 1, 'crop5', jpeg=95),
  'margin, JPEG': Crop(100, 3, 'margin20', jpeg=95),
  'square': Crop(224, 1, 'crop3'),
}


class Quiet(http.server.SimpleHTTPRequestHandler):
  def log_message(self, *_):
    pass


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('page')


@pytest.fixture(scope='module')
def sites(folder):
  """The address of a server that has a page of each network."""
  for name, how in CROPS.items():
    network = exported.write(folder / f'{name}.onnx', how)
    demo_page.write_page(network, folder / name)
  serve = functools.partial(Quiet, directory=folder)
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), serve) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()


@pytest.fixture(scope='module')
def photos(folder):
  """Files to drop, by name."""
  two = np.hstack([cartoon(scale=0.8), cartoon(scale=1.15)])
  found = {'two.png': folder / 'two.png', 'turned.jpg': folder / 'turned.jpg'}
  Image.fromarray(two).save(found['two.png'])
  exif = Image.Exif()
  exif[0x0112] = 6  # it is to be turned by a quarter
  Image.fromarray(np.rot90(two).copy()).save(found['turned.jpg'], exif=exif, quality=90)
  found['clear.png'] = folder / 'clear.png'  # its lower half is transparent
  clear = np.dstack([two, np.full(two.shape[:2], 255, np.uint8)])
  clear[150:, :, 3] = 0
  Image.fromarray(clear).save(found['clear.png'])
  found['broken.jpg'] = folder / 'broken.jpg'
  found['broken.jpg'].write_bytes(b'not a picture')
  return found


def visit(folder, sites, pages):
  """What is seen of each page: {network, drop, ...}."""
  camera = folder / 'camera.mjpeg'
  small = cv2.cvtColor(np.pad(cartoon(scale=1.3), ((20, 20), (60, 60), (0, 0))), cv2.COLOR_RGB2BGR)
  camera.write_bytes(cv2.imencode('.jpg', small)[1].tobytes() * 2)
  cases = [page | {'url': sites + urllib.parse.quote(page['network']) + '/'} for page in pages]
  path = folder / 'cases.json'
  content = {'chrome': CHROME, 'camera': str(camera), 'pages': cases}
  path.write_text(json.dumps(content, default=str))
  done = subprocess.run(
    ['node', node.SCRIPTS / 'browser.mjs'],
    env=os.environ | {'MTFACE_CASES': str(path)},
    capture_output=True,
    text=True,
    timeout=240,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


@functools.cache
def predictor(network):
  return load(network)


def compare(seen, network, photo):
  """What the page shows is what `mtface predict` prints; returns how many faces there are."""
  wanted = [face.to_json() for face in predictor(network).predict(photo)]
  assert len(seen['faces']) == len(wanted)
  for face, there in zip(seen['faces'], wanted, strict=True):
    assert face['box'] == there['box']
    assert face['landmarks'] == there['landmarks']
    assert face['confidence'] == pytest.approx(there['confidence'], abs=1e-5)
    assert list(face['answers']) == list(there['answers'])
    for task, answer in there['answers'].items():
      assert face['answers'][task] == close(answer), task
  return len(wanted)


def close(value):
  """The same but for 1e-4 in numbers, in the same order."""
  if isinstance(value, dict):
    return {key: close(inner) for key, inner in value.items()}
  return pytest.approx(value, abs=1e-4) if isinstance(value, float) else value


def is_clean(seen, sites):
  """Nothing is said on the console, and nothing is asked of another host."""
  assert seen['messages'] == []
  assert len(seen['requests']) > 10
  assert all(address.startswith(sites) for address in seen['requests'])


def test_the_answers_are_pythons(folder, sites, photos):
  skimage = pytest.importorskip('skimage', reason='pip install scikit-image: its photograph')
  astronaut = pathlib.Path(skimage.__file__).parent / 'data' / 'astronaut.png'
  pages = [{'network': name, 'drop': astronaut} for name in CROPS]
  for page, seen in zip(pages, visit(folder, sites, pages), strict=True):
    assert seen['status'].startswith('1 face found')
    assert compare(seen, folder / f'{page["network"]}.onnx', astronaut) == 1
    is_clean(seen, sites)


@pytest.mark.skipif('MTFACE_SAME' not in os.environ, reason='MTFACE_SAME=RUN,FILE.onnx,PHOTO')
def test_a_run_its_file_and_its_page_say_the_same(folder, sites):
  run, file, photo = (pathlib.Path(of).expanduser() for of in os.environ['MTFACE_SAME'].split(','))
  demo_page.write_page(file, folder / 'own')
  (seen,) = visit(folder, sites, [{'network': 'own', 'drop': photo.resolve()}])
  assert compare(seen, file, photo) == compare(seen, run, photo) > 0
  is_clean(seen, sites)


def test_files_of_all_kinds(folder, sites, photos):
  pages = [{'network': 'clipped', 'drop': path} for path in photos.values()]
  two, turned, clear, broken = visit(folder, sites, pages)
  for seen, name in ((two, 'two.png'), (turned, 'turned.jpg'), (clear, 'clear.png')):
    assert compare(seen, folder / 'clipped.onnx', photos[name]) == 2
    is_clean(seen, sites)
  assert broken['status'] == 'broken.jpg is not a picture that this browser can read'
  assert broken['faces'] == []


@pytest.mark.parametrize('width', [1280, 390])
def test_what_is_seen(folder, sites, photos, width):
  page = {'network': 'clipped', 'width': width, 'scheme': 'dark', 'drop': photos['two.png']}
  (seen,) = visit(folder, sites, [page])
  assert seen['tooWide'] == 0
  shares = [
    (name.replace('_', ' '), share)
    for face in seen['faces']
    for task, answer in face['answers'].items()
    if task != 'age_years'
    for name, share in answer['probabilities'].items()
  ]
  assert len(seen['bars']) == len(shares)
  for (name, width, text), (expected_name, share) in zip(
    sorted(seen['bars']), sorted(shares), strict=True
  ):
    assert name == expected_name
    assert width == pytest.approx(share, abs=0.01)
    assert text == f'{100 * share:.1f}%'


def test_the_camera_by_keyboard(folder, sites):
  (seen,) = visit(folder, sites, [{'network': 'clipped', 'act': 'camera'}])
  assert len(seen['faces']) == 1
  is_clean(seen, sites)


def test_where_browsers_allow_no_camera_the_page_says_so(folder, sites):
  (seen,) = visit(folder, sites, [{'network': 'clipped', 'act': 'no camera'}])
  said = 'The camera does not run: browsers allow it on https and localhost only'
  assert seen['status'] == said
