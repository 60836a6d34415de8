"""Pictures in the forms that face sets and people's tools hold: the same picture is read, or it is
an error.
"""

import io
import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from mtface.errors import UserError
from mtface.faces import crop

# Four greys of 255, and the same in the other forms, made by hand.
GREYS = np.array([[0, 64], [128, 255]], np.uint8).repeat(8, axis=0).repeat(8, axis=1)
RGB = np.stack([GREYS] * 3, axis=-1)


def saved(path, image, **options):
  image.save(path, **options)
  return path


FORMS = {
  'grey.png': Image.fromarray(GREYS),
  'sixteen.png': Image.fromarray(GREYS.astype(np.uint16) * 257),
  'sixteen.tif': Image.fromarray(GREYS.astype(np.uint16) * 257),
  'big_endian.tif': Image.fromarray((GREYS.astype('>u2') * 257).astype('>u2')),
  'float.tif': Image.fromarray(GREYS.astype(np.float32) / 255),
  'float_255.tif': Image.fromarray(GREYS.astype(np.float32)),
  'palette.png': Image.fromarray(RGB).quantize(4),
  'palette.gif': Image.fromarray(RGB).quantize(4),
  'opaque.png': Image.fromarray(np.dstack([RGB, np.full_like(GREYS, 255)])),
  'grey_alpha.png': Image.fromarray(np.dstack([GREYS, np.full_like(GREYS, 255)])),
  'cmyk.tif': Image.fromarray(RGB).convert('CMYK'),
  'colour.bmp': Image.fromarray(RGB),
  'CAPITALS.PNG': Image.fromarray(RGB),
}


@pytest.mark.parametrize('name', FORMS)
def test_the_same_picture_in_every_form(tmp_path, name):
  image = crop.read_image(saved(tmp_path / name, FORMS[name]))
  assert (image.dtype, image.shape) == (np.uint8, (16, 16, 3))
  np.testing.assert_allclose(image.astype(int), RGB, atol=1)


def test_sixteen_bits_of_three_colours(tmp_path):
  colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint16)
  cv2.imwrite(str(tmp_path / 'a.png'), colours[..., ::-1] * 257)
  np.testing.assert_array_equal(crop.read_image(tmp_path / 'a.png'), colours)


def test_what_is_transparent_lies_on_white(tmp_path):
  hidden = np.zeros((16, 16, 4), np.uint8)
  hidden[..., 1] = 255  # green that nobody sees
  hidden[4:12, 4:12] = (64, 64, 64, 255)
  hidden[0, 0] = (200, 100, 0, 51)  # a fifth opaque
  expected = np.full((16, 16, 3), 255, np.uint8)
  expected[4:12, 4:12] = 64
  expected[0, 0] = (244, 224, 204)  # 255 + (c - 255) / 5
  np.testing.assert_allclose(
    crop.read_image(saved(tmp_path / 'a.png', Image.fromarray(hidden))), expected, atol=1
  )
  grey = Image.fromarray(np.array([[64, 200]], np.uint8).repeat(8, axis=0).repeat(8, axis=1))
  image = crop.read_image(
    saved(tmp_path / 'b.png', grey, transparency=200)
  )  # one grey that means nothing
  assert (image[:, :8] == 64).all()
  assert (image[:, 8:] == 255).all()
  palette = Image.fromarray(RGB).quantize(4)
  where = palette.getpixel((12, 12))
  image = crop.read_image(saved(tmp_path / 'c.gif', palette, transparency=palette.getpixel((0, 0))))
  assert image[0, 0].tolist() == [255] * 3
  assert where != palette.getpixel((0, 0))


NO_PICTURES = {
  'hidden.png': (
    Image.fromarray(np.dstack([RGB, np.zeros_like(GREYS)])),
    'the whole picture is transparent',
  ),
  'nan.tif': (
    Image.fromarray(np.full((4, 4), np.nan, np.float32)),
    'its floating-point values range from nan',
  ),
  'negative.tif': (
    Image.fromarray(np.full((4, 4), -0.5, np.float32)),
    'values range from -0.5 to -0.5; expected 0 to 1',
  ),
  'large.tif': (
    Image.fromarray(np.full((4, 4), 4000, np.float32)),
    'values range from 4000 to 4000; expected 0 to 1',
  ),
  'integers.tif': (Image.fromarray(np.full((4, 4), 9, np.int32)), '32-bit integers'),
  'copied.png': (Image.fromarray(GREYS.astype(np.uint16)), 'its 16-bit values end at 255 of 65535'),
}


@pytest.mark.parametrize('name', NO_PICTURES)
def test_what_cannot_be_told_is_refused(tmp_path, name):
  image, message = NO_PICTURES[name]
  with pytest.raises(UserError, match=rf'{name}: cannot be read as an image \(.*{message}'):
    crop.read_image(saved(tmp_path / name, image))


def png(width, height):
  """A PNG of a few bytes that claims a size."""
  header = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
  chunks = [(b'IHDR', header), (b'IDAT', zlib.compress(b'\0' * 99)), (b'IEND', b'')]
  made = [
    struct.pack('>I', len(d)) + kind + d + struct.pack('>I', zlib.crc32(kind + d))
    for kind, d in chunks
  ]
  return b'\x89PNG\r\n\x1a\n' + b''.join(made)


@pytest.mark.parametrize(
  'size', [(10_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1), (0, 5)]
)
def test_claims_of_huge_pictures_are_refused_before_memory_is_taken(tmp_path, size):
  (tmp_path / 'bomb.png').write_bytes(png(*size))
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    with pytest.raises(UserError, match=r'bomb.png: cannot be read as an image'):
      crop.read_image(tmp_path / 'bomb.png')


def test_what_is_no_file(tmp_path):
  import os

  (tmp_path / 'folder.jpg').mkdir()
  (tmp_path / 'nowhere.jpg').symlink_to('gone.jpg')
  (tmp_path / 'circle.jpg').symlink_to('circle.jpg')
  os.mkfifo(tmp_path / 'pipe.jpg')  # opened, it would wait for ever
  for name in ('folder.jpg', 'nowhere.jpg', 'circle.jpg', 'pipe.jpg', 'new\nline.jpg'):
    with pytest.raises(UserError, match=name.partition('\n')[0]):
      crop.read_image(tmp_path / name)


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'TIFF', 'GIF', 'WEBP', 'BMP'])
def test_changed_bytes_are_a_picture_or_one_error(tmp_path, form):
  file = io.BytesIO()
  exif = Image.Exif()
  exif[0x0112], exif[0x010E] = 6, 'a description'
  Image.fromarray(RGB).save(file, form, exif=exif)
  whole, rng = file.getvalue(), np.random.default_rng(0)
  refused = 0
  for _ in range(150):
    broken = bytearray(whole[: rng.integers(1, len(whole) + 1)])
    for place in rng.integers(len(broken), size=rng.integers(0, 4)):
      broken[place] = rng.integers(256)
    (tmp_path / 'a').write_bytes(broken)
    try:
      assert crop.read_image(tmp_path / 'a').dtype == np.uint8
    except UserError:
      refused += 1
  assert refused > 30


def test_an_upright_sixteen_bit_picture(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6
  path = saved(tmp_path / 'a.png', Image.fromarray(GREYS.astype(np.uint16) * 257), exif=exif)
  np.testing.assert_array_equal(crop.read_image(path)[..., 0], np.rot90(GREYS, -1))
