"""Reports for people: curves, sheets of faces, papers' tables with our results, config
descriptions.

Reads what the other packages left in a workdir and measures nothing itself, except for the faces
that it shows.
"""
