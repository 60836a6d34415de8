"""Names of targets."""

import importlib.util

import pytest

from mtface.compiled import targets
from mtface.compiled.targets import CARDS, HERE, parse_target, target_config
from mtface.errors import UserError


@pytest.fixture(autouse=True)
def everything_is_installed(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: object())


@pytest.mark.parametrize(
  'name, grid, devices',
  [
    ('h100:8', (1, 8), 8),
    ('h100:128x8', (128, 8), 1024),
    ('a100:2x4', (2, 4), 8),
    ('v5e:16x16', (16, 16), 256),
    ('v5e:1x1', (1, 1), 1),
    ('v4:2x2x1', (2, 2, 1), 4),
    ('cpu:8', (8,), 8),
  ],
)
def test_devices_of_a_target(name, grid, devices):
  target = parse_target(name)
  assert (target.grid, target.devices, target.card.name) == (grid, devices, name.split(':')[0])


def test_here():
  assert parse_target(HERE).grid == ()


@pytest.mark.parametrize(
  'name, words',
  [
    ('h100', 'expected a card and how many of them'),
    ('h100:', 'expected a card and how many of them'),
    ('h100:8x', 'expected a card and how many of them'),
    ('h100:-8', 'expected a card and how many of them'),
    ('h100:0', '0 devices; expected at least 1'),
    ('v5e:0x4', '0 devices; expected at least 1'),
    ('foo:8', "'foo' is unknown; there are h100, h200, a100, v4, v5e, v5p, v6e, cpu"),
    (
      'h100:16',
      'a node has up to 8 cards; expected cards, or nodes and cards of each, as in h100:8',
    ),
    ('h100:64', 'h100:8x8'),
    ('h100:2x2x2', 'a node has up to 8 cards'),
    ('v5e:4', 'slices of v5e have 2 sides, as in v5e:4x4'),
    ('v4:4x4', 'slices of v4 have 3 sides, as in v4:4x4x4'),
    ('v5e:3x5', 'hosts have 2x2 chips; expected even numbers for the first two sides'),
    ('v5e:32x32', 'a slice of v5e has at most 256 chips'),
    ('cpu:2x2', 'expected a number of devices, as in cpu:8'),
  ],
)
def test_bad_names(name, words):
  with pytest.raises(UserError) as error:
    parse_target(name)
  assert str(error.value).startswith(f'--target={name}: ')
  assert words in str(error.value)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('name, extra', [('h100:8', 'cuda'), ('v5e:4x4', 'tpu')])
def test_a_missing_extra_is_named(name, extra, monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(UserError, match=rf"pip install 'mtface\[{extra}\]'"):
    parse_target(name)
  parse_target('cpu:8')


def test_every_card_says_where_its_facts_are_from():
  for card in CARDS.values():
    if card.platform != 'cpu':
      assert card.source and card.kinds and set(card.peak) == {'bfloat16', 'float32'}
      assert card.memory > 1e10 and card.bandwidth > 5e11 and min(card.peak.values()) > 1e14
      assert targets.card_of(card.kinds[0]) is card
  assert targets.card_of('some other card').name == 'cpu'


def test_a_gpus_configuration_is_balanced_and_has_its_facts():
  text = target_config(CARDS['h100'])
  assert text.count('{') == text.count('}')
  # the same facts as XLA's own file for the card (h100_sxm.txtpb)
  for fact in (
    'core_count: 132',
    'shared_memory_per_core: 233472',
    'shared_memory_per_block_optin: 232448',
    'l2_cache_size: 52428800',
    'memory_bandwidth: 3352000000000',
    'device_memory_size: 84942979072',
    'major: 9',
    '"NVIDIA H100 80GB HBM3"',
  ):
    assert fact in text
