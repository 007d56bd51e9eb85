# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is around an origination: the objects of others that open, close or take over what it makes."""

from __future__ import annotations

from collections.abc import Iterator

from ..problems import Problem
from .authorization import Request, Verdict, judge
from .choice import title
from .egress_view import Case, Manifest, clients_of, key_of, owner_of, pod_ports_of, workloads_of
from .mesh_namespace import INJECTION, REVISION, WAYPOINT, dataplane, is_discovered
from .sidecar_scope import Wanted, hidden, sidecars_for
from .workload import Workload


def other_policies(case: Case) -> Iterator[Problem]:
    one = case.one
    if not one.prevent_bypass:
        return
    for policy in case.view.snapshot.network_policies or ():
        spec = policy.get("spec") or {}
        if (
            policy["metadata"].get("namespace") not in one.client_namespaces
            or owner_of(policy)
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


def direct_tls_blocked(case: Case) -> Iterator[Problem]:
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


def foreign_names(case: Case) -> Iterator[Problem]:
    """Objects of the same name that another unit of ours made: an apply would take them over without a conflict."""
    for made in case.objects.values():
        owner = owner_of(case.view.live.get(key_of(made), made))
        if owner not in (None, case.one.owner):
            yield case.problem(
                "object_of_another",
                title(made),
                f"expected an object of this service, found one that belongs to {owner}",
                "choose another name for the service, or set objects",
            )


# --- what keeps clients or the gateway out of it


def hiding_sidecars(case: Case) -> Iterator[Problem]:
    """A Sidecar hides what its egress hosts do not admit, and with a Service its DestinationRules."""
    one, snapshot = case.one, case.view.snapshot
    home, route = one.objects["service_entry"].namespace, one.objects["virtual_service"].namespace
    service = Wanted(home, one.host, one.http_port)
    gateway = Wanted(one.gateway.namespace, one.gateway.host, one.gateway.port)
    for viewer in case.viewers:
        for sidecar in sidecars_for(snapshot.sidecars or (), viewer, snapshot.root_namespace):
            missing = hidden(sidecar, viewer, service, route, gateway)
            if not missing:
                continue
            entries = ", ".join(dict.fromkeys(f"{need.namespace}/{need.host}" for need in missing))
            some = "some of " if (sidecar.get("spec") or {}).get("workloadSelector") else ""
            yield case.problem(
                "sidecar_hides",
                f"Sidecar {sidecar['metadata'].get('namespace')}/{sidecar['metadata']['name']}",
                f"it hides {entries} from {some}{clients_of(viewer)}: {_past_the_gateway(sidecar, snapshot.mesh)}",
                f"add to its egress.hosts: {entries}",
                "warning",
            )


def _past_the_gateway(sidecar: Manifest, mesh: Manifest | None) -> str:
    policy = (sidecar.get("spec") or {}).get("outboundTrafficPolicy") or (mesh or {}).get("outboundTrafficPolicy") or {}
    if policy.get("mode") == "REGISTRY_ONLY":
        return "with REGISTRY_ONLY requests are refused (502)"
    return "requests do not reach the gateway, and may leave the cluster past it, unencrypted"


def clients_without_proxy(case: Case) -> Iterator[Problem]:
    """Without a sidecar nothing leads clients to the gateway."""
    one, snapshot = case.one, case.view.snapshot
    for client in one.client_namespaces:
        labels = snapshot.namespaces.get(client)
        if labels is None or client not in snapshot.injected or snapshot.injected[client]:
            continue
        kind = dataplane(labels)
        home = snapshot.namespaces.get(one.objects["service_entry"].namespace) or {}
        if kind == "ambient" and not any(place.get(WAYPOINT, "none") != "none" for place in (labels, home)):
            yield case.problem(
                "clients_without_waypoint",
                f"client_namespaces: {client}",
                f"namespace {client} is in ambient mode, and no waypoint stands before {one.host}: without one nothing applies the route, and "
                "requests go past the gateway, unencrypted",
                f"deploy a waypoint and label {one.objects['service_entry'].namespace} with {WAYPOINT}, or use sidecars in {client} "
                f"(label {INJECTION}=enabled)",
                "warning",
            )
        elif kind in ("none", "pods decide"):
            found = (
                f"its label {INJECTION}={labels[INJECTION]} forbids it"
                if kind == "none"
                else f"it has neither {INJECTION}=enabled nor {REVISION}"
            )
            yield case.problem(
                "clients_without_sidecar",
                f"client_namespaces: {client}",
                f"pods in {client} get no sidecar ({found}, and none of its pods has one): requests go past the gateway, unencrypted",
                f"label the namespace (kubectl label namespace {client} {INJECTION}=enabled --overwrite) and restart its pods",
                "warning",
            )


def refusing_policies(case: Case) -> Iterator[Problem]:
    for refusal in dict.fromkeys(refusal for verdict in verdicts(case) for refusal in verdict.refusals):
        who = clients_of(refusal.clients) if refusal.clients else "every client"
        yield case.problem(
            "authorization_refuses",
            ", ".join(refusal.policies),
            f"it applies to the gateway in {case.one.gateway.namespace} and {refusal.reason}: {who} will get 403 (RBAC: access denied)",
            f"allow {case.one.host} there with an AuthorizationPolicy, or give that one a selector that leaves the gateway out",
            "warning",
        )


def verdicts(case: Case) -> list[Verdict]:
    """What AuthorizationPolicies make of requests at each of the gateway's workloads."""
    one, snapshot = case.one, case.view.snapshot
    ports = pod_ports_of(case, one.gateway.port)
    hosts = () if one.protocol == "TCP" else (one.host,)
    request = Request(hosts, ports.pop() if len(ports) == 1 else None, one.client_namespaces or None)
    gateway = one.gateway
    workloads = workloads_of(case) or [Workload(gateway.namespace, gateway.service, "default", gateway.selector)]
    return [judge(snapshot.authorization_policies or (), workload, request, snapshot.root_namespace) for workload in workloads]


def undiscovered(case: Case) -> Iterator[Problem]:
    one, snapshot = case.one, case.view.snapshot
    places = (
        one.gateway.namespace,
        *(target.namespace for part, target in one.objects.items() if part != "network_policy"),
        *one.client_namespaces,
    )
    for place in dict.fromkeys(places):
        labels = snapshot.namespaces.get(place)
        if labels is not None and snapshot.mesh is not None and not is_discovered(labels, snapshot.mesh):
            yield case.problem(
                "namespace_not_discovered",
                f"namespace {place}",
                f"meshConfig.discoverySelectors leaves {place} out: istiod reads no object there, neither services nor rules nor Secrets",
                f"give {place} the labels that they ask for, or add it to discoverySelectors",
                "warning",
            )
