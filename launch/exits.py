"""The exit codes of `mtface`, and which of them start a job again: one rule for all launchers."""

from __future__ import annotations

import signal

from mtface.errors import EXIT_BAD_INPUT, EXIT_PEER_LOST, EXIT_PREEMPTED

AGAIN = (EXIT_PREEMPTED, EXIT_PEER_LOST)


def starts_again(code: int) -> bool:
  """Whether the same command goes on when it is run again.

  Args:
    code: as `subprocess` returns it, -SIGNAL for a process that a signal ended, or as a shell does,
      128 + SIGNAL.

  A signal that mtface did not survive is a crash, `kill -9`, or memory that ran out: the newest
  checkpoint counts.
  """
  return code in AGAIN or code < 0 or code > 128


def describe(code: int) -> str:
  """What an exit code says, in words that go behind 'rank 1 '."""
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
