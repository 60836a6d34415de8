"""Files of `mtface predict` that are not whole: none where something failed, and another name where
the user stopped.
"""

import json

import numpy as np
import pytest

from mtface.publish.inputs import find_inputs
from mtface.publish.sinks import LINES_FILE, Seen, opened
from tests.cartoons import save


@pytest.fixture
def seen(tmp_path):
  (of,) = find_inputs([str(save(tmp_path / 'a.png', np.zeros((20, 30, 3), np.uint8)))])
  return Seen(of, (20, 30), ())


def stopped(output, seen, error):
  with pytest.raises(error), opened([output], {}) as sinks:
    for sink in sinks:
      sink.add(seen)
    raise error


@pytest.mark.parametrize('name', ['out.jsonl', 'out.csv', 'folder'])
def test_what_was_found_before_an_interruption_is_kept(tmp_path, seen, capsys, name):
  output = tmp_path / name
  path = output / LINES_FILE if name == 'folder' else output
  stopped(output, seen, KeyboardInterrupt)
  assert not path.exists()
  kept = path.with_name(f'{path.name}.interrupted')
  assert f'{kept}: what was found before' in capsys.readouterr().err
  text = kept.read_text()
  if name == 'out.csv':
    assert text.startswith('input,frame,')
  else:
    assert json.loads(text)['size'] == [30, 20]
  assert [of.name for of in kept.parent.iterdir() if of.name.startswith('.')] == []


def test_nothing_is_left_where_something_failed(tmp_path, seen):
  stopped(tmp_path / 'out.jsonl', seen, ZeroDivisionError)
  assert [of.name for of in tmp_path.iterdir()] == ['a.png']
