"""Cross-validation: what rotates, what is gathered, how two are compared. Killed and continued:
tests/end_to_end/test_crossval.py.
"""

import json
import shutil

import numpy as np
import pytest
from scipy import stats

from mtface.config.saved import read_config
from mtface.errors import UserError
from mtface.evaluation import crossval as module
from mtface.evaluation.compare import compare, comparison_table
from mtface.evaluation.crossval import crossval, crossval_table, gather, read_crossval, round_config
from mtface.evaluation.results import read_results
from mtface.files import write_json
from mtface.training.workdir import write_config
from tests.tiny import get_config as get_tiny
from tests.tiny_folds import get_config
from tests.tiny_stages import get_config as get_stages


@pytest.fixture(scope='module')
def crossed(tiny_data, tmp_path_factory):
  """(workdir, rows) of a cross-validation of four rounds. Not to be changed."""
  workdir = tmp_path_factory.mktemp('crossed') / 'run'
  return workdir, crossval(get_config(), workdir, tiny_data)


def test_what_has_folds_rotates_and_the_rest_stays():
  config = round_config(get_config(), 2, 3)
  assert config.sources.smiles.name == 'tiny/smile:train[fold!=2/3]'
  assert config.evaluation.sets.smiles.name == 'tiny/smile:train[fold=2/3]'
  assert config.sources.people.name == 'tiny/people:train'
  assert config.name == 'tiny_folds fold 2/3'
  assert get_config().sources.smiles.name == 'tiny/smile:train[fold!=0/4]', (
    'the config itself is not changed'
  )


def test_the_sources_of_stages_rotate_too():
  config = get_stages()
  config.stage.smiles.sources.smiles.name = 'tiny/smile:train[fold!=0/4]'
  config.stage.smiles.evaluation.sets.smiles.name = 'tiny/smile:train[fold=0/4]'
  found = round_config(config, 1, 2).stage
  assert found.smiles.sources.smiles.name == 'tiny/smile:train[fold!=1/2]'
  assert found.smiles.evaluation.sets.smiles.name == 'tiny/smile:train[fold=1/2]'
  assert found.genders.sources.people.name == 'tiny/people:train'


def test_all_rounds_are_checked_before_the_first(tiny_data, tmp_path):
  config = get_config()
  config.evaluation.sets.people.name = 'tiny/people:gone'
  with pytest.raises(UserError, match=r"tiny/people: has no split 'gone'; it has test, train"):
    crossval(config, tmp_path / 'run', tiny_data)
  with pytest.raises(UserError, match=r'folds=99'):
    crossval(get_config(), tmp_path / 'run', tiny_data, folds=99)
  assert not (tmp_path / 'run').exists()


def test_a_config_without_folds_cannot_be_crossed():
  with pytest.raises(
    UserError, match=r'no source of the config has folds; name the training part as .*fold!=0/4'
  ):
    round_config(get_tiny(), 0, 4)
  with pytest.raises(UserError, match=r'--folds=1: expected at least 2'):
    round_config(get_config(), 0, 1)


def test_each_round_is_a_run_on_its_own_part(crossed, tiny_data):
  workdir, _ = crossed
  tested = []
  for k in range(4):
    folder = workdir / f'fold{k}of4'
    assert read_config(folder).sources.smiles.name == f'tiny/smile:train[fold!={k}/4]'
    results = read_results(folder)
    assert {(row['checkpoint'], row['set']) for row in results} == {
      (c, s) for c in ('last', 'ensemble:2') for s in ('smiles', 'people')
    }
    tested += [row['n'] for row in results if (row['checkpoint'], row['set']) == ('last', 'smiles')]
  assert tested == [6, 6, 6, 6], 'all 24 smiles are tested once'


def test_mean_and_deviation_are_those_of_numpy(crossed):
  workdir, rows = crossed
  assert read_crossval(workdir) == {'folds': 4, 'results': rows}
  for row in rows:
    single = [
      next(
        r['accuracy']
        for r in read_results(workdir / f'fold{k}of4')
        if all(r[key] == row[key] for key in ('checkpoint', 'set', 'task'))
      )
      for k in range(4)
    ]
    assert row['accuracy'] == single
    np.testing.assert_allclose([row['mean'], row['std']], [np.mean(single), np.std(single, ddof=1)])
  table = crossval_table(rows)
  first = rows[0]
  assert (
    f'{100 * np.mean(first["accuracy"]):.2f} ± {100 * np.std(first["accuracy"], ddof=1):.2f}'
    in table
  )
  assert len({line.count('|') for line in table.splitlines()}) == 1


def test_what_is_done_is_not_done_again(crossed, tiny_data, tmp_path, monkeypatch):
  workdir = shutil.copytree(crossed[0], tmp_path / 'run')
  (workdir / 'crossval.json').unlink()
  monkeypatch.setattr(module, 'train', None)  # a call would raise
  assert crossval(get_config(), workdir, tiny_data) == crossed[1]


def test_rounds_may_be_jobs_of_their_own(crossed, tiny_data, tmp_path, capsys):
  workdir = tmp_path / 'run'
  for k in (1, 3):  # as if other jobs had done them
    shutil.copytree(crossed[0] / f'fold{k}of4', workdir / f'fold{k}of4')
  with pytest.raises(
    UserError, match=r'fold 0, 2 of 4 is not done; run `mtface crossval` with --fold=0'
  ):
    gather(workdir, 4)
  assert crossval(get_config(), workdir, tiny_data, fold=2) is None
  shutil.copytree(crossed[0] / 'fold0of4', workdir / 'fold0of4')
  assert without_times(gather(workdir, 4)) == without_times(crossed[1])
  with pytest.raises(UserError, match=r'--fold=4: there are folds 0 to 3'):
    crossval(get_config(), workdir, tiny_data, fold=4)


def without_times(rows):
  return [{key: value for key, value in row.items() if key != 'seconds'} for row in rows]


def test_another_config_is_refused(crossed, tiny_data):
  config = get_config()
  config.optimizer.rate = 0.5
  with pytest.raises(
    UserError, match=r'this workdir holds a run with optimizer.rate=0.01, the config now says 0.5'
  ):
    crossval(config, crossed[0], tiny_data)


@pytest.mark.parametrize('content', ['{"resul', '[]', '{"results": [3]}', '{"folds": 4}'])
def test_damaged_files_are_named(crossed, tmp_path, content):
  workdir = shutil.copytree(crossed[0], tmp_path / 'run')
  (workdir / 'fold1of4/fold.json').write_text(content)
  with pytest.raises(
    UserError, match=r'fold1of4/fold.json: is damaged .*; delete it and run `mtface crossval` again'
  ):
    gather(workdir, 4)


# --- Differences ----------------------------------------------------------------------------------


def folds_of(number):
  return [f'tiny/smile:train[fold={k}/{number}]' for k in range(number)]


def written(
  workdir,
  accuracies,
  selection='last',
  set_name='faces',
  tested=None,
  trained='tiny/smile:train[fold!=0/4]',
  n=None,
):
  """A finished cross-validation: what each round was tested on (by default its fold), and what was
  trained on.
  """
  tested = tested or folds_of(len(accuracies))
  row = {
    'checkpoint': selection,
    'set': set_name,
    'task': 'smile',
    'accuracy': accuracies,
    'source': tested,
    **({'n': n} if n else {}),
  }
  workdir.mkdir()
  config = get_config()
  config.sources.smiles.name = trained
  write_config(config, workdir)
  write_json(workdir / 'crossval.json', {'folds': len(accuracies), 'results': [row]})
  return workdir


A, B = [0.90, 0.92, 0.91, 0.95], [0.93, 0.93, 0.95, 0.96]


def corrected(ratio):
  """SciPy's interval of the mean of the four differences, whose standard error is s / sqrt(4),
  widened to s * sqrt(1/4 + ratio).
  """
  d = np.subtract(B, A)
  plain = stats.t.interval(0.95, 3, loc=d.mean(), scale=stats.sem(d))
  half = (plain[1] - plain[0]) / 2 * np.sqrt((1 / 4 + ratio) * 4)
  return [d.mean() - half, d.mean(), d.mean() + half]


def test_differences_are_paired_and_their_interval_is_corrected(tmp_path):
  (row,) = compare(
    str(written(tmp_path / 'a', A)), f'{written(tmp_path / "b", B, "ensemble:2")}@ensemble:2'
  )
  np.testing.assert_allclose(row['differences'], np.subtract(B, A))
  np.testing.assert_allclose(
    [row['low'], row['mean'], row['high']], corrected(1 / 3)
  )  # a fold to three
  assert '| faces | smile | +2.25 |' in comparison_table([row])


def test_draws_are_corrected_by_their_own_sizes(tmp_path):
  parts = {
    'tested': [f'wiki/gray48:train[take=42,after=300,seed={k}]' for k in range(4)],
    'trained': 'wiki/gray48:train[take=300,seed=0]',
  }
  (row,) = compare(
    str(written(tmp_path / 'a', A, **parts)), str(written(tmp_path / 'b', B, **parts))
  )
  np.testing.assert_allclose([row['low'], row['mean'], row['high']], corrected(42 / 300))
  fewer = parts | {
    'trained': 'wiki/gray48:train[take=100,seed=0]'
  }  # of two trainings, the one that makes the interval wider
  (row,) = compare(str(tmp_path / 'a'), str(written(tmp_path / 'fewer', B, **fewer)))
  np.testing.assert_allclose([row['low'], row['high']], corrected(42 / 100)[::2])
  elsewhere = parts | {
    'trained': 'imdb/gray48:train[take=300,seed=0]'
  }  # one of the two is not trained on this set
  (row,) = compare(str(tmp_path / 'a'), str(written(tmp_path / 'elsewhere', B, **elsewhere)))
  assert (row['low'], row['why']) == (None, 'the rest of the set is not trained on')


def test_draws_of_each_class_are_corrected_by_what_was_tested(tmp_path):
  parts = {
    'tested': [f'set/gray48:train[each!=15,of=compound8,seed={k}]' for k in range(4)],
    'trained': 'set/gray48:train[each=15,of=compound8,seed=0]',
    'n': [722, 719, 722, 720],
  }
  (row,) = compare(
    str(written(tmp_path / 'a', A, **parts)), str(written(tmp_path / 'b', B, **parts))
  )
  np.testing.assert_allclose([row['low'], row['mean'], row['high']], corrected(722 / 120))


@pytest.mark.parametrize(
  ('parts', 'why'),
  [
    ({'tested': ['fer2013/gray48:private_test'] * 4}, 'all rounds have the same test images'),
    (
      {'tested': [f'imdb/gray48:train[take=9,after=99,seed={k}]' for k in range(4)]},
      'the rest of the set is not trained on',
    ),
    ({'trained': 'tiny/people:train[fold!=0/4]'}, 'the rest of the set is not trained on'),
    ({'trained': 'tiny/smile:train[gender=1,fold!=0/4]'}, 'the rest of the set is not trained on'),
    ({'trained': 'tiny/smile:train[fold!=0/5]'}, 'the rest of the set is not trained on'),
    ({'trained': 'tiny/smile:train[each=5,of=smile]'}, 'the rest of the set is not trained on'),
    (
      {
        'tested': [f'a/b:train[take=9,after=99,of=smile,seed={k}]' for k in range(4)],
        'trained': 'a/b:train[take=99,seed=0]',  # of other faces
      },
      'the rest of the set is not trained on',
    ),
    (
      {
        'tested': [f'a/b:train[each=9,of=smile,seed={k}]' for k in range(4)],
        'trained': 'a/b:train[each!=9,of=smile,seed=0]',  # of which the name has no number
        'n': [18] * 4,
      },
      'the rest of the set is not trained on',
    ),
  ],
)
def test_what_is_no_part_of_the_rotation_has_no_interval(tmp_path, parts, why):
  (row,) = compare(
    str(written(tmp_path / 'a', A, **parts)), str(written(tmp_path / 'b', B, **parts))
  )
  np.testing.assert_allclose(row['mean'], 0.0225)
  assert (row['low'], row['high'], row['why']) == (None, None, why)
  assert (
    comparison_table([row])
    .splitlines()[-1]
    .startswith(f'| faces | smile | +2.25 | none: {why} | +3.00 | +1.00 |')
  )


def test_what_cannot_be_compared(tmp_path):
  a, b = written(tmp_path / 'a', [0.5, 0.6]), written(tmp_path / 'b', [0.5, 0.6, 0.7])
  with pytest.raises(UserError, match=r'faces: 2 folds and 3 cannot be paired'):
    compare(str(a), str(b))
  with pytest.raises(
    UserError, match=r'a@best: no such selection was measured there; there is last'
  ):
    compare(f'{a}@best', str(a))
  other = written(tmp_path / 'other', [0.1, 0.2], set_name='others')
  with pytest.raises(UserError, match=r'measured no set and task in common'):
    compare(str(a), str(other))
  elsewhere = written(
    tmp_path / 'elsewhere', [0.5, 0.6], tested=[folds_of(2)[0], 'lfw/rgb64:train[fold=1/2]']
  )
  with pytest.raises(
    UserError,
    match=r'faces: one was measured on tiny/smile:train\[fold=1/2\], the other on lfw/rgb64',
  ):
    compare(str(a), str(elsewhere))
  with pytest.raises(
    UserError,
    match=r'nowhere/crossval.json: not found; --workdir must be one of a finished `mtface cro',
  ):
    compare(str(a), str(tmp_path / 'nowhere'))


def test_crossval_file_is_json_with_the_rows(crossed):
  content = json.loads((crossed[0] / 'crossval.json').read_text())
  assert {row['checkpoint'] for row in content['results']} == {'last', 'ensemble:2'}


# --- Rounds that are not alike --------------------------------------------------------------------


def rounds(workdir, selections_of_rounds, **more):
  """Rounds that are measured, with these selections each; accuracies 0.0, 0.1, ..."""
  for k, selections in enumerate(selections_of_rounds):
    folder = module.fold_folder(workdir, k, len(selections_of_rounds))
    folder.mkdir(parents=True)
    row = {'set': 'faces', 'task': 'smile', 'n': 10, 'correct': k, 'accuracy': k / 10} | more
    write_json(
      folder / 'fold.json', {'name': 'x', 'results': [{'checkpoint': s} | row for s in selections]}
    )
  return workdir


def test_a_mean_is_over_all_rounds_or_not_given(tmp_path):
  found = gather(rounds(tmp_path, [['last', 'best'], ['last'], ['last', 'best']]), 3)
  assert [(row['checkpoint'], row['accuracy']) for row in found] == [('last', [0.0, 0.1, 0.2])]
  np.testing.assert_allclose(
    [found[0]['mean'], found[0]['std']], [0.1, 0.1]
  )  # of the sample, n - 1


def test_errors_in_years_and_stages_are_kept(tmp_path):
  (row,) = gather(rounds(tmp_path, [['last']] * 2, mae=5.5, stage='attributes'), 2)
  assert (row['mae'], row['stage'], row['macro_f1']) == ([5.5, 5.5], 'attributes', [None, None])


@pytest.mark.parametrize(
  ('of_second', 'data', 'measured'),
  [(['last', 'ensemble:2'], 'same', 'fold0of2'), (['last'], 'other', 'fold0of2 fold1of2')],
)
def test_a_round_that_lacks_a_selection_or_is_of_other_faces_is_measured_again(
  tmp_path, tiny_data, monkeypatch, of_second, data, measured
):
  """--checkpoint=last,ensemble:2 after --checkpoint=last; a set that was built again."""
  about = {'source': 'tiny/smile:test', 'data': 'same'}
  workdir, asked = rounds(tmp_path / 'run', [['last'], of_second], **about), []
  monkeypatch.setattr(module, 'fingerprint', lambda name, data_dir: data)
  monkeypatch.setattr(module, 'train', lambda config, folder, data_dir: asked.append(folder.name))
  rows = [
    {'checkpoint': s, 'set': 'faces', 'task': 'smile', 'accuracy': 0.5}
    for s in ('last', 'ensemble:2')
  ]
  monkeypatch.setattr(module, 'evaluate', lambda folder, data_dir, **options: rows)
  found = crossval(get_config(), workdir, tiny_data, folds=2, checkpoints=['last', 'ensemble:2'])
  assert ' '.join(asked) == measured
  assert [row['checkpoint'] for row in found] == ['last', 'ensemble:2']
