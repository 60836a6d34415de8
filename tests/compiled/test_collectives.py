"""Collectives within fusions, counted by hand: where they begin, go on, end, and scatter a sum."""

from mtface.compiled.collectives import within
from mtface.compiled.hlo import Module
from mtface.compiled.program import read_program
from tests.compiled import programs

SHARD, WHOLE, SQUARE = 64 * 128 * 2, 512 * 128 * 2, 128 * 128 * 2


def test_each_is_counted_once():
  found = read_program(programs.WITHIN, 8, on_chip=True)
  gather, scatter = found.collectives
  assert (gather.kind, gather.bytes, gather.group) == ('all-gather', WHOLE, tuple(range(8)))
  assert (scatter.kind, scatter.bytes, scatter.group) == ('reduce-scatter', WHOLE, (0, 1, 2, 3))
  assert found.sent() == {'all-gather': (1, WHOLE), 'reduce-scatter': (1, WHOLE)}
  assert not gather.waits  # it needs weights alone, and products run beside it


def test_what_is_passed_on_moves_no_bytes():
  start, piece, end, scatter = read_program(programs.WITHIN, 8, on_chip=True).kernels
  assert start.bytes == SHARD + WHOLE
  assert piece.bytes == 2 * SQUARE
  assert end.bytes == 0
  assert scatter.bytes == WHOLE + SHARD


def test_fusions_without_a_collective_have_none():
  module = Module(programs.GPU)
  assert [within(module, line) for line in module.entry] == [None] * len(list(module.entry))
