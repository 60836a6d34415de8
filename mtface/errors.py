"""The one exception that means "the input is wrong", as opposed to "the program is wrong"."""


class UserError(Exception):
  """Bad input. The message is one line: which file or field, what was found, what was expected, what to do.

  `mtface.cli` prints it on stderr and exits with code 2; anything else that is raised is a bug and keeps its traceback.
  """
