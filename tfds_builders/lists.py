"""Lists as text and as csv, in whatever encoding, column order and line ends people's programs have
left them.

UTF-8, UTF-16 and UTF-32 are recognised by their byte order marks and bytes. Anything else is read
as Windows-1252, with a warning: words are compared with those of the set, and names with the files
on disk, so another encoding is noticed.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TextIO

from mtface import errors
from mtface.progress import warn

_MARKS = (  # UTF-32's first, since it starts with UTF-16's
  (codecs.BOM_UTF8, 'utf-8'),
  (codecs.BOM_UTF32_LE, 'utf-32-le'),
  (codecs.BOM_UTF32_BE, 'utf-32-be'),
  (codecs.BOM_UTF16_LE, 'utf-16-le'),
  (codecs.BOM_UTF16_BE, 'utf-16-be'),
)
OTHER = 'cp1252'  # for anything that is not Unicode
MARK = '\ufeff'  # as a character
DELIMITERS = (',', ';', '\t')
_MOST_SHOWN = 80

# What a list's file may contain after a failed download.
_NO_LISTS = (
  (
    0,
    b'version https://git-lfs',
    'a Git LFS pointer: fetch the file itself with `git lfs pull`',
  ),
  (0, b'<!doctype html', 'a web page: log in and download the file itself'),
  (0, b'<html', 'a web page: log in and download the file itself'),
  (0, b'pk\x03\x04', 'a zip archive or a workbook: unpack it, or save the table as CSV (UTF-8)'),
  (0, b'\x1f\x8b', 'compressed with gzip: unpack it'),
  (257, b'ustar', 'a tar archive: unpack it'),
)


def encoding_of(path: pathlib.Path, expected: str = 'a list') -> str:
  """Returns the name of a text file's encoding; a mark at its beginning is read as a character. The
  whole file is looked at.

  `expected` says in errors what the file should hold.

  Raises:
    UserError: the file is empty, not text, or in an unknown encoding.
  """
  with path.open('rb') as file:
    head = file.read(4096)
  _check_head(path, head, expected)
  marked = next(
    (name for mark, name in _MARKS if head.startswith(mark)), None
  ) or _wide_without_mark(head)
  if marked:
    if not _is(marked, path):
      raise errors.UserError(
        f'{path}: starts as {marked} but continues in another encoding; save it again as UTF-8'
      )
    return marked
  if _is('utf-8', path):
    return 'utf-8'
  if not _is(OTHER, path):
    raise errors.UserError(
      f'{path}: the encoding is neither UTF-8, UTF-16 nor Windows-1252; save it again as UTF-8'
    )
  return OTHER


def _check_head(path: pathlib.Path, head: bytes, expected: str) -> None:
  if not head:
    raise errors.UserError(
      f'{path}: the file is empty (0 bytes); expected {expected}: download it again'
    )
  for start, sign, what in _NO_LISTS:
    if head[start:].lower().startswith(sign):
      raise errors.UserError(f'{path}: is {what}; expected {expected} as text')


def _wide_without_mark(head: bytes) -> str | None:
  """UTF-16 without its mark: nearly all of a list is ASCII, of which every second byte is 0."""
  even, odd = head[0::2], head[1::2]
  for zeros, others, name in ((odd, even, 'utf-16-le'), (even, odd, 'utf-16-be')):
    if zeros and zeros.count(0) > 0.7 * len(zeros) and not others.count(0):
      return name
  return None


def _is(encoding: str, path: pathlib.Path) -> bool:
  decoder = codecs.getincrementaldecoder(encoding)()
  with path.open('rb') as file:
    try:
      while chunk := file.read(1 << 20):
        if '\0' in decoder.decode(chunk):
          raise errors.UserError(
            f'{path}: contains zero bytes; expected text: the copy is damaged, download it again'
          )
      decoder.decode(b'', final=True)
    except UnicodeDecodeError:
      return False
  return True


def open_text(path: pathlib.Path, expected: str = 'a list') -> TextIO:
  """Opens a text file in its own encoding, for `csv`: with its line ends, and a mark as the first
  character.
  """
  encoding = encoding_of(path, expected)
  if encoding == OTHER:
    warn(f'{path}: the encoding is not UTF-8; reading it as Windows-1252')
  return path.open(newline='', encoding=encoding)


def lines(path: pathlib.Path) -> list[tuple[int, str]]:
  """Returns the lines of a text file that are not empty, with their numbers from 1, without blanks
  at either end.
  """
  with open_text(path) as file:
    numbered = enumerate(file.read().removeprefix(MARK).splitlines(), start=1)
  return [(number, line.strip()) for number, line in numbered if line.strip()]


def shown(text: str) -> str:
  """Returns what was found, as it stands in an error: quoted, and cut if it is long."""
  return repr(text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + '...')


# --- csv ------------------------------------------------------------------------------------------


class Header(NamedTuple):
  """How the rows of a csv file are to be read.

  Attributes:
    names: its columns.
    delimiter: a comma, semicolon or tabulator.
    is_there: whether the first line is one; else `names` are those that were expected.
  """

  names: tuple[str, ...]
  delimiter: str
  is_there: bool = True


def header_of(
  path: pathlib.Path, line: str, columns: Sequence[str], *, may_lack: bool = False
) -> Header:
  """Returns the columns that the first line of a file names, in whatever order, case and with
  whatever others and blanks.

  Args:
    path: for errors.
    line: the first line.
    columns: names that are needed.
    may_lack: whether a file whose first line names none of them has these columns, in this order.

  Raises:
    UserError: one of them is missing or there twice.
  """
  found = [Header(_names(line, delimiter, columns), delimiter) for delimiter in DELIMITERS]
  best = max(found, key=lambda header: len(set(columns) & set(header.names)))
  missing = [name for name in columns if name not in best.names]
  if may_lack and len(missing) == len(columns):
    return Header(tuple(columns), ',', is_there=False)
  twice = [name for name in columns if best.names.count(name) > 1]
  if missing or twice:
    what = (
      f'the column {missing[0]} is missing' if missing else f'the column {twice[0]} occurs twice'
    )
    raise errors.UserError(
      f'{path}: {what}: the header is {shown(line.strip())}; expected {",".join(columns)}'
    )
  return best


def _names(line: str, delimiter: str, columns: Sequence[str]) -> tuple[str, ...]:
  """The columns of a first line; those that are asked for as they are asked for."""
  asked = {name.casefold(): name for name in columns}
  names = next(
    csv.reader([line.removeprefix(MARK)], delimiter=delimiter, skipinitialspace=True), []
  )
  return tuple(asked.get(name.strip().casefold(), name.strip()) for name in names)


def rows(
  path: pathlib.Path, columns: Sequence[str], *, may_lack: bool = False
) -> Iterator[tuple[int, dict[str, str]]]:
  """Yields the rows of a csv file with their lines' numbers; values have no blanks at either end.
  Empty lines are passed over.

  Args:
    path: the file.
    columns: names that are needed; the rows hold all that there are.
    may_lack: see `header_of`.

  Raises:
    UserError: a needed column is missing, or a row has another number of fields than the header.
  """
  with open_text(path, f'rows of {",".join(columns)}') as file:
    first = file.readline()
    header = header_of(path, first, columns, may_lack=may_lack)
    fed = file if header.is_there else itertools.chain([first.removeprefix(MARK)], file)
    reader = csv.reader(fed, delimiter=header.delimiter, skipinitialspace=True)
    offset = int(header.is_there)
    try:
      for fields in reader:
        line = reader.line_num + offset
        if any(field.strip() for field in fields):
          yield line, dict(zip(header.names, _checked(path, line, fields, header), strict=True))
    except csv.Error as error:
      raise errors.UserError(
        f'{path}: line {reader.line_num + offset} cannot be read as csv ({error})'
      ) from None


def _checked(path: pathlib.Path, line: int, fields: Sequence[str], header: Header) -> list[str]:
  """A row's fields, one a column; a quotation mark that is never closed would take all rows after
  it into one field.
  """
  values = [field.strip() for field in fields]
  while len(values) > len(header.names) and not values[-1]:
    values.pop()
  if len(values) != len(header.names):
    raise errors.UserError(
      f'{path}: line {line} has {len(values)} fields ({shown(header.delimiter.join(values))}); '
      'expected'
      f' {len(header.names)}: {",".join(header.names)}'
    )
  if broken := next((value for value in values if '\n' in value or '\r' in value), None):
    raise errors.UserError(
      f'{path}: line {line} ends a multi-line field, {shown(broken)}; expected a " to close'
    )
  return values
