# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listeners of the Gateway API beside an Istio Gateway. What istiod and Envoy make of them: tests/integration/test_gateway_api.py."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.gateway_api import collisions, listeners, meetings
from ansible_collections.meshops.istio.plugins.module_utils.istio.workload import Workload

HOST = "a.example.com"
POD = Workload("gw", "gw-0", "default", {"istio": "ingressgateway"}, ports={"https": 8443})
SERVICE = {
    "metadata": {"name": "front", "namespace": "gw"},
    "spec": {
        "selector": {"istio": "ingressgateway"},
        "ports": [{"port": 443, "targetPort": 8443}, {"port": 444, "targetPort": "https"}, {"port": 80, "targetPort": 8080}],
    },
}
OTHER_SERVICE = {"metadata": {"name": "second", "namespace": "gw"}, "spec": {"selector": {}, "ports": [{"port": 443}]}}


def listener(
    hostname: str | None = HOST, port: int = 443, protocol: str = "HTTPS", routes: str | None = "All", **more: Any
) -> dict[str, Any]:
    made: dict[str, Any] = {"name": "one", "port": port, "protocol": protocol, **more}
    if hostname:
        made["hostname"] = hostname
    if routes:
        made["allowedRoutes"] = {"namespaces": {"from": routes}}
    if protocol in ("HTTPS", "TLS"):
        made.setdefault("tls", {"certificateRefs": [{"name": "shop"}]})
    return made


def api(*made: dict[str, Any], created: str = "2026-01-01T00:00:00Z", **spec: Any) -> dict[str, Any]:
    return {
        "kind": "Gateway",
        "metadata": {"name": "web", "namespace": "gw", "creationTimestamp": created},
        "spec": {
            "gatewayClassName": "istio",
            "addresses": [{"type": "Hostname", "value": "front.gw.svc.cluster.local"}],
            "listeners": list(made),
            **spec,
        },
    }


def listener_set(*made: dict[str, Any], namespace: str = "gw", **reference: Any) -> dict[str, Any]:
    metadata = {"name": "more", "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"kind": "ListenerSet", "metadata": metadata, "spec": {"parentRef": {"name": "web", **reference}, "listeners": list(made)}}


def opened(where: str, *made: dict[str, Any]) -> dict[str, Any]:
    return api(*made, allowedListeners={"namespaces": {"from": where}})


def server(host: str = HOST, number: int = 443, protocol: str = "HTTPS", **more: Any) -> dict[str, Any]:
    tls = {} if protocol in ("HTTP", "TCP") else {"tls": {"mode": "SIMPLE", "credentialName": "c"}}
    return {"hosts": [host], "port": {"number": number, "name": "p", "protocol": protocol}, **tls, **more}


def mine(*servers: dict[str, Any], created: str | None = "2026-02-01T00:00:00Z", namespace: str = "apps") -> dict[str, Any]:
    return {
        "kind": "Gateway",
        "metadata": {"name": "mine", "namespace": namespace, "creationTimestamp": created},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": list(servers)},
    }


REDIRECT = server(number=80, protocol="HTTP", tls={"httpsRedirect": True})
AUTOMATIC = {"metadata": {"name": "web-istio", "namespace": "gw"}, "spec": {**SERVICE["spec"]}}  # type: ignore[dict-item]
OLDER, YOUNGER = "this server", "that listener, whose status"

CASES: dict[str, tuple[Any, Any, Any, list[tuple[str, str]]]] = {
    # name: (Gateways, ListenerSets, our servers, [(code, a part of the message)])
    "another host": ([api(listener("b.example.com"))], [], [server()], []),
    "same host, noticed": ([api(listener())], [], [server()], [("host_conflict", OLDER)]),
    "same host, ours older": ([api(listener(), created="2026-03-01T00:00:00Z")], [], [server()], [("host_conflict", YOUNGER)]),
    "same host, routes of one namespace": ([api(listener(routes=None))], [], [server()], [("host_conflict", "whole listener")]),
    "same host, routes of some namespaces": ([api(listener(routes="Selector"))], [], [server()], [("host_conflict", "whole listener")]),
    "same host and same namespace": ([api(listener(routes="Same"))], [], [server(f"gw/{HOST}")], [("host_conflict", OLDER)]),
    "upper case": ([api(listener(HOST.upper()))], [], [server()], [("host_conflict", OLDER)]),
    "every host": ([api(listener(None))], [], [server("*/*")], [("host_conflict", OLDER)]),
    "wildcard beside a name below it": ([api(listener("*.example.com"))], [], [server()], []),
    "port by the Service": ([api(listener())], [], [server(number=8443)], [("host_conflict", "port 443 there")]),
    "port by its name": ([api(listener(port=444))], [], [server()], [("host_conflict", "port 444 there")]),
    "port that no Service has": ([api(listener(port=9443))], [], [server(number=9443)], []),
    "own address": ([api(listener())], [], [server(bind="10.0.0.1")], []),
    "plain HTTP on a TLS port": ([api(listener(protocol="HTTP"))], [], [server()], [("port_conflict", "one of this Gateway")]),
    "TCP beside a redirect": ([api(listener(port=80, protocol="TCP"))], [], [REDIRECT], [("port_conflict", "one of this Gateway")]),
    "plain HTTP that comes later": ([api(listener(protocol="HTTP"), created="2026-03-01T00:00:00Z")], [], [server()], []),
    "plain HTTP beside TLS for every host": (
        [api(listener(protocol="HTTP"), created="2026-03-01T00:00:00Z")],
        [],
        [server("*")],
        [("port_conflict", "whole listener")],
    ),
    "a redirect after TLS": ([api(listener(port=80))], [], [REDIRECT], []),
    "a redirect after TLS for every host": ([api(listener(None, port=80))], [], [REDIRECT], [("port_conflict", "whole listener")]),
    "a redirect before TLS": (
        [api(listener(port=80), created="2026-03-01T00:00:00Z")],
        [],
        [REDIRECT],
        [("port_conflict", "the one of Gateway gw/web (Gateway API)")],
    ),
    "HTTP that is redirected": ([api(listener(port=80, protocol="HTTP"))], [], [REDIRECT], [("redirect_of_served_host", HOST)]),
    "HTTP of another host beside a redirect": ([api(listener("b.example.com", 80, "HTTP"))], [], [REDIRECT], []),
    "HTTP beside HTTP": ([api(listener(port=80, protocol="HTTP"))], [], [server(number=80, protocol="HTTP")], []),
    "TLS without tls": ([api(listener(tls=None))], [], [server()], []),
    "protocol in lower case": ([api(listener(protocol="https", tls={}))], [], [server()], []),
    "waypoint": ([api(listener(), gatewayClassName="istio-waypoint")], [], [server()], []),
    "short name": ([api(listener(), addresses=[{"type": "Hostname", "value": "front"}])], [], [server()], [("host_conflict", OLDER)]),
    "other Service": ([api(listener(), addresses=[{"type": "Hostname", "value": "second"}])], [], [server()], []),
    "Service elsewhere": ([api(listener(), addresses=[{"type": "Hostname", "value": "front.x.svc.cluster.local"}])], [], [server()], []),
    "automatic": ([api(listener("b.example.com"), addresses=[])], [], [server()], [("gateway_not_merged", "namespace gw only")]),
    "automatic, by address": (
        [api(listener(), addresses=[{"type": "IPAddress", "value": "192.0.2.1"}])],
        [],
        [server()],
        [("gateway_not_merged", "namespace gw only")],
    ),
    "set": ([opened("All")], [listener_set(listener())], [server()], [("host_conflict", "ListenerSet gw/more")]),
    "set on its default port": (
        [opened("Same")],
        [listener_set({**listener(), "port": None})],
        [server()],
        [("host_conflict", "ListenerSet gw/more")],
    ),
    "set that may not attach": ([api()], [listener_set(listener())], [server()], []),
    "set of a namespace that may not attach": (
        [opened("Same")],
        [listener_set(listener(), namespace="x", namespace_of="gw")],
        [server()],
        [],
    ),
    "set of a namespace that may": (
        [opened("All")],
        [listener_set(listener(), namespace="x", namespace_of="gw")],
        [server()],
        [("host_conflict", OLDER)],
    ),
    "set of nothing": ([], [listener_set(listener())], [server()], []),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_beside_listeners(case: tuple[Any, Any, Any, list[tuple[str, str]]]) -> None:
    gateways, sets, servers, expected = case
    for one in sets:
        reference = one["spec"]["parentRef"]
        reference.update({"namespace": reference.pop("namespace_of")} if "namespace_of" in reference else {})
    met = meetings(listeners(gateways, sets), {"istio": "ingressgateway"}, [POD], [SERVICE, OTHER_SERVICE, AUTOMATIC])
    found = collisions(mine(*servers), met, lambda index: f"servers[{index}]", loses="error")
    assert [problem.code for problem in found] == [code for code, __ in expected]
    for problem, (__, part) in zip(found, expected, strict=True):
        assert part in problem.message + problem.where and problem.remedy


def test_what_has_no_age_yet_is_the_youngest_and_severity_follows() -> None:
    met = meetings(listeners([api(listener(), created="2026-03-01T00:00:00Z")], []), {}, [POD], [SERVICE])
    (older,) = collisions(mine(server()), met, str, loses="error")
    (youngest,) = collisions(mine(server(), created=None), met, str, loses="error")
    assert (older.severity, youngest.severity) == ("warning", "error")


def test_a_gateway_of_the_same_namespace_is_merged_into_automatic_pods() -> None:
    met = meetings(listeners([api(listener(), addresses=[])], []), {"istio": "ingressgateway"}, [POD], [AUTOMATIC])
    assert [problem.code for problem in collisions(mine(server(), namespace="gw"), met, str)] == ["host_conflict"]


def test_pods_that_are_not_selected_do_not_matter() -> None:
    theirs = listeners([api(listener())], [])
    assert meetings(theirs, {"istio": "egressgateway"}, [POD], [SERVICE]) == []
    assert meetings(theirs, {"istio": "ingressgateway"}, [], [SERVICE]) == []
