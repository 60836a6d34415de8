"""From Python: `from mtface.evaluate import evaluate` measures a run, as `mtface evaluate` does."""

from mtface.evaluation.evaluate import evaluate

__all__ = ['evaluate']
