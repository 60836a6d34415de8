"""The front matter of a model card: what Hugging Face's Hub reads of it, as its specification has
it (github.com/huggingface/hub-docs, modelcard.md).

`datasets` is left out: the Hub takes identifiers of its own there, and prepared sets have none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from mtface.data.names import SourceName
from mtface.evaluation.results import Row
from mtface.report.page.gathered import Gathered

# Of a row: the field, the Hub's name of the metric, and ours in words.
_METRICS = (
  ('accuracy', 'accuracy', 'accuracy'),
  ('macro_f1', 'f1', 'macro F1'),
  ('mae', 'mae', 'mean absolute error, years'),
)


def front_matter(run: Gathered) -> str:
  """The front matter of a run's card, YAML without its fences."""
  content: dict[str, Any] = {
    'license': 'unknown',  # of the weights: whoever publishes them chooses one
    'library_name': 'mtface',
    'pipeline_tag': 'image-classification',
    'tags': ['jax', 'face', 'multi-task', *(task.replace(':', '-') for task in run.tasks)],
  }
  if run.chosen:
    content['metrics'] = list(dict.fromkeys(_kinds(run.chosen)))
    content['model-index'] = [
      {'name': run.config.name or run.title, 'results': [_result(row) for row in run.chosen]}
    ]
  return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def _kinds(rows: Iterable[Row]) -> Iterable[str]:
  for row in rows:
    yield from (kind for field, kind, _ in _METRICS if row.get(field) is not None)


def _result(row: Row) -> dict[str, Any]:
  source = SourceName.parse(row['source'])
  name, _, config = source.set_name.partition('/')
  dataset = {'type': name, 'name': row['set'], 'config': config, 'split': source.split}
  args = {'source': row['source'], 'checkpoint': row['checkpoint']}
  args |= {'fingerprint': row['data']} if row.get('data') else {}
  return {
    'task': {'type': 'image-classification', 'name': row['task']},
    'dataset': dataset | {'args': args},
    'metrics': [
      {'type': kind, 'value': row[field], 'name': _named(words, field, row)}
      for field, kind, words in _METRICS
      if row.get(field) is not None
    ],
  }


def _named(words: str, field: str, row: Row) -> str:
  if field == 'accuracy' and 'low' in row:
    low, high = 100 * row['low'], 100 * row['high']
    return f'{words} (95% Wilson interval {low:.1f} to {high:.1f}%, n {row["n"]:,})'
  return f'{words} (n {row["n"]:,})'
