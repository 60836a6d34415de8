"""From Python: `from mtface.build import build` prepares a data set, as `mtface build` does."""

from mtface.data.build import available, build

__all__ = ['available', 'build']
