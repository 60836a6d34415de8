"""Savchenko 2021: one lightweight network for identity, then age, gender and ethnicity on its frozen features, then tuned for emotion.

    mtface train    --config=savchenko2021:mobilenet_v1 --data_dir=... --workdir=...            # all stages; the same command continues
    mtface evaluate --workdir=... --data_dir=... [--stage=attributes]
    mtface identify --workdir=... --data_dir=... --stage=identity --on=lfw/rgb224:train         # Table 1
    mtface classify --workdir=... --data_dir=... --stage=identity --task=ethnicity5 --train=... --test=...      # Table 7
    mtface video    --workdir=... --data_dir=... --train=afew/rgb224:train --test=afew/rgb224:validation        # Tables 4 and 5

Arguments: the backbone, mobilenet_v1, efficientnet_b0 or rexnet_150.
stage=all|identity|attributes|emotion: all stages, or those up to the identity, the attributes (without emotion), the emotion (without
attributes). Stages: `identity_head` (only with weights=, on a frozen base) and `identity`; `attributes`: heads on the frozen base;
`emotion_head` on the frozen base, and `emotion`, all weights, both from the identity. `emotion_head` is Table 2's "pre-trained" row.
classes=8|7: emotions trained on. An 8-class network is scored on 7 as well, by these 7 scores.
weights=FILE: the ImageNet weights that the paper starts from (timm's, mtface/models/weights.py); without, the identity is learnt from
scratch. `scratch=True` leaves the identity out altogether, for comparison: emotion from drawn weights, as long as both stages together.
data=paper|local: the paper's sets (VGGFace2, IMDB-WIKI, UTKFace, AffectNet) at 224 pixels; or, to be had without asking, LFW's
158 people with ten photographs, UTKFace, FER-2013 (7 classes), at 64 pixels; then no figure is comparable with the paper's.
recipe=published|fast: the paper's, or ours for a few hundred thousand samples on a CPU: no SAM (which doubles the work), a one-cycle rate,
up to 0.003 for drawn weights and heads and 0.001 for all weights after that, and emotions without class weights.
size=full|small|smoke: see `config.use_size`.

Where the paper leaves room: it gives no batch size (64 here), no L of eq. 1 (10 here), no size of the age head's "several new layers"
(none here), and no weights of the ethnicity's classes (eq. 2's here). Its binary cross-entropy of gender is the softmax of two classes,
which is the same loss of the difference of two scores. Stages go on from the best checkpoint on the validation set, as its "models with
the highest accuracy".
"""

from mtface.config import Option, experiment, model, parse_arg, source, task, use_size
from mtface.stages import stage

BACKBONES = {'mobilenet_v1': 'mobilenet', 'efficientnet_b0': 'efficientnet', 'rexnet_150': 'rexnet'}
TRUNK = ('trunk',)
SAM = 0.05  # rho, of Foret et al. 2021, which the paper cites without a number
AGES = ('age_years', 'gender')
ATTRIBUTES = (*AGES, 'ethnicity5')


def get_config(arg=None):
  args = parse_arg(
    arg,
    'configs/savchenko2021.py',
    first='backbone',
    backbone=Option('mobilenet_v1', tuple(BACKBONES)),
    stage=Option('all', ('all', 'identity', 'attributes', 'emotion')),
    classes=Option(8, (7, 8)),
    weights=Option(''),
    scratch=Option(False),
    data=Option('paper', ('paper', 'local')),
    recipe=Option('published', ('published', 'fast')),
    size=Option('full', ('full', 'small', 'smoke')),
  )
  config = experiment()
  config.arguments = args
  config.model = model(BACKBONES[args.backbone])
  config.image_shape = (64, 64, 3) if args.data == 'local' else (224, 224, 3)
  config.augment.pad = config.image_shape[0] // 16
  config.augment.rotate = 0.0
  config.batch_size = 64
  config.evaluation.batch_size = 64
  config.loss.over = 'labelled'
  config.optimizer.name = 'adam'
  config.optimizer.nesterov = False
  config.optimizer.decay = 1.0  # a constant rate
  config.optimizer.sam = SAM
  if args.recipe == 'fast':
    config.optimizer.sam, config.optimizer.schedule = 0.0, 'one_cycle'
  config.evaluation.checkpoints = ('last', 'best')
  config.checkpoint.keep_last = 3

  sets = LOCAL if args.data == 'local' else PAPER
  stages = _stages(args, sets)
  config.stages = tuple(stages)
  for name, changes in stages.items():
    config.stage[name] = changes
  if args.size != 'full':
    use_size(config, args.size)
    if args.size == 'smoke':
      for name in stages:
        config.stage[name].duration = config.duration
  return config


def _stages(args, sets):
  """{name: what it changes}, in order."""
  drawn, tuned = (3e-3, 1e-3) if args.recipe == 'fast' else (1e-3, 1e-4)  # learning rates
  emotions = f'emotion{args.classes}' if args.data == 'paper' else 'emotion7'
  emotion = emotions, 'none' if args.recipe == 'fast' else 'balanced'
  if args.scratch:
    return {'emotion': _emotion(*emotion, sets, {'duration': sets['scratch'], 'optimizer.rate': drawn})}
  stages, epochs = {}, sets['epochs']
  held = {'freeze.params': TRUNK, 'optimizer.rate': drawn}
  from_identity = {'start.weights': 'stage:identity@best'} | held
  identity = {'optimizer.rate': drawn}
  if args.weights:
    stages['identity_head'] = _identity(
      sets, {'start.weights': args.weights, 'duration': epochs['identity_head']} | held
    )
    identity = {'start.weights': 'stage:identity_head', 'optimizer.rate': tuned}
  stages['identity'] = _identity(sets, identity | {'duration': epochs['identity']})
  if args.stage in ('all', 'attributes'):
    stages['attributes'] = _attributes(sets, from_identity | {'duration': epochs['attributes']})
  if args.stage in ('all', 'emotion'):
    stages['emotion_head'] = _emotion(*emotion, sets, from_identity | {'duration': epochs['emotion_head']})
    both = {'start.weights': 'stage:emotion_head', 'optimizer.rate': tuned, 'duration': epochs['emotion']}
    stages['emotion'] = _emotion(*emotion, sets, both)
  return stages


def _identity(sets, changes):
  return _stage({f'identity:{sets["people"]}': task()}, sets['identity'], sets['identity_test'], changes)


def _attributes(sets, changes):
  tasks = {'age_years': task(top=sets['top']), 'gender': task(), 'ethnicity5': task(class_weights='balanced')}
  return _stage(
    tasks, sets['attributes'], sets['attributes_test'], changes | {'duration': sets['epochs']['attributes']}
  )


def _emotion(emotions, class_weights, sets, changes):
  training = {name: (data, (emotions,)) for name, (data, _) in sets['emotion'].items()}
  test = {
    name: (data, tuple(dict.fromkeys((emotions, 'emotion7')))) for name, (data, _) in sets['emotion_test'].items()
  }
  return _stage({emotions: task(class_weights=class_weights)}, training, test, changes)


def _stage(tasks, training, test, changes):
  found = {
    'tasks': tasks,
    'sources': {name: source(data, *of) for name, (data, of) in training.items()},
    'evaluation.sets': {name: source(data, *of) for name, (data, of) in test.items()},
    'evaluation.during_training': tuple(test),
    'evaluation.best_on': tuple(test)[:1],
  }
  return stage(found | changes)


# --- Data ---------------------------------------------------------------------------------------------------------------------------

PAPER = {
  'people': 9131,
  'identity': {'vggface2': ('vggface2/rgb224:train', ('identity:9131',))},
  'identity_test': {'vggface2': ('vggface2/rgb224:test', ('identity:9131',))},
  'attributes': {
    # "300K frontal cropped facial images from IMDB-Wiki", in proportion to the two sets' sizes; nobody on two sides
    'imdb': ('imdb/rgb224:train[take=264251,seed=0]', AGES),
    'wiki': ('wiki/rgb224:train[take=35749,seed=0]', AGES),
    'utkface': ('utkface/rgb224:train[take=20149,seed=0]', ('ethnicity5',)),
  },
  'attributes_test': {'utkface': ('utkface/rgb224:train[take=3555,after=20149,seed=0]', ATTRIBUTES)},
  'emotion': {'affectnet': ('affectnet/rgb224:train', ())},
  'emotion_test': {'affectnet': ('affectnet/rgb224:validation', ())},
  'top': 10,
  'scratch': '13 epochs',  # emotion_head and emotion together
  'epochs': {
    'identity_head': '1 epochs',
    'identity': '10 epochs',
    'attributes': '3 epochs',
    'emotion_head': '3 epochs',
    'emotion': '10 epochs',
  },
}
LOCAL = PAPER | {
  'scratch': '8 epochs',
  'people': 158,
  'identity': {'lfw': ('lfw/rgb64_158:train[fold!=0/5,by=image]', ('identity:158',))},
  'identity_test': {'lfw': ('lfw/rgb64_158:train[fold=0/5,by=image]', ('identity:158',))},
  'attributes': {'utkface': ('utkface/rgb64:train[take=20149,seed=0]', ATTRIBUTES)},
  'attributes_test': {'utkface': ('utkface/rgb64:train[take=3555,after=20149,seed=0]', ATTRIBUTES)},
  'emotion': {'fer2013': ('fer2013/rgb64:train', ())},
  'emotion_test': {'public': ('fer2013/rgb64:public_test', ()), 'private': ('fer2013/rgb64:private_test', ())},
  'epochs': PAPER['epochs']
  | {'identity': '60 epochs', 'attributes': '4 epochs', 'emotion_head': '2 epochs', 'emotion': '6 epochs'},
}
