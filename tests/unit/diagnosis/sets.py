# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh in which nothing is wrong: gateways, and sets of objects as Istio's own pages have them, each complete. Faults are put into these."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import yaml
from ansible_collections.meshops.istio.plugins.module_utils.istio.snapshot import EVERYWHERE, Snapshot, snapshot_of
from ansible_collections.meshops.istio.plugins.module_utils.objects import kinds
from ansible_collections.meshops.istio.tests.unit.tls.tls_pki import Pki, key_pem

Manifest = dict[str, Any]
NOW = datetime.now(UTC).replace(microsecond=0)
"""The real time, so that real programs judge the same certificates."""

BASE = """
kind: Namespace
metadata: {name: istio-system}
---
kind: Namespace
metadata: {name: default, labels: {istio-injection: enabled}}
---
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, ports: [{port: 80, targetPort: 8080}, {port: 443, targetPort: 8443}]}
---
kind: Service
metadata: {name: istio-egressgateway, namespace: istio-system}
spec: {selector: {istio: egressgateway}, ports: [{port: 80, targetPort: 8080}, {port: 443, targetPort: 8443}]}
---
kind: Pod
metadata: {name: ingress-0, namespace: istio-system, labels: {istio: ingressgateway}}
spec: {serviceAccountName: ingress, containers: [{name: istio-proxy, volumeMounts: [{mountPath: /etc/ingress}]}]}
---
kind: Pod
metadata: {name: egress-0, namespace: istio-system, labels: {istio: egressgateway}}
spec: {serviceAccountName: egress, containers: [{name: istio-proxy, volumeMounts: [{mountPath: /etc/egress}]}]}
---
kind: Pod
metadata: {name: sleep, namespace: default, labels: {app: sleep}}
spec: {containers: [{name: sleep}, {name: istio-proxy}]}
---
kind: Service
metadata: {name: httpbin, namespace: default}
spec: {selector: {app: httpbin}, ports: [{port: 8000, targetPort: 8080}]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: gateways, namespace: istio-system}
rules: [{apiGroups: [""], resources: [secrets], verbs: [get, watch, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: gateways, namespace: istio-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: gateways}
subjects: [{kind: ServiceAccount, name: ingress, namespace: istio-system}, {kind: ServiceAccount, name: egress, namespace: istio-system}]
"""

INGRESS = """
kind: Gateway
metadata: {name: mygateway, namespace: default, creationTimestamp: "2026-01-01T00:00:00Z"}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: httpbin-credential}, hosts: [httpbin.example.com]}
---
kind: VirtualService
metadata: {name: httpbin, namespace: default}
spec:
  hosts: [httpbin.example.com]
  gateways: [mygateway]
  http: [{match: [{uri: {prefix: /status}}], route: [{destination: {host: httpbin, port: {number: 8000}}}]}]
"""

EGRESS = """
kind: ServiceEntry
metadata: {name: nginx, namespace: default}
spec:
  hosts: [nginx.example.net]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS}]
  resolution: DNS
---
kind: Gateway
metadata: {name: istio-egressgateway, namespace: default, creationTimestamp: "2026-01-01T00:00:00Z"}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [nginx.example.net], tls: {mode: ISTIO_MUTUAL}}]
---
kind: DestinationRule
metadata: {name: egressgateway-for-nginx, namespace: default}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets:
  - name: nginx
    trafficPolicy:
      portLevelSettings: [{port: {number: 443}, tls: {mode: ISTIO_MUTUAL, sni: nginx.example.net}}]
---
kind: VirtualService
metadata: {name: direct-nginx-through-egress-gateway, namespace: default}
spec:
  hosts: [nginx.example.net]
  gateways: [istio-egressgateway, mesh]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, subset: nginx, port: {number: 443}}, weight: 100}]
  - match: [{gateways: [istio-egressgateway], port: 443}]
    route: [{destination: {host: nginx.example.net, port: {number: 443}}, weight: 100}]
---
kind: DestinationRule
metadata: {name: originate-mtls-for-nginx, namespace: istio-system}
spec:
  host: nginx.example.net
  trafficPolicy:
    portLevelSettings:
    - port: {number: 443}
      tls: {mode: MUTUAL, credentialName: client-credential, sni: nginx.example.net, subjectAltNames: [nginx.example.net]}
"""

SIDECAR_ORIGINATION = """
kind: ServiceEntry
metadata: {name: edition-cnn-com, namespace: default}
spec:
  hosts: [edition.cnn.com]
  ports: [{number: 80, name: http-port, protocol: HTTP, targetPort: 443}, {number: 443, name: https-port, protocol: HTTPS}]
  resolution: DNS
---
kind: DestinationRule
metadata: {name: edition-cnn-com, namespace: default}
spec:
  host: edition.cnn.com
  trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}
"""

EGRESS_HTTP = """
kind: ServiceEntry
metadata: {name: cnn, namespace: default}
spec:
  hosts: [edition.cnn.com]
  ports: [{number: 80, name: http-port, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS}]
  resolution: DNS
---
kind: Gateway
metadata: {name: istio-egressgateway, namespace: default}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [edition.cnn.com]}]
---
kind: DestinationRule
metadata: {name: egressgateway-for-cnn, namespace: default}
spec: {host: istio-egressgateway.istio-system.svc.cluster.local, subsets: [{name: cnn}]}
---
kind: VirtualService
metadata: {name: direct-cnn-through-egress-gateway, namespace: default}
spec:
  hosts: [edition.cnn.com]
  gateways: [istio-egressgateway, mesh]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, subset: cnn, port: {number: 80}}, weight: 100}]
  - match: [{gateways: [istio-egressgateway], port: 80}]
    route: [{destination: {host: edition.cnn.com, port: {number: 80}}, weight: 100}]
"""

EGRESS_PASSTHROUGH = """
kind: ServiceEntry
metadata: {name: cnn, namespace: default}
spec:
  hosts: [edition.cnn.com]
  ports: [{number: 443, name: tls, protocol: TLS}]
  resolution: DNS
---
kind: Gateway
metadata: {name: istio-egressgateway, namespace: default}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 443, name: tls, protocol: TLS}, hosts: [edition.cnn.com], tls: {mode: PASSTHROUGH}}]
---
kind: DestinationRule
metadata: {name: egressgateway-for-cnn, namespace: default}
spec: {host: istio-egressgateway.istio-system.svc.cluster.local, subsets: [{name: cnn}]}
---
kind: VirtualService
metadata: {name: direct-cnn-through-egress-gateway, namespace: default}
spec:
  hosts: [edition.cnn.com]
  gateways: [mesh, istio-egressgateway]
  tls:
  - match: [{gateways: [mesh], port: 443, sniHosts: [edition.cnn.com]}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, subset: cnn, port: {number: 443}}}]
  - match: [{gateways: [istio-egressgateway], port: 443, sniHosts: [edition.cnn.com]}]
    route: [{destination: {host: edition.cnn.com, port: {number: 443}}, weight: 100}]
"""

EGRESS_SIMPLE = """
kind: ServiceEntry
metadata: {name: cnn, namespace: default}
spec:
  hosts: [edition.cnn.com]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS}]
  resolution: DNS
---
kind: Gateway
metadata: {name: istio-egressgateway, namespace: default}
spec:
  selector: {istio: egressgateway}
  servers:
  - {port: {number: 80, name: https-port-for-tls-origination, protocol: HTTPS}, hosts: [edition.cnn.com], tls: {mode: ISTIO_MUTUAL}}
---
kind: DestinationRule
metadata: {name: egressgateway-for-cnn, namespace: default}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets:
  - name: cnn
    trafficPolicy:
      loadBalancer: {simple: ROUND_ROBIN}
      portLevelSettings: [{port: {number: 80}, tls: {mode: ISTIO_MUTUAL, sni: edition.cnn.com}}]
---
kind: VirtualService
metadata: {name: direct-cnn-through-egress-gateway, namespace: default}
spec:
  hosts: [edition.cnn.com]
  gateways: [istio-egressgateway, mesh]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, subset: cnn, port: {number: 80}}, weight: 100}]
  - match: [{gateways: [istio-egressgateway], port: 80}]
    route: [{destination: {host: edition.cnn.com, port: {number: 443}}, weight: 100}]
---
kind: DestinationRule
metadata: {name: originate-tls-for-edition-cnn-com, namespace: default}
spec:
  host: edition.cnn.com
  trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}
"""

GATEWAY_API = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gateway, namespace: istio-ingress}
spec:
  gatewayClassName: istio
  listeners:
  - name: https
    hostname: api.example.com
    port: 443
    protocol: HTTPS
    tls: {mode: Terminate, certificateRefs: [{name: api-credential}]}
    allowedRoutes: {namespaces: {from: All}}
"""

LISTENER_SET = """
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: more, namespace: istio-ingress}
spec:
  parentRef: {name: gateway}
  listeners: [{name: plain, hostname: plain.example.com, port: 80, protocol: HTTP}]
"""

_GROUPS = {
    "Gateway": "networking.istio.io/v1",
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
    "ServiceEntry": "networking.istio.io/v1",
    "Sidecar": "networking.istio.io/v1",
    "AuthorizationPolicy": "security.istio.io/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "ReferenceGrant": "gateway.networking.k8s.io/v1beta1",
    "BackendTLSPolicy": "gateway.networking.k8s.io/v1",
}


_KINDS = [one for one in vars(kinds).values() if isinstance(one, kinds.Resource)]


def everything(items: Iterable[Manifest], mesh: dict[str, Any] | None = None) -> Snapshot:
    """A snapshot for which every kind was read: what is not among the objects does not exist."""
    return snapshot_of(items, read={one.key: EVERYWHERE for one in _KINDS}, mesh=mesh or {})


def objects(*texts: str) -> list[Manifest]:
    found = []
    for text in texts:
        for item in yaml.safe_load_all(text):
            if item:
                found.append({"apiVersion": _GROUPS.get(item["kind"], "v1"), **item})
    return found


@cache
def pki() -> Pki:
    return Pki(NOW)


@cache
def authority(name: str = "Root") -> Any:
    return pki().issue(name, ca=True, days=(-100, 1000))


def issued(name: str, **options: Any) -> Any:
    """A certificate of the root for one host; `purposes`, `days` and so on as the PKI of the tests has them."""
    return pki().issue(name, options.pop("issuer", None) or authority(), purposes=options.pop("purposes", ("serverAuth",)), **options)


def secret(name: str, namespace: str = "istio-system", *, annotations: Any = None, managers: Any = None, **data: bytes) -> Manifest:
    """A Secret; keys come with `_` for `.`, as in tls_crt. `managers` says who set which of them."""
    metadata: Manifest = {"name": name, "namespace": namespace, **({"annotations": annotations} if annotations else {})}
    if managers:
        metadata["managedFields"] = [
            {"manager": manager, "operation": "Apply", "fieldsV1": {"f:data": {f"f:{key}": {} for key in keys}}}
            for manager, keys in managers.items()
        ]
    encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded}


def pair(name: str, host: str, namespace: str = "istio-system", **more: Any) -> Manifest:
    """A credential with a certificate for a host."""
    one = issued(host, **{key: more.pop(key) for key in ("days", "purposes", "key", "dns", "ip", "issuer") if key in more})
    return secret(name, namespace, tls_crt=one.pem, tls_key=key_pem(one.key), **more)


def client_pair(name: str = "client-credential", **more: Any) -> Manifest:
    return pair(name, "client", purposes=("clientAuth",), ca_crt=authority().pem, **more)


def changed(items: Iterable[Manifest], kind: str, name: str, **fields: Any) -> list[Manifest]:
    """The objects with some fields of one of them replaced: `spec__servers__0__hosts=[...]`; None removes the field."""
    found = []
    for item in items:
        if (item["kind"], item["metadata"]["name"]) == (kind, name):
            for path, value in fields.items():
                item = _with(item, path.split("__"), value)
        found.append(item)
    return found


def _with(item: Any, path: list[str], value: Any) -> Any:
    first, *rest = path
    if isinstance(item, list):
        return [(_with(one, rest, value) if rest else value) if position == int(first) else one for position, one in enumerate(item)]
    if not rest and value is None:
        return {key: inner for key, inner in item.items() if key != first}
    return {**item, first: _with(item.get(first, {}), rest, value) if rest else value}


def without(items: Iterable[Manifest], kind: str, name: str) -> list[Manifest]:
    return [item for item in items if (item["kind"], item["metadata"]["name"]) != (kind, name)]
