"""The expected ways for a command to fail. Any other exception is a bug and keeps its traceback."""

EXIT_BAD_INPUT = 2  # retrying would not help
EXIT_PREEMPTED = 75  # the state is saved: restart it (EX_TEMPFAIL in sysexits.h)
EXIT_PEER_LOST = 76  # another process of the run is gone: restart all of them


class UserError(Exception):
  """Bad input. The message is one line: which file or field, what was found, what was expected, and
  what to do.

  `mtface.cli.main` prints it on stderr and exits with code 2; anything else that is raised is a bug
  and keeps its traceback.
  """


class Diverged(UserError):
  """The loss of a run is no longer finite."""


class Preempted(Exception):
  """All processes saved their state at the same step because one of them was asked to stop. Rerun
  the same command to resume; exit code 75.
  """


def first_line(error: Exception) -> str:
  """The first line of a library's exception, for use in our own messages."""
  return (str(error).splitlines() or [type(error).__name__])[0][:200]
