"""The documentation as a site: built without a warning, in a copy of what it is made of; every link
and anchor of it leads somewhere, nothing is loaded from elsewhere, and every page has its place.
"""

import functools
import html.parser
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.parse

import pytest
import yaml

from tests.command import ROOT
from tests.test_layout import ORDER

_SOURCES = ('docs', 'mtface', 'launch', 'tfds_builders', 'zensical.toml')
_LOADING = {'script': 'src', 'img': 'src', 'iframe': 'src', 'source': 'src', 'link': 'href'}


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  """(the folder of the site, what the build printed)."""
  if importlib.util.find_spec('zensical') is None:
    pytest.skip("pip install 'mtface[docs]', or make docs")
  folder = tmp_path_factory.mktemp('site')
  for name in _SOURCES:
    copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
    copy(ROOT / name, folder / name)
  nowhere = dict.fromkeys(('http_proxy', 'https_proxy', 'all_proxy'), 'http://127.0.0.1:9')
  done = subprocess.run(
    [pathlib.Path(sys.executable).with_name('zensical'), 'build', '--strict'],
    cwd=folder,
    env=os.environ | nowhere,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return folder / 'site', done.stdout + done.stderr


class Page(html.parser.HTMLParser):
  """What a page links to, what it loads, and its anchors."""

  def __init__(self, path):
    super().__init__()
    self.links, self.loads, self.anchors, self.titles = [], [], set(), 0
    self.feed(path.read_text())

  def handle_starttag(self, tag, attrs):
    given = {name: value or '' for name, value in attrs}
    self.anchors |= {given[name] for name in ('id', 'name') if name in given}
    self.titles += tag == 'h1'
    if tag == 'a' and 'href' in given:
      self.links.append(given['href'])
    elif tag in _LOADING and given.get(_LOADING[tag]):
      self.loads.append(given[_LOADING[tag]])


@functools.cache
def read(path):
  return Page(path)


def pages(site):
  return sorted(path for path in site.rglob('*.html') if path.name != '404.html')


def target_of(page, link):
  """(file, anchor) of a link within the site."""
  parts = urllib.parse.urlsplit(link)
  path = page.parent / urllib.parse.unquote(parts.path) if parts.path else page
  return path.resolve() / 'index.html' if path.is_dir() else path.resolve(), parts.fragment


def test_the_build_says_nothing(built):
  text = re.sub(r'\x1b\[[0-9;]*m', '', built[1])
  told = [line for line in text.splitlines() if re.search('griffe|arning|issue|ERROR', line)]
  assert told == ['No issues found']
  assert not re.findall(r"The nav item '(\S+)' doesn't match", text)


def test_every_page_is_a_page_of_the_site(built):
  site = built[0]
  for path in (ROOT / 'docs').rglob('*.md'):
    made = site / path.relative_to(ROOT / 'docs').with_suffix('.html')
    assert read(made).titles == 1, path
  assert {path.name for path in (site / 'images').iterdir()}


def test_links_and_anchors_are_there(built):
  broken = []
  for page in pages(built[0]):
    for link in read(page).links:
      if re.match('[a-z]+:', link):
        continue
      path, anchor = target_of(page, link)
      if not path.is_file() or (
        anchor and path.suffix == '.html' and anchor not in read(path).anchors
      ):
        broken.append((page.name, link))
  assert not broken
  assert sum(len(read(page).links) for page in pages(built[0])) > 1000


def test_nothing_is_loaded_from_elsewhere(built):
  site = built[0]
  for page in pages(site):
    for load in read(page).loads:
      path, _ = target_of(page, load)
      assert path.is_file(), (page.name, load)
  for sheet in site.rglob('*.css'):
    for link in re.findall(r'url\(["\']?([^)"\']+)', sheet.read_text()):
      assert link.startswith(('data:', '#')) or target_of(sheet, link)[0].is_file(), link
    assert '@import' not in sheet.read_text()


def test_the_reference_has_what_the_docstrings_say(built):
  reference = built[0] / 'reference'
  for package in ORDER[1:]:
    assert f'mtface.{package}' in read(reference / f'{package}.html').anchors
  assert 'mtface.losses.multiclass_squared_hinge' in read(reference / 'vocabulary.html').anchors
  assert 'mtface.train.train' in read(reference / 'index.html').anchors
  text = (reference / 'training.html').read_text()
  assert 'Sends the lines of one stage' in text and 'mtface.training.trackers.Tracker' in text


# --- Without the program that builds it -----------------------------------------------------------


def places(nav):
  """The files of a navigation, in order."""
  for entry in nav:
    for inside in entry.values() if isinstance(entry, dict) else [entry]:
      yield from places(inside) if isinstance(inside, list) else [inside]


@pytest.mark.parametrize('folder', ['docs', 'docs/reference'])
def test_every_page_has_its_place(folder):
  nav = list(places(yaml.safe_load((ROOT / folder / '.nav.yml').read_text())['nav']))
  assert len(nav) == len(set(nav))
  there = {path.name for path in (ROOT / folder).glob('*.md')}
  assert there <= set(nav), 'a new page gets a line in .nav.yml'
  assert {name for name in nav if name.endswith('.md')} <= there


def test_the_readme_is_one_screen():
  text = (ROOT / 'README.md').read_text()
  assert len(text.splitlines()) <= 80


def test_the_citation_is_of_this_version():
  citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  assert (citation['version'], citation['license']) == (project['version'], project['license'])
  assert {'cff-version', 'message', 'title', 'authors'} <= citation.keys()


def test_the_changelog_keeps_its_form():
  text = (ROOT / 'CHANGELOG.md').read_text()
  versions = re.findall(r'^## (.*)$', text, re.MULTILINE)
  assert versions[0] == '[Unreleased]'
  assert all(re.fullmatch(r'\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d', name) for name in versions[1:])
  kinds = {'Added', 'Changed', 'Deprecated', 'Removed', 'Fixed', 'Security'}
  assert set(re.findall(r'^### (.*)$', text, re.MULTILINE)) <= kinds
