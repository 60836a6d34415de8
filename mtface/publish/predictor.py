"""A trained network as a function of photographs: `mtface.load`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, overload

import numpy as np
from PIL import Image

from mtface.data.crops import crop_of_run
from mtface.errors import UserError, first_line
from mtface.evaluation.chosen import Chosen
from mtface.evaluation.evaluator import Evaluator
from mtface.faces import crop, modes
from mtface.faces.cropping import Crop
from mtface.faces.detect import Detection
from mtface.files import local_path
from mtface.inference.answers import Face, Question, faces_of
from mtface.inference.readout import concatenated
from mtface.outputs import Scores
from mtface.publish.onnx_model import OnnxModel

Picture: TypeAlias = str | os.PathLike[str] | np.ndarray | Image.Image
T = TypeVar('T')

_SIZES = (1, 8, 64)  # of batches: each is one compilation
BATCH = max(_SIZES)
_MOST_HELD = 256 * 2**20  # bytes of photographs that wait for a batch to fill


class Model(Protocol):
  """What answers: the networks of one run or several, or an exported file.

  Attributes:
    questions: what it answers, by task.
    crops: how its images are cut out of photographs; several for networks that see a face in
      several ways.
    about: what it is, in words.
  """

  questions: dict[str, Question]
  crops: tuple[Crop, ...]
  about: str

  def say(self, images: Sequence[np.ndarray]) -> Scores:
    """{task: [N, C]}, read out (`readout.comparable`), of N faces, N from 1 to `BATCH`.

    Args:
      images: uint8 [N, H, W, C] of each crop.
    """


class RunModel:
  """The networks that a selection of a run's checkpoints means (`mtface.evaluation.chosen`)."""

  def __init__(self, chosen: Chosen):
    self._chosen = chosen
    first, devices = chosen.evaluators[0], chosen.evaluators[0].mesh.size
    self._sizes = tuple(dict.fromkeys(-(-size // devices) * devices for size in _SIZES))
    entries = first.config.tasks
    self.questions = {
      name: Question(task, first.outputs.readout(name), entries[name].top if name in entries else 1)
      for name, task in chosen.tasks.items()
    }
    origins = [crop_of_run(evaluator.config) for evaluator in chosen.evaluators]
    self.crops = tuple(origin.crop for origin in origins)
    self.about = '; '.join(dict.fromkeys(map(str, origins)))
    chosen.load()

  def say(self, images: Sequence[np.ndarray]) -> Scores:
    """As of `Model`; batches are filled up to one of few sizes, so that few programs are
    compiled.
    """
    size = next(size for size in self._sizes if size >= len(images[0]))
    return self._chosen.of_images(images, size)


class Predictor:
  """Finds every face in a picture, and says what the network makes of it.

  model = mtface.load('runs/a2')
  for face in model.predict('photo.jpg'):
    print(face.box, face.answers['gender'].label, face.answers['gender'].probabilities)

  Attributes:
    model: what answers.
  """

  def __init__(self, model: Model):
    self.model = model

  @property
  def tasks(self) -> tuple[str, ...]:
    """What is answered of each face."""
    return tuple(self.model.questions)

  @property
  def crop(self) -> Crop:
    """How faces are found and cut out, as for the (first) run's training sets."""
    return self.model.crops[0]

  @overload
  def predict(self, image: Picture, *, second_look: bool = False) -> list[Face]: ...

  @overload
  def predict(
    self, image: list[Any] | tuple[Any, ...], *, second_look: bool = False
  ) -> list[list[Face]]: ...

  def predict(
    self, image: Picture | list[Any] | tuple[Any, ...], *, second_look: bool = False
  ) -> list[Face] | list[list[Face]]:
    """Returns the faces of a picture, largest first; of a list of pictures, a list of those.

    Args:
      image: a path; a Pillow image; RGB uint8 [H, W, 3], or grey [H, W] or [H, W, 1]; or a list of
        these.
      second_look: whether to look again with lower thresholds at a picture in which no face is
        found: what is found then may be no face.

    Raises:
      UserError: a file is missing or damaged, or an array is no picture.
    """
    if isinstance(image, list | tuple):
      photos = ((read_picture(of), None) for of in image)
      return [faces for faces, _ in self.stream(photos, second_look=second_look)]
    [(faces, _)] = self.stream([(read_picture(image), None)], second_look=second_look)
    return faces

  def stream(
    self, photos: Iterable[tuple[np.ndarray, T]], *, second_look: bool = False, wait: bool = True
  ) -> Iterator[tuple[list[Face], T]]:
    """(faces, tag) for each (photo RGB uint8 [H, W, 3], tag), in order, however many there are.

    Faces of several photographs share a batch, and their tags come back once it is full, or the
    photographs are many bytes; without `wait` each comes back at once (a camera).
    """
    waiting: _Waiting[T] = _Waiting(self.model)
    for photo, tag in photos:
      waiting.add(photo, self.crop.find(photo, second_look=second_look), tag)
      if not wait or waiting.is_full:
        yield from waiting.answered()
        waiting = _Waiting(self.model)
    yield from waiting.answered()

  def of_faces(self, photo: np.ndarray, found: Sequence[Detection]) -> list[Face]:
    """The answers for faces that were found otherwise in a picture, RGB uint8 [H, W, 3]."""
    waiting: _Waiting[None] = _Waiting(self.model)
    waiting.add(photo, found, None)
    [(faces, _)] = waiting.answered()
    return faces


class _Waiting(Generic[T]):
  """Photographs whose faces wait for a batch to fill."""

  def __init__(self, model: Model):
    self._model = model
    self._photos: list[tuple[int, T]] = []  # how many faces, and the tag
    self._faces: list[Detection] = []
    self._images: list[list[np.ndarray]] = [[] for _ in model.crops]
    self._bytes = 0

  def add(self, photo: np.ndarray, found: Sequence[Detection], tag: T) -> None:
    """Cuts out the faces of a photograph."""
    self._photos.append((len(found), tag))
    self._faces += found
    self._bytes += photo.nbytes  # the tag may hold it
    for images, crop_ in zip(self._images, self._model.crops, strict=True):
      images += [crop_.apply(photo, face) for face in found]

  @property
  def is_full(self) -> bool:
    """Whether there are enough faces for a batch, or too many bytes to wait for more."""
    return len(self._faces) >= BATCH or self._bytes >= _MOST_HELD

  def answered(self) -> Iterator[tuple[list[Face], T]]:
    """(faces, tag) of each photograph."""
    count = len(self._faces)
    said = [
      self._model.say([np.stack(of[start : start + BATCH]) for of in self._images])
      for start in range(0, count, BATCH)
    ]
    faces = faces_of(self._faces, self._model.questions, concatenated(said)) if said else []
    start = 0
    for number, tag in self._photos:
      yield faces[start : start + number], tag
      start += number


def load(
  path: str | os.PathLike[str],
  checkpoint: str = '',
  stage: str = '',
  *,
  data_dir: str | os.PathLike[str] | None = None,
  re_estimate: bool = True,
  calibrated: bool = False,
) -> Predictor:
  """Opens a trained network for use on photographs.

  Args:
    path: the folder of a run that `mtface train` made, or a file that `mtface export` wrote (.onnx;
      run by onnxruntime: pip install 'mtface[export]').
    checkpoint: of a run: last (the default), best, STEP, average:K, ensemble:K, and with other runs
      last+OTHER_WORKDIR@last, whose answers are averaged; each run sees a face cut out as its own
      training sets were.
    stage: of a run of several stages; '' is the last one.
    data_dir: folder of the prepared sets (default $TFDS_DATA_DIR, then ~/tensorflow_datasets); only
      `average:K` reads it, to re-estimate batch-norm statistics.
    re_estimate: whether it does; if not, they are averaged like the weights.
    calibrated: of a run: apply the temperatures that `mtface calibrate` fitted to this checkpoint.

  Raises:
    UserError: there is no such run, checkpoint, temperature or file, or it is damaged.
  """
  path = local_path(path)
  if path.suffix.lower() == '.onnx':
    if checkpoint or stage or calibrated:
      raise UserError(
        f'{path}: is an exported file, which has no checkpoints, stages or temperatures; pass the '
        'run instead'
      )
    return Predictor(OnnxModel(path))
  if path.suffix.lower() in ('.stablehlo', '.safetensors'):
    raise UserError(
      f'{path}: is not opened here; a run is, or a file that `mtface export --to=FILE.onnx` writes'
    )
  sets = local_path(data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets')
  evaluator = Evaluator(path, sets, stage)
  chosen = Chosen(
    checkpoint or 'last', evaluator, sets, re_estimate=re_estimate, calibrated=calibrated
  )
  return Predictor(RunModel(chosen))


def read_picture(image: Picture) -> np.ndarray:
  """Returns a picture as RGB uint8 [H, W, 3], turned upright if its EXIF data says so.

  Raises:
    UserError: as `crop.read_image`, or an array has another type or shape.
  """
  if isinstance(image, Image.Image):
    try:
      return modes.to_rgb(crop.upright(image))
    except (ValueError, OSError) as error:
      raise UserError(f'a Pillow image: cannot be read ({first_line(error)})') from None
  if not isinstance(image, np.ndarray):
    return crop.read_image(local_path(image))
  wide = image[..., None] if image.ndim == 2 else image
  if image.dtype != np.uint8 or wide.ndim != 3 or wide.shape[2] not in (1, 3) or not image.size:
    raise UserError(
      f'a picture of {image.dtype} {list(image.shape)}; expected uint8 [height, width, 3] (RGB), '
      '[height, width] (grey), a Pillow image or a path'
    )
  return np.repeat(wide, 3 // wide.shape[2], axis=2)
