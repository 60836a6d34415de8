"""Networks, one a file, as pure functions of their parameters, and the layers that they are made of.

Also their weights from and to files, and known answers that show whether a machine computes them right.
"""
