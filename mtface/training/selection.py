"""Which checkpoints of a run are meant. A selection is one word:

last, best     one checkpoint
1200           the checkpoint of that step
average:K      one network: the mean of the weights of the last K. Batch-norm statistics are
               re-estimated on training batches, since those of the single networks do not fit the
               mean of their weights (Izmailov et al. 2018, section 3.2)
ensemble:K     K networks: the mean of their probabilities; K times the work (Sang 2017, section
               4.2, has an ensemble of "different checkpoints", and nothing on how they are put
               together). A task that is trained with the squared hinge has no probabilities: there
               it is the mean of the scores, whose unit is the margin of 1

Behind each, `:flip` or `:ten` ask for views of a face, whose scores are averaged too, as in
`last:flip`: mtface/inference/views.py.
"""

from __future__ import annotations

import dataclasses
import re

from mtface.errors import UserError
from mtface.inference.views import KINDS
from mtface.training.checkpoints import Checkpoints


@dataclasses.dataclass(frozen=True)
class Selection:
  """A parsed `--checkpoint`: see the module's docstring."""

  kind: str
  count: int = 1
  views: str = ''  # a kind of views

  @classmethod
  def parse(cls, text: str) -> Selection:
    """Reads last, best, STEP, average:K or ensemble:K, and a kind of views behind it; anything else
    is a `UserError`.
    """
    word, _, last = text.rpartition(':')
    name, views = (word, last) if last in KINDS and word else (text, '')
    if name in ('last', 'best'):
      return cls(name, views=views)
    if name.isdigit():
      return cls('step', int(name), views)
    found = re.fullmatch(r'(average|ensemble):(\d+)', name)
    if found and int(found[2]) > 0:
      return cls(found[1], int(found[2]), views)
    raise UserError(
      f'--checkpoint={text}: expected last, best, a step, average:K or ensemble:K, alone or with '
      f'views behind it, :{" or :".join(KINDS)}'
    )

  def steps(self, checkpoints: Checkpoints) -> list[int]:
    """The steps of the checkpoints that are meant."""
    have = checkpoints.steps
    if not have:
      raise UserError(f'{checkpoints.folder}: holds no checkpoint yet; train first')
    if self.kind == 'best':
      return [checkpoints.best_step()]
    if self.kind == 'step':
      if self.count not in have:
        raise UserError(
          f'{checkpoints.folder}: has no checkpoint of step {self.count}; there are '
          f'{", ".join(map(str, have))}'
        )
      return [self.count]
    if self.count > len(have):
      raise UserError(
        f'{checkpoints.folder}: holds {len(have)} checkpoints, {self.kind}:{self.count} needs '
        f'{self.count}'
      )
    return have[-self.count :]
