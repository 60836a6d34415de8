"""What figures allow, against sums by hand and published bandwidths."""

import pytest

from mtface.compiled import targets
from mtface.compiled.program import Collective
from mtface.compiled.roofline import (
  collective_seconds,
  other_grids,
  regrouped,
  roofline,
  scaling,
)
from mtface.compiled.targets import CARDS, Target

H100, V5E = CARDS['h100'], CARDS['v5e']
NODE, MANY = Target('h100:8', H100, (1, 8)), Target('h100:128x8', H100, (128, 8))
POD, SMALL = Target('v5e:16x16', V5E, (16, 16)), Target('v5e:4x4', V5E, (4, 4))
GIB = 2**30


def everyone(target):
  return tuple(range(target.devices))


def test_the_longer_of_memory_and_flops_counts():
  found = roofline(3.352e12, 989.4e12 / 2, H100, 'bfloat16')
  assert (found.memory, found.compute, found.step) == (1.0, 0.5, 1.0)
  assert roofline(3.352e12, 989.4e12, H100, 'float32').step == 2.0  # tf32 is half as fast
  assert roofline(1, 1, CARDS['cpu'], 'bfloat16').step == 0


def test_a_large_all_reduce_in_a_node_is_a_ring_over_nvlink():
  seconds = collective_seconds('all-reduce', 8 * GIB, everyone(NODE), NODE)
  assert seconds == pytest.approx(2 * 7 / 8 * 8 * GIB / 450e9, rel=1e-3)
  gathered = collective_seconds('all-gather', 8 * GIB, everyone(NODE), NODE)
  assert gathered == pytest.approx(seconds / 2, rel=1e-3)


def test_beyond_a_node_each_card_sends_an_eighth_over_its_port():
  seconds = collective_seconds('all-reduce', 8 * GIB, everyone(MANY), MANY)
  inside, between = 2 * 7 / 8 * 8 * GIB / 450e9, 2 * 127 / 128 * GIB / 50e9
  assert seconds == pytest.approx(inside + between, rel=3e-3)


def test_a_group_of_one_card_a_node_has_only_the_network():
  group = range(0, 1024, 8)
  seconds = collective_seconds('all-reduce', GIB, group, MANY)
  assert seconds == pytest.approx(2 * 127 / 128 * GIB / 50e9, rel=3e-3)


def test_small_arrays_take_their_latency():
  assert collective_seconds('all-reduce', 4, everyone(NODE), NODE) == pytest.approx(
    15.0e-6, abs=1e-9
  )
  many = 6.6e-6 + 2 * (7 * 0.6e-6 + 7 * 5e-6)  # 128 nodes are seven doublings
  assert collective_seconds('all-reduce', 4, everyone(MANY), MANY) == pytest.approx(many, abs=1e-9)


def test_a_whole_pods_all_reduce_has_the_published_bandwidth():
  """Google: 51.2 TB/s of all-reduce bandwidth for the 256 chips of a v5e pod, 102.4 for v6e."""
  for card, published in ((V5E, 51.2e12), (CARDS['v6e'], 102.4e12)):
    pod = Target('', card, (16, 16))
    seconds = collective_seconds('all-reduce', 64 * GIB, everyone(pod), pod)
    sent = 2 * 255 / 256 * 64 * GIB * 256
    assert sent / seconds == pytest.approx(published, rel=1e-3)


def test_a_small_slice_has_lines_for_rings():
  pod = collective_seconds('all-reduce', 64 * GIB, everyone(POD), POD)
  small = collective_seconds('all-reduce', 64 * GIB, everyone(SMALL), SMALL)
  assert small == pytest.approx(pod * 2 * (15 / 16) / (255 / 256), rel=1e-3)


def test_nothing_is_known_of_a_cpus_links():
  target = Target('cpu:8', CARDS['cpu'], (8,))
  assert collective_seconds('all-reduce', GIB, everyone(target), target) == 0
  assert collective_seconds('all-reduce', GIB, (3,), NODE) == 0


def collective(size, waits, group=tuple(range(8)), times=1):
  return Collective('all-reduce', times, size, group, waits)


def test_efficiency_alone_and_overlapped():
  size = 450e9 / (2 * 7 / 8)  # one second and 15 us
  sent = [collective(size, waits=False), collective(4, waits=True, times=2)]
  found = scaling(sent, 1.0, NODE)
  assert found.waiting == pytest.approx(30e-6, rel=1e-5)
  assert found.beside == pytest.approx(1 + 15e-6)
  assert found.alone == pytest.approx(1 / (1 + 1 + 45e-6))
  # two thirds of the step hide two thirds of the second
  assert found.overlapped == pytest.approx(1 / (1 + 1 / 3 + 45e-6), rel=1e-6)
  without = scaling(sent, 1.0, NODE, trains=False)
  assert without.overlapped == without.alone


def test_waiting_is_never_hidden():
  found = scaling([collective(450e9, waits=True)], 1.0, NODE)
  assert found.overlapped == found.alone < 0.5


def test_other_numbers_of_devices():
  assert other_grids(NODE, 1) == [(1, 8), (2, 8), (8, 8), (32, 8), (128, 8)]
  assert other_grids(POD, 1) == [(2, 2), (4, 4), (8, 8), (16, 16)]
  assert other_grids(NODE, 8) == []  # this program has no data axis
  assert other_grids(MANY, 8) == [(2, 8), (8, 8), (32, 8), (128, 8)]
  assert other_grids(Target('h100:1', H100, (1, 1)), 1) == []
  assert other_grids(Target('cpu:8', targets.CARDS['cpu'], (8,)), 1) == []
  grown = scaling([collective(GIB, waits=False)], 1.0, NODE, grid=(128, 8))
  direct = scaling([collective(GIB, waits=False, group=everyone(MANY))], 1.0, MANY)
  assert grown == direct


@pytest.mark.parametrize(
  'group, grown',
  [
    ((0, 1), (0, 1)),  # along fsdp: stays
    ((0, 2, 4, 6), tuple(range(0, 16, 2))),  # along data: grows
    (tuple(range(8)), tuple(range(16))),
  ],
)
def test_groups_grow_along_the_data_axis(group, grown):
  assert regrouped(group, 8, 16, fsdp=2) == grown
