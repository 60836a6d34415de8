"""From Python: `from mtface.train import train` trains a config, as `mtface train` does."""

from mtface.training.loop import train

__all__ = ['train']
