"""docs/your_photographs.md, its commands run one after the other on drawn faces; and broken csv
files, each of which ends in one line.
"""

import csv
import json
import re
import shlex
import sys

import numpy as np
import pytest

from benchmarks import own_photographs
from mtface import tasks
from tests.cartoons import cartoon, make_genki4k, save
from tests.command import ROOT
from tfds_builders import own_csv

PAGE = (ROOT / 'docs/your_photographs.md').read_text()
BLOCKS = re.findall(r'```(\w+)\n(.*?)```', PAGE, re.DOTALL)
SMALL = ('--config.model.width=0.125', '--config.batch_size=8', '--config.duration=16 examples')
SMALL += ('--config.checkpoint.every=16 examples', '--config.log_every=8 examples')


@pytest.fixture(autouse=True)
def own_tasks(monkeypatch):
  """Tasks that a csv brings are forgotten after each test."""
  monkeypatch.setattr(tasks, 'TASKS', dict(tasks.TASKS))


def blocks(language):
  return [text for kind, text in BLOCKS if kind == language]


def write_holiday(folder):
  """The page's csv with more lines of the same kind."""
  rows = [*csv.reader(blocks('csv')[0].splitlines())]
  for i in range(4, 16):
    rows.append([f'photos/{i:04d}.jpg', f'p{i}', 'yes' if i % 2 else '0', ('calm', 'cross')[i % 2]])
  for i, (path, *_) in enumerate(rows[1:]):
    save(folder / path, cartoon(size=150, center=(75, 70), scale=1.1 + i / 50))
  with (folder / 'holiday.csv').open('w', newline='') as file:
    csv.writer(file).writerows(rows)


def test_the_page(mtface, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  write_holiday(tmp_path / 'holiday')
  printed = {}
  for line in ''.join(blocks('sh')).splitlines():
    if line.startswith('#'):
      continue
    program, command, *rest = shlex.split(line)
    assert program == 'mtface'
    small = [x for x in SMALL if 'from=' not in line or 'model' not in x]
    if '--overwrite' in rest:
      (tmp_path / 'holiday/holiday.corrections.csv').write_text(blocks('csv')[1])
    if 'from=runs/sang' in line:
      (tmp_path / 'runs/holiday').rename(tmp_path / 'runs/sang')
    done = mtface(command, *rest, *(small if command == 'train' else ()))
    assert done.code == 0, (line, done.err)
    printed.setdefault(command, []).append(done.out)
  assert 'mood: 14 labelled: calm 7, cross 7' in printed['build'][0]
  assert 'label_corrected: 0' in printed['build'][0]
  assert 'label_corrected: 1' in printed['build'][1]
  (face,) = json.loads(printed['predict'][0])['faces']
  assert set(face['answers']) == {'smile', 'mood'}
  assert set(face['answers']['mood']['probabilities']) == {'calm', 'cross'}
  assert 'runs/sang' in printed['train'][2]
  saved = json.loads((tmp_path / 'runs/tuned/config.json').read_text())['config']
  assert [text.partition('=')[2] for text in saved['optimizer']['factors']] == ['0.1', '0.5']
  assert saved['classes'] == {'mood': {'classes': ['calm', 'cross'], 'multi_label': False}}


def test_the_toml_of_the_page(tmp_path):
  (tmp_path / 'holiday.toml').write_text(blocks('toml')[0])
  path = tmp_path / 'holiday.csv'
  path.write_text('file,name,sex,feeling,note\n1.jpg,ann,female,cross,x\n2.jpg,bob,1,calm,y\n')
  table = own_csv.read(path)
  assert [row.labels for row in table.rows] == [{'gender': 0, 'mood': 1}, {'gender': 1, 'mood': 0}]
  assert [row.subject for row in table.rows] == ['ann', 'bob']


def test_photographs_laid_out(tmp_path, monkeypatch):
  drawn = [np.full((20, 20, 3), 9 * i, np.uint8) for i in range(10)]
  raw = make_genki4k(tmp_path / 'genki', drawn, [1, 0, 0, 0, 0, 1, 1, 1, 1, 1])
  arguments = ['', f'--genki4k={raw}', f'--to={tmp_path / "to"}']
  monkeypatch.setattr(sys, 'argv', arguments)
  own_photographs.main()
  table = own_csv.read(tmp_path / 'to/holiday.csv')
  assert [(row.path, row.labels['smile']) for row in table.rows] == [
    ('photos/file0001.jpg', 1),
    ('photos/file0005.jpg', 0),
    ('photos/file0009.jpg', 1),
  ]
  assert all((tmp_path / 'to' / row.path).is_file() for row in table.rows)


# --- Broken files ---------------------------------------------------------------------------------

BROKEN = {
  'no column of paths': ('name,smile\n1.png,1\n2.png,0\n', 'has no column of paths'),
  'another delimiter': ('path|smile\n1.png|1\n2.png|0\n', 'commas, semicolons or tabulators'),
  'two delimiters': ('path;smile\n1.png,1\n2.png,0\n', 'line 2 has 1 fields'),
  'half of UTF-16': (
    'path,smile\n1.png,1\n'.encode('utf-16')[:-1],
    'starts as utf-16-le but continues in another encoding; save it again as UTF-8',
  ),
  'no text': (bytes(range(256)), 'the encoding is neither UTF-8, UTF-16 nor Windows-1252'),
  'the same path twice': (
    'path,smile\n1.png,1\n2.png,0\n./1.png,0\n',
    "lines 2 and 4, column 'path': both are of '1.png'",
  ),
  'no such image': (
    'path,smile\n1.png,1\n3.png,0\n',
    "line 3, column 'path': there is no such image",
  ),
  'a folder': ('path,smile\n1.png,1\nsub,0\n', "line 3, column 'path': this is a folder"),
  'an unknown class': (
    'path,gender\n1.png,male\n2.png,mann\n',
    "line 3, column 'gender': found 'mann'; expected female, male",
  ),
  'NaN': ('path,gender\n1.png,male\n2.png,NaN\n', "line 3, column 'gender': found 'NaN'"),
  'NaN among own words': (
    'path,mood\n1.png,calm\n2.png,NaN\n',
    "column 'mood', line 3: found 'NaN'; expected a class, or nothing",
  ),
  'two spellings': (
    'path,mood\n1.png,calm\n2.png,Calm\n',
    "column 'mood', line 3: found 'Calm', which line 2 spells 'calm'",
  ),
  'a number out of range': (
    'path,age_years\n1.png,30\n2.png,300\n',
    "line 3, column 'age_years': found '300'; expected 0 to 116",
  ),
  'empty': ('', 'is empty (0 bytes); expected a header'),
  'header only': ('path,smile\n', 'has no lines below its header'),
  'a path outside': (
    'path,smile\n1.png,1\n../2.png,0\n',
    "line 3, column 'path': '../2.png' is outside of the folder",
  ),
  'one split only': (
    'path,smile,split\n1.png,1,train\n2.png,0,train\n',
    "the column 'split' says train in every line; expected another split as well",
  ),
  'a person in two splits': (
    'path,person,smile,split\n1.png,ann,1,train\n2.png,ann,0,test\n',
    "lines 2 and 3, column 'person': 'ann' is in train and in test",
  ),
  'a quoted newline': (
    'path,mood\n1.png,"ca\nlm"\n2.png,cross\n',
    "line 3 ends a multi-line field, 'ca\\nlm'",
  ),
  'an open quotation': ('path,mood\n1.png,"calm\n2.png,cross\n', 'expected a " to close'),
}


def write_broken(folder, content):
  for i, name in enumerate(('1.png', '2.png', 'sub/3.png')):
    save(folder / name, np.full((40, 40, 3), 50 + 40 * i, np.uint8))
  path = folder / 'trip.csv'
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return folder


@pytest.mark.parametrize('name', BROKEN)
def test_a_broken_csv_is_one_clear_line(mtface, tmp_path, name):
  content, expected = BROKEN[name]
  raw = write_broken(tmp_path / 'raw', content)
  done = mtface('build', 'image_csv/trip_gray48_whole', f'--manual_dir={raw}', f'--data_dir={raw}')
  assert expected in done.error and 'trip.csv' in done.error
  assert not list(raw.rglob('dataset_info.json')), 'nothing that could be taken for a set'


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_marks_of_spreadsheets_are_no_mistake(mtface, tmp_path, encoding):
  raw = write_broken(tmp_path / 'raw', 'path,smile\n1.png,1\n2.png,0\n'.encode(encoding))
  done = mtface('build', 'image_csv/trip_gray48_whole', f'--manual_dir={raw}', f'--data_dir={raw}')
  assert done.code == 0 and 'smile: 2 labelled: no_smile 1, smile 1' in done.out


def test_a_truncated_image_is_one_line_of_the_summary(mtface, tmp_path):
  raw = write_broken(tmp_path / 'raw', 'path,smile\n1.png,1\nsub/3.png,1\n2.png,0\n')
  whole = (raw / 'sub/3.png').read_bytes()
  (raw / 'sub/3.png').write_bytes(whole[: len(whole) // 2])
  done = mtface('build', 'image_csv/trip_gray48_whole', f'--manual_dir={raw}', f'--data_dir={raw}')
  assert done.code == 0 and 'left out: 1 (damaged image 1)' in done.out
  (line,) = [line for line in done.out.splitlines() if line.startswith('    sub/3.png: ')]
  assert 'line 3 of the csv' in line and 'truncated' in line
