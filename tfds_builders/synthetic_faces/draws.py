"""Random numbers that depend on (seed, source, split, index, name) alone.

Face i is the same whatever the number of faces, the batch it is drawn in, or the parameters added
around it. The generator is SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom
number generators"), which is counter-based: output i of a stream is `mix64(key + (i + 1) * GAMMA)`.
Every name has a stream of its own.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import numpy as np
from scipy import special

GAMMA = np.uint64(0x9E3779B97F4A7C15)


def mix64(state: np.ndarray) -> np.ndarray:
  """The output function of SplitMix64; uint64 in, uint64 of the same shape out."""
  state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return state ^ (state >> np.uint64(31))


@functools.cache
def _key(text: str) -> np.uint64:
  return np.uint64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], 'little'))


class Draws:
  """The random numbers of the faces `indices` (int [N]) of one source and split."""

  def __init__(self, seed: int, source: str, split: str, indices: Sequence[int] | np.ndarray):
    self.stream = f'{seed}/{source}/{split}'
    self.counters = (np.asarray(indices, np.uint64) + np.uint64(1)) * GAMMA

  def __len__(self) -> int:
    return len(self.counters)

  def bits(self, name: str) -> np.ndarray:
    """uint64 [N]: output `index` of the SplitMix64 stream whose seed is the SHA-256 of (seed,
    source, split, name).
    """
    return mix64(_key(f'{self.stream}/{name}') + self.counters)

  def uniform(self, name: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """float64 [N], uniform in (low, high); 53 random bits, never exactly an end."""
    unit = ((self.bits(name) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return low + (high - low) * unit

  def normal(self, name: str, mean: float = 0.0, std: float = 1.0, clip: float = 2.5) -> np.ndarray:
    """float64 [N], normal, cut off at `clip` standard deviations."""
    return mean + std * np.clip(special.ndtri(self.uniform(name)), -clip, clip)

  def chance(self, name: str, probability: float | np.ndarray) -> np.ndarray:
    """bool [N], True with `probability` (a number or [N])."""
    return self.uniform(name) < probability

  def choice(self, name: str, weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """int64 [N]: an index into `weights` ([K], or [N, K] for weights that differ by face), in
    proportion to them.
    """
    edges = np.cumsum(np.atleast_2d(np.asarray(weights, np.float64)), axis=1)
    point = self.uniform(name) * edges[:, -1]
    return np.minimum((point[:, None] > edges).sum(axis=1), edges.shape[1] - 1)


def pixel_noise(keys: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """Near-normal noise of unit variance, float32 [N, *shape]; row n depends on `keys[n]` (uint64
  [N]) alone.

  A value is the sum of the four 16-bit quarters of one 64-bit number: as close to normal as sensor
  noise is.
  """
  counters = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * GAMMA
  bits = mix64(keys[:, None] + counters)
  total = np.zeros(bits.shape, np.uint64)
  for quarter in range(4):
    total += (bits >> np.uint64(16 * quarter)) & np.uint64(0xFFFF)
  mean, std = 4 * 65535 / 2, np.sqrt(4 * (65536**2 - 1) / 12)
  return ((total.astype(np.float32) - np.float32(mean)) / np.float32(std)).reshape(
    len(keys), *shape
  )
