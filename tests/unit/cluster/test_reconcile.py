# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading, planning and carrying out against a cluster in memory: what is asked for, in which order, and what is told when it fails."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import ApiError, ClusterError, Unreachable
from ansible_collections.meshops.istio.plugins.module_utils.cluster.reconcile import Interrupted, Outcome, Stopped, execute, owned, read
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import (
    GATEWAY,
    SECRET,
    VIRTUAL_SERVICE,
    Ref,
    Resource,
    resource_of,
)
from ansible_collections.meshops.istio.plugins.module_utils.objects.plan import (
    Plan,
    Unit,
    Write,
    plan_apply,
    plan_delete,
    problems_of,
    shown,
)
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected

OURS = {"app.kubernetes.io/managed-by": "meshops.istio"}


def refusal(
    status: int, message: str = "no", verb: str = "patch", resource: Resource = GATEWAY, reason: str = "", name: str = "a"
) -> ApiError:
    return ApiError(status, verb, resource, "n", name, {"kind": "Status", "message": message, "reason": reason}, "https://h")


def denied(verb: str = "patch", resource: Resource = GATEWAY) -> ApiError:
    message = f'x is forbidden: User "u" cannot {verb} resource "{resource.plural}" in API group "{resource.group}" in the namespace "n"'
    return refusal(403, message, verb, resource, "Forbidden")


NO_NAMESPACE = refusal(404, 'namespaces "n" not found', reason="NotFound")
GOING = refusal(403, "x is forbidden: unable to create new content in namespace n because it is being terminated")
LOST = Unreachable("no answer from the API server at https://h after 6 attempts")


@dataclass
class Fake:
    """A cluster that keeps what it was asked, and fails where it is told to."""

    objects: list[dict[str, Any]] = field(default_factory=list)
    fails: dict[str, ClusterError] = field(default_factory=dict)
    """`<request> <name>` to the error, for example `apply a`, `dry a`, `delete a`, `list`."""
    asked: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda request: None
    stopping: threading.Event = field(default_factory=threading.Event)
    lock: Any = field(default_factory=threading.Lock)

    def _ask(self, request: str) -> None:
        self.before(request)
        with self.lock:
            self.asked.append(request)
        for words in (request, request.split()[0]):
            if words in self.fails:
                raise self.fails[words]

    def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        self._ask(f"get {namespace}/{name}")
        return next((one for one in self.objects if one["metadata"]["name"] == name and one["kind"] == resource.kind), None)

    def list(self, resource: Resource, namespace: str | None = None, *, label_selector: str = "") -> Iterator[dict[str, Any]]:
        self._ask(f"list {resource.plural} {namespace} {label_selector}".strip())
        for one in self.objects:
            if one["kind"] == resource.kind:
                yield {key: value for key, value in one.items() if key not in ("apiVersion", "kind")}

    def apply(self, resource: Resource, manifest: Mapping[str, Any], *, force: bool = False, dry_run: bool = False) -> dict[str, Any]:
        assert resource == resource_of(manifest)
        self._ask(f"{'dry' if dry_run else 'force' if force else 'apply'} {manifest['metadata']['name']}")
        return dict(manifest)

    def delete(self, resource: Resource, namespace: str, name: str, *, uid: str | None = None) -> bool:
        self._ask(f"delete {name}" + (f" {uid}" if uid else ""))
        return True


def gateway(name: str = "a", labels: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": "n", "labels": dict(OURS if labels is None else labels)},
        "spec": spec or {"port": 1},
    }


def secret(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "n"}, "data": {"key": "Y2FuYXJ5"}}


def live(manifest: dict[str, Any], *fields: str, manager: str = "meshops.istio", **metadata: Any) -> dict[str, Any]:
    """The manifest as the server has it, `fields` of its spec owned by the manager."""
    managed = [{"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": {f"f:{name}": {} for name in fields}}}]
    return {**manifest, "metadata": {**manifest["metadata"], "managedFields": managed, "uid": "u-1", **metadata}}


def creation(name: str) -> Plan:
    return plan_apply(gateway(name), None)


def placed(name: str, namespace: str) -> Unit:
    manifest = gateway(name)
    return Unit((plan_apply({**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}, None),))


def deletion(name: str) -> Plan:
    return plan_delete(GATEWAY.ref("n", name), GATEWAY, live(gateway(name)))


def replacement(name: str) -> Plan:
    writes = (Write("delete", gateway(name), uid="u-1"), Write("apply", gateway(name)))
    return Plan(GATEWAY.ref("n", name), "replaced", ("why",), writes)


# --- reading ---------------------------------------------------------------------------------------------------------------------------------


def refs(*names: str, kind: str = "Secret", namespace: str = "n") -> list[tuple[Resource, Ref]]:
    resource = {"Secret": SECRET, "Gateway": GATEWAY, "VirtualService": VIRTUAL_SERVICE}[kind]
    return [(resource, Ref(kind, namespace, name)) for name in names]


def test_few_are_read_by_name() -> None:
    cluster = Fake([secret("a")])
    names = [f"s{number}" for number in range(7)]
    found = read(cluster, [*refs("a", *names), *refs("a")])  # type: ignore[arg-type]
    assert found[Ref("Secret", "n", "a")] == secret("a")
    assert all(found[Ref("Secret", "n", name)] is None for name in names)
    assert sorted(cluster.asked) == sorted(f"get n/{name}" for name in ("a", *names)), "each once"


def test_more_are_read_with_one_list() -> None:
    cluster = Fake([secret("s3"), secret("other")])
    found = read(cluster, refs(*(f"s{number}" for number in range(9))))  # type: ignore[arg-type]
    assert cluster.asked == ["list secrets n"]
    assert found[Ref("Secret", "n", "s3")] == secret("s3"), "as a GET would give it"
    assert len(found) == 9 and sum(one is not None for one in found.values()) == 1


def test_eight_credentials_are_eight_though_each_is_looked_up_under_two_names() -> None:
    names = [f"s{number}" for number in range(8)]
    cluster = Fake()
    read(cluster, refs(*(name + suffix for name in names for suffix in ("", "-cacert"))))  # type: ignore[arg-type]
    assert len(cluster.asked) == 16 and all(request.startswith("get") for request in cluster.asked)


def test_kinds_and_namespaces_are_counted_apart() -> None:
    cluster = Fake()
    few, many = [f"f{number}" for number in range(8)], [f"m{number}" for number in range(9)]
    read(cluster, [*refs(*few), *refs(*many, namespace="other"), *refs(*many, kind="Gateway"), *refs(*few, kind="VirtualService")])  # type: ignore[arg-type]
    assert sorted(request for request in cluster.asked if request.startswith("list")) == ["list gateways n", "list secrets other"]
    assert sum(request.startswith("get n/f") for request in cluster.asked) == 16


@pytest.mark.parametrize("names", [1, 9])
def test_what_may_not_be_read_is_an_error(names: int) -> None:
    cluster = Fake(fails={"get": denied("get", SECRET), "list": denied("list", SECRET)})
    with pytest.raises(ApiError, match=f"may not {'get' if names == 1 else 'list'} secrets"):
        read(cluster, refs(*map(str, range(names))))  # type: ignore[arg-type]


def test_owned_objects_are_found_by_label() -> None:
    cluster = Fake([gateway("a")])
    assert owned(cluster, GATEWAY, "n", "x=y") == [gateway("a")]  # type: ignore[arg-type]
    assert cluster.asked == ["list gateways n x=y"]


# --- planning --------------------------------------------------------------------------------------------------------------------------------


def test_what_does_not_exist_is_created() -> None:
    plan = plan_apply(gateway(), None)
    assert (plan.action, plan.reasons, plan.before) == ("created", ("does not exist",), None)
    assert plan.after == gateway() and plan.changed
    assert plan.as_result() == {"kind": "Gateway", "namespace": "n", "name": "a", "action": "created", "reasons": ["does not exist"]}


def test_what_is_as_it_should_be_is_left_alone() -> None:
    plan = plan_apply(gateway(), live(gateway(), "port"))
    assert plan == Plan(GATEWAY.ref("n", "a"), "unchanged") and not plan.changed


def test_what_differs_is_updated_and_said() -> None:
    plan = plan_apply(gateway(port=2), live(gateway(), "port"))
    assert (plan.action, plan.reasons) == ("updated", ("spec.port differs",))
    assert plan.before is not None and plan.before["spec"] == {"port": 1} and plan.after == gateway(port=2)
    assert [write.force for write in plan.writes] == [False] and plan.problems == ()


@pytest.mark.parametrize("force", [False, True])
def test_conflicts_are_problems_unless_forced(force: bool) -> None:
    plan = plan_apply(gateway(port=2), live(gateway(), "port", manager="argocd"), force=force)
    assert [write.force for write in plan.writes] == [force]
    assert [problem.code for problem in plan.problems] == ([] if force else ["conflict"])
    if not force:
        assert "spec.port was set to another value by field manager argocd" in str(plan.problems[0])
        assert problems_of([Unit((plan,))]) == plan.problems


def test_what_is_being_deleted_is_not_applied_to() -> None:
    gone = live(gateway(), "port", deletionTimestamp="2027-01-01T00:00:00Z")
    plan = plan_apply(gateway(), gone)
    assert not plan.changed and [problem.code for problem in plan.problems] == ["terminating"]
    assert plan_delete(plan.ref, GATEWAY, gone) == Plan(plan.ref, "unchanged"), "and not deleted again"


def test_deleting() -> None:
    ref = GATEWAY.ref("n", "a")
    assert plan_delete(ref, GATEWAY, None) == Plan(ref, "unchanged")
    plan = plan_delete(ref, GATEWAY, live(gateway()))
    assert (plan.action, plan.reasons, plan.after, plan.problems) == ("deleted", ("state is absent",), None, ())
    assert [(write.verb, write.uid) for write in plan.writes] == [("delete", "u-1")]
    foreign = plan_delete(ref, GATEWAY, live(gateway(labels={})))
    assert [problem.code for problem in foreign.problems] == ["foreign_object"]
    assert plan_delete(ref, GATEWAY, live(gateway(labels={})), force=True, reason="told").problems == ()


def test_what_a_diff_shows() -> None:
    there = live(gateway(labels={**OURS, "theirs": "1"}), "port", annotations={"kubectl.kubernetes.io/last-applied-configuration": "{}"})
    there["status"] = {"conditions": []}
    assert shown(there, gateway(port=2)) == gateway()
    for source in (secret("a"), {**secret("a"), "stringData": {"key": "canary"}}):
        assert "canary" not in str(shown(source, source)) and "Y2FuYXJ5" not in str(shown(source, source))
    outcome = Outcome([plan_apply(gateway(port=2), there), Plan(GATEWAY.ref("n", "b"), "unchanged"), creation("c"), deletion("d")])
    assert [(one["before_header"], one["before"].get("spec"), one["after"].get("spec")) for one in outcome.diff()] == [
        ("Gateway n/a", {"port": 1}, {"port": 2}),
        ("Gateway n/c", None, {"port": 1}),
        ("Gateway n/d", {"port": 1}, None),
    ]


# --- carrying out ----------------------------------------------------------------------------------------------------------------------------


def units(*names: str) -> list[Unit]:
    """`abc` is a unit of three creations."""
    return [Unit(tuple(creation(letter) for letter in name)) for name in names]


def names(plans: list[Plan]) -> list[str]:
    return sorted(plan.ref.name for plan in plans)


def test_nothing_to_do_asks_nothing() -> None:
    cluster = Fake()
    outcome = execute(cluster, [Unit((Plan(GATEWAY.ref("n", "a"), "unchanged"),))], check_mode=False)  # type: ignore[arg-type]
    assert not outcome.changed and cluster.asked == []


def test_a_unit_keeps_its_order() -> None:
    cluster = Fake()
    unit = Unit((creation("z"), Plan(GATEWAY.ref("n", "y"), "unchanged"), replacement("m"), deletion("a")))
    outcome = execute(cluster, [unit], check_mode=False)  # type: ignore[arg-type]
    assert cluster.asked == ["apply z", "delete m u-1", "apply m", "delete a u-1"]
    assert names(outcome.applied) == ["a", "m", "z"] and outcome.changed and outcome.skipped == []


def test_units_run_side_by_side() -> None:
    barrier = threading.Barrier(4, timeout=5)
    cluster = Fake(before=lambda request: barrier.wait() and None)
    execute(cluster, units("a", "b", "c", "d"), check_mode=False)  # type: ignore[arg-type]
    assert len(cluster.asked) == 4, "each waited for the three others"


def test_a_failure_ends_its_unit_and_no_other() -> None:
    cluster = Fake(fails={"apply b": refusal(422, "no such field")})
    with pytest.raises(Interrupted) as caught:
        execute(cluster, units("abc", "def"), check_mode=False)  # type: ignore[arg-type]
    outcome = caught.value.outcome
    assert names(outcome.applied) == ["a", "d", "e", "f"]
    assert names([plan for plan, __ in outcome.failed]) == ["b"] and names(outcome.skipped) == ["c"]
    text = str(caught.value)
    assert "no such field" in text and "failed: Gateway n/b" in text and "not tried: Gateway n/c" in text
    assert "Applied before that: " in text and "Gateway n/a" in text and "Running again continues" in text


@pytest.mark.parametrize("error", [LOST, refusal(401, "Unauthorized")])
def test_where_nothing_would_get_through_nothing_more_is_tried(error: ClusterError) -> None:
    cluster = Fake(fails={"apply": error})
    letters = [chr(number) for number in range(ord("A"), ord("A") + 50)]
    with pytest.raises(Interrupted) as caught:
        execute(cluster, units(*letters), check_mode=False)  # type: ignore[arg-type]
    outcome = caught.value.outcome
    assert len(cluster.asked) <= 16 < len(outcome.skipped)
    assert len(outcome.failed) + len(outcome.skipped) == 50 and outcome.applied == []
    assert str(caught.value).count(str(error)) == 1 and "Applied before that: nothing" in str(caught.value)


def test_many_causes_are_counted() -> None:
    cluster = Fake(fails={f"apply {letter}": refusal(422, f"reason {letter}") for letter in "abcdefghijklmn"})
    with pytest.raises(Interrupted) as caught:
        execute(cluster, units(*"abcdefghijklmn"), check_mode=False)  # type: ignore[arg-type]
    assert "; and 11 more. " in str(caught.value) and "and 4 more; not tried: nothing" in str(caught.value)


def test_an_object_that_is_deleted_and_not_made_anew_is_told_as_half_done() -> None:
    cluster = Fake(fails={"apply a": LOST})
    with pytest.raises(Interrupted) as caught:
        execute(cluster, [Unit((replacement("a"),))], check_mode=False)  # type: ignore[arg-type]
    assert names(caught.value.outcome.half_done) == ["a"]
    assert "Only partly applied: Gateway n/a." in str(caught.value)


@pytest.fixture
def signalled() -> Iterator[Callable[[], None]]:
    """Sends this process a signal that stops it, as the module's own handler does."""

    def stop(*__: Any) -> None:
        raise Stopped("SIGUSR1")

    before = signal.signal(signal.SIGUSR1, stop)
    yield lambda: os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_lets_what_is_under_way_finish_and_begins_nothing_new(signalled: Callable[[], None]) -> None:
    """The rest is told as not tried; before, it was told as applied."""
    sent = threading.Event()

    def wait(request: str) -> None:
        if request == "apply a":
            signalled()
            sent.set()
        sent.wait(5)

    cluster = Fake(before=wait)
    letters = ["ab", *(chr(number) for number in range(ord("A"), ord("A") + 40))]
    with pytest.raises(Interrupted) as caught:
        execute(cluster, units(*letters), check_mode=False)  # type: ignore[arg-type]
    outcome = caught.value.outcome
    assert outcome.stopped_by == "SIGUSR1" and str(caught.value).startswith("stopped by SIGUSR1. ")
    assert "a" in names(outcome.applied) and "b" in names(outcome.skipped)
    assert sorted(request.split()[1] for request in cluster.asked) == names(outcome.applied)
    assert len(outcome.applied) + len(outcome.skipped) == 42 and outcome.skipped


def test_a_signal_that_comes_when_all_is_written_changes_nothing(signalled: Callable[[], None]) -> None:
    cluster = Fake(before=lambda request: signalled())
    outcome = execute(cluster, units("a"), check_mode=False)  # type: ignore[arg-type]
    assert names(outcome.applied) == ["a"] and outcome.stopped_by == "SIGUSR1"


# --- rehearsing ------------------------------------------------------------------------------------------------------------------------------


def test_check_mode_asks_dry_runs_and_nothing_else() -> None:
    cluster = Fake()
    outcome = execute(cluster, [Unit((creation("a"), deletion("b"), replacement("c"), creation("d")))], check_mode=True)  # type: ignore[arg-type]
    assert sorted(cluster.asked) == ["dry a", "dry d"], "what follows a deletion cannot be tried out"
    assert outcome.changed and outcome.applied == [] and outcome.notes == []


def test_what_the_server_may_not_be_asked_is_one_note() -> None:
    letters = "abcdefghijklmnop"
    cluster = Fake(fails={"dry": denied()})
    outcome = execute(cluster, units(*letters), check_mode=True)  # type: ignore[arg-type]
    listed = ", ".join(f"Gateway n/{letter}" for letter in letters[:10])
    assert outcome.notes == [f"{listed} and 6 more: not validated by the server (this user may not patch gateways)"]


def test_check_mode_warns_of_a_missing_namespace_and_fails_of_one_that_goes_away() -> None:
    cluster = Fake(fails={"dry b": NO_NAMESPACE, "dry c": NO_NAMESPACE})
    several = [placed("a", "here"), placed("b", "nowhere"), placed("c", "elsewhere")]
    outcome = execute(cluster, several, check_mode=True)  # type: ignore[arg-type]
    (problem,) = outcome.doubts
    assert (problem.code, problem.severity, problem.where) == ("namespace_missing", "warning", "namespaces elsewhere, nowhere")
    assert "Gateway nowhere/b" in problem.message and outcome.changed and outcome.notes == []
    cluster.fails["dry c"] = GOING
    with pytest.raises(Rejected) as caught:
        execute(cluster, several, check_mode=True)  # type: ignore[arg-type]
    assert [(problem.code, problem.where) for problem in caught.value.problems] == [("namespace_terminating", "namespace elsewhere")]


@pytest.mark.parametrize(
    "error",
    [
        refusal(400, 'admission webhook "rev.validation.istio.io" denied the request'),
        refusal(403, "exceeded quota: few"),
        refusal(404, "the cluster does not serve Gateway", reason="NotServed"),
        refusal(409, "conflict"),
    ],
)
def test_what_the_dry_run_refuses_fails_and_nothing_was_written(error: ClusterError) -> None:
    cluster = Fake(fails={"dry b": error})
    for check_mode in (True, False):
        with pytest.raises(Interrupted) as caught:
            execute(cluster, units("ab", "c"), check_mode=check_mode, rehearse=True)  # type: ignore[arg-type]
        text = str(caught.value)
        assert str(error) in text and text.endswith("Refused in a dry run: Gateway n/b; nothing was written")
        assert "Running again" not in text
    assert {request.split()[0] for request in cluster.asked} == {"dry"}


@pytest.mark.parametrize("error", [LOST, refusal(401, "Unauthorized")])
def test_a_rehearsal_gives_up_where_nothing_gets_through(error: ClusterError) -> None:
    cluster = Fake(fails={"dry": error})
    letters = [chr(number) for number in range(ord("A"), ord("A") + 50)]
    with pytest.raises(Interrupted):
        execute(cluster, units(*letters), check_mode=True)  # type: ignore[arg-type]
    assert len(cluster.asked) <= 16


def test_a_rehearsal_comes_before_the_first_write_and_without_notes() -> None:
    cluster = Fake(fails={"dry a": denied()})
    outcome = execute(cluster, units("ab", "c"), check_mode=False, rehearse=True)  # type: ignore[arg-type]
    kinds = [key for key, __ in itertools.groupby(request.split()[0] for request in cluster.asked)]
    assert kinds == ["dry", "apply"] and outcome.notes == [] and names(outcome.applied) == ["a", "b", "c"]


def test_namespaces_are_asked_once_each_before_anything_is_written() -> None:
    cluster = Fake()
    everywhere = [placed(name, namespace) for namespace in ("n", "m", "o") for name in ("a", "b")]
    execute(cluster, everywhere, check_mode=False)  # type: ignore[arg-type]
    assert sorted(cluster.asked[:3]) == ["dry a"] * 3 and sorted(cluster.asked[3:]) == ["apply a"] * 3 + ["apply b"] * 3


@pytest.mark.parametrize(
    ("several", "why"),
    [
        ([("a", "n"), ("b", "n")], "in one namespace all are refused or none"),
        ([("a", "")], "what has no namespace needs none"),
    ],
)
def test_namespaces_are_not_asked_where_nothing_could_be_half_done(several: list[tuple[str, str]], why: str) -> None:
    cluster = Fake()
    execute(cluster, [placed(*one) for one in several], check_mode=False)  # type: ignore[arg-type]
    assert {request.split()[0] for request in cluster.asked} == {"apply"}, why


@pytest.mark.parametrize("rehearse", [True, False])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NO_NAMESPACE, "namespace_missing"),
        (GOING, "namespace_terminating"),
    ],
)
def test_all_namespaces_that_take_nothing_are_named_and_nothing_was_written(error: ApiError, code: str, rehearse: bool) -> None:
    cluster = Fake(fails={"dry b": error, "dry c": error})
    everywhere = [placed("a", "here"), placed("b", "nowhere"), placed("c", "elsewhere")]
    with pytest.raises(Rejected) as caught:
        execute(cluster, everywhere, check_mode=False, rehearse=rehearse)  # type: ignore[arg-type]
    (problem,) = caught.value.problems
    assert problem.code == code and problem.where == "namespaces elsewhere, nowhere" and "Gateway nowhere/b" in problem.message
    assert {request.split()[0] for request in cluster.asked} == {"dry"}


def test_a_webhook_that_knows_no_dry_run_is_no_reason_to_stop() -> None:
    cluster = Fake(fails={"dry": refusal(400, "admission webhook does not support dry run")})
    outcome = execute(cluster, [placed("a", "n"), placed("b", "m")], check_mode=False)  # type: ignore[arg-type]
    assert names(outcome.applied) == ["a", "b"]


def test_a_single_write_needs_no_rehearsal() -> None:
    cluster = Fake()
    execute(cluster, units("a"), check_mode=False, rehearse=True)  # type: ignore[arg-type]
    assert cluster.asked == ["apply a"]
