"""How well action units that a set was never labelled for follow its emotions, against the truth
of synthetic faces (Pons 2018, figure 2).

    mtface associate --workdir=RUN --on=synthetic_emotion --by=emotion7 --of=action_units ...
    python -m benchmarks.unit_map --data_dir=... --numbers=RUN/stages/joint/report/....csv

The numbers are those that `mtface associate` wrote; the truth is how often a unit is there (an
intensity of at least 0.2) in faces whose label is the emotion. Printed for each emotion: Spearman's
rank correlation of the two rows, and of our row with the paper's, whose faces are others.
"""

from __future__ import annotations

import argparse
import csv
import pathlib

import numpy as np
from scipy import stats

from mtface.data.sources import load_source
from mtface.evaluation.results import markdown_table
from mtface.tasks import get_task
from tfds_builders.synthetic_faces import population

# Pons 2018, figure 2: mean scores on SFEW by predicted emotion.
PAPER = {
  'angry': (0.09, 0.10, 0.88, 0.06, 0.01, 0.72, 0.01, 0.14, 0.38, 0.80, 0.06),
  'disgust': (0.73, 0.00, 0.66, 0.00, 0.41, 0.00, 0.05, 0.00, 0.00, 0.01, 0.00),
  'fear': (0.21, 0.16, 0.06, 0.91, 0.16, 0.01, 0.02, 0.02, 0.13, 0.98, 0.43),
  'happy': (0.00, 0.05, 0.06, 0.04, 0.82, 0.12, 0.93, 0.00, 0.01, 0.98, 0.10),
  'sad': (0.05, 0.03, 0.08, 0.11, 0.37, 0.21, 0.41, 0.69, 0.04, 0.06, 0.03),
  'surprise': (0.18, 0.47, 0.05, 0.01, 0.00, 0.01, 0.08, 0.10, 0.02, 0.46, 0.66),
  'neutral': (0.00, 0.00, 0.01, 0.06, 0.01, 0.01, 0.00, 0.01, 0.01, 0.20, 0.00),
}
PRESENT = 0.2  # from this intensity on a unit is labelled


def true_map(data_dir: str, name: str) -> np.ndarray:
  """[7, 11]: how often each unit is there in faces of each emotion."""
  source = load_source(name, data_dir, ['emotion7'])
  units = [population.ACTION_UNITS.index(int(u.removeprefix('AU'))) for u in _UNITS]
  there = source.attributes['au_intensities'][:, units] >= np.float32(PRESENT)
  labels = source.labels['emotion7']
  return np.stack([there[labels == k].mean(axis=0) for k in range(len(_EMOTIONS))])


_UNITS, _EMOTIONS = get_task('action_units').classes, get_task('emotion7').classes


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--data_dir', required=True)
  parser.add_argument('--source', default='synthetic_faces/emotion_rgb32:test')
  parser.add_argument('--numbers', required=True, type=pathlib.Path, help='CSV of mtface associate')
  options = parser.parse_args()
  with options.numbers.open() as file:
    rows = {row['predicted']: row for row in csv.DictReader(file)}
  truth, lines = true_map(options.data_dir, options.source), []
  for k, emotion in enumerate(_EMOTIONS):
    found = [float(rows[emotion][unit] or 'nan') for unit in _UNITS]
    correlations = [stats.spearmanr(found, other)[0] for other in (truth[k], PAPER[emotion])]
    error = np.abs(found - truth[k]).mean()
    lines.append([emotion, rows[emotion]['n'], *(f'{r:.2f}' for r in correlations), f'{error:.3f}'])
  columns = ['predicted', 'n', 'with the truth', "with the paper's", 'mean |score - truth|']
  print(markdown_table(columns, lines))


if __name__ == '__main__':
  main()
