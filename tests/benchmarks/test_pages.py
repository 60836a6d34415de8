from benchmarks import pages

PAGE = """a
<!-- study one -->

| old |

<!-- end -->
b
<!-- benchmark one -->
theirs
<!-- end -->
<!-- study two-b -->
<!-- end -->
"""


def test_tables_go_between_the_markers_of_their_kind():
  new = pages.filled(PAGE, 'study', {'one': '', 'two-b': '\n| x |\n'}.get)
  assert new == (
    'a\n<!-- study one -->\n<!-- end -->\nb\n<!-- benchmark one -->\ntheirs\n<!-- end -->\n'
    '<!-- study two-b -->\n\n| x |\n\n<!-- end -->\n'
  )
  assert pages.filled(PAGE, 'study', {}.get) == PAGE, 'None keeps what is there'
  assert pages.names(PAGE, 'study') == ['one', 'two-b']
  assert pages.names(PAGE, 'stud') == []
