"""IMDB: 460,723 photographs of 20,284 actors from IMDb, with age and gender. See README.md in this
folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders import base, imdb_wiki


class Builder(imdb_wiki.CropsBuilder):
  """Finds the face in imdb_crop's images with MTCNN and stores it without margin."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (
    base.gray48("48x48 grey: the detector's box in the crop, without margin"),
    base.rgb224("224x224 colour: the detector's box in the crop, without margin"),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'download imdb_crop.tar ("faces only", 7 GB) from '
    'https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/, unpack it, and'
    ' give the folder that holds imdb.mat and the folders 00 ... 99'
  )
  FIELDS = (*imdb_wiki.FIELDS, 'celeb_id', 'celeb_names')

  def subjects(self, fields: Mapping[str, np.ndarray]) -> Sequence[str]:
    """Returns the celeb_id, a position in celeb_names that counts from 1; '' where it is none."""
    ids, most = fields['celeb_id'], len(fields['celeb_names'])
    return [str(int(number)) if 1 <= number <= most else '' for number in ids.tolist()]
