"""Facts of the machine, against what the kernel says."""

import collections
import os
import pathlib
import re

import pytest

from benchmarks import machine


def read(path):
  return pathlib.Path(path).read_text()


def test_machine_facts():
  found = machine.machine()
  assert found['cores'] == len(os.sched_getaffinity(0))
  kilobytes = int(re.search(r'MemTotal:\s+(\d+) kB', read('/proc/meminfo'))[1])
  assert found['memory_gb'] == pytest.approx(kilobytes * 1024 / 1e9, abs=0.1)
  assert found['processor'].split()[0] in read('/proc/cpuinfo')
  assert len(machine.moment()['load_before']) == 3


def test_the_share_that_the_host_gave_away(monkeypatch):
  times = collections.namedtuple('times', 'user system idle steal guest')
  monkeypatch.setattr(machine.psutil, 'cpu_times', lambda: times(130.0, 10.0, 55.0, 5.0, 30.0))
  # of 60 seconds 5; a guest's 30 are also a user's
  assert machine.stolen(times(100.0, 5.0, 35.0, 0.0, 0.0)) == pytest.approx(5 / 60)
  short = collections.namedtuple('short', 'user idle')
  monkeypatch.setattr(machine.psutil, 'cpu_times', lambda: short(2.0, 2.0))
  assert machine.stolen(short(1.0, 1.0)) == 0
