"""A real Slurm for the tests in this folder: `make test-cluster` starts one by
tests/cluster/slurm.sh, and sets MTFACE_TEST_CLUSTER.
"""

import os

import pytest

from tests.cluster.jobs import MTFACE, STAND_IN, Cluster, Runs


@pytest.fixture(scope='session')
def _slurm():
  if not os.environ.get('MTFACE_TEST_CLUSTER'):
    pytest.skip('needs a Slurm cluster: make test-cluster')
  return Cluster()


@pytest.fixture
def cluster(_slurm):
  """The cluster, with no jobs on it before and after a test."""
  _slurm.clear()
  yield _slurm
  _slurm.clear()


@pytest.fixture(scope='session')
def tiny_ends(tmp_path_factory):
  """Where undisturbed runs of mtface are kept, to compare others with."""
  return tmp_path_factory.mktemp('undisturbed')


@pytest.fixture(params=[STAND_IN, MTFACE])
def runs(request, cluster, tmp_path) -> Runs:
  """A program to be launched: the stand-in, or mtface itself."""
  if request.param == STAND_IN:
    return Runs.of_stand_in(cluster)
  return Runs.of_mtface(
    cluster, request.getfixturevalue('tiny_data'), request.getfixturevalue('tiny_ends')
  )
