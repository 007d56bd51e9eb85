# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers of Istio Gateways that meet on one port of the pods, though their ports have different numbers, or share a certificate there. Pure.

Service ports are only names of pods' ports: 443 and 8443 are one where the Service maps the first to the second, or several ports of a Service
(or of several) to one. istiod merges by the pods' port (pilot/pkg/model/gateway.go: resolvePorts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..problems import Problem
from .choice import title
from .workload import Workload, pod_port, services_of

Manifest = Mapping[str, Any]
Where = Callable[[int], str]
InFront = Sequence[tuple[Workload, Sequence[Manifest]]]
"""Workloads, each with the Services in front of it."""

_TERMINATING = ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL")
_SHOWN = 3


def in_front(workloads: Iterable[Workload], services: Iterable[Manifest]) -> InFront:
    services = list(services)
    return [(workload, services_of(workload, services)) for workload in workloads]


def meet(one: Manifest, other: Manifest, behind: InFront) -> bool:
    """Whether two servers are bound to one port and address in some pod."""
    if (one.get("bind") or "") != (other.get("bind") or ""):
        return False
    numbers = _number(one), _number(other)
    return numbers[0] == numbers[1] or any(
        pod_port(numbers[0], services, workload.ports) == pod_port(numbers[1], services, workload.ports) for workload, services in behind
    )


def own_collisions(mine: Manifest, where: Where, behind: InFront) -> tuple[Problem, ...]:
    """Servers of one Gateway with different port numbers that are one port in the pods. What has one number is told without a cluster."""
    return tuple(_own_collisions(_servers(mine), where, behind))


def _own_collisions(servers: Sequence[Manifest], where: Where, behind: InFront) -> Iterator[Problem]:
    for index, later in enumerate(servers):
        for first, earlier in enumerate(servers[:index]):
            if _number(earlier) == _number(later) or not meet(earlier, later, behind):
                continue
            on = f"port {_number(later)} and port {_number(earlier)} of {where(first)} are one port in the gateway's pods"
            common = sorted(_names(earlier) & _names(later))
            if _is_tls(later) and not _is_tls(earlier):
                yield Problem(
                    "port_conflict",
                    where(index),
                    f"{on}, and the first of them is for plain text: istiod drops this one, which is for TLS",
                    "use a port that the Service maps to another targetPort",
                    "warning",
                )
            elif _is_tls(earlier) and not _is_tls(later) and "*" in _names(earlier):
                yield Problem(
                    "port_conflict",
                    where(index),
                    f"{on}, one for plain text and one for TLS for every host: proxies cannot tell the two apart, and refuse the whole listener",
                    "use a port that the Service maps to another targetPort",
                    "warning",
                )
            elif _is_tls(later) and common:
                yield Problem(
                    "duplicate_host",
                    where(index),
                    f"{on}, and both serve {_some(common)}: istiod would drop this server with all its hosts",
                    "keep the host in one of the two, or use a port that the Service maps to another targetPort",
                    "warning",
                )


def shared_certificates(mine: Manifest, others: Iterable[Manifest], where: Where, behind: InFront) -> tuple[Problem, ...]:
    """Servers that speak HTTP/2 with one certificate on one port of the pods, for hosts of several Gateways (or of several servers of `mine`
    that have different port numbers). Browsers send requests for a second host over the connection to the first, where its routes are unknown.
    """
    theirs = [(title(other), server) for other in others for server in _servers(other) if _is_http2(server)]
    groups: dict[tuple[int, str, str], list[tuple[int, Manifest]]] = {}
    for index, server in enumerate(_servers(mine)):
        for credential in credentials_of(server) if _is_http2(server) else ():
            groups.setdefault((_number(server), str(server.get("bind")), credential), []).append((index, server))
    found = []
    for key, group in groups.items():
        first, server = group[0]
        names = {name for __, one in group for name in _names(one)}  # a host that both have is a conflict already
        earlier = [(where(other[0][0]), other[0][1]) for place, other in groups.items() if place[0] != key[0] and other[0][0] < first]
        sharing = [
            f"{holder} ({_some(sorted(_names(one)))})"
            for holder, one in (*theirs, *earlier)
            if key[2] in credentials_of(one) and names.isdisjoint(_names(one)) and meet(server, one, behind)
        ]
        if sharing:
            found.append(shared(where(first), key[0], sharing))
    return tuple(found)


def shared(where: str, port: int, sharing: Sequence[str]) -> Problem:
    return Problem(
        "shared_certificate",
        where,
        f"the credential is also that of {_some(sharing)} on port {port}: where the certificate covers both, browsers reuse the HTTP/2 "
        "connection of one for the other's hosts and get 404 or 421",
        "put the hosts into one server, or give each its own certificate",
        "warning",
    )


def _servers(manifest: Manifest) -> Sequence[Manifest]:
    return (manifest.get("spec") or {}).get("servers") or ()


def _number(server: Manifest) -> int:
    return int((server.get("port") or {}).get("number") or 0)


def _is_tls(server: Manifest) -> bool:
    return bool(server.get("tls")) and not server["tls"].get("httpsRedirect")


def _is_http2(server: Manifest) -> bool:
    protocol = str((server.get("port") or {}).get("protocol")).upper()
    return protocol == "HTTPS" and (server.get("tls") or {}).get("mode") in _TERMINATING


def _names(server: Manifest) -> set[str]:
    return {str(host).rpartition("/")[2].lower() for host in server.get("hosts") or ()}


def credentials_of(server: Manifest) -> set[str]:
    tls = server.get("tls") or {}
    return {str(text).removeprefix("kubernetes://") for text in (tls.get("credentialName"), *(tls.get("credentialNames") or ())) if text}


def _some(texts: Sequence[str]) -> str:
    return ", ".join(texts[:_SHOWN]) + (f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else "")
