"""Every subject names its cases, for both sizes."""

import importlib

import pytest

from benchmarks.prediction import SAVCHENKO, savchenko
from benchmarks.run import SUBJECTS
from mtface.config.tables import NETWORKS


@pytest.mark.parametrize('tiny', [True, False])
@pytest.mark.parametrize('subject', SUBJECTS)
def test_cases_have_names_of_their_own(subject, tiny):
  names = [case.name for case in importlib.import_module(f'benchmarks.{subject}').cases(tiny)]
  assert names and len(set(names)) == len(names)


@pytest.mark.parametrize('network', [name for name in SAVCHENKO if name != 'bknet'])
def test_networks_of_savchenkos_table_are_as_wide_as_in_configs(network):
  for contestant in savchenko(network, tiny=False).contestants:
    assert contestant.options['width'] == NETWORKS.entry(network, 'network').options['width']
