# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with originations in their cluster: the objects as they will be, next to everybody else's, looked at as istiod does.

None of this is checked at admission: each object is valid by itself, and the set answers 503, sends plaintext, or verifies nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..problems import Problem, Severity
from .choice import ANYWHERE, Rules, age, arrange, fqdn, is_shown, rule_for, title
from .credential import read_as_istiod
from .egress import TLS_PORT_NAME, Origination, Part
from .egress_objects import manifests
from .names import subset_of
from .ownership import MANAGED_BY, MANAGED_BY_LABEL, OWNER_LABEL
from .reference import Lookup, ca_lookup, pair_lookup, parse_reference

Manifest = Mapping[str, Any]

MAY_COME = ("credential_missing", "gateway_service_missing", "no_gateway_workload", "file_not_mounted")
"""Codes of what an earlier task of the same play may be about to make: no fault in check mode."""

_PLAINTEXT = ("HTTP", "HTTP2", "GRPC", "GRPC-WEB", "TCP", "MONGO", "REDIS", "MYSQL")
_TLS = ("HTTPS", "TLS")
_NO_TRANSLATION = "experimental.istio.io/disable-gateway-port-translation"


@dataclass(frozen=True)
class Workload:
    """One pod or WorkloadEntry that a gateway's selector matches."""

    namespace: str
    name: str
    service_account: str
    labels: Mapping[str, str]
    mounts: tuple[str, ...] | None = None
    """Where volumes are mounted in the proxy's container; None where that cannot be seen (a machine)."""


@dataclass(frozen=True)
class Snapshot:
    """What the cluster holds, as far as it could be read: None, or a missing key, stands for what could not, and is told as a note."""

    service_entries: Sequence[Manifest] | None = None
    gateways: Sequence[Manifest] | None = None
    destination_rules: Sequence[Manifest] | None = None
    virtual_services: Sequence[Manifest] | None = None
    network_policies: Sequence[Manifest] | None = None
    services: Mapping[tuple[str, str], Manifest | None] = field(default_factory=dict)
    """(namespace, name) of gateways' Services; None for one that does not exist."""
    workloads: Sequence[Workload] | None = None
    secret_keys: Mapping[tuple[str, str], frozenset[str] | None] = field(default_factory=dict)
    """(namespace, name) of Secrets, and of ConfigMaps that hold a CA, to the keys that are not empty; None for one that does not exist."""
    may_list_secrets: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    """(namespace, service account) to the answer of the SubjectAccessReview that istiod asks."""
    root_namespace: str = "istio-system"
    unread: tuple[str, ...] = ()
    """What else could not be read, in words, for example `VirtualServices outside of istio-system`."""


@dataclass(frozen=True)
class Checked:
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _View:
    """The cluster as it will be: the desired objects and everybody else's."""

    snapshot: Snapshot
    rules: Rules
    routes: Mapping[str, Sequence[Manifest]]
    """VirtualServices by host, the oldest first."""
    routes_of_gateway: Mapping[str, Sequence[Manifest]]
    gateways: Mapping[str, Manifest]
    """By namespace/name."""
    other_gateways: Sequence[Manifest]
    """Those that this call does not make; the hosts of its own are distinct already."""
    service_entries: Mapping[str, Sequence[Manifest]]
    live: Mapping[tuple[str, str, str], Manifest]
    originations: Sequence[Origination]


@dataclass(frozen=True)
class _Case:
    """One origination, its objects, and the view."""

    one: Origination
    objects: Mapping[Part, Manifest]
    view: _View

    @property
    def viewers(self) -> tuple[str, ...]:
        return self.one.client_namespaces or (ANYWHERE,)

    def problem(self, code: str, what: str, message: str, remedy: str, severity: Severity = "error") -> Problem:
        return Problem(code, f"{self.one.where}: {what}", message, remedy, severity)


def check_set(originations: Sequence[Origination], snapshot: Snapshot, objects: Mapping[str, Sequence[Manifest]] | None = None) -> Checked:
    """What is wrong with these services in this cluster, and what could not be looked at.

    `objects` are the manifests by owner (`Origination.owner`); those of `manifests` unless given. Services to be removed are looked at
    as if they were gone.
    """
    units = {one.owner: [] if one.absent else (objects or {}).get(one.owner) or manifests(one) for one in originations}
    originations = [one for one in originations if not one.absent]
    view = _view(originations, snapshot, units)
    problems: list[Problem] = []
    for one in originations:
        case = _Case(one, _by_part(one, units[one.owner]), view)
        for rule in RULES:
            problems += rule(case)
    return Checked(tuple(dict.fromkeys(problems)), _notes(originations, snapshot))


def _by_part(one: Origination, objects: Iterable[Manifest]) -> dict[Part, Manifest]:
    kinds: dict[Part, str] = {
        "originating_rule": "DestinationRule",
        "first_hop_rule": "DestinationRule",
        "gateway": "Gateway",
        "service_entry": "ServiceEntry",
        "direct_virtual_service": "VirtualService",
        "virtual_service": "VirtualService",
    }
    named = {(made["kind"], made["metadata"]["namespace"], made["metadata"]["name"]): made for made in objects}
    found = {part: named.get((kind, one.objects[part].namespace, one.objects[part].name)) for part, kind in kinds.items()}
    return {part: made for part, made in found.items() if made is not None}


def _view(originations: Sequence[Origination], snapshot: Snapshot, units: Mapping[str, Sequence[Manifest]]) -> _View:
    desired: dict[tuple[str, str, str], dict[str, Any]] = {}
    live: dict[tuple[str, str, str], Manifest] = {}
    for objects in units.values():
        desired.update({_key(made): dict(made) for made in objects})

    def merged(kind: str, items: Sequence[Manifest] | None) -> list[Manifest]:
        """Live objects with the desired ones in their place, without those that will be pruned."""
        kept: list[Manifest] = []
        for item in items or ():
            key = _key({**item, "kind": kind})
            live[key] = item
            if key in desired:
                stamp = item["metadata"].get("creationTimestamp")
                desired[key]["metadata"] = {**desired[key]["metadata"], "creationTimestamp": stamp}
            elif _owner(item) not in units:
                kept.append({**item, "kind": kind})
        return sorted([*kept, *(made for key, made in desired.items() if key[0] == kind)], key=age)

    routes: dict[str, list[Manifest]] = {}
    routes_of_gateway: dict[str, list[Manifest]] = {}
    for route in merged("VirtualService", snapshot.virtual_services):
        namespace = route["metadata"].get("namespace", "")
        spec = route.get("spec") or {}
        for host in spec.get("hosts") or ():
            routes.setdefault(fqdn(host, namespace), []).append(route)
        for gateway in spec.get("gateways") or ():
            routes_of_gateway.setdefault(gateway if "/" in gateway else f"{namespace}/{gateway}", []).append(route)
    service_entries: dict[str, list[Manifest]] = {}
    for entry in merged("ServiceEntry", snapshot.service_entries):
        for host in (entry.get("spec") or {}).get("hosts") or ():
            service_entries.setdefault(host.lower(), []).append(entry)
    domain = originations[0].gateway.cluster_domain if originations else "cluster.local"
    rules = arrange(merged("DestinationRule", snapshot.destination_rules), root_namespace=snapshot.root_namespace, domain=domain)
    gateways = merged("Gateway", snapshot.gateways)
    return _View(
        snapshot=snapshot,
        rules=rules,
        routes=routes,
        routes_of_gateway=routes_of_gateway,
        gateways={f"{made['metadata'].get('namespace', '')}/{made['metadata']['name']}": made for made in gateways},
        other_gateways=[made for made in gateways if _key(made) not in desired],
        service_entries=service_entries,
        live=live,
        originations=tuple(originations),
    )


def _key(manifest: Manifest) -> tuple[str, str, str]:
    return manifest["kind"], manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"]


def _owner(manifest: Manifest) -> str | None:
    labels = manifest["metadata"].get("labels") or {}
    return labels.get(OWNER_LABEL) if labels.get(MANAGED_BY_LABEL) == MANAGED_BY else None


def _clients(viewer: str) -> str:
    return f"the clients in {viewer}" if viewer else "clients"


def _notes(originations: Sequence[Origination], snapshot: Snapshot) -> tuple[str, ...]:
    notes = [
        f"{kind} were not read: collisions with those of others were not looked for"
        for kind, items in (
            ("Gateways", snapshot.gateways),
            ("DestinationRules", snapshot.destination_rules),
            ("VirtualServices", snapshot.virtual_services),
            ("ServiceEntries", snapshot.service_entries),
        )
        if items is None
    ]
    if any(one.prevent_bypass for one in originations) and snapshot.network_policies is None:
        notes.append("NetworkPolicies were not read: whether another one opens what prevent_bypass closes was not looked at")
    if snapshot.workloads is None:
        notes.append("the gateway's workloads were not read: their service account and mounts were not looked at")
    for one in originations:
        if (one.gateway.namespace, one.gateway.service) not in snapshot.services:
            notes.append(f"Service {one.gateway.namespace}/{one.gateway.service} was not read: its ports were not looked at")
        for lookup in lookups(one):
            place = lookup.namespace or one.gateway.namespace
            notes += [
                f"{lookup.kind} {place}/{name} was not read: whether it holds what istiod needs was not looked at"
                for name in lookup.names
                if (place, name) not in snapshot.secret_keys
            ][:1]
    for workload in snapshot.workloads or ():
        account = (workload.namespace, workload.service_account)
        if account not in snapshot.may_list_secrets and any(needs_authorization(one) for one in originations):
            notes.append(
                f"whether the service account {'/'.join(account)} may list Secrets was not asked (SubjectAccessReview not allowed)"
            )
    notes += [f"not read: {what}" for what in snapshot.unread]
    return tuple(dict.fromkeys(notes))


# --- the route from the client to the gateway


def _first_hop(case: _Case) -> Iterator[Problem]:
    one, view = case.one, case.view
    port, subset = one.gateway.port, one.subset
    for target in _destinations(case.objects.get("virtual_service"), gateway="mesh"):
        port, subset = (target.get("port") or {}).get("number", port), target.get("subset", "")
    for viewer in case.viewers:
        merged = rule_for(view.rules, viewer, one.gateway.host, one.gateway.namespace)
        mine = one.objects["first_hop_rule"]
        if merged is None or subset not in merged.subsets:
            yield _subset_missing(case, viewer, subset, [] if merged is None else [title(rule) for rule in merged.rules])
            continue
        brought_by, __ = merged.subsets[subset]
        if _owner(brought_by) != one.owner:
            yield case.problem(
                "subset_taken",
                f"DestinationRule {mine}",
                f"the subset {subset} of {one.gateway.host} comes from the older {title(brought_by)}, and istiod ignores the later one",
                "delete that rule, or choose another name for the service",
            )
        tls = merged.tls(port, subset) or {}
        if tls.get("mode") != "ISTIO_MUTUAL":
            yield case.problem(
                "first_hop_not_mutual",
                f"DestinationRule {mine}",
                f"{_clients(viewer)} reach the gateway's port {port} with TLS mode {tls.get('mode', 'none')}, and it expects ISTIO_MUTUAL",
                f"set ISTIO_MUTUAL for port {port} in the subset {subset}",
            )
            continue
        sni = tls.get("sni") or f"outbound_.{port}_.{subset}_.{one.gateway.host}"
        hosts = _gateway_hosts(case, port)
        if not any(subset_of(sni, host) for host in hosts):
            yield case.problem(
                "first_hop_sni",
                f"DestinationRule {mine}",
                f"{_clients(viewer)} send the SNI {sni} to the gateway, whose hosts on port {port} are {', '.join(hosts) or 'none'}",
                f"make sni of the first hop a host of the Gateway: {one.host}",
            )


def _subset_missing(case: _Case, viewer: str, subset: str, others: Sequence[str]) -> Problem:
    one = case.one
    mine = one.objects["first_hop_rule"]
    what = f"DestinationRule {mine}"
    if f"DestinationRule {mine}" in others:
        return case.problem(
            "subset_missing",
            what,
            f"the route sends {_clients(viewer)} to the subset {subset} of {one.gateway.host}, which no DestinationRule has: 503",
            "name the same subset in the route and in the rule",
        )
    if others:
        return case.problem(
            "first_hop_rule_shadowed",
            what,
            f"for {_clients(viewer)} istiod uses {', '.join(others)} instead, which has no subset {subset}: 503",
            f"move the rule for {one.gateway.host} to namespace {one.gateway.namespace}, or give it the same exportTo, so that istiod merges both",
        )
    return case.problem(
        "first_hop_rule_invisible",
        what,
        f"{_clients(viewer)} do not see it: istiod looks in the client's namespace, in {one.gateway.namespace}, and in "
        f"{case.view.snapshot.root_namespace}",
        f"keep it in {one.gateway.namespace}",
    )


def _gateway_hosts(case: _Case, port: int) -> list[str]:
    servers = (case.objects.get("gateway", {}).get("spec") or {}).get("servers") or ()
    return [host.split("/")[-1] for server in servers if server["port"]["number"] == port for host in server.get("hosts") or ()]


def _destinations(route: Manifest | None, *, gateway: str) -> Iterator[Mapping[str, Any]]:
    """Where a VirtualService's HTTP routes send what arrives over a gateway (`mesh`: from sidecars)."""
    spec = (route or {}).get("spec") or {}
    for http in spec.get("http") or ():
        matches: Sequence[Mapping[str, Any]] = http.get("match") or ({},)
        if any(gateway in (match.get("gateways") or spec.get("gateways") or ("mesh",)) for match in matches):
            yield from (target["destination"] for target in http.get("route") or () if "destination" in target)


def _mesh_route(case: _Case) -> Iterator[Problem]:
    """Of several VirtualServices for a host, sidecars use the oldest that has a route for the port."""
    one = case.one
    mine = one.objects["virtual_service"]
    for viewer in case.viewers:
        older = True
        for route in case.view.routes.get(one.host, ()):
            if _owner(route) == one.owner:
                older = False
                continue
            if not is_shown(route, viewer) or not _routes_mesh_http(route, one.http_port):
                continue
            consequence = "istiod uses the older one, so requests go past the gateway" if older else "istiod ignores it from now on"
            yield case.problem(
                "route_taken",
                f"VirtualService {mine}",
                f"{title(route)} routes {one.host} for {_clients(viewer)}, too: {consequence}",
                "delete that VirtualService, or take this host out of it",
                "error" if older else "warning",
            )


def _routes_mesh_http(route: Manifest, port: int) -> bool:
    spec = route.get("spec") or {}
    empty: Sequence[Mapping[str, Any]] = ({},)
    matches = [match for http in spec.get("http") or () for match in http.get("match") or empty]
    gateways = spec.get("gateways") or ("mesh",)
    return any("mesh" in (match.get("gateways") or gateways) and match.get("port", port) == port for match in matches)


def _visibility(case: _Case) -> Iterator[Problem]:
    one = case.one
    parts: tuple[Part, ...] = ("service_entry", "virtual_service", "direct_virtual_service")
    for part in parts:
        made = case.objects.get(part)
        if made is None:
            continue
        wanting = [] if part == "direct_virtual_service" or is_shown(made, one.gateway.namespace) else ["the gateway"]
        wanting += [_clients(client) for client in one.client_namespaces if not is_shown(made, client)]
        if wanting:
            yield case.problem(
                "not_shown",
                title(made),
                f"{' and '.join(wanting)} cannot see it, with exportTo {list(made['spec'].get('exportTo') or ())}",
                "add their namespaces to export_to",
            )


# --- the gateway


def _listener(case: _Case) -> Iterator[Problem]:
    """istiod's mergeGateways: one TLS server for a host and port, the oldest; no TLS server on a port that serves plaintext."""
    one = case.one
    labels = _gateway_labels(case)
    port = _pod_port(case, one.gateway.port)
    mine = case.view.gateways.get(str(one.objects["gateway"]))
    for other in case.view.other_gateways:
        older = mine is None or age(other) < age(mine)
        spec = other.get("spec") or {}
        if not (spec.get("selector") or {}).items() <= labels.items():
            continue
        for server in spec.get("servers") or ():
            number = (server.get("port") or {}).get("number")
            if server.get("bind") or number is None or _pod_port(case, number) != port:
                continue
            severity: Severity = "error" if older else "warning"
            consequence = "istiod drops the later one" + (", which is this one" if older else "")
            same = [host for host in server.get("hosts") or () if host.split("/")[-1] == one.host]
            if str(server["port"].get("protocol", "")).upper() not in _TLS:
                yield case.problem(
                    "gateway_port_plaintext",
                    f"Gateway {one.objects['gateway']}",
                    f"{title(other)} serves {server['port'].get('protocol')} without TLS on port {number} of the same pods: {consequence}",
                    "use another gateway.port of the gateway's Service",
                    severity,
                )
            elif same:
                if all("/" in host and not host.startswith("*/") for host in same):
                    consequence = "istiod does not notice, because that one names a namespace, and the gateway refuses the whole listener"
                    severity = "error"
                yield case.problem(
                    "gateway_host_taken",
                    f"Gateway {one.objects['gateway']}",
                    f"{title(other)} serves {one.host} on port {number} of the same pods, too: {consequence}",
                    f"take {one.host} out of that Gateway, or delete it",
                    severity,
                )


def _gateway_labels(case: _Case) -> dict[str, str]:
    labels = dict(case.one.gateway.selector)
    for workload in _workloads(case) or ():
        labels.update(workload.labels)
    return labels


def _workloads(case: _Case) -> list[Workload] | None:
    """The gateway's workloads; None where they were not read."""
    gateway = case.one.gateway
    if case.view.snapshot.workloads is None:
        return None
    return [
        workload
        for workload in case.view.snapshot.workloads
        if workload.namespace == gateway.namespace and gateway.selector.items() <= workload.labels.items()
    ]


def _service(case: _Case) -> Manifest | None:
    return case.view.snapshot.services.get((case.one.gateway.namespace, case.one.gateway.service))


def _pod_port(case: _Case, number: int) -> int | str:
    """The port that pods listen on for a Gateway's port: translated by their Service, if it has such a port."""
    service = _service(case) or {}
    if _NO_TRANSLATION in ((service.get("metadata") or {}).get("labels") or {}):
        return number
    for port in (service.get("spec") or {}).get("ports") or ():
        if port.get("port") == number:
            target: int | str = port.get("targetPort", number)
            return target
    return number


def _gateway_service(case: _Case) -> Iterator[Problem]:
    gateway = case.one.gateway
    key = (gateway.namespace, gateway.service)
    workloads = _workloads(case)
    selector = ", ".join(f"{name}={value}" for name, value in gateway.selector.items())
    if workloads is not None and not workloads:
        yield case.problem(
            "no_gateway_workload",
            "gateway.selector",
            f"no pod or WorkloadEntry in {gateway.namespace} matches {selector}",
            "install an egress gateway (Istio's default profile has none), or correct gateway.selector and gateway.namespace",
        )
    if key not in case.view.snapshot.services:
        return
    service = _service(case)
    if service is None:
        yield case.problem(
            "gateway_service_missing",
            "gateway.service",
            f"expected the Service {'/'.join(key)} in front of the gateway, found none",
            "correct gateway.service and gateway.namespace, or install the gateway",
        )
        return
    spec = service.get("spec") or {}
    wanted = spec.get("selector") or {}
    if workloads and wanted and not any(wanted.items() <= workload.labels.items() for workload in workloads):
        yield case.problem(
            "service_selects_others",
            "gateway.service",
            f"the Service {'/'.join(key)} selects none of the workloads that match {selector}",
            "give the selector and the Service of the same gateway",
        )
    ports = {port.get("port"): port for port in spec.get("ports") or ()}
    if gateway.port not in ports:
        yield case.problem(
            "gateway_port_missing",
            "gateway.port",
            f"the Service {'/'.join(key)} has no port {gateway.port}, only {', '.join(map(str, ports)) or 'none'}: sidecars would answer 503",
            "use one of its ports in gateway.port, or add the port to the Service",
        )
    elif isinstance(target := _pod_port(case, gateway.port), int) and target < 1024 and workloads and workloads[0].mounts is not None:
        yield case.problem(
            "privileged_target_port",
            "gateway.port",
            f"the Service {'/'.join(key)} maps port {gateway.port} to the pods' port {target}, on which unprivileged pods cannot listen: istiod skips it",
            f"map port {gateway.port} to a targetPort above 1023",
            "warning",
        )


def _unused_tls_routes(case: _Case) -> Iterator[Problem]:
    for route in case.view.routes_of_gateway.get(str(case.one.objects["gateway"]), ()):
        spec = route.get("spec") or {}
        if spec.get("tls") or spec.get("tcp"):
            yield case.problem(
                "tls_routes_on_terminating_server",
                title(route),
                f"its tls or tcp routes never apply on Gateway {case.one.objects['gateway']}, which terminates ISTIO_MUTUAL and then sees HTTP",
                "use http routes, or bind the VirtualService to a Gateway with mode PASSTHROUGH",
                "error" if _owner(route) == case.one.owner else "warning",
            )


# --- from the gateway to the service


def _originating(case: _Case) -> Iterator[Problem]:
    one = case.one
    mine = one.objects["originating_rule"]
    what = f"DestinationRule {mine}"
    home = one.objects["service_entry"].namespace
    merged = rule_for(case.view.rules, one.gateway.namespace, one.host, home, _gateway_labels(case))
    if merged is None or not any(_owner(rule) == one.owner for rule in merged.rules):
        instead = f"uses {', '.join(title(rule) for rule in merged.rules)} instead" if merged else "finds no rule at all"
        yield case.problem(
            "originating_rule_invisible",
            what,
            f"the gateway in {one.gateway.namespace} does not see it and {instead}, so it would send plaintext or the wrong certificate",
            f"keep the rule in {one.gateway.namespace}" + (", and delete the other one" if merged else ""),
        )
        return
    if merged.policy_from is not None and _owner(merged.policy_from) != one.owner:
        yield case.problem(
            "originating_rule_overridden",
            what,
            f"the older {title(merged.policy_from)} has a trafficPolicy for {one.host}, and istiod keeps the first: this rule's TLS is ignored",
            "delete that rule, or move its settings into subsets",
        )
        return
    tls = merged.tls(one.tls_port) or {}
    for target in _destinations(case.objects.get("virtual_service"), gateway=str(one.objects["gateway"])):
        number = (target.get("port") or {}).get("number")
        if target.get("host") == one.host and number != one.tls_port:
            tls = merged.tls(number) or {} if number else {}
    if tls.get("mode") not in ("SIMPLE", "MUTUAL"):
        yield case.problem(
            "no_origination",
            what,
            f"it originates no TLS towards the port that the route leads to (mode {tls.get('mode', 'none')})",
            f"give tls for port {one.tls_port}, and route to that port",
        )
    elif tls.get("sni") and not tls.get("subjectAltNames"):
        yield case.problem(
            "no_host_check",
            what,
            "sni without subjectAltNames turns the check of the server's name off: any certificate that chains to the CA will do",
            f"set subject_alt_names, for example [{one.host}]",
            "warning",
        )


def lookups(one: Origination) -> tuple[Lookup, ...]:
    """What istiod reads for the gateway. In mode SIMPLE it asks for the CA alone."""
    if not one.credential_name:
        return ()
    reference = parse_reference(one.credential_name, "credential_name")
    return (*(pair_lookup(reference, "credential_name") if one.mode == "MUTUAL" else ()), *ca_lookup(reference, "credential_name"))


def _credential(case: _Case) -> Iterator[Problem]:
    one, known = case.one, case.view.snapshot.secret_keys
    for lookup in lookups(one):
        place = lookup.namespace or one.gateway.namespace
        if any((place, name) not in known for name in lookup.names):
            continue
        name = next((name for name in lookup.names if known[(place, name)] is not None), None)
        if name is None:
            if lookup.role == "pair" or one.mode == "SIMPLE":
                yield _credential_missing(case, lookup, place)
            continue
        keys = known[(place, name)] or frozenset()
        reading = read_as_istiod(dict.fromkeys(keys, b"-"))
        found = ", ".join(sorted(keys)) or "no keys"
        if lookup.role == "pair" and not (reading.certificate and reading.private_key):
            yield case.problem(
                "credential_without_pair",
                "credential_name",
                f"expected tls.crt and tls.key (or cert and key) in {lookup.kind} {place}/{name}, found {found}",
                "put the client certificate with its key there",
            )
        if lookup.role == "ca" and not reading.ca_certificate:
            yield case.problem(
                "credential_without_ca",
                "credential_name",
                f"expected ca.crt (or cacert) in {lookup.kind} {place}/{name}, found {found}: istiod cannot supply the CA and the gateway answers 503",
                "add the CA that issued the server's certificate, a public one included",
            )


def _credential_missing(case: _Case, lookup: Lookup, place: str) -> Problem:
    elsewhere = sorted(
        namespace
        for (namespace, name), keys in case.view.snapshot.secret_keys.items()
        if name in lookup.names and namespace != place and keys
    )
    seen = f"; there is one in {', '.join(elsewhere)}, which istiod does not serve to this gateway" if elsewhere else ""
    return case.problem(
        "credential_missing",
        "credential_name",
        f"expected {lookup.kind} {lookup.names[-1]} in {place}, where the gateway's pods run, found none{seen}: the gateway answers 503, and "
        "one that starts meanwhile waits 15 s for it",
        f"create it in {place} first (meshops.istio.istio_tls_credential)",
    )


def needs_authorization(one: Origination) -> bool:
    """istiod reviews access to Secrets that hold a key; those with a CA alone it gives to every proxy of the namespace."""
    return any(lookup.role == "pair" for lookup in lookups(one))


def _authorization(case: _Case) -> Iterator[Problem]:
    if not needs_authorization(case.one):
        return
    allowed = case.view.snapshot.may_list_secrets
    for account in dict.fromkeys((workload.namespace, workload.service_account) for workload in _workloads(case) or ()):
        if allowed.get(account) is False:
            yield case.problem(
                "gateway_may_not_list_secrets",
                "credential_name",
                f"the gateway's service account {'/'.join(account)} may not list Secrets in {account[0]}, so istiod will not serve it the credential",
                f"bind a Role with the verbs get, list and watch on secrets in {account[0]} to it (Istio's gateway charts do)",
            )


def _files(case: _Case) -> Iterator[Problem]:
    one = case.one
    if not one.files:
        return
    for workload in _workloads(case) or ():
        if workload.mounts is None:
            continue
        for option, path in one.files.given.items():
            if path == "system" or any(path == mount or path.startswith(mount.rstrip("/") + "/") for mount in workload.mounts):
                continue
            yield case.problem(
                "file_not_mounted",
                f"certificate_files.{option}",
                f"{path} is under no mount of the gateway pod {workload.namespace}/{workload.name}: the gateway would find no such file",
                "mount the Secret there, or use credential_name, which needs no mount",
            )


def _service_entry(case: _Case) -> Iterator[Problem]:
    one = case.one
    mine = one.objects["service_entry"]
    if one.host.endswith(f".svc.{one.gateway.cluster_domain}"):
        yield case.problem(
            "host_is_mesh_service",
            "host",
            f"{one.host} is a Service of the cluster itself, which sidecars know already",
            "give the name by which clients know the external service, and the Service's as an endpoint's address",
            "warning",
        )
    for other in case.view.service_entries.get(one.host, ()):
        if _owner(other) == one.owner:
            continue
        viewers = [viewer for viewer in (*case.viewers, one.gateway.namespace) if is_shown(other, viewer)]
        if not viewers:
            continue
        protocols = {port.get("number"): str(port.get("protocol", "")).upper() for port in other["spec"].get("ports") or ()}
        conflict = next(
            (
                f"declares port {number} as {protocols[number]}, where {expected} is expected"
                for number, wrong, expected in ((one.tls_port, _PLAINTEXT, "TLS"), (one.http_port, _TLS, one.protocol))
                if protocols.get(number) in wrong
            ),
            None,
        )
        if conflict:
            yield case.problem(
                "port_protocol_conflict",
                f"ServiceEntry {mine}",
                f"{title(other)} has the host {one.host}, too, and {conflict}",
                "delete that ServiceEntry, or choose other ports",
            )
        else:
            yield case.problem(
                "host_declared_twice",
                f"ServiceEntry {mine}",
                f"{title(other)} has the host {one.host}, too, and istiod uses one of the two or both",
                "delete that ServiceEntry, or take the host out of it",
                "warning",
            )


def _plaintext_endpoint(case: _Case) -> Iterator[Problem]:
    one = case.one
    entry = (case.objects.get("service_entry") or {}).get("spec") or {}
    for index, endpoint in enumerate(entry.get("endpoints") or ()):
        number = (endpoint.get("ports") or {}).get(TLS_PORT_NAME, one.tls_port)
        if number == 80 or number == (endpoint.get("ports") or {}).get("http"):
            yield case.problem(
                "tls_to_plaintext_port",
                f"endpoints[{index}].ports.{TLS_PORT_NAME}",
                f"the gateway would speak TLS to port {number} of {endpoint.get('address')}, which is the port for plaintext (WRONG_VERSION_NUMBER)",
                f"map {TLS_PORT_NAME} to the port on which the endpoint takes TLS",
                "warning",
            )
    if not entry.get("endpoints") and one.tls_port == 80:
        yield case.problem(
            "tls_to_plaintext_port",
            "tls_port",
            f"the gateway would speak TLS to port 80 of {one.host}, which is the port for plaintext (WRONG_VERSION_NUMBER)",
            "set tls_port to the port on which the service takes TLS",
            "warning",
        )


def _resolution(case: _Case) -> Iterator[Problem]:
    if case.one.resolution == "NONE":
        yield case.problem(
            "no_endpoints_at_gateway",
            "resolution",
            "with NONE a gateway has no endpoint to connect to (it does not know which address the client asked for): requests through it get 503",
            "use DNS, or STATIC with endpoints",
            "warning",
        )


# --- what sidecars make of the rules


def _sidecars(case: _Case) -> Iterator[Problem]:
    """Rules for the host that clients' sidecars see, though only the gateway should."""
    one = case.one
    home = one.objects["service_entry"].namespace
    for viewer in case.viewers:
        merged = rule_for(case.view.rules, viewer, one.host, home)
        tls = merged.tls(one.tls_port) if merged else None
        if merged is None or tls is None or tls.get("mode") not in ("SIMPLE", "MUTUAL"):
            continue
        seen = title(merged.policy_from or merged.rules[0])
        remedy = "set rule_export_to to ['.'], so that only the gateway's namespace sees the rule"
        if viewer == one.gateway.namespace:
            remedy = "run clients in another namespace than the gateway"
        elif _owner(merged.policy_from or merged.rules[0]) != one.owner:
            remedy = "delete that rule, or set its exportTo so that only gateways see it"
        credential = str(tls.get("credentialName") or "")
        originates = not credential or credential.startswith("configmap://") or merged.selector is not None
        if not originates:
            yield case.problem(
                "sidecars_send_plaintext",
                seen,
                f"{_clients(viewer)} see it, and sidecars originate nothing for a rule with credentialName: past the gateway they send plaintext to a TLS port",
                remedy,
            )
        elif any(tls.get(option) for option in ("clientCertificate", "privateKey", "caCertificates")):
            yield case.problem(
                "sidecars_wait_for_files",
                seen,
                f"{_clients(viewer)} see it, and every sidecar without its certificate files waits 15 s for them at start",
                remedy,
            )
        if originates and one.direct_tls:
            yield case.problem(
                "tls_inside_tls",
                seen,
                f"{_clients(viewer)} see it, so their sidecars wrap the TLS that applications speak on port {one.tls_port} in TLS once more",
                remedy,
            )


# --- around it


def _other_policies(case: _Case) -> Iterator[Problem]:
    one = case.one
    if not one.prevent_bypass:
        return
    for policy in case.view.snapshot.network_policies or ():
        spec = policy.get("spec") or {}
        if (
            policy["metadata"].get("namespace") not in one.client_namespaces
            or _owner(policy)
            or "Egress" not in (spec.get("policyTypes") or ())
        ):
            continue
        if spec.get("egress"):
            yield case.problem(
                "other_egress_policy",
                f"prevent_bypass in {policy['metadata']['namespace']}",
                f"{title({**policy, 'kind': 'NetworkPolicy'})} lets traffic out, too, and policies add up",
                "make sure that it does not let clients reach the external service",
                "warning",
            )


def _direct_tls_blocked(case: _Case) -> Iterator[Problem]:
    one = case.one
    if not one.direct_tls:
        return
    for other in case.view.originations:
        shared = sorted(set(one.client_namespaces) & set(other.client_namespaces))
        if other.prevent_bypass and shared:
            yield case.problem(
                "direct_tls_blocked",
                "direct_tls",
                f"prevent_bypass of {other.where} closes the direct way out of {', '.join(shared)} for every service",
                "turn direct_tls off, or run those clients in a namespace without prevent_bypass",
            )


def _foreign_names(case: _Case) -> Iterator[Problem]:
    """Objects of the same name that another unit of ours made: an apply would take them over without a conflict."""
    for made in case.objects.values():
        owner = _owner(case.view.live.get(_key(made), made))
        if owner not in (None, case.one.owner):
            yield case.problem(
                "object_of_another",
                title(made),
                f"expected an object of this service, found one that belongs to {owner}",
                "choose another name for the service, or set objects",
            )


RULES: tuple[Callable[[_Case], Iterator[Problem]], ...] = (
    _first_hop,
    _mesh_route,
    _visibility,
    _listener,
    _gateway_service,
    _unused_tls_routes,
    _originating,
    _credential,
    _authorization,
    _files,
    _service_entry,
    _plaintext_endpoint,
    _resolution,
    _sidecars,
    _other_policies,
    _direct_tls_blocked,
    _foreign_names,
)
