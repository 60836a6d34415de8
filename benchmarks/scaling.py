"""Reckons how well data parallelism scales, from bytes (benchmarks/communication.py), FLOPs and
published link speeds. Measures nothing.

python benchmarks/scaling.py
"""

from __future__ import annotations

# name: (parameters, forward GFLOP an image, share of the peak that training is taken to reach)
MODELS = {
  'BKNet, 3 tasks, 48x48': (3_737_707, 0.281, 0.10),
  'EfficientNet-B0, 224x224': (4_010_000, 0.78, 0.10),
  'VGG-16, 224x224': (138_000_000, 31.0, 0.30),
}
PEAK = 989e12  # FLOP/s, bf16 dense, NVIDIA H100 SXM data sheet
NVLINK, NETWORK = (
  450e9,
  50e9,
)  # bytes/s in one direction: NVLink 4, and a 400 Gb/s InfiniBand NDR port for each GPU
# s for each all-reduce operation of XLA's combined gradients, of which there are this many in a
# step
LATENCY = 20e-6
OPERATIONS = 31
NODE = 8


def step_seconds(model: str, per_device: int) -> float:
  """Time of forward and backward (three forwards' work) on one device."""
  _, gflop, share = MODELS[model]
  return 3 * gflop * 1e9 * per_device / (PEAK * share)


def all_reduce_seconds(model: str, devices: int) -> float:
  """Time of adding up float32 gradients by a ring, nothing of it hidden behind
  the backward pass.
  """
  parameters, _, _ = MODELS[model]
  link = NVLINK if devices <= NODE else NETWORK
  return 2 * (devices - 1) / devices * 4 * parameters / link + OPERATIONS * LATENCY


def efficiency(model: str, devices: int, per_device: int) -> float:
  """Share of the time that is spent computing."""
  compute = step_seconds(model, per_device)
  return compute / (compute + all_reduce_seconds(model, devices))


def main() -> None:
  print(
    '| model | images a device | 8 | 64 | 1024 | images a device for 90% at 8 / 64 / 1024 '
    '|\n|---|---|---|---|---|---|'
  )
  for model in MODELS:
    for per_device in (16, 128, 1024):
      shares = ' | '.join(f'{efficiency(model, n, per_device):.0%}' for n in (8, 64, 1024))
      needed = [9 * all_reduce_seconds(model, n) / step_seconds(model, 1) for n in (8, 64, 1024)]
      print(f'| {model} | {per_device} | {shares} | {" / ".join(f"{x:,.0f}" for x in needed)} |')


if __name__ == '__main__':
  main()
