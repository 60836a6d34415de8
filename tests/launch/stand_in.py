"""In place of mtface, where a test is of what starts it: `python -m tests.launch.stand_in train
--workdir=...` keeps to mtface's contract.

It counts steps, each a link of a chain of hashes; SIGTERM or SIGUSR1 to any rank makes all stop,
save and exit with code 75; the same command continues. It needs no JAX, so it starts in no time.
What a test may set:

  STAND_IN_STEPS, STAND_IN_SECONDS   how many steps, and how long each takes
  STAND_IN_FAIL                      RANK:STEP:CODE, to exit with CODE at that step, once; a
                                     negative CODE is a signal
"""

import hashlib
import json
import os
import pathlib
import signal
import sys
import time

STEPS, SECONDS = (
  int(os.environ.get('STAND_IN_STEPS', '40')),
  float(os.environ.get('STAND_IN_SECONDS', '0.05')),
)
SAVE_EVERY = 10


def chain(steps):
  """What the state is after so many steps."""
  value = ''
  for step in range(steps):
    value = next_link(value, step)
  return value


def next_link(value, step):
  return hashlib.sha256(f'{value} {step}'.encode()).hexdigest()


class Rank:
  """Who this process is: by its flags, or by Slurm's variables."""

  def __init__(self, flags):
    in_slurm = 'distributed' in flags
    self.number = int(os.environ['SLURM_PROCID'] if in_slurm else flags.get('process', 0))
    self.size = int(os.environ['SLURM_NTASKS'] if in_slurm else flags.get('processes', 1))
    job = f'{os.environ.get("SLURM_JOB_ID")}-{os.environ.get("SLURM_RESTART_COUNT", 0)}'
    self.start = job if in_slurm else flags.get('coordinator', str(os.getpid())).replace(':', '-')


def run(folder, rank):
  """Runs the steps that are not done; returns the exit code."""
  folder.mkdir(parents=True, exist_ok=True)
  stop = folder / f'stop-{rank.start}'
  for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda *_: stop.touch())
  state = read_state(folder)
  note(
    folder,
    'starts',
    rank=rank.number,
    size=rank.size,
    step=state['step'],
    start=rank.start,
    pid=os.getpid(),
  )
  while state['step'] < STEPS:
    fail_on_demand(folder, rank, state['step'])
    time.sleep(SECONDS)
    state = {'step': state['step'] + 1, 'value': next_link(state['value'], state['step'])}
    if rank.number == 0:
      print(f'step {state["step"]}', flush=True)
    stopped = stop.exists()
    if rank.number == 0 and (stopped or state['step'] % SAVE_EVERY == 0 or state['step'] == STEPS):
      write(folder / 'state.json', state)
    if stopped:
      note(folder, 'ends', rank=rank.number, code=75, step=state['step'])
      return 75
  note(folder, 'ends', rank=rank.number, code=0, step=state['step'])
  return 0


def read_state(folder):
  path = folder / 'state.json'
  return json.loads(path.read_text()) if path.exists() else {'step': 0, 'value': ''}


def write(path, content):
  partial = path.with_name(f'{path.name}.part')
  partial.write_text(json.dumps(content))
  partial.rename(path)


def note(folder, name, **what):
  with (folder / f'{name}.jsonl').open('a') as file:
    file.write(json.dumps(what) + '\n')


def notes(folder, name):
  """What was noted, in order."""
  path = folder / f'{name}.jsonl'
  return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def fail_on_demand(folder, rank, step):
  number, at, code = map(int, os.environ.get('STAND_IN_FAIL', '-1:0:0').split(':'))
  done = folder / 'failed'
  if (number, at) != (rank.number, step) or done.exists():
    return
  done.touch()
  print(f'rank {number} fails at step {step}', file=sys.stderr, flush=True)
  if code < 0:
    os.kill(os.getpid(), -code)
  os._exit(code)


def main(command, *arguments):
  flags = {
    name: value for name, _, value in (item.removeprefix('--').partition('=') for item in arguments)
  }
  workdir = pathlib.Path(flags['workdir'])
  rank = Rank(flags)
  folds = [workdir / f'fold{k}of{flags.get("folds", 4)}' for k in range(int(flags.get('folds', 4)))]
  if command == 'train':
    return run(workdir, rank)
  if command == 'crossval' and 'gather' not in flags:
    return run(folds[int(flags['fold'])], rank)
  gathered = (
    folds
    if command == 'crossval'
    else [path.parent for path in sorted(workdir.glob('**/state.json'))]
  )
  states = {path.name: read_state(path) for path in gathered}
  if any(state['step'] != STEPS for state in states.values()):
    print(f'not done: {states}', file=sys.stderr)
    return 2
  if rank.number == 0:
    write(workdir / f'{command}.json', states)
  return 0


if __name__ == '__main__':
  sys.exit(main(*sys.argv[1:]))
