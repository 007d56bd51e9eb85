# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on the way through an egress gateway, each with the codes of the findings that are expected: those and no others."""

from __future__ import annotations

from ansible_collections.meshops.istio.tests.unit.diagnosis.correct import CLIENT_FILES, EGRESS_SET, ROUTE, RULE, TLS, base, egress
from ansible_collections.meshops.istio.tests.unit.diagnosis.sets import (
    EGRESS_PASSTHROUGH,
    Manifest,
    changed,
    objects,
    without,
)

FIRST_HOP = {"kind": "DestinationRule", "name": "egressgateway-for-nginx"}
SUBSET = "spec__subsets__0"
SERVICE = {"kind": "Service", "name": "istio-egressgateway"}
ENTRY = {"kind": "ServiceEntry", "name": "nginx"}
OLD, YOUNG = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def beside(text: str, *, of: dict[str, str] | None = None, set_: list[Manifest] | None = None) -> list[Manifest]:
    """A set and another object, which is older than the one it takes the place of."""
    set_ = EGRESS_SET if set_ is None else set_
    aged = changed(set_, of["kind"], of["name"], metadata__creationTimestamp=YOUNG) if of else set_
    others = [{**one, "metadata": {**one["metadata"], **({"creationTimestamp": OLD} if of else {})}} for one in objects(text)]
    return [*aged, *others]


ELSEWHERE = objects("{kind: Namespace, metadata: {name: elsewhere, labels: {istio-injection: enabled}}}")
EGRESS_FAULTS: dict[str, tuple[list[Manifest], list[str]]] = {
    "37 subset of another name": (egress(**FIRST_HOP, **{f"{SUBSET}__name": "other"}), ["subset_missing"]),
    "first_hop_rule_shadowed": (
        [
            *egress(**FIRST_HOP, metadata__namespace="istio-system"),
            *objects(
                "{kind: DestinationRule, metadata: {name: for-us, namespace: default}, spec: {host: istio-egressgateway.istio-system.svc.cluster.local, "
                "trafficPolicy: {loadBalancer: {simple: RANDOM}}}}"
            ),
        ],
        ["first_hop_rule_shadowed"],
    ),
    "first_hop_rule_invisible": ([*egress(**FIRST_HOP, metadata__namespace="elsewhere"), *ELSEWHERE], ["first_hop_rule_invisible"]),
    "subset_taken": (
        beside(
            "{kind: DestinationRule, metadata: {name: before, namespace: default}, spec: {host: "
            "istio-egressgateway.istio-system.svc.cluster.local, subsets: [{name: nginx}]}}",
            of=FIRST_HOP,
        ),
        ["subset_taken"],
    ),
    "36 plain text to the gateway": (
        egress(**FIRST_HOP, **{f"{SUBSET}__trafficPolicy__portLevelSettings__0__tls": {"mode": "DISABLE"}}),
        ["first_hop_not_mutual"],
    ),
    "route_taken": (
        beside(
            "{kind: VirtualService, metadata: {name: before, namespace: default}, spec: {hosts: [nginx.example.net], http: [{route: [{destination: "
            "{host: nginx.example.net, port: {number: 80}}}]}]}}",
            of=ROUTE,
        ),
        ["route_taken"],
    ),
    "not_shown": (egress(**ENTRY, spec__exportTo=["elsewhere"]), ["not_shown"]),
    "no_gateway_workload": (without(EGRESS_SET, "Pod", "egress-0"), ["no_gateway_workload"]),
    "gateway_service_missing": (without(EGRESS_SET, **SERVICE), ["gateway_service_missing"]),
    "service_selects_others": (egress(**SERVICE, spec__selector={"istio": "ingressgateway"}), ["service_selects_others"]),
    "gateway_port_missing": (egress(**SERVICE, spec__ports=[{"port": 80, "targetPort": 8080}]), ["gateway_port_missing"]),
    "33 older rule without TLS": (
        beside(
            "{kind: DestinationRule, metadata: {name: before, namespace: istio-system}, spec: {host: nginx.example.net, trafficPolicy: {tls: {mode: "
            "DISABLE}}}}",
            of=RULE,
        ),
        ["originating_rule_overridden"],
    ),
    "port_protocol_conflict": (
        beside(
            "{kind: ServiceEntry, metadata: {name: other, namespace: elsewhere}, spec: {hosts: [nginx.example.net], resolution: DNS, ports: "
            "[{number: 80, name: tls, protocol: TLS}]}}"
        ),
        ["port_protocol_conflict"],
    ),
    "host_declared_twice": (
        beside(
            "{kind: ServiceEntry, metadata: {name: other, namespace: elsewhere}, spec: {hosts: [nginx.example.net], resolution: DNS, ports: "
            "[{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS}]}}"
        ),
        ["host_declared_twice"],
    ),
    "no_endpoints_at_gateway": (egress(**ENTRY, spec__resolution="NONE"), ["no_endpoints_at_gateway"]),
    "sidecar_hides": (
        beside("{kind: Sidecar, metadata: {name: default, namespace: default}, spec: {egress: [{hosts: ['elsewhere/*']}]}}"),
        ["sidecar_hides"],
    ),
    "37 Sidecar without the egress gateway, passed through": (
        beside(
            "{kind: Sidecar, metadata: {name: default, namespace: default}, spec: {egress: [{hosts: ['elsewhere/*']}]}}",
            set_=base(EGRESS_PASSTHROUGH),
        ),
        ["sidecar_hides"],
    ),
    "authorization at the egress gateway": (
        beside(
            "{kind: AuthorizationPolicy, metadata: {name: nobody, namespace: istio-system}, spec: {selector: {matchLabels: {istio: egressgateway}}}}"
        ),
        ["authorization_refuses"],
    ),
    "10 client certificate from a file that never follows": (
        changed(
            egress(**RULE, spec__exportTo=["."], **{TLS: CLIENT_FILES}),
            "Pod",
            "egress-0",
            spec__containers__0__volumeMounts__0={"mountPath": "/etc/egress", "subPath": "x"},
        ),
        ["file_never_refreshed"] * 3,
    ),
    "30 mount missing at the egress gateway": (
        egress(
            **RULE,
            spec__exportTo=["."],
            **{
                TLS: {
                    **CLIENT_FILES,
                    "clientCertificate": "/etc/nginx-client-certs/tls.crt",
                    "privateKey": "/etc/nginx-client-certs/tls.key",
                    "caCertificates": "/etc/nginx-ca-certs/ca.crt",
                }
            },
        ),
        ["file_not_mounted"] * 3,
    ),
    "42 no check of the name, and every public CA": (
        egress(**RULE, spec__exportTo=["."], **{TLS: {"mode": "SIMPLE", "sni": "nginx.example.net"}}),
        ["no_host_check"],
    ),
    "32 TLS origination to port 80": (
        changed(
            egress(**ROUTE, spec__http__1__route__0__destination__port__number=80),
            RULE["kind"],
            RULE["name"],
            spec__trafficPolicy__portLevelSettings__0__port__number=80,
        ),
        ["tls_to_plaintext_port"],
    ),
}
