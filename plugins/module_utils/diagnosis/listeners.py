# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether gateways serve what their Gateways ask for: hosts and ports that meet in the pods, certificates that browsers confuse, and files.

From istiod's pilot/pkg/model/gateway.go (mergeGateways): of two TLS servers for a host on one port of the pods the older one stays. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..istio.listeners import TERMINATING, Listener
from ..istio.meeting_servers import credentials_of, in_front, own_collisions, shared_certificates
from ..istio.workload import Workload, skipped_ports
from ..objects.kinds import GATEWAY, POD, SERVICE, Manifest, ref_of
from ..problems import Problem
from ..tls.names import pattern_covers
from .readings import spec_of
from .rule import Found, Rule, Severity
from .view import MeshView

_SHOWN = 3


def field_of(index: int) -> str:
    return f"spec.servers[{index}]"


def from_problems(problems: Sequence[Problem], gateway: Manifest) -> Iterator[Found]:
    """What a check of one Gateway tells, whose places are fields."""
    for problem in problems:
        field, __, __ = problem.where.partition(": ")
        yield Found(problem.code, ref_of(gateway), field, problem.message, problem.remedy, problem.severity)


def some(texts: Sequence[str]) -> str:
    return ", ".join(texts[:_SHOWN]) + (f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else "")


# --- servers that meet in the pods


def conflicts(view: MeshView) -> Iterator[Found]:
    """Every pair of servers of two Gateways that come to one port of the pods."""
    for servers in view.meeting.values():
        for first, later in _pairs(servers):
            if first.gateway == later.gateway or first.bind != later.bind or not view.may_overlap(first.selector, later.selector):
                continue
            mine, other = (first, later) if first.gateway in view.about and later.gateway not in view.about else (later, first)
            yield from _conflict(mine, other, mine is later)


def _pairs(servers: Sequence[Listener]) -> Iterator[tuple[Listener, Listener]]:
    """Only servers that can disturb each other: with a host in common, or of different kinds. So many Gateways cost little."""
    by_name: dict[str, list[Listener]] = {}
    plain, tls = ([one for one in servers if one.is_tls is wanted] for wanted in (False, True))
    for one in tls:
        for name in one.names:
            by_name.setdefault(name, []).append(one)
    for group in by_name.values():
        yield from ((first, later) for position, later in enumerate(group) for first in group[:position])
    for one in tls if plain else ():
        yield (plain[0], one) if servers.index(plain[0]) < servers.index(one) else (one, plain[0])
    yield from ((plain[0], one) for one in plain[1:] if one.is_http != plain[0].is_http)


def _conflict(mine: Listener, other: Listener, loses: bool) -> Iterator[Found]:
    """Told of one of the two: of the later, which loses, or of the one that a call makes."""
    also = "" if mine.number == other.number else f" (port {other.number}, which in the gateway's pods is the same as {mine.number})"
    severity: Severity = "error" if loses else "warning"
    if mine.is_tls != other.is_tls or not mine.is_tls:
        yield from _other_kind(mine, other, loses, also)
        return
    common = [name for name in mine.names if name in other.names]
    if not common:
        return
    if set(mine.hosts).isdisjoint(other.hosts):
        severity = "error"
        effect = "istiod does not notice, because one of them names a namespace, and proxies refuse the whole listener"
    elif loses:
        effect = "that Gateway is the older one, so that istiod drops this server with all its hosts"
    else:
        effect = f"this Gateway is the older one, so that istiod drops that server of {other.gateway} with all its hosts"
    message = f"{other.gateway} serves {some(common)} on port {mine.number} too{also}: {effect}"
    remedy = "keep the host in one Gateway, or use another port, or another selector"
    yield Found("host_conflict", mine.gateway, mine.field, message, remedy, severity, (other.gateway,))


def redirects(view: MeshView) -> Iterator[Found]:
    """A server that redirects, and another Gateway's that serves one of its hosts in plain HTTP on the same port: both are one listener."""
    for servers in view.meeting.values():
        redirecting = [one for one in servers if one.redirects]
        serving: dict[str, list[Listener]] = {}
        for one in servers if redirecting else ():
            for name in one.names if one.is_http and not one.redirects else ():
                serving.setdefault(name, []).append(one)
        for one in redirecting:
            for other in dict.fromkeys(other for name in one.names for other in serving.get(name, ())):
                if other.gateway != one.gateway and view.may_overlap(one.selector, other.selector):
                    common = [name for name in one.names if name in other.names]
                    yield Found(
                        "redirect_of_served_host",
                        one.gateway,
                        one.field,
                        f"{other.gateway} serves {some(common)} in plain HTTP: its requests are redirected too",
                        "leave out the redirect (http_redirect), or take the host from that Gateway",
                        others=(other.gateway,),
                    )


def _other_kind(mine: Listener, other: Listener, loses: bool, also: str) -> Iterator[Found]:
    """Measured: istiod drops a TLS server that comes after plain text. Plain text that comes after TLS is served beside it, unless the TLS
    server is for every host: then Envoy cannot tell the two apart. Of two protocols in plain text the first decides."""
    first, later = (other, mine) if loses else (mine, other)
    severity: Severity = "error" if loses else "warning"
    if first.is_tls and "*" not in first.names:
        return
    effect = f"istiod drops the one of {'this Gateway' if loses else other.gateway}, which is the younger"
    if first.is_tls:
        severity, effect = "error", "proxies refuse the whole listener, because the TLS server is for every host"
    ours, theirs = (_kind(one, first.is_tls or later.is_tls) for one in (mine, other))
    yield Found(
        "port_conflict",
        mine.gateway,
        mine.field,
        f"port {mine.number}{also} is for {theirs} in {other.gateway} and for {ours} here: {effect}",
        "use another port",
        severity,
        (other.gateway,),
    )


def _kind(one: Listener, beside_tls: bool) -> str:
    return "TLS" if one.is_tls else "plain text" if beside_tls else one.protocol


def own_conflicts(view: MeshView) -> Iterator[Found]:
    """Servers of one Gateway."""
    for gateway in view.gateways:
        behind = in_front(view.selected(spec_of(gateway).get("selector") or {}), view.snapshot.of(SERVICE))
        yield from from_problems(own_collisions(gateway, field_of, behind), gateway)
    seen: dict[tuple[str, int, str, str], Listener] = {}
    for one in view.listeners:
        for name in one.names if one.is_tls else ():
            first = seen.setdefault((str(one.gateway), one.number, one.bind, name), one)
            if first is not one:
                yield Found(
                    "duplicate_host",
                    one.gateway,
                    one.field,
                    f"host {name} is on port {one.number} in {first.field} already: istiod would drop this server with all its hosts",
                    "keep the host in one of the two, or use another port",
                )
                break


# --- certificates that several servers share


def shared(view: MeshView) -> Iterator[Found]:
    holders: dict[str, dict[int, None]] = {}
    for index, gateway in enumerate(view.gateways):
        for server in spec_of(gateway).get("servers") or ():
            for credential in credentials_of(server):
                holders.setdefault(credential, {})[index] = None
    for index, gateway in enumerate(view.gateways):
        names = {name for server in spec_of(gateway).get("servers") or () for name in credentials_of(server)}
        near = sorted({other for name in names for other in holders[name]})
        selector = spec_of(gateway).get("selector") or {}
        others = [
            view.gateways[other]
            for other in near
            if _tells(view, index, other) and view.may_overlap(selector, spec_of(view.gateways[other]).get("selector") or {})
        ]
        if others or len(spec_of(gateway).get("servers") or ()) > 1:
            behind = in_front(view.selected(selector), view.snapshot.of(SERVICE))
            yield from from_problems(shared_certificates(gateway, others, field_of, behind), gateway)
    yield from _covering(view)


def _tells(view: MeshView, index: int, other: int) -> bool:
    """Of two Gateways the later tells, or the one that a call makes."""
    mine, theirs = (ref_of(view.gateways[position]) in view.about for position in (index, other))
    return other < index if mine is theirs else mine


def _covering(view: MeshView) -> Iterator[Found]:
    """Other certificates that cover a host of another server: browsers take the connection to the one for the other, too."""
    for servers in view.meeting.values():
        http2 = [one for one in servers if one.protocol == "HTTPS" and one.mode in ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL")]
        for one in http2:
            names = view.certificate_names(one)
            for other in http2 if any(name.startswith("*.") for name in names) or len(names) > 1 else ():
                if other.gateway == one.gateway or set(view.credentials_of(one)) & set(view.credentials_of(other)):
                    continue
                covered = [
                    host
                    for host in other.names
                    if host not in one.names and any(pattern_covers(name, host) for name in names) and not _serves(one, host)
                ]
                if covered:
                    yield Found(
                        "shared_certificate",
                        one.gateway,
                        one.field,
                        f"the certificate covers {some(covered)} of {other.gateway} on port {other.number}, too: browsers reuse the HTTP/2 "
                        "connection of one for the other's hosts and get 404 or 421",
                        "put the hosts into one server, or give each its own certificate",
                        others=(other.gateway,),
                    )


def _serves(one: Listener, host: str) -> bool:
    return any(name == "*" or (name.startswith("*.") and host.endswith(name[1:])) for name in one.names)


# --- the pods


def no_workloads(view: MeshView) -> Iterator[Found]:
    if not view.workloads_complete:
        return
    of_egress = {path.objects.get("gateway") for path in view.paths}  # for which `no_gateway_workload` says it
    for gateway in view.gateways:
        selector = spec_of(gateway).get("selector") or {}
        if selector and not view.selected(selector) and ref_of(gateway) not in of_egress:
            labels = ", ".join(f"{key}={value}" for key, value in selector.items())
            yield Found(
                "no_workloads",
                ref_of(gateway),
                "spec.selector",
                f"no Pod and no WorkloadEntry has the labels {labels}: nothing will serve this Gateway, and its credentials were not looked at",
                "correct the selector, or start the gateway",
                cause=labels,
            )


def privileged(view: MeshView) -> Iterator[Found]:
    for gateway in view.gateways:
        pods = view.selected(spec_of(gateway).get("selector") or {})
        if any(pod.unprivileged for pod in pods):
            services = [service for pod in pods for service in view.services_of(pod)]
            yield from from_problems(skipped_ports(gateway, field_of, pods, services), gateway)


def server_files(view: MeshView) -> Iterator[Found]:
    """Certificates of servers that are files: in the pods, and where the kubelet refreshes them."""
    fields = ("serverCertificate", "privateKey", "caCertificates", "caCrl")
    for one in view.listeners:
        if one.mode not in TERMINATING or one.mode == "ISTIO_MUTUAL":
            continue
        for name in fields:
            path = one.tls.get(name)
            if path:
                yield from file_faults(
                    view.selected(one.selector),
                    str(path),
                    lambda code, text, remedy, one=one, name=name: Found(  # type: ignore[misc]
                        code, one.gateway, f"{one.field}.tls.{name}", text, remedy
                    ),
                )


def file_faults(pods: Sequence[Workload], path: str, found: Callable[[str, str, str], Found]) -> Iterator[Found]:
    """Whether the pods have a file, and get its next version; each fault at the first pod that has it."""
    remedies = {
        "file_not_mounted": "mount the Secret there (meshops.istio.gateway_credential_mount), or use credentialName, which needs no mount",
        "file_never_refreshed": "mount the whole Secret without subPath, or use credentialName",
    }
    told = dict(fault for pod in reversed(pods) if (fault := file_fault(pod, path)))
    yield from (found(code, told[code], remedy) for code, remedy in remedies.items() if code in told)


def file_fault(pod: Workload, path: str) -> tuple[str, str] | None:
    """(code, what is wrong) with a file in a gateway's pod; None where nothing is, or the pod's mounts are not known."""
    home = f"the gateway pod {pod.namespace}/{pod.name}"
    if pod.mounts is None:
        return None
    if not pod.has_file(path):
        return "file_not_mounted", f"{path} is under no mount of {home}: the gateway would find no such file"
    if pod.is_frozen(path):
        return "file_never_refreshed", (
            f"{path} is mounted with subPath in {home}: the kubelet never refreshes such a file, so a renewed certificate arrives only with a "
            "new pod"
        )
    return None


RULES = (
    Rule(
        "MIT0301",
        "host_conflict",
        "error",
        "Two Gateways serve one host on the same port of the same pods",
        "istiod keeps the server of the older Gateway and drops the other one with all its hosts. Where one of the two names a namespace before "
        "the host, istiod does not notice and Envoy refuses the whole listener.",
        "Keep the host in one Gateway, or use another port, or another selector.",
        conflicts,
        (GATEWAY,),
        aliases=("gateway_host_taken",),
    ),
    Rule(
        "MIT0302",
        "port_conflict",
        "error",
        "One port of the pods is for TLS in one Gateway and for plain text in another",
        "istiod drops a TLS server that is younger than plain text on the port. Plain text that is younger is served beside TLS, unless the TLS "
        "server is for every host (`*`): then Envoy refuses the whole listener.",
        "Use another port for one of them.",
        conflicts,
        (GATEWAY,),
        aliases=("gateway_port_plaintext",),
    ),
    Rule(
        "MIT0303",
        "duplicate_host",
        "error",
        "One Gateway serves a host twice on a port",
        "istiod drops the second server with all its hosts.",
        "Keep the host in one server, or use another port.",
        own_conflicts,
        (GATEWAY,),
    ),
    Rule(
        "MIT0304",
        "shared_certificate",
        "warning",
        "Several servers on a port share a certificate",
        "Browsers reuse the HTTP/2 connection to one host for every host that its certificate covers. At the gateway that connection belongs to "
        "one server, whose routes do not know the others' hosts: 404 or 421.",
        "Put the hosts into one server, or give each host its own certificate.",
        shared,
        (GATEWAY,),
    ),
    Rule(
        "MIT0309",
        "redirect_of_served_host",
        "warning",
        "A redirect takes over a host that is served in plain HTTP",
        "The server that redirects to HTTPS and the other one are one listener in the pods, and the host's requests are redirected too.",
        "Leave out the redirect, or take the host from one of the two.",
        redirects,
        (GATEWAY,),
    ),
    Rule(
        "MIT0305",
        "no_workloads",
        "warning",
        "Nothing serves the Gateway",
        "No pod and no WorkloadEntry of the cluster has the labels of the selector.",
        "Correct the selector, or start the gateway.",
        no_workloads,
        (GATEWAY, POD),
        may_come=True,
    ),
    Rule(
        "MIT0306",
        "privileged_target_port",
        "warning",
        "The gateway's pods may not listen on the port",
        "Pods that have ISTIO_META_UNPRIVILEGED_POD tell istiod that they cannot listen below port 1024, and istiod leaves the server out.",
        "Map the port to a targetPort above 1023 in the Service, or set the sysctl net.ipv4.ip_unprivileged_port_start to 0.",
        privileged,
        (GATEWAY, POD, SERVICE),
    ),
    Rule(
        "MIT0307",
        "file_not_mounted",
        "error",
        "A certificate file is under no mount of the gateway's pods",
        "Envoy finds no such file (Invalid path) and does not serve the listener, or answers 503.",
        "Mount the Secret there (meshops.istio.gateway_credential_mount), or use credentialName.",
        server_files,
        (POD,),
        may_come=True,
    ),
    Rule(
        "MIT0308",
        "file_never_refreshed",
        "warning",
        "A certificate file does not follow its Secret",
        "The kubelet does not refresh files that are mounted with subPath. The gateway uses the old certificate until its pod is replaced.",
        "Mount the whole Secret without subPath, or use credentialName.",
        server_files,
        (POD,),
    ),
)
