# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole manifests of originations."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.istio.egress_arguments import from_arguments
from ansible_collections.meshops.istio.plugins.module_utils.istio.egress_objects import KINDS, manifests, namespaces

NGINX: dict[str, Any] = {"name": "nginx", "host": "nginx.example.com", "credential_name": "client-credential"}
LABELS = "{app.kubernetes.io/managed-by: meshops.istio, meshops.istio/owner: origination.istio-system.nginx}"

WALKTHROUGH = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: originate-mtls-for-nginx, namespace: istio-system, labels: {LABELS}}}
spec:
  host: nginx.example.com
  exportTo: [.]
  trafficPolicy:
    portLevelSettings:
    - port: {{number: 443}}
      tls: {{mode: MUTUAL, sni: nginx.example.com, credentialName: client-credential, subjectAltNames: [nginx.example.com]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: egressgateway-for-nginx, namespace: istio-system, labels: {LABELS}}}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets:
  - name: nginx
    trafficPolicy:
      portLevelSettings:
      - port: {{number: 443}}
        tls: {{mode: ISTIO_MUTUAL, sni: nginx.example.com}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: egress-nginx, namespace: istio-system, labels: {LABELS}}}
spec:
  selector: {{istio: egressgateway}}
  servers:
  - port: {{number: 443, name: https, protocol: HTTPS}}
    hosts: [nginx.example.com]
    tls: {{mode: ISTIO_MUTUAL}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: nginx, namespace: istio-system, labels: {LABELS}}}
spec:
  hosts: [nginx.example.com]
  location: MESH_EXTERNAL
  ports:
  - {{number: 80, name: http, protocol: HTTP}}
  - {{number: 443, name: https, protocol: HTTPS}}
  resolution: DNS
  endpoints:
  - address: my-nginx.mesh-external.svc.cluster.local
    ports: {{https: 443}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: nginx, namespace: istio-system, labels: {LABELS}}}
spec:
  hosts: [nginx.example.com]
  gateways: [mesh]
  tls:
  - match: [{{port: 443, sniHosts: [nginx.example.com]}}]
    route: [{{destination: {{host: nginx.example.com, port: {{number: 443}}}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: direct-nginx-through-egress-gateway, namespace: istio-system, labels: {LABELS}}}
spec:
  hosts: [nginx.example.com]
  gateways: [mesh, istio-system/egress-nginx]
  http:
  - match: [{{gateways: [mesh], port: 80}}]
    route: [{{destination: {{host: istio-egressgateway.istio-system.svc.cluster.local, subset: nginx, port: {{number: 443}}}}}}]
  - match: [{{gateways: [istio-system/egress-nginx], port: 443}}]
    route: [{{destination: {{host: nginx.example.com, port: {{number: 443}}}}}}]
"""

POLICY = f"""
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: nginx-only-through-egress-gateway, namespace: shop, labels: {LABELS}}}
spec:
  podSelector: {{}}
  policyTypes: [Egress]
  egress:
  - to:
    - namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: kube-system}}}}
      podSelector: {{matchLabels: {{k8s-app: kube-dns}}}}
    ports: [{{protocol: UDP, port: 53}}, {{protocol: TCP, port: 53}}]
  - to:
    - namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: istio-system}}}}
      podSelector: {{matchLabels: {{app: istiod}}}}
    ports: [{{protocol: TCP, port: 15012}}]
  - to:
    - namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: istio-system}}}}
      podSelector: {{matchLabels: {{istio: egressgateway}}}}
"""


TCP = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: originate-mtls-for-nginx, namespace: istio-system, labels: {LABELS}}}
spec:
  host: nginx.example.com
  exportTo: [.]
  trafficPolicy:
    portLevelSettings:
    - port: {{number: 6380}}
      tls: {{mode: MUTUAL, sni: nginx.example.com, credentialName: client-credential, subjectAltNames: [nginx.example.com]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: egressgateway-for-nginx, namespace: istio-system, labels: {LABELS}}}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets:
  - name: nginx
    trafficPolicy:
      portLevelSettings:
      - port: {{number: 443}}
        tls: {{mode: ISTIO_MUTUAL, sni: nginx.example.com}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: egress-nginx, namespace: istio-system, labels: {LABELS}}}
spec:
  selector: {{istio: egressgateway}}
  servers:
  - port: {{number: 443, name: tls, protocol: TLS}}
    hosts: [nginx.example.com]
    tls: {{mode: ISTIO_MUTUAL}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: nginx, namespace: istio-system, labels: {LABELS}}}
spec:
  hosts: [nginx.example.com]
  location: MESH_EXTERNAL
  ports:
  - {{number: 6379, name: tcp, protocol: TCP}}
  - {{number: 6380, name: tls, protocol: TLS}}
  resolution: DNS
  addresses: [192.0.2.7]
  endpoints:
  - address: cache.example.net
    ports: {{tls: 16380}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: nginx, namespace: istio-system, labels: {LABELS}}}
spec:
  hosts: [nginx.example.com]
  gateways: [mesh]
  tls:
  - match: [{{port: 6380, sniHosts: [nginx.example.com]}}]
    route: [{{destination: {{host: nginx.example.com, port: {{number: 6380}}}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: direct-nginx-through-egress-gateway, namespace: istio-system, labels: {LABELS}}}
spec:
  hosts: [nginx.example.com]
  gateways: [mesh, istio-system/egress-nginx]
  tcp:
  - match: [{{gateways: [mesh], port: 6379}}]
    route: [{{destination: {{host: istio-egressgateway.istio-system.svc.cluster.local, subset: nginx, port: {{number: 443}}}}}}]
  - match: [{{gateways: [istio-system/egress-nginx], port: 443}}]
    route: [{{destination: {{host: nginx.example.com, port: {{number: 6380}}}}}}]
"""


def made(**changes: Any) -> list[dict[str, Any]]:
    (one,) = from_arguments({**NGINX, **changes})
    return manifests(one)


def spec(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    result: dict[str, Any] = found["spec"]
    return result


def tls(**changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = spec(made(**changes), "DestinationRule", "originate-mtls-for-nginx")["trafficPolicy"]["portLevelSettings"][0]
    result: dict[str, Any] = settings["tls"]
    return result


def test_the_walkthrough() -> None:
    endpoints = [{"address": "my-nginx.mesh-external.svc.cluster.local", "ports": {"https": 443}}]
    assert made(endpoints=endpoints, direct_tls=True) == list(yaml.safe_load_all(WALKTHROUGH))


def test_tcp() -> None:
    endpoints = [{"address": "cache.example.net", "ports": {"tls": 16380}}]
    objects = made(protocol="TCP", http_port=6379, tls_port=6380, addresses=["192.0.2.7"], endpoints=endpoints, direct_tls=True)
    assert objects == list(yaml.safe_load_all(TCP))


@pytest.mark.parametrize("ports", [{"http_port": 27017}, {"tls_port": 27017}, {"http_port": 27017, "tls_port": 27017}])
@pytest.mark.parametrize("name", ["http", "https", "tcp", "tls"])
def test_tcp_on_one_port(ports: dict[str, int], name: str) -> None:
    objects = made(protocol="TCP", **ports, endpoints=[{"address": "db.example.net", "ports": {name: 27018}}])
    entry = spec(objects, "ServiceEntry", "nginx")
    assert entry["ports"] == [{"number": 27017, "name": "tcp", "protocol": "TCP"}]
    assert entry["endpoints"] == [{"address": "db.example.net", "ports": {"tcp": 27018}}]
    assert spec(objects, "DestinationRule", "originate-mtls-for-nginx")["trafficPolicy"]["portLevelSettings"][0]["port"] == {
        "number": 27017
    }
    to_gateway, to_service = spec(objects, "VirtualService", "direct-nginx-through-egress-gateway")["tcp"]
    assert to_gateway["match"] == [{"gateways": ["mesh"], "port": 27017}]
    assert to_service["route"] == [{"destination": {"host": "nginx.example.com", "port": {"number": 27017}}}]


@pytest.mark.parametrize("resolution", ["DNS", "DNS_ROUND_ROBIN"])
def test_resolution(resolution: str) -> None:
    endpoints = [{"address": "db.example.net"}]
    entry = spec(made(resolution=resolution, endpoints=endpoints), "ServiceEntry", "nginx")
    assert (entry["resolution"], entry["endpoints"]) == (resolution, endpoints)


def test_without_direct_tls_there_is_no_second_route() -> None:
    assert [each["metadata"]["name"] for each in made() if each["kind"] == "VirtualService"] == ["direct-nginx-through-egress-gateway"]


FILES = {"certificate": "/c/tls.crt", "private_key": "/c/tls.key", "ca_certificate": "/ca/ca.crt", "crl": "/ca/ca.crl"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"credential_name": None, "certificate_files": FILES},
            {
                "mode": "MUTUAL",
                "sni": "nginx.example.com",
                "clientCertificate": "/c/tls.crt",
                "privateKey": "/c/tls.key",
                "caCertificates": "/ca/ca.crt",
                "caCrl": "/ca/ca.crl",
                "subjectAltNames": ["nginx.example.com"],
            },
        ),
        (
            {"credential_name": None, "mode": "SIMPLE"},
            {"mode": "SIMPLE", "sni": "nginx.example.com", "subjectAltNames": ["nginx.example.com"]},
        ),
        (
            {"credential_name": "roots-cacert", "mode": "SIMPLE"},
            {"mode": "SIMPLE", "sni": "nginx.example.com", "credentialName": "roots-cacert", "subjectAltNames": ["nginx.example.com"]},
        ),
        (
            {"sni": "edge.example.net", "subject_alt_names": ["edge.example.net", "spiffe://partner/api"]},
            {
                "mode": "MUTUAL",
                "sni": "edge.example.net",
                "credentialName": "client-credential",
                "subjectAltNames": ["edge.example.net", "spiffe://partner/api"],
            },
        ),
        ({"subject_alt_names": []}, {"mode": "MUTUAL", "sni": "nginx.example.com", "credentialName": "client-credential"}),
    ],
)
def test_originating_tls(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    assert tls(**changes) == expected


@pytest.mark.parametrize(("text", "seconds"), [("90s", "90s"), ("10m", "600s"), ("1h", "3600s")])
def test_an_age_of_connections(text: str, seconds: str) -> None:
    (settings,) = spec(made(max_connection_age=text), "DestinationRule", "originate-mtls-for-nginx")["trafficPolicy"]["portLevelSettings"]
    assert settings["connectionPool"] == {"tcp": {"maxConnectionDuration": seconds}}
    (settings,) = spec(made(max_connection_age=text, protocol="GRPC"), "DestinationRule", "originate-mtls-for-nginx")["trafficPolicy"][
        "portLevelSettings"
    ]
    assert settings["connectionPool"] == {"http": {"h2UpgradePolicy": "UPGRADE"}, "tcp": {"maxConnectionDuration": seconds}}


def test_static_endpoints() -> None:
    entry = spec(
        made(
            resolution="STATIC",
            tls_port=8443,
            http_port=8080,
            endpoints=[
                {"address": "192.0.2.1", "ports": {"https": 9443}, "labels": {"zone": "a"}, "locality": "eu/a", "weight": 90},
                {"address": "2001:db8::1", "weight": 0},
            ],
        ),
        "ServiceEntry",
        "nginx",
    )
    assert entry["resolution"] == "STATIC"
    assert entry["ports"] == [
        {"number": 8080, "name": "http", "protocol": "HTTP"},
        {"number": 8443, "name": "https", "protocol": "HTTPS"},
    ]
    assert entry["endpoints"] == [
        {"address": "192.0.2.1", "ports": {"https": 9443}, "labels": {"zone": "a"}, "locality": "eu/a", "weight": 90},
        {"address": "2001:db8::1", "weight": 0},
    ]


def test_resolution_none_has_no_endpoints() -> None:
    entry = spec(made(resolution="NONE"), "ServiceEntry", "nginx")
    assert entry["resolution"] == "NONE"
    assert "endpoints" not in entry


@pytest.mark.parametrize("protocol", ["HTTP2", "GRPC"])
def test_http2_goes_all_the_way(protocol: str) -> None:
    objects = made(protocol=protocol)
    upgrade = {"http": {"h2UpgradePolicy": "UPGRADE"}}
    originating = spec(objects, "DestinationRule", "originate-mtls-for-nginx")
    first_hop = spec(objects, "DestinationRule", "egressgateway-for-nginx")
    assert originating["trafficPolicy"]["portLevelSettings"][0]["connectionPool"] == upgrade
    assert first_hop["subsets"][0]["trafficPolicy"]["portLevelSettings"][0]["connectionPool"] == upgrade
    assert spec(objects, "ServiceEntry", "nginx")["ports"][0] == {"number": 80, "name": "http", "protocol": protocol}


@pytest.mark.parametrize(
    ("namespace", "export_to", "expected"),
    [
        ("istio-system", ["shop"], ["shop", "."]),
        ("istio-system", ["shop", "istio-system"], ["shop", "."]),
        ("partners", ["shop"], ["shop", "istio-system"]),
        ("partners", [".", "partners"], [".", "istio-system"]),
        ("partners", ["*"], ["*"]),
        ("partners", [], None),
    ],
)
def test_the_gateway_sees_what_clients_see(namespace: str, export_to: list[str], expected: list[str] | None) -> None:
    for each in made(namespace=namespace, export_to=export_to, direct_tls=True):
        if each["kind"] in ("ServiceEntry", "VirtualService"):
            assert each["spec"].get("exportTo") == expected


def test_prevent_bypass() -> None:
    objects = made(prevent_bypass=True, client_namespaces=["shop", "billing"])
    assert objects[-2] == yaml.safe_load(POLICY)
    assert objects[-1]["metadata"]["namespace"] == "billing"


def test_prevent_bypass_elsewhere() -> None:
    objects = made(
        prevent_bypass=True,
        client_namespaces=["shop"],
        gateway={"namespace": "egress", "selector": {"app": "gw"}},
        dns={"namespace": "openshift-dns", "labels": {"dns": "default"}, "port": 5353},
        control_plane={"namespace": "istio-control", "port": 15010},
    )
    rules = objects[-1]["spec"]["egress"]
    assert [rule["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for rule in rules] == [
        "openshift-dns",
        "istio-control",
        "egress",
    ]
    assert [rule.get("ports") for rule in rules] == [
        [{"protocol": "UDP", "port": 5353}, {"protocol": "TCP", "port": 5353}],
        [{"protocol": "TCP", "port": 15010}],
        None,
    ]


def test_order_and_kinds() -> None:
    objects = made(direct_tls=True)
    assert [(each["kind"], each["metadata"]["name"]) for each in objects] == [
        ("DestinationRule", "originate-mtls-for-nginx"),
        ("DestinationRule", "egressgateway-for-nginx"),
        ("Gateway", "egress-nginx"),
        ("ServiceEntry", "nginx"),
        ("VirtualService", "nginx"),
        ("VirtualService", "direct-nginx-through-egress-gateway"),
    ]
    everything = objects + made(prevent_bypass=True, client_namespaces=["shop"])
    assert {(each["apiVersion"], each["kind"]) for each in everything} == set(KINDS)


def test_two_services_on_one_gateway_share_nothing_but_the_gateway() -> None:
    originations = from_arguments(
        {"credential_name": "c", "services": [{"name": "a", "host": "a.example.com"}, {"name": "b", "host": "b.example.com"}]}
    )
    first, second = (manifests(one) for one in originations)
    assert not {(each["kind"], each["metadata"]["name"]) for each in first} & {(each["kind"], each["metadata"]["name"]) for each in second}
    first_hops = [spec(objects, "DestinationRule", f"egressgateway-for-{name}") for objects, name in ((first, "a"), (second, "b"))]
    assert [rule["host"] for rule in first_hops] == ["istio-egressgateway.istio-system.svc.cluster.local"] * 2
    assert [rule["subsets"][0]["name"] for rule in first_hops] == ["a", "b"]
    assert all("trafficPolicy" not in rule and "exportTo" not in rule for rule in first_hops)


def test_two_hundred_services_have_names_of_their_own() -> None:
    originations = from_arguments(
        {"credential_name": "c", "services": [{"name": f"partner-{i}", "host": f"api.partner-{i}.example"} for i in range(200)]}
    )
    names = [(each["kind"], each["metadata"]["namespace"], each["metadata"]["name"]) for one in originations for each in manifests(one)]
    assert len(names) == len(set(names)) == 200 * 5
    assert namespaces(originations) == ("istio-system",)
    assert len({one.owner for one in originations}) == 200


def test_labels_and_annotations_of_the_user() -> None:
    (one,) = from_arguments(NGINX)
    for each in manifests(one, labels={"team": "shop", "meshops.istio/owner": "me"}, annotations={"ticket": "42"}):
        assert each["metadata"]["labels"] == {
            "team": "shop",
            "app.kubernetes.io/managed-by": "meshops.istio",
            "meshops.istio/owner": "origination.istio-system.nginx",
        }
        assert each["metadata"]["annotations"] == {"ticket": "42"}
