# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps requests from a gateway's servers: AuthorizationPolicies, and namespaces that istiod does not read. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ..istio.authorization import Refusal, Request, judge
from ..istio.choice import title
from ..istio.listeners import Listener
from ..istio.mesh_namespace import is_discovered
from ..objects.kinds import AUTHORIZATION_POLICY, GATEWAY, NAMESPACE, POD, ref_of
from .readings import spec_of
from .rule import Found, Rule
from .view import MeshView


def refusals(view: MeshView) -> Iterator[Found]:
    """Policies that refuse whatever clients from outside the mesh ask a server for; each with the first server that it refuses."""
    policies = view.snapshot.of(AUTHORIZATION_POLICY)
    named = {title(one): ref_of(one) for one in policies}
    found: dict[Refusal, Listener] = {}
    for one in view.listeners if policies else ():
        if not one.is_tls or one.mode == "ISTIO_MUTUAL":
            continue
        hosts = one.names if one.route_kind == "http" else ()
        for workload in view.selected(one.selector):
            port = view.pod_port(one.number, workload)
            for refusal in judge(policies, workload, Request(hosts, port, in_mesh=False), view.snapshot.root_namespace).refusals:
                found.setdefault(refusal, one)
    for refusal, one in found.items():
        yield Found(
            "authorization_refuses",
            named[refusal.policies[0]],
            "spec",
            f"{', '.join(refusal.policies)} applies to the gateway's workloads and {refusal.reason}: every client will get 403 (RBAC: access "
            "denied)",
            "allow the server's hosts there with an AuthorizationPolicy, or give that one a selector that leaves the gateway out",
            others=(one.gateway,),
            other_field=one.field,
        )


def undiscovered(view: MeshView) -> Iterator[Found]:
    mesh = view.snapshot.mesh or {}
    if not mesh.get("discoverySelectors"):
        return
    for gateway in view.gateways:
        for place in dict.fromkeys((gateway["metadata"].get("namespace", ""), *view.home_of(spec_of(gateway).get("selector") or {}))):
            labels = view.labels_of(place)
            if labels is not None and not is_discovered(labels, mesh):
                yield Found(
                    "namespace_not_discovered",
                    NAMESPACE.ref("", place),
                    "metadata.labels",
                    f"meshConfig.discoverySelectors leaves {place} out: istiod reads no object there, neither Gateways and routes nor Secrets",
                    f"give {place} the labels that they ask for, or add it to discoverySelectors",
                    others=(ref_of(gateway),),
                    cause=place,
                )


RULES = (
    Rule(
        "MIT0701",
        "authorization_refuses",
        "warning",
        "An AuthorizationPolicy refuses every request",
        "A DENY rule that matches refuses, and where a workload has ALLOW policies one of their rules must match. The gateway answers 403 (RBAC: "
        "access denied).",
        "Allow the hosts with an AuthorizationPolicy, or give the policy a selector that leaves the gateway out.",
        refusals,
        (AUTHORIZATION_POLICY, GATEWAY, POD),
    ),
    Rule(
        "MIT0702",
        "namespace_not_discovered",
        "warning",
        "discoverySelectors leave a namespace out",
        "istiod reads no object of the namespace: no Gateways, routes, services or Secrets.",
        "Give the namespace the labels that meshConfig.discoverySelectors ask for.",
        undiscovered,
        (NAMESPACE,),
    ),
)
