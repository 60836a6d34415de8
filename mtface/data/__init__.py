"""From raw downloads to batches: building sets, naming parts of them, labels and images, mixtures.

All of it is a function of (config, seed, step), and of NumPy arrays on the host.
"""
