"""`mtface export`: a trained network as a file of weights that others can load."""

from __future__ import annotations

import json
import os

from mtface.errors import UserError
from mtface.evaluation.evaluator import Evaluator
from mtface.files import local_path
from mtface.models.weights import export_weights
from mtface.training.selection import Selection


def export_network(
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  checkpoint: str,
  path: str | os.PathLike,
  *,
  format: str = 'timm',
  classifier: str | None = None,
  stage: str = '',
) -> None:
  """Writes one network of a run.

  Args:
    workdir: of the run.
    data_dir: of its prepared sets, which only `average:K` reads: it measures statistics on them.
    checkpoint: last, best, STEP or average:K; an ensemble is no single network.
    path: of the file, .safetensors.
    format, classifier: see `weights.export_weights`.
    stage: of the run; '' is the last one.

  Raises:
    UserError: an ensemble, another ending of the file's name, and what `export_weights` raises.
  """
  selection = Selection.parse(checkpoint)
  if selection.kind == 'ensemble':
    raise UserError(
      f'--checkpoint={checkpoint}: an ensemble is several networks; export takes one, such as '
      'average:K'
    )
  if not str(local_path(path)).endswith('.safetensors'):
    raise UserError(f'--to={path}: weights are written as .safetensors; give the file that ending')
  evaluator = Evaluator(workdir, data_dir, stage)
  [(params, stats)] = evaluator.networks(selection)
  notes = {
    'tasks': json.dumps({name: task.classes for name, task in evaluator.heads.items()}),
    'image_shape': json.dumps(list(evaluator.config.image_shape)),
    'images': 'RGB or grey, [-1, 1]; re-scaled by the network as `input` of `model` says '
    '(mtface/models/mobile.py)',
    'run': evaluator.config.name,
    'steps': json.dumps(selection.steps(evaluator.checkpoints)),
  }
  export_weights(
    params, stats, path, evaluator.config.model, format=format, classifier=classifier, notes=notes
  )
