import pytest

from mtface import tasks
from mtface.errors import UserError
from tfds_builders import own_csv


@pytest.fixture(autouse=True)
def own_tasks(monkeypatch):
  """Tasks that a csv brings are forgotten after each test."""
  monkeypatch.setattr(tasks, 'TASKS', dict(tasks.TASKS))


def write(folder, text, **others):
  for name, content in others.items():
    (folder / name.replace('__', '.')).write_text(content)
  path = folder / 'trip.csv'
  path.write_text(text)
  return path


def test_columns_become_tasks(tmp_path):
  path = write(
    tmp_path,
    'path,person,split,smile,gender,age_years,feeling,action_units/AU1,action_units/AU12\n'
    'a/1.jpg,ann,train,yes,female,31.9,glad,1,\n'
    'a/2.jpg,bob,test,0,1,,calm,,0\n'
    'a/3.jpg,,,,,,,,\n',
  )
  table = own_csv.read(path)
  assert [task.name for task in table.tasks] == [
    'smile',
    'gender',
    'age_years',
    'feeling',
    'action_units',
  ]
  assert table.tasks[3].classes == ('calm', 'glad')
  first, second, third = table.rows
  one = tuple({'AU1': 1}.get(name, -1) for name in tasks.get_task('action_units').classes)
  assert first.labels == {
    'smile': 1,
    'gender': 0,
    'age_years': 31,
    'feeling': 1,
    'action_units': one,
  }
  assert second.labels['action_units'].count(0) == 1 and 'age_years' not in second.labels
  assert third.labels == {} and third.split == 'train' and third.subject == ''
  assert (first.subject, second.split, table.has_subject) == ('ann', 'test', True)


def test_a_capital_makes_no_other_task(tmp_path):
  text = 'Path,Smile,GENDER,Mood,Action_units/AU1\n1.jpg,yes,Male,calm,1\n2.jpg,no,,cross,0\n'
  table = own_csv.read(write(tmp_path, text))
  assert [task.name for task in table.tasks] == ['smile', 'gender', 'Mood', 'action_units']
  first, second = (row.labels for row in table.rows)
  assert (first['smile'], first['gender'], second['smile']) == (1, 1, 0)
  with pytest.raises(UserError, match=r'the columns Smile and smile are both of the task smile'):
    own_csv.read(write(tmp_path, 'path,Smile,smile\n1.jpg,1,1\n'))


def test_words_of_a_toml(tmp_path):
  path = write(
    tmp_path,
    'Bild;Geschlecht;Laune;Notiz\n1.jpg;male;cross;x\n2.jpg;female;calm;y\n',
    trip__toml='path = "Bild"\n[tasks]\ngender = "Geschlecht"\nmood = "Laune"\n'
    '[classes]\nmood = ["calm", "glad", "cross"]\n',
  )
  table = own_csv.read(path)
  assert [task.name for task in table.tasks] == ['gender', 'mood']
  assert [row.labels for row in table.rows] == [{'gender': 1, 'mood': 2}, {'gender': 0, 'mood': 0}]


def test_a_multi_label_task_of_ones_own(tmp_path):
  path = write(tmp_path, 'path,worn/hat,worn/mask\n1.jpg,yes,no\n2.jpg,,1\n')
  table = own_csv.read(path)
  assert table.tasks[0].multi_label and table.tasks[0].classes == ('hat', 'mask')
  assert [row.labels['worn'] for row in table.rows] == [(1, 0), (-1, 1)]


def test_corrections_replace_labels(tmp_path):
  path = write(
    tmp_path,
    'path,smile,mood\n1.jpg,1,calm\n2.jpg,0,glad\n',
    trip__corrections__csv='path,task,label\n2.jpg,smile,smile\n',
  )
  rows = own_csv.read(path).rows
  assert [row.labels['smile'] for row in rows] == [1, 1]
  assert [row.corrected for row in rows] == [False, True]


def test_corrections_of_a_class_of_several(tmp_path):
  path = write(
    tmp_path,
    'path,worn/hat,worn/mask\na/1.jpg,1,0\na/2.jpg,,\na/3.jpg,1,1\n',
    trip__corrections__csv='path,task,label,found\n'
    'a\\1.jpg,worn/mask,1,0\na/1.jpg,worn/hat,no,1\na/2.jpg,worn/hat,1,\n',
  )
  rows = own_csv.read(path).rows
  assert [row.labels['worn'] for row in rows] == [(0, 1), (1, -1), (1, 1)]
  assert [row.corrected for row in rows] == [True, True, False]


def test_columns_of_several_classes_in_a_toml(tmp_path):
  path = write(
    tmp_path,
    'path,Hut,Maske,w/a,w/b\n1.jpg,1,0,0,1\n',
    trip__toml='[tasks]\n"worn/hat" = "Hut"\n"worn/mask" = "Maske"\nother = "w"\n',
  )
  table = own_csv.read(path)
  assert [(task.name, task.classes) for task in table.tasks] == [
    ('worn', ('hat', 'mask')),
    ('other', ('a', 'b')),
  ]
  assert table.rows[0].labels == {'worn': (1, 0), 'other': (0, 1)}


def test_paths_as_windows_writes_them_and_splits_in_any_case(tmp_path):
  path = write(tmp_path, 'path,split,smile\na\\1.jpg,Train,1\n.\\b\\2.jpg,TEST,0\n')
  rows = own_csv.read(path).rows
  assert [(row.path, row.split) for row in rows] == [('a/1.jpg', 'train'), ('b/2.jpg', 'test')]


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'cp1252'])
@pytest.mark.parametrize('delimiter', [',', ';', '\t'])
def test_as_spreadsheets_write_it(tmp_path, encoding, delimiter):
  path = tmp_path / 'trip.csv'
  lines = ['path,mood', 'zoë.jpg,fröhlich', 'jo.jpg,"ernst"']
  path.write_bytes('\r\n'.join(lines).replace(',', delimiter).encode(encoding))
  table = own_csv.read(path)
  assert table.tasks[0].classes == ('ernst', 'fröhlich')
  assert table.rows[0].path == 'zoë.jpg'


BROKEN = {
  'no paths': ('name,smile\n1.jpg,1\n', "has no column of paths in its first line, 'name,smile'"),
  'no labels': ('path,split\n1.jpg,train\n', 'has no column of labels beside'),
  'an unknown class': (
    'path,gender\n1.jpg,man\n',
    "line 2, column 'gender': found 'man'; expected female, male",
  ),
  'NaN': ('path,smile\n1.jpg,nan\n', "line 2, column 'smile': found 'nan'"),
  'a class that is none': ('path,emotion7\n1.jpg,7\n', "found '7'; expected angry"),
  'half a class': ('path,gender\n1.jpg,0.5\n', "found '0.5'"),
  'too old': ('path,age_years\n1.jpg,200\n', "found '200'; expected 0 to 116"),
  'negative age': ('path,age_years\n1.jpg,-1\n', "found '-1'"),
  'the same path twice': (
    'path,smile\n1.jpg,1\n1.jpg,0\n',
    "lines 2 and 3, column 'path': both are of '1.jpg'",
  ),
  'the same path in two ways': (
    'path,smile\na/1.jpg,1\n./a\\1.jpg,0\n',
    "lines 2 and 3, column 'path': both are of 'a/1.jpg'",
  ),
  'NaN among own words': (
    'path,mood\n1.jpg,calm\n2.jpg,NaN\n3.jpg,glad\n',
    "column 'mood', line 3: found 'NaN'; expected a class, or nothing",
  ),
  'two spellings': (
    'path,mood\n1.jpg,calm\n2.jpg,glad\n3.jpg,Calm\n',
    "column 'mood', line 4: found 'Calm', which line 2 spells 'calm'",
  ),
  'two spellings of a number': (
    'path,level\n1.jpg,1\n2.jpg,2\n3.jpg,1.0\n',
    "column 'level', line 4: found '1.0', which line 2 spells '1'",
  ),
  'another delimiter': (
    'path|smile\n1.jpg|1\n',
    'expected columns divided by commas, semicolons or tabulators',
  ),
  'two delimiters': ('path;smile\n1.jpg,1\n', "line 2 has 1 fields ('1.jpg,1'); expected 2"),
  'a column without a name': (
    ',path,smile\n0,1.jpg,1\n',
    'column 1 of the first line has no name',
  ),
  'nothing known': ('path,smile\n1.jpg,\n2.jpg,\n', "the column 'smile' is empty in every line"),
  'one split only': (
    'path,split,smile\n1.jpg,train,1\n2.jpg,,0\n',
    "the column 'split' says train in every line; expected another split",
  ),
  'a split of all': (
    'path,split,smile\n1.jpg,train,1\n2.jpg,all,0\n',
    "line 3, column 'split': 'all' is no name of a split",
  ),
  'a split that is not known': (
    'path,split,smile\n1.jpg,train,1\n2.jpg,NaN,0\n',
    "line 3, column 'split': 'NaN' is no name of a split",
  ),
  'several questions in one column': (
    'path,action_units\n1.jpg,1\n',
    "'action_units' names no class of action_units; expected columns action_units/AU1",
  ),
  'one question in several columns': (
    'path,smile/yes\n1.jpg,1\n',
    "the column 'smile/yes': smile has one column",
  ),
  'a class without a name': ('path,worn/\n1.jpg,1\n', "'worn/' names no class behind the /"),
  'a path of Windows outside': ('path,smile\nC:\\1.jpg,1\n', 'is outside of the folder'),
  'a path outside': ('path,smile\n../1.jpg,1\n', 'is outside of the folder of the csv'),
  'an absolute path': ('path,smile\n/1.jpg,1\n', 'is outside of the folder of the csv'),
  'no path': ('path,smile\n,1\n', "line 2, column 'path': is empty"),
  'empty': ('', 'is empty (0 bytes); expected a header'),
  'header only': ('path,smile\n', 'has no lines below its header'),
  'a column twice': ('path,smile,smile\n1.jpg,1,0\n', 'the column smile occurs twice'),
  'too few fields': ('path,smile,mood\n1.jpg,1\n', 'line 2 has 2 fields'),
  'an open quotation': ('path,mood\n1.jpg,"calm\n2.jpg,glad\n', 'expected a " to close'),
  'a person in two splits': (
    'path,person,split,smile\n1.jpg,ann,train,1\n2.jpg,ann,test,0\n',
    "'ann' is in train and in test",
  ),
  'nothing to train on': (
    'path,split,smile\n1.jpg,test,1\n',
    "the column 'split' says train in no line; found test",
  ),
  'a strange split': ('path,split,smile\n1.jpg,1/2,1\n', "'1/2' is no name of a split"),
  'notes': (
    'path,note\n' + ''.join(f'{i}.jpg,text {i}\n' for i in range(200)),
    "the column 'note' has 200 different words",
  ),
  'one word': ('path,mood\n1.jpg,calm\n', "the column 'mood' has 1 different words"),
  'a class of none': (
    'path,action_units/AU99\n1.jpg,1\n',
    "'action_units/AU99' names no class of action_units",
  ),
  'neither yes nor no': ('path,worn/hat,worn/cap\n1.jpg,2,0\n', "found '2'; expected 1, 0"),
  'a name that is none': ('path,my mood\n1.jpg,a\n2.jpg,b\n', "task 'my mood': a name is of"),
  'a workbook': ('PK\x03\x04', 'a zip archive or a workbook'),
}


@pytest.mark.parametrize('name', BROKEN)
def test_a_broken_csv_is_one_clear_line(tmp_path, name):
  text, expected = BROKEN[name]
  with pytest.raises(UserError) as error:
    own_csv.read(write(tmp_path, text))
  assert expected in str(error.value) and 'trip.csv' in str(error.value)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('content', 'expected'),
  [
    ('path = ', 'trip.toml: cannot be read as TOML'),
    ('colour = "x"', "trip.toml: 'colour' is not known; expected path"),
    ('path = "file"', 'has no column of paths'),
    ('[tasks]\nsmile = "laugh"', "names the column 'laugh', which trip.csv does not have"),
    ('tasks = 3', 'tasks has to be a table'),
    ('[classes]\nmood = ["a", "b"]', "[classes] names 'mood', which is no task; there are smile"),
    ('[classes]\nsmile = "a"', "[classes] smile: found 'a'; expected a list"),
    ('[classes]\nsmile = ["no", "yes"]', "task 'smile' is registered already, with other classes"),
  ],
)
def test_a_broken_toml(tmp_path, content, expected):
  path = write(tmp_path, 'path,smile\n1.jpg,1\n', trip__toml=content)
  with pytest.raises(UserError, match='trip') as error:
    own_csv.read(path)
  assert expected in str(error.value)


@pytest.mark.parametrize(
  ('line', 'expected'),
  [
    ('3.jpg,smile,1', "trip.csv has no '3.jpg'"),
    ('1.jpg,mood,1', "'mood' is no task of trip.csv; expected one of smile"),
    ('1.jpg,smile,grin', "line 2, column 'label': found 'grin'; expected no_smile, smile"),
    ('1.jpg,smile,', "line 2, column 'label': is empty"),
    ('1.jpg,smile,1\n./1.jpg,smile,0', "lines 2 and 3 are both of smile of '1.jpg'"),
  ],
)
def test_broken_corrections(tmp_path, line, expected):
  corrections = f'path,task,label\n{line}\n'
  path = write(tmp_path, 'path,smile\n1.jpg,1\n', trip__corrections__csv=corrections)
  with pytest.raises(UserError, match=r'trip\.corrections\.csv') as error:
    own_csv.read(path)
  assert expected in str(error.value)


def test_words_of_a_csv_that_was_read_before_are_not_those_of_another(tmp_path):
  own_csv.read(write(tmp_path, 'path,stars\n1.jpg,1\n2.jpg,2\n3.jpg,3\n'))
  path = write(tmp_path, 'path,stars\n1.jpg,1\n2.jpg,2\n')
  with pytest.raises(UserError, match="'stars' is registered already, with other classes: 1, 2, 3"):
    own_csv.read(path)


def test_two_columns_of_one_role_need_a_word(tmp_path):
  text = 'path,subject,person,mood\n1.jpg,7,ann,calm\n2.jpg,8,bob,cross\n'
  path = write(tmp_path, text)
  with pytest.raises(UserError, match=r'the columns subject and person both stand for subject; sa'):
    own_csv.read(path)
  write(tmp_path, text, trip__toml='subject = "person"\n[tasks]\nmood = "mood"\n')
  assert [row.subject for row in own_csv.read(path).rows] == ['ann', 'bob']


def test_people_who_are_not_known_are_not_one_person(tmp_path):
  path = write(tmp_path, 'path,person,mood\n1.jpg,NaN,calm\n2.jpg,NaN,cross\n')
  with pytest.raises(UserError, match=r"line 2, column 'person': found 'NaN'; expected who it is"):
    own_csv.read(path)
