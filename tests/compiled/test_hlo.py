"""The reading of HLO texts: shapes with their tiles, instructions, Python lines."""

import pytest

from mtface.compiled.hlo import Module, arrays, parse_shape
from tests.compiled import programs


@pytest.mark.parametrize(
  'text, size',
  [
    ('f32[8,16]{1,0}', 512),
    ('bf16[3,3,2,1]{3,2,1,0}', 36),
    ('pred[5]{0}', 5),
    ('s4[3]{0:E(4)}', 2),  # half a byte each
    ('f32[]', 4),
    ('u8[0]{0}', 0),
    ('token[]', 0),
    # Tiles of 8x128 fill the last two dimensions up; the second level packs two numbers into one.
    ('f32[3,5]{1,0:T(8,128)}', 8 * 128 * 4),
    ('bf16[256,48,48,32]{0,3,2,1:T(8,128)(2,1)}', 256 * 48 * 48 * 32 * 2),
    ('bf16[256,48,48,1]{0,2,1,3:T(8,128)(2,1)}', 256 * 48 * 48 * 2),
    ('bf16[3,3,1,1]{1,3,2,0:T(2,128)(2,1)}', 3 * 2 * 128 * 1 * 2),
    ('f32[200]{0:T(1024)}', 4096),
    ('f32[]{:T(128)}', 512),  # a scalar has a whole tile
  ],
)
def test_bytes_of_an_array(text, size):
  assert sum(array.bytes for array in arrays(parse_shape(text))) == size


def test_several_arrays_and_where_they_lie():
  found = arrays(parse_shape('((f32[4]{0:T(128)}), f32[2]{0:T(128)S(1)}, /*index=2*/u32[]{:S(2)})'))
  assert [(str(array), array.space) for array in found] == [
    ('f32[4]', 0),
    ('f32[2]', 1),
    ('u32[]', 2),
  ]


def test_instructions():
  module = Module(programs.GPU)
  assert list(module.computations) == ['add', 'fused_scatter', 'fused_slice', 'main', 'fused_wide']
  assert module.in_place == {0}
  product, start = module.entry['conv'], module.entry['all-reduce-start']
  assert (product.opcode, product.operands) == ('custom-call', ('a', 'k'))
  assert product.attribute('custom_call_target') == '__cublas$gemm'
  assert [str(array) for array in arrays(product.shape)] == ['bf16[8,16]', 'u8[64]']
  assert (start.called, start.operands) == (('add',), ('wide',))
  assert module.entry['a'].attribute('op_name') == "state.params['kernel']"
  assert module.entry['out'].index == 0
  assert module.entry['k'].index == 3
  assert module.entry.root.name == 'tuple'
  assert [user.name for user in module.entry.users['k']] == ['conv', 'again']


def test_python_lines():
  module = Module(programs.GPU)
  assert module.source(module.entry['conv']) == 'layers.py:120'
  assert module.source(module.entry['wide']) == ''
  older = programs.GPU.replace('stack_frame_id=1', 'source_file="/x/step.py" source_line=7')
  module = Module(older)
  assert module.source(module.entry['conv']) == 'step.py:7'


def test_how_often_a_loop_runs():
  assert Module(programs.LOOP).entry['while.1'].trips == 10
  unknown = Module(programs.LOOP.replace('known_trip_count', 'nothing'))
  assert unknown.entry['while.1'].trips is None
  escaped = Module(
    programs.LOOP.replace('"known_trip_count":{"n":"10"}', r'\"known_trip_count\":{\"n\":\"7\"}')
  )
  assert escaped.entry['while.1'].trips == 7
