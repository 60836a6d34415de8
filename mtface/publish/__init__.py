"""Exports trained networks for use in other programs.

Weight files, with the metadata needed to use them.
"""
