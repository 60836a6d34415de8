"""Programs that are kept: the same numbers, whatever is in the folder."""

import os
import pathlib
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import compilation_cache

from mtface.data.loader import BatchSource, load_batches
from mtface.models.paths import by_path
from mtface.parallel import programs
from mtface.parallel.feed import to_devices
from mtface.parallel.sharding import everywhere, make_mesh, place
from mtface.training.loop import jit_step
from mtface.training.optim import make_optimizer
from mtface.training.run import prepare
from mtface.training.state import new_state
from mtface.training.tally import new_tally
from tests.fakes import flip_bytes
from tests.tiny import get_config

SETTINGS = (
  'jax_compilation_cache_dir',
  'jax_persistent_cache_min_compile_time_secs',
  'jax_persistent_cache_enable_xla_caches',
  'jax_enable_compilation_cache',
)


@pytest.fixture
def kept(tmp_path, monkeypatch):
  """The folder of a process that keeps its programs, all of them; what JAX keeps otherwise is set
  aside meanwhile.
  """
  before = {name: getattr(jax.config, name) for name in SETTINGS}
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setattr(programs, 'LEAST_SECONDS', 0.0)
  monkeypatch.delenv('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', raising=False)
  monkeypatch.setattr(compilation_cache, 'get_file_cache', compilation_cache.get_file_cache)
  jax.config.update('jax_compilation_cache_dir', None)
  compilation_cache.reset_cache()
  programs.keep_programs()
  yield programs.folder()
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()
  jax.clear_caches()


def entries(folder):
  return {path: path.read_bytes() for path in sorted(folder.glob('*.program'))}


@jax.jit
def _of_three(x):
  return jnp.sin(x) @ x.T


def computed():
  """By a program that this process does not have yet."""
  jax.clear_caches()
  return np.asarray(_of_three(jnp.arange(12.0).reshape(3, 4)))


@pytest.mark.parametrize('damage', ['none', 'flipped', 'truncated', 'empty', 'another'])
def test_what_is_damaged_is_compiled_again(kept, damage, recwarn):
  expected, before = computed(), entries(kept)
  assert before
  for path, stored in before.items():
    if damage == 'flipped':
      flip_bytes(path)
    elif damage == 'another':  # whole, and of another program
      path.write_bytes(before[next(other for other in before if other != path)])
    elif damage != 'none':
      path.write_bytes(stored[: len(stored) // 2 if damage == 'truncated' else 0])
  np.testing.assert_array_equal(computed(), expected)
  assert entries(kept).keys() == before.keys(), 'made again'
  assert all(programs.Programs(kept).get(path.stem) for path in before)
  assert not [w for w in recwarn if 'compilation cache' in str(w.message)]


def test_a_whole_entry_is_used(kept, monkeypatch):
  computed()
  monkeypatch.setattr(programs.Programs, 'put', lambda *_: pytest.fail('compiled again'))
  computed()


def test_a_folder_that_cannot_be_used_is_no_error(kept, monkeypatch):
  expected = computed()
  for path in kept.iterdir():
    path.unlink()
  kept.rmdir()
  kept.write_text('a file')  # root may write everywhere, but not into a file
  assert programs.usable_folder() is None
  np.testing.assert_array_equal(computed(), expected)
  monkeypatch.setattr(pathlib.Path, 'home', lambda: (_ for _ in ()).throw(RuntimeError))
  monkeypatch.setenv('XDG_CACHE_HOME', '')
  assert programs.usable_folder() is None


def test_the_folder_of_another_user_is_not_used(kept, monkeypatch):
  assert programs.usable_folder() == kept
  assert kept.stat().st_mode & 0o077 == 0
  monkeypatch.setattr(os, 'getuid', lambda: 4711)
  assert programs.usable_folder() is None


def test_what_the_user_has_said_holds(kept, monkeypatch):
  for name, value in (
    ('jax_compilation_cache_dir', '/elsewhere'),
    ('jax_enable_compilation_cache', False),
  ):
    jax.config.update('jax_compilation_cache_dir', None)
    jax.config.update(name, value)
    before = compilation_cache.get_file_cache
    programs.keep_programs()
    assert compilation_cache.get_file_cache is before
    assert jax.config.jax_compilation_cache_dir != str(kept)


def test_another_processor_or_other_flags_are_another_folder(monkeypatch, tmp_path):
  monkeypatch.setenv('XLA_FLAGS', '')
  text = 'processor : 0\nmodel name : A\ncpu MHz : {}\nflags : {}\n\nprocessor : 1\ncpu MHz : 7\n'
  found = set()
  for name, clock, flags in (('a', 1, 'fpu'), ('b', 2, 'fpu'), ('c', 1, 'fpu amx')):
    (tmp_path / name).write_text(text.format(clock, flags))
    monkeypatch.setattr(programs, '_CPUINFO', tmp_path / name)
    found.add(programs.folder())
  assert len(found) == 2, 'the clock does not matter'
  monkeypatch.setenv('XLA_FLAGS', '--xla_cpu_enable_fast_math=true')
  assert programs.folder() not in found
  assert jax.lib.__version__ in programs.folder().name


def test_what_was_not_used_for_longest_goes_first(tmp_path):
  kept = programs.Programs(tmp_path, most_bytes=3 * 132)
  for i, key in enumerate('abc'):
    kept.put(key, bytes(100))
    os.utime(tmp_path / f'{key}.program', (i, i))
  assert kept.get('a') == bytes(100)  # used now
  kept.put('d', bytes(100))
  assert sorted(path.stem for path in tmp_path.glob('*')) == ['a', 'c', 'd']
  programs.Programs(tmp_path, most_bytes=1).put('e', bytes(1000))
  assert sorted(path.stem for path in tmp_path.glob('*')) == ['e']


def test_many_at_once_find_whole_entries_only(tmp_path):
  kept, wrong = programs.Programs(tmp_path), []

  def work(number):
    for i in range(100):
      key, value = f'k{i % 5}', bytes([i % 5]) * 50_000
      kept.put(key, value)
      if kept.get(key) not in (value, None):
        wrong.append((number, i))

  threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not wrong and len(list(tmp_path.iterdir())) == 5


def test_training_gives_the_same_bits_cold_warm_and_without(kept, tiny_data):
  run, mesh = prepare(get_config(), tiny_data), make_mesh()
  optimizer = make_optimizer(run.config.optimizer, run.steps)
  source = BatchSource(run.sources, run.mixture, 8)

  def trained():
    jax.clear_caches()
    step = jit_step(run, optimizer, mesh, everywhere(mesh))
    state = place(new_state(run.params, run.stats, optimizer), everywhere(mesh))
    tally = place(new_tally(run.tasks), everywhere(mesh))
    for batch in to_devices(load_batches(source, 0, 3), mesh):
      state, tally = step(state, tally, batch)
    return jax.device_get((state, tally))

  cold, written = trained(), set(entries(kept))
  assert any('jit_step' in path.name for path in written)
  warm = trained()
  assert set(entries(kept)) == written
  jax.config.update('jax_enable_compilation_cache', False)
  compilation_cache.reset_cache()
  without = trained()
  for other in (warm, without):
    jax.tree.map(np.testing.assert_array_equal, other, cold)
  moved = by_path(cold[0].params)
  assert any((moved[name] != np.asarray(x)).any() for name, x in by_path(run.params).items())
