# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences that are decided locally are those that a real API server makes; its answers were recorded by record_apply.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.objects.compare import Difference, differences, dotted, owners

RECORDED = json.loads((Path(__file__).parent / "data" / "server_side_apply.json").read_text())
US = "meshops.istio"

APPLIES = [
    pytest.param(case["object"], recorded, id=f"{case['live']}: {title}")
    for case in RECORDED
    for title, recorded in case["applies"].items()
]


@pytest.mark.parametrize(("live", "recorded"), APPLIES)
def test_the_server_agrees(live: dict[str, Any], recorded: dict[str, Any]) -> None:
    found = differences(recorded["manifest"], live, US)
    assert sorted({difference.manager for difference in found if difference.manager}) == recorded["conflicts"]
    if not recorded["conflicts"]:
        assert bool(found) == recorded["changes"], found


def test_every_outcome_is_recorded() -> None:
    answers = [recorded for case in RECORDED for recorded in case["applies"].values()]
    assert {bool(answer["conflicts"]) for answer in answers} == {True, False}
    assert {answer["changes"] for answer in answers} == {True, False, None}


def live(fields: dict[str, Any] | None = None, *, manager: str = US, **body: Any) -> dict[str, Any]:
    """An object whose fields one manager applied."""
    managed = [{"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields}] if fields is not None else []
    return {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "a", "namespace": "b", "managedFields": managed}, **body}


def thing(**body: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "a", "namespace": "b"}, **body}


def texts(found: tuple[Difference, ...]) -> list[str]:
    return [str(difference) for difference in found]


OWN_TLS = {"f:spec": {"f:tls": {".": {}, "f:mode": {}, "f:names": {}}}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"tls": {"mode": "SIMPLE", "names": ["a", "b"]}}, []),
        ({"tls": {"mode": "MUTUAL", "names": ["a", "b"]}}, ["spec.tls.mode differs"]),
        ({"tls": {"mode": "SIMPLE", "names": ["b", "a"]}}, ["spec.tls.names differs"]),
        ({"tls": {"mode": "SIMPLE", "names": ["a"]}}, ["spec.tls.names differs"]),
        ({"tls": {"mode": "SIMPLE"}}, ["spec.tls.names no longer wanted"]),
        ({"tls": {"mode": "SIMPLE", "names": ["a", "b"]}, "port": 443}, ["spec.port added"]),
        ({"tls": {"mode": "SIMPLE", "names": ["a", "b"]}, "hosts": []}, []),
        ({"tls": {}}, ["spec.tls.mode no longer wanted", "spec.tls.names no longer wanted"]),
        ({"tls": "none"}, ["spec.tls differs"]),
        ({"tls": {"mode": {"of": "old"}, "names": ["a", "b"]}}, ["spec.tls.mode.of added"]),
        ({}, ["spec.tls.mode no longer wanted", "spec.tls.names no longer wanted"]),
    ],
)
def test_own_fields(spec: dict[str, Any], expected: list[str]) -> None:
    found = differences(thing(spec=spec), live(OWN_TLS, spec={"tls": {"mode": "SIMPLE", "names": ["a", "b"]}}), US)
    assert texts(found) == expected
    assert all(difference.manager is None for difference in found)


def test_what_we_own_and_is_gone_is_no_difference() -> None:
    assert differences(thing(spec={}), live(OWN_TLS, spec={}), US) == ()


def test_identity_is_never_a_difference() -> None:
    """A LIST's items, for example, have no kind."""
    bare = {key: value for key, value in live({}).items() if key not in ("apiVersion", "kind")}
    assert differences(thing(), bare, US) == ()


@pytest.mark.parametrize(
    ("fields", "value", "wanted", "manager"),
    [
        ({"f:spec": {"f:tls": {"f:mode": {}}}}, {"tls": {"mode": "A"}}, {"tls": {"mode": "B"}}, "helm"),
        ({"f:spec": {"f:tls": {}}}, {"tls": {"mode": "A"}}, {"tls": {"mode": "B"}}, "helm"),  # owned as a whole
        ({"f:spec": {"f:tls": {"f:mode": {}}}}, {"tls": {"mode": "A"}}, {"tls": ["B"]}, "helm"),  # a list where a map was
        ({"f:spec": {"f:other": {}}}, {"tls": {"mode": "A"}, "other": 1}, {"tls": {"mode": "B"}}, None),  # nobody's
        ({"f:spec": {"f:tls": {"f:mode": {}}}}, {"tls": {"mode": "A"}}, {"tls": {"port": 1}}, None),  # beside it
    ],
)
def test_who_is_in_the_way(fields: dict[str, Any], value: dict[str, Any], wanted: dict[str, Any], manager: str | None) -> None:
    found = differences(thing(spec=wanted), live(fields, manager="helm", spec=value), US)
    assert [difference.manager for difference in found] == [manager]


def test_several_managers_are_all_named_and_subresources_are_not() -> None:
    fields = {"f:spec": {"f:host": {}}}
    entries = [
        {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": fields},
        {"manager": "argocd", "operation": "Apply", "fieldsV1": fields},
        {"manager": US, "operation": "Apply", "fieldsV1": fields},
        {"manager": "istiod", "operation": "Update", "subresource": "status", "fieldsV1": fields},
        {"operation": "Update", "fieldsV1": {"f:spec": {"f:port": {}}}},
    ]
    there = thing(spec={"host": "a", "port": 1})
    there["metadata"]["managedFields"] = entries
    found = differences(thing(spec={"host": "b", "port": 2}), there, US)
    assert [difference.manager for difference in found] == ["argocd, kubectl-edit", "an unnamed manager"]
    assert dict(owners(there)) == {("spec", "host"): {"kubectl-edit", "argocd", US}, ("spec", "port"): {"an unnamed manager"}}


def test_owners_of_sets_are_of_the_whole() -> None:
    fields = {"f:metadata": {"f:finalizers": {".": {}, 'v:"example.com/hold"': {}}, "f:labels": {".": {}, "f:a": {}}}}
    assert {path for path, __ in owners(live(fields))} == {("metadata", "finalizers"), ("metadata", "labels", "a")}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("spec", "servers"), "spec.servers"),
        (("metadata", "labels", "app.kubernetes.io/name"), "metadata.labels[app.kubernetes.io/name]"),
        (("data", "tls.crt"), "data[tls.crt]"),
        (("spec", "ports", "[name=http]", "number"), "spec.ports[name=http].number"),
        (("type",), "type"),
    ],
)
def test_dotted(path: tuple[str, ...], text: str) -> None:
    assert dotted(path) == text
    assert Difference(path, "change").field == text
