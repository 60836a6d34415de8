"""The page in headless Chromium: no console error, nothing wider than a phone. Skipped where there
is no Chromium.
"""

import html
import re
import shutil
import subprocess

import pytest

from mtface.report.page.write import write_page
from tests.report.made import made_run

CHROMIUM = next(
  filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), ''
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason='no Chromium is installed')


def opened(path, profile):
  """(the page's elements as the browser has them, what it wrote on its console)."""
  flags = ['--headless', '--no-sandbox', '--disable-gpu', '--enable-logging=stderr', '--dump-dom']
  done = subprocess.run(
    [CHROMIUM, *flags, f'--user-data-dir={profile}', '--virtual-time-budget=3000', path.as_uri()],
    capture_output=True,
    text=True,
    timeout=120,
  )
  return done.stdout, [line for line in done.stderr.splitlines() if 'CONSOLE' in line]


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
  folder = tmp_path_factory.mktemp('browser')
  made_run(folder / 'a')
  made_run(folder / 'b', seed=3)
  one = write_page([folder / 'a'], folder)
  return folder, one, write_page([folder / 'a', folder / 'b'], folder, to=folder / 'both.html')


def test_nothing_on_the_console(pages):
  dom, console = opened(pages[1], pages[0] / 'profile')
  assert console == []
  assert dom.count('<section') == 12
  assert '<svg' in dom


def test_the_console_is_heard(pages):
  """A page that asks for something is caught, or the test above would pass whatever it did."""
  path = pages[0] / 'bad.html'
  text = pages[1].read_text().replace('<h1>', '<img src="http://127.0.0.1:9/x.png"><h1>', 1)
  path.write_text(text)
  assert opened(path, pages[0] / 'profile')[1]


@pytest.mark.parametrize('width', [390, 1280])
def test_nothing_is_wider_than_the_window(pages, width):
  frames = ''.join(
    f'<iframe width="{width}" height="900" srcdoc="{html.escape(page.read_text())}"></iframe>'
    for page in pages[1:]
  )
  script = (
    'onload = () => document.title = [...document.querySelectorAll("iframe")].map('
    'f => f.contentDocument.documentElement.scrollWidth).join(" ")'
  )
  path = pages[0] / f'frames{width}.html'
  path.write_text(f'<!DOCTYPE html><title></title><script>{script}</script>{frames}')
  dom, _ = opened(path, pages[0] / 'profile')
  widths = [int(text) for text in re.search(r'<title>(.*?)</title>', dom)[1].split()]
  assert len(widths) == 2
  assert all(found <= width for found in widths), widths
