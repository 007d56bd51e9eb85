# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the Kubernetes Gateway API on Istio, each with the codes of the findings that are expected: those and no others."""

from __future__ import annotations

from typing import Any

from ansible_collections.meshops.istio.tests.unit.diagnosis.correct import API_SET, replaced
from ansible_collections.meshops.istio.tests.unit.diagnosis.sets import (
    LISTENER_SET,
    Manifest,
    authority,
    changed,
    issued,
    objects,
    pair,
    secret,
    without,
)
from ansible_collections.meshops.istio.tests.unit.tls.tls_pki import key_pem

HOME = "istio-ingress"
NAME = "api-credential"
TLS = "spec__listeners__0__tls"
REFS = f"{TLS}__certificateRefs"
MODE = "gateway.istio.io/tls-terminate-mode"


def listener(**fields: Any) -> list[Manifest]:
    return changed(API_SET, "Gateway", "gateway", **fields)


def frontend(*refs: dict[str, str], mode: str = "AllowValidOnly", per_port: bool = False) -> list[Manifest]:
    validation = {"validation": {"caCertificateRefs": [{"group": "", **ref} for ref in refs], "mode": mode}}
    default = {"default": validation} if not per_port else {"default": {"validation": {"caCertificateRefs": [CA_REF]}}}
    ports = {"perPort": [{"port": 443, "tls": validation}]} if per_port else {}
    return listener(spec__tls={"frontend": {**default, **ports}})


CA_REF = {"group": "", "kind": "ConfigMap", "name": "ca"}
CA_MAP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "ca", "namespace": HOME},
    "data": {"ca.crt": authority("Clients").pem.decode()},
}
OTHER_CA = {**CA_MAP, "metadata": {"name": "other", "namespace": HOME}}


def backend_policy(authority: str = "wellKnownCACertificates: System") -> list[Manifest]:
    names = "" if authority.startswith("well") else ", subjectAltNames: [{type: Hostname, hostname: a.example.net}]"
    return objects(
        "{kind: BackendTLSPolicy, metadata: {name: b, namespace: default}, spec: {targetRefs: [{group: '', kind: Service, name: httpbin}], validation: "
        f"{{hostname: a.example.net, {authority}{names}}}}}}}"
    )


def listener_set(
    name: str, namespace: str = HOME, listener: dict[str, Any] | None = None, parent: dict[str, Any] | None = None
) -> Manifest:
    """One whose Gateway is that of API_SET."""
    (made,) = objects(LISTENER_SET)
    listeners = [{**made["spec"]["listeners"][0], **(listener or {})}]
    return {
        **made,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"parentRef": parent or made["spec"]["parentRef"], "listeners": listeners},
    }


OPEN = changed(API_SET, "Gateway", "gateway", spec__allowedListeners={"namespaces": {"from": "Same"}})
GATEWAY_API_FAULTS: dict[str, tuple[list[Manifest], list[str]]] = {
    "Gateway API: key of another certificate": (
        replaced(API_SET, secret(NAME, HOME, tls_crt=issued("api.example.com").pem, tls_key=key_pem(issued("other").key))),
        ["key_mismatch"],
    ),
    "Gateway API: expired": (replaced(API_SET, pair(NAME, "api.example.com", HOME, days=(-90, -1))), ["expired"]),
    "Gateway API: one certificate of two is missing": (listener(**{REFS: [{"name": "missing"}, {"name": NAME}]}), ["credential_missing"]),
    "Gateway API: MUTUAL without a CA": (listener(**{f"{TLS}__options": {MODE: "MUTUAL"}}), ["credential_without_ca"]),
    "Gateway API: clients' CA is missing": (frontend(CA_REF), ["credential_missing"]),
    "Gateway API: clients' CA of a port is missing": (
        [*frontend({"kind": "ConfigMap", "name": "gone"}, per_port=True), CA_MAP],
        ["credential_missing"],
    ),
    "Gateway API: clients' CA without a CA": ([*frontend(CA_REF), {**CA_MAP, "data": {"x": "x"}}], ["credential_without_ca"]),
    "Gateway API: untrusted clients of a port are let in": (
        [*frontend(CA_REF, mode="AllowInsecureFallback", per_port=True), CA_MAP],
        ["clients_not_verified"],
    ),
    "Gateway API: host that the certificate does not have": (
        listener(spec__listeners__0__hostname="www.example.com"),
        ["host_not_covered"],
    ),
    "Gateway API: grant for another Secret": (
        [
            *listener(**{REFS: [{"name": NAME, "namespace": "default"}]}),
            pair(NAME, "api.example.com", namespace="default"),
            *objects(
                "{kind: ReferenceGrant, metadata: {name: g, namespace: default}, spec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, "
                "namespace: istio-ingress}], to: [{group: '', kind: Secret, name: other}]}}"
            ),
        ],
        ["api_reference_not_granted"],
    ),
    "terminate_mode_unknown": (
        changed(API_SET, "Gateway", "gateway", **{f"{TLS}__options": {"gateway.istio.io/tls-terminate-mode": "mutual"}}),
        ["terminate_mode_unknown"],
    ),
    "too_many_certificates": (
        changed(API_SET, "Gateway", "gateway", **{f"{TLS}__certificateRefs": [{"name": "api-credential"}] * 3}),
        ["too_many_certificates"],
    ),
    "api_reference_not_granted": (
        [
            *changed(API_SET, "Gateway", "gateway", **{f"{TLS}__certificateRefs": [{"name": "api-credential", "namespace": "default"}]}),
            pair("api-credential", "api.example.com", namespace="default"),
        ],
        ["api_reference_not_granted"],
    ),
    "client_certificate_not_sent": (
        changed(API_SET, "Gateway", "gateway", spec__tls={"backend": {"clientCertificateRef": {"name": "api-credential"}}}),
        ["client_certificate_not_sent"],
    ),
    "too_many_client_cas": ([*frontend(CA_REF, {**CA_REF, "name": "other"}), CA_MAP, OTHER_CA], ["too_many_client_cas"]),
    "clients_not_verified": ([*frontend(CA_REF, mode="AllowInsecureFallback"), CA_MAP], ["clients_not_verified"]),
    "backend_name_not_checked": ([*API_SET, *backend_policy()], ["backend_name_not_checked"]),
    "backend_ca_missing": (
        [*API_SET, *backend_policy("caCertificateRefs: [{group: '', kind: ConfigMap, name: gone}]")],
        ["credential_missing"],
    ),
    "listener_set_refused": ([*API_SET, listener_set("more")], ["listener_set_refused"]),
    "ListenerSet of another namespace": (
        [*OPEN, listener_set("more", "default", parent={"name": "gateway", "namespace": HOME})],
        ["listener_set_refused"],
    ),
    "ListenerSet of no Gateway": ([*OPEN, listener_set("more", parent={"name": "gone"})], ["listener_set_refused"]),
    "listener_without_tls": ([*OPEN, listener_set("more", listener={"protocol": "HTTPS"})], ["listener_without_tls"]),
    "listener_conflict": ([*OPEN, listener_set("more"), listener_set("again")], ["listener_conflict"]),
    "Gateway API: missing Secret": (without(API_SET, "Secret", NAME), ["credential_missing"]),
    "api_cipher_suite": (
        listener(**{f"{TLS}__options": {"gateway.istio.io/tls-cipher-suites": "ECDHE-RSA-AES256-GCM-SHA384,TLS_RSA_X"}}),
        ["api_cipher_suite"],
    ),
    "client_ca_shadowed": ([*frontend(CA_REF), CA_MAP, secret("ca-cacert", HOME, cacert=authority("Others").pem)], ["client_ca_shadowed"]),
    "Gateway API: grant that names the clients' CA": (
        [
            *frontend({"kind": "Secret", "name": "ca", "namespace": "default"}),
            secret("ca", "default", ca_crt=authority("Clients").pem),
            *objects(
                "{kind: ReferenceGrant, metadata: {name: g, namespace: default}, spec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, "
                "namespace: istio-ingress}], to: [{group: '', kind: Secret, name: ca}]}}"
            ),
        ],
        ["api_reference_not_granted"],
    ),
}
