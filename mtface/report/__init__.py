"""Reports for people: curves, sheets of faces, papers' tables with ours, what a config means.

Reads what other packages left in a workdir; measures nothing, except for its sheets of faces.
"""
