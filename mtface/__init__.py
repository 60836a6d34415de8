"""One network for many face tasks. Each package imports only those before it: config, faces, data,
models, parallel, inference, training, evaluation, features, publish, report, cli. The modules
beside them are shared by all; build, train and evaluate are there for use from Python.
"""
