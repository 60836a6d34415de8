"""Runs the demo page's JavaScript in Node.js on values that Python made."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest

SCRIPTS = pathlib.Path(__file__).parent / 'page'


def image(pixels: np.ndarray) -> dict[str, Any]:
  """An image as the page's functions take it; its data as a list."""
  height, width, *channels = pixels.shape
  return {
    'width': width,
    'height': height,
    'channels': channels[0] if channels else 1,
    'bytes': pixels.dtype == np.uint8,
    'data': pixels.ravel().tolist(),
  }


def run(script: str, cases: Any, folder: pathlib.Path) -> None:
  """Runs the tests in one file of `page/`, which read the cases from a file."""
  if not shutil.which('node'):
    pytest.skip('Node.js is not installed (node): the JavaScript of the demo page is not tested')
  path = folder / 'cases.json'
  path.write_text(json.dumps(cases))
  done = subprocess.run(
    ['node', '--test', str(SCRIPTS / script)],
    env=os.environ | {'MTFACE_CASES': str(path)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  passed = re.search(r'^\S+ pass (\d+)$', done.stdout, re.MULTILINE)
  assert passed and int(passed[1]) > 0, done.stdout
