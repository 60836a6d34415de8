"""The entry point of `mtface` and `python -m mtface`, see mtface/cli/start.py."""

from __future__ import annotations

import sys

from mtface.cli.start import restart


def main() -> None:
  """Runs the command line of this process, and exits."""
  restart(sys.argv[1:])
  from mtface.cli.main import main as run  # with all commands: not twice

  run()
