"""All steps of Zhang 2016 at the smallest size: four stages of 6 steps on images of 32x32."""

from tests.configs import rows


def get_config():
  config = rows.fitted(rows.get('zhang2016', 'gender,data=local,size=smoke'), 32, steps=6)
  config.checkpoint.every = '2 steps'
  return config
