import itertools

import numpy as np
import pytest

from mtface.inference.answers import Answer, Face
from mtface.publish import boxes

GENDERS = {'female': 0.9, 'male': 0.1}

# Machado, Oliveira & Fernandes 2009, table 1, severity 1.0, on linear RGB.
BLINDNESS = {
  'protan': [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  'deutan': [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
  ],
  'tritan': [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.303900],
  ],
}


def face(box, label='female', p=0.9):
  answers = {
    'gender': Answer('gender', label, {'female': p, 'male': 1 - p}),
    'emotion7': Answer('emotion7', 'happy', {'happy': 0.93}),
  }
  return Face(box, 0.99, None, answers)


def linear(colour):
  parts = np.asarray(colour) / 255
  return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb):
  """CIE L*a*b* of linear sRGB."""
  matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
  x, y, z = np.array(matrix) @ np.clip(rgb, 0, 1) / (0.95047, 1.0, 1.08883)
  f = [t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in (x, y, z)]
  return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize('kind', ['usual', *BLINDNESS])
def test_colour_blind_people_tell_the_colours_apart(kind):
  matrix = np.array(BLINDNESS.get(kind, np.eye(3)))
  seen = [lab(matrix @ linear(colour)) for colour in (*boxes.COLOURS.values(), boxes.OTHER)]
  assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 40


@pytest.mark.parametrize('colour', [*boxes.COLOURS.values(), boxes.OTHER])
def test_text_has_contrast(colour):
  """WCAG 2.2: 4.5 to 1."""
  behind, text = (
    np.dot([0.2126, 0.7152, 0.0722], linear(x)) for x in (colour, boxes.text_colour(colour))
  )
  assert (max(behind, text) + 0.05) / (min(behind, text) + 0.05) > 4.5


def count(image, colour):
  return int((image == np.array(colour)).all(axis=2).sum())


def test_the_box_has_the_colour_of_the_gender():
  photo = np.full((700, 700, 3), 90, np.uint8)
  for label in boxes.COLOURS:
    drawn = boxes.draw(photo, [face((200, 200, 150, 150), label)])
    other = next(name for name in boxes.COLOURS if name != label)
    assert count(drawn, boxes.COLOURS[label]) > 1000 > 10 > count(drawn, boxes.COLOURS[other])
    line = drawn[200:350, 200:203]
    assert count(line, boxes.COLOURS[label]) > 400


def test_without_a_gender_the_box_is_light():
  answers = {'smile': Answer('smile', 'smile', {'no_smile': 0.1, 'smile': 0.9})}
  drawn = boxes.draw(
    np.zeros((700, 700, 3), np.uint8), [Face((200, 200, 150, 150), 1, None, answers)]
  )
  assert count(drawn, boxes.OTHER) > 1000


@pytest.mark.parametrize('shape', [(48, 48), (70, 300), (480, 640), (3000, 4000)])
def test_text_is_readable_at_any_size(shape):
  """16 pixels where the whole picture is shown 1,000 pixels large."""
  drawn = boxes.draw(np.zeros((*shape, 3), np.uint8), [face((5, 5, shape[1] // 3, shape[0] // 3))])
  assert min(drawn.shape[:2]) >= 640
  height = boxes.text_height(drawn.shape[:2])
  assert height >= 16 and height >= 0.0155 * max(drawn.shape[:2])


def test_pictures_of_small_faces_are_enlarged_within_limits():
  small = [face((100 * i, 100, 24, 24)) for i in range(5)]
  assert boxes.scale_for((1000, 1000), small) == 3
  assert boxes.scale_for((3000, 4000), small) == pytest.approx(4096 / 4000)
  assert boxes.scale_for((5000, 6000), small) == 1


def panels_of(monkeypatch, photo, faces):
  found, place = [], boxes._place

  def kept(*args):
    found.append(place(*args))
    return found[-1]

  monkeypatch.setattr(boxes, '_place', kept)
  boxes.draw(photo, faces)
  return found


def test_labels_cover_neither_faces_nor_each_other(monkeypatch):
  faces = [face((60 + 230 * i, 100 + 260 * j, 110, 130)) for i in range(4) for j in range(3)]
  panels = panels_of(monkeypatch, np.zeros((1000, 1000, 3), np.uint8), faces)
  areas = [boxes._scaled(of.box, 1) for of in faces]
  assert all(boxes._common(panel, area) == 0 for panel in panels for area in areas)
  assert all(boxes._common(a, b) == 0 for a, b in itertools.combinations(panels, 2))


def test_labels_stay_in_the_picture(monkeypatch):
  faces = [face((600, 900, 100, 99)), face((0, 0, 90, 90)), face((950, 10, 90, 900))]
  for left, top, right, bottom in panels_of(
    monkeypatch, np.zeros((1000, 1000, 3), np.uint8), faces
  ):
    assert 0 <= left < right <= 1000 and 0 <= top < bottom <= 1000


def test_a_picture_without_faces_stays_as_it_is():
  photo = np.random.default_rng(0).integers(0, 256, (700, 800, 3), dtype=np.uint8)
  np.testing.assert_array_equal(boxes.draw(photo, []), photo)


@pytest.mark.parametrize(
  'answer, line',
  [
    (Answer('emotion7', 'happy', {'happy': 0.934}), 'happy 93%'),
    (Answer('smile', 'no_smile', {'no_smile': 1.0}), 'no smile 100%'),
    (Answer('age_group', '16-25', {'16-25': 0.64}), 'age 16-25 64%'),
    (Answer('identity:158', '12', {'12': 0.5}), 'identity 12 50%'),
    (Answer('age_years', '31', {'31': 0.1}, value=31.4, interval=(24, 40)), '31 years (24-40)'),
    (Answer('smile', 'smile', {'smile': 1.2}, readout='margins'), 'smile'),
    (Answer('action_units', None, {'AU1': 0.2, 'AU2': 0.6, 'AU4': 0.9}, 'sigmoid'), 'AU4, AU2'),
    (Answer('many', None, dict.fromkeys('abcde', 0.9), 'sigmoid'), 'a, b, c +2'),
    (Answer('action_units', None, {'AU1': 0.2}, 'sigmoid'), ''),
  ],
)
def test_an_answer_in_a_few_words(answer, line):
  assert boxes.line_of(answer) == line
