"""WIKI: 62,328 photographs of people from Wikipedia, with age and gender. See README.md in this
folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders import base, imdb_wiki


class Builder(imdb_wiki.CropsBuilder):
  """Finds the face in wiki_crop's images with MTCNN and stores it without margin."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (
    base.gray48("48x48 grey: the detector's box in the crop, without margin"),
    base.rgb224("224x224 colour: the detector's box in the crop, without margin"),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'download wiki_crop.tar ("faces only", 1 GB) from '
    'https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/, unpack it, and'
    ' give the folder that holds wiki.mat and the folders 00 ... 99'
  )
  FIELDS = (*imdb_wiki.FIELDS, 'name')

  def subjects(self, fields: Mapping[str, np.ndarray]) -> Sequence[str]:
    """Returns the names in lower case, for wiki.mat has no celeb_id; two people of one name are one
    subject.
    """
    return [name.strip().lower() for name in fields['name'].tolist()]
