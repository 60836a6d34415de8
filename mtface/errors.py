"""How a command may end other than well or with a bug. What else is raised is a bug, and keeps its
traceback.
"""

EXIT_BAD_INPUT = 2  # starting it again would not help
EXIT_PREEMPTED = 75  # the state is saved: start it again (EX_TEMPFAIL of sysexits.h)
EXIT_PEER_LOST = 76  # another process of the run is gone: start all again


class UserError(Exception):
  """Bad input. The message is one line: which file or field, what was found, what was expected,
  what to do.

  `mtface.cli.main` prints it on stderr and exits with code 2; anything else that is raised is a bug
  and keeps its traceback.
  """


class Preempted(Exception):
  """All processes saved their state at one step, since one of them was asked to stop. The same
  command continues; exit code 75.
  """


def first_line(error: Exception) -> str:
  """What an exception of a library says, as a part of a message of ours."""
  return (str(error).splitlines() or [type(error).__name__])[0][:200]
