"""What each ingredient of configs/faces.py gives: rows of runs, trained, measured and written down.

    python -m benchmarks.ingredients --data_dir=DATA --workdir=RUNS --study=ablation \\
        [--samples=300000] [--seeds=0,1,2] [--minutes=60]
    python -m benchmarks.ingredients               # only the tables, into docs/ingredients.md

A study is a list of rows; each is `mtface train` and `mtface evaluate --predictions` for each seed,
in a folder of RUNS. What they measured goes into docs/logs/ingredients.json, with the answer on
every face as a bit, so that rows of other days and machines can be paired; what is written there is
not run again. A run that was stopped goes on, and has no time. `--minutes` begins no run after so
many.
"""

from __future__ import annotations

import argparse
import base64
import csv
import dataclasses
import json
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import pages
from benchmarks.contestants import environment
from benchmarks.machine import ROOT, machine, moment
from configs.faces import OWN, PASSED_ON, TASKS
from mtface import metrics
from mtface.config.recipes import BEST, INGREDIENTS, SHARES
from mtface.evaluation.results import markdown_table, read_results
from mtface.files import file_name, write_json, write_text

PAGE = ROOT / 'docs' / 'ingredients.md'
RECORD = ROOT / 'docs' / 'logs' / 'ingredients.json'
# (set, task) of results.json -> heading
COLUMNS = {
  ('genki4k', 'smile'): 'smile',
  ('fer2013_public', 'emotion7'): 'FER public',
  ('fer2013_private', 'emotion7'): 'FER private',
  ('fer2013_private_uncopied', 'emotion7'): 'without copies',
  ('utkface', 'gender'): 'gender',
  ('utkface', 'age_years'): 'age: MAE',
  ('utkface', 'ethnicity5'): 'ethnicity',
}
TAUGHT = f'recipe=best,teacher={{teacher}},teaches={"+".join(TASKS)}'
BUT_AGES = f'recipe=best,teacher={{teacher}},teaches={"+".join(PASSED_ON)}'
Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Row:
  """Runs that differ in their seed.

  Args:
    title: in the table.
    arguments: of configs/faces.py, but for samples; `{teacher}` stands for --teacher.
    flags: `--config.FIELD=VALUE`.
    share: of `--samples` that it is trained on.
    against: the title of the row that it is compared with; '': none.
  """

  title: str
  arguments: str
  flags: tuple[str, ...] = ()
  share: float = 1.0
  against: str = ''


def _ablation() -> Iterator[Row]:
  """From recipe=fast to recipe=best, an ingredient a row, and the others on top of the best."""
  before = 'fast'
  yield Row(before, 'recipe=fast')
  words = 'fast'
  for name in (*BEST, *OWN):
    words += f'+{name}'
    is_last = name == (*BEST, *OWN)[-1]
    yield Row(f'+ {name}', 'recipe=best' if is_last else f'recipe={words}', against=before)
    before = f'+ {name}'
  for name in (x for x in INGREDIENTS if x not in BEST):
    yield Row(f'all of these and {name}', f'recipe=best+{name}', against=before)


def _single() -> Iterator[Row]:
  """Tasks alone, on as many of their own labels as they have in the network of all: a seventh of
  the samples are faces of GENKI-4K, two are of UTKFace, four of FER-2013.
  """
  yield Row('all tasks', 'recipe=best')
  for tasks, share in (
    ('smile', 1 / 7),
    ('emotion7', 4 / 7),
    ('gender+age_years+ethnicity5', 2 / 7),
  ):
    yield Row(f'{tasks} alone', f'recipe=best,tasks={tasks}', share=share, against='all tasks')


def _smiles() -> Iterator[Row]:
  """Smiles from few faces: alone and beside the other tasks."""
  for count in (300, 1000, 3000):
    alone = f'{count:,} smiles alone'
    yield Row(alone, f'recipe=best,tasks=smile,smiles={count}', share=1 / 7)
    yield Row(f'{count:,} smiles beside all tasks', f'recipe=best,smiles={count}', against=alone)


def _few() -> Iterator[Row]:
  """800 photographs of one task, in as many samples as configs/mine.py takes."""
  recipes = (
    'fast',
    *(f'fast+{name}' for name in ('narrow', 'augment', 'dropout', 'smoothing', 'ema')),
  )
  for recipe in (*recipes, 'best-narrow', 'best'):
    against = '' if recipe == 'fast' else 'fast'
    yield Row(recipe, f'recipe={recipe},tasks=smile,smiles=800', share=1 / 10, against=against)


def _teachers() -> Iterator[Row]:
  """Another run says what sets leave open."""
  yield Row('labels alone', 'recipe=best')
  yield Row('and a teacher, of all tasks', TAUGHT, against='labels alone')
  yield Row('and a teacher, of all but ages', BUT_AGES, against='labels alone')
  labelled = 'the same, on labelled faces too'
  yield Row(labelled, f'{BUT_AGES},taught=all', against='labels alone')
  views = BUT_AGES.replace('{teacher}', '{teacher}@last:flip')
  yield Row('and by both mirror images', f'{views},taught=all', against=labelled)


def _shares() -> Iterator[Row]:
  """What shares of tasks are worth by themselves, and with each task's loss weighed by its share,
  so that every labelled face counts alike, however few of its task a batch has.
  """
  yield Row('shares, all losses alike', 'recipe=best')
  yield Row('equal', 'recipe=best-shares', against='shares, all losses alike')
  mean = statistics.mean(SHARES.values())
  # where `ages` and `votes` halve a loss, it stays halved
  factors = {'age_years': 0.5} | dict.fromkeys(('smile', 'emotion7', 'gender', 'ethnicity5'), 1.0)
  flags = [
    f'--config.tasks.{task}.weight={factor * SHARES[task] / mean:.3f}'
    for task, factor in factors.items()
  ]
  flags.append(f'--config.tasks.emotion8.weight={0.5 * SHARES["emotion7"] / mean:.3f}')
  yield Row(
    'shares, losses by share', 'recipe=best', tuple(flags), against='shares, all losses alike'
  )


def _more() -> Iterator[Row]:
  """A fourth set, with labels of tasks that others have too."""
  yield Row('three sets', 'recipe=best')
  yield Row('and CelebA', 'recipe=best,more=celeba', against='three sets')


def _small() -> Iterator[Row]:
  """A quarter of BKNet's channels, for phones and single cores."""
  width = ('--config.model.width=0.25',)
  yield Row('labels alone', 'recipe=best', width, share=2)
  taught = f'{TAUGHT},taught=all'
  yield Row('and a teacher, of all tasks', taught, width, 2, against='labels alone')


STUDIES = {
  'ablation': _ablation,
  'single': _single,
  'smiles': _smiles,
  'few': _few,
  'shares': _shares,
  'teachers': _teachers,
  'more': _more,
  'small': _small,
}


# --- Runs ---------------------------------------------------------------------------------------


def run(
  row: Row, seed: int, samples: int, workdir: pathlib.Path, data_dir: str, teacher: str = ''
) -> Record:
  """Trains and measures one run; what the record says of it.

  Raises:
    SystemExit: a command failed; its own words stand above.
  """
  count = round(row.share * samples)
  name = ','.join([row.arguments, *row.flags, f'samples={count}', f'seed={seed}'])
  folder = workdir / file_name(name)
  begun = folder.exists()
  of = [f'--workdir={folder}', f'--data_dir={data_dir}']
  written = f'--config=faces:{row.arguments},samples={count}'
  train = ['train', written.replace('{teacher}', teacher), *row.flags, f'--config.seed={seed}']
  about, start = moment(), time.monotonic()
  _command(train, of)
  seconds = time.monotonic() - start
  _command(['evaluate', '--predictions'], of)
  results = read_results(folder)
  selections = list(dict.fromkeys(each['checkpoint'] for each in results))
  return {
    'arguments': row.arguments,
    'flags': list(row.flags),
    'samples': count,
    'seed': seed,
    'command': ' '.join(['mtface', 'train', written, *train[2:]]),
    'seconds': None if begun else round(seconds),
    'machine': machine(),
    **about,
    'results': {name: measured(folder, name, results) for name in selections},
  }


def _command(words: Sequence[str], of: Sequence[str]) -> None:
  print('mtface', *words, flush=True)
  # JAX, imported here, has set a level for its messages, which mtface would take for the user's
  env = environment({'TF_CPP_MIN_LOG_LEVEL': ''})
  done = subprocess.run([sys.executable, '-m', 'mtface', *words, *of], env=env)
  if done.returncode:
    raise SystemExit(f'mtface {words[0]}: exit code {done.returncode}; run this again to go on')


def measured(folder: pathlib.Path, selection: str, results: Sequence[Mapping]) -> list[Record]:
  """The figures of one selection; `right` has the answers of what is measured by accuracy."""
  rows = []
  for each in (x for x in results if x['checkpoint'] == selection):
    names = ('set', 'task', 'n', 'accuracy', 'mae', 'data')
    row = {name: each[name] for name in names if each.get(name) is not None}
    if 'mae' not in row:
      row['right'] = pack(right(folder, selection, each['set'], each['task']))
    rows.append(row)
  return rows


def right(folder: pathlib.Path, selection: str, of_set: str, task: str) -> np.ndarray:
  """bool [n]: whether the answer of each labelled face is its label, by image_id."""
  path = folder / 'predictions' / file_name(selection) / f'{file_name(of_set)}.csv'
  with path.open(newline='', encoding='utf-8') as file:
    rows = sorted(csv.DictReader(file), key=lambda row: row['image_id'])
  return np.array([row[task] == row[f'{task} predicted'] for row in rows if row[task]], bool)


def pack(bits: np.ndarray) -> str:
  return base64.b64encode(np.packbits(bits).tobytes()).decode()


def unpack(text: str, count: int) -> np.ndarray:
  return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=count).astype(bool)


# --- Tables -------------------------------------------------------------------------------------


def same(row: Row, samples: int, of: Mapping[str, Any]) -> bool:
  """Whether this is a run of that row."""
  wanted = (row.arguments, list(row.flags), round(row.share * samples))
  return (of['arguments'], of['flags'], of['samples']) == wanted


def difference(ours: Sequence[Record], theirs: Sequence[Record], key: tuple[str, str]) -> str:
  """Points that a row has more than another in accuracy, of pairs of the same seed and face, with a
  95% interval over the faces; '' without pairs.

  The interval is the normal one for the mean over faces of (mean over seeds of the difference):
  other test faces would give another difference. It does not know of other seeds.
  """
  pairs = []
  for a in ours:
    for b in (b for b in theirs if b['seed'] == a['seed']):
      x, y = (_of(record, key) for record in (a, b))
      if x and y and 'right' in x and (x['data'], x['n']) == (y['data'], y['n']):
        one, other = (unpack(z['right'], z['n']).astype(float) for z in (x, y))
        pairs.append(one - other)
  if not pairs:
    return ''
  each = np.mean(pairs, axis=0)
  mean, half = each.mean(), 1.96 * each.std(ddof=1) / len(each) ** 0.5
  return f'{100 * mean:+.1f} ({100 * (mean - half):+.1f} to {100 * (mean + half):+.1f})'


def _of(record: Mapping[str, Any], key: tuple[str, str]) -> Record | None:
  """What the last selection measured: the mean over both mirror images of a face."""
  rows = list(record['results'].values())[-1]
  return next((row for row in rows if (row['set'], row['task']) == key), None)


def table(name: str, samples: int, records: Sequence[Record]) -> str:
  """A study's Markdown; '' where nothing of it was run."""
  rows = {row.title: [r for r in records if same(row, samples, r)] for row in STUDIES[name]()}
  if not any(rows.values()):
    return ''
  lines, against = [], {row.title: row.against for row in STUDIES[name]()}
  columns = [key for key in COLUMNS if any(_cell(runs, key) for runs in rows.values())]
  for title, runs in rows.items():
    if runs:
      cells = [_cell(runs, key) for key in columns]
      times = [r['seconds'] / 60 for r in runs if r['seconds']]
      took = f'{statistics.mean(times):.0f}' if times else ''
      lines.append([title, str(len(runs)), f'{runs[0]["samples"]:,}', *cells, took])
      other = rows.get(against[title], [])
      gained = [difference(runs, other, key) for key in columns]
      if any(gained):
        lines.append([f'less {against[title]}', '', '', *gained, ''])
  head = ['', 'seeds', 'samples', *(COLUMNS[key] for key in columns), 'minutes']
  return f'{_heading([r for runs in rows.values() for r in runs])}\n\n{markdown_table(head, lines)}'


def _cell(runs: Sequence[Record], key: tuple[str, str]) -> str:
  found = [row for row in (_of(run, key) for run in runs) if row]
  if not found:
    return ''
  values = [row['mae'] if 'mae' in row else 100 * row['accuracy'] for row in found]
  digits = 2 if 'mae' in found[0] else 1
  mean = f'{statistics.mean(values):.{digits}f}'
  return f'{mean} ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else mean


def _heading(records: Sequence[Record]) -> str:
  machines = {(r['machine']['processor'], r['machine']['cores']) for r in records}
  dates = sorted({r['date'][:10] for r in records})
  commits = ', '.join(sorted({r['commit'] for r in records}))
  where = ' and '.join(f'{cores} cores of {name}' for name, cores in sorted(machines))
  return f'{where}; {" to ".join(dates[:1] + dates[1:][-1:])}; commit {commits}.'


def curve(samples: int, records: Sequence[Record], path: pathlib.Path) -> None:
  """Draws study smiles: accuracy over labelled smiles, alone and beside the other tasks, means over
  seeds, with 95% intervals over the test faces. Nothing is drawn before all rows have a run.
  """
  lines: dict[str, list[tuple[int, float, int]]] = {}
  for row in STUDIES['smiles']():
    count, _, beside = row.title.partition(' smiles ')
    found = [_of(r, ('genki4k', 'smile')) for r in records if same(row, samples, r)]
    if not found or None in found:
      return
    mean = statistics.mean(of['accuracy'] for of in found if of)
    point = int(count.replace(',', '')), mean, int(found[0]['n'])
    lines.setdefault(beside, []).append(point)
  import matplotlib

  matplotlib.use('svg')
  matplotlib.rcParams['svg.hashsalt'] = 'smiles'  # the same drawing is the same file
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(figsize=(6, 4), layout='constrained')
  for marker, (beside, points) in zip('os', lines.items(), strict=True):
    counts, means, tested = zip(*points, strict=True)
    ends = [metrics.wilson_interval(round(m * n), n) for m, n in zip(means, tested, strict=True)]
    bars = [[100 * abs(m - of[i]) for m, of in zip(means, ends, strict=True)] for i in (0, 1)]
    axes.errorbar(
      counts, [100 * m for m in means], bars, marker=marker, capsize=4, label=f'smiles {beside}'
    )
  axes.set_xscale('log')
  axes.set_xticks(counts, [f'{count:,}' for count in counts])
  axes.minorticks_off()
  axes.set_xlabel('faces labelled for a smile')
  axes.set_ylabel('right of the test faces, %')
  axes.grid(True, alpha=0.3)
  axes.legend(loc='lower right')
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, metadata={'Date': None})
  pyplot.close(figure)


def filled(page: str, samples: int, records: Sequence[Record]) -> str:
  """The page with the studies' tables between its markers; a study of which there is no run of so
  many samples keeps what it has.
  """
  return pages.filled(page, 'study', lambda name: table(name, samples, records) or None)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--study', choices=list(STUDIES))
  parser.add_argument('--data_dir')
  parser.add_argument('--workdir', type=pathlib.Path)
  parser.add_argument('--teacher', default='', help='the run that teaches, of fold 0')
  parser.add_argument('--samples', type=int, default=300_000)
  parser.add_argument('--seeds', default='0', help='as in 0,1,2; a whole study for each in turn')
  parser.add_argument('--minutes', type=float, default=float('inf'))
  parser.add_argument('--record', type=pathlib.Path, default=RECORD)
  parser.add_argument('--page', type=pathlib.Path, default=PAGE)
  args = parser.parse_args()
  if args.study and not (args.data_dir and args.workdir):
    parser.error('a study needs --data_dir and --workdir')
  rows = list(STUDIES[args.study]()) if args.study else []
  if any('{teacher}' in row.arguments for row in rows) and not args.teacher:
    parser.error(f'--study={args.study} needs --teacher')
  records = json.loads(args.record.read_text()) if args.record.exists() else []
  until = time.monotonic() + 60 * args.minutes
  for seed in map(int, args.seeds.split(',')):
    for row in rows:
      done = any(same(row, args.samples, r) and r['seed'] == seed for r in records)
      if not done and time.monotonic() < until:
        one = run(row, seed, args.samples, args.workdir, args.data_dir, args.teacher)
        records.append(one)
        write_json(args.record, records)
  write_text(args.page, filled(args.page.read_text(), args.samples, records))
  curve(args.samples, records, args.page.parent / 'images' / 'smiles.svg')
  print(f'{args.page}: {len(records)} runs')


if __name__ == '__main__':
  main()
