"""Whose the data sets are: where each comes from and under which terms, as docs/datasets.md and the
builders' pages say. Model cards and reports quote it.

mtface includes none of the sets, and nothing here is legal advice: a set's own page counts.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Terms:
  """A set's terms in short.

  Attributes:
    licence: an SPDX identifier where the set names one, else ''.
    terms: in words.
    url: where it comes from; '' of what mtface draws itself.
    research_only: whether its terms allow research alone; None where they do not say.
  """

  licence: str
  terms: str
  url: str
  research_only: bool | None


def _research(terms: str, url: str) -> Terms:
  return Terms('', terms, url, True)


_WEB = 'the photographs belong to others'
_IMDB_WIKI = 'https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/'
_FEW = 'https://users.cecs.anu.edu.au/~few_group/AFEW.html'
_FER2013 = (
  'https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-'
  'challenge/data'
)

TERMS: dict[str, Terms] = {
  'synthetic_faces': Terms('Apache-2.0', 'drawn by mtface; free to use', '', False),
  'genki4k': Terms(
    '',
    f'its README asks for a citation and names no licence; {_WEB}',
    'https://inc.ucsd.edu/mplab/398/',
    None,
  ),
  'fer2013': _research("rules of Kaggle's challenge, for research; FERPlus' labels: MIT", _FER2013),
  'utkface': _research(
    f'non-commercial research only; {_WEB}', 'https://susanqq.github.io/UTKFace/'
  ),
  'imdb': _research(f'academic research only; {_WEB}', _IMDB_WIKI),
  'wiki': _research(f'academic research only; {_WEB}', _IMDB_WIKI),
  'lfw': _research(f'for research; {_WEB}', 'http://vis-www.cs.umass.edu/lfw/'),
  'vggface2': _research(f'for research; {_WEB}', 'https://github.com/ox-vgg/vgg_face2'),
  'affectnet': _research(
    f'for research, after a signed agreement; {_WEB}', 'http://mohammadmahoor.com/affectnet/'
  ),
  'fairface': Terms(
    'CC-BY-4.0',
    'CC BY 4.0; the photographs have their own licences',
    'https://github.com/joojs/fairface',
    False,
  ),
  'celeba': _research(
    f'non-commercial research only, not to be passed on; {_WEB}',
    'https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html',
  ),
  'fotw': Terms('', f'those of the challenge; {_WEB}', 'https://chalearnlap.cvc.uab.cat/', None),
  'afew': _research(
    'academic research, after a signed agreement; the films belong to others', _FEW
  ),
  'vgaf': _research(
    'academic research, after a signed agreement; the videos belong to others',
    'https://sites.google.com/view/emotiw2020',
  ),
  'emotionet': _research(
    f'non-commercial research, after a signed agreement; {_WEB}',
    'http://cbcsl.ece.ohio-state.edu/EmotionNetChallenge/',
  ),
  'sfew': _research(
    'academic research, after a signed agreement; the films belong to others', _FEW
  ),
  'ckplus': _research(
    'non-commercial research, after a signed agreement', 'https://www.jeffcohn.net/resources/'
  ),
  'jaffe': _research(
    'non-commercial scientific research, with the source cited',
    'https://zenodo.org/records/3451524',
  ),
}

_UNKNOWN = Terms('', 'not known to mtface; ask whoever owns the set', '', None)


def terms_of(set_name: str) -> Terms:
  """The terms of SET or SET/CONFIG; of a set that mtface does not know, that they are not known."""
  return TERMS.get(set_name.partition('/')[0], _UNKNOWN)
