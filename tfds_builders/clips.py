"""What the sets of video clips share (`afew`, `vgaf`): the conversion from clips to faces.

A record is one face in one frame. A clip without any face still has one record, a black image with
the label masked: Savchenko 2021 leaves such clips out of training, but tests on them with a
descriptor of zeros.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from mtface import errors
from mtface.faces import crop, detect, video
from tfds_builders import base, detected

WITHOUT_FACE = (
  'clip_without_face',
  'no face in any examined frame: stored as one black image, its label masked, and kept in '
  'attributes/label',
)
FEWER_FRAMES = (
  'fewer_frames_than_promised',
  'fewer than 80% of the frames that the file promises can be read: truncated, cut, or of a '
  'nominal rate; those are used',
)


@dataclasses.dataclass(eq=False)
class VideoConfig(base.FaceConfig):
  """`every`: each `every`-th frame is looked at."""

  every: int = 1


def video_config(form: base.FaceConfig, every: int) -> VideoConfig:
  """Returns a form of images with the frames to look at."""
  which = 'every frame' if every == 1 else f'every {every}th frame'
  about = f'{form.description}; {which}'
  return VideoConfig(
    form.name,
    description=about,
    size=form.size,
    channels=form.channels,
    encoded=form.encoded,
    every=every,
  )


class Clip(NamedTuple):
  """One video file.

  Attributes:
    name: <split>/<clip>, unique in the set.
    path: the file.
    label: the class, -1 if the set does not say.
  """

  name: str
  path: pathlib.Path
  label: int


class ClipsBuilder(base.FaceBuilder):
  """Finds the faces in clips with MTCNN and stores them without margin.

  Attributes:
    ALL_FACES: whether all faces of a frame are stored; else the main one (`video.follow`).
  """

  ALL_FACES = False
  FROM_PHOTOGRAPHS = True
  HAS_LANDMARKS = True
  RESUMABLE = True
  PART_SIZE = 4  # clips: each is minutes of work and some megabytes of faces
  NOTES = (WITHOUT_FACE, FEWER_FRAMES)
  DIGEST_OF = "bytes of the clip's file (its first face stands for it)"
  # more damaged clips than LEFT_OUT_ALWAYS_ALLOWED: a share of faces would be hundreds of clips
  max_left_out = 0.0

  def images_in(self, item: Clip) -> int:
    """Returns 0: how many faces a clip has is known at its end."""
    return 0

  def attributes(self) -> dict[str, Any]:
    """Where the face is from, and what the detector said, in pixels of the frame.

    clip: <split>/<clip>. frame: its place in the clip, from 0; seconds: when it is shown (-1 and
      NaN without a face).
    faces: found in this frame. frames: of this clip that were looked at. label: the clip's class,
      also where it is masked.
    """
    whole = {name: tfds.features.Scalar(np.int32) for name in ('frame', 'faces', 'frames', 'label')}
    where = {'clip': tfds.features.Text(), 'seconds': tfds.features.Scalar(np.float32)}
    return where | whole | detected.features()

  def converter(self) -> Callable[[Clip], Iterable[base.Face | base.LeftOut]]:
    """Returns the function that finds the faces of one clip."""
    (task,) = self.TASKS
    return functools.partial(
      convert, config=self.builder_config, task=task, all_faces=self.ALL_FACES
    )


def convert(
  clip: Clip, *, config: VideoConfig, task: str, all_faces: bool
) -> list[base.Face | base.LeftOut]:
  """Turns one clip into its faces; one frame at a time is in memory, and faces
  as they are stored.
  """
  if clip.label < 0:
    return [base.LeftOut(clip.name, 'no label in the list', damaged=False)]
  if not clip.path.exists():
    return [base.LeftOut(clip.name, 'missing file', f'{clip.path}: no such file')]
  faces: list[base.Face] = []
  looked_at, fewer = 0, []
  try:
    for frame, found, chosen in _looks(
      clip, config.every, all_faces, lambda *numbers: fewer.append(numbers)
    ):
      looked_at += 1  # also known when the clip is at its end
      faces += [_face(clip, frame, i, face, len(found), config) for i, face in enumerate(chosen)]
  except errors.UserError as error:
    return [base.LeftOut(clip.name, 'damaged clip', str(error))]
  faces = faces or [_nobody(clip, config)]
  digest = hashlib.blake2b(clip.path.read_bytes(), digest_size=16).digest()
  faces = [_of_clip(clip, face, task, looked_at) for face in faces]
  first = faces[0]  # stands for the clip
  faces[0] = dataclasses.replace(
    first, digest=digest, notes=first.notes + (FEWER_FRAMES[:1] if fewer else ())
  )
  return faces


def _looks(
  clip: Clip, every: int, all_faces: bool, on_fewer: Callable[[int, int], None]
) -> Iterator[tuple[video.Frame, Sequence[detect.Detection], Sequence[detect.Detection]]]:
  """Yields frames with the faces in them and those that are to be stored."""
  before = None
  for frame in video.frames(clip.path, every, on_fewer):
    found = video.faces_of(frame.image)
    main = video.follow(found, before)
    before = main.box if main else before
    yield frame, found, found if all_faces else [main] if main else []


def _face(
  clip: Clip,
  frame: video.Frame,
  number: int,
  face: detect.Detection,
  faces: int,
  config: VideoConfig,
) -> base.Face:
  box = crop.clip_box(face.box, *frame.image.shape[:2])
  image = crop.crop_face(frame.image, box, config.size, config.channels)
  about = {'frame': frame.index, 'seconds': frame.seconds, 'faces': faces}
  return base.Face(
    f'{clip.name}/{frame.index}/{number}',
    base.encode_jpeg(image)
    if config.encoded
    else image,  # here, for a clip's raw faces can be a gigabyte
    landmarks=crop.move_landmarks(face.landmarks, box, config.size),
    attributes=about | {'box': np.array(box, np.int32), 'confidence': face.confidence},
  )


def _nobody(clip: Clip, config: VideoConfig) -> base.Face:
  about = {
    'frame': -1,
    'seconds': np.nan,
    'faces': 0,
    'box': np.zeros(4, np.int32),
    'confidence': 0.0,
  }
  return base.Face(
    f'{clip.name}/none', np.zeros(config.shape, np.uint8), attributes=about, notes=WITHOUT_FACE[:1]
  )


def _of_clip(clip: Clip, face: base.Face, task: str, looked_at: int) -> base.Face:
  """A face with what is known when the clip is at its end."""
  about = {'clip': clip.name, 'frames': looked_at, 'label': clip.label}
  labels = {task: clip.label} if face.attributes['faces'] else {}
  return dataclasses.replace(face, labels=labels, attributes={**face.attributes, **about})
