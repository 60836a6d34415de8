"""The exit codes of `mtface`, and which of them restart a job: one rule for all launchers."""

from __future__ import annotations

import signal

from mtface.errors import EXIT_BAD_INPUT, EXIT_PEER_LOST, EXIT_PREEMPTED

AGAIN = (EXIT_PREEMPTED, EXIT_PEER_LOST)


def starts_again(code: int) -> bool:
  """Whether rerunning the same command would resume the run.

  Args:
    code: as returned by `subprocess`, -SIGNAL for a process killed by a signal, or by a shell, 128
      + SIGNAL.

  A signal that killed mtface means a crash, `kill -9` or running out of memory: the run resumes
  from the newest checkpoint.
  """
  return code in AGAIN or code < 0 or code > 128


def describe(code: int) -> str:
  """The meaning of an exit code, worded to follow 'rank 1 '."""
  if code < 0 or code > 128:
    return f'was killed by {_signal_name(-code if code < 0 else code - 128)}'
  meaning = {
    0: 'done',
    EXIT_BAD_INPUT: 'bad input',
    EXIT_PREEMPTED: 'its state is saved',
    EXIT_PEER_LOST: 'it lost a peer',
  }
  return f'exited with code {code}' + (f': {meaning[code]}' if code in meaning else '')


def _signal_name(number: int) -> str:
  try:
    return signal.Signals(number).name
  except ValueError:
    return f'signal {number}'
