"""A network over images, batch by batch: its scores or features, and what follows from them.

Used while a network is trained, and of runs that are finished.
"""
