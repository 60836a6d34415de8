"""Who takes part in a collective, in each way that XLA writes it."""

import pytest

from mtface.compiled.groups import first_group


@pytest.mark.parametrize(
  'text, group',
  [
    ('replica_groups={{0,2},{1,3}}', (0, 2)),
    ('replica_groups={}', (0, 1, 2, 3, 4, 5, 6, 7)),
    ('channel_id=1', (0, 1, 2, 3, 4, 5, 6, 7)),
    ('replica_groups=[1,8]<=[8]', (0, 1, 2, 3, 4, 5, 6, 7)),
    ('replica_groups=[2,4]<=[8]', (0, 1, 2, 3)),
    # 0..7 as 4 rows of 2, turned over: the columns are the groups
    ('replica_groups=[2,4]<=[4,2]T(1,0)', (0, 2, 4, 6)),
    ("replica_groups=mesh['data'=4,'fsdp'=2] {'data'}", (0, 2, 4, 6)),
    ("replica_groups=mesh['data'=4,'fsdp'=2] {'fsdp'}", (0, 1)),
    ("replica_groups=mesh['data'=4,'fsdp'=2] {'data','fsdp'}", (0, 1, 2, 3, 4, 5, 6, 7)),
    ('replica_groups=mesh[data=4,fsdp=2] {fsdp}', (0, 1)),
    # an axis of 8 as 2 x 4: its first part has pairs 4 apart, its second one fours
    ("replica_groups=mesh['data'=8] {'data':(1)2}", (0, 4)),
    ("replica_groups=mesh['data'=8] {'data':(2)4}", (0, 1, 2, 3)),
    ("replica_groups=mesh['data'=2,'fsdp'=2], device_ids=(3,2,1,0) {'data'}", (3, 1)),
    # as XLA writes groups of 4 along `fsdp` of 2 x 4
    ("replica_groups=mesh['a'=4,'b'=1,'c'=2], device_ids=([2,4]T(1,0)) {'a'}", (0, 1, 2, 3)),
    ("replica_groups=mesh['a'=4,'b'=1,'c'=2], device_ids=([2,4]T(1,0)) {'c'}", (0, 4)),
    ('source_target_pairs={{0,3},{3,0}}', (0, 3)),
  ],
)
def test_first_group(text, group):
  assert first_group(f', channel_id=1, {text}, use_global_device_ids=true', 8) == group
