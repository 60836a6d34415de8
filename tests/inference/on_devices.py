"""What test_runner.py runs on devices of its own: two networks over three batches, whose values are
those of NumPy. Prints the compiled program.
"""

import jax
import numpy as np

from mtface.inference.runner import _Runner
from mtface.parallel.sharding import make_mesh, shared


def main():
  mesh = make_mesh()
  runner = _Runner(
    lambda params, stats, images: {'mean': params * images.mean((1, 2, 3))}, mesh, 16
  )
  images = np.random.default_rng(0).integers(0, 255, (37, 4, 4, 1), np.uint8)
  batches = [(images[start : start + 16], start) for start in range(0, 37, 16)]
  networks = [(params, None) for params in (2.0, 3.0)]
  found = list(runner.over(networks, batches))
  assert [start for _, start in found] == [0, 16, 32]
  for i, (params, _) in enumerate(networks):
    values = np.concatenate([of[i]['mean'] for of, _ in found])
    expected = params * (images / 127.5 - 1).mean((1, 2, 3))  # what networks see
    np.testing.assert_allclose(values, expected, atol=1e-6)
  batch = jax.ShapeDtypeStruct((16, *images.shape[1:]), np.uint8, sharding=shared(mesh))
  print(runner._run.lower(2.0, None, batch).compile().as_text())


if __name__ == '__main__':
  main()
