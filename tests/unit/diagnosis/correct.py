# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Correct sets, which have no finding, and what faults are made of them with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.istio import egress_arguments, egress_objects, ingress, ingress_arguments
from ansible_collections.meshops.istio.tests.unit.diagnosis.documented import API_EGRESS, EGRESS_FILES, EGRESS_MUTUAL, HELM, TWO_HOSTS
from ansible_collections.meshops.istio.tests.unit.diagnosis.sets import (
    BASE,
    EGRESS,
    EGRESS_HTTP,
    EGRESS_PASSTHROUGH,
    EGRESS_SIMPLE,
    GATEWAY_API,
    INGRESS,
    LISTENER_SET,
    SIDECAR_ORIGINATION,
    Manifest,
    authority,
    changed,
    client_pair,
    issued,
    objects,
    pair,
    pki,
    secret,
)
from ansible_collections.meshops.istio.tests.unit.tls.tls_pki import key_pem


def base(*texts: str) -> list[Manifest]:
    return objects(BASE, *texts)


RULE = {"kind": "DestinationRule", "name": "originate-mtls-for-nginx"}
CHAIN = pki().issue("Intermediate", authority(), ca=True)
LEAF = issued("httpbin.example.com", issuer=CHAIN)
SERVER = pair("httpbin-credential", "httpbin.example.com")
MUTUAL = {"spec__servers__0__tls": {"mode": "MUTUAL", "credentialName": "httpbin-credential"}}
INGRESS_SET = (*base(INGRESS), SERVER)
MUTUAL_SET = [
    *changed(base(INGRESS), "Gateway", "mygateway", **MUTUAL),
    pair("httpbin-credential", "httpbin.example.com", ca_crt=authority("Clients").pem),
]
EGRESS_SET = [*base(EGRESS), client_pair()]
CERT_MANAGER = {
    "cert-manager.io/certificate-name": "httpbin",
    "cert-manager.io/issuer-name": "ca",
    "cert-manager.io/issuer-kind": "ClusterIssuer",
}
ISSUING = "cert-manager-certificates-issuing"
ISSUED = {"annotations": CERT_MANAGER, "managers": {ISSUING: ("tls.crt", "tls.key", "ca.crt")}}
"""Of a Secret that cert-manager keeps as a whole."""
ISSUED_BY_ACME = {"annotations": CERT_MANAGER, "managers": {ISSUING: ("tls.crt", "tls.key")}}
PATCHED = {"annotations": CERT_MANAGER, "managers": {ISSUING: ("tls.crt", "tls.key"), "kubectl-patch": ("ca.crt",)}}
API_SET = (
    *base(GATEWAY_API),
    pair("api-credential", "api.example.com", namespace="istio-ingress"),
    *objects("{kind: Namespace, metadata: {name: istio-ingress}}"),
)


def ours() -> list[Manifest]:
    (service,) = egress_arguments.from_arguments({"name": "nginx", "host": "nginx.example.net", "credential_name": "client-credential"})
    server = {
        "hosts": ["httpbin.example.com"],
        "credential_name": "httpbin-credential",
        "http_redirect": True,
        "routes": [{"destination": {"host": "httpbin", "port": 8000}}],
    }
    gateway = ingress_arguments.from_arguments({"name": "shop", "namespace": "default", "servers": [server]})
    return [*base(), *egress_objects.manifests(service), *ingress.manifests(gateway), SERVER, client_pair()]


def with_mounts(items: Iterable[Manifest]) -> list[Manifest]:
    """The certificates of the page mounted at the egress gateway and in the client."""
    mounts = [{"mountPath": "/etc/nginx-client-certs"}, {"mountPath": "/etc/nginx-ca-certs"}]
    gateway = changed(items, "Pod", "egress-0", spec__containers__0__volumeMounts=mounts)
    return changed(gateway, "Pod", "sleep", spec__containers=[{"name": "sleep"}, {"name": "istio-proxy", "volumeMounts": mounts}])


CORRECT: dict[str, list[Manifest]] = {
    "nothing": base(),
    "ingress": [*INGRESS_SET],
    "ingress, mutual": MUTUAL_SET,
    "ingress, CA of its own": [
        *changed(base(INGRESS), "Gateway", "mygateway", **MUTUAL),
        pair("httpbin-credential", "httpbin.example.com", **ISSUED, ca_crt=authority().pem),
        secret("httpbin-credential-cacert", cacert=authority("Clients").pem),
    ],
    "ingress, certificate of a private CA without its chain": [
        *base(INGRESS),
        secret("httpbin-credential", tls_crt=LEAF.pem, tls_key=key_pem(LEAF.key), ca_crt=authority().pem),
    ],
    "Istio's page: ingress for two hosts": [
        *base(TWO_HOSTS),
        SERVER,
        pair("helloworld-credential", "helloworld-v1.example.com"),
    ],
    "Istio's page: egress with mutual TLS": [*base(EGRESS_MUTUAL), client_pair()],
    "Istio's page: egress with mutual TLS, files": with_mounts(base(EGRESS_FILES)),
    "Istio's page: egress gateway of the Gateway API": base(API_EGRESS),
    "originating rule beside the clients": changed(EGRESS_SET, **RULE, metadata__namespace="default"),
    "Sidecar that admits the route": [
        *EGRESS_SET,
        *objects("{kind: Sidecar, metadata: {name: default, namespace: default}, spec: {egress: [{hosts: ['./*']}]}}"),
    ],
    "Helm's gateway": [*base(HELM), pair("httpbin-credential", "httpbin.example.com", namespace="istio-ingress")],
    "cert-manager, ACME": [
        *base(INGRESS),
        secret("httpbin-credential", **ISSUED_BY_ACME, tls_crt=LEAF.pem + CHAIN.pem, tls_key=key_pem(LEAF.key)),
    ],
    "cert-manager": [*base(INGRESS), pair("httpbin-credential", "httpbin.example.com", **ISSUED, ca_crt=authority().pem)],
    "egress, mutual": EGRESS_SET,
    "egress, simple": base(EGRESS_SIMPLE),
    "egress, plain HTTP": base(EGRESS_HTTP),
    "egress, passthrough": base(EGRESS_PASSTHROUGH),
    "sidecars originate": base(SIDECAR_ORIGINATION),
    "what the modules make": ours(),
    "Gateway API": [*API_SET],
    "Gateway API: a ListenerSet that its Gateway takes": [
        *changed(API_SET, "Gateway", "gateway", spec__allowedListeners={"namespaces": {"from": "Same"}}),
        *objects(LISTENER_SET),
    ],
}


def second(**fields: Any) -> list[Manifest]:
    """A younger Gateway for the same host."""
    made = objects(INGRESS)[0]
    made["metadata"] = {"name": "second", "namespace": "default", "creationTimestamp": "2026-02-01T00:00:00Z"}
    return changed([made], "Gateway", "second", **fields)


def egress(kind: str, name: str, **fields: Any) -> list[Manifest]:
    return changed(EGRESS_SET, kind, name, **fields)


def replaced(items: Iterable[Manifest], *new: Manifest) -> list[Manifest]:
    names = {(one["kind"], one["metadata"]["name"]) for one in new}
    return [*(one for one in items if (one["kind"], one["metadata"]["name"]) not in names), *new]


TLS = "spec__trafficPolicy__portLevelSettings__0__tls"
ROUTE = {"kind": "VirtualService", "name": "direct-nginx-through-egress-gateway"}
CREDENTIAL = "httpbin-credential"
CLIENT_FILES = {
    "mode": "MUTUAL",
    "clientCertificate": "/etc/egress/c",
    "privateKey": "/etc/egress/k",
    "caCertificates": "/etc/egress/ca",
    "sni": "nginx.example.net",
    "subjectAltNames": ["nginx.example.net"],
}
"""What RULE has where the client certificate is mounted at the egress gateway."""
