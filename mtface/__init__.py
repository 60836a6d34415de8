"""One network for many face tasks. Each package imports only those before it: config, faces, data,
models, parallel, inference, training, compiled, evaluation, features, publish, report, cli. The
modules beside them are shared by all; build, train, evaluate and `load` are for use from Python.
"""

from __future__ import annotations

import os
import typing

if typing.TYPE_CHECKING:
  from mtface.publish.predictor import Predictor


def load(
  path: str | os.PathLike[str], checkpoint: str = '', stage: str = '', **options: typing.Any
) -> Predictor:
  """Opens a trained network for use on photographs: see `mtface.publish.predictor.load`.

  model = mtface.load('runs/a2')
  faces = model.predict('photo.jpg')
  """
  from mtface.publish import predictor  # JAX, which takes seconds, is imported when it is needed

  return predictor.load(path, checkpoint, stage, **options)
