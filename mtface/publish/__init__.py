"""Trained networks for other people's programs.

Files of weights, with what must be known to use them.
"""
