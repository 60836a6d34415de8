"""The same in PyTorch, and in onnxruntime: steps of training, and scores of images. Options are
those of `networks.spec`; `compiled` is `torch.compile`.
"""

from __future__ import annotations

import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.networks import L2, MOMENTUM, RATE
from benchmarks.pixels import TASKS, batch
from benchmarks.work import Arrays, Unavailable, Work, needed

_TIMM = {'mobilenet': 'mobilenetv1_100', 'rexnet': 'rexnet_150'}


def make(of: Mapping[str, Any], **fields: Any) -> Any:
  """The network, with the weights that the first contestant wrote.

  Raises:
    Unavailable: PyTorch, or timm where the network is timm's, is not installed.
  """
  needed('torch')
  tasks = {name: TASKS[name] for name in of['tasks']}
  if of['name'] in _TIMM:
    return _timm(of)
  from benchmarks.peers import networks

  kinds = {'bknet': networks.BKNet, 'efficientnet': networks.EfficientNet}
  more = {'join': True} if of.get('join') else {}
  module = kinds[of['name']](tasks, of['image'], of['width'], **more, **fields)
  networks.load(module, arrays_of(of))
  return module


def arrays_of(of: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The weights by our paths."""
  from safetensors.numpy import load_file

  return load_file(of['weights'])


def _timm(of: Mapping[str, Any]) -> Any:
  timm, torch = needed('timm'), needed('torch')
  (task,) = of['tasks']
  module = timm.create_model(_TIMM[of['name']], num_classes=TASKS[task])
  state = {name: torch.from_numpy(x) for name, x in arrays_of(of).items()}
  counters = {k: v for k, v in module.state_dict().items() if k.endswith('num_batches_tracked')}
  module.load_state_dict(state | counters, strict=True)

  class Named(torch.nn.Module):
    def __init__(self) -> None:
      super().__init__()
      self.module = module

    def forward(self, x: Any) -> dict[str, Any]:
      return {task: self.module(x)}

  return Named()


def scaled(images: Any) -> Any:
  """uint8 [B, H, W, C] as float [B, C, H, W] in [-1, 1], channels last in memory."""
  return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def compiled(module: Any, of: Mapping[str, Any]) -> Any:
  """The module as it is, or by `torch.compile`.

  Raises:
    Unavailable: there is no C++ compiler.
  """
  if not of.get('compiled'):
    return module
  if not any(map(shutil.which, ('c++', 'g++', 'clang++'))):
    raise Unavailable('torch.compile needs a C++ compiler (g++), and there is none')
  return needed('torch').compile(module)


# --- Training -----------------------------------------------------------------------------------


def data_loss(scores: Mapping[str, Any], labels: Mapping[str, Any], mask: Mapping[str, Any]) -> Any:
  """Sang 2017, eq. 3 without the penalty: each task's cross-entropy of its labelled samples,
  divided by all samples.
  """
  from torch.nn import functional

  total = 0.0
  for task, of in scores.items():
    terms = functional.cross_entropy(of, labels[task], reduction='none')
    total = total + (terms * mask[task]).sum() / len(terms)
  return total


def optimizer(module: Any, rate: float, momentum: float) -> Any:
  """Stochastic descent whose weight decay, of kernels alone, is the gradient of lambda ||W||^2."""
  import torch

  kernels = [p for p in module.parameters() if p.ndim > 1]
  others = [p for p in module.parameters() if p.ndim <= 1]
  groups = [{'params': kernels, 'weight_decay': 2 * L2}, {'params': others}]
  return torch.optim.SGD(groups, rate, momentum, fused=True)


def tensors(of: Mapping[str, Any]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
  """(images uint8, labels, masks) of the batch that all contestants have."""
  import torch

  made = batch(of['batch'], of['image'], of['tasks'])
  labels = {name: torch.from_numpy(x).long() for name, x in made['labels'].items()}
  return (
    torch.from_numpy(made['image']),
    labels,
    {name: torch.from_numpy(x) for name, x in made['mask'].items()},
  )


def training(of: Mapping[str, Any]) -> Work:
  """Steps of training on one batch."""
  module = make(of)
  import torch

  from benchmarks.peers.networks import parameters

  module = module.to(memory_format=torch.channels_last).train()
  network, descent = compiled(module, of), optimizer(module, RATE, MOMENTUM)
  images, labels, mask = tensors(of)

  def run(steps: int) -> None:
    for _ in range(steps):
      descent.zero_grad(set_to_none=True)
      data_loss(network(scaled(images)), labels, mask).backward()
      descent.step()

  run(1)
  return Work(run, lambda: _gradients(of), {'parameters': parameters(module)})


def _gradients(of: Mapping[str, Any]) -> Arrays:
  """Loss and gradients by our paths, with the penalty, without dropout."""
  import torch

  from benchmarks.peers.networks import from_torch, our_paths

  module = make(of, dropout=0.0).to(memory_format=torch.channels_last).train()
  images, labels, mask = tensors(of)
  loss = data_loss(compiled(module, of)(scaled(images)), labels, mask)
  loss.backward()
  paths, found = our_paths(arrays_of(of)), {}
  penalty = sum((p.detach() ** 2).sum() for p in module.parameters() if p.ndim > 1)
  for name, p in module.named_parameters():
    gradient = p.grad + (2 * L2 * p.detach() if p.ndim > 1 else 0)
    found[f'gradients/{paths[name]}'] = from_torch(gradient)
  return {'loss': np.asarray(float(loss.detach() + L2 * penalty), np.float32), **found}


# --- Inference ----------------------------------------------------------------------------------


def inference(of: Mapping[str, Any]) -> Work:
  """Scores of uint8 images in memory, back in memory."""
  module = make(of)
  import torch

  from benchmarks.peers.networks import parameters

  module = module.to(memory_format=torch.channels_last).eval()
  network, images = compiled(module, of), tensors(of)[0]

  def once() -> dict[str, np.ndarray]:
    with torch.inference_mode():
      return {task: x.numpy() for task, x in network(scaled(images)).items()}

  def run(steps: int) -> None:
    for _ in range(steps):
      once()

  run(1)
  facts = {'parameters': parameters(module)}
  return Work(run, lambda: {f'scores/{task}': x for task, x in once().items()}, facts)


def onnx(of: Mapping[str, Any]) -> Work:
  """The same by onnxruntime, of PyTorch's network as ONNX; floats are ready for it."""
  needed('onnx')
  runtime = needed('onnxruntime')
  module = make(of).eval()
  import torch

  images, names = scaled(tensors(of)[0]).contiguous(), list(of['tasks'])

  class Listed(torch.nn.Module):
    def __init__(self) -> None:
      super().__init__()
      self.network = module

    def forward(self, x: Any) -> Any:
      scores = self.network(x)
      return [scores[name] for name in names]

  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'network.onnx'
    torch.onnx.export(
      Listed().eval(), (images,), path, input_names=['images'], output_names=names, dynamo=False
    )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # as many as this process may use
    session = runtime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
  feed = {'images': images.numpy()}

  def run(steps: int) -> None:
    for _ in range(steps):
      session.run(names, feed)

  def scores() -> Arrays:
    return {f'scores/{n}': x for n, x in zip(names, session.run(names, feed), strict=True)}

  return Work(run, scores, {})
