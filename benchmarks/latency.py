"""Milliseconds an image, as Savchenko 2021's Table 3 has them: one image at a time on one core; in
JAX, and in onnxruntime.

    make bench-latency      # in the parity tests' environment: it has PyTorch and onnxruntime
    .venv-parity/bin/python benchmarks/latency.py [--models=bknet,rexnet] [--runs=50] [--cores=1]
    # Rohani 2023's Table 3: A, B and C on batches of 128, JAX alone
    python benchmarks/latency.py --paper=rohani2023 [--runs=20]

A network gets its initial weights, is written by `export_weights`, loaded into timm's network
(BKNet: into a small PyTorch module below), and exported to ONNX from there; scores of both sides
must be equal to 1e-3 of the largest. JAX's and onnxruntime's runs alternate, so that other work on
the machine falls on both. Times are CPU time of the process, which other work lengthens least, with
the middle half of the runs in brackets; then the clock's. Prints a Markdown table of medians;
benchmarks/README.md keeps results.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import tempfile
import time

# Name, image, timm's name, the paper's milliseconds (Table 3: one laptop CPU) and parameters in
# millions.
ROWS = {
  'bknet': ((48, 48, 1), None, None, None),
  'mobilenet': ((224, 224, 3), 'mobilenetv1_100', 40.6, 3.2),
  'efficientnet': ((224, 224, 3), 'efficientnet_b0', 54.8, 4.3),
  'rexnet': ((224, 224, 3), 'rexnet_150', 104.0, 8.3),
}
TASK = 'emotion8'
# Rohani 2023, Table 3: parameters, "execution time (s)", "Fps". Their product is 128: the time is
# of one batch.
ROHANI = {'A': (2418146, 6.23, 20.54), 'B': (3731946, 9.62, 13.30), 'C': (3953130, 10.19, 12.56)}
BATCH = 128


def use_cores(number: int) -> None:
  """Before JAX is imported: its threads, and onnxruntime's, see this process's cores alone."""
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-number:])


def random_network(name, shape):
  """(config.model, network, parameters, statistics), parameters from the network's own
  initialisation.
  """
  import jax

  from mtface.config.schema import model
  from mtface.models.network import make_network
  from mtface.tasks import get_task

  config = model(name, **({'init': 'he'} if name == 'bknet' else {}))
  network, params, stats = make_network(config, [get_task(TASK)], shape, 0)
  return config, network, *jax.device_get((params, stats))


def torch_bknet(arrays):
  """BKNet in evaluation in PyTorch, from a file of format mtface: [B, C, H, W] -> scores."""
  import torch
  from torch import nn

  def tensor(path):
    return torch.from_numpy(arrays[path])

  def norm(layer, prefix):
    for ours, theirs in (
      ('scale', 'weight'),
      ('bias', 'bias'),
      ('mean', 'running_mean'),
      ('var', 'running_var'),
    ):
      getattr(layer, theirs).data.copy_(tensor(f'{prefix}/{ours}'))
    return layer

  layers = []
  with torch.no_grad():
    for block, convolutions in enumerate((2, 2, 2, 3)):
      for i in range(convolutions):
        kernel = tensor(f'blocks/{block}/convolutions/{i}/kernel').permute(3, 2, 0, 1)
        layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
        layer.weight.copy_(kernel)
        layer.bias.copy_(tensor(f'blocks/{block}/convolutions/{i}/bias'))
        layers += [layer, norm(nn.BatchNorm2d(len(kernel)), f'blocks/{block}/norms/{i}'), nn.ReLU()]
      layers.append(nn.MaxPool2d(2))
    layers.append(channels_last_flatten())
    for i, name in enumerate(('hidden/0', 'hidden/1', 'scores')):
      kernel = tensor(f'branches/{TASK}/{name}/kernel')
      layer = nn.Linear(*kernel.shape)
      layer.weight.copy_(kernel.T)
      layer.bias.copy_(tensor(f'branches/{TASK}/{name}/bias'))
      layers.append(layer)
      if name != 'scores':
        layers += [norm(nn.BatchNorm1d(kernel.shape[1]), f'branches/{TASK}/norms/{i}'), nn.ReLU()]
  return nn.Sequential(*layers)


def channels_last_flatten():
  """A PyTorch module that flattens [B, C, H, W] in our order, channels last."""
  from torch import nn

  class Flatten(nn.Module):
    def forward(self, x):
      return x.permute(0, 2, 3, 1).flatten(1)

  return Flatten()


def onnx_session(name, config, params, stats, shape, folder):
  """An onnxruntime session, on one thread, of the network exported from PyTorch."""
  import onnxruntime
  import timm
  import torch

  from mtface.models.weight_files import read_torch
  from mtface.models.weights import export_weights
  from mtface.tasks import get_task

  weights, path = folder / f'{name}.safetensors', folder / f'{name}.onnx'
  if ROWS[name][1] is None:
    export_weights(params, stats, weights, config, format='mtface')
    module = torch_bknet(read_torch(weights))
  else:
    export_weights(params, stats, weights, config, classifier=TASK)
    module = timm.create_model(ROWS[name][1], num_classes=get_task(TASK).num_classes)
    module.load_state_dict(
      {key: torch.from_numpy(x) for key, x in read_torch(weights).items()}, strict=True
    )
  example = torch.zeros(1, shape[2], *shape[:2])
  torch.onnx.export(
    module.eval(), (example,), path, input_names=['images'], output_names=['scores'], dynamo=False
  )
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = options.inter_op_num_threads = 1
  return onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])


def measure(name: str, runs: int, folder: pathlib.Path) -> str:
  """One row of the table."""
  import jax
  import numpy as np

  shape, _, paper_ms, paper_millions = ROWS[name]
  config, network, params, stats = random_network(name, shape)
  session = onnx_session(name, config, params, stats, shape, folder)
  image = np.random.default_rng(0).uniform(-1, 1, (1, *shape)).astype(np.float32)
  params, stats = jax.device_put((params, stats))
  start = time.perf_counter()
  ours = jax.jit(network.scores).lower(params, stats, image).compile()
  compiled = time.perf_counter() - start
  feed = {'images': np.ascontiguousarray(image.transpose(0, 3, 1, 2))}
  calls = {
    'jax': lambda: np.asarray(ours(params, stats, image)[TASK]),
    'onnxruntime': lambda: session.run(['scores'], feed)[0],
  }
  expected, found = calls['jax'](), calls['onnxruntime']()
  error = np.abs(found - expected).max() / np.abs(expected).max()
  if not error < 1e-3:
    raise SystemExit(f'{name}: onnxruntime differs from JAX by {error:.1e} of the largest score')
  times: dict[str, list[list[float]]] = {key: [] for key in calls}
  for _ in range(runs):
    for key, call in calls.items():
      begin = time.process_time(), time.perf_counter()
      call()
      end = time.process_time(), time.perf_counter()
      times[key].append([1000 * (b - a) for a, b in zip(begin, end, strict=True)])
  cells = [_cell(np.percentile(times[key], (50, 25, 75), axis=0)) for key in calls]
  trunk = params.get('trunk', params)
  millions = sum(x.size for x in jax.tree.leaves(trunk)) / 1e6
  size = 'x'.join(map(str, shape))
  paper = f'{paper_ms} | {paper_millions}' if paper_ms else '- | -'
  return (
    f'| {name} | {size} | {millions:.3f} | {cells[0]} | {cells[1]} | {error:.0e} | '
    f'{compiled:.0f} | {paper} |'
  )


def measure_rohani(runs: int) -> None:
  """Prints the rows of Rohani 2023's Table 3; the three networks take turns, so that other work on
  the machine falls on all.
  """
  import jax
  import numpy as np

  from mtface.config.files import load_config
  from mtface.config.schema import tasks_of
  from mtface.models.network import make_network
  from mtface.models.paths import is_batch_norm, parameter_table

  images = np.random.default_rng(0).uniform(-1, 1, (BATCH, 48, 48, 1)).astype(np.float32)
  calls, counts = {}, {}
  for letter in ROHANI:
    config = load_config(f'rohani2023:{letter}')
    network, params, stats = make_network(
      config.model, list(tasks_of(config).values()), config.image_shape, 0
    )
    counts[letter] = sum(
      size for path, _, size in parameter_table(params) if not is_batch_norm(path)
    )
    compiled = jax.jit(network.scores).lower(params, stats, images).compile()
    calls[letter] = lambda compiled=compiled, held=(params, stats): jax.device_get(
      compiled(*held, images)
    )
    calls[letter]()
  times: dict[str, list[list[float]]] = {letter: [] for letter in calls}
  for _ in range(runs):
    for letter, call in calls.items():
      begin = time.process_time(), time.perf_counter()
      call()
      end = time.process_time(), time.perf_counter()
      times[letter].append([1000 * (b - a) for a, b in zip(begin, end, strict=True)])
  print(
    f'| network | parameters | ms a batch of {BATCH}: CPU; clock | images a CPU second | paper: '
    'parameters | s | fps |'
  )
  print('|---|---|---|---|---|---|---|')
  for letter, (paper_count, seconds, fps) in ROHANI.items():
    cell = _cell(np.percentile(times[letter], (50, 25, 75), axis=0))
    rate = 1000 * BATCH / np.median(times[letter], axis=0)[0]
    print(
      f'| {letter} | {counts[letter]:,} | {cell} | {rate:.0f} | {paper_count:,} | {seconds:.2f} | '
      f'{fps:.2f} |'
    )


def _cell(percentiles) -> str:
  (cpu, clock), (low, _), (high, _) = percentiles
  return f'{cpu:.1f} ({low:.1f}-{high:.1f}); {clock:.1f}'


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--paper', default='savchenko2021', choices=('savchenko2021', 'rohani2023'))
  parser.add_argument('--models', default=','.join(ROWS))
  parser.add_argument('--runs', type=int, default=100)
  parser.add_argument('--cores', type=int, default=1)
  args = parser.parse_args()
  use_cores(args.cores)
  if args.paper == 'rohani2023':
    measure_rohani(args.runs)
    return
  times = 'JAX: CPU ms; clock | onnxruntime: CPU ms; clock'
  print(
    f'| network | image | parameters, M | {times} | difference | compile s | paper: ms | paper: M |'
  )
  print('|---|---|---|---|---|---|---|---|---|', flush=True)
  with tempfile.TemporaryDirectory() as folder:
    for name in args.models.split(','):
      print(measure(name, args.runs, pathlib.Path(folder)), flush=True)


if __name__ == '__main__':
  main()
