"""VGG-16 against Zhang 2016's table and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mtface.config.schema import model
from mtface.errors import UserError
from mtface.models.convolution import Make
from mtface.models.network import abstract_network, make_network
from mtface.models.paths import matches
from mtface.models.vgg import Dense
from mtface.tasks import get_task
from tests.models import reference
from tests.models.networks import count, images, random_network, shapes
from tests.models.test_reference import as_float64, assert_close

# Zhang 2016, Table 1.
LAYERS = (
  *('conv1_1', 'conv1_2', 'conv2_1', 'conv2_2', 'conv3_1', 'conv3_2', 'conv3_3'),
  *('conv4_1', 'conv4_2', 'conv4_3', 'conv5_1', 'conv5_2', 'conv5_3'),
)
TINY = {'width': 1 / 32}


def test_parameter_counts_are_those_of_vgg_face():
  expected = {'identity:2622': 145_002_878, 'gender': 134_268_738, 'celeba_attributes': 134_424_424}
  for task, number in expected.items():
    assert count(shapes('vgg', [task], (224, 224, 3))) == number


def test_layers_are_those_of_the_table():
  found = shapes('vgg', ['gender'], (224, 224, 3))
  channels = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
  for i, name in enumerate(LAYERS):
    assert found[f'trunk/{name}/kernel'] == (3, 3, *channels[i : i + 2])
    assert found[f'trunk/{name}/bias'] == (channels[i + 1],)
  assert found['trunk/fc6/kernel'] == (7, 7, 512, 4096)
  assert found['trunk/fc7/kernel'] == (1, 1, 4096, 4096)
  assert found['heads/gender/scores/kernel'] == (4096, 2)
  assert {path.split('/')[1] for path in found if path.startswith('trunk/')} == {
    *LAYERS,
    'fc6',
    'fc7',
  }


def test_layers_have_names_for_rates_of_their_own():
  # Zhang 2016, section 2.2: a tenth for all convolutions, half for fc7.
  found = shapes('vgg', ['gender'], (32, 32, 3), **TINY)
  slow = [path for path in found if matches(['trunk/conv.*'], path)]
  assert len(slow) == 26
  assert [path for path in found if matches(['trunk/fc7'], path)] == [
    'trunk/fc7/bias',
    'trunk/fc7/kernel',
  ]


def test_a_whole_network_is_the_papers():
  network, params, stats = random_network(
    'vgg', ['smile', 'emotion7'], (64, 32, 3), dropout=0.0, **TINY
  )
  x = images(3, 64, 32, 3)
  expected = reference.vgg(as_float64(params), np.asarray(x, np.float64))
  assert_close(jax.jit(network.scores)(params, stats, x), expected, 1e-4)
  found, new = jax.jit(network.train_scores)(params, stats, x, jax.random.key(0))
  assert_close(found, expected, 1e-4)
  assert jax.tree.leaves(new) == []
  features = network.features(params, stats, x)
  assert features.shape == (3, 128)  # 4096 / 32: what fc7 gives
  head = params['heads']['smile']['scores']
  np.testing.assert_allclose(
    features @ head['kernel'] + head['bias'], expected['smile'], rtol=1e-3, atol=1e-3
  )


def test_dropout_is_behind_both_dense_layers_and_nowhere_else():
  network, params, stats = random_network('vgg', ['smile'], (32, 32, 1), dropout=0.5, **TINY)
  ones = jax.tree.map(jnp.zeros_like, params)
  trunk, head = ones['trunk'], ones['heads']['smile']['scores']
  trunk['fc6']['bias'] += 1
  trunk['fc7']['kernel'] += 1 / 128
  head['kernel'] = head['kernel'].at[0, 0].set(1)
  head['kernel'] = head['kernel'].at[:, 1].set(1 / 128)
  x = images(400, 32, 32, 1)
  assert (np.asarray(network.scores(ones, stats, x)['smile']) == 1).all()
  scores, _ = network.train_scores(ones, stats, x, jax.random.key(0))
  one, mean = np.asarray(scores['smile']).T
  assert np.mean(one == 0) == pytest.approx(0.5, abs=0.1)  # of 400: four standard deviations
  # Half of fc6's 128 ones, doubled, have a deviation of 1/sqrt(128); fc7's own again as much.
  kept = one[one != 0] / 2
  assert kept.std() == pytest.approx(1 / np.sqrt(128), rel=0.2)
  assert mean.std() == pytest.approx(np.sqrt(2 / 128), rel=0.2)


def test_a_frozen_layer_has_no_dropout():
  layer = Dense((1, 1, 3), 4, Make(nnx.Rngs(0)), dropout=0.5, kernel_init=nnx.initializers.ones)
  x = jnp.ones((50, 1, 1, 3))
  assert (np.asarray(layer(x, True, nnx.Rngs(dropout=0))) == 0).any()
  layer.frozen = True
  assert (np.asarray(layer(x, True, nnx.Rngs(dropout=0))) == 3).all()
  # The network's graph of a frozen trunk has it so.
  fields, tasks = model('vgg', **TINY), [get_task('smile')]
  network, params, stats = abstract_network(fields, tasks, (32, 32, 1), ['trunk'])
  params = jax.tree.map(lambda x: jnp.full(x.shape, 0.1), params)
  scores, _ = network.train_scores(params, stats, images(2, 32, 32, 1), jax.random.key(0))
  np.testing.assert_array_equal(
    scores['smile'], network.scores(params, stats, images(2, 32, 32, 1))['smile']
  )


@pytest.mark.parametrize(('init', 'deviation'), [('gaussian', 0.01), ('he', np.sqrt(2 / 128))])
def test_weights_are_drawn_as_asked(init, deviation):
  fields = model('vgg', init=init, **TINY)
  _, params, _ = make_network(fields, [get_task('identity:50')], (32, 32, 1), seed=0)
  assert float(params['trunk']['fc7']['kernel'].std()) == pytest.approx(deviation, rel=0.05)
  scores = params['heads']['identity:50']['scores']
  assert float(scores['kernel'].std()) == pytest.approx(deviation, rel=0.05)
  assert not np.asarray(scores['bias']).any()


@pytest.mark.parametrize(
  ('shape', 'fields', 'message'),
  [
    ((224, 225, 3), {}, 'model vgg: images of 224x225: 5 pools halve them; expected multiples of'),
    ((16, 32, 3), {}, 'model vgg: images of 16x32 are too small; expected at least 32x32'),
    ((32, 32, 3), {'init': 'xavier'}, "config.model.init 'xavier' is unknown; there are gaussian"),
    ((32, 32, 3), {'dropout': 1}, 'config.model.dropout: 1 is out of range'),
    ((32, 32, 2), {'input': 'vggface'}, 'config.model.input vggface: needs images with 1 or 3'),
  ],
)
def test_bad_fields(shape, fields, message):
  with pytest.raises(UserError, match=message):
    shapes('vgg', ['smile'], shape, **fields)
