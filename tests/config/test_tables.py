"""Tables that modules of one's own extend: names, traits, options; what is loaded when."""

import subprocess
import sys

import pytest

from mtface.config import tables
from mtface.config.tables import Table
from mtface.errors import UserError
from tests.command import ROOT


def test_an_entry_is_what_was_registered():
  table = Table('loss', multi_label=False)

  @table.register('mine', {'gamma': 2.0}, multi_label=True)
  def mine(scores):
    return scores

  table.add('named', 'math:sqrt')
  assert list(table) == ['mine', 'named'] and len(table) == 2
  assert table['mine'].load() is mine
  assert (table['mine'].options, table['mine'].traits) == ({'gamma': 2.0}, {'multi_label': True})
  assert table['named'].load()(9) == 3
  assert table['named'].traits == {'multi_label': False}


def test_what_cannot_be_registered():
  table = Table('loss', multi_label=False)
  table.add('one', 'math:sqrt')
  table.add('one', 'math:sqrt', {'again': 1})
  assert table['one'].options == {'again': 1}, 'the same function, as when a module is loaded again'
  with pytest.raises(UserError, match=r"^loss 'one' is registered already; choose another name$"):
    table.add('one', 'math:log')
  with pytest.raises(UserError, match=r"'margin' is not a trait; the traits are: multi_label$"):
    table.add('two', 'math:log', margin=True)
  with pytest.raises(UserError, match=r"^config.tasks.x.loss 'two' is unknown; there are one$"):
    table.entry('two', 'config.tasks.x.loss')


@pytest.mark.parametrize(
  ('table', 'name'),
  [
    (table, name)
    for table in ('NETWORKS', 'LOSSES', 'OPTIMIZERS', 'SCHEDULES', 'AUGMENTATIONS', 'MIXTURES')
    for name in getattr(tables, table)
  ],
)
def test_entries_of_mtface_are_there(table, name):
  assert callable(getattr(tables, table)[name].load())


def test_configs_are_read_without_jax():
  code = (
    'import sys; from mtface.config.files import load_config; '
    "[load_config(n) for n in ('demo', 'sang2017:A2', 'rohani2023:C', 'savchenko2021')]; "
    "print(sorted({'jax', 'flax', 'optax', 'tensorflow_datasets'} & set(sys.modules)))"
  )
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
  assert done.stdout.strip() == '[]', done.stdout + done.stderr
