"""mtface: one network for many face tasks, trained on partly labelled sets.

Packages, each of which imports only those before it: config, faces, data, models, parallel, inference, training, evaluation, features,
publish, report, cli. The modules beside them are the vocabulary that all of them share.
"""
