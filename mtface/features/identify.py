"""`mtface identify`: recognises people given one picture of each (Savchenko 2021, sections 2.1 and
3.1, table 1).

Rank-1 identification uses the people with at least two pictures; one random picture of each forms
the gallery, all others are probes. A probe is identified as the person in the gallery picture whose
features are nearest in cosine similarity. This is repeated with other galleries. The protocol is
from Best-Rowden et al. 2014 (the paper's [13]) as the paper describes it; its 596 people of LFW are
those who are also in YouTube Faces, `lfw/rgb224:train[ytf=1]`.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtface.data.sources import Source
from mtface.errors import UserError
from mtface.evaluation.evaluator import Evaluator
from mtface.evaluation.results import Row, markdown_table, percent, write_rows
from mtface.features.extract import FeatureNetwork, any_source, l2_normalized
from mtface.training.selection import Selection

IDENTIFY_FILE = 'identify.json'
_KEY = ('checkpoint', 'source', 'repeats', 'seed')
_SIMILARITIES = 2**24  # computed at once, 64 MiB


def draw_gallery(people: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """bool [N]: one random picture of each person; `people` is text or int [N]."""
  order = rng.permutation(len(people))
  _, first = np.unique(people[order], return_index=True)
  chosen = np.zeros(len(people), bool)
  chosen[order[first]] = True
  return chosen


def nearest(probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
  """int [P]: the row of `gallery` [G, D] with the largest cosine to each of `probes` [P, D]; ties
  go to the first.
  """
  probes, gallery = l2_normalized(probes), l2_normalized(gallery)
  step = max(1, _SIMILARITIES // len(gallery))
  parts = [(probes[i : i + step] @ gallery.T).argmax(axis=1) for i in range(0, len(probes), step)]
  return np.concatenate(parts)


def rank_1(features: np.ndarray, people: np.ndarray, *, repeats: int, seed: int) -> list[float]:
  """The accuracy of each of `repeats` galleries.

  Args:
    features: [N, D].
    people: text or int [N], at least two pictures of each.
    repeats: number of galleries to draw.
    seed: seed of the draws; gallery r is the same for any number of repeats.
  """
  shares = []
  for repeat in range(repeats):
    chosen = draw_gallery(people, np.random.default_rng((seed, repeat)))
    found = people[chosen][nearest(features[~chosen], features[chosen])]
    shares.append(float(np.mean(found == people[~chosen])))
  return shares


def people_of(source: Source) -> np.ndarray:
  """text [N]: the person in each picture, empty if unknown: the source's subjects, or else its
  `identity` labels.

  Raises:
    UserError: the source has neither.
  """
  if (source.subjects != '').any():
    return source.subjects
  for task, labels in source.labels.items():
    if task.partition(':')[0] == 'identity':
      return np.where(source.mask[task], labels.astype(str), '')
  raise UserError(
    f'{source.name}: has no subjects; identify needs a set that says who is in each picture, such '
    'as lfw'
  )


def with_two_pictures(people: np.ndarray) -> np.ndarray:
  """int [M]: the pictures of everyone who has at least two; `people` is text [N], empty if
  unknown.
  """
  names, index, count = np.unique(people, return_inverse=True, return_counts=True)
  return np.flatnonzero(((count >= 2) & (names != ''))[index])


def identify(
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  checkpoint: str,
  stage: str = '',
  on: Sequence[str] = (),
  repeats: int = 10,
  seed: int = 0,
) -> list[Row]:
  """Measures rank-1 identification on sources, and adds the results to `workdir`/identify.json.

  Args:
    workdir: folder of a trained run.
    data_dir: folder of the prepared sets.
    checkpoint: a selection of one network: last, best, STEP or average:K.
    stage: a stage of the run; '' is the last one.
    on: sources (or some of the run's evaluation sets) that say who is in their pictures.
    repeats: number of galleries, at least 2 for a deviation.
    seed: seed of the galleries.

  Returns: One row per source: `checkpoint`, `steps`, `checksums`, `stage` (if any), `source`,
    `repeats`, `seed`, `subjects`, `images`, `probes` (of one gallery), `accuracies` of the repeats,
    and their `mean` and sample deviation `std`.
  """
  if repeats < 2:
    raise UserError(f'--repeats={repeats}: expected at least 2, to compute a deviation')
  if seed < 0:
    raise UserError(f'--seed={seed}: expected 0 or more')
  if not on:
    raise UserError(
      '--on is missing: pass sources that say who is in each picture, as in --on=lfw/rgb224:train'
    )
  evaluator, selection = Evaluator(workdir, data_dir, stage), Selection.parse(checkpoint)
  chosen = [_pictures(any_source(evaluator, name)) for name in on]
  head = evaluator.head(checkpoint, selection) | {'repeats': repeats, 'seed': seed}
  network = FeatureNetwork(evaluator, selection)
  rows = []
  for source, who in chosen:
    shares = rank_1(
      network.of(source, f'features of {source.name}'), who, repeats=repeats, seed=seed
    )
    rows.append(head | {'source': source.name} | _summary(who, shares))
    write_rows(
      evaluator.workdir / IDENTIFY_FILE, evaluator.config.name, _KEY, 'identify', rows[-1:]
    )
  return rows


def _pictures(source: Source) -> tuple[Source, np.ndarray]:
  """The pictures of a source that take part, and the people in them."""
  people = people_of(source)
  take = with_two_pictures(people)
  if len(np.unique(people[take])) < 2:
    raise UserError(
      f'{source.name}: fewer than two people have two or more pictures; choose a larger part '
      'of the '
      'set'
    )
  return source.take(take), people[take]


def _summary(people: np.ndarray, shares: Sequence[float]) -> Row:
  count = len(np.unique(people))
  found = {
    'subjects': count,
    'images': len(people),
    'probes': len(people) - count,
    'accuracies': list(shares),
  }
  return found | {'mean': statistics.mean(shares), 'std': statistics.stdev(shares)}


def identify_table(rows: Sequence[Mapping[str, Any]]) -> str:
  """The rows as a table for a terminal or a Markdown file."""
  columns = ['checkpoint', 'source', 'subjects', 'probes', 'galleries', 'rank 1', 'deviation']
  return markdown_table(columns, [_cells(row) for row in rows])


def _cells(row: Mapping[str, Any]) -> list[str]:
  counts = [f'{row[field]:,}' for field in ('subjects', 'probes', 'repeats')]
  return [row['checkpoint'], row['source'], *counts, percent(row['mean']), percent(row['std'])]
