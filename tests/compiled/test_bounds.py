"""The compiled training step stays within `bounds.BOUNDS`: `make test-compiled-tpu` and `make
test-compiled-gpu` have what compiles for TPUs and for GPUs; elsewhere these are skipped.
"""

import importlib.util

import pytest

from tests.compiled.bounds import BOUNDS, Bounds, compiled, exceeded, figures

NEEDS = {'h100:8': 'jax_cuda12_plugin', 'v5e:2x2': 'libtpu'}


@pytest.mark.timeout(3600)  # a minute or two, much more beside other work
@pytest.mark.parametrize('target', BOUNDS)
def test_the_step_stays_within_its_bounds(target):
  if importlib.util.find_spec(NEEDS[target]) is None:
    pytest.skip(f'{NEEDS[target]} is not installed')
  record = compiled(target)
  assert record['memory']['fits']
  assert set(record['collectives']) == {'all-reduce'}
  # three gradients' worth of products, and little else: 3 x 250 MFLOP
  assert 740e6 < record['flops_image'] < 790e6
  found = figures(record)
  print(target, found)
  assert exceeded(found, BOUNDS[target]) == {}


def test_what_is_over_a_bound_is_named():
  bounds = Bounds(10, 100, 100, scatters=1, all_reduces=2, waited_for=2)
  within = Bounds(10.4, 104, 104, scatters=1, all_reduces=2, waited_for=0)
  assert exceeded(within, bounds) == {}
  over = within._replace(mib=10.6, scatters=2, sorts=1)
  assert exceeded(over, bounds) == {'mib': (10.6, 10.5), 'scatters': (2, 1), 'sorts': (1, 0)}
