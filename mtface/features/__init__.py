"""Uses of a network's features: classifiers, identification, descriptors of clips.

Each command adds rows to a JSON file in the workdir, as evaluation does.
"""
