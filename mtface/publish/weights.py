"""`mtface export`: writes a trained network as a weight file that other programs can load.
`export.py` writes networks as programs.
"""

from __future__ import annotations

import json
import os

from mtface.errors import UserError
from mtface.evaluation.evaluator import Evaluator
from mtface.files import local_path
from mtface.inference.views import without_views
from mtface.models.weights import FORMATS, export_weights
from mtface.training.selection import Selection

WHOLE = 'safetensors'  # the format `mtface` by the name of the file
PROGRAMS = ('onnx', 'stablehlo')  # files that `export.py` writes


def format_of(path: str | os.PathLike) -> str:
  """The format of a file that is called so: `onnx`, `stablehlo`, or else `torch`."""
  ending = local_path(path).suffix.lower().removeprefix('.')
  return ending if ending in PROGRAMS else 'torch'


def export_network(
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  checkpoint: str,
  path: str | os.PathLike,
  *,
  format: str = 'torch',
  classifier: str | None = None,
  stage: str = '',
) -> None:
  """Writes one network of a run.

  Args:
    workdir: the run's folder.
    data_dir: folder of its prepared sets; only `average:K` reads them, to recompute statistics.
    checkpoint: last, best, STEP or average:K; an ensemble is not a single network.
    path: the .safetensors file to write.
    format: see `weights.export_weights`; `safetensors` is `mtface`.
    classifier: see there.
    stage: a stage of the run; '' is the last one.

  Raises:
    UserError: `checkpoint` is an ensemble, or `path` does not end in .safetensors; also whatever
      `export_weights` raises.
  """
  if format not in (*FORMATS, WHOLE):
    raise UserError(
      f'--format={format}: unknown format; expected {", ".join((*PROGRAMS, WHOLE, *FORMATS))}'
    )
  format = 'mtface' if format == WHOLE else format
  selection = Selection.parse(checkpoint)
  without_views(checkpoint, selection.views, 'weights have no views')
  if selection.kind == 'ensemble':
    raise UserError(
      f'--checkpoint={checkpoint}: an ensemble is several networks; export writes one, such as '
      'average:K'
    )
  if not str(local_path(path)).endswith('.safetensors'):
    raise UserError(
      f'--to={path}: weights are written as safetensors; use a file name ending in .safetensors'
    )
  evaluator = Evaluator(workdir, data_dir, stage)
  [(params, stats)] = evaluator.networks(selection)
  notes = {
    'tasks': json.dumps({head.name: head.classes for head in evaluator.outputs.layers}),
    'image_shape': json.dumps(list(evaluator.config.image_shape)),
    'images': 'RGB or grey, [-1, 1]; the network rescales them as `input` in `model` says '
    '(mtface/models/backbone.py)',
    'run': evaluator.config.name,
    'steps': json.dumps(selection.steps(evaluator.checkpoints)),
  }
  export_weights(
    params, stats, path, evaluator.config.model, format=format, classifier=classifier, notes=notes
  )
