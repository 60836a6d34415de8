"""What holds without Apache Beam; tests/beam has what needs it."""

import sys

import pytest

from mtface.data import build as build_lib
from mtface.errors import UserError


def test_without_beam_the_error_says_how_to_get_it(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'apache_beam', None)  # as if it were not installed
  with pytest.raises(UserError, match=r"needs Apache Beam.*pip install 'mtface\[beam\]'"):
    build_lib.build('wiki', data_dir=tmp_path / 'data', manual_dir=tmp_path, beam_options=[])
  assert not (tmp_path / 'data').exists()
