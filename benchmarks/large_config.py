"""A small network on as many synthetic faces of 224x224 as the argument says:
`--config=benchmarks/large_config.py:300000`.

For what grows with the size of a set: memory, the time to the first step, the loader. The network
is small, so that the loader shows.
"""

from mtface.config.schema import experiment, model, source, task


def get_config(faces='300000'):
  config = experiment()
  config.name = f'large:{faces}'
  config.tasks.gender = task()
  config.tasks.age_years = task()
  config.sources.people = source(
    f'synthetic_faces/people_rgb224_{faces}:train', 'gender', 'age_years'
  )
  config.evaluation.sets.people = source(
    f'synthetic_faces/people_rgb224_{faces}:test', 'gender', 'age_years'
  )
  config.model = model('mobilenet', width=0.125)
  config.image_shape = (224, 224, 3)
  config.augment.rotate, config.augment.pad = 0.0, 14
  config.batch_size, config.evaluation.batch_size = 32, 64
  config.loss.over = 'labelled'
  config.duration, config.checkpoint.every, config.log_every = '300 steps', '100 steps', '50 steps'
  config.store = 'stream'  # of every size, so that what is compared is the same
  return config
