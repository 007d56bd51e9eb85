# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's way through the Gateway API: HTTPRoutes and where they lead; and what istiod's conditions say of listeners."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.diagnose import findings_in, view_of
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.explain import Explainer
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.inventory import inventory
from ansible_collections.meshops.istio.plugins.module_utils.istio.snapshot import snapshot_of
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import HTTP_ROUTE
from ansible_collections.meshops.istio.tests.unit.diagnosis.correct import API_SET
from ansible_collections.meshops.istio.tests.unit.diagnosis.gateway_api_faults import HOME, OPEN, listener_set
from ansible_collections.meshops.istio.tests.unit.diagnosis.sets import NOW, Manifest, changed, everything

HOST = "api.example.com"
BACKEND = {"name": "httpbin", "port": 8000}
PARENT = {"name": "gateway", "namespace": HOME}


def route(name: str = "route", *, status: dict[str, Any] | None = None, namespace: str = "default", **spec: Any) -> Manifest:
    made = {"parentRefs": [PARENT], "hostnames": [HOST], "rules": [{"backendRefs": [BACKEND]}], **spec}
    conditions = {"parents": [{"parentRef": made["parentRefs"][0], "conditions": [status]}]} if status else {}
    metadata = {"name": name, "namespace": namespace, "generation": 2}
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata, "spec": made, "status": conditions}


def told(*routes: Manifest, items: Iterable[Manifest] = API_SET, host: str = HOST) -> list[tuple[str, str, str]]:
    """(stage, state, what) of the route and what follows."""
    view = view_of(everything([*items, *routes]), now=NOW)
    stages = Explainer(view, findings_in(view).findings).explain(host)["stages"]
    return [(one["stage"], one["state"], one["what"]) for one in stages if one["stage"] in ("route", "destination")]


def states(*routes: Manifest, **more: Any) -> list[tuple[str, str]]:
    return [(stage, state) for stage, state, __ in told(*routes, **more)]


def refusal(reason: str, kind: str = "Accepted", generation: int = 2) -> dict[str, Any]:
    return {"type": kind, "status": "False", "reason": reason, "message": "so it is", "observedGeneration": generation}


RIGHT = [("route", "right"), ("destination", "right")]
NONE = [("route", "doubtful")]


def test_the_way_goes_on_through_the_route() -> None:
    (routed, reached) = told(route())
    assert routed == ("route", "right", "HTTPRoute default/route (Gateway API) leads to httpbin.default.svc.cluster.local")
    assert reached == ("destination", "right", "Service default/httpbin is there")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (route(hostnames=[]), RIGHT),
        (route(hostnames=["*.example.com"]), RIGHT),
        (route(hostnames=["www.example.com"]), NONE),
        (route(parentRefs=[{**PARENT, "sectionName": "https"}]), RIGHT),
        (route(parentRefs=[{**PARENT, "sectionName": "other"}]), NONE),
        (route(parentRefs=[{**PARENT, "port": 443}]), RIGHT),
        (route(parentRefs=[{**PARENT, "port": 80}]), NONE),
        (route(parentRefs=[{"name": "gateway"}]), NONE),
        (route(parentRefs=[{**PARENT, "kind": "Service", "group": ""}]), NONE),
        (route(rules=[{"backendRefs": [{"name": "gone", "port": 1}]}]), [("route", "right"), ("destination", "doubtful")]),
        (route(rules=[{"filters": [{"type": "RequestRedirect"}]}]), [("route", "right")]),
        (route(status=refusal("NotAllowedByListeners")), [("route", "broken")]),
        (route(status=refusal("BackendNotFound", "ResolvedRefs")), [("route", "broken")]),
        (route(status=refusal("NotAllowedByListeners", generation=1)), RIGHT),
        (route(status={"type": "Accepted", "status": "True"}), RIGHT),
    ],
)
def test_which_routes_count(given: Manifest, expected: list[tuple[str, str]]) -> None:
    assert states(given) == expected


def test_no_route_is_said() -> None:
    ((stage, state, what),) = told()
    assert (stage, state) == ("route", "doubtful") and "no HTTPRoute takes it further" in what


def test_routes_that_were_not_read_are_not_said_to_be_missing() -> None:
    whole = everything(API_SET)
    view = view_of(snapshot_of(API_SET, read={key: value for key, value in whole.read.items() if key != HTTP_ROUTE.key}, mesh={}), now=NOW)
    (found,) = [one for one in Explainer(view, ()).explain(HOST)["stages"] if one["stage"] == "route"]
    assert found["state"] == "unknown" and found["what"].endswith("HTTPRoutes were not read")


def test_a_route_of_a_namespace_that_may_not() -> None:
    closed = changed(API_SET, "Gateway", "gateway", spec__listeners__0__allowedRoutes={"namespaces": {"from": "Same"}})
    ((__, state, what),) = told(route(), items=closed)
    assert state == "broken" and "NotAllowedByListeners" in what
    assert states(route(), route("mine", namespace=HOME, rules=[]), items=closed) == [("route", "right"), ("route", "doubtful")]


def test_routes_at_a_listener_set() -> None:
    to_set = {"kind": "ListenerSet", "name": "more"}
    items = [*OPEN, listener_set("more")]
    found = route(namespace=HOME, parentRefs=[to_set], hostnames=[], rules=[{"backendRefs": [{**BACKEND, "namespace": "default"}]}])
    assert states(found, items=items, host="plain.example.com") == RIGHT
    assert states(found, items=items) == NONE


def test_the_report_has_it() -> None:
    view = view_of(everything([*API_SET, route()]), now=NOW)
    (host,) = [one for one in inventory(view, Explainer(view, ()), ())["hosts"] if one["host"] == HOST]
    assert host["state"] == "right" and [one["stage"] for one in host["stages"]] == ["server", "credential", "route", "destination"]


# --- what conditions say of listeners


def with_status(item: Manifest, **status: Any) -> Manifest:
    return {**item, "metadata": {**item["metadata"], "generation": 2}, "status": status}


def codes(*items: Manifest) -> list[str]:
    return [one.code for one in findings_in(view_of(everything(items), now=NOW)).findings if one.severity != "hint"]


@pytest.mark.parametrize(("generation", "expected"), [(2, ["listener_conflict"]), (1, [])])
def test_a_conflict_that_istiod_tells(generation: int, expected: list[str]) -> None:
    said = {"type": "Conflicted", "status": "True", "reason": "ProtocolConflict", "message": "it meets", "observedGeneration": generation}
    assert codes(*OPEN, with_status(listener_set("more"), listeners=[{"name": "plain", "conditions": [said]}])) == expected


@pytest.mark.parametrize(("generation", "expected"), [(2, ["listener_set_refused"]), (1, [])])
def test_a_namespace_that_a_selector_leaves_out(generation: int, expected: list[str]) -> None:
    chosen = changed(API_SET, "Gateway", "gateway", spec__allowedListeners={"namespaces": {"from": "Selector", "selector": {}}})
    assert codes(*chosen, with_status(listener_set("more"), conditions=[refusal("NotAllowed", generation=generation)])) == expected
