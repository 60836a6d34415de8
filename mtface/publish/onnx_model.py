"""A network that `mtface export` wrote as ONNX, run by onnxruntime."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mtface.errors import UserError, first_line
from mtface.faces.cropping import Crop
from mtface.inference.answers import Question
from mtface.outputs import READOUTS, Scores
from mtface.tasks import TASKS, Task

FORMAT = 1  # of the metadata
METADATA = 'mtface'  # its key
INPUT = 'image'


class OnnxModel:
  """An exported file as a `Model` of `mtface.publish.predictor`: it says of itself what it answers
  and how its images are cut out of photographs.
  """

  def __init__(self, path: pathlib.Path):
    """Loads the file.

    Raises:
      UserError: onnxruntime is not installed, or the file is missing, damaged or of another
        program.
    """
    self._path = path
    self._session = _session(path)
    content = self._session.get_modelmeta().custom_metadata_map.get(METADATA)
    if content is None:
      raise UserError(
        f'{path}: has no metadata of mtface, so its tasks and crop are not known; expected a file '
        'that `mtface export` wrote'
      )
    self.questions, self._outputs, crop = _read(path, content)
    self.crops: tuple[Crop, ...] = (crop,)
    self.about = f'faces are cut out as the file says ({crop.how.description})'
    self._check_graph()

  @property
  def outputs(self) -> dict[str, str]:
    """The name of each task's output in the graph."""
    return dict(self._outputs)

  def say(self, images: Sequence[np.ndarray]) -> Scores:
    """As of `Model`."""
    said = self._session.run(list(self._outputs.values()), {INPUT: images[0]})
    return dict(zip(self._outputs, said, strict=True))

  def _check_graph(self) -> None:
    """Whether the graph is as the metadata say, before the first face is looked at."""
    inputs = [(of.name, of.type, list(of.shape[1:])) for of in self._session.get_inputs()]
    outputs = {of.name for of in self._session.get_outputs()}
    expected = [(INPUT, 'tensor(uint8)', list(self.crops[0].shape))]
    if inputs != expected or not outputs.issuperset(self._outputs.values()):
      raise UserError(
        f'{self._path}: takes {inputs} and gives {sorted(outputs)}, but its metadata say '
        f'{expected} and {sorted(self._outputs.values())}; export the model again'
      )


def _session(path: pathlib.Path) -> Any:
  try:
    import onnxruntime
  except ImportError:
    raise UserError(
      f"{path}: onnxruntime, which runs exported files, is not installed; pip install 'mtface"
      "[export]'"
    ) from None
  if not path.is_file():
    raise UserError(f'{path}: no such file; expected a file that `mtface export` wrote')
  providers = [
    name
    for name in onnxruntime.get_available_providers()
    if name in ('CUDAExecutionProvider', 'CPUExecutionProvider')
  ]
  try:
    return onnxruntime.InferenceSession(str(path), providers=providers)
  except Exception as error:  # onnxruntime's exceptions have no class in common
    raise UserError(
      f'{path}: cannot be read as ONNX ({first_line(error)}); the file may be damaged: export the '
      'model again'
    ) from None


def _read(path: pathlib.Path, text: str) -> tuple[dict[str, Question], dict[str, str], Crop]:
  """Questions, {task: name of the output} and crop."""
  try:
    content = json.loads(text)
    if content['format'] != FORMAT:
      raise UserError(f'is of format {content["format"]}; expected {FORMAT}: update mtface')
    entries = content['tasks']
    outputs = {entry['name']: str(entry['output']) for entry in entries}
    questions = {entry['name']: _question(entry) for entry in entries}
    return questions, outputs, Crop.from_json(content['crop'])
  except UserError as error:
    raise UserError(f'{path}: {error}') from None
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise UserError(
      f'{path}: its metadata are damaged ({type(error).__name__}: {first_line(error)}); export the '
      'model again'
    ) from None


def _question(entry: Any) -> Question:
  """A task as the file has it; what the years of classes are is known by its name too."""
  name, classes, readout = entry['name'], tuple(entry['classes']), entry['readout']
  known = TASKS.get(name)
  if known is not None and known.classes == classes:
    multi_label, values = known.multi_label, known.values
  else:
    multi_label = bool(entry.get('multi_label', readout == 'sigmoid'))
    values = tuple(map(float, entry['values'])) if entry.get('values') else None
  if readout not in READOUTS:
    raise ValueError(f'the readout of {name} is {readout!r}')
  return Question(Task(name, classes, multi_label, values), readout, int(entry.get('top', 1)))
