# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for a Deployment's rollout: how far it is, pod by pod, and which pod keeps it from going on, and why.

Needs the rights of docs/rbac/mounts.yaml: get deployments, list replicasets and pods, and (for the reasons of what fails) list events.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from ..objects.kinds import DEPLOYMENT, EVENT, POD, REPLICA_SET
from ..progress import tell
from ..wait import until
from .client import ApiError, Cluster, Unreachable
from .pods import pod_of

Manifest = Mapping[str, Any]

_POLL = 0.5  # seconds
_REVISION = "deployment.kubernetes.io/revision"
_EVENTS_SHOWN = 2  # of a pod
_SILENCE = "ContainersNotReady"  # what the condition says of every pod that is not ready
_TEXT_SHOWN = 400  # characters of a message


@dataclass(frozen=True)
class PodState:
    """One pod of the Deployment, at one look."""

    name: str
    generation: Literal["new", "old"]
    """Whether it is of the current template."""
    state: Literal["ready", "not_ready", "terminating", "gone"]
    ready_after: float | None = None
    """Seconds from its creation until it was ready, by the cluster's clock."""
    gone_after: float | None = None
    """Seconds from the beginning of the wait until it was gone."""
    troubles: tuple[str, ...] = ()
    """Why it is not ready."""

    def as_result(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"name": self.name, "generation": self.generation, "state": self.state}
        for name in ("ready_after", "gone_after"):
            if getattr(self, name) is not None:
                shown[name] = getattr(self, name)
        return {**shown, **({"troubles": list(self.troubles)} if self.troubles else {})}


@dataclass(frozen=True)
class Look:
    """A Deployment's rollout at one moment."""

    complete: bool
    desired: int
    updated: int
    """Pods of the current template."""
    available: int
    """Those of all pods that are ready to serve."""
    old: int
    pods: tuple[PodState, ...] = ()
    obstacles: tuple[str, ...] = ()
    """What the Deployment itself says against it, for example that a quota admits no further pod."""
    hopeless: bool = False
    """Whether Kubernetes has given up."""

    @property
    def new(self) -> tuple[PodState, ...]:
        return tuple(pod for pod in self.pods if pod.generation == "new" and pod.state in ("ready", "not_ready"))

    def __str__(self) -> str:
        ready = sum(pod.state == "ready" for pod in self.new)
        return f"{ready} of {self.desired} new pods ready, {self.updated} made, {self.old} old"


@dataclass
class Rollout:
    """How a wait went."""

    look: Look
    elapsed: float = 0.0
    """Seconds."""
    progress: list[dict[str, Any]] = field(default_factory=list)
    """Each step: `after` (seconds) and `state` (words)."""
    gone: list[PodState] = field(default_factory=list)
    """Pods that were there when the wait began, and are not any more."""
    timeout: float = 0.0

    @property
    def complete(self) -> bool:
        return self.look.complete

    @property
    def troubles(self) -> list[str]:
        """What keeps it from being complete: each pod with its reasons, and what the Deployment says."""
        if self.complete:
            return []
        found = list(self.look.obstacles)
        alike: dict[str, list[str]] = {}
        for pod in self.look.new:
            if pod.state != "ready":
                alike.setdefault("; ".join(pod.troubles) or "nothing is said of why", []).append(pod.name)
        found += [f"{'pods' if len(several) > 1 else 'pod'} {', '.join(several)} not ready: {why}" for why, several in alike.items()]
        if not found and self.look.updated < self.look.desired:
            found.append("no new pod has been made yet: look whether kube-controller-manager runs")
        stuck = [pod.name for pod in self.look.pods if pod.generation == "old" and pod.state != "terminating"]
        if not found and stuck:
            found.append(f"old pods are still there: {', '.join(stuck)}")
        return found or [str(self.look)]

    def as_result(self) -> dict[str, Any]:
        shown = {
            "complete": self.complete,
            "elapsed": round(self.elapsed, 1),
            "replicas": self.look.desired,
            "pods": [pod.as_result() for pod in (*self.look.pods, *self.gone)],
            "progress": self.progress,
        }
        return {**shown, **({"troubles": self.troubles} if not self.complete else {})}


# --- pure


def judge(deployment: Manifest, replica_sets: Sequence[Manifest], pods: Sequence[Manifest]) -> Look:
    """How far a rollout is, as `kubectl rollout status` decides it.

    ReplicaSets and pods may be those of other Deployments too; only what the Deployment owns counts.
    """
    metadata, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status") or {}
    desired = 1 if spec.get("replicas") is None else int(spec["replicas"])
    updated, total, available = (int(status.get(name) or 0) for name in ("updatedReplicas", "replicas", "availableReplicas"))
    seen = int(status.get("observedGeneration") or 0) >= int(metadata.get("generation") or 0)
    mine = [item for item in replica_sets if metadata["uid"] in _owners(item)]
    revision = (metadata.get("annotations") or {}).get(_REVISION)
    current = {one["metadata"]["uid"] for one in mine if seen and (one["metadata"].get("annotations") or {}).get(_REVISION) == revision}
    known = {one["metadata"]["uid"] for one in mine}
    states = tuple(
        _pod(item, "new" if current & _owners(item) else "old")
        for item in sorted(pods, key=lambda item: str(item["metadata"]["name"]))
        if known & _owners(item)
    )
    conditions = {one["type"]: one for one in status.get("conditions") or ()} if seen else {}
    progressing, failure = conditions.get("Progressing") or {}, conditions.get("ReplicaFailure") or {}
    obstacles = []
    if failure.get("status") == "True":
        obstacles.append(f"no further pod can be made: {_cut(failure.get('message'))}")
    hopeless = progressing.get("reason") == "ProgressDeadlineExceeded"
    if hopeless:
        obstacles.append(f"Kubernetes waits no longer: {_cut(progressing.get('message'))}")
    if spec.get("paused"):
        obstacles.append("the Deployment is paused")
    complete = seen and updated >= desired and total <= updated and available >= updated and not spec.get("paused")
    return Look(
        complete, desired, updated if seen else 0, available, total - updated if seen else total, states, tuple(obstacles), hopeless
    )


def _owners(item: Manifest) -> set[str]:
    return {str(owner.get("uid")) for owner in item["metadata"].get("ownerReferences") or () if owner.get("controller")}


def _pod(item: Manifest, generation: Literal["new", "old"]) -> PodState:
    pod = pod_of(item)
    if pod.terminating or pod.phase in ("Succeeded", "Failed"):
        reason = (item.get("status") or {}).get("reason")  # of what ended, for example Evicted
        return PodState(pod.name, generation, "terminating", troubles=(str(reason),) if reason else ())
    if pod.ready:
        return PodState(pod.name, generation, "ready", _ready_after(item))
    return PodState(pod.name, generation, "not_ready", troubles=tuple(map(_cut, (*pod.troubles, *_ended(item)))))


def _ended(item: Manifest) -> Iterator[str]:
    """How the containers that are started again and again ended the last time. Not their messages, which may be a piece of the log."""
    status = item.get("status") or {}
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        last = (one.get("lastState") or {}).get("terminated")
        if last and not one.get("ready"):
            yield f"{one['name']} ended with exit code {last.get('exitCode')} ({last.get('reason')})"


def _ready_after(item: Manifest) -> float | None:
    since = [one.get("lastTransitionTime") for one in item["status"].get("conditions") or () if one["type"] == "Ready"]
    created, ready = (_time(text) for text in (item["metadata"].get("creationTimestamp"), since[0] if since else None))
    return (ready - created).total_seconds() if created and ready else None


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _cut(text: Any) -> str:
    words = " ".join(str(text or "").split())
    return words if len(words) <= _TEXT_SHOWN else words[:_TEXT_SHOWN] + "…"


def reasons(events: Sequence[Manifest]) -> tuple[str, ...]:
    """What a pod's warnings say, the newest of each kind, newest first."""

    def when(event: Manifest) -> str:
        times = (event.get("lastTimestamp"), (event.get("series") or {}).get("lastObservedTime"), event.get("eventTime"))
        return max(str(each or "") for each in times)

    newest: dict[str, str] = {}
    for event in sorted(events, key=when, reverse=True):
        if event.get("type") == "Warning":
            newest.setdefault(str(event.get("reason")), _cut(event.get("message")))
    return tuple(f"{reason}: {message}" for reason, message in list(newest.items())[:_EVENTS_SHOWN])


# --- the cluster


def look(cluster: Cluster, namespace: str, name: str) -> Look | None:
    """How far a Deployment's rollout is; None where there is no such Deployment."""
    deployment = cluster.get(DEPLOYMENT, namespace, name)
    if deployment is None:
        return None
    selector = _selector(deployment["spec"]["selector"])
    replica_sets, pods = (list(cluster.list(resource, namespace, label_selector=selector)) for resource in (REPLICA_SET, POD))
    return judge(deployment, replica_sets, pods)


def _selector(selector: Manifest) -> str:
    """A label selector as a query."""
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    forms = {"In": "{key} in ({values})", "NotIn": "{key} notin ({values})", "Exists": "{key}", "DoesNotExist": "!{key}"}
    for one in selector.get("matchExpressions") or ():
        parts.append(forms[one["operator"]].format(key=one["key"], values=",".join(one.get("values") or ())))
    return ",".join(parts)


def wait(
    cluster: Cluster,
    namespace: str,
    name: str,
    *,
    timeout: float,
    sleep: Callable[[float], Any] = time.sleep,
    notes: list[str] | None = None,
) -> Rollout:
    """Waits until the rollout of a Deployment's current template is complete, Kubernetes gives up, or `timeout` seconds have passed.

    The answer says which; it tells of each pod, and of those that are not ready why. Raises Unreachable where nothing answers at the end.
    """
    began = cluster.clock()
    before: dict[str, PodState] = {}
    gone: dict[str, PodState] = {}
    rollout = Rollout(Look(False, 0, 0, 0, 0), timeout=timeout)
    unreachable: Unreachable | None = None

    def once() -> bool:
        nonlocal before, unreachable
        try:
            found, unreachable = look(cluster, namespace, name), None
        except Unreachable as error:
            unreachable = error  # pods start all the same while an API server does not answer
            return False
        rollout.elapsed = cluster.clock() - began
        if found is None:
            rollout.look = replace(rollout.look, complete=False, pods=(), obstacles=("the Deployment was deleted meanwhile",))
            return True
        rollout.look = found
        tell(f"rollout of Deployment {namespace}/{name} ({found})")
        present = {pod.name for pod in found.pods}
        for pod in before.values():
            if pod.name not in present:
                gone.setdefault(pod.name, replace(pod, state="gone", ready_after=None, gone_after=round(rollout.elapsed, 1), troubles=()))
        before = {pod.name: pod for pod in found.pods}
        rollout.gone = list(gone.values())
        if not rollout.progress or rollout.progress[-1]["state"] != str(found):
            rollout.progress.append({"after": round(rollout.elapsed, 1), "state": str(found)})
        return found.complete or found.hopeless

    until(once, timeout=timeout, delay=_POLL, clock=cluster.clock, sleep=sleep)
    if unreachable:
        raise unreachable
    if rollout.look.pods and not rollout.look.complete:
        rollout.look = replace(rollout.look, pods=tuple(_explained(cluster, namespace, pod, notes) for pod in rollout.look.pods))
    return rollout


def _explained(cluster: Cluster, namespace: str, pod: PodState, notes: list[str] | None) -> PodState:
    """A pod that is not ready and says no more than that, with what its events say: why a volume cannot be mounted is told nowhere else."""
    silent = all(trouble.startswith(_SILENCE) for trouble in pod.troubles)
    if pod.state != "not_ready" or pod.generation != "new" or not silent:
        return pod
    resource = replace(EVENT, list_field_selector=f"involvedObject.kind=Pod,involvedObject.name={pod.name}")
    try:
        events = list(cluster.list(resource, namespace))
    except ApiError as error:
        if not error.missing_verb:
            raise
        if notes is not None:
            notes.append(f"events were not checked: this user may not {error.missing_verb} them in namespace {namespace}")
        return pod
    return replace(pod, troubles=reasons(events) or pod.troubles)
