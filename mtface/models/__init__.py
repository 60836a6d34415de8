"""Networks, one a file, as pure functions of their parameters; the layers that they are made of;
weights from and to files; known answers that show whether a machine computes them right.
"""
