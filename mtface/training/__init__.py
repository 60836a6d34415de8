"""Training: plan and check an experiment, the loop, the step, the optimiser, checkpoints and logs.

`loop.py` reads from top to bottom; what it calls is in the module that is named.
"""
