# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is around a way through an egress gateway: the objects of others that open, close or take over what it is made of. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..istio.authorization import Request, Verdict, judge
from ..istio.choice import title
from ..istio.mesh_namespace import INJECTION, REVISION, WAYPOINT, dataplane, is_discovered
from ..istio.sidecar_scope import Wanted, hidden, sidecars_for
from ..istio.waypoints import FROM_GATEWAYS, fault_of, goes_there_from_gateways, waypoint_of
from ..istio.workload import Workload
from ..objects.kinds import (
    API_GATEWAY,
    AUTHORIZATION_POLICY,
    NAMESPACE,
    NETWORK_POLICY,
    SERVICE_ENTRY,
    SIDECAR,
    Manifest,
    ref_of,
)
from ..objects.ownership import owner_of
from .egress_case import Case, clients_of, each_path, pod_ports_of, workloads_of
from .readings import spec_of
from .rule import Found, Rule


def other_policies(case: Case) -> Iterator[Found]:
    """What a NetworkPolicy of ours closes, another one may open: policies add up."""
    path = case.path
    for place in path.clients if path.prevent_bypass else () if path.asked else path.viewers:
        policies = [one for one in case.view.policies_in(place) if "Egress" in (spec_of(one).get("policyTypes") or ())]
        if not path.asked and not any(_closes(one) for one in policies):
            continue
        for policy in policies:
            if (owner_of(policy) and path.asked) or not spec_of(policy).get("egress") or (not path.asked and not _opens(policy)):
                continue
            yield case.found(
                "other_egress_policy",
                (ref_of(policy), "spec.egress", f"prevent_bypass in {place}"),
                f"{title(policy)} lets traffic out, too, and policies add up",
                "make sure that it does not let clients reach the external service",
                "warning",
            )


def _closes(policy: Manifest) -> bool:
    """Whether a policy lets traffic out to pods of chosen namespaces only, as one does that closes the way past an egress gateway."""
    rules = spec_of(policy).get("egress") or ()
    return not _opens(policy) and all(rule.get("to") for rule in rules)


def _opens(policy: Manifest) -> bool:
    """Whether a policy lets traffic out of the cluster, to any port that TLS or HTTP may use."""
    for rule in spec_of(policy).get("egress") or ():
        ports = {port.get("port") for port in rule.get("ports") or ()}
        if ports and ports <= {53, 5353, 8053, 15012, "dns", "dns-tcp"}:
            continue
        peers = rule.get("to") or ()
        if not peers or any((peer.get("ipBlock") or {}).get("cidr", "").endswith("/0") for peer in peers):
            return True
    return False


def bypass_open(case: Case) -> Iterator[Found]:
    """Nothing keeps clients from connecting to the service directly."""
    path = case.path
    if path.asked or case.view.is_registry_only:
        return
    places = [place for place in path.viewers if place and case.view.snapshot.knows(NETWORK_POLICY, place)]
    opened = [place for place in places if not any(_closes(one) for one in case.view.policies_in(place))]
    if opened:
        yield case.found(
            "bypass_possible",
            case.at("virtual_service"),
            f"no NetworkPolicy keeps pods in {', '.join(opened)} from connecting to {path.host} directly, past the egress gateway",
            "set prevent_bypass in meshops.istio.egress_mtls_origination, or add a NetworkPolicy that lets those pods out to the gateway only",
            cause=", ".join(opened),
        )


def direct_tls_blocked(case: Case) -> Iterator[Found]:
    path = case.path
    if not path.direct_tls:
        return
    for other in case.view.originations:
        shared = sorted(set(path.clients) & set(other.clients))
        if other.prevent_bypass and shared:
            yield case.found(
                "direct_tls_blocked",
                case.at("direct_virtual_service", "", "direct_tls"),
                f"prevent_bypass of {other.where} closes the direct way out of {', '.join(shared)} for every service",
                "turn direct_tls off, or run those clients in a namespace without prevent_bypass",
            )


def foreign_names(case: Case) -> Iterator[Found]:
    """Objects of the same name that another unit of ours made: an apply would take them over without a conflict."""
    before, now = case.view.before, case.view.snapshot
    for ref in sorted(case.path.refs) if before is not None and case.path.asked else ():
        owner, ours = owner_of(before.objects.get(ref) if before else None), owner_of(now.objects.get(ref))
        if owner not in (None, ours):
            yield case.found(
                "object_of_another",
                (ref, "metadata.labels", ""),
                f"expected an object of this service, found one that belongs to {owner}",
                "choose another name for the service, or set objects",
            )


# --- what keeps clients or the gateway out of it


def hiding_sidecars(case: Case) -> Iterator[Found]:
    """A Sidecar hides what its egress hosts do not admit, and with a Service its DestinationRules."""
    path, snapshot = case.path, case.view.snapshot
    service = Wanted(path.home, path.host, path.http_port)
    gateway = Wanted(path.gateway.namespace, path.gateway.host, path.gateway.port)
    for viewer in case.viewers:
        for sidecar in sidecars_for(snapshot.of(SIDECAR), viewer, snapshot.root_namespace):
            missing = hidden(sidecar, viewer, service, path.objects["virtual_service"].namespace, gateway)
            if not missing:
                continue
            entries = ", ".join(dict.fromkeys(f"{need.namespace}/{need.host}" for need in missing))
            some = "some of " if spec_of(sidecar).get("workloadSelector") else ""
            yield case.found(
                "sidecar_hides",
                (ref_of(sidecar), "spec.egress", ""),
                f"it hides {entries} from {some}{clients_of(viewer)}: {_past_the_gateway(sidecar, snapshot.mesh)}",
                f"add to its egress.hosts: {entries}",
                "warning",
            )


def _past_the_gateway(sidecar: Manifest, mesh: Mapping[str, Any] | None) -> str:
    policy = spec_of(sidecar).get("outboundTrafficPolicy") or (mesh or {}).get("outboundTrafficPolicy") or {}
    if policy.get("mode") == "REGISTRY_ONLY":
        return "with REGISTRY_ONLY requests are refused (502)"
    return "requests do not reach the gateway, and may leave the cluster past it, unencrypted"


def clients_without_proxy(case: Case) -> Iterator[Found]:
    """Without a sidecar nothing leads clients to the gateway."""
    path, view = case.path, case.view
    for client in path.clients if path.asked else [place for place in path.viewers if view.has_pods(place)]:
        labels = view.labels_of(client)
        if labels is None and path.asked and not path.prevent_bypass and view.snapshot.knows(NAMESPACE, "", client):
            yield case.found(  # with prevent_bypass an object is made there, and its absence is told as any other's
                "clients_without_sidecar",
                (NAMESPACE.ref("", client), "metadata.name", f"client_namespaces: {client}"),
                f"there is no namespace {client}, and so no client in it",
                f"correct the name, or make the namespace and label it (kubectl label namespace {client} {INJECTION}=enabled)",
                "warning",
            )
        if labels is None or view.has_proxies(client) is not False:
            continue
        kind = dataplane(labels)
        place = (NAMESPACE.ref("", client), "metadata.labels", f"client_namespaces: {client}")
        if kind == "ambient":
            yield from _without_waypoint(case, client)
        elif kind != "sidecar" or view.has_pods(client):
            yield case.found("clients_without_sidecar", place, *_without_sidecar(client, kind, labels), "warning")


def _without_sidecar(client: str, kind: str, labels: Mapping[str, str]) -> tuple[str, str]:
    """Why no pod of a namespace has one, and what to do."""
    label = f"label the namespace (kubectl label namespace {client} {INJECTION}=enabled --overwrite) and restart its pods"
    restart = f"restart the pods (kubectl rollout restart deployment -n {client})"
    if kind == "none":
        found, remedy = f"its label {INJECTION}={labels[INJECTION]} forbids it, and none of its pods has one", label
    elif kind == "pods decide":
        found, remedy = f"it has neither {INJECTION}=enabled nor {REVISION}, and none of its pods has one", label
    elif labels.get(INJECTION) == "enabled":
        found, remedy = f"it is labelled {INJECTION}=enabled, and yet none of its pods has one: they may be older than the label", restart
    else:
        revision = labels[REVISION]
        found = f"it is labelled {REVISION}={revision}, and yet none of its pods has one: no istiod may have that revision, or they are older than the label"
        remedy = f"look for the revision {revision} (istioctl tag list; kubectl get mutatingwebhookconfigurations), and {restart}"
    return f"pods in {client} have no sidecar ({found}): requests go past the gateway, unencrypted", remedy


def _service_entry(case: Case) -> tuple[str, dict[str, str], Mapping[str, str]]:
    """The ServiceEntry's namespace, its labels (those that somebody else gave it, too), and those of the namespace."""
    home, made = case.path.home, case.made("service_entry")
    before = case.view.before.objects.get(ref_of(made)) if made and case.view.before else None
    labels = {name: value for one in (before, made) if one for name, value in (one["metadata"].get("labels") or {}).items()}
    return home, labels, case.view.labels_of(home) or {}


def _without_waypoint(case: Case, client: str) -> Iterator[Found]:
    """In ambient mode only the waypoint of the ServiceEntry applies the route."""
    home, labels, of_namespace = _service_entry(case)
    chosen = waypoint_of(labels, home, of_namespace)
    snapshot = case.view.snapshot
    if chosen is None:
        found = f"neither the ServiceEntry nor its namespace {home} asks for one with the label {WAYPOINT}"
    elif snapshot.coverage(API_GATEWAY).everywhere and (fault := fault_of(chosen, home, of_namespace, snapshot.of(API_GATEWAY))):
        found = fault
    else:
        return
    yield case.found(
        "clients_without_waypoint",
        (NAMESPACE.ref("", client), "metadata.labels", f"client_namespaces: {client}"),
        f"namespace {client} is in ambient mode, and no waypoint stands before {case.path.host}: {found}. Without one nothing applies the route, "
        "and requests go past the gateway, unencrypted",
        f"deploy a waypoint (istioctl waypoint apply -n {home}) and name it in the label {WAYPOINT} of the ServiceEntry (option labels), or use "
        f"sidecars in {client} (label {INJECTION}=enabled)",
        "warning",
    )


def gateway_before_waypoint(case: Case) -> Iterator[Found]:
    """A gateway that sends through the service's waypoint, too, gets its own requests back."""
    home, labels, of_namespace = _service_entry(case)
    chosen = waypoint_of(labels, home, of_namespace)
    if chosen and goes_there_from_gateways(labels, of_namespace):
        yield case.found(
            "waypoint_loops",
            case.at("service_entry", "metadata.labels"),
            f"with {FROM_GATEWAYS}=true the egress gateway sends to the waypoint {'/'.join(chosen)}, which sends back to the gateway: requests never "
            "leave",
            f"set the label {FROM_GATEWAYS}=false on the ServiceEntry (labels)",
            "warning",
        )


def refusing_policies(case: Case) -> Iterator[Found]:
    named = {title(one): ref_of(one) for one in case.view.snapshot.of(AUTHORIZATION_POLICY)}
    for refusal in dict.fromkeys(refusal for verdict in verdicts(case) for refusal in verdict.refusals):
        who = clients_of(refusal.clients) if refusal.clients else "every client"
        yield case.found(
            "authorization_refuses",
            (named[refusal.policies[0]], "spec", ", ".join(refusal.policies)),
            f"it applies to the gateway in {case.path.gateway.namespace} and {refusal.reason}: {who} will get 403 (RBAC: access denied)",
            f"allow {case.path.host} there with an AuthorizationPolicy, or give that one a selector that leaves the gateway out",
            "warning",
        )


def verdicts(case: Case) -> list[Verdict]:
    """What AuthorizationPolicies make of requests at each of the gateway's workloads."""
    path, snapshot = case.path, case.view.snapshot
    policies = snapshot.of(AUTHORIZATION_POLICY)
    if not policies or path.server_mode != "ISTIO_MUTUAL":
        return []
    ports = pod_ports_of(case, path.gateway.port)
    hosts = () if path.is_tcp else (path.host,)
    request = Request(hosts, ports.pop() if len(ports) == 1 else None, tuple(one for one in path.viewers if one) or None)
    gateway = path.gateway
    workloads = workloads_of(case) or [Workload(gateway.namespace, gateway.service, "default", gateway.selector)]
    return [judge(policies, workload, request, snapshot.root_namespace) for workload in workloads]


def undiscovered(case: Case) -> Iterator[Found]:
    path, view = case.path, case.view
    mesh = view.snapshot.mesh
    places = (path.gateway.namespace, *(target.namespace for target in path.objects.values()), *path.clients)
    for place in dict.fromkeys(places) if mesh is not None else ():
        labels = view.labels_of(place)
        if labels is not None and not is_discovered(labels, mesh or {}):
            yield case.found(
                "namespace_not_discovered",
                (NAMESPACE.ref("", place), "metadata.labels", f"namespace {place}"),
                f"meshConfig.discoverySelectors leaves {place} out: istiod reads no object there, neither services nor rules nor Secrets",
                f"give {place} the labels that they ask for, or add it to discoverySelectors",
                "warning",
            )


_POLICIES, _DIRECT, _HIDING = each_path(other_policies), each_path(direct_tls_blocked), each_path(hiding_sidecars)
_CLIENTS, _BYPASS, _LOOP = each_path(clients_without_proxy), each_path(bypass_open), each_path(gateway_before_waypoint)
REFUSING, UNDISCOVERED = each_path(refusing_policies), each_path(undiscovered)

RULES = (
    Rule(
        "MIT0541",
        "other_egress_policy",
        "warning",
        "A NetworkPolicy opens what another one closes",
        "NetworkPolicies add up. Clients may reach the external service directly, past the egress gateway.",
        "Narrow the policy, so that it lets clients out to the gateway only.",
        _POLICIES,
        (NETWORK_POLICY,),
    ),
    Rule(
        "MIT0542",
        "bypass_possible",
        "hint",
        "Nothing keeps clients from going past the egress gateway",
        "A route leads requests to the gateway; it does not keep pods from connecting to the service themselves.",
        "Add NetworkPolicies that let the clients out to the gateway only (prevent_bypass does).",
        _BYPASS,
        (NETWORK_POLICY,),
    ),
    Rule(
        "MIT0543",
        "direct_tls_blocked",
        "error",
        "The direct way is closed for a service that needs it",
        "prevent_bypass of one service closes the direct way out of a namespace for every service.",
        "Turn direct_tls off, or run those clients in another namespace.",
        _DIRECT,
    ),
    Rule(
        "MIT0547",
        "object_of_another",
        "error",
        "An object belongs to another unit of this collection",
        "An apply would take it over without a conflict, because both are of one field manager.",
        "Choose another name for the service, or set objects.",
        each_path(foreign_names),
    ),
    Rule(
        "MIT0544",
        "sidecar_hides",
        "warning",
        "A Sidecar hides the service or the egress gateway from clients",
        "Proxies know only what the `egress.hosts` of their Sidecar admit. Requests do not reach the gateway, and may leave the cluster "
        "unencrypted, or get 502.",
        "Add the hosts to the Sidecar's egress.hosts.",
        _HIDING,
        (SIDECAR,),
    ),
    Rule(
        "MIT0545",
        "clients_without_sidecar",
        "warning",
        "Clients have no sidecar",
        "Without a proxy nothing leads their requests to the gateway: they go past it, unencrypted.",
        "Label the namespace for injection and restart its pods.",
        _CLIENTS,
        (NAMESPACE,),
    ),
    Rule(
        "MIT0546",
        "clients_without_waypoint",
        "warning",
        "Clients in ambient mode have no waypoint",
        "Without a waypoint nothing applies the route: requests go past the gateway, unencrypted.",
        "Deploy a waypoint and name it in the label istio.io/use-waypoint of the ServiceEntry, or use sidecars.",
        _CLIENTS,
        (NAMESPACE,),
    ),
    Rule(
        "MIT0548",
        "waypoint_loops",
        "warning",
        "The egress gateway sends through the service's waypoint",
        "The waypoint applies the route, too, and sends back to the gateway: requests never leave.",
        "Set the label istio.io/ingress-use-waypoint=false on the ServiceEntry.",
        _LOOP,
        (SERVICE_ENTRY,),
    ),
)
