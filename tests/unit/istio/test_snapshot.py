# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot tells "there is none" from "nobody looked", and holds objects of the shape that readers expect."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.shapes import Fault, fitted
from ansible_collections.meshops.istio.plugins.module_utils.istio.snapshot import Coverage, Snapshot, fitted_snapshot, snapshot_of
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import API_GATEWAY, GATEWAY, NAMESPACE, POD, SECRET, ref_of


def gateway(name: str = "g", version: str = "v1", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": f"networking.istio.io/{version}", "kind": "Gateway", "metadata": {"name": name, "namespace": "n", **metadata}}


def test_versions_are_one_kind_and_groups_are_not() -> None:
    api = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g", "namespace": "n"}}
    snapshot = snapshot_of([gateway(version="v1beta1"), api])
    assert [len(snapshot.of(kind)) for kind in (GATEWAY, API_GATEWAY)] == [1, 1]
    assert snapshot.get(GATEWAY, "n", "g") != snapshot.get(API_GATEWAY, "n", "g")


def test_objects_come_by_age() -> None:
    old, new = gateway("z", creationTimestamp="2026-01-01T00:00:00Z"), gateway("a", creationTimestamp="2026-02-01T00:00:00Z")
    assert [item["metadata"]["name"] for item in snapshot_of([gateway("b"), new, old]).of(GATEWAY)] == ["z", "a", "b"]


def test_what_is_known() -> None:
    read = {SECRET.key: Coverage(namespaces=frozenset({"a"}), names=frozenset({("b", "one")}), why="no right"), POD.key: Coverage(True)}
    snapshot = Snapshot({}, read)
    known = [snapshot.knows(SECRET, *place) for place in (("a", "x"), ("b", "one"), ("b", "two"), ("b",), ("a",))]
    assert known == [True, True, False, False, True]
    assert snapshot.knows(POD, "anywhere") and not snapshot.knows(GATEWAY, "n", "g")
    assert snapshot.coverage(GATEWAY).why == "nobody asked for them"


def test_the_cluster_as_it_will_be() -> None:
    snapshot = snapshot_of([gateway("a", creationTimestamp="2026-01-01T00:00:00Z"), gateway("b"), gateway("c")])
    wish = {**gateway("a", labels={"x": "y"}), "spec": {"servers": []}}
    after = snapshot.with_desired([wish, gateway("new")], {ref_of(gateway("b"))})
    assert [item["metadata"]["name"] for item in after.of(GATEWAY)] == ["a", "c", "new"]
    assert after.of(GATEWAY)[0] == {**wish, "metadata": {**wish["metadata"], "creationTimestamp": "2026-01-01T00:00:00Z"}}
    assert len(snapshot.of(GATEWAY)) == 3, "the cluster as it is stays"


def test_secrets_are_not_shown() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"}, "data": {"tls.key": "c2VjcmV0"}}
    assert "c2VjcmV0" not in repr(snapshot_of([secret]))


def test_objects_of_files() -> None:
    items = [
        {"kind": "Pod", "metadata": {"name": "p"}},
        {"kind": "Namespace", "metadata": {"name": "n"}},
        {"kind": "Pod"},
        {"metadata": {"name": "x"}},
    ]
    snapshot = snapshot_of(items, namespace="shop")
    assert sorted(map(str, snapshot.objects)) == ["Namespace n", "Pod shop/p"]
    assert snapshot.get(NAMESPACE, "", "n") is not None


@pytest.mark.parametrize(
    ("spec", "left", "faults"),
    [
        ({"servers": [{"hosts": ["a"]}]}, {"servers": [{"hosts": ["a"]}]}, []),
        ({"servers": None, "selector": {"a": None}}, {"selector": {}}, []),
        ({"servers": {}}, {}, [Fault("spec.servers", "a list", "fields")]),
        (
            {"servers": [{"hosts": "a", "port": {"number": "443"}}]},
            {"servers": [{"port": {}}]},
            ["spec.servers[0].hosts", "spec.servers[0].port.number"],
        ),
        ({"selector": {"a": 1, 2: "b"}}, {"selector": {}}, ["spec.selector.a", "spec.selector.2"]),
        (
            {"servers": [{"tls": {"httpsRedirect": 1}}, 7]},
            {"servers": [{"tls": {}}]},
            ["spec.servers[0].tls.httpsRedirect", "spec.servers[1]"],
        ),
        ([], None, [Fault("spec", "fields", "a list")]),
    ],
)
def test_what_cannot_stand_there_is_taken_out(spec: Any, left: Any, faults: list[Any]) -> None:
    made, found = fitted({**gateway(), "spec": spec}, GATEWAY.key)
    assert made.get("spec") == left
    assert [one if isinstance(expected, Fault) else one.field for one, expected in zip(found, faults, strict=True)] == faults


def test_an_item_without_what_it_is_known_by() -> None:
    pod = {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "volumeMounts": [{}, {"mountPath": "/a"}]}]}}
    made, faults = fitted(pod, POD.key)
    assert made["spec"]["containers"][0]["volumeMounts"] == [{"mountPath": "/a"}]
    assert [one.field for one in faults] == ["spec.containers[0].volumeMounts[0].mountPath"]
    __, by_ref = fitted_snapshot(snapshot_of([pod, gateway()]))
    assert [str(ref) for ref in by_ref] == ["Pod default/p"]
