"""What is trained and asked in the comparisons, in words that both sides understand (JSON).

`name` and `width` of the network, `image` [H, W, C], `batch`, `tasks`, and `weights`, the file
through which the first contestant gives its weights to the others. Dropout is as published, or 0
where programs are compared; stochastic depth is off everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.pixels import THREE

WEIGHTS = '{case}/weights.safetensors'
# of Sang 2017; the rate of decay does not matter to time
RATE, MOMENTUM, L2 = 0.01, 0.9, 0.01


def spec(
  name: str,
  image: Sequence[int],
  batch: int,
  tasks: Sequence[str] = THREE,
  *,
  tiny: bool = False,
  **more: Any,
) -> dict[str, Any]:
  """A network on batches; `tiny` ones have an eighth of the channels, and batches of 4 at most."""
  made = {'name': name, 'image': list(image), 'batch': batch, 'tasks': list(tasks)}
  if tiny:
    made['batch'] = min(batch, 4)
  return {**made, 'width': 0.125 if tiny else 1.0, 'weights': WEIGHTS, **more}


def bknet(batch: int, tiny: bool = False, **more: Any) -> dict[str, Any]:
  """BKNet (Sang 2017) at 48x48x1."""
  return spec('bknet', (48, 48, 1), batch, tiny=tiny, **more)


def efficientnet(size: int, batch: int, tiny: bool = False, **more: Any) -> dict[str, Any]:
  """EfficientNet-B0 (Tan & Le 2019) on images of `size` pixels."""
  return spec('efficientnet', (size, size, 3), batch, tiny=tiny, **more)


def title(of: dict[str, Any]) -> str:
  """What a network on batches is called in tables."""
  words = {'bknet': 'BKNet', 'efficientnet': 'EfficientNet-B0'}
  words |= {'mobilenet': 'MobileNet', 'rexnet': 'RexNet-150'}
  size = 'x'.join(map(str, of['image']))
  return f'{words[of["name"]]} {size}, batch {of["batch"]}'
