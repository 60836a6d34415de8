"""What people look at: curves, sheets of faces, papers' tables with ours, what a config stands for.

Reads what the other packages left in a workdir; measures nothing itself, but for the faces that it
shows.
"""
