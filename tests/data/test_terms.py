"""The terms that reports quote are those of the builders' own pages."""

import re

import pytest

from mtface.data.terms import TERMS, terms_of
from tests.command import ROOT

PAGES = {
  path.parent.name: ' '.join(path.read_text().split())
  for path in (ROOT / 'tfds_builders').glob('*/README.md')
}


def test_every_builder_has_terms():
  own = {name for name in PAGES if name != 'image_csv'}  # whose sets are the users' own
  assert own == TERMS.keys()


@pytest.mark.parametrize('name', [name for name in TERMS if name in PAGES])
def test_they_are_those_of_the_builders_page(name):
  terms, page = TERMS[name], PAGES[name]
  assert terms.url in page
  said = re.search(r'\*\*Terms:\*\* (.*?)(?: - \*\*|$)', page)[1].lower()
  assert (terms.research_only is True) == ('research' in said)
  assert ('belong to others' in said) == ('belong to others' in terms.terms)
  assert not terms.licence or terms.licence.split('-')[0].lower() in said + ' apache'
  assert ('agreement' in terms.terms) == ('after a signed agreement' in page)


def test_a_set_of_ones_own():
  assert terms_of('fer2013/gray48') == TERMS['fer2013']
  assert terms_of('mine/gray48').terms.startswith('not known')
