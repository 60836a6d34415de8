"""HLO texts written by hand, in the forms that XLA prints, small enough to count what they move."""

GPU = """\
HloModule jit_step, is_scheduled=true, input_output_alias={ {0}: (0, {}, may-alias) }, \
entry_computation_layout={(f32[8,16]{1,0})->(f32[8,16]{1,0}, f32[8]{0})}, num_partitions=4

FileNames
1 "/home/me/mtface/models/layers.py"

FunctionNames
1 "step"

FileLocations
1 {file_name_id=1 function_name_id=1 line=120 end_line=120 column=3 end_column=9}

StackFrames
1 {file_location_id=1 parent_frame_id=1}

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%fused_scatter (p0: f32[8,16], p1: s32[4,2], p2: f32[4]) -> f32[8,16] {
  %p0 = f32[8,16]{1,0} parameter(0)
  %p1 = s32[4,2]{1,0} parameter(1)
  %p2 = f32[4]{0} parameter(2)
  ROOT %scatter.1 = f32[8,16]{1,0} scatter(%p0, %p1, %p2), to_apply=%add, \
metadata={op_name="jit(step)/transpose(jvp())/select_and_scatter" stack_frame_id=1}
}

%fused_slice (p0.1: f32[8,16], p1.1: f32[8]) -> f32[8] {
  %p0.1 = f32[8,16]{1,0} parameter(0)
  %p1.1 = f32[8]{0} parameter(1)
  %slice.1 = f32[8,1]{1,0} slice(%p0.1), slice={[0:8], [2:3]}
  %name.1 = f32[8]{0} bitcast(%slice.1)
  ROOT %add.1 = f32[8]{0} add(%name.1, %p1.1)
}

ENTRY %main (a: f32[8,16], i: s32[4,2], u: f32[4], k: bf16[16,16]) -> (f32[8,16], f32[8]) {
  %a = f32[8,16]{1,0} parameter(0), metadata={op_name="state.params['kernel']"}
  %i = s32[4,2]{1,0} parameter(1)
  %u = f32[4]{0} parameter(2)
  %k = bf16[16,16]{1,0} parameter(3)
  %conv = (bf16[8,16]{1,0}, u8[64]{0}) custom-call(%a, %k), \
custom_call_target="__cublas$gemm", \
metadata={op_name="jit(step)/jvp()/dot_general" stack_frame_id=1}
  %out = bf16[8,16]{1,0} get-tuple-element(%conv), index=0
  %wide = f32[8,16]{1,0} fusion(%out), kind=kLoop, calls=%fused_wide
  %all-reduce-start = ((f32[8,16]{1,0}), f32[8,16]{1,0}) all-reduce-start(%wide), channel_id=1, \
replica_groups=mesh['data'=4,'fsdp'=1] {'data'}, to_apply=%add
  %all-reduce-done = f32[8,16]{1,0} all-reduce-done(%all-reduce-start)
  %again = f32[8,16]{1,0} custom-call(%all-reduce-done, %k), custom_call_target="__cublas$gemm"
  %placed = f32[8,16]{1,0} fusion(%again, %i, %u), kind=kInput, calls=%fused_scatter
  %one = f32[8]{0} constant({...})
  %column = f32[8]{0} fusion(%placed, %one), kind=kLoop, calls=%fused_slice
  %all-reduce.2 = f32[8]{0} all-reduce(%column), channel_id=2, \
replica_groups={{0,1},{2,3}}, to_apply=%add
  ROOT %tuple = (f32[8,16]{1,0}, f32[8]{0}) tuple(%placed, %all-reduce.2)
}

%fused_wide (p0.2: bf16[8,16]) -> f32[8,16] {
  %p0.2 = bf16[8,16]{1,0} parameter(0)
  ROOT %convert.1 = f32[8,16]{1,0} convert(%p0.2)
}
"""

LOOP = """\
HloModule jit_loop, is_scheduled=true, num_partitions=1

%body (s: (s32[], f32[10,4], f32[4])) -> (s32[], f32[10,4], f32[4]) {
  %s = (s32[], f32[10,4]{1,0}, f32[4]{0}) parameter(0)
  %n = s32[] get-tuple-element(%s), index=0
  %all = f32[10,4]{1,0} get-tuple-element(%s), index=1
  %row = f32[4]{0} get-tuple-element(%s), index=2
  %more = f32[4]{0} fusion(%row, %all, %n), kind=kLoop, calls=%fused_take
  %kept = f32[10,4]{1,0} fusion(%all, %more, %n), kind=kLoop, calls=%fused_put
  ROOT %next = (s32[], f32[10,4]{1,0}, f32[4]{0}) tuple(%n, %kept, %more)
}

%condition (s.1: (s32[], f32[10,4], f32[4])) -> pred[] {
  %s.1 = (s32[], f32[10,4]{1,0}, f32[4]{0}) parameter(0)
  %n.1 = s32[] get-tuple-element(%s.1), index=0
  %ten = s32[] constant(10)
  ROOT %less = pred[] compare(%n.1, %ten), direction=LT
}

%fused_take (r: f32[4], w: f32[10,4], m: s32[]) -> f32[4] {
  %r = f32[4]{0} parameter(0)
  %w = f32[10,4]{1,0} parameter(1)
  %m = s32[] parameter(2)
  %zero = s32[] constant(0)
  %part = f32[1,4]{1,0} dynamic-slice(%w, %m, %zero), dynamic_slice_sizes={1,4}
  %flat = f32[4]{0} bitcast(%part)
  ROOT %sum.1 = f32[4]{0} add(%r, %flat)
}

%fused_put (w.1: f32[10,4], r.1: f32[4], m.1: s32[]) -> f32[10,4] {
  %w.1 = f32[10,4]{1,0} parameter(0)
  %r.1 = f32[4]{0} parameter(1)
  %m.1 = s32[] parameter(2)
  %line = f32[1,4]{1,0} bitcast(%r.1)
  %zero.1 = s32[] constant(0)
  ROOT %put = f32[10,4]{1,0} dynamic-update-slice(%w.1, %line, %m.1, %zero.1)
}

%small (q: f32[4]) -> f32[4] {
  %q = f32[4]{0} parameter(0)
  ROOT %twice = f32[4]{0} add(%q, %q)
}

%large (q.1: f32[4]) -> f32[4] {
  %q.1 = f32[4]{0} parameter(0)
  %copied = f32[4]{0} copy(%q.1)
  ROOT %thrice = f32[4]{0} add(%copied, %q.1)
}

ENTRY %main (a: f32[10,4], b: f32[4], c: pred[]) -> f32[4] {
  %a = f32[10,4]{1,0} parameter(0)
  %b = f32[4]{0} parameter(1)
  %c = pred[] parameter(2)
  %start = s32[] constant(0)
  %given = (s32[], f32[10,4]{1,0}, f32[4]{0}) tuple(%start, %a, %b)
  %while.1 = (s32[], f32[10,4]{1,0}, f32[4]{0}) while(%given), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"10"},"known_init_step":{"init":"0","step":"1"}}
  %last = f32[4]{0} get-tuple-element(%while.1), index=2
  ROOT %chosen = f32[4]{0} conditional(%c, %last, %last), true_computation=%small, \
false_computation=%large
}
"""

TPU = """\
HloModule jit_step, is_scheduled=true, num_partitions=1

%fused_product (x: bf16[256,32], w: bf16[32,32]) -> bf16[256,32] {
  %x = bf16[256,32]{0,1:T(8,128)(2,1)S(1)} parameter(0)
  %w = bf16[32,32]{1,0:T(8,128)(2,1)} parameter(1)
  ROOT %product = bf16[256,32]{0,1:T(8,128)(2,1)} convolution(%x, %w), dim_labels=bf_io->bf
}

ENTRY %main (p: bf16[256,32], q: bf16[32,32]) -> bf16[256,32] {
  %p = bf16[256,32]{0,1:T(8,128)(2,1)} parameter(0)
  %q = bf16[32,32]{1,0:T(8,128)(2,1)} parameter(1)
  %scalar = f32[]{:T(128)} constant(0)
  %copy-start = (bf16[256,32]{0,1:T(8,128)(2,1)S(1)}, bf16[256,32]{0,1:T(8,128)(2,1)}, \
u32[]{:S(2)}) copy-start(%p)
  %slice-start = ((bf16[32,32]{1,0:T(8,128)(2,1)}), bf16[16,32]{1,0:T(8,128)(2,1)S(1)}, \
s32[]{:S(2)}) slice-start(%q), slice={[0:16], [0:32]}
  %copy-done = bf16[256,32]{0,1:T(8,128)(2,1)S(1)} copy-done(%copy-start)
  %slice-done = bf16[16,32]{1,0:T(8,128)(2,1)S(1)} slice-done(%slice-start)
  %joined = bf16[32,32]{1,0:T(8,128)(2,1)S(1)} custom-call(%slice-done, %slice-done), \
custom_call_target="ConcatBitcast"
  %on_chip = bf16[256,32]{0,1:T(8,128)(2,1)S(1)} add(%copy-done, %copy-done)
  ROOT %fusion.1 = bf16[256,32]{0,1:T(8,128)(2,1)} fusion(%on_chip, %q), kind=kOutput, \
calls=%fused_product
}
"""

# Of eight TPUs: layouts are whole tiles, so that sizes are those of the dimensions.
WITHIN = """\
HloModule jit_step, is_scheduled=true, num_partitions=8

%add (x: bf16[], y: bf16[]) -> bf16[] {
  %x = bf16[] parameter(0)
  %y = bf16[] parameter(1)
  ROOT %sum = bf16[] add(%x, %y)
}

%begin (p: bf16[64,128]) -> (bf16[64,128], bf16[512,128], u32[]) {
  %p = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(0)
  %gather = bf16[512,128]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=1, \
replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={0}
  ROOT %begun = (bf16[64,128]{1,0:T(8,128)(2,1)}, bf16[512,128]{1,0:T(8,128)(2,1)}, \
u32[]{:S(2)}) custom-call(%gather), custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.1 (p0: bf16[64,128], p1: bf16[512,128], p2: u32[], a: bf16[128,128]) \
-> (bf16[128,128], bf16[64,128], bf16[512,128], bf16[512,128], u32[]) {
  %a = bf16[128,128]{1,0:T(8,128)(2,1)} parameter(3)
  %product = bf16[128,128]{1,0:T(8,128)(2,1)} dot(%a, %a), lhs_contracting_dims={1}, \
rhs_contracting_dims={0}
  %p0 = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(0)
  %p1 = bf16[512,128]{1,0:T(8,128)(2,1)} parameter(1)
  %on = bf16[512,128]{1,0:T(8,128)(2,1)} all-gather(%p0), channel_id=1, \
replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={0}
  %p2 = u32[]{:S(2)} parameter(2)
  ROOT %pieces = (bf16[128,128]{1,0:T(8,128)(2,1)}, bf16[64,128]{1,0:T(8,128)(2,1)}, \
bf16[512,128]{1,0:T(8,128)(2,1)}, bf16[512,128]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) \
tuple(%product, %p0, %p1, %on, %p2)
}

%end (q0: bf16[64,128], q1: bf16[512,128], q2: u32[]) -> bf16[512,128] {
  %q0 = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(0)
  %q1 = bf16[512,128]{1,0:T(8,128)(2,1)} parameter(1)
  %off = bf16[512,128]{1,0:T(8,128)(2,1)} all-gather(%q0), channel_id=1, \
replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={0}
  %q2 = u32[]{:S(2)} parameter(2)
  ROOT %ended = bf16[512,128]{1,0:T(8,128)(2,1)} custom-call(%off), \
custom_call_target="AsyncCollectiveDone"
}

%all-reduce-scatter.1 (g: bf16[512,128], i: s32[]) -> bf16[64,128] {
  %g = bf16[512,128]{1,0:T(8,128)(2,1)} parameter(0)
  %i = s32[]{:S(2)} parameter(1)
  %whole = bf16[512,128]{1,0:T(8,128)(2,1)} all-reduce(%g), channel_id=2, \
replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
  %none = s32[]{:S(2)} constant(0)
  ROOT %part = bf16[64,128]{1,0:T(8,128)(2,1)} dynamic-slice(%whole, %i, %none), \
dynamic_slice_sizes={64,128}
}

ENTRY %main (w: bf16[64,128], x: bf16[128,128], n: s32[]) -> (bf16[64,128], bf16[128,128]) {
  %w = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(0)
  %x.1 = bf16[128,128]{1,0:T(8,128)(2,1)} parameter(1)
  %n = s32[]{:S(2)} parameter(2)
  %start = (bf16[64,128]{1,0:T(8,128)(2,1)}, bf16[512,128]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) \
fusion(%w), kind=kCustom, output_to_operand_aliasing={{0}: (0, {})}, calls=%begin
  %s0 = bf16[64,128]{1,0:T(8,128)(2,1)} get-tuple-element(%start), index=0
  %s1 = bf16[512,128]{1,0:T(8,128)(2,1)} get-tuple-element(%start), index=1
  %s2 = u32[]{:S(2)} get-tuple-element(%start), index=2
  %fusion.1 = (bf16[128,128]{1,0:T(8,128)(2,1)}, bf16[64,128]{1,0:T(8,128)(2,1)}, \
bf16[512,128]{1,0:T(8,128)(2,1)}, bf16[512,128]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) \
fusion(%s0, %s1, %s2, %x.1), kind=kOutput, output_to_operand_aliasing={{1}: (0, {}), {2}: (1, \
{}), {3}: (1, {}), {4}: (2, {})}, calls=%async_collective_fusion.1
  %squared = bf16[128,128]{1,0:T(8,128)(2,1)} get-tuple-element(%fusion.1), index=0
  %t0 = bf16[64,128]{1,0:T(8,128)(2,1)} get-tuple-element(%fusion.1), index=1
  %t1 = bf16[512,128]{1,0:T(8,128)(2,1)} get-tuple-element(%fusion.1), index=3
  %t2 = u32[]{:S(2)} get-tuple-element(%fusion.1), index=4
  %done = bf16[512,128]{1,0:T(8,128)(2,1)} fusion(%t0, %t1, %t2), kind=kCustom, \
output_to_operand_aliasing={{}: (1, {})}, calls=%end
  %sharded = bf16[64,128]{1,0:T(8,128)(2,1)} fusion(%done, %n), kind=kCustom, \
calls=%all-reduce-scatter.1
  ROOT %tuple = (bf16[64,128]{1,0:T(8,128)(2,1)}, bf16[128,128]{1,0:T(8,128)(2,1)}) \
tuple(%sharded, %squared)
}
"""
