# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is looked at beyond the objects to be written: others' objects, a gateway's workloads, credentials. Fewer rights mean a note."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import ApiError
from ansible_collections.meshops.istio.plugins.module_utils.cluster.gateways import (
    owned_selector,
    plan_absent,
    plan_present,
    read_credentials,
)
from ansible_collections.meshops.istio.plugins.module_utils.cluster.observe import list_where_allowed
from ansible_collections.meshops.istio.plugins.module_utils.cluster.workloads import find_workloads
from ansible_collections.meshops.istio.plugins.module_utils.istio.reference import Lookup
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import (
    GATEWAY,
    NODE,
    POD,
    SECRET,
    VIRTUAL_SERVICE,
    WORKLOAD_ENTRY,
    Ref,
    Resource,
    ref_of,
    resource_of,
)
from ansible_collections.meshops.istio.plugins.module_utils.objects.plan import Unit


@dataclass
class Fake:
    """Objects by (plural, namespace), and what may not be done: `list secrets *`, `list secrets n`, `get secrets x`."""

    objects: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    denied: tuple[str, ...] = ()
    errors: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def _check(self, verb: str, resource: Resource, place: str) -> None:
        request = f"{verb} {resource.plural} {place}"
        self.asked.append(request)
        if request in self.denied:
            message = f'User "u" cannot {verb} resource "{resource.plural}" in API group "{resource.group}"'
            raise ApiError(403, verb, resource, place, "", {"message": message, "reason": "Forbidden"}, "https://h")
        if request in self.errors:
            raise ApiError(self.errors[request], verb, resource, place, "", {"message": "an error"}, "https://h")

    def list(self, resource: Resource, namespace: str | None = None, *, label_selector: str = "") -> Iterator[dict[str, Any]]:
        self._check("list", resource, namespace or "*")
        for (plural, place), items in self.objects.items():
            if plural == resource.plural and namespace in (None, place):
                yield from items

    def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        self._check("get", resource, name)
        return next((item for item in self.objects.get((resource.plural, namespace), []) if item["metadata"]["name"] == name), None)


def item(name: str, namespace: str = "n", **more: Any) -> dict[str, Any]:
    labels = more.pop("labels", None)
    return {"metadata": {"name": name, "namespace": namespace, **({"labels": labels} if labels else {})}, **more}


# --- others' objects -------------------------------------------------------------------------------------------------------------------------

GATEWAYS = {("gateways", "n"): [item("a")], ("gateways", "m"): [item("b", "m")]}


@pytest.mark.parametrize(
    ("denied", "names", "said"),
    [
        ((), ["a", "b"], []),
        (("list gateways *",), ["a"], ["gateways in other namespaces were not checked: this user may not list them"]),
        (("list gateways *", "list gateways n"), [], ["gateways in other namespaces", "gateways in namespace n were not checked"]),
    ],
)
def test_as_much_as_is_allowed(denied: tuple[str, ...], names: list[str], said: list[str]) -> None:
    notes: list[str] = []
    found = list_where_allowed(Fake(GATEWAYS, denied), GATEWAY, "n", notes)  # type: ignore[arg-type]
    assert [one["metadata"]["name"] for one in found] == names
    assert all(one["kind"] == "Gateway" and one["apiVersion"] == "networking.istio.io/v1" for one in found)
    assert len(notes) == len(said) and all(words in note for words, note in zip(said, notes, strict=True))


def test_a_kind_that_is_not_served_is_a_note_and_another_error_an_error() -> None:
    notes: list[str] = []
    assert list_where_allowed(Fake(errors={"list gateways *": 404}), GATEWAY, "n", notes) == []  # type: ignore[arg-type]
    assert notes == ["gateways were not looked at: the cluster does not serve networking.istio.io/v1"]
    with pytest.raises(ApiError):
        list_where_allowed(Fake(errors={"list gateways *": 401}), GATEWAY, "n", notes)  # type: ignore[arg-type]


# --- workloads -------------------------------------------------------------------------------------------------------------------------------

INGRESS = {"istio": "ingressgateway"}
RUNNING = {
    ("pods", "istio-system"): [
        item("one", "istio-system", labels=INGRESS, status={"phase": "Running"}),
        item("ended", "istio-system", labels=INGRESS, status={"phase": "Succeeded"}),
        item("other", "istio-system", labels={"istio": "egressgateway"}),
    ],
    ("pods", "apps"): [item("two", "apps", labels={**INGRESS, "team": "a"})],
    ("workloadentries", "machines"): [
        item("vm", "machines", spec={"labels": INGRESS}),
        item("db", "machines", spec={"labels": {"a": "b"}}),
    ],
}


def test_workloads_are_pods_and_machines() -> None:
    notes: list[str] = []
    found = find_workloads(Fake(RUNNING), INGRESS, ["istio-system"], notes)  # type: ignore[arg-type]
    assert (found.namespaces, len(found.labels), found.complete, notes) == (["apps", "istio-system", "machines"], 3, True, [])
    narrower = find_workloads(Fake(RUNNING), {**INGRESS, "team": "a"}, [], notes)  # type: ignore[arg-type]
    assert narrower.namespaces == ["apps"]


def test_workloads_where_the_cluster_may_not_be_listed() -> None:
    notes: list[str] = []
    found = find_workloads(Fake(RUNNING, ("list pods *", "list workloadentries *")), INGRESS, ["istio-system", "istio-system"], notes)  # type: ignore[arg-type]
    assert (found.namespaces, found.complete) == (["istio-system"], False)
    assert len(notes) == 2 and all("only in istio-system" in note for note in notes)
    nothing = Fake(RUNNING, tuple(f"list {plural} {place}" for plural in ("pods", "workloadentries") for place in ("*", "istio-system")))
    assert find_workloads(nothing, INGRESS, ["istio-system"], notes).namespaces == [] and "were not looked for:" in notes[-1]  # type: ignore[arg-type]


def test_a_cluster_without_machines() -> None:
    found = find_workloads(Fake(RUNNING, errors={"list workloadentries *": 404}), INGRESS, [], [])  # type: ignore[arg-type]
    assert found.namespaces == ["apps", "istio-system"] and found.complete


# --- credentials that servers need -----------------------------------------------------------------------------------------------------------


def lookup(*names: str, kind: Any = "Secret", namespace: str | None = None) -> Lookup:
    return Lookup("pair", kind, names, namespace, "servers[0]")


def test_credentials_are_read_where_the_proxies_are() -> None:
    cluster = Fake({("secrets", "n"): [item("x")], ("configmaps", "roots"): [item("ca", "roots")]})
    notes: list[str] = []
    found = read_credentials(
        cluster, [lookup("x-cacert", "x"), lookup("x"), lookup("ca", kind="ConfigMap", namespace="roots")], ["n", "m"], notes
    )  # type: ignore[arg-type]
    assert {key for key, value in found.items() if value} == {("Secret", "n", "x"), ("ConfigMap", "roots", "ca")}
    assert found.keys() >= {("Secret", "n", "x-cacert"), ("Secret", "m", "x"), ("Secret", "m", "x-cacert")} and notes == []
    assert len(cluster.asked) == 5, "each once in each namespace"


def test_a_credential_that_may_not_be_read_is_left_out_with_a_note() -> None:
    cluster = Fake({("secrets", "n"): [item("x")]}, ("get secrets y",))
    notes: list[str] = []
    found = read_credentials(cluster, [lookup("x"), lookup("y")], ["n"], notes)  # type: ignore[arg-type]
    assert found.keys() == {("Secret", "n", "x")}
    assert notes == ["Secrets in n that the servers need were not checked: this user may not read y"]


def test_many_credentials_are_one_list() -> None:
    cluster = Fake({("secrets", "n"): [item(f"x{number}") for number in range(20)]})
    found = read_credentials(cluster, [lookup(f"x{number}") for number in range(20)], ["n"], [])  # type: ignore[arg-type]
    assert cluster.asked == ["list secrets n"] and all(found.values())


# --- a Gateway and its routes ----------------------------------------------------------------------------------------------------------------

OURS = {"app.kubernetes.io/managed-by": "meshops.istio", "meshops.istio/owner": "gateway.g"}


def manifest(kind: str, name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    head = {"name": name, "namespace": "n", "labels": OURS if labels is None else labels}
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": head, "spec": {"hosts": ["a"]}}


def steps(unit: Unit) -> list[tuple[str, str]]:
    return [(plan.action, plan.ref.name) for plan in unit.plans]


def test_routes_come_before_the_gateway_and_go_after_it() -> None:
    wanted = [manifest("Gateway", "g"), manifest("VirtualService", "r1"), manifest("VirtualService", "r2")]
    unit = plan_present(wanted, {}, [manifest("VirtualService", "old"), manifest("VirtualService", "r1")], prune=True, force=False)
    assert steps(unit) == [("created", "r1"), ("created", "r2"), ("created", "g"), ("deleted", "old")]
    kept = plan_present(wanted, {}, [manifest("VirtualService", "old")], prune=False, force=False)
    assert "old" not in [name for __, name in steps(kept)]
    gone = plan_absent("g", "n", manifest("Gateway", "g"), [manifest("VirtualService", "r1")], force=False)
    assert steps(gone) == [("deleted", "g"), ("deleted", "r1")]
    assert owned_selector("g") == "app.kubernetes.io/managed-by=meshops.istio,meshops.istio/owner=gateway.g"


@pytest.mark.parametrize("force", [False, True])
def test_another_gateways_route_is_not_taken_over_unasked(force: bool) -> None:
    theirs = manifest("VirtualService", "r1", {**OURS, "meshops.istio/owner": "gateway.other"})
    wanted = [manifest("Gateway", "g"), manifest("VirtualService", "r1")]
    unit = plan_present(wanted, {VIRTUAL_SERVICE.ref("n", "r1"): theirs}, [], prune=True, force=force)
    assert [problem.code for plan in unit.plans for problem in plan.problems] == ([] if force else ["belongs_to_another"])


# --- where the API serves what ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "namespace", "name", "path"),
    [
        (SECRET, "n", "x", "/api/v1/namespaces/n/secrets/x"),
        (SECRET, "n", None, "/api/v1/namespaces/n/secrets"),
        (SECRET, None, None, "/api/v1/secrets"),
        (NODE, "n", "x", "/api/v1/nodes/x"),
        (GATEWAY, "n", "x", "/apis/networking.istio.io/v1/namespaces/n/gateways/x"),
        (WORKLOAD_ENTRY, None, None, "/apis/networking.istio.io/v1/workloadentries"),
    ],
)
def test_paths(resource: Resource, namespace: str | None, name: str | None, path: str) -> None:
    assert resource.path(namespace, name) == path


def test_objects_and_their_names() -> None:
    assert resource_of(manifest("Gateway", "g")) is GATEWAY and resource_of({"apiVersion": "v1", "kind": "Pod"}) is POD
    assert str(ref_of(manifest("Gateway", "g"))) == "Gateway n/g" and str(Ref("Node", "", "x")) == "Node x"
