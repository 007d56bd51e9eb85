#!/usr/bin/python
# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module tls_probe: one TLS handshake or HTTP(S) request, and whether what came of it was expected."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tls_probe
short_description: Prove by a request what a TLS endpoint serves, or refuses
version_added: 0.1.0
author:
  - The meshops.istio developers (@meshops)
description:
  - Makes one TLS handshake or HTTP(S) request as C(curl --resolve) does - address and server name apart, with a CA and a client certificate
    of its own - and returns how far it came, what certificates were served and what was answered.
  - With O(expect), tries until what is expected is there. A failure can be expected too - then it is a success if the request fails in
    that way, and a failure if it does not.
  - The request is made from the host that the task runs on, or with O(from_pod) inside a Pod, for example one with a sidecar. Redirects are not
    followed. Proxies of the environment are used only where neither O(address) nor O(from_pod) says where to connect; see O(request_proxy).
  - Names are compared with the certificate's subject alternative names; a common name alone counts for nothing, as for all current clients.
    Every certificate in O(ca_certificate) is trusted as it is, an intermediate too, as curl and Envoy do.
extends_documentation_fragment:
  - meshops.istio.auth
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
    details:
      - The request is made in check mode too if O(method) is V(GET), V(HEAD) or V(OPTIONS); with any other the task is skipped.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
options:
  host:
    description:
      - Who is asked - the name that the certificate must be for, the V(Host) header and the SNI. A name or an address, without port or path.
        An international name is asked for in its V(xn--) form (IDNA 2008).
    type: str
    required: true
  address:
    description:
      - Where to connect, an address or a name. By default what O(host) resolves to.
    type: str
  port:
    description:
      - The port to connect to. It is no part of the V(Host) header. V(443) by default, or V(80) with O(scheme=http).
    type: int
  scheme:
    description:
      - V(https), V(http) for a request without TLS, or V(tls) to end after the handshake.
    type: str
    choices: [https, http, tls]
    default: https
  sni:
    description:
      - The server name to send in the handshake, if it is not O(host). An empty string sends none.
    type: str
  verify:
    description:
      - Whether the served certificate must be trusted, in date and for O(host).
    type: bool
    default: true
  ca_certificate:
    description:
      - Trusted CA certificates, PEM content.
    type: str
  ca_certificate_path:
    description:
      - Path of the trusted CA certificates, a PEM file.
    type: path
  trust_system_store:
    description:
      - Whether to trust the system's CAs too. By default only when no CA certificate is given.
    type: bool
  client_certificate:
    description:
      - Client certificate, with its chain behind it, PEM content.
    type: str
  client_certificate_path:
    description:
      - Path of the client certificate, a PEM file.
    type: path
  client_private_key:
    description:
      - The client certificate's private key, PEM content. It is handed to OpenSSL in memory, and touches no file.
      - Not needed where the certificate's PEM holds the key too.
    type: str
  client_private_key_path:
    description:
      - Path of the client certificate's private key, a PEM file.
    type: path
  client_private_key_passphrase:
    description:
      - Passphrase of an encrypted private key.
    type: str
  min_version:
    description:
      - The lowest TLS version to offer. V(TLSv1.2), or O(max_version) if that is lower, by default.
    type: str
    choices: [TLSv1, TLSv1.1, TLSv1.2, TLSv1.3]
  max_version:
    description:
      - The highest TLS version to offer. The highest there is, by default.
    type: str
    choices: [TLSv1, TLSv1.1, TLSv1.2, TLSv1.3]
  alpn:
    description:
      - The protocols to offer. V(http/1.1) by default with O(scheme=https), in which requests are always made; anything goes with O(scheme=tls).
    type: list
    elements: str
  method:
    description:
      - The request's method.
    type: str
    default: GET
  path:
    description:
      - The request's path and query, percent-encoded.
    type: str
    default: /
  headers:
    description:
      - The request's headers. V(Host) may be among them.
    type: dict
  secret_headers:
    description:
      - Further headers, whose values appear in no output or log, for example V(Authorization). Where the server repeats one of them, or a word of it,
        that is hidden too.
    type: dict
  body:
    description:
      - The request's body. A dictionary or a list is sent as JSON.
    type: raw
  request_timeout:
    description:
      - Seconds that one request may take in all.
    type: float
    default: 10
  request_proxy:
    description:
      - URL of an HTTP proxy to go through, such as V(http://proxy.example.com:3128), or V(none) to connect directly.
      - By default the one that the environment names, by C(kubectl)'s rules - E(HTTPS_PROXY), or E(HTTP_PROXY) with O(scheme=http), unless
        E(NO_PROXY) has O(host), loopback never, and E(ALL_PROXY) not at all. With O(address) or O(from_pod) the connection is direct by default.
      - A proxy that opens TLS is seen by its certificates, which are RV(peer_chain) then.
    type: str
  from_pod:
    description:
      - Make the request inside this Pod, as C(kubectl exec ... curl) does. Its container needs C(curl) (7.63 or newer; 7.88 or newer with
        OpenSSL, so that the served certificates are told), and C(sh) if certificates are given as content or as files of this host.
      - Certificates, keys, headers and body are handed over on C(curl)'s standard input. They are in no arguments, and leave no files behind.
    type: dict
    suboptions:
      namespace:
        description:
          - The Pod's namespace.
        type: str
        default: default
      name:
        description:
          - The Pod's name.
        type: str
      selector:
        description:
          - Labels of the Pod, instead of O(from_pod.name). Of several that run the first one by name makes the request, a ready one if there is any.
        type: dict
      container:
        description:
          - The container. By default the one that C(kubectl exec) takes, the annotated or first one.
        type: str
      api_server:
        description:
          - URL of the cluster's API server, or E(K8S_AUTH_HOST) - what other modules call C(host), which is something else here.
        type: str
      ca_certificate_path:
        description:
          - Path of the trusted CA certificates in the container, instead of O(ca_certificate).
        type: str
      client_certificate_path:
        description:
          - Path of the client certificate in the container, instead of O(client_certificate).
        type: str
      client_private_key_path:
        description:
          - Path of the client certificate's private key in the container, instead of O(client_private_key).
        type: str
  expect:
    description:
      - What should come of the request; everything given must hold.
      - Without it, the request must get through to the end, whatever the HTTP status.
    type: dict
    suboptions:
      status:
        description:
          - The HTTP status is any of these.
        type: list
        elements: int
      text:
        description:
          - The body holds this text. Its first MiB is looked at.
        type: str
      text_regex:
        description:
          - This regular expression matches somewhere in the body. Looking for it may take 2 seconds.
        type: str
      headers:
        description:
          - The response has these headers, and their values hold these texts. An empty text asks for no more than the header.
        type: dict
      fingerprint:
        description:
          - The SHA-256 fingerprint of the served certificate is any of these, with or without colons, in upper or lower case.
        type: list
        elements: str
      serial:
        description:
          - The serial number of the served certificate is any of these, hexadecimal. Quote it, so that it stays text.
        type: list
        elements: str
      protocol:
        description:
          - The TLS version that is agreed.
        type: str
        choices: [TLSv1, TLSv1.1, TLSv1.2, TLSv1.3]
      failure:
        description:
          - The request fails, in any of these ways.
          - V(name_not_resolved) - the address did not resolve.
          - V(connection_refused) - nothing listens on the port.
          - V(connection_timeout) - the TCP connection was not answered in time.
          - V(unreachable) - there is no way to the address.
          - V(proxy_failed) - the proxy on the way was not reached, or did not connect; see O(request_proxy).
          - V(connection_reset) - the peer ended the connection, by a reset or by closing it without an answer. Envoy does that during the
            handshake when no server matches the SNI, and when a credential's Secret is missing.
          - V(tls_timeout) - the handshake was not answered in time.
          - V(not_tls) - what answers does not speak TLS.
          - V(unknown_ca) - the served chain is not trusted here, because its issuer is none of the trusted CAs or only has the name of one.
          - V(name_mismatch) - the served certificate is not for O(host).
          - V(expired) - a certificate of the served chain has expired.
          - V(not_yet_valid) - a certificate of the served chain is not valid yet.
          - V(certificate_invalid) - the served chain is refused here for another reason, such as its purpose or the size of a key.
          - V(certificate_required) - the server wants a client certificate, and none was given.
          - V(client_certificate_refused) - the server does not accept the client certificate; RV(alert) holds its reason, for example
            V(unknown_ca).
          - V(protocol_version) - there is no TLS version in common.
          - V(unrecognized_name) - the server says that it does not serve the SNI.
          - V(handshake_failure) - the handshake failed in another way; RV(alert) holds what the server said, if it said anything.
          - V(http_timeout) - the response did not come, or did not end, in time.
          - V(http_malformed) - what came is not an HTTP response.
        type: list
        elements: str
        choices:
          - name_not_resolved
          - connection_refused
          - connection_timeout
          - unreachable
          - proxy_failed
          - connection_reset
          - tls_timeout
          - not_tls
          - unknown_ca
          - name_mismatch
          - expired
          - not_yet_valid
          - certificate_invalid
          - certificate_required
          - client_certificate_refused
          - protocol_version
          - unrecognized_name
          - handshake_failure
          - http_timeout
          - http_malformed
      alert:
        description:
          - The request fails, and the server sends any of these TLS alerts (RFC 8446, section 6), for example V(certificate_required).
        type: list
        elements: str
  timeout:
    description:
      - Seconds during which attempts are begun until one is as expected. V(0) makes one attempt.
      - By default V(30) with O(expect), and V(0) without.
    type: float
  delay:
    description:
      - Seconds between attempts.
    type: float
    default: 1
  consecutive:
    description:
      - How many attempts in a row must be as expected, each on a connection of its own, for example because several gateways answer behind
        one address. A row that has begun is finished even after O(timeout).
    type: int
    default: 1
requirements:
  - cryptography
  - idna, for international names only
notes:
  - The options with which other modules log in to the cluster are used for O(from_pod), which needs the rights C(get) and C(list) on C(pods), and
    C(get) and C(create) on C(pods/exec), in the Pod's namespace; C(docs/rbac/pods.yaml) grants them. Without O(from_pod) they are accepted,
    so that C(module_defaults) for the group C(meshops.istio.istio) suits this module too, and not used, and the C(kubernetes) library is not
    needed.
  - Mind that O(ca_cert), O(client_cert), O(client_key) and O(validate_certs) are about the cluster; what they are for other clients is here
    O(ca_certificate_path), O(client_certificate_path), O(client_private_key_path) and O(verify).
  - C(curl) sends the name that it verifies, so that O(from_pod) takes another O(sni) than O(host) only with O(verify=false). It trusts either the
    system's CAs or O(ca_certificate). Where it refuses the served chain, a second handshake (for one second at most, after which nothing is
    sent) shows what was served.
  - Resolving a name, connecting, shaking hands and asking share O(request_timeout).
seealso:
  - module: ansible.builtin.uri
  - module: meshops.istio.gateway_proxy_info
  - module: meshops.istio.ingress_tls_gateway
  - module: meshops.istio.istio_tls_credential
"""

EXAMPLES = r"""
- name: The gateway answers for httpbin
  meshops.istio.tls_probe:
    host: httpbin.example.com
    address: "{{ ingress_host }}"
    port: "{{ secure_ingress_port }}"
    path: /status/418
    ca_certificate_path: example.com.crt
    expect:
      status: 418

- name: After a rotation every gateway serves the new certificate
  meshops.istio.tls_probe:
    host: httpbin.example.com
    address: "{{ ingress_host }}"
    ca_certificate_path: new-ca.crt
    expect:
      fingerprint: "{{ rotated.credentials[0].certificate.fingerprint_sha256 }}"
    consecutive: 10
    delay: 0.2

- name: The old CA fails now
  meshops.istio.tls_probe:
    host: httpbin.example.com
    address: "{{ ingress_host }}"
    ca_certificate_path: old-ca.crt
    expect:
      failure: unknown_ca

- name: Without a client certificate there is no way in
  meshops.istio.tls_probe:
    host: httpbin-mutual.example.com
    address: "{{ ingress_host }}"
    ca_certificate_path: example.com.crt
    expect:
      failure: certificate_required

- name: With one there is
  meshops.istio.tls_probe:
    host: httpbin-mutual.example.com
    address: "{{ ingress_host }}"
    path: /status/418
    ca_certificate_path: example.com.crt
    client_certificate_path: client.crt
    client_private_key: "{{ lookup('community.sops.sops', 'client.key.sops') }}"
    expect:
      status: 418

- name: A plain request through the mesh
  meshops.istio.tls_probe:
    host: nginx.example.com
    address: "{{ mesh_client_address }}"
    port: "{{ mesh_client_port }}"
    scheme: http
    expect:
      status: 200
      text: Welcome to nginx!

- name: Through the sidecar of a Pod, as an application in the mesh would
  meshops.istio.tls_probe:
    from_pod:
      namespace: default
      selector: {app: sleep}
    host: nginx.example.com
    scheme: http
    expect:
      status: 200
      text: Welcome to nginx!

- name: With the certificates that are mounted there
  meshops.istio.tls_probe:
    from_pod:
      selector: {app: sleep}
      ca_certificate_path: /etc/nginx-ca-certs/example.com.crt
      client_certificate_path: /etc/nginx-client-certs/tls.crt
      client_private_key_path: /etc/nginx-client-certs/tls.key
    host: nginx.example.com
    address: my-nginx.mesh-external.svc.cluster.local
    expect:
      status: 200

- name: Look what is served, whether it is trusted or not
  meshops.istio.tls_probe:
    host: partner.example.com
    scheme: tls
    verify: false
  register: partner
"""

RETURN = r"""
stage:
  description: The stage that was reached, V(dns), V(tcp), V(tls) or V(http); the one in which the request failed, or the last one.
  returned: when a request was made
  type: str
  sample: http
failure:
  description: In which way the request failed, see O(expect.failure), or null.
  returned: when a request was made
  type: str
  sample: certificate_required
detail:
  description: The failure in words.
  returned: when a request was made
  type: str
alert:
  description: The TLS alert that the server sent, as RFC 8446 names it, or null.
  returned: when a request was made
  type: str
  sample: certificate_required
address:
  description: The IP address that was connected to, or tried last, or null where a proxy connects.
  returned: when a request was made
  type: str
  sample: 192.0.2.1
proxy:
  description: URL of the proxy that was used, without a login, or null; see O(request_proxy).
  returned: when a request was made
  type: str
  sample: http://proxy.example.com:3128
port:
  description: The port.
  returned: when a request was made
  type: int
  sample: 443
sni:
  description: The server name that was sent, or null.
  returned: when a request was made
  type: str
  sample: httpbin.example.com
protocol:
  description: The agreed TLS version, or null.
  returned: when a request was made
  type: str
  sample: TLSv1.3
cipher:
  description: The agreed cipher suite, as OpenSSL names it, or null.
  returned: when a request was made
  type: str
  sample: TLS_AES_256_GCM_SHA384
alpn:
  description: The agreed application protocol, or null.
  returned: when a request was made
  type: str
  sample: http/1.1
verified:
  description:
    - Whether the served certificate was found to be trusted, in date and for O(host). It was not with O(verify=false), with plain HTTP, and where
      the request failed before.
  returned: when a request was made
  type: bool
peer_chain:
  description: The certificates that the server sent, leaf first; also when they were not trusted.
  returned: when a request was made
  type: list
  elements: dict
  contains:
    fingerprint_sha256:
      description: Fingerprint, lower case with colons.
      type: str
    serial:
      description: Serial number, upper-case hexadecimal.
      type: str
    subject:
      description: Subject (RFC 4514).
      type: str
    common_name:
      description: The subject's common name.
      type: str
    sans:
      description: Subject alternative names.
      type: list
      elements: str
    issuer:
      description: Issuer (RFC 4514).
      type: str
    not_before:
      description: Beginning of its validity.
      type: str
    not_after:
      description: End of its validity.
      type: str
    days_left:
      description: Whole days until then.
      type: int
    key:
      description: Kind and size of its key.
      type: str
    is_ca:
      description: Whether it is a CA certificate.
      type: bool
status:
  description: The HTTP status, or null.
  returned: when a request was made
  type: int
  sample: 418
headers:
  description: The response's headers, with names in lower case. Repeated ones are joined by commas.
  returned: when a request was made
  type: dict
body:
  description: The first 2000 characters of the body, decoded; what cannot be decoded is replaced.
  returned: when a request was made
  type: str
body_truncated:
  description: Whether there is more of the body.
  returned: when a request was made
  type: bool
timings:
  description: Milliseconds that each stage took, V(dns), V(tcp), V(tls) and V(http) as far as they were reached, and V(total).
  returned: when a request was made
  type: dict
pod:
  description: The Pod that made the request (see O(from_pod)), as C(namespace/name), or null.
  returned: when a request was made
  type: str
  sample: default/sleep-7656cf8794-8fhdk
attempts:
  description: How many requests were made. Everything else is about the last one.
  returned: when a request was made
  type: int
successes:
  description: How many of the last requests in a row were as expected.
  returned: when a request was made
  type: int
elapsed:
  description: Seconds that all of it took.
  returned: when a request was made
  type: float
unmet:
  description: What the last request lacks, each as C(expected ..., found ...).
  returned: when a request was made
  type: list
  elements: str
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.arguments import content_or_path
from ansible_collections.meshops.istio.plugins.module_utils.cluster.pods import Pod, PodError, pick_pod, run
from ansible_collections.meshops.istio.plugins.module_utils.live.answers import hider
from ansible_collections.meshops.istio.plugins.module_utils.live.curl import OUTPUT_KEPT, CurlError, Files, probe_by
from ansible_collections.meshops.istio.plugins.module_utils.live.expect import Expect, explain, until
from ansible_collections.meshops.istio.plugins.module_utils.live.probe import probe
from ansible_collections.meshops.istio.plugins.module_utils.live.request import FAILURES, VERSIONS, Request, Result
from ansible_collections.meshops.istio.plugins.module_utils.live.tunnel import chosen
from ansible_collections.meshops.istio.plugins.module_utils.module import Call, run_module
from ansible_collections.meshops.istio.plugins.module_utils.problems import Problem, Rejected

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

SPEC: dict[str, Any] = {
    "host": {"type": "str", "required": True},
    "address": {"type": "str"},
    "port": {"type": "int"},
    "scheme": {"type": "str", "choices": ["https", "http", "tls"], "default": "https"},
    "sni": {"type": "str"},
    "verify": {"type": "bool", "default": True},
    "ca_certificate": {"type": "str"},
    "ca_certificate_path": {"type": "path"},
    "trust_system_store": {"type": "bool"},
    "client_certificate": {"type": "str", "no_log": True},  # the key may be in it
    "client_certificate_path": {"type": "path"},
    "client_private_key": {"type": "str", "no_log": True},
    "client_private_key_path": {"type": "path", "no_log": False},
    "client_private_key_passphrase": {"type": "str", "no_log": True},
    "min_version": {"type": "str", "choices": list(VERSIONS)},
    "max_version": {"type": "str", "choices": list(VERSIONS)},
    "alpn": {"type": "list", "elements": "str"},
    "method": {"type": "str", "default": "GET"},
    "path": {"type": "str", "default": "/"},
    "headers": {"type": "dict"},
    "secret_headers": {"type": "dict", "no_log": True},
    "body": {"type": "raw"},
    "request_timeout": {"type": "float", "default": 10},
    "request_proxy": {"type": "str"},
    "from_pod": {
        "type": "dict",
        "options": {
            "namespace": {"type": "str", "default": "default"},
            "name": {"type": "str"},
            "selector": {"type": "dict"},
            "container": {"type": "str"},
            "api_server": {"type": "str"},
            "ca_certificate_path": {"type": "str"},
            "client_certificate_path": {"type": "str"},
            "client_private_key_path": {"type": "str", "no_log": False},
        },
        "mutually_exclusive": [("name", "selector")],
        "required_one_of": [("name", "selector")],
    },
    "expect": {
        "type": "dict",
        "options": {
            "status": {"type": "list", "elements": "int"},
            "text": {"type": "str"},
            "text_regex": {"type": "str"},
            "headers": {"type": "dict"},
            "fingerprint": {"type": "list", "elements": "str"},
            "serial": {"type": "list", "elements": "str"},
            "protocol": {"type": "str", "choices": list(VERSIONS)},
            "failure": {"type": "list", "elements": "str", "choices": list(FAILURES)},
            "alert": {"type": "list", "elements": "str"},
        },
    },
    "timeout": {"type": "float"},
    "delay": {"type": "float", "default": 1},
    "consecutive": {"type": "int", "default": 1},
}

# What a user of other clients may have meant by an option that is about the cluster here.
MISTAKABLE: dict[str, tuple[tuple[str, str], ...]] = {
    "unknown_ca": (("ca_cert", "ca_certificate_path"), ("validate_certs", "verify")),
    "certificate_required": (("client_cert", "client_certificate_path"), ("client_key", "client_private_key_path")),
}


def request(params: Mapping[str, Any]) -> Request:
    headers = {**(params["headers"] or {}), **(params["secret_headers"] or {})}
    body = params["body"]
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
        if "content-type" not in {name.lower() for name in headers}:
            headers["Content-Type"] = "application/json"
    same = ("host", "address", "port", "scheme", "sni", "verify", "trust_system_store", "min_version", "max_version", "method", "path")
    return Request(
        **{name: params[name] for name in (*same, "client_private_key_passphrase")},
        ca=content_or_path(params, "ca_certificate", where="")[0],
        client_certificate=content_or_path(params, "client_certificate", where="")[0],
        client_private_key=content_or_path(params, "client_private_key", where="")[0],
        alpn=None if params["alpn"] is None else tuple(params["alpn"]),
        headers={name: str(value) for name, value in headers.items()},
        body=None if body is None else str(body).encode(),
        timeout=params["request_timeout"],
    )


def proxied(asked: Request, params: Mapping[str, Any]) -> Request:
    """The request with the proxy that it goes through."""
    option = params["request_proxy"]
    if params["from_pod"] is not None:
        if option is not None and option.lower() != "none":
            problem = Problem(
                "invalid_request", "request_proxy", "requests from a Pod go through no proxy", "Leave it out, or leave out from_pod"
            )
            raise Rejected(problem)
        return asked
    proxy = chosen(option, scheme=asked.scheme, host=asked.host, port=asked.target_port, address=asked.address, environment=os.environ)
    return replace(asked, proxy=proxy)


def expectation(params: Mapping[str, Any]) -> Expect:
    lists = {name: tuple(params.get(name) or ()) for name in ("status", "fingerprint", "serial", "failure", "alert")}
    headers = {name: str(value) for name, value in (params.get("headers") or {}).items()}
    return Expect(**lists, headers=headers, **{name: params.get(name) for name in ("text", "text_regex", "protocol")})


def way(call: Call, asked: Request) -> tuple[Callable[[Request], Result], Pod | None]:
    """How the request is made, and in which Pod if in one."""
    place = call.params["from_pod"]
    if place is None:
        return probe, None
    if place["selector"] == {}:
        call.judge([Problem("invalid_request", "from_pod.selector", "expected labels, found none", "name those of the Pod")])
    cluster = call.connect(host=place["api_server"])
    pod = pick_pod(cluster, place["namespace"], place["name"], place["selector"] or {})
    container = place["container"] or pod.default_container
    paths = Files(place["ca_certificate_path"], place["client_certificate_path"], place["client_private_key_path"])

    def in_pod(command: Sequence[str], data: bytes) -> tuple[int, bytes, bytes]:
        allowed = asked.timeout + 10.0
        ran = run(cluster, pod.namespace, pod.name, command, container=container, stdin=data, timeout=allowed, keep=OUTPUT_KEPT)
        return ran.code, ran.stdout, ran.stderr

    made = probe_by(in_pod, paths)

    def attempt(request: Request) -> Result:
        try:
            return made(request)
        except CurlError as error:
            raise PodError(f"{pod}, container {container}: {error}") from None

    return attempt, pod


def act(call: Call) -> dict[str, Any]:
    params = call.params
    if call.check_mode and params["method"] not in SAFE_METHODS:
        return {"changed": False, "skipped": True, "msg": f"{params['method']} may change something, so it is not sent in check mode"}
    asked = proxied(request(params), params)
    attempt, pod = way(call, asked)
    default_timeout = 0 if params["expect"] is None else 30
    verdict = until(
        asked,
        expectation(params["expect"] or {}),
        timeout=default_timeout if params["timeout"] is None else params["timeout"],
        delay=params["delay"],
        consecutive=params["consecutive"],
        attempt=attempt,
        hide=hider(params["secret_headers"] or {}),
    )
    result = {
        "changed": False,
        **verdict.result.as_result(),
        "pod": f"{pod.namespace}/{pod.name}" if pod else None,
        "attempts": verdict.attempts,
        "successes": verdict.successes,
        "elapsed": round(verdict.elapsed, 3),
        "unmet": list(verdict.unmet),
    }
    if verdict.unmet:
        hints = [
            f" ({given} is about the cluster, {meant} about this request.)"
            for given, meant in MISTAKABLE.get(verdict.result.failure or "", ())
            if params[given] is not None and not any(params.get(name) not in (None, True) for name in (meant, meant.removesuffix("_path")))
        ]
        result |= {"failed": True, "msg": (f"In {pod}: " if pod else "") + explain(asked, verdict) + "".join(hints)}
    return result


def main() -> None:
    run_module(SPEC, act, needs=("cryptography", "kubernetes", "websocket"))


if __name__ == "__main__":
    main()
