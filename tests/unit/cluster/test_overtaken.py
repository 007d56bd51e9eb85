# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an apply expects of the object, what happens when that is not so any more, and when a run gives up: see docs/faults.md."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import urllib3
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import ApiError, Cluster, ClusterError
from ansible_collections.meshops.istio.plugins.module_utils.cluster.reconcile import Interrupted, Outcome, Overtaken, execute
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import SECRET, Ref, Resource
from ansible_collections.meshops.istio.plugins.module_utils.objects.plan import Unit, plan_apply, plan_delete
from ansible_collections.meshops.istio.tests.unit.cluster.test_client import SECRET_MANIFEST, Pool, found, status

REF = Ref("Secret", "n", "a")
OURS = {"app.kubernetes.io/managed-by": "meshops.istio"}


def manifest(value: str = "MQ==") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "n", "labels": OURS}, "data": {"k": value}}


@dataclass
class Store:
    """One Secret with the API server's rules about resourceVersion and uid."""

    live: dict[str, Any] | None = None
    version: int = 10
    applied: list[dict[str, Any]] = field(default_factory=list)
    before: Callable[[Store], None] | None = None
    """Called once, before the first write arrives."""
    stopping: threading.Event = field(default_factory=threading.Event)

    def write(self, wanted: Mapping[str, Any], manager: str = "meshops.istio", uid: str = "u-1") -> dict[str, Any]:
        self.version += 1
        fields = {"f:data": {f"f:{key}": {} for key in wanted["data"]}, "f:metadata": {"f:labels": {f"f:{key}": {} for key in OURS}}}
        entry = {"manager": manager, "operation": "Apply", "time": f"2026-01-01T00:00:{self.version}Z", "fieldsV1": fields}
        metadata = {**wanted["metadata"], "uid": uid, "resourceVersion": str(self.version), "managedFields": [entry]}
        self.live = {**copy.deepcopy(dict(wanted)), "metadata": metadata}
        return self.live

    def _interrupt(self) -> None:
        before, self.before = self.before, None
        if before:
            before(self)

    def conflict(self, verb: str) -> ApiError:
        answer = {"kind": "Status", "reason": "Conflict", "message": "modified", "details": {"name": "a", "kind": "secrets"}}
        return ApiError(409, verb, SECRET, "n", "a", answer, "https://h")

    def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.live)

    def apply(self, resource: Resource, wanted: Mapping[str, Any], *, force: bool = False, dry_run: bool = False) -> dict[str, Any]:
        self._interrupt()
        self.applied.append(dict(wanted["metadata"]))
        version, uid = (wanted["metadata"].get(name) for name in ("resourceVersion", "uid"))
        there = (self.live or {}).get("metadata") or {}
        if (self.live is None and uid) or (self.live is not None and version not in (None, there["resourceVersion"])):
            raise self.conflict("patch")
        return self.write(wanted)

    def delete(self, resource: Resource, namespace: str, name: str, *, uid: str | None = None) -> bool:
        self._interrupt()
        if self.live is not None and uid not in (None, self.live["metadata"]["uid"]):
            raise self.conflict("delete")
        self.live = None
        return True


def carry_out(store: Store, wanted: dict[str, Any], live: dict[str, Any] | None) -> Outcome:
    return execute(store, [Unit((plan_apply(wanted, live),))], check_mode=False)  # type: ignore[arg-type]


def test_what_an_apply_expects() -> None:
    store = Store()
    carry_out(store, manifest(), None)
    assert store.applied[-1]["resourceVersion"] == "1" and "uid" not in store.applied[-1], "none is there"
    live = store.get(SECRET, "n", "a")
    carry_out(store, manifest("Mg=="), live)
    assert store.applied[-1]["resourceVersion"] == "11" and store.applied[-1]["uid"] == "u-1"


@pytest.mark.parametrize("exists", [False, True])
def test_who_wants_the_same_is_content(exists: bool) -> None:
    store = Store()
    live = copy.deepcopy(store.write(manifest())) if exists else None
    store.before = lambda store: void(store.write(manifest("Mg==")))
    outcome = carry_out(store, manifest("Mg=="), live)
    assert outcome.applied and len(store.applied) == 1, "looked at, and not sent again"


def void(__: Any) -> None:
    return None


@pytest.mark.parametrize("exists", [False, True])
def test_who_wants_something_else_is_told(exists: bool) -> None:
    store = Store()
    live = copy.deepcopy(store.write(manifest())) if exists else None
    store.before = lambda store: void(store.write(manifest("Mw=="), "somebody"))
    with pytest.raises(Interrupted, match=r"Secret n/a was changed by field manager somebody at 2026-01-01T00:00:1\dZ during this run"):
        carry_out(store, manifest("Mg=="), live)
    assert store.live and store.live["data"] == {"k": "Mw=="}


def test_a_new_key_is_no_fulfilled_wish() -> None:
    """istiod might read it first."""
    store = Store()
    store.before = lambda store: void(store.write({**manifest(), "data": {"k": "MQ==", "cert": "Mg=="}}))
    with pytest.raises(Interrupted, match="was changed by"):
        carry_out(store, manifest(), None)


def test_somebody_else_s_label_is_no_reason_to_fail() -> None:
    store = Store()
    live = copy.deepcopy(store.write(manifest()))

    def label(store: Store) -> None:
        assert store.live
        store.version += 1
        store.live["metadata"] |= {"resourceVersion": str(store.version), "labels": {**OURS, "team": "blue"}}

    store.before = label
    assert carry_out(store, manifest("Mg=="), live).applied
    assert [metadata["resourceVersion"] for metadata in store.applied] == ["11", "12"]


@pytest.mark.parametrize(("uid", "words"), [("", "was deleted by something else"), ("u-2", "was changed by field manager meshops.istio")])
def test_what_is_gone_is_not_brought_back(uid: str, words: str) -> None:
    store = Store()
    live = copy.deepcopy(store.write(manifest()))

    def replace(store: Store) -> None:
        store.live = None
        if uid:
            store.write(manifest("Mw=="), uid=uid)

    store.before = replace
    with pytest.raises(Interrupted, match=words):
        carry_out(store, manifest("Mg=="), live)
    assert (store.live or {}).get("data") == ({"k": "Mw=="} if uid else None)


def test_what_was_made_anew_is_not_deleted() -> None:
    store = Store()
    live = copy.deepcopy(store.write(manifest()))
    store.before = lambda store: void(store.write(manifest("Mw=="), uid="u-2"))
    with pytest.raises(Interrupted, match=r"was changed by field manager meshops\.istio"):
        execute(store, [Unit((plan_delete(REF, SECRET, live),))], check_mode=False)  # type: ignore[arg-type]
    assert store.live


# --- giving up


def api(*answers: Any) -> Cluster:
    clock = iter(float(second) for second in range(10**6))
    return Cluster(Pool(list(answers)), "https://h", login=list, sleep=lambda __: None, clock=lambda: next(clock))


def test_an_answer_that_the_object_changed_is_not_retried() -> None:
    changed = status(409, "modified", "Conflict")
    changed.data = b'{"kind":"Status","reason":"Conflict","message":"modified","details":{"name":"a","kind":"secrets"}}'
    expecting = {**SECRET_MANIFEST, "metadata": {**SECRET_MANIFEST["metadata"], "resourceVersion": "1"}}  # type: ignore[dict-item]
    cluster = api(changed)
    with pytest.raises(ApiError) as error:
        cluster.apply(SECRET, expecting)
    assert error.value.is_stale and cluster.requests == {"patch": 1}
    cluster = api(changed, found())
    cluster.apply(SECRET, SECRET_MANIFEST)
    assert cluster.requests == {"patch": 2}, "without a version it may be sent again"


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize("trouble", [status(503, "shutting down"), status(500, "etcdserver: leader changed"), status(429, "later")])
def test_a_server_in_trouble_is_hopeless_unless_others_get_through(trouble: Any, others: bool) -> None:
    cluster = api(trouble)
    if others:  # as another thread would
        cluster.sleep = lambda __: setattr(cluster, "well_at", 10.0**9)
    cluster.reached = True
    with pytest.raises(ClusterError) as error:
        cluster.get(SECRET, "n", "a")
    assert error.value.hopeless is not others


def test_a_run_that_is_stopped_does_not_wait() -> None:
    cluster = Cluster(Pool([urllib3.exceptions.ProtocolError("reset")]), "https://h", login=list)
    cluster.stopping.set()
    with pytest.raises(ClusterError):
        cluster.get(SECRET, "n", "a")
    assert cluster.requests == {"get": 1}


def test_of_two_that_wrote_in_the_same_second_the_one_that_came_is_named() -> None:
    ours, theirs, older = ({"manager": name, "time": f"2026-01-01T00:00:0{second}Z"} for name, second in (("a", 5), ("b", 5), ("c", 4)))
    before, now = ({"metadata": {"managedFields": entries}} for entries in ([older, ours], [older, ours, theirs]))
    assert "field manager b at 2026-01-01T00:00:05Z" in str(Overtaken(REF, before, now))
    assert "field manager a at 2026-01-01T00:00:05Z" in str(Overtaken(REF, before, before))
