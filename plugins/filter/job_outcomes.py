# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter job_outcomes: what became of each cluster in the jobs of ansible-runner or AWX, one that was lost in the middle included."""

from __future__ import annotations

DOCUMENTATION = r"""
name: job_outcomes
short_description: Tell what became of each cluster in the jobs of ansible-runner or AWX
version_added: 0.1.0
author:
  - The meshops.istio developers (@meshops)
description:
  - Says of each cluster (a host of the inventory) whether it is done, from the events of one or more jobs, for example of all slices of a job.
  - A job whose node was lost ends without statistics. What its clusters had got to is not known then, and they are not done, unless an event says
    that they failed. Running the same again finishes them; what is there already is read and left alone.
  - A later job of the list has the last word about the clusters that it ran for.
positional: _input
options:
  _input:
    description:
      - The jobs. Each is a directory of artifacts that C(ansible-runner) made, which holds C(job_events), or a list of events, as C(job_events) of
        AWX's API returns them.
    type: list
    elements: raw
    required: true
  clusters:
    description: The clusters that were to be done, for example C(groups['all']).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Which clusters are not done
  ansible.builtin.debug:
    msg: "{{ ['artifacts/slice1', 'artifacts/slice2'] | meshops.istio.job_outcomes(groups['all']) | rejectattr('outcome', 'equalto', 'done') }}"
"""

RETURN = r"""
_value:
  description: One entry for each cluster, in the order given.
  type: list
  elements: dict
  contains:
    cluster:
      description: Its name.
      type: str
    outcome:
      description:
        - V(done), V(failed), V(unreachable), or V(not_done) where no job told its end.
      type: str
    message:
      description: Why it is not done; empty for what is.
      type: str
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.meshops.istio.plugins.module_utils.regular_file import LARGEST_RESULT, contents

Event = Mapping[str, Any]
END = "playbook_on_stats"
OK = "runner_on_ok"
FAILED = "runner_on_failed"
UNREACHABLE = "runner_on_unreachable"


def job_outcomes(jobs: Sequence[Any], clusters: Sequence[str]) -> list[dict[str, str]]:
    if isinstance(jobs, (str, Mapping)) or not isinstance(jobs, Sequence):
        raise AnsibleFilterError(
            f"job_outcomes: expected a list of jobs, each a directory of artifacts or a list of events, found {type(jobs).__name__}"
        )
    told: dict[str, tuple[str, str]] = {}
    for job in jobs:
        told |= _job(_events(job))
    missing = ("not_done", "no job has begun it")
    found = [(str(cluster), *told.get(str(cluster), missing)) for cluster in clusters]
    return [{"cluster": cluster, "outcome": outcome, "message": message} for cluster, outcome, message in found]


def _job(events: Sequence[Event]) -> dict[str, tuple[str, str]]:
    """Of each host that the job had to do with: outcome and message."""
    last: dict[str, str] = {}
    troubles: dict[str, tuple[str, str]] = {}
    statistics: Mapping[str, Any] | None = None
    for event in events:
        data = event.get("event_data") or {}
        kind, host = event.get("event"), str(data.get("host") or "")
        if kind == END:
            statistics = data
        elif host:
            last.setdefault(host, "")
            if kind == OK:
                last[host] = str(data.get("task") or "")
            elif kind == UNREACHABLE or (kind == FAILED and not data.get("ignore_errors")):
                troubles[host] = ("failed" if kind == FAILED else "unreachable", _message(data.get("res")))
    if statistics is None:
        lost = {
            host: ("not_done", f"the job was lost after the task '{task}'" if task else "the job was lost") for host, task in last.items()
        }
        return {**lost, **troubles}
    ended: dict[str, tuple[str, str]] = dict.fromkeys(statistics.get("processed") or (), ("done", ""))
    for outcome, group in (("failed", "failures"), ("unreachable", "dark")):
        ended |= {host: troubles.get(host, (outcome, "")) for host, count in (statistics.get(group) or {}).items() if count}
    return ended


def _message(result: Any) -> str:
    """One line; of a loop, those of the items that failed."""
    if not isinstance(result, Mapping):
        return ""
    items = [item for item in result.get("results") or () if isinstance(item, Mapping) and (item.get("failed") or item.get("unreachable"))]
    texts = [str(item.get("msg") or "") for item in items] or [str(result.get("msg") or result.get("censored") or "")]
    return "; ".join(dict.fromkeys(" ".join(text.split()) for text in texts if text))


def _events(job: Any) -> list[Event]:
    if isinstance(job, (str, Path)):
        return _read(Path(job).expanduser())
    if isinstance(job, Mapping) or not isinstance(job, Iterable):
        raise AnsibleFilterError(
            f"job_outcomes: expected a job as a directory of artifacts or a list of events, found {type(job).__name__}"
        )
    events = list(job)
    if not all(isinstance(event, Mapping) for event in events):
        raise AnsibleFilterError("job_outcomes: expected a list of events in each job, found something else among them")
    return sorted(events, key=lambda event: event.get("counter") or 0)


def _read(artifacts: Path) -> list[Event]:
    directory = artifacts / "job_events"
    if not directory.is_dir():
        raise AnsibleFilterError(
            f"job_outcomes: expected a directory of artifacts of ansible-runner with job_events in it, found none at {artifacts}; "
            "give what stands below artifacts/, such as artifacts/1"
        )
    events = []
    for path in directory.glob("[0-9]*.json"):
        if path.name.endswith("-partial.json"):
            continue  # not yet, or never, whole
        try:
            event = json.loads(contents(path, LARGEST_RESULT))
        except (OSError, ValueError, RecursionError):
            continue  # being written as its process was killed, or no event
        if isinstance(event, Mapping):
            events.append(event)
    return sorted(events, key=lambda event: event.get("counter") or 0)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"job_outcomes": job_outcomes}
