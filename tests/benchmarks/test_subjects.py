"""Every subject names its cases, for both sizes."""

import importlib

import pytest

from benchmarks.run import SUBJECTS


@pytest.mark.parametrize('tiny', [True, False])
@pytest.mark.parametrize('subject', SUBJECTS)
def test_cases_have_names_of_their_own(subject, tiny):
  names = [case.name for case in importlib.import_module(f'benchmarks.{subject}').cases(tiny)]
  assert names and len(set(names)) == len(names)
