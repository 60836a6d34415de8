"""What programs are compiled for: names such as `h100:128x8` and `v5e:4x4`, and the facts of each
card that a program is held against.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import re
from collections.abc import Mapping

from mtface.errors import UserError

GIB, GB, TB, TERA = 2**30, 10**9, 10**12, 10**12
HERE = 'here'
TRAIN, EVALUATE = PROGRAMS = ('train', 'evaluate')  # what is compiled for them
_FORM = re.compile(r'(\w+):(\d+(?:x\d+)*)')
_NODE = 8  # cards of a node of GPUs: HGX boards, on which all see all others


@dataclasses.dataclass(frozen=True)
class Nodes:
  """GPUs that NVLink joins in a node, and a network beyond: bytes/s of a card in one direction."""

  inside: float
  between: float


@dataclasses.dataclass(frozen=True)
class Torus:
  """TPUs in a grid: bytes/s of a link in one direction; `axes` of the grid; the largest number of
  chips; the sides from which on an axis is a ring, the others are lines; and libtpu's name of the
  chip's configuration, '' for its default.
  """

  link: float
  axes: int
  most: int
  ring: int
  chip: str = ''


@dataclasses.dataclass(frozen=True)
class Card:
  """A kind of device.

  Attributes:
    name: in targets.
    platform: cuda, tpu or cpu.
    kinds: what JAX calls it (`Device.device_kind`).
    memory: bytes; 0 where it is the machine's.
    bandwidth: of its memory, bytes/s, on paper; 0 if it is unknown.
    peak: {dtype: FLOP/s} of its matrix units, dense. Products of float32 run as tf32 on GPUs and as
      bfloat16 on TPUs, which is JAX's default precision there.
    links: to other cards.
    source: of these figures.
    gpu: what XLA has to know of a GPU, lines of its target configuration.
  """

  name: str
  platform: str
  kinds: tuple[str, ...] = ()
  memory: int = 0
  bandwidth: float = 0
  peak: Mapping[str, float] = dataclasses.field(default_factory=dict)
  links: Nodes | Torus | None = None
  source: str = ''
  gpu: str = ''


@dataclasses.dataclass(frozen=True)
class Target:
  """Devices to compile for.

  Attributes:
    name: as it was given.
    card: of all of them.
    grid: (nodes, cards of a node), the sides of a TPU's grid, or (devices,) of CPUs; () for the
      devices that are here.
  """

  name: str
  card: Card
  grid: tuple[int, ...]

  @property
  def devices(self) -> int:
    """How many there are."""
    return math.prod(self.grid)


def _tpu(memory: int, bandwidth: float, peak: float, links: Torus, source: str, **named) -> Card:
  peaks = dict.fromkeys(('bfloat16', 'float32'), peak * TERA)
  source = f'Google Cloud documentation, {source}'
  return Card(
    platform='tpu',
    memory=memory * GIB,
    bandwidth=bandwidth * GB,
    peak=peaks,
    links=links,
    source=source,
    **named,
  )


def _gpu(capability: int, cores: int, fpus: int, shared: int, l2: int, clock: float) -> str:
  """Lines of XLA's `GpuTargetConfigProto` that differ between GPUs; `shared` and `l2` in KiB and
  MiB, the clock in GHz.
  """
  return (
    f'core_count: {cores} fpus_per_core: {fpus} shared_memory_per_core: {shared * 1024} '
    f'shared_memory_per_block_optin: {(shared - 1) * 1024} l2_cache_size: {l2 * 2**20} '
    f'clock_rate_ghz: {clock} cuda_compute_capability {{ major: {capability} }}'
  )


_HOPPER = {'bfloat16': 989.4 * TERA, 'float32': 494.7 * TERA}
_HGX_H = Nodes(450 * GB, 50 * GB)
CARDS = {
  card.name: card
  for card in (
    Card(
      'h100',
      'cuda',
      ('NVIDIA H100 80GB HBM3',),
      84_942_979_072,
      3.352 * TB,
      _HOPPER,
      _HGX_H,
      'NVIDIA data sheets of H100 SXM and DGX H100 (NVLink 4: 450 GB/s each way; ConnectX-7: '
      "400 Gb/s a card); memory as XLA's specification of the card has it",
      _gpu(9, 132, 128, 228, 50, 1.98),
    ),
    Card(
      'h200',
      'cuda',
      ('NVIDIA H200',),
      151_397_597_184,
      4.8 * TB,
      _HOPPER,
      _HGX_H,
      'NVIDIA data sheets of H200 SXM and DGX H200; links as of H100',
      _gpu(9, 132, 128, 228, 50, 1.98),
    ),
    Card(
      'a100',
      'cuda',
      ('NVIDIA A100-SXM4-80GB',),
      85_100_068_864,
      2.039 * TB,
      {'bfloat16': 312 * TERA, 'float32': 156 * TERA},
      Nodes(300 * GB, 25 * GB),
      'NVIDIA data sheets of A100 SXM 80 GB and DGX A100 (NVLink 3: 300 GB/s each way; '
      'ConnectX-6: 200 Gb/s a card)',
      _gpu(8, 108, 64, 164, 40, 1.41),
    ),
    _tpu(
      32,
      1200,
      275,
      Torus(50 * GB, 3, 4096, 4, 'megacore'),  # two cores a chip, which are one device
      'TPU v4; links: Jouppi et al. 2023, 50 GB/s each way',
      name='v4',
      kinds=('TPU v4',),
    ),
    _tpu(
      16,
      819,
      197,
      Torus(50 * GB, 2, 256, 16),
      'TPU v5e: 400 GB/s both ways over 4 links',
      name='v5e',
      kinds=('TPU v5 lite',),
    ),
    _tpu(
      95,
      2765,
      459,
      Torus(100 * GB, 3, 6144, 4),
      'TPU v5p: 1,200 GB/s both ways over 6 links',
      name='v5p',
      kinds=('TPU v5', 'TPU v5p'),
    ),
    _tpu(
      32,
      1638,
      918,
      Torus(100 * GB, 2, 256, 16),
      'TPU v6e: 800 GB/s both ways over 4 links',
      name='v6e',
      kinds=('TPU v6 lite',),
    ),
    Card('cpu', 'cpu'),
  )
}
_EXAMPLES = 'as in h100:8, h100:128x8 (128 nodes of 8), v5e:4x4, cpu:8'
_EXTRAS = {'cuda': ('cuda', 'jax_cuda12_plugin'), 'tpu': ('tpu', 'libtpu')}


def parse_target(text: str) -> Target:
  """The target of a name; `here` for the devices of this machine.

  Raises:
    UserError: the card is unknown, there is no such number or grid of it, or what compiles for it
      is not installed.
  """
  if text == HERE:
    return Target(HERE, CARDS['cpu'], ())
  where, found = f'--target={text}', _FORM.fullmatch(text)
  if not found:
    raise UserError(f'{where}: expected a card and how many of them, {_EXAMPLES}')
  if found[1] not in CARDS:
    raise UserError(f'{where}: {found[1]!r} is unknown; there are {", ".join(CARDS)}, {_EXAMPLES}')
  card, grid = CARDS[found[1]], tuple(int(n) for n in found[2].split('x'))
  if 0 in grid:
    raise UserError(f'{where}: 0 devices; expected at least 1, {_EXAMPLES}')
  target = Target(text, card, _checked(where, card, grid))
  _check_installed(where, card)
  return target


def _checked(where: str, card: Card, grid: tuple[int, ...]) -> tuple[int, ...]:
  if isinstance(card.links, Torus):
    if len(grid) != card.links.axes:
      example = 'x'.join(['4'] * card.links.axes)
      raise UserError(
        f'{where}: slices of {card.name} have {card.links.axes} sides, as in {card.name}:{example}'
      )
    if math.prod(grid) > card.links.most:
      raise UserError(f'{where}: a slice of {card.name} has at most {card.links.most:,} chips')
    if math.prod(grid) > 1 and (grid[0] % 2 or grid[1] % 2):
      raise UserError(
        f'{where}: hosts have 2x2 chips; expected even numbers for the first two sides, or one chip'
      )
    return grid
  if card.platform == 'cpu':
    if len(grid) > 1:
      raise UserError(f'{where}: expected a number of devices, as in cpu:8')
    return grid
  if len(grid) > 2 or grid[-1] > _NODE:
    raise UserError(
      f'{where}: a node has up to {_NODE} cards; expected cards, or nodes and cards of each, as in '
      f'{card.name}:8 or {card.name}:{max(1, math.prod(grid) // _NODE)}x8'
    )
  return grid if len(grid) == 2 else (1, *grid)


def _check_installed(where: str, card: Card) -> None:
  if card.platform not in _EXTRAS:
    return
  extra, module = _EXTRAS[card.platform]
  if importlib.util.find_spec(module) is None:
    raise UserError(
      f"{where}: compiling for {card.name} needs {module}: pip install 'mtface[{extra}]'"
    )


def target_config(card: Card) -> str:
  """A GPU as XLA's compiler has to know it (`GpuTargetConfigProto` as text)."""
  return (
    'gpu_device_info { threads_per_block_limit: 1024 threads_per_warp: 32 '
    'shared_memory_per_block: 49152 threads_per_core_limit: 2048 block_dim_limit_x: 2147483647 '
    'block_dim_limit_y: 65535 block_dim_limit_z: 65535 registers_per_core_limit: 65536 '
    f'registers_per_block_limit: 65536 memory_bandwidth: {card.bandwidth:.0f} '
    f'device_memory_size: {card.memory} {card.gpu} }} platform_name: "CUDA" '
    f'dnn_version_info {{ major: 9 minor: 8 }} device_description_str: "{card.kinds[0]}"'
  )


def card_of(kind: str) -> Card:
  """The card that JAX calls so; `cpu`, of which nothing is known, for all others."""
  return next((card for card in CARDS.values() if kind in card.kinds), CARDS['cpu'])
