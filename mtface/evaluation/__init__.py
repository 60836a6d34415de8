"""Measuring trained runs: selections of checkpoints on sets, cross-validation, sweeps, comparisons.

Each leaves rows in a JSON file of the workdir, which the tables and reports are made of.
"""
