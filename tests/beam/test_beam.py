"""Builds on Apache Beam's own runner for one machine. `make test-beam` runs this, in an environment
of its own.
"""

import numpy as np
import pytest

from mtface.errors import UserError
from tests.cartoons import cartoon, make_genki4k, make_imdb_wiki
from tests.prepared import build_set, read_records, read_summary
from tfds_builders import parts
from tfds_builders.wiki import wiki_dataset_builder as wiki

pytest.importorskip(
  'apache_beam', reason='needs Apache Beam, the extra `beam`; `make test-beam` has it'
)

IN_THIS_PROCESS = ['--runner=DirectRunner', '--direct_running_mode=in_memory']
IN_TWO_PROCESSES = [
  '--runner=DirectRunner',
  '--direct_running_mode=multi_processing',
  '--direct_num_workers=2',
]


def entries():
  """Faces with the oddities that a summary counts."""
  faces = [cartoon(size=100, center=(50, 50), scale=0.7 + 0.02 * i) for i in range(12)]
  odd = {
    2: {'gender': np.nan},
    3: {'dob': 800_000},
    4: {'second_face_score': 1.0},
    5: {'image': None},
    6: {'image': b'damaged'},
    7: {'image': np.zeros((1, 1), np.uint8)},
    8: {'image': faces[0]},  # a copy
    9: {'image': np.full((60, 50, 3), (200, 30, 90), np.uint8)},  # no face
  }
  return [
    {'full_path': f'{i % 3:02d}/{i:02d}.jpg', 'image': face} | odd.get(i, {})
    for i, face in enumerate(faces)
  ]


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
  return make_imdb_wiki(tmp_path_factory.mktemp('raw'), 'wiki', entries())


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
  monkeypatch.setattr(wiki.Builder, 'PART_SIZE', 5)


def assert_same(path_a, path_b):
  """All of the records in their order, and all of the summary but the times."""
  for a, b in zip(read_records(path_a), read_records(path_b), strict=True):
    np.testing.assert_array_equal(a.pop('image'), b.pop('image'))
    assert repr(a) == repr(b)
  a, b = (
    {k: v for k, v in read_summary(p).items() if k not in ('seconds', 'built')}
    for p in (path_a, path_b)
  )
  assert a == b


@pytest.mark.parametrize('config', ['gray48', 'rgb224'])
def test_beam_builds_the_same_set(raw, tmp_path, config):
  usual = build_set(f'wiki/{config}', raw, tmp_path / 'usual')
  on_beam = build_set(f'wiki/{config}', raw, tmp_path / 'beam', beam_options=IN_THIS_PROCESS)
  assert_same(usual, on_beam)
  summary = read_summary(on_beam)
  assert summary['images'] == len(read_records(on_beam)) == 8
  assert summary['left_out']['by_reason'] == {
    'missing file': 1,
    'damaged image': 1,
    'a second face': 1,
    'smaller than 20 pixels': 1,
  }
  assert (summary['duplicates']['copies'], summary['notes']['face_not_found']['images']) == (1, 1)
  assert sorted(p.name for p in on_beam.parent.iterdir()) == ['.build.lock', '1.0.0']


def test_several_processes(raw, tmp_path):
  usual = build_set('wiki', raw, tmp_path / 'usual')
  assert_same(usual, build_set('wiki', raw, tmp_path / 'beam', beam_options=IN_TWO_PROCESSES))


def test_a_relative_folder_is_that_of_the_launcher(raw, tmp_path, monkeypatch):
  monkeypatch.chdir(raw.parent)
  path = build_set('wiki', raw.name, tmp_path, beam_options=IN_THIS_PROCESS)
  assert read_summary(path)['images'] == 8


def test_a_set_that_is_otherwise_not_built_by_parts(tmp_path):
  raw = make_genki4k(
    tmp_path / 'raw', [cartoon(scale=0.8 + 0.1 * i) for i in range(4)], [1, 0, 1, 0]
  )
  usual = build_set('genki4k', raw, tmp_path / 'usual')
  assert_same(usual, build_set('genki4k', raw, tmp_path / 'beam', beam_options=[]))


def test_what_is_converted_is_not_converted_again(raw, tmp_path, monkeypatch):
  with monkeypatch.context() as patched:
    patched.setattr(
      'tfds_builders.summary.Account.check_left_out',
      lambda *_: (_ for _ in ()).throw(UserError('stop')),
    )
    with pytest.raises(UserError, match='stop'):
      build_set('wiki', raw, tmp_path / 'data', beam_options=IN_THIS_PROCESS)
  made = []
  write = parts.write
  monkeypatch.setattr(
    parts, 'write', lambda path, outcomes: made.append(path.name[:6]) or write(path, outcomes)
  )
  path = build_set('wiki', raw, tmp_path / 'data', beam_options=IN_THIS_PROCESS)
  assert made == ['000001'], 'that with the damaged and the missing image'
  assert_same(build_set('wiki', raw, tmp_path / 'usual'), path)


@pytest.mark.parametrize('missing', [11, 12])
def test_a_broken_copy_is_said_as_without_beam(tmp_path, missing):
  faces = [{'image': None if i < missing else cartoon()} for i in range(12)]
  raw = make_imdb_wiki(
    tmp_path / 'raw',
    'wiki',
    [{'full_path': f'00/{i:02d}.jpg'} | face for i, face in enumerate(faces)],
  )
  (raw / '00').mkdir(exist_ok=True)
  with pytest.raises(
    UserError, match=rf'{missing} of 12 images .* 00/00 \(.*no such file.* looks broken'
  ):
    build_set('wiki', raw, tmp_path / 'data', beam_options=IN_THIS_PROCESS)
  assert not (tmp_path / 'data/wiki/gray48/1.0.0').exists()


@pytest.mark.parametrize(
  'options', [['--runner=NoSuchRunner'], ['--direct_num_workers=two'], ['DirectRunner']]
)
def test_options_that_beam_refuses(raw, tmp_path, options):
  with pytest.raises(UserError, match=rf'--beam_options: .*{options[0]}.*expected'):
    build_set('wiki', raw, tmp_path / 'data', beam_options=options)
  assert not (tmp_path / 'data').exists()
