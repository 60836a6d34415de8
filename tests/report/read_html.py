"""A page, read as a browser would: its elements, and the tables of a section."""

import html.parser

_VOID = {'meta', 'link', 'img', 'br', 'hr', 'input', 'col'}


class Page(html.parser.HTMLParser):
  """Elements as (tag, attributes, the section's id), tables as {section: [rows of cells]}.

  A cell is (text, value of its <data>, or None). An element that is not closed, or closed without
  having been opened, is an AssertionError.
  """

  def __init__(self, text):
    super().__init__()
    self.elements, self.cells, self.text = [], {}, {}
    self._open, self._section = [], ''
    self.feed(text)
    self.close()
    assert self._open == [], 'all is closed'

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    if tag == 'section':
      self._section = attrs['id']
    self.elements.append((tag, attrs, self._section))
    if tag == 'tr':
      self.cells.setdefault(self._section, []).append([])
    if tag in ('td', 'th'):
      self.cells[self._section][-1].append(['', None])
    if tag == 'data':
      self.cells[self._section][-1][-1][1] = float(attrs['value'])
    if tag not in _VOID:
      self._open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.elements.append((tag, dict(attrs), self._section))

  def handle_endtag(self, tag):
    assert self._open and self._open.pop() == tag, f'</{tag}> closes something else'

  def handle_data(self, data):
    self.text[self._section] = self.text.get(self._section, '') + data
    if self._open and {'td', 'th'} & set(self._open):
      self.cells[self._section][-1][-1][0] += data

  def values(self, section):
    """{text of the first two cells: the values of a row} of a section's tables."""
    return {
      tuple(text.strip() for text, _ in row[:2]): [value for _, value in row if value is not None]
      for row in self.cells.get(section, [])
    }
