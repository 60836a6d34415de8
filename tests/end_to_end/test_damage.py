"""A damaged checkpoint, on a copy each: the right older one is used with one warning, or there is
one clear error. Never other numbers.
"""

import gc
import re
import shutil

import jax
import numpy as np
import pytest

from mtface.evaluation.evaluator import Evaluator
from mtface.training.checkpoints import Checkpoints, DamagedCheckpointError
from mtface.training.logs import read_metrics
from tests.command import TINY, Result, python
from tests.end_to_end.conftest import PAGE, pages
from tests.fakes import flip_bytes
from tests.states import saved_state
from tests.training.test_checkpoints import assert_equal, state, write

NEWEST = 'checkpoints/main/000000012'


@pytest.fixture(scope='module')
def undisturbed(tiny_run, tiny_data):
  """The state after the last step of the run whose copies are damaged."""
  return saved_state(Evaluator(tiny_run, tiny_data), 12)


def command(workdir, data_dir):
  return ['train', f'--config={TINY}', f'--workdir={workdir}', f'--data_dir={data_dir}']


def check_went_on(result, workdir, tiny_run, undisturbed, trained, warnings):
  """The run has trained these steps again, said this much and nothing else, and has ended as the
  undisturbed one did.
  """
  assert result.code == 0, result.err
  said = [line for line in result.err.splitlines() if not re.match(r'(training|step) ', line)]
  assert said == result.warnings, 'nothing beside the warnings'
  assert len(result.warnings) == warnings, result.err
  assert re.findall(r'^step (\d+)/12', result.out + result.err, re.MULTILINE) == [
    str(step) for step in trained
  ]
  checkpoints = Checkpoints(workdir)
  assert checkpoints.steps == [4, 8, 12]
  jax.tree.map(np.testing.assert_array_equal, checkpoints.restore(12, undisturbed), undisturbed)
  losses = [
    [(line['step'], line['train/loss']) for line in read_metrics(run)]
    for run in (workdir, tiny_run)
  ]
  assert losses[0] == losses[1], 'each step once'


def largest(folder):
  return max(
    (path for path in folder.rglob('*') if path.is_file()), key=lambda path: path.stat().st_size
  )


def cut(path, part=0.5):
  data = path.read_bytes()
  path.write_bytes(data[: int(len(data) * part)])


def raise_the_score(path):
  text = path.read_text()
  assert '"best": -1.0' in text
  path.write_text(text.replace('"best": -1.0', '"best": 11.0'))


DAMAGE = {  # of the newest checkpoint: what is done to its folder, and a piece of the warning
  'numbers cut': (lambda folder: cut(largest(folder / 'state/d')), 'checkpoint 12 is damaged ('),
  'a byte of the numbers flipped': (
    lambda folder: flip_bytes(largest(folder / 'state/d')),
    'checkpoint 12 is damaged (',
  ),
  'a byte of the index flipped': (
    lambda folder: flip_bytes(folder / 'state/manifest.ocdbt'),
    '(DATA_LOSS: ',
  ),
  'metadata missing': (
    lambda folder: (folder / 'state/_METADATA').unlink(),
    "has no attribute 'tree'",
  ),
  'metrics missing': (
    lambda folder: (folder / 'metrics/metrics').unlink(),
    '(its metrics cannot be read)',
  ),
  'metrics cut': (lambda folder: cut(folder / 'metrics/metrics'), '(its metrics cannot be read)'),
  'another score': (
    lambda folder: raise_the_score(folder / 'metrics/metrics'),
    '(its metrics cannot be read)',
  ),
  'state missing': (lambda folder: shutil.rmtree(folder / 'state'), 'checkpoint 12 is damaged ('),
}


@pytest.mark.parametrize('name', DAMAGE)
def test_the_one_before_a_damaged_one_is_used(
  mtface, tiny_data, tiny_run, undisturbed, run_copy, name
):
  damage, why = DAMAGE[name]
  damage(run_copy / NEWEST)
  result = mtface(*command(run_copy, tiny_data))
  check_went_on(result, run_copy, tiny_run, undisturbed, trained=[10, 12], warnings=1)
  (warning,) = result.warnings
  assert why in warning
  assert warning.endswith(
    'using checkpoint 8 instead, and keeping the damaged one as damaged-000000012'
  )
  assert (run_copy / 'checkpoints/main/damaged-000000012').is_dir(), (
    'for whoever wants to look at it'
  )


def test_two_damaged_ones_in_a_process_of_its_own(tiny_data, tiny_run, undisturbed, run_copy):
  # Threads that read the arrays report to stderr while the interpreter ends.
  for step in (12, 8):
    (run_copy / f'checkpoints/main/{step:09d}/state/manifest.ocdbt').write_bytes(b'')
  result = python('mtface', *command(run_copy, tiny_data))
  check_went_on(result, run_copy, tiny_run, undisturbed, trained=[6, 8, 10, 12], warnings=2)
  assert all(
    line.endswith(f'using checkpoint 4 instead, and keeping the damaged one as damaged-{step:09d}')
    for line, step in zip(result.warnings, (12, 8), strict=True)
  )


def test_an_uncommitted_folder_is_no_checkpoint(mtface, tiny_data, tiny_run, undisturbed, run_copy):
  newest = run_copy / NEWEST
  newest.rename(
    newest.with_name('000000012.orbax-checkpoint-tmp')
  )  # what a kill before the last rename leaves
  result = mtface(*command(run_copy, tiny_data))
  check_went_on(result, run_copy, tiny_run, undisturbed, trained=[10, 12], warnings=0)
  assert not list(run_copy.rglob('*tmp*'))


def test_the_disk_is_full_while_saving(mtface, tiny_data, tiny_run, undisturbed, disk):
  first = pages(tiny_run / 'checkpoints/main/000000004')
  disk.leave(int(1.75 * first) * PAGE)  # room for one and the files beside it, not for two
  workdir = disk.folder / 'run'
  error = mtface(*command(workdir, tiny_data)).error
  assert f'{workdir}/checkpoints/main: a checkpoint cannot be written' in error
  assert 'free up space' in error
  assert Checkpoints(workdir).steps == [4]
  disk.empty()
  result = mtface(*command(workdir, tiny_data))
  check_went_on(result, workdir, tiny_run, undisturbed, trained=[6, 8, 10, 12], warnings=0)


def test_without_a_whole_one_training_does_not_begin_again(tiny_data, run_copy):
  for file in run_copy.glob('checkpoints/main/*/state/manifest.ocdbt'):
    file.write_bytes(b'')
  before = sorted(run_copy.rglob('*'))
  result: Result = python('mtface', *command(run_copy, tiny_data))
  assert 'checkpoint 12 is damaged' in result.error
  assert f'remove {run_copy}/checkpoints/main to train from scratch' in result.error
  assert not result.warnings
  assert sorted(run_copy.rglob('*')) == before, "nothing was moved: the fault may be the disk's"


# --- Every file -----------------------------------------------------------------------------------


def changes(data):
  """What a file may have become: cut at several places, a bit flipped at several, gone."""
  size = len(data)
  yield from (data[:length] for length in sorted({0, size // 3, 2 * size // 3, size - 1}))
  yield from (
    data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
    for at in sorted({size // 4, size // 2, size - 2})
  )
  yield None


@pytest.fixture
def no_garbage():
  """What was made before is not looked at when a damaged checkpoint's remains are collected: the
  other tests have left much.
  """
  gc.collect()
  gc.freeze()
  yield
  gc.unfreeze()


def test_no_damage_of_any_file_gives_other_numbers(tmp_path, capfd, no_garbage):
  write(tmp_path, {1: 0.5, 2: 0.5})
  newest, noticed, said = tmp_path / 'checkpoints/main/000000002', {}, ''
  capfd.readouterr()
  for path in sorted(path for path in newest.rglob('*') if path.is_file()):
    data, name = path.read_bytes(), path.relative_to(newest).as_posix()
    noticed[name] = []
    for changed in changes(data):
      path.unlink() if changed is None else path.write_bytes(changed)
      try:
        assert_equal(
          Checkpoints(tmp_path).restore(2, state()), state(2)
        )  # some files hold nothing that is needed
        noticed[name].append(False)
      except DamagedCheckpointError as error:
        assert re.fullmatch(
          rf'{tmp_path}/checkpoints/main: checkpoint 2 is damaged \(.+\); remove it, or .*',
          str(error),
        )
        noticed[name].append(True)
        said += str(error)
    path.write_bytes(data)
  assert capfd.readouterr().err == '', 'one line each, which is the error'
  assert 'its checksum is wrong' in said, 'tensorstore has read other numbers'
  always = {name for name, found in noticed.items() if all(found)}
  assert {'state/_METADATA', 'state/manifest.ocdbt', 'metrics/metrics'} <= always, noticed
  assert any(name.startswith('state/d/') for name in always), noticed
  assert_equal(Checkpoints(tmp_path).restore(2, state()), state(2))
