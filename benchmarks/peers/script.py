"""Training and evaluation in PyTorch as people write them: one file, a Dataset, a sampler, a
DataLoader with workers, a loop, `torch.save`.

    python -m benchmarks.peers.script train --data=peer.npz --steps=200 --to=FOLDER
    python -m benchmarks.peers.script evaluate --data=peer.npz --weights=FILE --to=FOLDER

The data are those of `pixels.write_sets`. Training does what `mtface train` does with Sang 2017's
config: BKNet with three tasks, random crop, flip and rotation (one affine map, on the whole batch),
losses, accuracies and a line of the log every 50 steps, checkpoints of parameters and optimiser.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from benchmarks.networks import MOMENTUM, RATE
from benchmarks.peers.loaders import Records
from benchmarks.peers.networks import BKNet, load
from benchmarks.peers.programs import data_loss, optimizer, scaled
from benchmarks.pixels import TASKS, THREE, Faces

TESTED = 'emotion7'


def training_set(path: str) -> Records:
  arrays = np.load(path)
  sets = [key.removesuffix('/images') for key in arrays if key.endswith('/images')]
  names = [name for name in sets if name != 'test']
  return Records(
    [
      Faces(name, task, arrays[f'{name}/images'], arrays[f'{name}/labels'])
      for name, task in zip(names, THREE, strict=True)
    ]
  )


class TestSet(Dataset):
  def __init__(self, path: str):
    arrays = np.load(path)
    self.images, self.labels = arrays['test/images'], arrays['test/labels']

  def __len__(self) -> int:
    return len(self.images)

  def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
    return self.images[i], int(self.labels[i])


def augmented(images: torch.Tensor, pad: int, degrees: float) -> torch.Tensor:
  """Crops, flips and turns [B, C, H, W] at random, by one bilinear map; beyond an edge is its
  nearest pixel.
  """
  count, size = len(images), images.shape[-1]
  angle = torch.empty(count).uniform_(-degrees, degrees) * math.pi / 180
  flip = torch.randint(0, 2, (count,)) * 2.0 - 1
  shift = torch.randint(-pad, pad + 1, (count, 2)) * 2.0 / size
  cosine, sine = angle.cos(), angle.sin()
  rows = torch.stack([flip * cosine, -flip * sine, shift[:, 0], sine, cosine, shift[:, 1]], 1)
  grid = functional.affine_grid(rows.view(count, 2, 3), list(images.shape), align_corners=False)
  warped = functional.grid_sample(images, grid, padding_mode='border', align_corners=False)
  return warped.contiguous(memory_format=torch.channels_last)


def train(args: argparse.Namespace) -> None:
  torch.manual_seed(0)
  data = training_set(args.data)
  sampler = WeightedRandomSampler(data.weights(), args.steps * args.batch)
  loader = DataLoader(data, args.batch, sampler=sampler, num_workers=args.workers)
  module = BKNet({name: TASKS[name] for name in THREE}, (48, 48, 1), args.width)
  module = module.to(memory_format=torch.channels_last).train()
  descent = optimizer(module, RATE, MOMENTUM)
  rate = torch.optim.lr_scheduler.LambdaLR(descent, lambda step: 0.8 ** (step / 10000))
  losses, right, known = torch.zeros(()), torch.zeros(len(THREE)), torch.zeros(len(THREE))
  for step, batch in enumerate(loader, 1):
    images = augmented(scaled(batch['image']), 4, 15.0)
    descent.zero_grad(set_to_none=True)
    scores = module(images)
    loss = data_loss(scores, batch['labels'], batch['mask'])
    loss.backward()
    descent.step()
    rate.step()
    losses += loss.detach()
    for i, name in enumerate(THREE):
      correct = scores[name].argmax(1) == batch['labels'][name]
      right[i] += (correct & batch['mask'][name]).sum()
      known[i] += batch['mask'][name].sum()
    if step % args.log_every == 0:
      line = {'step': step, 'loss': float(losses) / args.log_every, 'right': right.tolist()}
      with (args.to / 'log.jsonl').open('a') as log:
        print(json.dumps(line | {'known': known.tolist()}), file=log)
      losses.zero_(), right.zero_(), known.zero_()
    if step % args.save_every == 0 or step == args.steps:
      state = {'model': module.state_dict(), 'optimizer': descent.state_dict(), 'step': step}
      torch.save(state, args.to / f'{step:06d}.pth')


def evaluate(args: argparse.Namespace) -> None:
  from safetensors.numpy import load_file

  module = BKNet({name: TASKS[name] for name in THREE}, (48, 48, 1), args.width)
  load(module, load_file(args.weights))
  module = module.to(memory_format=torch.channels_last).eval()
  data, right = TestSet(args.data), 0
  with torch.inference_mode():
    for images, labels in DataLoader(data, 512, num_workers=args.workers):
      right += int((module(scaled(images))[TESTED].argmax(1) == labels).sum())
  (args.to / 'figures.json').write_text(json.dumps({f'accuracy/{TESTED}': right / len(data)}))


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('do', choices=('train', 'evaluate'))
  parser.add_argument('--data', required=True)
  parser.add_argument('--to', type=pathlib.Path, required=True)
  parser.add_argument('--weights', default='')
  parser.add_argument('--steps', type=int, default=200)
  parser.add_argument('--batch', type=int, default=128)
  parser.add_argument('--width', type=float, default=1.0)
  parser.add_argument('--workers', type=int, default=2)
  parser.add_argument('--log_every', type=int, default=50)
  parser.add_argument('--save_every', type=int, default=100)
  args = parser.parse_args()
  {'train': train, 'evaluate': evaluate}[args.do](args)


if __name__ == '__main__':
  main()
