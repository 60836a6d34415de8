"""The demo page's answers are those of mtface.inference.answers: page/answers.js in Node.js."""

import numpy as np

from mtface.faces.detect import Detection
from mtface.inference import answers
from mtface.publish.demo_page import task_settings
from mtface.tasks import Task, get_task
from tests.publish import node

QUESTIONS = [
  answers.Question(get_task('smile'), 'softmax'),
  answers.Question(get_task('emotion7'), 'sigmoid'),
  answers.Question(get_task('gender'), 'margins'),
  answers.Question(get_task('action_units'), 'sigmoid'),
  answers.Question(get_task('action_units'), 'margins'),
  answers.Question(get_task('age_years'), 'softmax'),
  answers.Question(get_task('age_years'), 'softmax', top=3),
  answers.Question(get_task('age_years'), 'softmax', top=117),
  answers.Question(get_task('age_years'), 'margins'),
  answers.Question(Task('age_span', ('young', 'old'), values=(20.0, 60.0)), 'margins'),
]


def numbers(question, rng, power):
  """Of one face; the larger the power, the surer the network."""
  drawn = rng.random(question.task.num_classes)
  if question.readout == 'margins':
    return drawn - 0.5
  return drawn**power / (np.sum(drawn**power) if question.readout == 'softmax' else 1)


def test_the_same_answers(tmp_path):
  rng = np.random.default_rng(0)
  cases = []
  for question in QUESTIONS:
    rows = [numbers(question, rng, power) for power in (1, 5, 300)]
    rows.append(np.full(question.task.num_classes, 1 / question.task.num_classes))  # all equal
    rows.append(np.eye(question.task.num_classes)[-1])  # the last for sure
    for row in rows:
      (answer,) = answers.answers_of(question, row[None])
      cases.append(
        {
          'name': f'{question.task.name}, {question.readout}, top {question.top}, {len(cases)}',
          'task': task_settings(question, {question.task.name: 'out'}),
          'numbers': row.tolist(),
          'expected': answer.to_json(),
        }
      )
  detection = Detection(
    (3, 4, 30, 50), 0.98765432109, np.arange(10, dtype=np.float32).reshape(5, 2)
  )
  (face,) = answers.faces_of([detection], {}, {})
  found = {
    'box': list(detection.box),
    'confidence': detection.confidence,
    'landmarks': detection.landmarks.tolist(),
  }
  content = {
    'share': answers.INTERVAL_SHARE,
    'answers': cases,
    'face': {'detection': found, 'expected': face.to_json()},
  }
  node.run('answers.test.mjs', content, tmp_path)
