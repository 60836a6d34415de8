"""What an experiment is: its fields, stages and config files, and config.json of a run, read.

Knows nothing of data, networks or devices; `checks.py` refuses what can be seen to be wrong without
them.
"""
