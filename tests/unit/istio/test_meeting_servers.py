# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that meet on one port of the pods under several numbers."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.meeting_servers import in_front, own_collisions, shared_certificates
from ansible_collections.meshops.istio.plugins.module_utils.istio.workload import Workload

POD = Workload("gw", "gw-0", "default", {"app": "gw"}, ports={"https": 8443})


def server(host: str, number: int = 443, credential: Any = "c", protocol: str = "HTTPS", **more: Any) -> dict[str, Any]:
    tls: dict[str, Any] = {"mode": "SIMPLE", **({"credentialName": credential} if isinstance(credential, str) else credential)}
    return {"hosts": [host], "port": {"number": number, "protocol": protocol}, **({"tls": tls} if protocol != "HTTP" else {}), **more}


def gateway(*servers: dict[str, Any], name: str = "mine") -> dict[str, Any]:
    return {"kind": "Gateway", "metadata": {"name": name, "namespace": "apps"}, "spec": {"servers": list(servers)}}


def service(*ports: tuple[int, int | str], name: str = "front") -> dict[str, Any]:
    spec = {"selector": {"app": "gw"}, "ports": [{"port": port, "targetPort": target} for port, target in ports]}
    return {"metadata": {"name": name, "namespace": "gw"}, "spec": spec}


ONE = [service((443, 8443), (444, "https"), (8444, 8444))]
SEVERAL = [service((443, 8443)), service((444, 8443), name="second")]

OWN = {
    # name: (servers, Services, what is told)
    "other ports": ([server("a"), server("a", 8444)], ONE, []),
    "several Service ports for one of the pods": ([server("a"), server("a", 444)], ONE, [("duplicate_host", "servers[1]")]),
    "several Services for one port of the pods": ([server("a"), server("a", 444)], SEVERAL, [("duplicate_host", "servers[1]")]),
    "a port of the pods by its number": ([server("a", 8443), server("ns/a")], ONE, [("duplicate_host", "servers[1]")]),
    "other hosts": ([server("a"), server("b", 444, "d")], ONE, []),
    "own addresses": ([server("a", bind="10.0.0.1"), server("a", 444, bind="10.0.0.2")], ONE, []),
    "plain text before TLS": ([server("b", protocol="HTTP"), server("a", 444)], ONE, [("port_conflict", "servers[1]")]),
    "plain text after TLS": ([server("a"), server("b", 444, protocol="HTTP")], ONE, []),
    "plain text after TLS for every host": ([server("*"), server("b", 444, protocol="HTTP")], ONE, [("port_conflict", "servers[1]")]),
    "redirect on the port of TLS": ([server("a"), server("a", 444, protocol="HTTP", tls={"httpsRedirect": True})], ONE, []),
    "no Service known": ([server("a"), server("a", 444)], [], []),
    "one number": ([server("a"), server("a")], ONE, []),  # told without a cluster
}


@pytest.mark.parametrize("case", OWN.values(), ids=OWN)
def test_servers_of_one_gateway(case: tuple[list[dict[str, Any]], list[dict[str, Any]], list[tuple[str, str]]]) -> None:
    servers, services, expected = case
    found = own_collisions(gateway(*servers), "servers[{}]".format, in_front([POD], services))
    assert [(problem.code, problem.where) for problem in found] == expected
    assert all("one port in the gateway's pods" in problem.message for problem in found)


SHARED = {
    # name: (ours, another Gateway's, told)
    "same number": ([server("a")], [server("b")], ["servers[0]"]),
    "same port of the pods": ([server("a")], [server("b", 444)], ["servers[0]"]),
    "by its number in the pods": ([server("a", 8443)], [server("b", 443)], ["servers[0]"]),
    "other port": ([server("a")], [server("b", 8444)], []),
    "other certificate": ([server("a")], [server("b", 444, "d")], []),
    "one of two certificates": ([server("a")], [server("b", credential={"credentialNames": ["d", "c"]})], ["servers[0]"]),
    "the scheme spelled out": ([server("a", credential="kubernetes://c")], [server("b")], ["servers[0]"]),
    "same host": ([server("a")], [server("a", 444)], []),  # a conflict already
    "same host in another server of ours": ([server("a"), server("b")], [server("b")], []),
    "no HTTP": ([server("a")], [server("b", protocol="TLS")], []),
    "passed through": ([server("a")], [server("b", credential={"mode": "PASSTHROUGH", "credentialName": "c"})], []),
    "two of ours on one port of the pods": ([server("a"), server("b", 444)], [], ["servers[1]"]),
    "two of ours with one number": ([server("a"), server("b")], [], []),  # told without a cluster
}


@pytest.mark.parametrize("case", SHARED.values(), ids=SHARED)
def test_one_certificate(case: tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]) -> None:
    ours, theirs, expected = case
    found = shared_certificates(gateway(*ours), [gateway(*theirs, name="other")], "servers[{}]".format, in_front([POD], ONE))
    assert [problem.where for problem in found] == expected
    assert all(problem.code == "shared_certificate" and problem.severity == "warning" for problem in found)


def test_a_shared_certificate_is_told_once_with_all_that_share_it() -> None:
    others = [gateway(server(host, 444), name=host) for host in "bcdef"]
    (problem,) = shared_certificates(gateway(server("a"), server("z")), others, "servers[{}]".format, in_front([POD], ONE))
    assert "Gateway apps/b (b), Gateway apps/c (c), Gateway apps/d (d) and 2 more on port 443" in problem.message
