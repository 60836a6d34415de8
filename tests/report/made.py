"""A workdir as a run leaves it, of made-up answers: nothing is trained. The labels are those of
`fake_source`, the scores lean towards them.
"""

import json

import numpy as np

from mtface import metrics
from mtface.config.schema import experiment, source, task
from mtface.evaluation.predictions import write_predictions
from mtface.evaluation.results import write_results
from mtface.tasks import get_task
from mtface.training.workdir import write_config
from tests.fakes import fake_source

TASKS = ('emotion7', 'gender', 'age_years', 'action_units')
SETS = {
  'faces': ('synthetic_faces/people_gray48:test', {'gender': 1.0, 'age_years': 0.9}),
  'looks': ('fer2013/gray48:private_test', {'emotion7': 1.0, 'action_units': 0.5}),
}


def made_config(name='made'):
  config = experiment()
  config.name = name
  for of in TASKS:
    config.tasks[of] = task(
      'sigmoid_cross_entropy' if of == 'action_units' else 'softmax_cross_entropy'
    )
  config.sources.looks = source('fer2013/gray48:train', 'emotion7')
  config.sources.people = source('synthetic_faces/people_gray48:train', 'gender', 'age_years')
  for of_set, (full, labelled) in SETS.items():
    config.evaluation.sets[of_set] = source(full, *labelled)
  return config


def drawn_scores(of, labels, rng, lean=2.0):
  """[N, C] probabilities that lean towards the labels."""
  logits = rng.normal(size=(len(labels), of.num_classes))
  if of.multi_label:
    return 1 / (1 + np.exp(-logits - lean * (2 * labels - 1)))
  logits[np.arange(len(labels)), labels] += lean
  exp = np.exp(logits)
  return exp / exp.sum(axis=1, keepdims=True)


def scores_of(drawn, seed=0):
  rng = np.random.default_rng(seed)
  found = {}
  for name in TASKS:
    of = get_task(name)
    labels = drawn.labels.get(name)
    if labels is None:
      shape = (len(drawn), of.num_classes) if of.multi_label else len(drawn)
      labels = rng.integers(0, 2 if of.multi_label else of.num_classes, shape)
    found[name] = drawn_scores(of, labels, rng)
  return found


def made_run(
  workdir, *, size=60, checkpoint='last', predictions=True, log=True, name='made', seed=0
):
  """Writes the workdir; returns {set: (source, {task: scores})}."""
  write_config(made_config(name), workdir)
  tasks = {of: get_task(of) for of in TASKS}
  made = {}
  for i, (of_set, (full, labelled)) in enumerate(SETS.items()):
    drawn = fake_source(of_set, size, labelled, seed=seed + i)
    scores = scores_of(drawn, seed + i)
    made[of_set] = drawn, scores
    head = {'checkpoint': checkpoint, 'steps': [7], 'checksums': [1], 'set': of_set, 'source': full}
    head |= {'data': f'{i:016x}', 'seconds': 1.0}
    write_results(workdir, name, [head | row_of(tasks[of], drawn, scores[of]) for of in labelled])
    if predictions:
      write_predictions(workdir, checkpoint, of_set, tasks, drawn, [(scores, np.arange(size))])
  if log:
    (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in LINES))
  return made


LINES = [
  {
    'step': 10,
    'time': 1.7e9,
    'epoch': 0.5,
    'train/gender/accuracy': 0.5,
    'train/gender/loss': 0.7,
    'health/step_seconds': 0.5,
    'health/input_wait': 0.25,
  },
  {'step': 15, 'time': 1.7e9 + 1, 'eval/faces/gender/accuracy': 0.6},
  {
    'step': 20,
    'time': 1.7e9 + 2,
    'epoch': 1.0,
    'train/gender/accuracy': 0.75,
    'train/gender/loss': 0.6,
    'health/step_seconds': 0.5,
    'health/input_wait': 0.75,
  },
]


def row_of(of, drawn, scores):
  labels, mask = drawn.labels[of.name], drawn.mask[of.name]
  counts = metrics.counts(of, scores, labels, mask, threshold=0.5)
  summary = metrics.summarize(of, metrics.add(metrics.zeros(of), counts))
  within = {}
  if 'correct' in summary:
    low, high = metrics.wilson_interval(summary['correct'], summary['n'])
    within = {'low': low, 'high': high}
  return {'task': of.name} | within | summary
