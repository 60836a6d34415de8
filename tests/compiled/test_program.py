"""What is said of a program, against counts by hand: traffic, kernels, collectives, memory."""

import pytest

from mtface.compiled.program import read_program
from tests.compiled import programs

A, K, OUT, COLUMN = 8 * 16 * 4, 16 * 16 * 2, 8 * 16 * 2, 8 * 4  # bytes of the arrays of GPU


@pytest.fixture(scope='module')
def gpu():
  return read_program(programs.GPU, 4, on_chip=False)


def test_traffic_of_each_kind(gpu):
  indices, updates = 4 * 2 * 4, 4 * 4
  assert gpu.by_kind() == {
    # each product reads both arrays, the first one writes also the 64 bytes that it works in
    'custom-call __cublas$gemm': (2, A + K + OUT + 64 + A + K + A),
    'fusion': (3, OUT + A + A + indices + updates + A + 3 * COLUMN),  # a column of `placed` alone
    'all-reduce': (2, 2 * A + 2 * COLUMN),
  }
  assert gpu.bytes == sum(size for _, size in gpu.by_kind().values())


def test_what_kernels_contain(gpu):
  assert gpu.parts() == {
    'scatter': 1,
    'select-and-scatter': 0,
    'sort': 0,
    'transpose': 0,
    'reduce-window': 0,
    'gather': 0,
  }
  (scatter,) = [kernel for kernel in gpu.kernels if 'scatter' in kernel.parts]
  assert (scatter.operation, scatter.source) == ('backward select_and_scatter', 'layers.py:120')
  assert scatter.result == 'f32[8,16]'


def test_collectives(gpu):
  first, second = gpu.collectives
  assert (first.kind, first.bytes, first.group, first.waits) == (
    'all-reduce',
    A,
    (0, 1, 2, 3),
    True,
  )
  assert (second.bytes, second.group, second.waits) == (COLUMN, (0, 1), False)
  assert gpu.sent() == {'all-reduce': (2, A + COLUMN)}


def test_nothing_is_sent_within_one_device():
  alone = programs.GPU.replace('{{0,1},{2,3}}', '{{0},{1}}').replace("'data'=4", "'data'=1")
  assert read_program(alone, 1, on_chip=False).collectives == []


def test_memory_at_its_peak(gpu):
  """When the first product has been made wide: what it worked in is gone, as is its own result
  after that; then two arrays of A at a time, of which `placed` lies where the argument did.
  """
  assert [buffer.bytes for buffer in gpu.peak] == [A, A]
  assert sum(buffer.bytes for buffer in gpu.peak) > OUT + A


def test_loops_count_as_often_as_they_run():
  found = read_program(programs.LOOP, 1, on_chip=False)
  row, number = 4 * 4, 4
  take = 3 * row + number  # the row, that of the matrix, the sum; and which one
  put = 2 * row + number  # the row read and written where the matrix lies
  large = 2 * row + 3 * row  # a copy, and a sum of two: more than the other branch
  assert found.bytes == 10 * (take + put) + large
  assert found.by_kind()['fusion'] == (20, 10 * (take + put))
  assert found.unknown_loops == 0


def test_a_loop_of_unknown_length_counts_once_and_is_told():
  text = programs.LOOP.replace('known_trip_count', 'nothing')
  found = read_program(text, 1, on_chip=False)
  assert found.unknown_loops == 1
  assert found.by_kind()['fusion'][0] == 2


def test_memory_on_the_chip_is_no_traffic():
  found = read_program(programs.TPU, 1, on_chip=True)
  x, half = 256 * 32 * 2, 16 * 128 * 2  # 32 columns fill a tile of 128
  assert found.by_kind() == {
    'fusion': (1, 32 * 128 * 2 + x),  # the kernel, and the result; the images are on the chip
    'copy beside others': (1, x),
    'slice beside others': (1, half),
    'add': (1, 0),
  }
  assert found.kernels[-1].parts == ()


def test_elsewhere_every_space_but_the_hosts_is_memory():
  """GPUs mark what NCCL sends with a space of its own, which is the card's memory too."""
  text = programs.GPU.replace('f32[8]{0} all-reduce(', 'f32[8]{0:S(1)} all-reduce(')
  assert read_program(text, 4, on_chip=False).by_kind()['all-reduce'] == (2, 2 * A + 2 * COLUMN)
  text = text.replace('S(1)', 'S(5)')
  assert read_program(text, 4, on_chip=False).by_kind()['all-reduce'] == (2, 2 * A + COLUMN)
