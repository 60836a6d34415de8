"""What is made of a network's features: classifiers, identification, descriptors of clips.

Each command leaves rows in a JSON file of the workdir, as evaluation does.
"""
