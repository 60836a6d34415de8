"""Tables inside the pages of docs/, between markers that name what made them."""

from __future__ import annotations

import re
from collections.abc import Callable


def filled(page: str, kind: str, table: Callable[[str], str | None]) -> str:
  """The page with `table(NAME)` between every `<!-- KIND NAME -->` and `<!-- end -->`.

  Args:
    table: gives Markdown; '' leaves nothing between the markers, None what is there.
  """

  def between(match: re.Match[str]) -> str:
    inside = table(match['name'])
    if inside is None:
      return match[0]
    return match['begin'] + (f'\n{inside.strip()}\n\n' if inside else '') + match['end']

  markers = rf'(?P<begin><!-- {re.escape(kind)} (?P<name>[\w-]+) -->\n).*?(?P<end><!-- end -->)'
  return re.sub(markers, between, page, flags=re.DOTALL)


def names(page: str, kind: str) -> list[str]:
  """Of the tables that a page has of a kind."""
  return re.findall(rf'<!-- {re.escape(kind)} ([\w-]+) -->\n.*?<!-- end -->', page, re.DOTALL)
