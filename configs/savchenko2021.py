"""Savchenko 2021: one lightweight network for identity, then age, gender and ethnicity on its
frozen features, then tuned for emotion.

    # All stages; rerun the same command to resume.
    mtface train    --config=savchenko2021:mobilenet_v1 --data_dir=... --workdir=...
    mtface evaluate --workdir=... --data_dir=... [--stage=attributes]
    # Table 1
    mtface identify --workdir=... --data_dir=... --stage=identity --checkpoint=best \\
                    '--on=lfw/rgb224:train[ytf=1]'
    # Table 7
    mtface classify --workdir=... --data_dir=... --stage=identity --checkpoint=best \\
                    --task=ethnicity5 '--train=utkface/rgb224:train[take=20149,seed=0]' \\
                    '--test=utkface/rgb224:train[take=3555,after=20149,seed=0]'
    # Tables 4 and 5
    mtface video    --workdir=... --data_dir=... --train=afew/rgb224:train \\
                    --test=afew/rgb224:validation
    mtface video    --workdir=... --data_dir=... --level=group --train=vgaf/rgb224:train \\
                    --test=vgaf/rgb224:validation
    # Tables 1 to 7, ours beside the paper's
    mtface table savchenko2021 --workdirs=...,... [--table=2]

Arguments: the backbone, mobilenet_v1, efficientnet_b0 or rexnet_150.
stage=all|identity|attributes|emotion: all stages, or those up to the identity, the attributes
(without emotion), the emotion (without attributes). Stages: `identity_head` (only with weights=, on
a frozen base) and `identity`; `attributes`: heads on the frozen base; `emotion_head` on the frozen
base, and `emotion`, all weights, both from the identity. `emotion_head` is Table 2's "pre-trained"
row. classes=8|7: emotions trained on (data=local has 7). An 8-class network is scored on 7 as well,
by these 7 scores. weights=FILE: the ImageNet weights that the paper starts from (timm's,
mtface/models/weights.py); without, the identity is learnt from scratch. imagenet=True leaves the
identity out: emotion from these weights, Table 2's rows "(ImageNet)". scratch=True leaves it out
for comparison: emotion from drawn weights, as long as both stages together.
input=half|imagenet|caffe: how the network wants its images (mtface/models/backbone.py). By default
as the weights were trained: what FILE says itself if `mtface export` wrote it, else what timm's
published weights of the backbone expect (TIMM_INPUT); half without weights. data=paper|local: the
paper's sets (VGGFace2, IMDB-WIKI, UTKFace, AffectNet) at 224 pixels; or, to be had without asking,
LFW's 158 people with ten photographs, UTKFace, FER-2013 (7 classes), at 64 pixels; then no figure
is comparable with the paper's. recipe=published|fast: the paper's, or ours for a few hundred
thousand samples on a CPU: no SAM (which doubles the work), a one-cycle rate, up to 0.003 for drawn
weights and heads and 0.001 for all weights after that, and emotions without class weights.
size=full|small|smoke: see `config.use_size`.

Where the paper leaves room, or cannot be followed (docs/papers.md has all of it, row by row):
- it gives no batch size (64 here), no rho of SAM (0.05, Foret et al. 2021), no L of eq. 1 (10
  here), no size of the age head's "several new layers" (none here), and no weights of the
  ethnicity's classes (eq. 2's here). Its binary cross-entropy of gender is the softmax of two
  classes, which is the same loss of the difference of two scores. Ages are classes "1, 2, ... or
  C_a" there, 0 to 116 here.
- augmentation: none is stated. A random crop after padding by a 16th of the side (14 pixels), and
  flips.
- dropout and stochastic depth: none is stated. Those of the networks' own papers (0.2 and 0.2 of
  B0; 0.2 and 0 of RexNet; MobileNet 0).
- attributes: neither optimiser nor mixture is stated. SAM and Adam at 0.001, as for other new
  heads; equal numbers of labelled samples a task, so that UTKFace's 20,149 faces are drawn some
  300,000 times an epoch, 45 times each in three epochs.
- "300K frontal cropped facial images": there is no frontal filter here. IMDB and Wiki give up to
  264,251 and 35,749 in proportion to their sizes; their builders leave out photographs with a
  second face, so fewer may be there, and then all of them are taken.
- ages and genders are tested there on 23,060 faces of UTKFace "In the Wild" aligned by dlib with a
  margin of 0.4, which we have no builder
  for: the aligned chips, all 23,707, stand in (`utkface_all`).
- ethnicity: the whole aligned chips, whose number the paper's adds up to (20,149 + 3,559 = 23,708);
  no detector's box in them.
- stages go on from the best checkpoint of the identity on the validation set, as its "models with
  the highest accuracy"; `emotion` goes on from the last checkpoint of `emotion_head`, of which the
  paper says nothing; the tables show the last one of each later stage.
- clips: AFEW's main face is mostly, not always, the largest (`faces.video.follow`); VGAF is looked
  at in every fifth frame, not in all.
"""

from mtface.config import (
  Option,
  contradiction,
  experiment,
  given_arguments,
  model,
  optimizer,
  parse_arg,
  source,
  stage,
  task,
  use_size,
)
from mtface.errors import UserError
from mtface.report.papers import Column, PaperRow, PaperTable, others

FILE = 'configs/savchenko2021.py'
BACKBONES = {'mobilenet_v1': 'mobilenet', 'efficientnet_b0': 'efficientnet', 'rexnet_150': 'rexnet'}
# of mobilenetv1_100.ra4_e3600_r224_in1k, efficientnet_b0.ra_in1k, rexnet_150.nav_in1k
TIMM_INPUT = {
  'mobilenet_v1': 'half',
  'efficientnet_b0': 'imagenet',
  'rexnet_150': 'imagenet',
}
TRUNK = ('trunk',)
SAM = 0.05  # rho, of Foret et al. 2021, which the paper cites without a number
AGES = ('age_years', 'gender')
ATTRIBUTES = (*AGES, 'ethnicity5')


def get_config(arg=None):
  args = parse_arg(
    arg,
    FILE,
    first='backbone',
    backbone=Option('mobilenet_v1', tuple(BACKBONES)),
    stage=Option('all', ('all', 'identity', 'attributes', 'emotion')),
    classes=Option(8, (7, 8)),
    weights=Option(''),
    imagenet=Option(False),
    scratch=Option(False),
    input=Option('', ('', 'half', 'imagenet', 'caffe')),
    data=Option('paper', ('paper', 'local')),
    recipe=Option('published', ('published', 'fast')),
    size=Option('full', ('full', 'small', 'smoke')),
  )
  _check(args, given_arguments(arg, 'backbone'))
  if args.data == 'local':
    args.classes = 7
  config = experiment()
  config.arguments = args
  config.model = model(BACKBONES[args.backbone], input=_input(args))
  config.image_shape = (64, 64, 3) if args.data == 'local' else (224, 224, 3)
  config.augment.pad = config.image_shape[0] // 16
  config.augment.rotate = 0.0
  config.batch_size = 64
  config.evaluation.batch_size = 64
  config.loss.over = 'labelled'
  config.optimizer = optimizer('adam', decay=1.0, sam=SAM)  # a constant rate
  if args.recipe == 'fast':
    config.optimizer = optimizer('adam', schedule='one_cycle')
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


def _check(args, given):
  """Raises a `UserError` for arguments that exclude each other, or want another one."""
  identity = 'there is no identity stage'
  pairs = (
    (
      'scratch=True',
      args.scratch,
      f'weights={args.weights}',
      args.weights,
      'from scratch is without weights',
    ),
    (
      'scratch=True',
      args.scratch,
      'imagenet=True',
      args.imagenet,
      'weights are either initialised at random or read from a file',
    ),
    (
      'scratch=True',
      args.scratch,
      f'stage={args.stage}',
      args.stage in ('identity', 'attributes'),
      identity,
    ),
    (
      'imagenet=True',
      args.imagenet,
      f'stage={args.stage}',
      args.stage in ('identity', 'attributes'),
      identity,
    ),
    (
      'data=local',
      args.data == 'local',
      'classes=8',
      args.classes == 8 and 'classes' in given,
      'FER-2013 has 7',
    ),
  )
  for one, is_one, other, is_other, why in pairs:
    if is_one and is_other:
      raise contradiction(FILE, one, other, why)
  if args.imagenet and not args.weights:
    raise UserError(f'{FILE}: imagenet=True starts from a file; name it with weights=FILE')


def _input(args):
  """How images are scaled: as the weights were trained."""
  if args.input or not args.weights:
    return args.input or 'half'
  from mtface.models.weights import (
    trained_input,
  )  # here, since it takes JAX along, which a launcher does without

  return trained_input(args.weights) or TIMM_INPUT[args.backbone]


def _stages(args, sets):
  """{name: what it changes}, in order."""
  drawn, tuned = (3e-3, 1e-3) if args.recipe == 'fast' else (1e-3, 1e-4)  # learning rates
  emotions = f'emotion{args.classes}' if args.data == 'paper' else 'emotion7'
  emotion = emotions, 'none' if args.recipe == 'fast' else 'balanced'
  if args.scratch:
    return {
      'emotion': _emotion(*emotion, sets, {'duration': sets['scratch'], 'optimizer.rate': drawn})
    }
  stages, epochs = {}, sets['epochs']
  held = {'freeze.params': TRUNK, 'optimizer.rate': drawn}
  begin = {'start.weights': args.weights if args.imagenet else 'stage:identity@best'} | held
  identity = {'optimizer.rate': drawn}
  if args.weights and not args.imagenet:
    stages['identity_head'] = _identity(
      sets, {'start.weights': args.weights, 'duration': epochs['identity_head']} | held
    )
    identity = {'start.weights': 'stage:identity_head', 'optimizer.rate': tuned}
  if not args.imagenet:
    stages['identity'] = _identity(sets, identity | {'duration': epochs['identity']})
  if args.stage in ('all', 'attributes') and not args.imagenet:
    stages['attributes'] = _attributes(sets, begin | {'duration': epochs['attributes']})
  if args.stage in ('all', 'emotion'):
    stages['emotion_head'] = _emotion(*emotion, sets, begin | {'duration': epochs['emotion_head']})
    both = {
      'start.weights': 'stage:emotion_head',
      'optimizer.rate': tuned,
      'duration': epochs['emotion'],
    }
    stages['emotion'] = _emotion(*emotion, sets, both)
  return stages


def _identity(sets, changes):
  return _stage(
    {f'identity:{sets["people"]}': task()}, sets['identity'], sets['identity_test'], changes
  )


def _attributes(sets, changes):
  tasks = {
    'age_years': task(top=sets['top']),
    'gender': task(),
    'ethnicity5': task(class_weights='balanced'),
  }
  found = _stage(tasks, sets['attributes'], sets['attributes_test'], changes)
  for name, (data, of) in sets[
    'attributes_more'
  ].items():  # measured at the end, not at each checkpoint
    found.evaluation.sets[name] = source(data, *of)
  return found


def _emotion(emotions, class_weights, sets, changes):
  training = {name: (data, (emotions,)) for name, (data, _) in sets['emotion'].items()}
  test = {
    name: (data, tuple(dict.fromkeys((emotions, 'emotion7'))))
    for name, (data, _) in sets['emotion_test'].items()
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


# --- Data -----------------------------------------------------------------------------------------

PAPER = {
  'people': 9131,
  'identity': {'vggface2': ('vggface2/rgb224:train', ('identity:9131',))},
  'identity_test': {'vggface2': ('vggface2/rgb224:test', ('identity:9131',))},
  'attributes': {
    # "300K frontal cropped facial images from the IMDB-Wiki dataset", in proportion to the two
    # sets' sizes
    'imdb': ('imdb/rgb224:train[upto=264251,seed=0]', AGES),
    'wiki': ('wiki/rgb224:train[upto=35749,seed=0]', AGES),
    'utkface': ('utkface/rgb224:train[take=20149,seed=0]', ('ethnicity5',)),
  },
  'attributes_test': {
    'utkface': ('utkface/rgb224:train[take=3555,after=20149,seed=0]', ATTRIBUTES)
  },
  'attributes_more': {  # Table 6
    'utkface_all': ('utkface/rgb224:train', AGES),
    'utkface_21_60': ('utkface/rgb224:train[age_years=21-60,take=3286,after=13147,seed=0]', AGES),
  },
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
  'attributes_more': {},
  'emotion': {'fer2013': ('fer2013/rgb64:train', ())},
  'emotion_test': {
    'public': ('fer2013/rgb64:public_test', ()),
    'private': ('fer2013/rgb64:private_test', ()),
  },
  'epochs': PAPER['epochs']
  | {
    'identity': '60 epochs',
    'attributes': '4 epochs',
    'emotion_head': '2 epochs',
    'emotion': '6 epochs',
  },
}


# --- The paper's tables ---------------------------------------------------------------------------

NAMES = {
  'mobilenet_v1': 'MobileNet-v1',
  'efficientnet_b0': 'EfficientNet-B0',
  'rexnet_150': 'RexNet-150',
}


def _table(number, what, columns, rows, *notes):
  return PaperTable(f'Savchenko 2021, Table {number}: {what}', columns, rows, notes)


def _figures(columns, values):
  """{column: (figure, deviation or None)} of values, a number or (number, deviation) or None, in
  the columns' order.
  """
  pairs = {
    column: x if isinstance(x, tuple) else (x, None)
    for column, x in zip(columns, values, strict=True)
  }
  return {column: pair for column, pair in pairs.items() if pair[0] is not None}


# Table 1: rank 1 of 596 people of LFW.
_TEN = {'repeats': (10,)}
FACES = {
  'Center crop': Column('', ('lfw/rgb224_center:train[ytf=1]',), 'accuracies', 'identify', _TEN),
  'Cropped by MTCNN without margins': Column(
    '', ('lfw/rgb224:train[ytf=1]',), 'accuracies', 'identify', _TEN
  ),
}
LOCAL_FACES = {
  'Cropped by MTCNN without margins': Column(
    '', ('lfw/rgb64_158:train[fold=0/5,by=image]',), 'accuracies', 'identify', _TEN
  )
}
RANK_1 = {
  'mobilenet_v1': ((90.80, 3.96), (92.60, 4.01)),
  'efficientnet_b0': ((92.71, 4.61), (94.58, 4.58)),
  'rexnet_150': ((94.76, 4.45), (96.59, 3.95)),
}

# Table 2: AffectNet. {backbone: (8 classes, 7 classes)}
EMOTIONS = {
  '8 classes': Column('emotion8', ('affectnet',)),
  '7 classes': Column('emotion7', ('affectnet',)),
}
LOCAL_EMOTIONS = {'7 classes': Column('emotion7', ('private',))}
EMOTIONS_OF_OTHERS = {
  'PSR (VGG-16) [20]': {'8 classes': 60.68},
  'ARM (ResNet-18) [21]': {'8 classes': 59.75, '7 classes': 64.49},
  'RAN [22]': {'8 classes': 59.5},
  'PAENet [8]': {'7 classes': 65.29},
  'DACL [23]': {'7 classes': 65.20},
  'EmotionNet (InceptionResNet-v1) [8]': {'7 classes': 64.74},
  'CPG [24]': {'7 classes': 63.57},
  'Inception-v3 (ImageNet)': {'8 classes': 59.65, '7 classes': 63.1},
  'NFNet-F0 (ImageNet)': {'8 classes': 58.35, '7 classes': 61.9},
  'SENet-50 (VGGFace2)': {'8 classes': 58.70, '7 classes': 62.3},
  'Pre-trained SENet-50 (VGGFace2)': {'8 classes': 40.87, '7 classes': 44.76},
}
NO = (False, None)  # None: of runs from before there was such an argument
IMAGENET = {'mobilenet_v1': (56.88, 60.4), 'efficientnet_b0': (57.55, 60.8)}
PRE_TRAINED = {
  'mobilenet_v1': (40.58, 45.17),
  'efficientnet_b0': (49.15, 55.87),
  'rexnet_150': (48.88, 56.95),
}
EIGHT = {'mobilenet_v1': (60.20, 64.71), 'efficientnet_b0': (61.32, 64.57)}
SEVEN = {'efficientnet_b0': (None, 65.74), 'rexnet_150': (None, 65.54)}


def _emotion_rows():
  rows = others(EMOTIONS_OF_OTHERS)
  kinds = (
    ('{} (ImageNet)', IMAGENET, 'emotion', {'imagenet': (True,)}),
    ('Pre-trained {} (VGGFace2)', PRE_TRAINED, 'emotion_head', {'imagenet': NO, 'classes': (8,)}),
    ('{} (VGGFace2)', EIGHT, 'emotion', {'imagenet': NO, 'scratch': NO, 'classes': (8,)}),
    (
      '{} (VGGFace2), 7 classes',
      SEVEN,
      'emotion',
      {'imagenet': NO, 'scratch': NO, 'classes': (7,)},
    ),
    ('{} from scratch', {}, 'emotion', {'scratch': (True,)}),
  )
  for name, published, of_stage, arguments in kinds:
    for backbone, words in NAMES.items():
      paper = _figures(EMOTIONS, published.get(backbone, (None, None)))
      rows[name.format(words)] = PaperRow(
        {'backbone': (backbone,)} | arguments, 'last', paper, LOCAL_EMOTIONS, stage=of_stage
      )
  return rows


# Tables 4 and 5: clips. The paper takes "either LinearSVC or Random Forests"; which one a figure is
# of it does not say.
def _clip_columns(name):
  test, where = (
    (f'{name}/rgb224:validation',),
    {'train': (f'{name}/rgb224:train',), 'trees': (1000,)},
  )
  svm, forest = (where | {'classifier': (classifier,)} for classifier in ('svm', 'forest'))
  both = where | {'classifier': ('svm', 'forest')}
  return {
    'LinearSVC': Column('', test, 'accuracy', 'video', svm),
    'random forest': Column('', test, 'accuracy', 'video', forest),
    'the better of both': Column('', test, 'accuracy', 'video', both, best=True),
    'of clips with a face': Column('', test, 'accuracy_with_face', 'video', both, best=True),
  }


def _clip_rows(level, published, of_others):
  rows = others({name: {'the better of both': accuracy} for name, accuracy in of_others.items()})
  for backbone, (all_clips, with_face) in published.items():
    paper = _figures(('the better of both', 'of clips with a face'), (all_clips, with_face))
    where = {'level': (level,)}
    rows[f'Our {NAMES[backbone]}'] = PaperRow(
      {'backbone': (backbone,)}, 'last', paper, stage='emotion', where=where
    )
  return rows


AFEW_OF_OTHERS = {
  'VGG13 + VGG16 + ResNet [4], ensemble': 59.42,
  'Hu et al. [25], ensemble, audio and video': 59.01,
  'Four face recognition CNNs + STAT + FFT [18], ensemble': 56.7,
  'Noisy student with iterative training [26]': 55.17,
  'Noisy student w/o iterative training [26]': 52.49,
  'DenseNet-161 [27]': 51.44,
  'Face attention network (FAN) [28]': 51.18,
  'LBP-TOP (baseline) [11]': 38.90,
}
VGAF_OF_OTHERS = {
  'Hybrid Networks [5], ensemble, audio and video': 74.28,
  'K-injection network [29], ensemble, audio and video': 66.19,
  'DenseNet-121 (FER+) [5]': 64.75,
  'Activity Recognition Networks [30]': 62.40,
  'Inception + LSTM (baseline) [12]': 52.09,
}
AFEW = {
  'mobilenet_v1': (55.35, None),
  'efficientnet_b0': (59.27, 59.89),
  'rexnet_150': (57.27, None),
}
VGAF = {
  'mobilenet_v1': (68.92, 70.31),
  'efficientnet_b0': (66.80, 68.29),
  'rexnet_150': (63.58, None),
}

# Table 6, and what the text adds to it: the ages from 21 to 60.
PEOPLE = {
  'gender': Column('gender', ('utkface_wild',)),
  'age: MAE, years': Column('age_years', ('utkface_wild',), 'mae'),
  'gender, ages 21-60': Column('gender', ('utkface_21_60',)),
  'age 21-60: MAE, years': Column('age_years', ('utkface_21_60',), 'mae'),
}
PEOPLE_STAND_INS = {
  name: Column(PEOPLE[name].task, ('utkface_all',), PEOPLE[name].figure)
  for name in list(PEOPLE)[:2]
}
PEOPLE_OF_OTHERS = {
  'FaceNet': (89.54, 8.58, None, None),
  'MobileNet v2 (Agegendernet)': (91.47, 7.29, None, None),
  'ResNet-50 (InsightFace)': (87.52, 8.57, None, None),
  'DEX': (91.05, 6.48, None, None),
  'CORAL-CNN [31]': (None, None, None, 5.47),
}


# Table 7: ethnicity. Our classifiers on the identity's features; the network's own head is the
# paper's "new fully connected layer" too.
def _ethnicity(form, figure='accuracy'):
  train, test = (
    f'utkface/{form}:train[take=20149,seed=0]',
    f'utkface/{form}:train[take=3555,after=20149,seed=0]',
  )
  return Column('ethnicity5', (test,), figure, 'classify', {'train': (train,), 'l2': (True,)})


OURS, BALANCED = 'Our MobileNet-v1', 'ours, balanced accuracy'
ETHNICITY = dict.fromkeys(('VGGFace', 'VGGFace-2', 'FaceNet')) | {
  OURS: _ethnicity('rgb224'),
  BALANCED: _ethnicity('rgb224', 'balanced_accuracy'),
}
ETHNICITY_STAND_INS = {
  OURS: _ethnicity('rgb64'),
  BALANCED: _ethnicity('rgb64', 'balanced_accuracy'),
}
CLASSIFIED = {
  'Random Forest': ('forest', (83.5, 87.8, 84.3, 83.8, None)),
  'k-NN': ('knn', (76.2, 84.5, 84.4, 82.2, None)),
  'LinearSVC': ('svm', (79.5, 83.1, 85.6, 85.6, None)),
  'New Fully Connected layer': ('linear', (80.4, 86.4, 84.4, 87.6, None)),
}


def _ethnicity_rows():
  of = {'backbone': ('mobilenet_v1',)}
  rows = {}
  for name, (classifier, figures) in CLASSIFIED.items():
    where = {'classifier': (classifier,)}
    paper = _figures(ETHNICITY, figures)
    rows[name] = PaperRow(of, 'best', paper, ETHNICITY_STAND_INS, stage='identity', where=where)
  head = {
    OURS: Column('ethnicity5', ('utkface',)),
    BALANCED: Column('ethnicity5', ('utkface',), 'balanced_accuracy'),
  }
  rows['the same, as a head of the network'] = PaperRow(
    of | {'data': ('paper',)}, 'last', {OURS: (87.6, None)}, stage='attributes', columns=head
  )
  return rows


# Table 3: (ms an image, parameters in millions, though the paper heads them "MB").
SPEED = ('ms an image', 'parameters, M')
SPEEDS = {
  'VGG-16': (224.7, 134.3),
  'ResNet-18': (58.7, 11.7),
  'Inception-v3': (160.4, 19.7),
  'NFNet-F0': (621.1, 66.4),
  'SENet-50': (128.4, 25.5),
  'Our MobileNet-v1': (40.6, 3.2),
  'Our EfficientNet-B0': (54.8, 4.3),
  'Our RexNet-150': (104.0, 8.3),
}


def _face_rows():
  rows = others({'SENet-50 [9]': _figures(FACES, ((97.21, 4.19), (96.61, 2.02)))})
  for backbone, figures in RANK_1.items():
    of, paper = {'backbone': (backbone,)}, _figures(FACES, figures)
    rows[f'Our {NAMES[backbone]}'] = PaperRow(of, 'best', paper, LOCAL_FACES, stage='identity')
  return rows


def _people_rows():
  rows = others({name: _figures(PEOPLE, figures) for name, figures in PEOPLE_OF_OTHERS.items()})
  for backbone, words in NAMES.items():
    paper = _figures(PEOPLE, (93.79, 5.74, 97.5, 5.39)) if backbone == 'mobilenet_v1' else {}
    rows[f'Our {words}'] = PaperRow(
      {'backbone': (backbone,)}, 'last', paper, PEOPLE_STAND_INS, stage='attributes'
    )
  return rows


LATENCY = 'ours: `python -m benchmarks.prediction --cases=Savchenko`, kept in docs/benchmarks.md'
AGES_21_60 = (
  'the ages from 21 to 60 are in the text of section 3.3; which 3,287 faces they were '
  'is not published'
)
SPEED_ROWS = others({name: _figures(SPEED, figures) for name, figures in SPEEDS.items()})
TABLES = {
  '1': _table(
    1, 'rank 1 in percent on LFW, mean and deviation of ten galleries', FACES, _face_rows()
  ),
  '2': _table(2, 'accuracy in percent on AffectNet', EMOTIONS, _emotion_rows()),
  '3': _table(
    3, "speed on one laptop's CPU, and parameters", dict.fromkeys(SPEED), SPEED_ROWS, LATENCY
  ),
  '4': _table(
    4,
    'accuracy in percent on AFEW',
    _clip_columns('afew'),
    _clip_rows('clip', AFEW, AFEW_OF_OTHERS),
  ),
  '5': _table(
    5,
    'accuracy in percent on VGAF',
    _clip_columns('vgaf'),
    _clip_rows('group', VGAF, VGAF_OF_OTHERS),
  ),
  '6': _table(6, 'gender and age on UTKFace', PEOPLE, _people_rows(), AGES_21_60),
  '7': _table(7, 'accuracy in percent of ethnicity on UTKFace', ETHNICITY, _ethnicity_rows()),
}
