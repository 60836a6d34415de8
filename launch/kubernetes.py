"""`python -m launch.kubernetes`: prints the manifest of a job on Kubernetes, a JobSet or a plain
Indexed Job with a headless service.

Each process is a pod. The first pod's DNS name is the coordinator address; each pod's number is its
completion index. The manifest encodes what the exit codes mean: nothing of ours runs in the cluster
except the pods.
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
LONGEST_NAME = 40  # pod names extend it, and must be DNS labels of at most 63 characters
ABOUT = """Prints the manifest of a job, or writes it, for kubectl apply.
--workdir and --data_dir are folders in the pods, below a --claim. Pods that saved their state, lost
a peer or were evicted are restarted; bad input and bugs end the job."""


def define_flags(args: Args) -> None:
  """The flags of this launcher."""
  number = functools.partial(flags.DEFINE_integer, flag_values=args)
  text = functools.partial(flags.DEFINE_string, flag_values=args)
  several = functools.partial(flags.DEFINE_multi_string, flag_values=args)
  flags.DEFINE_enum(
    'kind',
    KINDS[0],
    KINDS,
    'jobset needs the JobSet controller in the cluster; job needs no extras',
    flag_values=args,
  )
  text('image', None, 'the container image with mtface in it (launch/Containerfile)')
  text('name', None, "name of the job; default: the config's name")
  text('namespace', None, "namespace; default: kubectl's")
  number('pods', 1, 'number of pods, one process each', lower_bound=1)
  number('gpus', 0, 'GPUs per pod (nvidia.com/gpu)', lower_bound=0)
  number(
    'tpus',
    0,
    'TPU chips per pod (google.com/tpu); choose their type and topology with --node_selector',
    lower_bound=0,
  )
  text('cpu', None, 'CPU cores per pod, as in 8')
  text('memory', None, 'memory per pod, as in 32Gi')
  several(
    'claim',
    [],
    'NAME:FOLDER, a volume claim writable by all pods, and where to mount it; repeatable',
  )
  several('env', [], 'NAME=VALUE for the environment; repeatable')
  several('node_selector', [], 'KEY=VALUE that nodes must have; repeatable')
  several(
    'label', [], 'KEY=VALUE label for the job, e.g. kueue.x-k8s.io/queue-name=faces; repeatable'
  )
  text('service_account', None, 'service account of the pods')
  number('port', 8476, 'port of the coordinator', lower_bound=1)
  number(
    'restarts',
    20,
    'crashes (for a JobSet: restarts for any reason) before the job is given up',
    lower_bound=0,
  )
  number('grace', 120, 'seconds for a pod to save its state when evicted', lower_bound=1)
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
  """Writes multi-line text, such as a config file, as a literal block."""


_Dumper.add_representer(
  str,
  lambda dumper, text: dumper.represent_scalar(
    'tag:yaml.org,2002:str', text, style='|' if '\n' in text else None
  ),
)


def manifests(args: Args, job: Job) -> list[Manifest]:
  """Everything to apply, in order."""
  if not args.image:
    raise UserError(
      '--image is missing: pass a container image that contains mtface; launch/Containerfile '
      'builds '
      'one'
    )
  if args.gpus and args.tpus:
    raise UserError('--gpus and --tpus cannot be combined: pass one of them')
  check_processes(job, args.pods * max(1, args.gpus, args.tpus))
  name = job_name(args.name or job.name)
  parts = [config_map(args, job, name)] if job.file else []
  if args.kind == 'jobset':
    return [*parts, job_set(args, job, name)]
  service = [headless_service(args, name)] if args.pods > 1 else []
  return [*parts, *service, indexed_job(args, job, name)]


def job_name(text: str) -> str:
  """A valid Kubernetes name: a DNS label."""
  name = re.sub(r'[^a-z0-9]+', '-', text.lower()).strip('-')[:LONGEST_NAME].rstrip('-')
  if not name or not name[0].isalpha():
    raise UserError(f'--name={text}: expected a name that starts with a letter')
  return name


# --- The parts of a manifest ----------------------------------------------------------------------


def job_set(args: Args, job: Job, name: str) -> Manifest:
  """A JobSet of one Job: all pods restart together, on new nodes if the previous ones are gone."""
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
  """A plain Job: each pod restarts on its own."""
  spec = job_spec(args, job, name, f'{name}-0.{name}', alone=True)
  if args.pods > 1:
    spec['template']['spec']['subdomain'] = name
  return {'apiVersion': 'batch/v1', 'kind': 'Job', 'metadata': metadata(args, name), 'spec': spec}


def headless_service(args: Args, name: str) -> Manifest:
  """Gives the pods DNS names even before they are ready: they find each other while starting."""
  spec = {
    'clusterIP': 'None',
    'publishNotReadyAddresses': True,
    'selector': {'batch.kubernetes.io/job-name': name},
    'ports': [{'name': 'coordinator', 'port': args.port}],
  }
  return {'apiVersion': 'v1', 'kind': 'Service', 'metadata': metadata(args, name), 'spec': spec}


def config_map(args: Args, job: Job, name: str) -> Manifest:
  """Carries a config file that is not in the image."""
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
    args: the parsed flags.
    job: what the pods run.
    name: the name of the job or JobSet.
    coordinator: the host name of the first pod.
    alone: the Job restarts its own pods; otherwise it fails with its first failing pod, and its
      JobSet restarts it.
  """
  return {
    'completionMode': 'Indexed',
    'completions': args.pods,
    'parallelism': args.pods,
    'backoffLimit': args.restarts * args.pods if alone else 0,  # one cause can fail all pods
    'podFailurePolicy': {'rules': failure_rules(alone)},
    'template': {'spec': pod_spec(args, job, name, coordinator)},
  }


def failure_rules(alone: bool) -> list[Manifest]:
  """How the end of a pod is handled, by the first matching rule; see `launch/exits.py`. Other exit
  codes, such as 137 for a signal, count towards backoffLimit.
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
  """A pod with one container, one process of the job."""
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
    'restartPolicy': 'Never',  # the Job decides by exit code
    'terminationGracePeriodSeconds': args.grace,
    **{key: value for key, value in optional.items() if value},
    'containers': [{key: value for key, value in container.items() if value}],
  }


def arguments(args: Args, job: Job, coordinator: str) -> list[str]:
  """The command line of a pod; Kubernetes fills in the pod's number."""
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
  """The pod's number, and the variables from --env."""
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
  """Requests equal limits, except for the CPU, where pods may use more if it is available."""
  devices = {
    key: value
    for key, value in (('nvidia.com/gpu', args.gpus), ('google.com/tpu', args.tpus))
    if value
  }
  limits = devices | ({'memory': args.memory} if args.memory else {})
  requests = limits | ({'cpu': args.cpu} if args.cpu else {})
  return {key: value for key, value in (('requests', requests), ('limits', limits)) if value}


def volumes_of(args: Args, job: Job, name: str) -> tuple[list[Manifest], list[Manifest]]:
  """The volumes of a pod, and where its container mounts them.

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
        f'--{flag}={path}: is not on a volume; pass --claim=NAME:FOLDER with a FOLDER that '
        'contains it'
      )
  if args.gpus > 1 or (
    args.gpus and args.pods > 1
  ):  # NCCL communicates through shared memory, of which a container has 64 MiB by default
    volumes.append({'name': 'shm', 'emptyDir': {'medium': 'Memory'}})
    mounts.append({'name': 'shm', 'mountPath': '/dev/shm'})
  if job.file:
    volumes.append({'name': 'config', 'configMap': {'name': f'{name}-config'}})
    mounts.append({'name': 'config', 'mountPath': CONFIG_FOLDER})
  return volumes, mounts


def pairs(args: Args, flag: str) -> Mapping[str, str]:
  """Repeated KEY=VALUE flags as a dictionary."""
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
