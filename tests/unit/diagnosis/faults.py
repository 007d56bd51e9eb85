# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults in correct sets by the number of their failure mode, each with the codes of the findings that are expected: those and no others."""

from __future__ import annotations

from ansible_collections.meshops.istio.tests.unit.diagnosis.correct import (
    CHAIN,
    CLIENT_FILES,
    CREDENTIAL,
    EGRESS_SET,
    INGRESS_SET,
    ISSUED,
    ISSUED_BY_ACME,
    LEAF,
    MUTUAL_SET,
    PATCHED,
    ROUTE,
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
    SIDECAR_ORIGINATION,
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
from ansible_collections.meshops.istio.tests.unit.tls.tls_pki import key_pem
from cryptography.hazmat.primitives.serialization import PrivateFormat

FAULTS: dict[str, tuple[list[Manifest], list[str]]] = {
    "1 Secret beside the Gateway object": (
        [*base(INGRESS), pair(CREDENTIAL, "httpbin.example.com", namespace="default")],
        ["credential_missing"],
    ),
    "2 credential with a namespace": (
        [
            *changed(base(INGRESS), "Gateway", "mygateway", spec__servers__0__tls__credentialName="default/httpbin-credential"),
            pair(CREDENTIAL, "httpbin.example.com", namespace="default"),
        ],
        ["credential_in_other_namespace"],
    ),
    "3 service account without rights": (without(INGRESS_SET, "RoleBinding", "gateways"), ["gateway_may_not_list_secrets"]),
    "4 -cacert without a CA": ([*MUTUAL_SET, secret(f"{CREDENTIAL}-cacert", tls_crt=authority("Clients").pem)], ["credential_without_ca"]),
    "5 cert-manager's ca.crt as the clients' CA": (
        replaced(MUTUAL_SET, pair(CREDENTIAL, "httpbin.example.com", **ISSUED, ca_crt=authority().pem)),
        ["client_ca_of_server"],
    ),
    "6 ca.crt patched by hand": (
        replaced(MUTUAL_SET, pair(CREDENTIAL, "httpbin.example.com", **PATCHED, ca_crt=authority("Clients").pem)),
        ["client_ca_patched"],
    ),
    "7 ACME has no ca.crt": (
        replaced(MUTUAL_SET, pair(CREDENTIAL, "httpbin.example.com", **ISSUED_BY_ACME)),
        ["credential_without_ca"],
    ),
    "8 MUTUAL origination without a CA": (
        replaced(EGRESS_SET, pair("client-credential", "client", purposes=("clientAuth",))),
        ["credential_without_ca"],
    ),
    "10 file that never follows": (
        changed(
            changed(
                base(INGRESS),
                "Gateway",
                "mygateway",
                spec__servers__0__tls={"mode": "SIMPLE", "serverCertificate": "/etc/ingress/c", "privateKey": "/etc/ingress/k"},
            ),
            "Pod",
            "ingress-0",
            spec__containers__0__volumeMounts__0={"mountPath": "/etc/ingress", "subPath": "x"},
        ),
        ["file_never_refreshed", "file_never_refreshed"],
    ),
    "13 expired": (replaced(INGRESS_SET, pair(CREDENTIAL, "httpbin.example.com", days=(-90, -1))), ["expired"]),
    "13 not yet valid": (replaced(INGRESS_SET, pair(CREDENTIAL, "httpbin.example.com", days=(1, 90))), ["not_yet_valid"]),
    "14 wrong order": (
        replaced(INGRESS_SET, secret(CREDENTIAL, tls_crt=CHAIN.pem + LEAF.pem, tls_key=key_pem(LEAF.key))),
        ["chain_order"],
    ),
    "15 encrypted key": (
        replaced(
            INGRESS_SET,
            secret(
                CREDENTIAL,
                tls_crt=issued("httpbin.example.com").pem,
                tls_key=key_pem(issued("httpbin.example.com").key, PrivateFormat.PKCS8, b"secret"),
            ),
        ),
        ["key_encrypted"],
    ),
    "16 key of another certificate": (
        replaced(INGRESS_SET, secret(CREDENTIAL, tls_crt=issued("httpbin.example.com").pem, tls_key=key_pem(issued("other").key))),
        ["key_mismatch"],
    ),
    "17 curve": (replaced(INGRESS_SET, pair(CREDENTIAL, "httpbin.example.com", key="P-224")), ["key_unsupported"]),
    "18 missing Secret": (base(INGRESS), ["credential_missing"]),
    "21 certificate of two Gateways": (
        replaced([*INGRESS_SET, *second(spec__servers__0__hosts=["other.example.com"])], pair(CREDENTIAL, "*.example.com")),
        ["shared_certificate"],
    ),
    "21 certificate that covers another Gateway's host": (
        [
            *replaced(INGRESS_SET, pair(CREDENTIAL, "*.example.com")),
            *second(spec__servers__0__hosts=["other.example.com"], spec__servers__0__tls__credentialName="other"),
            pair("other", "other.example.com"),
        ],
        ["shared_certificate"],
    ),
    "22 host twice": ([*INGRESS_SET, *second()], ["host_conflict"]),
    "22 host twice, on the pods' port": (
        [*INGRESS_SET, *second(spec__servers__0__port={"number": 8443, "name": "x", "protocol": "HTTPS"})],
        ["host_conflict"],
    ),
    "26 privileged port": (
        changed(
            changed(INGRESS_SET, "Pod", "ingress-0", spec__containers__0__env=[{"name": "ISTIO_META_UNPRIVILEGED_POD", "value": "true"}]),
            "Service",
            "istio-ingressgateway",
            spec__ports__1__targetPort=443,
        ),
        ["privileged_target_port"],
    ),
    "29 sidecars see files": (
        egress(**RULE, **{TLS: CLIENT_FILES}),
        ["sidecars_wait_for_files"],
    ),
    "30 mount missing": (
        changed(
            base(INGRESS),
            "Gateway",
            "mygateway",
            spec__servers__0__tls={"mode": "SIMPLE", "serverCertificate": "/etc/certs/c", "privateKey": "/etc/ingress/k"},
        ),
        ["file_not_mounted"],
    ),
    "31 credentialName for sidecars": (
        [
            *changed(
                base(SIDECAR_ORIGINATION),
                "DestinationRule",
                "edition-cnn-com",
                **{TLS: {"mode": "SIMPLE", "credentialName": "cnn"}},
            ),
            secret("cnn", "default", ca_crt=authority().pem),
        ],
        ["sidecars_send_plaintext"],
    ),
    "32 TLS to a plain port": (
        changed(
            base(SIDECAR_ORIGINATION),
            "ServiceEntry",
            "edition-cnn-com",
            spec__ports__0={"number": 80, "name": "http-port", "protocol": "HTTP"},
        ),
        ["tls_to_plaintext_port"],
    ),
    "35 tls routes on ISTIO_MUTUAL": (
        egress(
            **ROUTE,
            spec__http=[objects(EGRESS)[3]["spec"]["http"][0]],
            spec__tls=[
                {
                    "match": [{"gateways": ["istio-egressgateway"], "port": 443, "sniHosts": ["nginx.example.net"]}],
                    "route": [{"destination": {"host": "nginx.example.net", "port": {"number": 443}}}],
                }
            ],
        ),
        ["tls_routes_on_terminating_server"],
    ),
    "36 SNI of the first hop": (
        egress(
            "DestinationRule",
            "egressgateway-for-nginx",
            spec__subsets__0__trafficPolicy__portLevelSettings__0__tls__sni="other.example.net",
        ),
        ["first_hop_sni"],
    ),
    "37 subset without a rule": (without(EGRESS_SET, "DestinationRule", "egressgateway-for-nginx"), ["subset_missing"]),
    "37 subset of an ingress route": (
        changed(INGRESS_SET, "VirtualService", "httpbin", spec__http__0__route__0__destination__subset="v2"),
        ["destination_subset"],
    ),
    "39 credential beside the rule": (
        [*changed(without(EGRESS_SET, "Secret", "client-credential"), **RULE), client_pair(namespace="default")],
        ["credential_missing"],
    ),
    "40 bypass": (
        [
            *EGRESS_SET,
            *objects(
                """
kind: NetworkPolicy
metadata: {name: through-gateway, namespace: default}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress: [{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: istio-system}}}]}]
---
kind: NetworkPolicy
metadata: {name: all, namespace: default}
spec: {podSelector: {}, policyTypes: [Egress], egress: [{}]}
"""
            ),
        ],
        ["other_egress_policy"],
    ),
    "42 no check of the name": (egress(**RULE, **{f"{TLS}__subjectAltNames": None}), ["no_host_check"]),
}
