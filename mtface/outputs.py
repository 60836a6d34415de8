"""Which scores answer which task: each task has a head of its own, and some tasks are answered by
columns of another one's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtface.tasks import TASKS, Task, get_task

Scores = dict[str, Any]  # task -> [B, C], NumPy or JAX

# Tasks that another one answers too, with the scores of these of its classes (Savchenko 2021,
# section 2.2: 8 emotions scored on 7).
VIEWS: dict[str, tuple[str, tuple[int, ...]]] = {
  'emotion7': ('emotion8', tuple(range(TASKS['emotion7'].num_classes)))
}


def with_views(tasks: Mapping[str, Task]) -> dict[str, Task]:
  """The tasks, and those that one of them answers too (`VIEWS`)."""
  views = {
    view: get_task(view) for view, (task, _) in VIEWS.items() if task in tasks and view not in tasks
  }
  return dict(tasks) | views


def add_views(scores: Scores, tasks: Mapping[str, Task]) -> Scores:
  """The scores, and those of the views among `tasks`: columns of another task's."""
  views = {view: scores[VIEWS[view][0]][:, VIEWS[view][1]] for view in tasks if view not in scores}
  return scores | views
