"""The command line: the commands, their flags, and how a command ends.

The only place that knows of flags. Commands call the other packages, and say where the result is.
"""
