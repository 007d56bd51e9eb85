# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gateways and VirtualServices, and what is wrong with each.

The unit tests hold our rules to this table, and the integration tests hold istiod's webhook to it: what has an error here is refused
there, and what has none, or warnings only, is admitted there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    name: str
    manifest: dict[str, Any]
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


SIMPLE = {"mode": "SIMPLE", "credentialName": "c"}
PAIR = {"serverCertificate": "/c/tls.crt", "privateKey": "/c/tls.key"}
HOST = "httpbin.example.com"
DESTINATION = {"destination": {"host": "httpbin", "port": {"number": 8000}}}


def server(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"hosts": [HOST], "port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "tls": SIMPLE, **changes}
    return {key: value for key, value in made.items() if value is not None}


def port(number: int = 443, name: str = "https", protocol: str = "HTTPS", **more: Any) -> dict[str, Any]:
    return {"number": number, "name": name, "protocol": protocol, **more}


def gateway(*servers: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "mygateway", "namespace": "default", **metadata},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": list(servers)},
    }


def virtual_service(metadata: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "httpbin", "namespace": "default", **(metadata or {})},
        "spec": {"hosts": [HOST], "gateways": ["default/mygateway"], **spec},
    }


def http(**rule: Any) -> dict[str, Any]:
    return virtual_service(http=[{"route": [DESTINATION], **rule}])


def uri(**match: Any) -> dict[str, Any]:
    return http(match=[{"uri": match}])


def tls(*sni: str, hosts: tuple[str, ...] = (HOST,), **match: Any) -> dict[str, Any]:
    return virtual_service(hosts=list(hosts), tls=[{"match": [{"sniHosts": list(sni), **match}], "route": [DESTINATION]}])


def headers(**operations: Any) -> dict[str, Any]:
    return http(headers=operations)


CASES = (
    # --- Gateway: metadata
    Case("simple", gateway(server())),
    Case("labelled", gateway(server(), labels={"team": "", "a.b/c": "D_e.f"}, annotations={"a/b": "any text at all"})),
    Case("dotted name", gateway(server(), name="my.gateway"), ("gateway_name",)),
    Case("bad label", gateway(server(), labels={"team": "a b"}), ("label",)),
    Case("bad label key", gateway(server(), labels={"a/b/c": "d"}), ("label",)),
    Case("bad annotation key", gateway(server(), annotations={"a b": "c"}), ("annotation",)),
    Case("dry-run annotation", gateway(server(), annotations={"istio.io/dry-run": "true"}), ("annotation",)),
    Case("parent annotation", gateway(server(), annotations={"internal.istio.io/parents": "a"}), ("annotation",)),
    # --- Gateway: servers, hosts, ports
    Case("no servers", gateway(), ("no_servers",)),
    Case("no hosts", gateway(server(hosts=[])), ("no_hosts",)),
    Case("every host", gateway(server(hosts=["*"]))),
    Case("wildcard host", gateway(server(hosts=["*.example.com", "./a.example.com", "*/b.example.com", "other/*.example.org"]))),
    Case("address host", gateway(server(hosts=["192.0.2.1"]))),
    Case("dot at the end", gateway(server(hosts=["example.com."]))),
    Case("IPv6 host", gateway(server(hosts=["2001:db8::1"])), ("host",)),
    Case("short host", gateway(server(hosts=["httpbin"])), ("host_short_name",)),
    Case("host with underscore", gateway(server(hosts=["a_b.example.com"])), ("host",)),
    Case("host with number as last label", gateway(server(hosts=["example.1"])), ("host",)),
    Case("long label", gateway(server(hosts=["a" * 64 + ".example.com"])), ("host",)),
    Case("long host", gateway(server(hosts=["a." * 127 + "example"])), ("host",)),
    Case("empty label", gateway(server(hosts=["a..example.com"])), ("host",)),
    Case("port in host", gateway(server(hosts=["httpbin.example.com:443"])), ("host",)),
    Case("partial wildcard", gateway(server(hosts=["*-a.example.com"])), ("host_partial_wildcard",)),
    Case("wildcard inside", gateway(server(hosts=["a.*.example.com"])), ("host",)),
    Case("bad namespace of host", gateway(server(hosts=["a_b/x.example.com"])), ("host_namespace",)),
    Case("empty namespace of host", gateway(server(hosts=["/x.example.com"])), ("host_namespace",)),
    Case("excluded namespace of host", gateway(server(hosts=["~/x.example.com"])), ("host_namespace",)),
    Case("two slashes in host", gateway(server(hosts=["a/b/x.example.com"])), ("host",)),
    Case("port 0", gateway(server(port=port(0))), ("port_number",)),
    Case("port too high", gateway(server(port=port(65536))), ("port_number",)),
    Case("unknown protocol", gateway(server(port=port(protocol="HTPS"))), ("port_protocol",)),
    Case("lower-case protocol", gateway(server(port=port(protocol="https")))),
    Case("nameless port", gateway(server(port=port(name=""))), ("port_name",)),
    Case("target port", gateway(server(port=port(targetPort=8443))), ("target_port",)),
    Case("same port name", gateway(server(), server(hosts=["b.example.com"])), ("port_name_not_unique",)),
    Case("two port names", gateway(server(), server(hosts=["b.example.com"], port=port(name="https-b")))),
    Case("bind", gateway(server(bind="127.0.0.1"))),
    Case("bind to a name", gateway(server(bind="localhost")), ("bind",)),
    Case("bind to a socket", gateway(server(bind="unix:///run/s.sock", port=port(0)))),
    Case("bind to a socket with port", gateway(server(bind="unix:///run/s.sock")), ("bind",)),
    Case("bind to a relative socket", gateway(server(bind="unix://run/s.sock", port=port(0))), ("bind",)),
    # --- Gateway: TLS
    Case("no TLS settings", gateway(server(tls=None)), ("tls_missing",)),
    Case("mutual", gateway(server(tls={"mode": "MUTUAL", "credentialName": "c"}))),
    Case("mutual with CA credential", gateway(server(tls={"mode": "MUTUAL", "credentialName": "c", "caCertCredentialName": "d-cacert"}))),
    Case("optional mutual", gateway(server(tls={"mode": "OPTIONAL_MUTUAL", "credentialName": "c"}))),
    Case("two credentials", gateway(server(tls={"mode": "SIMPLE", "credentialNames": ["rsa", "ecdsa"]}))),
    Case("three credentials", gateway(server(tls={"mode": "SIMPLE", "credentialNames": ["a", "b", "c"]})), ("credential_names",)),
    Case("both credential fields", gateway(server(tls={**SIMPLE, "credentialNames": ["a"]})), ("certificate_sources",)),
    Case("credential and files", gateway(server(tls={**SIMPLE, **PAIR})), ("certificate_sources",)),
    Case("credential and half a pair", gateway(server(tls={**SIMPLE, "privateKey": "/c/tls.key"}))),
    Case("unknown mode", gateway(server(tls={"mode": "SIMPEL", "credentialName": "c"})), ("tls_mode",)),
    Case("no certificate", gateway(server(tls={"mode": "SIMPLE"})), ("certificate_missing", "certificate_missing")),
    Case("files", gateway(server(tls={"mode": "SIMPLE", **PAIR}))),
    Case("no key", gateway(server(tls={"mode": "SIMPLE", "serverCertificate": "/c/tls.crt"})), ("certificate_missing",)),
    Case("mutual files", gateway(server(tls={"mode": "MUTUAL", **PAIR, "caCertificates": "/c/ca.crt", "caCrl": "/c/ca.crl"}))),
    Case("mutual files without CA", gateway(server(tls={"mode": "MUTUAL", **PAIR})), ("client_ca_missing",)),
    Case("optional mutual files without CA", gateway(server(tls={"mode": "OPTIONAL_MUTUAL", **PAIR})), ("client_ca_missing",)),
    Case("simple with CRL", gateway(server(tls={"mode": "SIMPLE", **PAIR, "caCrl": "/c/ca.crl"})), ("crl_with_simple",)),
    Case("credential with CRL", gateway(server(tls={"mode": "MUTUAL", "credentialName": "c", "caCrl": "/c/ca.crl"}))),
    Case("mesh certificates", gateway(server(tls={"mode": "ISTIO_MUTUAL"}))),
    Case(
        "mesh certificates with credential",
        gateway(server(tls={"mode": "ISTIO_MUTUAL", "credentialName": "c"})),
        ("istio_mutual_with_certificates",),
    ),
    Case(
        "mesh certificates with CA",
        gateway(server(tls={"mode": "ISTIO_MUTUAL", "caCertificates": "/c"})),
        ("istio_mutual_with_certificates",),
    ),
    Case("passthrough", gateway(server(tls={"mode": "PASSTHROUGH"}, port=port(protocol="TLS")))),
    Case("automatic passthrough", gateway(server(hosts=["*.local"], tls={"mode": "AUTO_PASSTHROUGH"}, port=port(protocol="TLS")))),
    Case(
        "passthrough with credential",
        gateway(server(tls={"mode": "PASSTHROUGH", "credentialName": "c"}, port=port(protocol="TLS"))),
        warnings=("passthrough_with_certificates",),
    ),
    Case(
        "passthrough with credential and CRL",
        gateway(server(tls={"mode": "PASSTHROUGH", "credentialName": "c", "caCrl": "/c"}, port=port(protocol="TLS"))),
        ("crl_with_credential",),
        ("passthrough_with_certificates",),
    ),
    Case("versions", gateway(server(tls={**SIMPLE, "minProtocolVersion": "TLSV1_2", "maxProtocolVersion": "TLSV1_3"}))),
    Case("unknown version", gateway(server(tls={**SIMPLE, "minProtocolVersion": "TLSV1.2"})), ("protocol_version",)),
    Case("old version", gateway(server(tls={**SIMPLE, "minProtocolVersion": "TLSV1_0"})), warnings=("old_protocol_without_ciphers",)),
    Case("old version with suite", gateway(server(tls={**SIMPLE, "minProtocolVersion": "TLSV1_0", "cipherSuites": ["AES128-SHA"]}))),
    Case("cipher expression", gateway(server(tls={**SIMPLE, "cipherSuites": ["ALL", "-AES128-SHA"]}))),
    Case("unknown suite", gateway(server(tls={**SIMPLE, "cipherSuites": ["TLS_AES_128_GCM_SHA256"]})), warnings=("cipher_suite",)),
    Case("suite twice", gateway(server(tls={**SIMPLE, "cipherSuites": ["AES128-SHA"] * 2})), warnings=("cipher_suite_repeated",)),
    Case("plain HTTP", gateway(server(tls=None, port=port(80, "http", "HTTP")))),
    Case("redirect", gateway(server(tls={"httpsRedirect": True}, port=port(80, "http", "HTTP")))),
    Case("plain HTTP with TLS", gateway(server(port=port(80, "http", "HTTP"))), ("plaintext_with_tls",)),
    Case(
        "redirect with files",
        gateway(server(tls={"httpsRedirect": True, **PAIR}, port=port(80, "http", "HTTP"))),
        ("plaintext_with_tls",),
        ("passthrough_with_certificates",),
    ),
    Case("TCP with TLS", gateway(server(port=port(9000, "tcp", "TCP"))), ("plaintext_with_tls",)),
    Case("redirect of HTTPS", gateway(server(tls={**SIMPLE, "httpsRedirect": True})), warnings=("redirect_without_http",)),
    # --- VirtualService
    Case("route", http()),
    Case("route with dotted name", virtual_service({"name": "mygateway-httpbin.example.com"}, http=[{"route": [DESTINATION]}])),
    Case("route with bad name", virtual_service({"name": "my_route"}, http=[{"route": [DESTINATION]}]), ("object_name",)),
    Case("route without hosts", virtual_service(hosts=[], http=[{"route": [DESTINATION]}]), ("no_hosts",)),
    Case("route for every host", virtual_service(hosts=["*"], http=[{"route": [DESTINATION]}])),
    Case("route for every host of the mesh", virtual_service(hosts=["*"], gateways=["mesh"], http=[{"route": [DESTINATION]}]), ("host",)),
    Case("route for an address", virtual_service(hosts=["192.0.2.1"], http=[{"route": [DESTINATION]}])),
    Case("route for a namespaced host", virtual_service(hosts=["./a.example.com"], http=[{"route": [DESTINATION]}]), ("host",)),
    Case("overlapping hosts", virtual_service(hosts=["*.example.com", HOST], http=[{"route": [DESTINATION]}]), ("hosts_overlap",)),
    Case("no routes", virtual_service(), ("no_routes",)),
    Case("no destination", virtual_service(http=[{"match": [{"uri": {"prefix": "/"}}]}]), ("no_destination",)),
    Case(
        "bad gateway reference", virtual_service(gateways=["default/my_gateway"], http=[{"route": [DESTINATION]}]), ("gateway_reference",)
    ),
    Case("short gateway reference", virtual_service(gateways=["mygateway"], http=[{"route": [DESTINATION]}])),
    Case("paths", http(match=[{"uri": {"prefix": "/status"}}, {"uri": {"exact": "/hello"}}, {"uri": {"regex": "/v[0-9]+/.*"}}])),
    Case("empty prefix of a path", uri(prefix="")),
    Case("empty regex", uri(regex=""), ("match_empty",)),
    Case("long regex", uri(regex="a" * 1025), ("regex",)),
    Case("looking ahead", uri(regex="/(?!admin).*"), ("regex",)),
    Case("looking behind", uri(regex="/a(?<=a)"), ("regex",)),
    Case("back reference", uri(regex="/(a)\\1"), ("regex",)),
    Case("escaped digits and classes", uri(regex="/[(?!]\\d+\\.\\(?\\++")),
    Case("unbalanced", uri(regex="/(a"), ("regex",)),
    Case("unterminated class", uri(regex="/[a"), ("regex",)),
    Case("possessive", uri(regex="/a*+"), ("regex",)),
    Case("nothing to repeat", uri(regex="*"), ("regex",)),
    Case("two kinds of match", uri(prefix="/a", exact="/a"), ("match_kinds",)),
    Case("method", http(match=[{"method": {"exact": "GET"}}])),
    Case("empty prefix of a method", http(match=[{"method": {"prefix": ""}}]), ("match_empty",)),
    Case(
        "headers matched",
        http(match=[{"headers": {"x-a": {"exact": "1"}, ":path": {"prefix": "/"}}, "withoutHeaders": {"x-b": {"regex": "*"}}}]),
    ),
    Case("claim matched", http(match=[{"headers": {"@request.auth.claims.group": {"exact": "admin"}}}])),
    Case("bad header name", http(match=[{"headers": {"x a": {"exact": "1"}}}]), ("header_name",)),
    Case("bad port of match", http(match=[{"port": 70000}]), ("port_number",)),
    Case("weights", virtual_service(http=[{"route": [{**DESTINATION, "weight": 90}, {"destination": {"host": "b"}, "weight": 10}]}])),
    Case("no weights", virtual_service(http=[{"route": [DESTINATION, {"destination": {"host": "b"}}]}]), ("weight",)),
    Case("negative weight", virtual_service(http=[{"route": [{**DESTINATION, "weight": -1}]}]), ("weight",)),
    Case("bad destination", virtual_service(http=[{"route": [{"destination": {"host": "http://b"}}]}]), ("destination_host",)),
    Case("every destination", virtual_service(http=[{"route": [{"destination": {"host": "*"}}]}]), ("destination_host",)),
    Case("bad subset", virtual_service(http=[{"route": [{"destination": {"host": "b", "subset": "v_1"}}]}]), ("subset",)),
    Case(
        "bad destination port", virtual_service(http=[{"route": [{"destination": {"host": "b", "port": {"number": 0}}}]}]), ("port_number",)
    ),
    Case("timeout", http(timeout="5s")),
    Case("short timeout", http(timeout="0.001s")),
    Case("timeout below a millisecond", http(timeout="0.0001s"), ("duration",)),
    Case("timeout without unit", http(timeout="5"), ("duration",)),
    Case("retries", http(retries={"attempts": 3, "perTryTimeout": "2s", "retryOn": "5xx,connect-failure,503"})),
    Case("no retries", http(retries={"attempts": 0})),
    Case("no retries but a policy", http(retries={"attempts": 0, "retryOn": "5xx"}), ("retries",)),
    Case("negative retries", http(retries={"attempts": -1}), ("retries",)),
    Case("unknown retry condition", http(retries={"attempts": 1, "retryOn": "6xx"}), ("retries",)),
    Case("rewrite", http(rewrite={"uri": "/", "authority": "httpbin"})),
    Case("empty rewrite", http(rewrite={}), ("rewrite",)),
    Case("authority set twice", http(rewrite={"authority": "a"}, headers={"request": {"set": {"Host": "b"}}}), ("rewrite",)),
    Case(
        "headers changed",
        headers(request={"set": {"x-client": "%DOWNSTREAM_PEER_SUBJECT%"}}, response={"add": {"x-a": "100%%"}, "remove": ["server"]}),
    ),
    Case("literal percent", headers(response={"set": {"x-a": "100%"}}), ("header_value",)),
    Case("variables with arguments", headers(request={"set": {"x-a": '%REQ(:path)% %UPSTREAM_METADATA( ["a", "b"] )%'}})),
    Case("quoted argument", headers(request={"set": {"x-a": '%REQ(":path")%'}}), ("header_value",)),
    Case("unfinished variable", headers(request={"set": {"x-a": "%REQ(:path%"}}), ("header_value",)),
    Case("no argument", headers(request={"set": {"x-a": "%REQ()%"}}), ("header_value",)),
    Case("newline in header", headers(response={"set": {"x-a": "a\nb"}}), ("header_value",)),
    Case("pseudo header set", headers(request={"set": {":path": "/"}}), ("header_name",)),
    Case("host of a response", headers(response={"set": {"host": "a"}}), ("header_name",)),
    Case("host removed", headers(request={"remove": ["Host"]}), ("header_name",)),
    Case(
        "route after a catch-all",
        virtual_service(http=[{"route": [DESTINATION]}, {"match": [{"uri": {"prefix": "/a"}}], "route": [DESTINATION]}]),
        warnings=("route_unreachable",),
    ),
    Case(
        "condition twice",
        virtual_service(http=[{"match": [{"uri": {"prefix": "/a"}}], "route": [DESTINATION]}] * 2),
        warnings=("route_repeated",),
    ),
    Case("SNI", tls(HOST)),
    Case("SNI below a wildcard", tls("a.example.com", hosts=("*.example.com",))),
    Case("SNI above the hosts", tls("*.example.com"), ("sni_host",)),
    Case("SNI of another host", tls("other.example.org"), ("sni_host",)),
    Case("SNI with slash", tls("./httpbin.example.com"), ("sni_host",)),
    Case("SNI is an address", tls("192.0.2.1"), warnings=("sni_is_address",)),
    Case("SNI of a cluster", tls("outbound_.80_._.a.b.local", hosts=("outbound_.80_._.a.b.local",))),
    Case("no SNI", tls(), ("sni_missing",)),
    Case("TLS without match", virtual_service(tls=[{"match": [], "route": [DESTINATION]}]), ("sni_missing",)),
    Case("TLS without destination", virtual_service(tls=[{"match": [{"sniHosts": [HOST]}]}]), ("no_destination",)),
    Case("TCP", virtual_service(tcp=[{"match": [{"port": 9000}], "route": [DESTINATION]}])),
    Case("TCP without destination", virtual_service(tcp=[{"match": [{"port": 9000}]}]), ("no_destination",)),
)
