# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of objects, as far as anything here reads them: what stands at a place and cannot stand there is taken out, and told. Pure.

An API server lets nothing else through; files may hold anything. After this the readers need not doubt what they find, only whether it is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..objects.kinds import Manifest


@dataclass(frozen=True)
class Map:
    """Any keys, with values of one shape."""

    values: Any


@dataclass(frozen=True)
class Fault:
    field: str
    expected: str
    found: str


ANY = object()
TEXT, NUMBER, FLAG = str, int, bool
PORT = (int, str)
TEXTS, LABELS = [TEXT], Map(TEXT)
_NAMES = {(str,): "a text", (int,): "a number", (bool,): "true or false", PORT: "a number or a name"}

REF = {"group": TEXT, "kind": TEXT, "name": TEXT, "namespace": TEXT}
METADATA = {
    **{"name": TEXT, "namespace": TEXT, "labels": LABELS, "annotations": LABELS, "creationTimestamp": TEXT},
    "ownerReferences": [{"apiVersion": TEXT, "kind": TEXT, "name": TEXT}],
    "managedFields": [{"manager": TEXT, "operation": TEXT, "subresource": TEXT, "fieldsV1": Map(ANY)}],
}
_SERVER_TLS = {
    **dict.fromkeys(("mode", "credentialName", "caCertCredentialName", "serverCertificate", "privateKey", "caCertificates", "caCrl"), TEXT),
    **dict.fromkeys(("minProtocolVersion", "maxProtocolVersion"), TEXT),
    **dict.fromkeys(("credentialNames", "subjectAltNames", "verifyCertificateSpki", "verifyCertificateHash", "cipherSuites"), TEXTS),
    "httpsRedirect": FLAG,
    "tlsCertificates": [{"serverCertificate": TEXT, "privateKey": TEXT, "caCertificates": TEXT}],
}
_CLIENT_TLS = {
    **dict.fromkeys(("mode", "credentialName", "sni", "clientCertificate", "privateKey", "caCertificates", "caCrl"), TEXT),
    "subjectAltNames": TEXTS,
    "insecureSkipVerify": FLAG,
}
_POLICY = {"tls": _CLIENT_TLS, "portLevelSettings": [{"port": {"number": NUMBER}, "tls": _CLIENT_TLS}]}
_TEXT_MATCH = {"exact": TEXT, "prefix": TEXT, "regex": TEXT}
_HEADERS = {"set": LABELS, "add": LABELS, "remove": TEXTS}
_ROUTE = {
    "match": [
        {
            "gateways": TEXTS,
            "port": NUMBER,
            "sniHosts": TEXTS,
            **dict.fromkeys(("uri", "scheme", "method", "authority"), _TEXT_MATCH),
            **dict.fromkeys(("headers", "withoutHeaders", "queryParams"), Map(_TEXT_MATCH)),
        }
    ],
    "route": [
        {
            "destination": {"host": TEXT, "port": {"number": NUMBER}, "subset": TEXT},
            "weight": NUMBER,
            "headers": {"request": _HEADERS, "response": _HEADERS},
        }
    ],
    "timeout": TEXT,
    "retries": {"attempts": NUMBER, "perTryTimeout": TEXT, "retryOn": TEXT},
    "rewrite": {"uri": TEXT, "authority": TEXT, "uriRegexRewrite": {"match": TEXT, "rewrite": TEXT}},
    "redirect": Map(ANY),
    "directResponse": Map(ANY),
    "delegate": Map(ANY),
    "headers": {"request": _HEADERS, "response": _HEADERS},
}
_CONTAINER = {
    "name": TEXT,
    "env": [{"name": TEXT, "value": TEXT}],
    "envFrom": [Map(ANY)],
    "volumeMounts": [{"mountPath!": TEXT, "subPath": TEXT, "subPathExpr": TEXT}],
    "ports": [{"name": TEXT, "containerPort!": NUMBER}],
    "restartPolicy": TEXT,
}
_SELECTOR = {"matchLabels": LABELS}
_API_LISTENER = {
    **dict.fromkeys(("name", "hostname", "protocol"), TEXT),
    "port": NUMBER,
    "tls": {"mode": TEXT, "options": LABELS, "certificateRefs": [REF]},
    "allowedRoutes": {"namespaces": {"from": TEXT, "selector": Map(ANY)}},
}
_CONDITIONS = {"conditions": [{**dict.fromkeys(("type", "status", "reason", "message"), TEXT), "observedGeneration": NUMBER}]}
_API_STATUS = {**_CONDITIONS, "listeners": [{"name": TEXT, "attachedRoutes": NUMBER, **_CONDITIONS}]}
_VALIDATION = {"validation": {"mode": TEXT, "caCertificateRefs": [REF]}}
_PARENT = {**REF, "sectionName": TEXT, "port": NUMBER}
_RULES = {"rules": [dict.fromkeys(("verbs", "apiGroups", "resources", "resourceNames"), TEXTS)]}
_BINDING = {"roleRef": REF, "subjects": [REF]}

SPECS: Mapping[tuple[str, str], Any] = {
    ("networking.istio.io", "Gateway"): {
        "selector": LABELS,
        "servers": [{"port": {"number": NUMBER, "name": TEXT, "protocol": TEXT}, "hosts": TEXTS, "bind": TEXT, "tls": _SERVER_TLS}],
    },
    ("networking.istio.io", "VirtualService"): {
        **dict.fromkeys(("hosts", "gateways", "exportTo"), TEXTS),
        **{kind: [_ROUTE] for kind in ("http", "tls", "tcp")},
    },
    ("networking.istio.io", "DestinationRule"): {
        "host": TEXT,
        "exportTo": TEXTS,
        "workloadSelector": _SELECTOR,
        "trafficPolicy": _POLICY,
        "subsets": [{"name!": TEXT, "trafficPolicy": _POLICY}],
    },
    ("networking.istio.io", "ServiceEntry"): {
        **dict.fromkeys(("hosts", "addresses", "exportTo"), TEXTS),
        "ports": [{"number": NUMBER, "name": TEXT, "protocol": TEXT, "targetPort": NUMBER}],
        "resolution": TEXT,
        "endpoints": [{"address": TEXT, "ports": Map(NUMBER), "labels": LABELS}],
    },
    ("networking.istio.io", "WorkloadEntry"): {"labels": LABELS, "serviceAccount": TEXT, "ports": Map(NUMBER)},
    ("networking.istio.io", "Sidecar"): {
        "workloadSelector": Map(ANY),
        "egress": [{"hosts": TEXTS, "port": {"number": NUMBER, "protocol": TEXT}}],
        "outboundTrafficPolicy": {"mode": TEXT},
    },
    ("security.istio.io", "AuthorizationPolicy"): {
        "action": TEXT,
        "selector": _SELECTOR,
        "targetRefs": [REF],
        "targetRef": REF,
        "rules": [
            {
                "from": [{"source": Map(TEXTS)}],
                "to": [{"operation": Map(TEXTS)}],
                "when": [{"key": TEXT, "values": TEXTS, "notValues": TEXTS}],
            }
        ],
    },
    ("networking.k8s.io", "NetworkPolicy"): {
        "policyTypes": TEXTS,
        "egress": [{"to": [{"ipBlock": {"cidr": TEXT}}], "ports": [{"port": PORT}]}],
    },
    ("", "Service"): {
        "selector": LABELS,
        "ports": [{"port": NUMBER, "name": TEXT, "targetPort": PORT, "protocol": TEXT, "appProtocol": TEXT}],
    },
    ("", "Pod"): {
        "volumes": [{"secret": {"secretName": TEXT}, "projected": {"sources": [{"secret": {"name": TEXT}}]}}],
        "serviceAccountName": TEXT,
        "containers": [_CONTAINER],
        "initContainers": [_CONTAINER],
    },
    ("gateway.networking.k8s.io", "Gateway"): {
        "gatewayClassName": TEXT,
        "addresses": [{"type": TEXT, "value": TEXT}],
        "listeners": [_API_LISTENER],
        "tls": {
            "frontend": {"default": _VALIDATION, "perPort": [{"port": NUMBER, "tls": _VALIDATION}]},
            "backend": {"clientCertificateRef": REF},
        },
        "allowedListeners": {"namespaces": {"from": TEXT}},
    },
    ("gateway.networking.k8s.io", "ListenerSet"): {"parentRef": REF, "listeners": [_API_LISTENER]},
    ("gateway.networking.k8s.io", "HTTPRoute"): {
        "parentRefs": [_PARENT],
        "hostnames": TEXTS,
        "rules": [{"backendRefs": [{**REF, "port": NUMBER, "weight": NUMBER}], "filters": [{"type": TEXT}]}],
    },
    ("gateway.networking.k8s.io", "ReferenceGrant"): {"from": [REF], "to": [REF]},
    ("gateway.networking.k8s.io", "BackendTLSPolicy"): {"validation": {"hostname": TEXT, "subjectAltNames": [Map(ANY)]}},
}
WHOLE: Mapping[tuple[str, str], Any] = {
    ("", "Secret"): {"data": LABELS, "type": TEXT},
    ("", "ConfigMap"): {"data": LABELS},
    ("", "Pod"): {"status": {"phase": TEXT}},
    ("gateway.networking.k8s.io", "Gateway"): {"status": {"addresses": [Map(ANY)], **_API_STATUS}},
    ("gateway.networking.k8s.io", "ListenerSet"): {"status": _API_STATUS},
    ("gateway.networking.k8s.io", "HTTPRoute"): {"status": {"parents": [{"parentRef": _PARENT, "controllerName": TEXT, **_CONDITIONS}]}},
    ("rbac.authorization.k8s.io", "Role"): _RULES,
    ("rbac.authorization.k8s.io", "ClusterRole"): _RULES,
    ("rbac.authorization.k8s.io", "RoleBinding"): _BINDING,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _BINDING,
}
"""What stands beside metadata and spec."""


def fitted(manifest: Manifest, kind: tuple[str, str]) -> tuple[Manifest, tuple[Fault, ...]]:
    """The object without what cannot stand where it does, and what that was. Values of null count as absent."""
    faults: list[Fault] = []
    shape = {"metadata": METADATA, "spec": SPECS.get(kind, Map(ANY)), **WHOLE.get(kind, {})}
    return _fit(manifest, shape, "", faults), tuple(faults)


def _fit(value: Any, shape: Any, field: str, faults: list[Fault]) -> Any:
    """The value as far as it fits; `ANY` where it does not."""
    if shape is ANY:
        return value
    if isinstance(shape, list):
        return _list(value, shape[0], field, faults) if isinstance(value, (list, tuple)) else _wrong(value, "a list", field, faults)
    if isinstance(shape, (dict, Map)):
        return _map(value, shape, field, faults) if isinstance(value, Mapping) else _wrong(value, "fields", field, faults)
    types = shape if isinstance(shape, tuple) else (shape,)
    fits = isinstance(value, types) and (not isinstance(value, bool) or bool in types)
    return value if fits else _wrong(value, _NAMES[types], field, faults)


def _wrong(value: Any, expected: str, field: str, faults: list[Fault]) -> Any:
    names = {str: "a text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "fields"}
    faults.append(Fault(field, expected, names.get(type(value), "something else")))
    return ANY


def _list(value: Any, shape: Any, field: str, faults: list[Fault]) -> list[Any]:
    found = [_fit(one, shape, f"{field}[{index}]", faults) for index, one in enumerate(value)]
    return [one for one in found if one is not ANY]


def _map(value: Mapping[Any, Any], shape: Any, field: str, faults: list[Fault]) -> Any:
    made = {}
    for key, inner in value.items():
        place = f"{field}.{key}".lstrip(".")
        if not isinstance(key, str):
            faults.append(Fault(place, "a text as key", "something else"))
        elif inner is not None:
            fit = _fit(inner, shape.values if isinstance(shape, Map) else _shape_of(shape, key), place, faults)
            made.update({} if fit is ANY else {key: fit})
    missing = next((key[:-1] for key in _required(shape) if key[:-1] not in made), None)
    if missing:
        faults.append(Fault(f"{field}.{missing}", "a value", "none"))
        return ANY
    return made


def _shape_of(shape: Mapping[str, Any], key: str) -> Any:
    return shape.get(key, shape.get(f"{key}!", ANY))


def _required(shape: Any) -> Iterator[str]:
    yield from (key for key in shape if key.endswith("!")) if isinstance(shape, dict) else ()
