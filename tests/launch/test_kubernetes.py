"""`python -m launch.kubernetes`: the manifests against Kubernetes' schemas, and against what
Kubernetes is known to do with them.
"""

import pathlib

import pytest
import yaml

from launch import exits, kubernetes
from tests.command import ROOT, TINY
from tests.launch.jobset_schema import JOB_SET

kubernetes_validate = pytest.importorskip('kubernetes_validate')
jsonschema = pytest.importorskip('jsonschema')  # which the former brings

VERSIONS = ('1.32', '1.37')
FOLDERS = ('--workdir=/runs/a', '--data_dir=/data', '--claim=runs:/runs', '--claim=faces:/data')
COMMON = ('--config=sang2017:A2', *FOLDERS, '--image=faces/mtface:1')
VARIANTS = {
  'one pod': (),
  'pods': ('--pods=4',),
  'GPUs': ('--pods=2', '--gpus=8', '--cpu=32', '--memory=256Gi', '--config.batch_size=64'),
  'TPUs': ('--pods=2', '--tpus=4', '--node_selector=cloud.google.com/gke-tpu-topology=2x4'),
  'all': (
    '--pods=2',
    '--namespace=faces',
    '--label=kueue.x-k8s.io/queue-name=q',
    '--env=A=b=c',
    '--service_account=s',
    '--name=X_1',
  ),
  'evaluate': ('--command=evaluate', '--pods=2', '--config.seed=1'),
}


def manifests(capsys, *flags):
  with pytest.raises(SystemExit) as exit_code:
    kubernetes.main(list(flags))
  captured = capsys.readouterr()
  assert not exit_code.value.code, captured.err
  return list(yaml.safe_load_all(captured.out))


def of_kind(parts, kind):
  (found,) = [part for part in parts if part['kind'] == kind]
  return found


def job_of(job_set):
  """The Job that the JobSet controller makes of a JobSet with one group."""
  (group,) = job_set['spec']['replicatedJobs']
  name = f'{job_set["metadata"]["name"]}-{group["name"]}-0'
  return {
    'apiVersion': 'batch/v1',
    'kind': 'Job',
    'metadata': {'name': name},
    'spec': group['template']['spec'],
  }


def validate(part, version):
  if part['kind'] == 'JobSet':
    jsonschema.validate(part, JOB_SET)
    part = job_of(part)
  kubernetes_validate.validate(part, version, strict=True)


@pytest.mark.parametrize('version', VERSIONS)
@pytest.mark.parametrize('kind', kubernetes.KINDS)
@pytest.mark.parametrize('variant', VARIANTS)
def test_manifests_are_valid(capsys, version, kind, variant):
  parts = manifests(capsys, f'--kind={kind}', *COMMON, *VARIANTS[variant])
  for part in parts:
    validate(part, version)
  kinds = [part['kind'] for part in parts]
  assert (
    kinds
    == {'jobset': ['JobSet'], 'job': ['Job'] if variant == 'one pod' else ['Service', 'Job']}[kind]
  )


def test_the_check_would_find_a_slip(capsys):
  job_set = of_kind(manifests(capsys, *COMMON), 'JobSet')
  job_of(job_set)['spec']['template']['spec']['restartpolicy'] = 'Never'
  with pytest.raises(kubernetes_validate.ValidationError):
    validate(job_set, VERSIONS[0])
  job_set = of_kind(manifests(capsys, *COMMON), 'JobSet')
  job_set['spec']['failurePolicy']['maxrestarts'] = 1
  with pytest.raises(jsonschema.ValidationError):
    validate(job_set, VERSIONS[0])


def container_of(job):
  (container,) = job['spec']['template']['spec']['containers']
  return container


def test_pods_find_the_first_one(capsys):
  """By the names that Kubernetes gives to pods: JOB-INDEX.SUBDOMAIN, and the JobSet controller:
  SET-GROUP-0-INDEX.SET.
  """
  parts = manifests(capsys, '--kind=job', '--pods=2', '--port=1234', *COMMON)
  job, service = of_kind(parts, 'Job'), of_kind(parts, 'Service')
  assert container_of(job)['args'] == [
    'train', '--config=sang2017:A2', '--workdir=/runs/a', '--data_dir=/data',
    '--coordinator=sang2017-a2-0.sang2017-a2:1234', '--processes=2', '--process=$(PROCESS)',
  ]  # fmt: skip
  assert job['metadata']['name'] == 'sang2017-a2'
  assert (
    job['spec']['template']['spec']['subdomain'] == service['metadata']['name'] == 'sang2017-a2'
  )
  assert service['spec']['clusterIP'] == 'None'
  assert service['spec']['selector'] == {'batch.kubernetes.io/job-name': 'sang2017-a2'}
  assert service['spec']['ports'][0]['port'] == 1234
  assert service['spec']['publishNotReadyAddresses'], (
    'they are not ready while they wait for each other'
  )

  job_set = of_kind(manifests(capsys, '--pods=2', *COMMON), 'JobSet')
  coordinator = '--coordinator=sang2017-a2-workers-0-0.sang2017-a2:8476'
  assert coordinator in container_of(job_of(job_set))['args']


def test_each_pod_knows_its_number(capsys):
  job = job_of(of_kind(manifests(capsys, '--pods=4', *COMMON), 'JobSet'))
  assert (
    job['spec']['completionMode'],
    job['spec']['completions'],
    job['spec']['parallelism'],
  ) == ('Indexed', 4, 4)
  path = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
  assert container_of(job)['env'][0] == {
    'name': 'PROCESS',
    'valueFrom': {'fieldRef': {'fieldPath': path}},
  }


def outcome(job, code, evicted=False):
  """What the Job controller does when a pod ends: the action of the first rule that fits, and Count
  where none does.
  """
  for rule in job['spec']['podFailurePolicy']['rules']:
    if evicted and any(c['type'] == 'DisruptionTarget' for c in rule.get('onPodConditions', [])):
      return rule['action']
    exit_codes = rule.get('onExitCodes')
    if (
      exit_codes
      and exit_codes['containerName'] == container_of(job)['name']
      and code in exit_codes['values']
    ):
      assert exit_codes['operator'] == 'In'
      return rule['action']
  return 'Count'


@pytest.mark.parametrize('code', [1, 2, 75, 76, 137, 139, 143])
def test_exit_codes_mean_the_same_as_elsewhere(capsys, code):
  job = of_kind(manifests(capsys, '--kind=job', '--pods=2', *COMMON), 'Job')
  in_set = job_of(of_kind(manifests(capsys, '--pods=2', *COMMON), 'JobSet'))
  assert (
    (outcome(job, code) != 'FailJob')
    == (outcome(in_set, code) != 'FailJob')
    == exits.starts_again(code)
  )
  assert outcome(job, code, evicted=True) == outcome(in_set, code, evicted=True) == 'Ignore'


def test_what_is_saved_is_not_counted_as_a_crash(capsys):
  job = of_kind(manifests(capsys, '--kind=job', '--pods=4', '--restarts=5', *COMMON), 'Job')
  assert [outcome(job, code) for code in (75, 76, 137)] == ['Ignore', 'Ignore', 'Count']
  assert job['spec']['backoffLimit'] == 20, 'all four pods may crash at once'
  assert job['spec']['template']['spec']['restartPolicy'] == 'Never', (
    'or the rules would not be looked at'
  )


def test_a_job_set_starts_all_pods_anew_but_for_bad_input(capsys):
  job_set = of_kind(manifests(capsys, '--pods=4', '--restarts=5', *COMMON), 'JobSet')
  assert job_of(job_set)['spec']['backoffLimit'] == 0
  policy = job_set['spec']['failurePolicy']
  assert policy['maxRestarts'] == 5
  assert [(r['action'], r['onJobFailureReasons']) for r in policy['rules']] == [
    ('FailJobSet', ['PodFailurePolicy'])
  ]


def test_accelerators_volumes_and_time_to_save(capsys):
  pod = job_of(of_kind(manifests(capsys, *COMMON, *VARIANTS['GPUs'], '--grace=300'), 'JobSet'))[
    'spec'
  ]['template']['spec']
  (container,) = pod['containers']
  assert container['resources'] == {
    'requests': {'nvidia.com/gpu': 8, 'memory': '256Gi', 'cpu': '32'},
    'limits': {'nvidia.com/gpu': 8, 'memory': '256Gi'},
  }
  assert pod['terminationGracePeriodSeconds'] == 300
  mounts = {mount['mountPath']: mount['name'] for mount in container['volumeMounts']}
  volumes = {volume['name']: volume for volume in pod['volumes']}
  assert volumes[mounts['/runs']]['persistentVolumeClaim'] == {'claimName': 'runs'}
  assert volumes[mounts['/data']]['persistentVolumeClaim'] == {'claimName': 'faces'}
  assert volumes[mounts['/dev/shm']]['emptyDir'] == {'medium': 'Memory'}
  assert container['command'] == ['python', '-m', 'mtface'], (
    'no shell, which would keep SIGTERM to itself'
  )

  pod = job_of(of_kind(manifests(capsys, *COMMON, *VARIANTS['TPUs']), 'JobSet'))['spec'][
    'template'
  ]['spec']
  assert pod['nodeSelector'] == {'cloud.google.com/gke-tpu-topology': '2x4'}
  assert pod['containers'][0]['resources']['limits'] == {'google.com/tpu': 4}


@pytest.mark.parametrize('kind', kubernetes.KINDS)
def test_a_config_file_goes_with_the_job(capsys, kind):
  parts = manifests(
    capsys, f'--kind={kind}', f'--config={ROOT}/tests/tiny_folds.py:T2', *FOLDERS, '--image=i'
  )
  config = of_kind(parts, 'ConfigMap')
  validate(config, VERSIONS[0])
  assert config['data'] == {
    'tiny_folds.py': pathlib.Path(ROOT / 'tests' / 'tiny_folds.py').read_text()
  }
  job = job_of(parts[-1]) if kind == 'jobset' else parts[-1]
  assert '--config=/etc/mtface/tiny_folds.py:T2' in container_of(job)['args']
  (volume,) = [v for v in job['spec']['template']['spec']['volumes'] if 'configMap' in v]
  assert volume['configMap']['name'] == config['metadata']['name']


def test_written_to_a_file(capsys, tmp_path):
  with pytest.raises(SystemExit):
    kubernetes.main([*COMMON, f'--output={tmp_path}/job.yaml'])
  assert f'kubectl apply -f {tmp_path}/job.yaml' in capsys.readouterr().out
  assert of_kind(yaml.safe_load_all((tmp_path / 'job.yaml').read_text()), 'JobSet')


@pytest.mark.parametrize(
  'flags, message',
  [
    ((*COMMON[:-1],), '--image is missing'),
    (
      (f'--config={TINY}', '--image=i', '--workdir=runs', '--data_dir=/data'),
      '--workdir=runs: expected an absolute path in the pod',
    ),
    (
      (f'--config={TINY}', '--image=i', '--workdir=/runs'),
      '--data_dir=: expected an absolute path in the pod',
    ),
    (
      (*COMMON[:2], '--data_dir=/data', '--image=i', '--claim=faces:/data'),
      '--workdir=/runs/a: is not on a volume',
    ),
    ((*COMMON, '--claim=faces'), '--claim=faces: expected NAME:FOLDER'),
    ((*COMMON, '--gpus=1', '--tpus=1'), '--gpus and --tpus'),
    ((*COMMON, '--pods=7'), 'config.batch_size: '),
    ((*COMMON, '--config.speed=1'), "--config.speed: there is no field 'speed'"),
    ((*COMMON, '--config=nope'), '--config=nope: no such file'),
    ((*COMMON, '--label=x'), '--label=x: expected KEY=VALUE'),
    ((*COMMON, '--env=1=x'), '--env=1=x: expected NAME=VALUE'),
    ((*COMMON, '--name=123'), '--name=123: expected a name that starts with a letter'),
    ((*COMMON, '--kind=pod'), 'flag --kind=pod'),
  ],
)
def test_bad_input(capsys, flags, message):
  with pytest.raises(SystemExit) as exit_code:
    kubernetes.main(list(flags))
  captured = capsys.readouterr()
  assert (exit_code.value.code, captured.out) == (2, '')
  assert captured.err.startswith(f'launch: error: {message}') and captured.err.count('\n') == 1


def test_what_is_asked_of_the_cluster_is_in_the_manifest(capsys):
  flags = [
    '--namespace=faces',
    '--label=kueue.x-k8s.io/queue-name=q',
    '--service_account=trainer',
    '--env=A=b=c',
  ]
  job_set = of_kind(manifests(capsys, *COMMON, *flags), 'JobSet')
  assert job_set['metadata'] == {
    'name': 'sang2017-a2',
    'namespace': 'faces',
    'labels': {'kueue.x-k8s.io/queue-name': 'q'},
  }
  assert job_set['spec']['network'] == {
    'enableDNSHostnames': True,
    'publishNotReadyAddresses': True,
  }
  job = job_of(job_set)
  assert job['spec']['template']['spec']['serviceAccountName'] == 'trainer'
  assert container_of(job)['env'][1:] == [
    {'name': 'PYTHONUNBUFFERED', 'value': '1'},
    {'name': 'A', 'value': 'b=c'},
  ]


@pytest.mark.parametrize(
  ('flags', 'shared'), [([], False), (['--gpus=1'], False), (['--gpus=1', '--pods=2'], True)]
)
def test_memory_is_shared_where_gpus_talk(capsys, flags, shared):
  job = job_of(of_kind(manifests(capsys, *COMMON, *flags), 'JobSet'))
  mounted = [mount['mountPath'] for mount in container_of(job)['volumeMounts']]
  assert ('/dev/shm' in mounted) == shared


def test_a_name_is_a_dns_label_with_room_for_what_is_added():
  # JOB-workers-0-999 of a JobSet is the longest that is made of it: at most 63 characters.
  name = kubernetes.job_name(f'A_{"long name " * 20}')
  assert len(f'{name}-{kubernetes.WORKERS}-0-999') <= 63
  assert name.startswith('a-long-name-') and not name.endswith('-')
  assert kubernetes.job_name('Sang2017:A2,fold=1') == 'sang2017-a2-fold-1'
