"""The peers in PyTorch compute what mtface does, and a weight that is changed is noticed: `make
test-parity` runs these where PyTorch is.
"""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks import ours
from benchmarks.figures import agrees, distances
from benchmarks.networks import bknet, efficientnet
from benchmarks.pixels import TASKS, write_sets

torch = pytest.importorskip('torch', reason='PyTorch is not installed: make test-parity')
programs = pytest.importorskip('benchmarks.peers.programs')

NETWORKS = {
  'bknet': lambda **of: bknet(4, tiny=True, **of),
  'efficientnet': lambda **of: efficientnet(32, 4, tiny=True, **of),
}


@pytest.fixture(scope='module', params=list(NETWORKS))
def of(request, tmp_path_factory):
  folder = tmp_path_factory.mktemp('weights')
  made = NETWORKS[request.param](weights=str(folder / 'w.safetensors'))
  ours._weights(made)
  return made


def test_parameters_are_as_many(of):
  from benchmarks.peers.networks import parameters

  arrays = load_file(of['weights'])
  statistics = sum(x.size for name, x in arrays.items() if name.endswith(('/mean', '/var')))
  assert parameters(programs.make(of)) == sum(x.size for x in arrays.values()) - statistics


def test_loss_and_gradients_agree_until_a_weight_is_changed(of, tmp_path):
  expected = ours._gradients(of)
  assert agrees(distances(expected, programs._gradients(of)))
  arrays = load_file(of['weights'])
  name = max(arrays, key=lambda name: arrays[name].ndim)
  arrays[name] = arrays[name] * np.float32(1.05)
  changed = {**of, 'weights': str(tmp_path / 'changed.safetensors')}
  save_file(arrays, changed['weights'])
  assert not agrees(distances(expected, programs._gradients(changed)))


def test_scores_agree(of):
  expected = ours.inference(of).check()
  found = programs.inference(of).check()
  assert agrees(distances(expected, found)) and max(np.abs(x).max() for x in found.values()) > 1e-5


def test_the_join_is_rohanis(tmp_path):
  of = bknet(4, tiny=True, join=True, weights=str(tmp_path / 'w.safetensors'))
  assert agrees(distances(ours.inference(of).check(), programs.inference(of).check()))


def test_onnxruntime_has_the_scores_of_eight_emotions(tmp_path):
  pytest.importorskip('onnxruntime')
  of = bknet(2, tiny=True, tasks=['emotion8'], weights=str(tmp_path / 'w.safetensors'))
  expected = ours.inference(of).check()
  assert list(expected) == ['scores/emotion8']  # not those of seven, which the network has too
  assert agrees(distances(expected, programs.onnx(of).check()))


def test_the_script_reads_the_sets_and_draws_each_task_equally_often(tmp_path):
  from benchmarks.peers.script import training_set

  write_sets(tmp_path, {'genki4k': 6, 'fer2013': 12, 'utkface': 9}, test=5)
  records = training_set(str(tmp_path / 'peer.npz'))
  known = [
    next(task for task, mine in r['mask'].items() if mine)
    for r in map(records.__getitem__, range(27))
  ]
  assert known == ['smile'] * 6 + ['emotion7'] * 12 + ['gender'] * 9
  assert all(
    0 <= r['labels'][task] < TASKS[task]
    for r, task in zip(map(records.__getitem__, range(27)), known, strict=True)
  )
  weights = records.weights()
  assert (
    weights[:6].sum() == pytest.approx(weights[6:18].sum()) == pytest.approx(weights[18:].sum())
  )


def test_augmentation_off_changes_nothing():
  from benchmarks.peers.script import augmented

  images = torch.rand(64, 1, 8, 8)
  turned = augmented(images, pad=0, degrees=0.0)
  mirrored = images.flip(3)
  same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(turned, images, strict=True)]
  flipped = [torch.allclose(a, b, atol=1e-5) for a, b in zip(turned, mirrored, strict=True)]
  assert all(a != b for a, b in zip(same, flipped, strict=True))
  assert 15 < sum(flipped) < 49
