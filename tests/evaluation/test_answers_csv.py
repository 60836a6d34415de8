"""Answers of a csv: of mtface's own, of another tool's, and of broken ones."""

import csv

import numpy as np
import pytest

from mtface.errors import UserError
from mtface.evaluation.answers_csv import Beside, Columns, answers_of_csv
from tests.fakes import fake_source


def written(path, text):
  path.write_text(text)
  return path


OTHER = """who,truth,guess,p_cat,p_dog,light
ann,cat,cat,0.9,0.1,day
bob,dog,cat,0.6,0.4,night
ann,,dog,0.1,0.9,day
cat,dog,dog,0.2,0.8,
"""


def test_of_another_tool(tmp_path):
  columns = Columns('truth', 'guess', ('p_cat=cat', 'p_dog=dog'), groups=('light',), subject='who')
  found = answers_of_csv(written(tmp_path / 'a.csv', OTHER), columns)
  assert found.classes == ('cat', 'dog')
  assert found.labels.tolist() == [0, 1, 1]  # the line without a label is left out
  assert found.predicted.tolist() == [0, 0, 1]
  assert found.confidence.tolist() == [0.9, 0.6, 0.8]
  assert found.groups['light'].tolist() == ['day', 'night', '']
  assert found.subjects.tolist() == ['ann', 'bob', 'cat']


def test_the_positive_class_is_the_last(tmp_path):
  path = written(tmp_path / 'a.csv', OTHER)
  found = answers_of_csv(path, Columns('truth', 'guess', positive='cat'))
  assert found.classes == ('dog', 'cat') and found.labels.tolist() == [1, 0, 0]
  assert found.probabilities is None


def test_one_column_of_probabilities(tmp_path):
  path = written(tmp_path / 'a.csv', OTHER)
  found = answers_of_csv(path, Columns('truth', '', ('p_dog',), positive='dog'))
  assert found.predicted.tolist() == [0, 0, 1]
  np.testing.assert_allclose(found.probabilities, [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])


def test_what_mtface_writes_needs_the_label_alone(tmp_path):
  text = 'image_id,smile,smile predicted,smile/no_smile,smile/smile\n'
  text += 'a,smile,smile,0.25,0.75\nb,,smile,0.1,0.9\nc,no_smile,smile,0.4,0.6\n'
  found = answers_of_csv(written(tmp_path / 'p.csv', text), Columns('smile'))
  assert found.classes == ('no_smile', 'smile')
  assert found.labels.tolist() == [1, 0] and found.predicted.tolist() == [1, 1]
  assert found.confidence.tolist() == [0.75, 0.6]


def test_groups_and_people_of_a_prepared_set(tmp_path):
  source = fake_source('people', 4, {})
  object.__setattr__(source, 'subjects', np.array(['p', 'q', 'p', 'r']))
  beside = Beside(source, {'gender': np.array(['female', 'male', 'female', ''])})
  path = tmp_path / 'p.csv'
  with path.open('w', newline='') as file:
    csv.writer(file).writerows(
      [['image_id', 'y', 'z'], *([source.image_ids[i], 'a', 'ab'[i % 2]] for i in (3, 1, 0))]
    )
  found = answers_of_csv(path, Columns('y', 'z'), beside)
  assert found.groups['gender'].tolist() == ['', 'male', 'female']
  assert found.subjects.tolist() == ['r', 'q', 'p']
  path.write_text(path.read_text().replace(source.image_ids[1], 'elsewhere'))
  with pytest.raises(UserError, match=r"line 3, column 'image_id': 'elsewhere' is no image of peo"):
    answers_of_csv(path, Columns('y', 'z'), beside)


HEAD = 'y,z,p/a,p/b,g\n'
GOOD = 'a,a,0.9,0.1,u\nb,b,0.2,0.8,v\n'
BROKEN = {
  'nothing in it': ('', {}, r'has no line below its header'),
  'a header alone': (HEAD, {}, r'has no line below its header'),
  'no such label': (HEAD + GOOD, {'label': 'truth'}, r"has no column 'truth'; it has y, z, p/a"),
  'no such group': (HEAD + GOOD, {'groups': ('age',)}, r"has no column 'age'"),
  'no such probability': (HEAD + GOOD, {'probabilities': ('p/c',)}, r"has no column 'p/c'"),
  'no such subject': (HEAD + GOOD, {'subject': 'who'}, r"has no column 'who'"),
  'a cell too few': (HEAD + GOOD + 'a,a,0.9\n', {}, r'line 4: has 3 cells, the header has 5'),
  'a cell too many': (HEAD + GOOD + 'a,a,0.9,0.1,u,x\n', {}, r'line 4: has 6 cells'),
  'no labels': (HEAD + ',a,0.9,0.1,u\n', {}, r"no line has a label in column 'y'"),
  'no answer': (HEAD + GOOD + 'a,,0.9,0.1,u\n', {}, r"line 4, column 'z': is empty"),
  'not a number': (HEAD + GOOD + 'a,a,high,0.1,u\n', {}, r"line 4, column 'p/a': expected a prob"),
  'not a probability': (HEAD + GOOD + 'a,a,0.9,-3,u\n', {}, r"line 4, column 'p/b': .* '-3'"),
  'not finite': (HEAD + 'a,a,nan,0.1,u\n', {}, r"line 2, column 'p/a': .* found 'nan'"),
  'another class': (HEAD + GOOD + 'c,a,0.9,0.1,u\n', {}, r"line 4, column 'y': 'c' is none of the"),
  'other words': ('y,z,p/a,p/b,g\n1,a,0.9,0.1,u\n', {}, r'no label of column .* \(1\) is among'),
  'a column twice': ('y,z,z,p/a,p/b,g\na,a,b,1,0,u\n', {}, r"column 'z' is there twice"),
  'one class twice': (
    HEAD + GOOD,
    {'probabilities': ('p/a=a', 'p/b=a')},
    r'two columns of probabilities are of one class',
  ),
  'of which class': (HEAD + GOOD, {'probabilities': ('p/a',)}, r'say of which: --positive=b'),
  'positive is no class': (HEAD + GOOD, {'positive': 'c'}, r'--positive=c: expected one of two cl'),
  'semicolons': ('y;z;g\na;a;u\n', {'probabilities': ()}, r"has no column 'y'; it has y;z;g"),
  'an open quote': (HEAD + 'a,"a,0.9,0.1,u\n', {}, r'cannot be read as a csv'),
}


@pytest.mark.parametrize('name', BROKEN)
def test_broken_files_are_one_clear_line(tmp_path, name):
  text, changes, message = BROKEN[name]
  given = {'label': 'y', 'predicted': 'z', 'probabilities': ('p/a', 'p/b'), 'groups': ('g',)}
  path = written(tmp_path / 'broken.csv', text)
  with pytest.raises(UserError, match=message) as error:
    answers_of_csv(path, Columns(**(given | changes)))
  assert '\n' not in str(error.value)


def test_files_that_are_none(tmp_path):
  with pytest.raises(UserError, match=r'none\.csv: cannot be read .*No such file'):
    answers_of_csv(tmp_path / 'none.csv', Columns('y'))
  with pytest.raises(UserError, match='cannot be read'):
    answers_of_csv(tmp_path, Columns('y'))
  (tmp_path / 'latin.csv').write_bytes('y,z\nfröhlich,a\n'.encode('latin-1'))
  with pytest.raises(UserError, match='cannot be read as a csv in UTF-8'):
    answers_of_csv(tmp_path / 'latin.csv', Columns('y', 'z'))


def test_a_column_of_ids_is_no_group(tmp_path):
  lines = ''.join(f'a,a,{i}\n' for i in range(60))
  with pytest.raises(UserError, match=r'--groups=id: .* 60 different values of it'):
    answers_of_csv(
      written(tmp_path / 'a.csv', 'y,z,id\n' + lines), Columns('y', 'z', groups=('id',))
    )


def test_one_column_is_not_taken_for_the_other_class(tmp_path):
  path = written(tmp_path / 'a.csv', OTHER)
  with pytest.raises(
    UserError, match=r'the only column of probabilities is of cat; pass --positive=cat'
  ):
    answers_of_csv(path, Columns('truth', 'guess', ('p_cat=cat',), positive='dog'))


def test_one_column_that_was_found_needs_its_class_too(tmp_path):
  path = written(tmp_path / 'a.csv', 'smile,smile/yes\nyes,0.9\nno,0.2\n')
  with pytest.raises(UserError, match=r'--probabilities=smile/yes: one column .* --positive=yes'):
    answers_of_csv(path, Columns('smile'))
