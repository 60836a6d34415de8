"""`python -m launch.kubernetes`: prints the manifest of a job on Kubernetes, a JobSet or a plain
Indexed Job with a headless service.

A process is a pod. The first pod's DNS name is the coordinator; each pod's number is its completion
index. What the exit codes mean is written into the manifest: nothing of ours runs in the cluster
but the pods.
"""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import yaml
from absl import flags

from launch.job import Args, Job, check_processes, parse_variable, run_launcher
from mtface.errors import EXIT_BAD_INPUT, EXIT_PEER_LOST, EXIT_PREEMPTED, UserError
from mtface.files import local_path, write_text

Manifest = dict[str, Any]
KINDS = ('jobset', 'job')
CONTAINER = 'mtface'
WORKERS = 'workers'  # the JobSet's one group of pods
CONFIG_FOLDER = '/etc/mtface'
EXIT_BUG = 1
LONGEST_NAME = 40  # a pod's name, which adds to it, must be a DNS label of 63 characters
ABOUT = """Prints the manifest of a job, or writes it, for kubectl apply.
--workdir and --data_dir are folders in the pods, below a --claim. Pods that saved their state, lost
a peer or were evicted start again; bad input and bugs end the job."""


def define_flags(args: Args) -> None:
  """The flags of this launcher."""
  number = functools.partial(flags.DEFINE_integer, flag_values=args)
  text = functools.partial(flags.DEFINE_string, flag_values=args)
  several = functools.partial(flags.DEFINE_multi_string, flag_values=args)
  flags.DEFINE_enum(
    'kind',
    KINDS[0],
    KINDS,
    'jobset needs the JobSet controller in the cluster; job needs nothing',
    flag_values=args,
  )
  text('image', None, 'the container image with mtface in it (launch/Containerfile)')
  text('name', None, 'of the job; default: of the config')
  text('namespace', None, "default: kubectl's")
  number('pods', 1, 'number of pods, one process each', lower_bound=1)
  number('gpus', 0, 'GPUs of each pod (nvidia.com/gpu)', lower_bound=0)
  number(
    'tpus',
    0,
    'TPU chips of each pod (google.com/tpu); name their kind and topology by --node_selector',
    lower_bound=0,
  )
  text('cpu', None, 'CPU cores of each pod, as in 8')
  text('memory', None, 'memory of each pod, as in 32Gi')
  several(
    'claim',
    [],
    'NAME:FOLDER, a volume claim that all pods may write and where it is mounted; several times',
  )
  several('env', [], 'NAME=VALUE for the environment; several times')
  several('node_selector', [], 'KEY=VALUE that a node must have; several times')
  several('label', [], 'KEY=VALUE for the job, e.g. kueue.x-k8s.io/queue-name=faces; several times')
  text('service_account', None, 'that the pods run as')
  number('port', 8476, 'of the coordinator', lower_bound=1)
  number(
    'restarts',
    20,
    'of the job: so many crashes (of a JobSet: starts of any cause) before it is given up',
    lower_bound=0,
  )
  number('grace', 120, 'seconds that a pod has to save its state when it is evicted', lower_bound=1)
  text('output', None, 'the file to write')


def launch(args: Args, job: Job) -> int:
  """Prints or writes the manifest; returns the exit code."""
  text = '---\n'.join(
    yaml.dump(part, Dumper=_Dumper, sort_keys=False, width=1000) for part in manifests(args, job)
  )
  if not args.output:
    print(text, end='')
    return 0
  write_text(local_path(args.output), text)
  print(f'written: {args.output}\nnext: kubectl apply -f {args.output}')
  return 0


class _Dumper(yaml.SafeDumper):
  """Writes text of several lines, such as a config file, as lines."""


_Dumper.add_representer(
  str,
  lambda dumper, text: dumper.represent_scalar(
    'tag:yaml.org,2002:str', text, style='|' if '\n' in text else None
  ),
)


def manifests(args: Args, job: Job) -> list[Manifest]:
  """All that is to be applied, in order."""
  if not args.image:
    raise UserError(
      '--image is missing: name the container image with mtface in it; launch/Containerfile makes '
      'one'
    )
  if args.gpus and args.tpus:
    raise UserError('--gpus and --tpus: a pod has the one or the other')
  check_processes(job, args.pods * max(1, args.gpus, args.tpus))
  name = job_name(args.name or job.name)
  parts = [config_map(args, job, name)] if job.file else []
  if args.kind == 'jobset':
    return [*parts, job_set(args, job, name)]
  service = [headless_service(args, name)] if args.pods > 1 else []
  return [*parts, *service, indexed_job(args, job, name)]


def job_name(text: str) -> str:
  """A name as Kubernetes wants it: a DNS label."""
  name = re.sub(r'[^a-z0-9]+', '-', text.lower()).strip('-')[:LONGEST_NAME].rstrip('-')
  if not name or not name[0].isalpha():
    raise UserError(f'--name={text}: expected a name that begins with a letter')
  return name


# --- The parts of a manifest ----------------------------------------------------------------------


def job_set(args: Args, job: Job, name: str) -> Manifest:
  """A JobSet of one Job: all pods start anew together, on new nodes where those
  of before are gone.
  """
  spec = {
    'network': {'enableDNSHostnames': True, 'publishNotReadyAddresses': True},
    'failurePolicy': {
      'maxRestarts': args.restarts,
      'rules': [
        {'name': 'final', 'action': 'FailJobSet', 'onJobFailureReasons': ['PodFailurePolicy']}
      ],
    },
    'replicatedJobs': [
      {
        'name': WORKERS,
        'replicas': 1,
        'template': {
          'spec': job_spec(args, job, name, f'{name}-{WORKERS}-0-0.{name}', alone=False)
        },
      }
    ],
  }
  return {
    'apiVersion': 'jobset.x-k8s.io/v1alpha2',
    'kind': 'JobSet',
    'metadata': metadata(args, name),
    'spec': spec,
  }


def indexed_job(args: Args, job: Job, name: str) -> Manifest:
  """A plain Job: each pod starts anew by itself."""
  spec = job_spec(args, job, name, f'{name}-0.{name}', alone=True)
  if args.pods > 1:
    spec['template']['spec']['subdomain'] = name
  return {'apiVersion': 'batch/v1', 'kind': 'Job', 'metadata': metadata(args, name), 'spec': spec}


def headless_service(args: Args, name: str) -> Manifest:
  """Gives the pods DNS names, also before they are ready: they find each other while they start."""
  spec = {
    'clusterIP': 'None',
    'publishNotReadyAddresses': True,
    'selector': {'batch.kubernetes.io/job-name': name},
    'ports': [{'name': 'coordinator', 'port': args.port}],
  }
  return {'apiVersion': 'v1', 'kind': 'Service', 'metadata': metadata(args, name), 'spec': spec}


def config_map(args: Args, job: Job, name: str) -> Manifest:
  """Carries a config file that no image has."""
  assert job.file
  return {
    'apiVersion': 'v1',
    'kind': 'ConfigMap',
    'metadata': metadata(args, f'{name}-config'),
    'data': {job.file.name: job.file.read_text()},
  }


def metadata(args: Args, name: str) -> Manifest:
  """Name, namespace and labels."""
  found: Manifest = {'name': name}
  if args.namespace:
    found['namespace'] = args.namespace
  return found | ({'labels': pairs(args, 'label')} if args.label else {})


def job_spec(args: Args, job: Job, name: str, coordinator: str, *, alone: bool) -> Manifest:
  """The spec of a Job.

  Args:
    args: of the command line.
    job: what the pods run.
    name: of the whole.
    coordinator: the host name of the first pod.
    alone: it starts its own pods anew; otherwise it fails with its first pod, and its JobSet starts
      it anew.
  """
  return {
    'completionMode': 'Indexed',
    'completions': args.pods,
    'parallelism': args.pods,
    'backoffLimit': args.restarts * args.pods
    if alone
    else 0,  # one failure can be that of all pods
    'podFailurePolicy': {'rules': failure_rules(alone)},
    'template': {'spec': pod_spec(args, job, name, coordinator)},
  }


def failure_rules(alone: bool) -> list[Manifest]:
  """What a pod's end means, the first rule that fits: see `launch/exits.py`. Others, such as a
  signal's 137, count towards backoffLimit.
  """
  evicted = {
    'action': 'Ignore',
    'onPodConditions': [{'type': 'DisruptionTarget', 'status': 'True'}],
  }
  rules = [evicted, _on_exit('FailJob', EXIT_BUG, EXIT_BAD_INPUT)]
  return [*rules, _on_exit('Ignore', EXIT_PREEMPTED, EXIT_PEER_LOST)] if alone else rules


def _on_exit(action: str, *codes: int) -> Manifest:
  return {
    'action': action,
    'onExitCodes': {'containerName': CONTAINER, 'operator': 'In', 'values': list(codes)},
  }


def pod_spec(args: Args, job: Job, name: str, coordinator: str) -> Manifest:
  """A pod with one container, which is one process of the job."""
  volumes, mounts = volumes_of(args, job, name)
  container = {
    'name': CONTAINER,
    'image': args.image,
    # No shell in between: signals must reach mtface.
    'command': ['python', '-m', args.module],
    'args': arguments(args, job, coordinator),
    'env': environment(args),
    'ports': [{'name': 'coordinator', 'containerPort': args.port}],
    'resources': resources(args),
    'volumeMounts': mounts,
  }
  optional = {
    'nodeSelector': pairs(args, 'node_selector'),
    'serviceAccountName': args.service_account,
    'volumes': volumes,
  }
  return {
    'restartPolicy': 'Never',  # the Job decides, by exit code
    'terminationGracePeriodSeconds': args.grace,
    **{key: value for key, value in optional.items() if value},
    'containers': [{key: value for key, value in container.items() if value}],
  }


def arguments(args: Args, job: Job, coordinator: str) -> list[str]:
  """The command line of a pod; Kubernetes puts in the pod's number."""
  if job.file:
    _, colon, of_config = str(job.config).removeprefix(str(job.file)).partition(':')
    mounted = f'--config={CONFIG_FOLDER}/{job.file.name}{colon}{of_config}'
  words = [
    mounted if job.file and word == f'--config={job.config}' else word for word in job.mtface()
  ]
  peers = [
    f'--coordinator={coordinator}:{args.port}',
    f'--processes={args.pods}',
    '--process=$(PROCESS)',
  ]
  return words + (peers if args.pods > 1 else [])


def environment(args: Args) -> list[Manifest]:
  """The pod's number, and what --env says."""
  number = {
    'fieldRef': {'fieldPath': "metadata.annotations['batch.kubernetes.io/job-completion-index']"}
  }
  found: list[Manifest] = [
    {'name': 'PROCESS', 'valueFrom': number},
    {'name': 'PYTHONUNBUFFERED', 'value': '1'},
  ]
  return found + [
    dict(zip(('name', 'value'), parse_variable(text), strict=True)) for text in args.env
  ]


def resources(args: Args) -> Manifest:
  """Requests are as high as limits, but for the CPU, of which more may be used when it is there."""
  devices = {
    key: value
    for key, value in (('nvidia.com/gpu', args.gpus), ('google.com/tpu', args.tpus))
    if value
  }
  limits = devices | ({'memory': args.memory} if args.memory else {})
  requests = limits | ({'cpu': args.cpu} if args.cpu else {})
  return {key: value for key, value in (('requests', requests), ('limits', limits)) if value}


def volumes_of(args: Args, job: Job, name: str) -> tuple[list[Manifest], list[Manifest]]:
  """The volumes of a pod, and where its container has them.

  Raises:
    UserError: --workdir or --data_dir would be lost with the pod.
  """
  volumes, mounts = [], []
  folders = []
  for number, text in enumerate(args.claim):
    claim, colon, folder = text.partition(':')
    if not (claim and colon and folder.startswith('/')):
      raise UserError(f'--claim={text}: expected NAME:FOLDER, as in faces:/data')
    volumes.append({'name': f'claim{number}', 'persistentVolumeClaim': {'claimName': claim}})
    mounts.append({'name': f'claim{number}', 'mountPath': folder})
    folders.append(pathlib.PurePosixPath(folder))
  for flag, path in (('workdir', job.workdir), ('data_dir', job.data_dir)):
    if not any(path.is_relative_to(folder) for folder in folders):
      raise UserError(
        f'--{flag}={path}: lies on no volume; name the claim of one as --claim=NAME:FOLDER, with '
        'FOLDER above it'
      )
  if args.gpus > 1 or (
    args.gpus and args.pods > 1
  ):  # NCCL speaks through shared memory, of which a container has 64 MiB
    volumes.append({'name': 'shm', 'emptyDir': {'medium': 'Memory'}})
    mounts.append({'name': 'shm', 'mountPath': '/dev/shm'})
  if job.file:
    volumes.append({'name': 'config', 'configMap': {'name': f'{name}-config'}})
    mounts.append({'name': 'config', 'mountPath': CONFIG_FOLDER})
  return volumes, mounts


def pairs(args: Args, flag: str) -> Mapping[str, str]:
  """KEY=VALUE, several times, as a dictionary."""
  found = {}
  for text in args[flag].value or []:
    key, equals, value = text.partition('=')
    if not (key and equals):
      raise UserError(f'--{flag}={text}: expected KEY=VALUE')
    found[key] = value
  return found


def main(argv: Sequence[str] | None = None) -> NoReturn:
  """The entry point."""
  run_launcher('python -m launch.kubernetes', ABOUT, define_flags, launch, argv, in_pods=True)


if __name__ == '__main__':
  main()
