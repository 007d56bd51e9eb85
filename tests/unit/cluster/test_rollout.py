# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a rollout is, and what keeps it from going on: decided from objects, and waited for on a cluster in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import ApiError, Unreachable
from ansible_collections.meshops.istio.plugins.module_utils.cluster.rollout import Look, judge, look, reasons, wait
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import Resource

REVISION = "deployment.kubernetes.io/revision"
NOT_FOUND = 'MountVolume.SetUp failed for volume "nginx-client-certs" : secret "nginx-client-certs" not found'
QUOTA = 'pods "gw-2-x" is forbidden: exceeded quota: pods, requested: pods=1, used: pods=1, limited: pods=1'


def deployment(generation: int = 2, observed: int = 2, replicas: int | None = 1, **status: Any) -> dict[str, Any]:
    """The second revision of a Deployment; `status` without the word Replicas: updated, total, available."""
    counts = {
        "updatedReplicas": status.pop("updated", 0),
        "replicas": status.pop("total", 0),
        "availableReplicas": status.pop("available", 0),
    }
    return {
        "kind": "Deployment",
        "metadata": {"name": "gw", "namespace": "n", "uid": "d", "generation": generation, "annotations": {REVISION: "2"}},
        "spec": {
            **({} if replicas is None else {"replicas": replicas}),
            "selector": {"matchLabels": {"istio": "gw"}, "matchExpressions": [{"key": "canary", "operator": "DoesNotExist"}]},
            **status.pop("spec", {}),
        },
        "status": {"observedGeneration": observed, **counts, **status},
    }


def owned_by(uid: str) -> list[dict[str, Any]]:
    return [{"uid": uid, "controller": True}]


def replica_set(revision: int, owner: str = "d") -> dict[str, Any]:
    metadata = {"name": f"gw-{revision}", "namespace": "n", "uid": f"r{revision}", "annotations": {REVISION: str(revision)}}
    return {"kind": "ReplicaSet", "metadata": {**metadata, "ownerReferences": owned_by(owner)}}


def pod(name: str, owner: str, *, ready: bool = True, waiting: str = "", deleted: bool = False, **status: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "n", "ownerReferences": owned_by(owner), "creationTimestamp": "2026-01-31T12:00:00Z"}
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": "2026-01-31T12:00:07Z"}
    state = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    return {
        "kind": "Pod",
        "metadata": {**metadata, **({"deletionTimestamp": "2026-01-31T12:01:00Z"} if deleted else {})},
        "spec": {"containers": [{"name": "istio-proxy"}]},
        "status": {
            "phase": "Running" if ready else "Pending",
            "conditions": [condition],
            "containerStatuses": [{"name": "istio-proxy", "state": state}],
            **status,
        },
    }


SETS = [replica_set(1), replica_set(2)]
OLD, NEW = pod("old", "r1"), pod("new", "r2")
STARTING = pod("new", "r2", ready=False, waiting="ContainerCreating")


# --- one look


COMPLETE = [
    (deployment(updated=1, total=1, available=1), True),
    (deployment(updated=1, total=1, available=1, replicas=None), True),  # the default is one
    (deployment(replicas=0), True),
    (deployment(observed=1, updated=1, total=1, available=1), False),  # the controller has not seen the change
    (deployment(updated=1, total=2, available=2), False),  # an old pod is left
    (deployment(updated=1, total=1, available=0), False),  # not ready
    (deployment(updated=1, total=1, available=1, replicas=2), False),  # a pod is missing
    (deployment(updated=1, total=1, available=1, spec={"paused": True}), False),
]


@pytest.mark.parametrize(("live", "complete"), COMPLETE)
def test_when_a_rollout_is_complete(live: dict[str, Any], complete: bool) -> None:
    assert judge(live, SETS, [NEW]).complete == complete


def test_pods_are_told_apart_by_their_template() -> None:
    found = judge(deployment(updated=1, total=2, available=1), SETS, [OLD, STARTING, pod("going", "r1", deleted=True)])
    assert [(one.name, one.generation, one.state) for one in found.pods] == [
        ("going", "old", "terminating"),
        ("new", "new", "not_ready"),
        ("old", "old", "ready"),
    ]
    assert (found.updated, found.old, str(found)) == (1, 1, "0 of 1 new pods ready, 1 made, 1 old")


def test_nothing_is_new_before_the_controller_has_seen_the_change() -> None:
    found = judge(deployment(observed=1, updated=1, total=1, available=1), [replica_set(1), replica_set(2)], [pod("a", "r2")])
    assert [one.generation for one in found.pods] == ["old"]
    assert found.updated == 0


def test_pods_of_others_with_the_same_labels_do_not_count() -> None:
    foreign = replica_set(2, owner="another")
    foreign["metadata"]["uid"] = "foreign"
    found = judge(deployment(updated=1, total=1, available=1), [*SETS, foreign], [NEW, pod("theirs", "foreign"), pod("bare", "nobody")])
    assert [one.name for one in found.pods] == ["new"]


def test_how_long_a_pod_took() -> None:
    (one,) = judge(deployment(updated=1, total=1, available=1), SETS, [NEW]).pods
    assert one.as_result() == {"name": "new", "generation": "new", "state": "ready", "ready_after": 7.0}


CONDITIONS = [
    ({"type": "ReplicaFailure", "status": "True", "message": QUOTA}, f"no further pod can be made: {QUOTA}", False),
    ({"type": "ReplicaFailure", "status": "False", "message": QUOTA}, None, False),
    (
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "m"},
        "Kubernetes waits no longer: m",
        True,
    ),
    ({"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "message": "m"}, None, False),
]


@pytest.mark.parametrize(("condition", "obstacle", "hopeless"), CONDITIONS)
def test_what_the_deployment_says(condition: dict[str, Any], obstacle: str | None, hopeless: bool) -> None:
    found = judge(deployment(total=1, conditions=[condition]), SETS, [OLD])
    assert (found.obstacles, found.hopeless) == (((obstacle,) if obstacle else ()), hopeless)


def test_what_the_deployment_said_of_an_earlier_change_does_not_count() -> None:
    condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "m"}
    assert judge(deployment(generation=3, conditions=[condition]), SETS, [OLD]).obstacles == ()


def test_a_pod_that_ended_is_no_pod_that_starts() -> None:
    (one,) = judge(deployment(), SETS, [pod("new", "r2", ready=False, phase="Failed", reason="Evicted")]).pods
    assert (one.state, one.troubles) == ("terminating", ("Evicted",))


def event(reason: str, message: str, at: str = "2026-01-31T12:00:00Z", kind: str = "Warning") -> dict[str, Any]:
    return {"kind": "Event", "type": kind, "reason": reason, "message": message, "lastTimestamp": at}


def test_events_are_told_newest_first_each_kind_once() -> None:
    told = reasons(
        [
            event("FailedMount", "old", "2026-01-31T12:00:01Z"),
            event("FailedMount", NOT_FOUND, "2026-01-31T12:00:05Z"),
            event("Unhealthy", "probe", "2026-01-31T12:00:03Z"),
            event("FailedScheduling", "earlier", "2026-01-31T12:00:00Z"),
            event("Scheduled", "fine", "2026-01-31T12:00:09Z", kind="Normal"),
        ]
    )
    assert told == (f"FailedMount: {NOT_FOUND}", "Unhealthy: probe")


def test_events_of_the_newer_kind_have_their_times_elsewhere() -> None:
    told = reasons([event("A", "first"), {**event("A", "last"), "lastTimestamp": None, "eventTime": "2026-01-31T12:00:01.000000Z"}])
    assert told == ("A: last",)


def test_long_messages_are_cut() -> None:
    assert len(reasons([event("A", "x" * 5000)])[0]) < 500


# --- waiting


@dataclass
class Api:
    """A cluster in memory whose objects change from one look to the next; the last stay."""

    looks: list[tuple[dict[str, Any] | None, list[dict[str, Any]]]]
    """(Deployment, pods) at each look."""
    events: list[dict[str, Any]] = field(default_factory=list)
    may_list_events: bool = True
    now: float = 100.0
    selectors: set[str] = field(default_factory=set)
    fields: list[str] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if len(self.looks) > 1:
            self.looks.pop(0)

    def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        assert (resource.kind, namespace, name) == ("Deployment", "n", "gw")
        return self.looks[0][0]

    def list(self, resource: Resource, namespace: str | None = None, *, label_selector: str = "") -> Iterator[dict[str, Any]]:
        assert namespace == "n"
        if resource.kind == "Event":
            if not self.may_list_events:
                said = {"message": 'events is forbidden: User "u" cannot list resource "events"'}
                raise ApiError(403, "list", resource, "n", "", said, "https://api")
            self.fields.append(resource.list_field_selector)
            return iter(self.events)
        self.selectors.add(label_selector)
        return iter(SETS if resource.kind == "ReplicaSet" else self.looks[0][1])


def waited(api: Api, timeout: float = 10, notes: list[str] | None = None) -> Any:
    return wait(api, "n", "gw", timeout=timeout, sleep=api.sleep, notes=notes)  # type: ignore[arg-type]


def test_a_rollout_step_by_step() -> None:
    api = Api(
        [
            (deployment(observed=1, updated=1, total=1, available=1), [OLD]),
            (deployment(updated=1, total=2, available=1), [OLD, STARTING]),
            (deployment(updated=1, total=2, available=1), [OLD, STARTING]),
            (deployment(updated=1, total=1, available=1), [pod("old", "r1", deleted=True), NEW]),
        ]
    )
    found = waited(api)
    assert found.as_result() == {
        "complete": True,
        "elapsed": 1.5,
        "replicas": 1,
        "pods": [
            {"name": "new", "generation": "new", "state": "ready", "ready_after": 7.0},
            {"name": "old", "generation": "old", "state": "terminating"},
        ],
        "progress": [
            {"after": 0.0, "state": "0 of 1 new pods ready, 0 made, 1 old"},
            {"after": 0.5, "state": "0 of 1 new pods ready, 1 made, 1 old"},
            {"after": 1.5, "state": "1 of 1 new pods ready, 1 made, 0 old"},
        ],
    }
    assert api.selectors == {"istio=gw,!canary"}
    assert api.fields == []  # events are looked at only where something fails


def test_pods_that_went_are_remembered() -> None:
    api = Api([(deployment(updated=1, total=2, available=1), [OLD, STARTING]), (deployment(updated=1, total=1, available=1), [NEW])])
    assert [one.as_result() for one in waited(api).gone] == [{"name": "old", "generation": "old", "state": "gone", "gone_after": 0.5}]


def test_nothing_is_waited_for_where_nothing_is_under_way() -> None:
    api = Api([(deployment(updated=1, total=1, available=1), [NEW])])
    assert waited(api).complete
    assert api.now == 100.0


def test_an_api_server_that_does_not_answer_for_a_while_is_waited_for() -> None:
    api = Api([(deployment(updated=1, total=2, available=1), [OLD, STARTING]), (deployment(updated=1, total=1, available=1), [NEW])])
    answers = iter([True, False, False, True])
    real = api.get

    def get(*given: Any) -> Any:
        if next(answers):
            return real(*given)
        raise Unreachable("no answer")

    api.get = get  # type: ignore[method-assign]
    assert waited(api).complete
    answers = iter([False] * 100)
    with pytest.raises(Unreachable):
        waited(api)


def test_a_missing_secret_is_named_when_the_time_is_over() -> None:
    api = Api([(deployment(updated=1, total=2, available=1), [OLD, STARTING])], [event("FailedMount", NOT_FOUND)])
    found = waited(api, timeout=10)
    assert not found.complete
    assert 9 <= found.elapsed <= 10
    assert found.troubles == [f"pod new not ready: FailedMount: {NOT_FOUND}"]
    assert found.as_result()["pods"][0]["troubles"] == [f"FailedMount: {NOT_FOUND}"]
    assert api.fields == ["involvedObject.kind=Pod,involvedObject.name=new"]  # the old pod is not asked about


def test_a_crash_is_told_with_the_container() -> None:
    crashing = pod("new", "r2", ready=False, waiting="CrashLoopBackOff")
    assert waited(Api([(deployment(updated=1, total=2, available=1), [OLD, crashing])])).troubles == [
        "pod new not ready: istio-proxy: CrashLoopBackOff"
    ]


def test_a_container_that_ended_tells_how() -> None:
    last = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "a piece of the log"}}
    status = {"name": "istio-proxy", "ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": last}
    (one,) = judge(deployment(), SETS, [pod("new", "r2", ready=False, containerStatuses=[status])]).pods
    assert one.troubles == ("istio-proxy: CrashLoopBackOff", "istio-proxy ended with exit code 137 (OOMKilled)")


def test_pods_that_fail_alike_are_told_together() -> None:
    several = [pod(name, "r2", ready=False, waiting="CrashLoopBackOff") for name in ("a", "b")]
    assert waited(Api([(deployment(updated=2, total=2, replicas=2), several)])).troubles == [
        "pods a, b not ready: istio-proxy: CrashLoopBackOff"
    ]


def test_what_every_pod_that_is_not_ready_says_gives_way_to_its_events() -> None:
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "ContainersNotReady",
        "message": "containers with unready status: [istio-proxy]",
    }
    silent = pod("new", "r2", ready=False, waiting="ContainerCreating", conditions=[condition])
    looks = [(deployment(updated=1, total=2, available=1), [OLD, silent])]
    assert waited(Api(looks, [event("FailedMount", NOT_FOUND)])).troubles == [f"pod new not ready: FailedMount: {NOT_FOUND}"]
    assert "containers with unready status" in waited(Api(looks)).troubles[0]


def test_a_quota_is_told() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "message": QUOTA}
    assert waited(Api([(deployment(total=1, available=1, conditions=[failure]), [OLD])])).troubles == [
        f"no further pod can be made: {QUOTA}"
    ]


def test_when_kubernetes_gives_up_so_do_we() -> None:
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "has timed out progressing"}
    api = Api([(deployment(updated=1, total=2, available=1, conditions=[late]), [OLD, STARTING])], [event("FailedMount", NOT_FOUND)])
    found = waited(api, timeout=600)
    assert found.elapsed == 0
    assert found.troubles == ["Kubernetes waits no longer: has timed out progressing", f"pod new not ready: FailedMount: {NOT_FOUND}"]


def test_events_that_may_not_be_read_become_a_note() -> None:
    notes: list[str] = []
    api = Api([(deployment(updated=1, total=2, available=1), [OLD, STARTING])], may_list_events=False)
    assert waited(api, notes=notes).troubles == ["pod new not ready: nothing is said of why"]
    assert notes == ["events were not checked: this user may not list them in namespace n"]


def test_a_controller_that_does_nothing_is_told() -> None:
    assert "kube-controller-manager" in waited(Api([(deployment(observed=1), [])])).troubles[0]


def test_old_pods_that_do_not_go_are_told() -> None:
    assert waited(Api([(deployment(updated=1, total=2, available=2), [OLD, NEW])])).troubles == ["old pods are still there: old"]


def test_a_deployment_that_is_deleted_meanwhile() -> None:
    found = waited(Api([(deployment(updated=1, total=2, available=1), [OLD, STARTING]), (None, [])]))
    assert not found.complete
    assert found.troubles == ["the Deployment was deleted meanwhile"]
    assert look(Api([(None, [])]), "n", "gw") is None  # type: ignore[arg-type]


def test_a_look_says_nothing_of_what_is_complete() -> None:
    assert str(Look(True, 0, 0, 0, 0)) == "0 of 0 new pods ready, 0 made, 0 old"
