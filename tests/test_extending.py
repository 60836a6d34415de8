"""docs/extending.md, run as it stands: its module and config in a folder outside of the checkout,
its commands one after the other. What it registers is used by nothing in mtface.
"""

import csv
import json
import pathlib
import re
import shlex

import cv2
import numpy as np
import pytest

from tests.command import ROOT, python

PAGE = (ROOT / 'docs/extending.md').read_text()
BLOCKS = re.findall(r'```(python|sh)\n(.*?)```', PAGE, re.DOTALL)
CLASSES = {'mood': ('calm', 'glad', 'cross'), 'worn': ('glasses', 'hat', 'mask')}


def write_study(folder, count=80):
  """Made-up faces: the mood is how bright a patch is, glasses darken the uppermost rows."""
  folder.mkdir()
  rng, rows = np.random.default_rng(0), []
  for i in range(count):
    mood, glasses = i % 3, rng.integers(2)
    image = rng.integers(0, 80, (48, 48, 3), dtype=np.uint8)
    image[16:40, 8:40] += np.uint8(80 * mood)
    if glasses:
      image[:10] = 0
    cv2.imwrite(str(folder / f'face{i:03d}.png'), image)
    row = {'file': f'face{i:03d}.png', 'person': f'p{i // 2}', 'mood': CLASSES['mood'][mood]}
    row |= {'glasses': ('no', 'yes')[glasses], 'hat': '' if i % 4 else 'no', 'mask': ''}
    rows.append(row | ({'mood': ''} if i % 10 == 0 else {}))
  with (folder / 'faces.csv').open('w', newline='') as file:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  """A folder with the files that the page names; nothing of it is in the checkout."""
  folder = tmp_path_factory.mktemp('study')
  write_study(folder / 'study')
  for kind, text in BLOCKS:
    if kind == 'python':
      name = re.match(r'# (\S+\.py)\n', text)[1]
      with (folder / name).open('a') as file:
        file.write(text.partition('\n')[2])
  return folder


def commands():
  return [
    shlex.split(line)[1:]
    for kind, text in BLOCKS
    if kind == 'sh'
    for line in text.replace('\\\n', ' ').splitlines()
    if line
  ]


@pytest.fixture(scope='module')
def trained(study):
  """{command: what it printed} of the page's first commands, run in that folder."""
  printed = {}
  for arguments in commands()[:5]:
    done = python('mtface', *arguments, cwd=study)
    assert done.code == 0, (arguments, done.err)
    printed[arguments[0]] = done.out
  return printed


def test_the_page_names_each_kind():
  text = ''.join(text for kind, text in BLOCKS if kind == 'python')
  for table in ('BUILDERS', 'LOSSES', 'NETWORKS', 'OPTIMIZERS', 'SCHEDULES', 'AUGMENTATIONS'):
    assert f'@tables.{table}.register(' in text
  assert text.count('tasks.register(') == 2 and '@tables.MIXTURES.register(' in text


def test_the_set_is_built_with_its_masks(study, trained):
  assert '80 images' in trained['build']
  summary = json.loads((study / 'faces/my_faces/gray48/1.0.0/build_summary.json').read_text())
  assert summary['labelled']['train'] == {'mood': 72, 'worn': 80}


def test_describe_says_what_is_learnt(trained):
  assert 'tasks mood, worn; mixture equal' in trained['describe']
  assert 'lion, learning rate 0.001 (inverse_root)' in trained['describe']


def test_it_learns_and_a_class_has_its_row(study, trained):
  rows = {
    (row['checkpoint'], row['task']): row
    for row in json.loads((study / 'run/results.json').read_text())['results']
  }
  mood, worn = rows['best', 'mood'], rows['best', 'worn']
  assert mood['classes'] == ['calm', 'glad', 'cross']
  assert mood['accuracy'] > 0.6, 'chance is a third'
  assert worn['classes'] == ['glasses', 'hat', 'mask']
  assert worn['per_class_n'][0] == worn['n'] > 10
  assert 0 < worn['per_class_n'][1] < worn['n'], 'only some hats are known'
  assert worn['per_class_n'][2] == 0, 'no mask is known'
  lines = trained['evaluate'].splitlines()
  (glasses,) = {line for line in lines[lines.index('best on study, worn:') :] if 'glasses' in line}
  share = (worn['tp'][0] + worn['tn'][0]) / worn['n']
  assert glasses.startswith(
    f'| glasses | {worn["n"]} | {worn["tp"][0] + worn["fn"][0]} | {share:.2%}'
  )
  assert any(line.startswith('| mask | 0 | 0 |  |  |  |') for line in lines)


def test_config_json_names_the_module(study, trained):
  content = json.loads((study / 'run/config.json').read_text())
  assert content['config']['imports'] == ['my_faces']
  assert content['config']['model'] == {
    'name': 'tiny', 'width': 16, 'dropout': 0.1, 'dtype': 'float32'
  }  # fmt: skip
  assert content['config']['tasks']['mood']['gamma'] == 1.5


def test_a_run_is_resumed_and_reported(study, trained):
  (train,) = [arguments for arguments in commands() if arguments[0] == 'train']
  again = python('mtface', *train, cwd=study)
  assert again.code == 0 and 'already trained to step' in again.out
  assert (study / 'run/report/curves.png').exists()


def test_another_network_brings_its_options(study, trained):
  done = python('mtface', *commands()[5], cwd=study)
  assert done.code == 0, done.err
  assert 'adamw, learning rate 0.001 (inverse_root)' in done.out


def test_from_python(study, trained):
  done = python('my_script', cwd=study)
  assert done.code == 0, done.err
  assert re.search(r'^study mood \d+ [\d.]+$', done.out, re.MULTILINE)


# --- What goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--config.imports=my_face'], "config.imports: there is no module 'my_face'; install it"),
    (['--config.imports=my-face'], "config.imports: 'my-face' is not the name of a module"),
    (['--config.imports=broken'], r'config.imports: broken: \S+broken.py:2: ZeroDivisionError'),
    (['--config.imports=twice'], "config.imports: twice: loss 'focal' is registered already"),
    (['--config.model.name=bknett'], r"config.model.name 'bknett' is unknown; there are bknet, "),
    (['--config.optimizer.nesterov=True'], "there is no field 'nesterov'; the fields here are: "),
    (['--config.tasks.worn.loss=focal'], 'focal is for single-label tasks; worn is multi-label'),
    (
      ['--config.imports=misfit', '--config.model.name=misfit'],
      r'config.imports: a training step fails: TypeError: .*misfit.py:\d+\); correct what',
    ),
  ],
)
def test_mistakes_are_told_in_one_line_before_anything_is_trained(study, trained, flags, message):
  (study / 'broken.py').write_text('x = 1\nx / 0\n')
  (study / 'twice.py').write_text(
    "from mtface.config.tables import LOSSES\n\n@LOSSES.register('focal')\ndef other(): pass\n"
  )
  (study / 'misfit.py').write_text(
    'from flax import nnx\n'
    'from mtface.config.tables import NETWORKS\n'
    "@NETWORKS.register('misfit')\n"
    'class Misfit(nnx.Module):\n'
    '  def __init__(self, tasks, image_shape, *, rngs, dtype):\n'
    '    self.heads = nnx.Dict({task.name: nnx.Linear(3, 2, rngs=rngs) for task in tasks})\n'
    '  def __call__(self, images, train=False, rngs=None):\n'
    '    return {name: head(images.mean((1, 2))) for name, head in self.heads.items()}\n'
  )
  for command in ('describe', 'train'):
    where = ['--workdir=none'] if command == 'train' else []
    done = python(
      'mtface', command, '--config=my_config.py', '--data_dir=faces', *where, *flags, cwd=study
    )
    assert done.code == 2, done.out
    (line,) = [line for line in done.err.splitlines() if 'error:' in line]
    assert re.search(message, line), line
  assert not (study / 'none').exists()


def test_a_run_whose_module_is_gone_says_so(study, trained, tmp_path):
  done = python('mtface', 'report', f'--workdir={study / "run"}', '--data_dir=faces', cwd=tmp_path)
  assert done.code == 2
  assert "imports: there is no module 'my_faces'; install it" in done.err


def test_nothing_of_it_is_in_the_checkout():
  names = ('my_faces', 'focal', 'inverse_root', 'flip_only', 'first_only')
  for path in pathlib.Path(ROOT / 'mtface').rglob('*.py'):
    text = path.read_text().replace('my_faces', '', 3)  # as an example in messages
    assert not [name for name in names if re.search(rf"'{name}'", text)], path
