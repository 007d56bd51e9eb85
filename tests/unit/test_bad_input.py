# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users get wrong, and what they are told: one table over all modules, each run from its arguments to its printed result.

Every message says where, what was expected, what was found, and what to do. `@name` stands for content of `bad_material`, `@path:name` for
a file with it. Nothing here reaches a cluster.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils import module as module_start
from ansible_collections.meshops.istio.tests.unit.bad_material import PASSPHRASE, material
from ansible_collections.meshops.istio.tests.unit.modules.test_tls_probe import module_arguments
from ansible_collections.meshops.istio.tests.unit.tls.tls_pki import NOW

CREDENTIAL, INFO, INGRESS = "istio_tls_credential", "istio_tls_credential_info", "ingress_tls_gateway"
EGRESS, PROBE, MOUNT = "egress_mtls_origination", "tls_probe", "gateway_credential_mount"

PAIR = {"certificate": "@certificate", "private_key": "@key"}
ABSENT = {"name": "c", "state": "absent"}
SERVER = {"hosts": ["a.example.com"], "credential_name": "c"}
SERVICE = {"name": "a", "host": "a.example.com", "credential_name": "c"}
REQUEST = {"host": "a.example.com", "address": "127.0.0.1", "port": 1}
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "a",
    "clusters": [{"name": "a", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "a", "user": {"token": "some-token"}}],
    "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
}
EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-program", "interactiveMode": "Never"}


def c(**more: Any) -> dict[str, Any]:
    """A good credential with something changed; None takes away."""
    return {name: value for name, value in {"name": "c", **PAIR, **more}.items() if value is not None}


def gw(**more: Any) -> dict[str, Any]:
    return {"name": "g", "servers": [{name: value for name, value in {**SERVER, **more}.items() if value is not None}]}


def route(**more: Any) -> dict[str, Any]:
    return gw(routes=[{"destination": {"host": "h"}, **more}])


def eg(**more: Any) -> dict[str, Any]:
    return {name: value for name, value in {**SERVICE, **more}.items() if value is not None}


def probe(**more: Any) -> dict[str, Any]:
    return {**REQUEST, **more}


# module, what is given, and what the message has to say
TABLE: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    # --- credentials: what is given, and how often
    "nothing": (CREDENTIAL, {}, ["one of the following is required: credentials, name"]),
    "a list and a name": (CREDENTIAL, {"name": "c", "credentials": []}, ["mutually exclusive: credentials|name"]),
    "a name alone": (CREDENTIAL, {"name": "c"}, ["name c: expected a certificate with its private key, or a CA", "found neither. Give"]),
    "an item without a name": (
        CREDENTIAL,
        {"credentials": [c(), c(name=None)]},
        ["credentials[1] (no name): name: expected the credential's name, found none. Give name"],
    ),
    "an option that does not exist": (
        CREDENTIAL,
        {"credentials": [c(cert="x")]},
        ["Unsupported parameters", "credentials.cert. Supported"],
    ),
    "credentials that are no list": (CREDENTIAL, {"credentials": 5}, ["Value '5' in the sub parameter field 'credentials' must b"]),
    "one credential twice": (
        CREDENTIAL,
        {"credentials": [c(), c()]},
        ["credentials: expected every credential once, found istio-system/c 2 times. Leave out all but one"],
    ),
    "content and path": (
        CREDENTIAL,
        c(certificate_path="@path:certificate"),
        ["certificate: expected one of certificate and certificate_path, found both. Give one of them"],
    ),
    "a certificate without its key": (
        CREDENTIAL,
        c(private_key=None),
        ["found only certificate. Give private_key or private_key_path too"],
    ),
    "a key without its certificate": (
        CREDENTIAL,
        c(certificate=None),
        ["found only private_key. Give certificate or certificate_path too"],
    ),
    "a CRL without its CA": (CREDENTIAL, c(crl="@crl"), ["CA certificate that issued it, found none. Give ca_certificate or"]),
    "a bundle and a pair": (
        CREDENTIAL,
        c(private_key=None, pkcs12_path="@path:bundle", pkcs12_passphrase=PASSPHRASE),
        ["pkcs12_path /", "expected the pair once, found a PKCS#12 bundle and certificate. Give one of them"],
    ),
    # --- credentials: files
    "a file that is not there": (
        CREDENTIAL,
        c(certificate=None, certificate_path="/nonexistent/a.crt"),
        ["certificate_path /nonexistent/a.crt: expected a readable file, found: no such file. Correct the path"],
    ),
    "a directory": (
        CREDENTIAL,
        c(certificate=None, certificate_path="/"),
        ["certificate_path /: expected a readable file, found: a directory"],
    ),
    "a path with a null byte": (
        CREDENTIAL,
        c(certificate=None, certificate_path="a\0b"),
        ["certificate_path a\\x00b: expected a readable file, found: a null byte in its name. Correct the path"],
    ),
    "a name with a null byte": (
        CREDENTIAL,
        c(name="a\0b"),
        ["expected a Secret's name (lower-case letters, digits, '-' and '.', at most 253), found 'a\\x00b'"],
    ),
    "content as path": (
        CREDENTIAL,
        c(private_key=None, private_key_path="@key"),
        ["private_key_path: expected the path of a file, found what looks like content. Give content as private_key"],
    ),
    "a path as content": (
        CREDENTIAL,
        c(certificate="/etc/ssl/a.crt"),
        ["certificate: expected PEM certificates, found what looks like a path instead of content. Give a path through the option"],
    ),
    "an empty file": (CREDENTIAL, c(certificate=None, certificate_path="@path:nothing"), ["found nothing: it is empty. Look whether"]),
    "a web page": (
        CREDENTIAL,
        c(certificate=None, certificate_path="@path:html"),
        ["found a web page (HTML). Look at it"],
    ),
    "a template that nobody filled": (
        CREDENTIAL,
        c(certificate="@template"),
        ["certificate: expected PEM certificates, found neither PEM nor"],
    ),
    "random bytes": (
        CREDENTIAL,
        c(certificate=None, certificate_path="@path:binary"),
        ["expected PEM certificates, found neither PEM nor"],
    ),
    "a certificate in UTF-16 as the key": (
        CREDENTIAL,
        c(private_key=None, private_key_path="@path:utf-16"),
        ["PEM of another kind (CERTIFICATE)"],
    ),
    "a certificate in DER as the key": (
        CREDENTIAL,
        c(private_key=None, private_key_path="@path:certificate der"),
        ["expected a private key in PEM, found a certificate in DER"],
    ),
    "a key in DER as the certificate": (
        CREDENTIAL,
        c(certificate=None, certificate_path="@path:key der"),
        ["expected PEM certificates, found a private key in DER"],
    ),
    "base64 of PEM": (
        CREDENTIAL,
        c(certificate="@certificate in base64"),
        ["found PEM that is encoded in Base64 once more", "Decode it first"],
    ),
    "a certificate cut in two": (
        CREDENTIAL,
        c(certificate="@truncated"),
        ["(CERTIFICATE, line 1) is truncated: it has no END line. Give the file whole"],
    ),
    "a damaged certificate": (
        CREDENTIAL,
        c(certificate="@damaged"),
        ["block 1 (line 1) is not a valid certificate. Fetch the certificate again"],
    ),
    "damaged base64": (CREDENTIAL, c(certificate="@damaged base64"), ["block 1 (line 1) is not valid Base64. Fetch the certificate again"]),
    "a request instead of a certificate": (
        CREDENTIAL,
        c(certificate="@request"),
        ["found PEM of another kind (CERTIFICATE REQUEST). Look whether"],
    ),
    "a public key": (CREDENTIAL, c(private_key="@public key"), ["expected a private key in PEM, found PEM of another kind (PUBLIC KEY)"]),
    "key and certificate exchanged": (
        CREDENTIAL,
        c(certificate="@key", private_key="@certificate"),
        [
            "2 problems, nothing was changed",
            "certificate: expected PEM certificates, found a private key alone",
            "private_key: expected a private key",
        ],
    ),
    "a key among the certificates": (
        CREDENTIAL,
        c(certificate="@chain with a key", private_key="@other key"),
        ["expected certificates only, found a private key too (line ", "Give the key through its own option"],
    ),
    # --- credentials: what is in them
    "another certificate's key": (
        CREDENTIAL,
        c(private_key="@other key"),
        ["private_key: expected the private key of CN=a.example.com", "found another one (ECDSA P-256", "Give the key with which"],
    ),
    "a chain the wrong way round": (
        CREDENTIAL,
        c(certificate="@chain the wrong way round", private_key="@chain key"),
        [
            "certificate: expected the leaf first",
            "found CN=Some intermediate as certificate 1",
            "Put them in this order: CN=deep.example.com",
        ],
    ),
    "a chain that leads elsewhere": (
        CREDENTIAL,
        c(certificate="@chain", private_key="@chain key", trust_anchors="@other ca"),
        ["certificate: expected", "CN=Some CA", "[chain_incomplete]"],
    ),
    "an expired certificate": (
        CREDENTIAL,
        c(certificate="@expired"),
        [
            "expected a certificate that is valid on 2027-01-01T12:00:00Z, found that CN=a.example.com expired on 2026-12-31T12:00:00Z",
            "Renew it",
        ],
    ),
    "a certificate of tomorrow": (
        CREDENTIAL,
        c(certificate="@future"),
        ["is valid from 2027-01-04T12:00:00Z. Wait until then, or compare the clocks"],
    ),
    "too few days left": (
        CREDENTIAL,
        c(min_remaining="200d"),
        ["expected 200 days or more left, found 90 days", "Renew it, or lower min_remaining"],
    ),
    "a host that it does not cover": (
        CREDENTIAL,
        c(hosts=["b.example.com"]),
        ["expected a certificate for b.example.com, found a.example.com in CN=a.example.com. Issue the certificate with subjectAltName"],
    ),
    "a wildcard for two labels": (
        CREDENTIAL,
        c(certificate="@wildcard", hosts=["x.b.example.com"]),
        ["a wildcard stands for exactly one label"],
    ),
    "a client's certificate": (
        CREDENTIAL,
        c(certificate="@for clients"),
        ["expected extendedKeyUsage serverAuth in the server certificate CN=a.example.com, found clientAuth. Set purpose: client"],
    ),
    "a curve that Envoy refuses": (
        CREDENTIAL,
        c(certificate="@P-224", private_key="@P-224 key"),
        ["expected a key that Envoy takes", "found ECDSA P-224 in CN=a.example.com", "Make a new key"],
    ),
    "a short RSA key": (
        CREDENTIAL,
        c(certificate="@RSA 1024", private_key="@RSA 1024 key"),
        ["found RSA 1024 in CN=a.example.com: too short"],
    ),
    "an encrypted key": (CREDENTIAL, c(private_key="@encrypted key"), ["found an encrypted one and no passphrase. Give the passphrase"]),
    "the wrong passphrase": (
        CREDENTIAL,
        c(private_key="@encrypted key", private_key_passphrase="not this one"),
        ["expected the passphrase of the private key, found one that does not decrypt it", "Give the passphrase with which"],
    ),
    "a bundle with the wrong passphrase": (
        CREDENTIAL,
        {"name": "c", "pkcs12_path": "@path:bundle", "pkcs12_passphrase": "not this one"},
        [
            "expected the passphrase of the PKCS#12 bundle, found one that does not open it",
            "Give the passphrase with which it was exported",
        ],
    ),
    "a bundle without a passphrase": (
        CREDENTIAL,
        {"name": "c", "pkcs12_path": "@path:bundle"},
        ["found none, and the bundle does not open without one"],
    ),
    "a bundle without a key": (
        CREDENTIAL,
        {"name": "c", "pkcs12_path": "@path:bundle without key", "pkcs12_passphrase": PASSPHRASE},
        ["expected a PKCS#12 bundle with a private key, found certificates only. Export it again with the key"],
    ),
    "PEM as a bundle": (
        CREDENTIAL,
        {"name": "c", "pkcs12_path": "@path:certificate"},
        ["found PEM of another kind (CERTIFICATE). Give PEM through"],
    ),
    "a bundle as text": (
        CREDENTIAL,
        {"name": "c", "pkcs12": "@certificate"},
        ["expected binary content encoded in base64, found something else. Encode it"],
    ),
    "an expired CA": (
        CREDENTIAL,
        c(ca_certificate="@expired"),
        ["ca_certificate: expected a CA that is valid, found that CN=a.example.com expired on 2026-12-31", "Renew the CA's certificate"],
    ),
    "a key as trust anchor": (CREDENTIAL, c(trust_anchors="@key"), ["trust_anchors: expected PEM certificates, found a private key alone"]),
    "an expired CRL": (
        CREDENTIAL,
        c(ca_certificate="@ca", crl="@expired crl"),
        ["crl: expected a CRL that is valid on", "expired on 2026-12-30", "Fetch the CA's"],
    ),
    "another CA's CRL": (
        CREDENTIAL,
        c(ca_certificate="@ca", crl="@other ca's crl"),
        ["expected a CRL of every CA", "found none of CN=Some CA", "Add its CRL"],
    ),
    "a certificate in DER as the CRL": (
        CREDENTIAL,
        c(ca_certificate="@ca", crl_path="@path:certificate der"),
        ["found a certificate in DER"],
    ),
    "a revoked certificate": (
        CREDENTIAL,
        c(ca_certificate="@ca", crl="@crl that revokes"),
        ["not revoked, found CN=a.example.com (serial", "Have a new"],
    ),
    "another certificate's staple": (
        CREDENTIAL,
        c(ocsp_staple_path="@path:other's staple"),
        ["expected an OCSP response for CN=a.example.com (serial", "found one for serial", "Ask the responder for this certificate"],
    ),
    "a certificate as staple": (
        CREDENTIAL,
        c(ocsp_staple_path="@path:certificate"),
        ["expected an OCSP response in DER, found PEM of another kind"],
    ),
    "a staple in the generic layout": (
        CREDENTIAL,
        c(layout="generic", ocsp_staple_path="@path:staple"),
        ["reads an OCSP staple only beside tls.crt and tls.key, found layout generic. Use layout tls"],
    ),
    "more than etcd takes": (
        CREDENTIAL,
        c(certificate=None, certificate_path="@path:huge"),
        ["Secret c would hold", "and the API server takes 1048576 at most. Leave out certificates"],
    ),
    # --- credentials: names and words
    "a name that Kubernetes refuses": (
        CREDENTIAL,
        c(name="My_Credential"),
        ["expected a Secret's name", "found 'My_Credential'. Choose such a name"],
    ),
    "a name with a namespace": (
        CREDENTIAL,
        c(name="istio-system/c"),
        ["found 'istio-system/c'", "so it is never written as namespace/name"],
    ),
    "a namespace that is none": (
        CREDENTIAL,
        c(namespace="Istio System"),
        ["expected a namespace's name, found 'Istio System'. Use lower-case letters"],
    ),
    "a path as a name to delete": (
        CREDENTIAL,
        {"name": "a/b", "state": "absent"},
        ["name a/b: expected a name of up to 253", "found 'a/b'"],
    ),
    "dots as a namespace": (
        CREDENTIAL,
        {**ABSENT, "namespace": ".."},
        ["expected a namespace of up to 63", "found '..'. Name an existing"],
    ),
    "a pair under a CA's name": (
        CREDENTIAL,
        c(name="c-cacert"),
        ["for a CA alone and would never serve this certificate. Choose a name without"],
    ),
    "split without a pair": (
        CREDENTIAL,
        {"name": "c", "layout": "split", "ca_certificate": "@ca"},
        ["a pair and its CA in two Secrets, found no pair. For a CA alone use layout generic and the name c-cacert"],
    ),
    "a layout that does not exist": (CREDENTIAL, c(layout="pem"), ["value of layout must be one of: tls, generic, split, got: pem"]),
    "a duration in words": (
        CREDENTIAL,
        c(min_remaining="a month"),
        ["min_remaining: expected a duration such as 30d, 12h or 1w2d, found 'a month'. Write a number and w, d, h, m or s"],
    ),
    "a duration without end": (
        CREDENTIAL,
        c(min_remaining="99999999999999d"),
        ["'99999999999999d' is longer than can be counted. Name a shorter"],
    ),
    "a label that is none": (
        CREDENTIAL,
        c(labels={"a b": "c"}),
        ["name c: expected [domain/]name as label key, found 'a b'. Write it in that form"],
    ),
    "a label that is too long": (CREDENTIAL, c(labels={"a": "b" * 64}), ["as the value of label a, found", "use an annotation"]),
    "an annotation that is none": (CREDENTIAL, c(annotations={"a b": "c"}), ["expected [domain/]name as annotation key, found 'a b'"]),
    "neither yes nor no": (CREDENTIAL, c(force_conflicts="perhaps"), ["'force_conflicts'", "'perhaps' is not a valid boolean"]),
    # --- the way to the cluster
    "no kubeconfig at all": (
        CREDENTIAL,
        ABSENT,
        ["cannot load ~/.kube/config (no kubeconfig, KUBECONFIG or host is set)", "or pass host and api_key"],
    ),
    "a kubeconfig that is not there": (
        CREDENTIAL,
        {**ABSENT, "kubeconfig": "/nonexistent/config"},
        ["kubeconfig: cannot read /nonexistent/config; name an existing, readable file"],
    ),
    "a kubeconfig's text": (
        CREDENTIAL,
        {**ABSENT, "kubeconfig": "apiVersion: v1\nkind: Config\n"},
        ["expected a path or a dictionary, found a kubeconfig's text"],
    ),
    "a web page as kubeconfig": (
        CREDENTIAL,
        {**ABSENT, "kubeconfig": "@path:html"},
        ["expected a kubeconfig (YAML with clusters, users and contexts), found"],
    ),
    "random bytes as kubeconfig": (
        CREDENTIAL,
        {**ABSENT, "kubeconfig": "@path:binary"},
        ["expected a kubeconfig (YAML with clusters, users and contexts)"],
    ),
    "broken YAML as kubeconfig": (
        CREDENTIAL,
        {**ABSENT, "kubeconfig": "@path:broken yaml"},
        ["expected a kubeconfig in YAML, found", "in line 2"],
    ),
    "a dictionary that is no kubeconfig": (
        CREDENTIAL,
        {**ABSENT, "kubeconfig": {"current-context": "a", "contexts": 5}},
        ["cannot load the kubeconfig given as a dictionary: expected a kubeconfig"],
    ),
    "a context that is not there": (
        CREDENTIAL,
        {**ABSENT, "kubeconfig": KUBECONFIG, "context": "production"},
        ["cannot load context 'production'", "it has no context 'production' (its contexts: 'a')"],
    ),
    "a login program that is not there": (
        CREDENTIAL,
        {**ABSENT, "kubeconfig": {**KUBECONFIG, "users": [{"name": "a", "user": {"exec": EXEC}}]}},
        ["the kubeconfig's login failed:", "no-such-program", "kubectl auth whoami"],
    ),
    "a host without https": (
        CREDENTIAL,
        {**ABSENT, "host": "api.example.com", "api_key": "secret"},
        ["host: expected the API server's URL (https://name:port), found 'api.example.com'"],
    ),
    "half an IPv6 address": (
        CREDENTIAL,
        {**ABSENT, "host": "https://[::1", "api_key": "secret"},
        ["host: expected the API server's URL", "found 'https://[::1'"],
    ),
    "a port in words": (
        CREDENTIAL,
        {**ABSENT, "host": "https://api:port", "api_key": "secret"},
        ["host: expected the API server's URL", "'https://api:port'"],
    ),
    "a login in the host": (
        CREDENTIAL,
        {**ABSENT, "host": "https://me:secret@api", "api_key": "secret"},
        ["without a login, found one in it; use username and"],
    ),
    "a token in two lines": (
        CREDENTIAL,
        {**ABSENT, "host": "https://127.0.0.1:1", "api_key": "one\ntwo"},
        ["the token or password holds line ends"],
    ),
    "a proxy that is none": (
        CREDENTIAL,
        {**ABSENT, "host": "https://127.0.0.1:1", "api_key": "secret", "proxy": "nonsense"},
        ["proxy: expected the URL of a proxy, found something else; write a URL such as"],
    ),
    "a CA file that is not there": (
        CREDENTIAL,
        {**ABSENT, "host": "https://127.0.0.1:1", "api_key": "secret", "ca_cert": "/nonexistent/ca.crt"},
        ["ca_cert: cannot read /nonexistent/ca.crt; name a readable file in PEM format"],
    ),
    "a CA file that is none": (
        CREDENTIAL,
        {**ABSENT, "host": "https://127.0.0.1:1", "api_key": "secret", "ca_cert": "@path:html"},
        ["the CA certificates in /", "cannot be read; give PEM in ca_cert"],
    ),
    "a login of two halves": (
        CREDENTIAL,
        {**ABSENT, "host": "https://127.0.0.1:1", "client_cert": "@path:certificate", "client_key": "@path:other key"},
        ["the client certificate /", "cannot be used (KEY_VALUES_MISMATCH); give a PEM certificate and its unencrypted key"],
    ),
    # --- credentials, looked at
    "one name and several": (INFO, {"name": "c", "names": ["c"]}, ["mutually exclusive: name|names"]),
    "a path as a name to look at": (
        INFO,
        {"names": ["a", "../b"]},
        ["name ../b: expected a name of up to 253", "found '../b'. Choose such a name"],
    ),
    "a namespace to look at that is none": (
        INFO,
        {"namespace": "Bad NS"},
        ["namespace: expected a namespace of up to 63", "found 'Bad NS'"],
    ),
    "days in words": (INFO, {"name": "c", "min_remaining": "soon"}, ["min_remaining: expected a duration such as 30d", "found 'soon'"]),
    # --- ingress
    "a gateway without a name": (INGRESS, {}, ["one of the following is required: gateways, name"]),
    "a gateway without servers": (INGRESS, {"name": "g"}, ["expected the servers of a Gateway that should exist, found none"]),
    "an empty list of servers": (
        INGRESS,
        {"name": "g", "servers": []},
        ["Gateway default/g: expected at least one server, found none. List one"],
    ),
    "a server without hosts": (INGRESS, gw(hosts=[]), ["servers[0]: expected at least one host, found none. List one; '*' stands for all"]),
    "a server without a certificate": (
        INGRESS,
        gw(credential_name=None),
        ["servers[0] (a.example.com): mode SIMPLE needs a certificate", "Name a credential"],
    ),
    "a URL as host": (
        INGRESS,
        gw(hosts=["https://a.example.com"]),
        ["expected a domain name as host, found 'https://a.example.com': it is a URL. Write a.example.com"],
    ),
    "a short host": (
        INGRESS,
        gw(hosts=["a"]),
        ["expected a name with a domain as host, found 'a'. Write it out, for example a.example.com"],
    ),
    "half a wildcard": (
        INGRESS,
        gw(hosts=["a*.example.com"]),
        ["found 'a*.example.com': a wildcard must be the whole first label. Write the bare name"],
    ),
    "IPv6 as host": (INGRESS, gw(hosts=["::1"]), ["istiod takes no IPv6 address as host, found '::1'. Use '*', or a domain name"]),
    "port 0": (INGRESS, gw(port=0), ["servers[0] (a.example.com): expected a port from 1 to 65535, found 0"]),
    "a port by name": (INGRESS, gw(port="https"), ["argument 'port' is of type", "unable to convert to int"]),
    "a mode in lower case": (INGRESS, gw(mode="mutual"), ["value of mode must be one of: SIMPLE, MUTUAL", "got: mutual"]),
    "two sources": (
        INGRESS,
        gw(credential_names=["d", "e"]),
        ["expected one source of the certificate, found credentialName, credentialNames. Keep one"],
    ),
    "one host on two servers": (
        INGRESS,
        {"name": "g", "servers": [SERVER, {**SERVER, "credential_name": "d"}]},
        ["servers[1] (a.example.com): host a.example.com is on port 443 in servers[0]", "Keep the host in one of the two"],
    ),
    "versions upside down": (
        INGRESS,
        gw(min_protocol_version="TLSV1_3", max_protocol_version="TLSV1_2"),
        ["no version is from TLSV1_3 to TLSV1_2. Exchange"],
    ),
    "a digest that is none": (
        INGRESS,
        gw(mode="MUTUAL", verify_certificate_hash=["xyz"]),
        ["expected the hexadecimal SHA-256 of a certificate", "found 'xyz'", "openssl"],
    ),
    "key content for a file in the pods": (
        INGRESS,
        gw(credential_name=None, server_certificate="@certificate", private_key="@key"),
        ["private_key: expected the path of a file in the gateway's pods, found the content of one (not shown). Make a credential of it"],
    ),
    "a gateway's name with dots": (INGRESS, {**gw(), "name": "my.gateway"}, ["without dots, found 'my.gateway'. Choose such a name"]),
    "a path as a gateway to delete": (INGRESS, {"name": "a/b", "state": "absent"}, ["without dots, found 'a/b'. Choose such a name"]),
    "a selector that selects nothing": (
        INGRESS,
        {**gw(), "selector": {"a": "b c"}},
        ["selector: expected up to 63 letters", "found 'b c'"],
    ),
    "a scheme that Istio does not know": (
        INGRESS,
        gw(credential_name="vault://c"),
        ["found the scheme 'vault' in 'vault://c'. Use a Secret's name"],
    ),
    "a route to nowhere": (
        INGRESS,
        gw(routes=[{}]),
        ["servers[0].routes[0]: expected destination or destinations, found neither. Name one service"],
    ),
    "a route with a negative weight": (
        INGRESS,
        gw(routes=[{"destinations": [{"host": "h", "weight": 5}, {"host": "i", "weight": -5}]}]),
        ["servers[0].routes[0]: expected a weight of 0 or more, found -5"],
    ),
    "a broken expression": (
        INGRESS,
        route(match=[{"regex": "("}]),
        ["match[0]: uri: expected a regular expression in RE2's syntax, found '('", "wiki/Syntax"],
    ),
    "two kinds of match": (
        INGRESS,
        route(match=[{"prefix": "/a", "exact": "/b"}]),
        ["expected one of prefix, exact and regex, found prefix and exact. List"],
    ),
    "a timeout in words": (
        INGRESS,
        route(timeout="soon"),
        ["timeout: expected a duration, found 'soon'. Write it like 5s, 250ms or 1m30s"],
    ),
    "a route for a host that is not served": (
        INGRESS,
        route(hosts=["b.example.com"]),
        ["expected hosts of the server (a.example.com), found 'b.example.com'. Add"],
    ),
    # --- egress
    "a service without a host": (EGRESS, eg(host=None), ["host: expected host, found none. Set host"]),
    "a wildcard service": (
        EGRESS,
        eg(host="*.example.com"),
        ["host: expected one host name, found the wildcard '*.example.com'. List each host"],
    ),
    "an address as service": (
        EGRESS,
        eg(host="192.0.2.1"),
        ["host: expected a DNS name, found the address 192.0.2.1", "give the address in endpoints"],
    ),
    "a URL as a service": (
        EGRESS,
        eg(host="https://a.example.com:8443/x"),
        ["found 'https://a.example.com:8443/x': it is a URL. Write a.example.com"],
    ),
    "a short service": (
        EGRESS,
        eg(host="nginx"),
        ["host: expected a fully qualified DNS name such as api.example.com, found 'nginx': it has no domain. Give the whole"],
    ),
    "no client certificate": (
        EGRESS,
        eg(credential_name=None),
        ["credential_name: mode MUTUAL presents a client certificate, and none was given. Set"],
    ),
    "a relative path": (
        EGRESS,
        eg(credential_name=None, certificate_files={"certificate": "a.crt", "private_key": "/b"}),
        ["certificate_files.certificate: expected an absolute path inside the gateway's pods, found 'a.crt'. Give the path"],
    ),
    "an empty selector": (
        EGRESS,
        eg(gateway={"selector": {}}),
        ["gateway.selector: expected the labels of the egress gateway's pods, found none"],
    ),
    "a selector of two labels in one": (
        EGRESS,
        eg(gateway={"selector": {"a": "b,c=d"}}),
        ["gateway.selector: expected up to 63 letters", "'b,c=d'"],
    ),
    "one port for both": (
        EGRESS,
        eg(http_port=443, tls_port=443),
        ["tls_port: expected a port other than http_port, found 443 for both", "give them different"],
    ),
    "a CA as the client's pair": (
        EGRESS,
        eg(credential_name="c-cacert"),
        ["expected a Secret with certificate and key, found 'c-cacert'", "Name the Secret"],
    ),
    "a credential elsewhere": (
        EGRESS,
        eg(credential_name="other/c"),
        ["(istio-system), found 'other/c'", "Put the Secret into the namespace"],
    ),
    "one service twice": (
        EGRESS,
        {"services": [SERVICE, SERVICE]},
        ["services[1] (a): name: istio-system/a is already used by services[0] (a). Give every"],
    ),
    "static without endpoints": (
        EGRESS,
        eg(resolution="STATIC"),
        ["endpoints: resolution STATIC needs endpoints, and none were given. Give their"],
    ),
    "a name where an address belongs": (
        EGRESS,
        eg(resolution="STATIC", endpoints=[{"address": "b.example.com"}]),
        ["endpoints[0].address: resolution STATIC takes IP addresses, found 'b.example.com'. Give an address"],
    ),
    "a bypass guarded for nobody": (
        EGRESS,
        eg(prevent_bypass=True),
        ["makes a NetworkPolicy in each namespace of clients, and none was named. List"],
    ),
    "a policy that cuts off istiod": (
        EGRESS,
        eg(prevent_bypass=True, client_namespaces=["istio-system"]),
        ["client_namespaces[0]: the NetworkPolicy would hold for every pod of istio-system", "Run clients in namespaces of their own"],
    ),
    "everyone and someone": (
        EGRESS,
        eg(export_to=["*", "x"]),
        ["export_to: expected * alone or namespaces, found *, x. Remove * or the others"],
    ),
    "a service's name that is none": (EGRESS, eg(name="A B"), ["name: expected a DNS label", "found 'A B'. Choose another name"]),
    # --- probe
    "a URL to probe": (
        PROBE,
        {"host": "https://a.example.com/x"},
        ["host: expected a host name or an address, found 'https://a.example.com/x': it is a URL. Write a.example.com"],
    ),
    "a port beyond all ports": (PROBE, probe(port=70000), ["port: expected 1 to 65535, found 70000. Give the port"]),
    "a CA to probe with that is none": (
        PROBE,
        probe(ca_certificate="@text"),
        ["ca_certificate: expected PEM certificates, found neither"],
    ),
    "a certificate to probe with and no key": (
        PROBE,
        probe(client_certificate="@certificate"),
        ["there is a client certificate but no key. Give client_private_key"],
    ),
    "a key to probe with of another": (
        PROBE,
        probe(client_certificate="@certificate", client_private_key="@other key"),
        ["client_private_key: the key is not the one of the client certificate. Give the key"],
    ),
    "an encrypted key to probe with": (
        PROBE,
        probe(client_certificate="@certificate", client_private_key="@encrypted key"),
        [
            "client_private_key: expected a private key that can be read, found an encrypted one",
            "Give the passphrase (client_private_key_passphrase)",
        ],
    ),
    "two lines as method": (
        PROBE,
        probe(method="GET / HTTP/1.1\r\nX: y"),
        ["method: expected an HTTP method, found 'GET / HTTP/1.1\\r\\nX: y'. Give one"],
    ),
    "a path without a slash": (
        PROBE,
        probe(path="status"),
        ["path: expected a path that begins with /", "found 'status'. Percent-encode it"],
    ),
    "a header in two lines": (PROBE, probe(headers={"A": "c\r\nD: e"}), ["headers: 'A' is not a header that can be sent"]),
    "a broken expectation": (
        PROBE,
        probe(expect={"text_regex": "("}),
        ["expect.text_regex: '(' is not a regular expression", "Correct it, or use text"],
    ),
    "a fingerprint that is none": (
        PROBE,
        probe(expect={"fingerprint": "xyz"}),
        ["expect.fingerprint: expected a SHA-256 fingerprint of 64", "found 'xyz'. Print it"],
    ),
    "a failure and an answer": (
        PROBE,
        probe(expect={"failure": "unknown_ca", "status": 200}),
        ["a request that fails has no HTTP response, but status would need one"],
    ),
    "time that is not a number": (PROBE, probe(request_timeout="nan"), ["request_timeout: expected a number up to 1e+08, found nan"]),
    "time without end": (PROBE, probe(timeout="inf"), ["timeout: expected a number up to 1e+08, found inf"]),
    "time that is negative": (PROBE, probe(delay=-1), ["delay: expected 0 or more seconds, found -1"]),
    # --- mounts
    "a mount for no gateway": (MOUNT, {}, ["one of the following is required: name, selector"]),
    "no mounts": (MOUNT, {"name": "g"}, ["mounts: expected the Secrets to mount, found nothing. Name at least a secret and a path"]),
}

BROKEN_YAML = b"a: [1\nb: }"


@pytest.fixture
def away_from_clusters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the environment leads to a cluster, and it is the time at which the material was made."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return NOW

    for name in [name for name in os.environ if name.startswith("K8S_AUTH_") or name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(module_start, "datetime", Clock)


@pytest.fixture
def signals() -> Iterator[None]:
    """A module keeps those that it sets; a test gives them back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def filled(value: Any, directory: Path) -> Any:
    if isinstance(value, dict):
        return {key: filled(inner, directory) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, directory) for inner in value]
    if not isinstance(value, str) or not value.startswith("@"):
        return value
    content = {**material(), "broken yaml": BROKEN_YAML}
    if not value.startswith("@path:"):
        return content[value[1:]].decode()
    name = value.removeprefix("@path:")
    path = directory / name.replace(" ", "-")
    path.write_bytes(content[name])
    return str(path)


SILENT = {"an empty file": ["found only private_key"]}
"""What is not said, since it follows from what is."""


@pytest.mark.usefixtures("away_from_clusters", "signals")
@pytest.mark.parametrize("case", TABLE)
def test_what_is_wrong_is_told(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, arguments, expected = TABLE[case]
    module = importlib.import_module(f"ansible_collections.meshops.istio.plugins.modules.{name}")
    with module_arguments(filled(arguments, tmp_path)), pytest.raises(SystemExit) as ended:
        module.main()
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert ended.value.code == 1 and result["failed"]
    for words in expected:
        assert words in result["msg"]
    assert "exception" not in result and "Traceback" not in output.out and not output.err
    assert not result.get("changed")
    assert "PRIVATE KEY" not in result["msg"] and PASSPHRASE not in result["msg"]
    for words in SILENT.get(case, ()):
        assert words not in result["msg"]
    for problem in result.get("problems", []):
        assert set(problem) == {"code", "where", "severity"} and all(problem.values())
        assert f"[{problem['code']}]" in result["msg"] and problem["where"] in result["msg"]


def test_the_table_is_long_enough_and_says_something() -> None:
    assert len(TABLE) >= 60
    assert {name for name, __, __ in TABLE.values()} >= {CREDENTIAL, INFO, INGRESS, EGRESS, PROBE}
    assert all(expected and all(len(words) > 5 for words in expected) for __, __, expected in TABLE.values())
