# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written for a Gateway, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.cluster.gateways import owned_selector, plan_absent, plan_present
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress import manifests
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress_arguments import from_arguments
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import ref_of
from ansible_collections.meshops.istio.plugins.module_utils.objects.plan import Unit


def wanted(*routes: str) -> list[dict[str, Any]]:
    listed = [{"name": name, "match": [{"prefix": f"/{name}"}], "destination": {"host": name}} for name in routes]
    return manifests(from_arguments({"name": "g", "servers": [{"hosts": ["a.example.com"], "credential_name": "c", "routes": listed}]}))


def on_cluster(manifest: dict[str, Any], **labels: str) -> dict[str, Any]:
    metadata = {**manifest["metadata"], "uid": manifest["metadata"]["name"], "labels": labels or manifest["metadata"]["labels"]}
    fields = {
        "f:metadata": {"f:labels": {f"f:{label}": {} for label in metadata["labels"]}},
        "f:spec": {f"f:{field}": {"f:istio": {}} if field == "selector" else {} for field in manifest["spec"]},
    }
    metadata["managedFields"] = [{"manager": "meshops.istio", "operation": "Apply", "fieldsV1": fields}]
    return {**manifest, "metadata": metadata}


def steps(unit: Unit) -> list[tuple[str, str, str]]:
    return [(plan.action, plan.ref.kind, plan.ref.name) for plan in unit.plans if plan.changed]


def problems(unit: Unit) -> list[tuple[str, str]]:
    return [(problem.code, problem.where) for plan in unit.plans for problem in plan.problems]


def test_routes_come_before_the_gateway_and_go_after_it() -> None:
    old, new = wanted("kept", "left"), wanted("kept", "added")
    live = {ref_of(manifest): on_cluster(manifest) for manifest in old}
    live[ref_of(new[0])] = on_cluster({**new[0], "spec": {**new[0]["spec"], "selector": {"istio": "other"}}})
    unit = plan_present(new, live, [on_cluster(manifest) for manifest in old[1:]], prune=True, force=False)
    assert steps(unit) == [("created", "VirtualService", "added"), ("updated", "Gateway", "g"), ("deleted", "VirtualService", "left")]
    assert unit.plans[-1].reasons == ("is no longer among the routes",)
    assert unit.plans[-1].writes[0].uid == "left"
    assert problems(unit) == []


def test_nothing_to_do() -> None:
    same = wanted("a", "b")
    live = {ref_of(manifest): on_cluster(manifest) for manifest in same}
    assert steps(plan_present(same, live, [on_cluster(manifest) for manifest in same[1:]], prune=True, force=False)) == []


def test_without_prune_routes_stay() -> None:
    old, new = wanted("kept", "left"), wanted("kept")
    live = {ref_of(manifest): on_cluster(manifest) for manifest in old}
    assert steps(plan_present(new, live, [on_cluster(manifest) for manifest in old[1:]], prune=False, force=False)) == []


def test_a_route_of_another_gateway_is_not_taken_over_unless_told() -> None:
    gateway, route = wanted("a")
    theirs = on_cluster({**route, "spec": {}}, **{**route["metadata"]["labels"], "meshops.istio/owner": "gateway.other"})
    live = {ref_of(gateway): None, ref_of(route): theirs}
    unit = plan_present([gateway, route], live, [], prune=True, force=False)
    assert problems(unit) == [("belongs_to_another", "VirtualService default/a")]
    assert steps(unit) == [("created", "Gateway", "g")]  # which the problem keeps from happening
    forced = plan_present([gateway, route], live, [], prune=True, force=True)
    assert (problems(forced), steps(forced)[0]) == ([], ("updated", "VirtualService", "a"))


def test_a_foreign_object_with_other_values_is_a_conflict_and_one_with_the_same_is_adopted() -> None:
    gateway, route = wanted("a")
    managed = [{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:http": {}, "f:hosts": {}, "f:gateways": {}}}}]
    foreign = {**route, "metadata": {"name": "a", "namespace": "default", "managedFields": managed}}
    live = {ref_of(gateway): None, ref_of(route): foreign}
    assert problems(plan_present([gateway, route], live, [], prune=True, force=False)) == []
    live[ref_of(route)] = {**foreign, "spec": {**route["spec"], "http": []}}
    assert problems(plan_present([gateway, route], live, [], prune=True, force=False)) == [("conflict", "VirtualService default/a")]
    assert problems(plan_present([gateway, route], live, [], prune=True, force=True)) == []


def test_absent_deletes_the_gateway_first() -> None:
    gateway, *routes = wanted("a", "b")
    unit = plan_absent("g", "default", on_cluster(gateway), [on_cluster(route) for route in routes], force=False)
    assert steps(unit) == [("deleted", "Gateway", "g"), ("deleted", "VirtualService", "a"), ("deleted", "VirtualService", "b")]
    assert problems(unit) == []


def test_absent_deletes_what_is_left_of_an_interrupted_run() -> None:
    __, route = wanted("a")
    assert steps(plan_absent("g", "default", None, [on_cluster(route)], force=False)) == [("deleted", "VirtualService", "a")]
    assert steps(plan_absent("g", "default", None, [], force=False)) == []


@pytest.mark.parametrize("force", [False, True])
def test_absent_does_not_delete_a_foreign_gateway_unless_told(force: bool) -> None:
    gateway, __ = wanted("a")
    unit = plan_absent("g", "default", on_cluster(gateway, team="a"), [], force=force)
    assert problems(unit) == ([] if force else [("foreign_object", "Gateway default/g")])


def test_what_belongs_to_a_gateway_is_selected_by_both_labels() -> None:
    assert owned_selector("g") == "app.kubernetes.io/managed-by=meshops.istio,meshops.istio/owner=gateway.g"
