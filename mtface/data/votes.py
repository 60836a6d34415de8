"""Annotators' votes in place of one label: `config.tasks.TASK.votes`.

A prepared set that knows how many annotators chose each class of a task has the attribute
`votes_TASK`, int [C] a face, all 0 where nobody chose one (FERPlus: Barsoum et al. 2016, whose
"cross-entropy loss" this is). A source's labels are then shares [N, C] that sum to 1; faces on
which no majority agreed have a label too. Test sets keep the set's one label.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from mtface.data.sources import Source
from mtface.errors import UserError

PREFIX = 'votes_'  # of the attribute's name


def with_votes(sources: Sequence[Source], task: str) -> list[Source]:
  """The sources with labels of `task` as float32 shares [N, C], where they have votes.

  Raises:
    UserError: none of them has.
  """
  attribute = PREFIX + task
  found = [
    _voted(source, task, source.attributes[attribute])
    if task in source.labels and attribute in source.attributes
    else source
    for source in sources
  ]
  if not any(source.labels[task].ndim == 2 for source in found if task in source.labels):
    raise UserError(
      f'config.tasks.{task}.votes: no source has votes of {task}; sets built before they were kept '
      'are built again by `mtface build SET`'
    )
  return found


def _voted(source: Source, task: str, votes: np.ndarray) -> Source:
  total = votes.sum(axis=1, keepdims=True)
  shares = (votes / np.maximum(total, 1)).astype(np.float32)
  return dataclasses.replace(
    source,
    labels={**source.labels, task: shares},
    mask={**source.mask, task: total[:, 0] > 0},
  )


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
  """Labels int [N] as shares [N, C]: of sources without votes beside some with them."""
  return np.eye(classes, dtype=np.float32)[np.clip(labels, 0, classes - 1)]
