# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Further faults in correct sets, each with the codes of the findings that are expected: those and no others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.meshops.istio.tests.unit.diagnosis.correct import (
    CREDENTIAL,
    EGRESS_SET,
    INGRESS_SET,
    MUTUAL_SET,
    RULE,
    TLS,
    base,
    egress,
    replaced,
    second,
)
from ansible_collections.meshops.istio.tests.unit.diagnosis.sets import (
    EGRESS,
    INGRESS,
    Manifest,
    authority,
    changed,
    client_pair,
    issued,
    objects,
    pair,
    secret,
    without,
)


def served(items: Iterable[Manifest] = INGRESS_SET, **fields: Any) -> list[Manifest]:
    """The ingress set, or another, with its server changed."""
    return changed(items, "Gateway", "mygateway", **{f"spec__servers__0__{name}": value for name, value in fields.items()})


def beside_its_pods(items: Iterable[Manifest], **fields: Any) -> list[Manifest]:
    """A set with its Gateway in the namespace of the pods, and its server changed."""
    home = changed(items, "Gateway", "mygateway", metadata__namespace="istio-system")
    return served(changed(home, "VirtualService", "httpbin", spec__gateways=["istio-system/mygateway"]), **fields)


HTTP = {"spec__servers": [{"port": {"number": 443, "name": "http", "protocol": "HTTP"}, "hosts": ["other.example.com"]}]}
OLDEST = {"metadata__creationTimestamp": "2020-01-01T00:00:00Z"}
PLAIN_ROUTE = {"spec__http__0__route__0__destination": {"host": "nowhere", "port": {"number": 8000}}}
TLS_ROUTE = {
    "spec__http": None,
    "spec__tls": [
        {"match": [{"sniHosts": ["httpbin.example.com"]}], "route": [{"destination": {"host": "httpbin", "port": {"number": 8000}}}]}
    ],
}
SPKI = "x" * 43
FILES = {"mode": "MUTUAL", "serverCertificate": "/etc/ingress/c", "privateKey": "/etc/ingress/k", "caCertificates": "/etc/ingress/ca"}

MORE: dict[str, tuple[list[Manifest], list[str]]] = {
    "2 DestinationRule's credential with a namespace": (
        [
            *changed(without(EGRESS_SET, "Secret", "client-credential"), **RULE, **{f"{TLS}__credentialName": "default/client-credential"}),
            client_pair(namespace="default"),
        ],
        ["credential_in_other_namespace"],
    ),
    "3 egress gateway without rights": (without(EGRESS_SET, "RoleBinding", "gateways"), ["gateway_may_not_list_secrets"]),
    "4 -cacert without a CA, for origination": ([*EGRESS_SET, secret("client-credential-cacert", x=b"x")], ["credential_without_ca"]),
    "13 expired client certificate": (replaced(EGRESS_SET, client_pair(days=(-90, -1))), ["expired"]),
    "17 small key": (replaced(INGRESS_SET, pair(CREDENTIAL, "httpbin.example.com", key="RSA 1024")), ["key_unsupported"]),
    "18 missing client credential": (base(EGRESS), ["credential_missing"]),
    "31 credentialName for a Service of the mesh": (
        [
            *base(),
            *objects(
                "{kind: DestinationRule, metadata: {name: httpbin, namespace: default}, spec: {host: httpbin, trafficPolicy: {tls: {mode: SIMPLE, "
                "credentialName: ca}}}}"
            ),
        ],
        ["sidecars_send_plaintext"],
    ),
    "32 TLS to a Service's port for HTTP": (
        [
            *changed(base(), "Service", "httpbin", spec__ports__0__name="http"),
            *objects(
                "{kind: DestinationRule, metadata: {name: httpbin, namespace: default}, spec: {host: httpbin, trafficPolicy: {tls: {mode: SIMPLE}}}}"
            ),
        ],
        ["tls_to_plaintext_port"],
    ),
    "32 TLS passed on to a port for HTTP": (
        changed(
            changed(
                changed(base(INGRESS), "Service", "httpbin", spec__ports__0__name="http"),
                "Gateway",
                "mygateway",
                spec__servers__0__tls={"mode": "PASSTHROUGH"},
            ),
            "VirtualService",
            "httpbin",
            **TLS_ROUTE,
        ),
        ["tls_to_plaintext_port"],
    ),
    "35 tls routes on SIMPLE": (
        changed(INGRESS_SET, "VirtualService", "httpbin", **TLS_ROUTE),
        ["tls_routes_on_terminating_server"],
    ),
    "36 no SNI for the first hop": (
        egress("DestinationRule", "egressgateway-for-nginx", spec__subsets__0__trafficPolicy__portLevelSettings__0__tls__sni=None),
        ["first_hop_sni"],
    ),
    "host_not_served": (changed(INGRESS_SET, "VirtualService", "httpbin", spec__hosts=["other.example.com"]), ["host_not_served"]),
    "host_not_served, of another namespace": (served(hosts=["team/httpbin.example.com"]), ["host_not_served"]),
    "clients without a sidecar": (
        changed(changed(EGRESS_SET, "Pod", "sleep", spec__containers=[{"name": "sleep"}]), "Namespace", "default", metadata__labels={}),
        ["clients_without_sidecar"],
    ),
    "clients without a sidecar, whose revision nobody has": (
        changed(
            changed(EGRESS_SET, "Pod", "sleep", spec__containers=[{"name": "sleep"}]),
            "Namespace",
            "default",
            metadata__labels={"istio.io/rev": "1-99"},
        ),
        ["clients_without_sidecar"],
    ),
    "malformed_object": (changed(INGRESS_SET, "VirtualService", "httpbin", spec__exportTo="*"), ["malformed_object"]),
    # what the list of failure modes does not have; by the code that is expected
    "port_conflict": ([*INGRESS_SET, *second(**HTTP, **OLDEST)], ["port_conflict"]),
    "port_conflict on another port's pod port": (
        [*served(port={"number": 8443, "name": "x", "protocol": "HTTPS"}), *second(**HTTP, **OLDEST)],
        ["port_conflict"],
    ),
    "plain text that comes later than TLS": ([*INGRESS_SET, *second(**HTTP)], []),
    "plain text beside TLS for every host": ([*served(hosts=["*"]), *second(**HTTP)], ["port_conflict"]),
    "duplicate_host": (
        changed(
            INGRESS_SET,
            "Gateway",
            "mygateway",
            spec__servers=[
                {
                    "port": {"number": 443, "name": name, "protocol": "HTTPS"},
                    "tls": {"mode": "SIMPLE", "credentialName": "httpbin-credential"},
                    "hosts": ["httpbin.example.com"],
                }
                for name in ("a", "b")
            ],
        ),
        ["duplicate_host"],
    ),
    "no_workloads": (changed(INGRESS_SET, "Gateway", "mygateway", spec__selector={"istio": "nothing"}), ["no_workloads"]),
    "credential_without_pair": (
        replaced(INGRESS_SET, secret(CREDENTIAL, tls_crt=issued("httpbin.example.com").pem)),
        ["credential_without_pair"],
    ),
    "credential_name": (served(tls__credentialName="vault://x"), ["credential_name"]),
    "credential_never_valid": (served(tls__credentialName="invalid://"), ["credential_never_valid"]),
    "reference_not_granted": (
        [
            *beside_its_pods(INGRESS_SET, tls__credentialName="kubernetes-gateway://default/httpbin-credential"),
            pair(CREDENTIAL, "httpbin.example.com", namespace="default"),
        ],
        ["reference_not_granted"],
    ),
    "ca_not_served": (
        beside_its_pods(
            MUTUAL_SET,
            tls={"mode": "OPTIONAL_MUTUAL", "credentialName": "kubernetes-gateway://istio-system/httpbin-credential"},
        ),
        ["ca_not_served"],
    ),
    "destination_missing": (changed(INGRESS_SET, "VirtualService", "httpbin", **PLAIN_ROUTE), ["destination_missing"]),
    "destination_port": (
        changed(INGRESS_SET, "VirtualService", "httpbin", spec__http__0__route__0__destination__port__number=80),
        ["destination_port"],
    ),
    "gateway_not_found": (changed(INGRESS_SET, "VirtualService", "httpbin", spec__gateways=["other"]), ["gateway_not_found"]),
    "authorization_refuses": (
        [*INGRESS_SET, *objects("{kind: AuthorizationPolicy, metadata: {name: nothing, namespace: istio-system}, spec: {}}")],
        ["authorization_refuses"],
    ),
    "credential_ca_only": (
        [*served(tls__credentialName="a-cacert"), secret("a-cacert", cacert=authority().pem)],
        ["credential_without_pair", "credential_ca_only"],
    ),
    "ca_credential_not_ca_only": (
        changed(MUTUAL_SET, "Gateway", "mygateway", spec__servers__0__tls__caCertCredentialName="httpbin-credential"),
        ["ca_credential_not_ca_only"],
    ),
    "ca_credential_with_files": (
        [*served(tls={**FILES, "caCertCredentialName": "a-cacert"}), secret("a-cacert", cacert=authority().pem)],
        ["ca_credential_with_files"],
    ),
    "protocol_versions": (
        served(tls__minProtocolVersion="TLSV1_3", tls__maxProtocolVersion="TLSV1_2"),
        ["protocol_versions"],
    ),
    "certificate_digest": (
        changed(MUTUAL_SET, "Gateway", "mygateway", spec__servers__0__tls__verifyCertificateSpki=["sha256/x"]),
        ["certificate_digest"],
    ),
    "client_checks_without_clients": (served(tls__subjectAltNames=["client"]), ["client_checks_without_clients"]),
    "digests_without_credential": (served(tls={**FILES, "verifyCertificateSpki": [f"{SPKI}="]}), ["digests_without_credential"]),
    "protocol_settings_unused": (
        changed(
            without(base(INGRESS), "VirtualService", "httpbin"),
            "Gateway",
            "mygateway",
            spec__servers__0__tls={"mode": "PASSTHROUGH", "minProtocolVersion": "TLSV1_2"},
        ),
        ["protocol_settings_unused"],
    ),
    "host_is_address": (
        replaced(
            served(hosts=["192.0.2.1"]),
            pair(CREDENTIAL, "x", dns=(), ip=("192.0.2.1",)),
            *changed(INGRESS_SET, "VirtualService", "httpbin", spec__hosts=["192.0.2.1"])[-2:-1],
        ),
        ["host_is_address"],
    ),
    "what the webhook refuses": (served(port={"number": 443, "name": "https", "protocol": "SPDY"}), ["port_protocol"]),
    "origination that the gateway does not see": (
        egress(**RULE, metadata__namespace="elsewhere"),
        ["originating_rule_invisible"],
    ),
    "plain text to a TLS port": (without(EGRESS_SET, "DestinationRule", RULE["name"]), ["no_origination"]),
}
