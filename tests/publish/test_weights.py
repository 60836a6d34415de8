import numpy as np

from mtface.evaluation.evaluator import Evaluator
from mtface.models.weights import import_weights
from mtface.training.selection import Selection


def test_a_run_is_exported_and_read_back(mtface, tiny_run, tiny_data, tmp_path):
  path = tmp_path / 'tiny.safetensors'
  done = mtface(
    'export',
    f'--workdir={tiny_run}',
    f'--data_dir={tmp_path}/none',
    '--checkpoint=8',
    '--format=mtface',
    f'--to={path}',
  )  # a network alone needs no data
  assert (done.code, done.out.strip()) == (0, f'weights: {path}')
  evaluator = Evaluator(tiny_run, tiny_data)
  [(params, _)] = evaluator.networks(Selection.parse('8'))
  config = evaluator.config
  found = import_weights(path, config.model, evaluator.outputs, config.image_shape)
  kernel = lambda tree: np.asarray(tree['blocks'][0]['convolutions'][0]['kernel'])  # noqa: E731
  np.testing.assert_array_equal(kernel(found.params), kernel(params))
  assert found.kept == found.left == ()


def test_what_cannot_be_exported(mtface, tiny_run, tiny_data, tmp_path):
  run = lambda *argv: mtface('export', f'--workdir={tiny_run}', f'--data_dir={tiny_data}', *argv)  # noqa: E731
  for argv, message in (
    ((), 'pass exactly one --checkpoint, and the file to write as --to'),
    (('--to=a.safetensors', '--checkpoint=last,best'), 'pass exactly one --checkpoint'),
    (('--to=a.safetensors', '--checkpoint=ensemble:2'), 'an ensemble is several networks'),
    (('--to=a.pth',), '--to=a.pth: weights are written as safetensors'),
    ((f'--to={tmp_path}/a.safetensors',), '--format=torch: model bknet: no program'),
  ):
    done = run(*argv)
    assert done.code == 2
    assert message in done.err
    assert done.err.count('\n') == 1
