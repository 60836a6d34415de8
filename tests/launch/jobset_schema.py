"""JobSet's own part of its schema, jobset.x-k8s.io/v1alpha2 of release 0.8: names, types and
choices, as its documentation has them.

No package carries it. The Job inside is checked with Kubernetes' own schema (kubernetes-validate);
what is not here is refused.
"""

from typing import Any

DNS_LABEL = {'type': 'string', 'pattern': '^[a-z]([-a-z0-9]*[a-z0-9])?$', 'maxLength': 63}
STRINGS = {'type': 'array', 'items': {'type': 'string'}}


def closed(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
  """An object with these properties and no others."""
  return {
    'type': 'object',
    'properties': properties,
    'required': list(required),
    'additionalProperties': False,
  }


FAILURE_RULE = closed(
  ('name', 'action'),
  name={'type': 'string', 'pattern': '^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$'},
  action={'enum': ['FailJobSet', 'RestartJobSet', 'RestartJobSetAndIgnoreMaxRestarts']},
  onJobFailureReasons={
    'type': 'array',
    'items': {
      'enum': [
        'BackoffLimitExceeded',
        'DeadlineExceeded',
        'FailedIndexes',
        'MaxFailedIndexesExceeded',
        'PodFailurePolicy',
      ]
    },
  },
  targetReplicatedJobs=STRINGS,
)
SPEC = closed(
  (),
  network=closed(
    enableDNSHostnames={'type': 'boolean'},
    publishNotReadyAddresses={'type': 'boolean'},
    subdomain={'type': 'string'},
  ),
  failurePolicy=closed(
    maxRestarts={'type': 'integer', 'minimum': 0},
    restartStrategy={'enum': ['Recreate', 'BlockingRecreate']},
    rules={'type': 'array', 'items': FAILURE_RULE},
  ),
  successPolicy=closed(
    ('operator',), operator={'enum': ['All', 'Any']}, targetReplicatedJobs=STRINGS
  ),
  coordinator=closed(
    ('replicatedJob',),
    replicatedJob={'type': 'string'},
    jobIndex={'type': 'integer'},
    podIndex={'type': 'integer'},
  ),
  suspend={'type': 'boolean'},
  ttlSecondsAfterFinished={'type': 'integer', 'minimum': 0},
  replicatedJobs={
    'type': 'array',
    'minItems': 1,
    'items': closed(
      ('name', 'template'),
      name=DNS_LABEL,
      replicas={'type': 'integer', 'minimum': 1},
      groupName={'type': 'string'},
      template=closed(('spec',), metadata={'type': 'object'}, spec={'type': 'object'}),
    ),
  },
)
JOB_SET = closed(
  ('apiVersion', 'kind', 'metadata', 'spec'),
  apiVersion={'const': 'jobset.x-k8s.io/v1alpha2'},
  kind={'const': 'JobSet'},
  metadata=closed(('name',), name=DNS_LABEL, namespace=DNS_LABEL, labels={'type': 'object'}),
  spec=SPEC,
)
