#!/usr/bin/python
# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module gateway_proxy_info: what the running proxies of a gateway hold, serve and log, and whether that is as expected."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_proxy_info
short_description: Show which certificates a gateway's proxies really hold, serve and log
version_added: 0.1.0
author:
  - The meshops.istio developers (@meshops)
description:
  - Asks every proxy of a gateway (every replica) for what Envoy itself says - the certificates that it got over SDS and whether it uses them,
    its TLS servers with SNI and credential, the TLS that it originates, and the updates that it refused - and looks for lines in its log.
  - With O(expect), tries until every proxy is as expected; an error names the proxy and what it lacks. Without, it fails if no proxy can be
    read.
  - Proxies in Pods are read through the API server alone, by running C(pilot-agent request) in the container C(istio-proxy), as
    C(istioctl proxy-config) does. Proxies on machines outside Kubernetes are read from their O(admin_urls).
  - Private keys cannot be read this way, and of certificates no more than facts are returned.
extends_documentation_fragment:
  - meshops.istio.auth
  - meshops.istio.attributes
attributes:
  check_mode:
    details:
      - Nothing is ever changed; check mode makes no difference.
  diff_mode:
    support: none
options:
  selector:
    description:
      - "Labels of the gateway's Pods. V({istio: ingressgateway}) by default, unless O(admin_urls) is given; then no Pods are looked for."
      - Pods that are going away are left out.
    type: dict
  namespace:
    description:
      - Namespace of the gateway's Pods.
    type: str
    default: istio-system
  admin_urls:
    description:
      - Addresses of the administration interfaces of proxies that are no Pods, for example V(http://127.0.0.1:15000), as they are reached from
        the host that the task runs on.
    type: list
    elements: str
    default: []
  credentials:
    description:
      - Return these credentials only. By default every one that a proxy asked for.
    type: list
    elements: str
    default: []
  access_log:
    description:
      - Look for lines in the proxies' logs. Access logging has to be switched on in the mesh (C(accessLogFile), or a Telemetry object).
      - Envoy writes its access log about once a second, so that a line comes a little after its request; wait for it with O(expect.log_lines).
    type: dict
    suboptions:
      text:
        description:
          - Only lines that hold this text.
        type: str
      regex:
        description:
          - Only lines in which this regular expression matches. Looking for it in all lines may take 10 seconds; a slower expression is refused then.
        type: str
      since:
        description:
          - Only lines that were written since this time, as RFC 3339 (V(2026-01-31T12:00:00Z)), or for so long (V(5m)).
        type: str
        default: 5m
      paths:
        description:
          - Log files on the host that the task runs on, of proxies that are no Pods. A line's time is what it says itself; access logs in
            Istio's own format say when the request began.
        type: list
        elements: str
        default: []
      limit:
        description:
          - How many lines to return, the last ones.
        type: int
        default: 100
  expect:
    description:
      - What every proxy should be like; everything given must hold. Each proxy must also be there to be read.
    type: dict
    suboptions:
      proxies:
        description:
          - There are so many proxies at least, for example the gateway's replicas.
        type: int
        default: 1
      ready:
        description:
          - Whether every proxy is ready.
        type: bool
      credentials:
        description:
          - The gateway got these credentials over SDS, and uses them.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description:
              - Name of the credential as in C(credentialName), or Envoy's own name for it, for example V(kubernetes-gateway://team/shop).
            type: str
            required: true
          fingerprint:
            description:
              - SHA-256 fingerprint of its certificate, or any of these. If the credential is a CA, of one of its certificates.
            type: list
            elements: str
          ca:
            description:
              - Whether it has to bring a CA for the clients' certificates too (for O(expect.servers[].mode=MUTUAL)).
            type: bool
          ca_fingerprint:
            description:
              - SHA-256 fingerprint of one of these CA certificates.
            type: list
            elements: str
          state:
            description:
              - V(absent) if no proxy may hold it any more. What is only there for listeners that are on their way out does not count.
            type: str
            choices: [present, absent]
            default: present
      servers:
        description:
          - There are these TLS servers.
        type: list
        elements: dict
        default: []
        suboptions:
          sni:
            description:
              - The server name, as in the Gateway's hosts; V(*) for the server that answers any.
            type: str
            required: true
          credential:
            description:
              - Its credential.
            type: str
          mode:
            description:
              - Its TLS mode.
            type: str
            choices: [SIMPLE, MUTUAL, OPTIONAL_MUTUAL, ISTIO_MUTUAL, PASSTHROUGH]
      rejected:
        description:
          - V(false) if no proxy may have refused an update that it has not got right since. Envoy tells this of listeners; a credential that it
            refused is one that it does not use, see O(expect.credentials).
        type: bool
      log_lines:
        description:
          - O(access_log) finds so many lines at least in all proxies' logs together. V(0) if there must be none.
        type: int
  timeout:
    description:
      - Seconds during which it is looked again until all is as expected. V(30) by default with O(expect), V(0) without.
    type: float
  delay:
    description:
      - Seconds between looks.
    type: float
    default: 1
  request_timeout:
    description:
      - Seconds within which a proxy has to answer, with the whole of each page.
    type: float
    default: 30
notes:
  - Proxies in Pods need the rights C(list) on C(pods), C(get) and C(create) on C(pods/exec), and C(get) on C(pods/log) for O(access_log), in
    the gateway's namespace; C(docs/rbac/pods.yaml) grants them. The right to run commands in gateway Pods is the right to read their
    private keys; give it only where that is acceptable.
  - The C(kubernetes) library is not needed where only O(admin_urls) are read.
  - What a proxy refused is told without its content. The log of a proxy that refused something is looked through for the reason.
seealso:
  - module: meshops.istio.istio_tls_credential_info
  - module: meshops.istio.tls_probe
"""

EXAMPLES = r"""
- name: The gateway got the key pair, in every replica
  meshops.istio.gateway_proxy_info:
    expect:
      proxies: 2
      credentials:
        - name: httpbin-credential
          fingerprint: "{{ stored.credentials[0].certificate.fingerprint_sha256 }}"

- name: And the CA for the clients' certificates
  meshops.istio.gateway_proxy_info:
    expect:
      credentials:
        - name: httpbin-credential
          ca: true
      servers:
        - sni: httpbin.example.com
          credential: httpbin-credential
          mode: MUTUAL

- name: The egress gateway's log has the line
  meshops.istio.gateway_proxy_info:
    selector: {istio: egressgateway}
    access_log:
      text: nginx.example.com
      since: "{{ before_the_request }}"
    expect:
      log_lines: 1

- name: A gateway on a virtual machine
  meshops.istio.gateway_proxy_info:
    admin_urls: ["http://127.0.0.1:15000"]
    access_log:
      regex: 'GET /status/418 .* 418 '
      paths: [/var/log/istio/istio.log]
  register: gateway
"""

RETURN = r"""
proxies:
  description: One entry a proxy.
  returned: when something could be read
  type: list
  elements: dict
  contains:
    name:
      description: How messages call it, C(Pod namespace/name) or the administration interface's URL.
      type: str
      sample: Pod istio-system/istio-ingressgateway-767c87dc78-qhq6p
    namespace:
      description: Its Pod's namespace, or null.
      type: str
    pod:
      description: Its Pod's name, or null.
      type: str
    admin_url:
      description: Its administration interface, or null.
      type: str
    ready:
      description: Whether its Pod is ready, or (for one that is no Pod) whether Envoy calls itself live.
      type: bool
    troubles:
      description: Why its Pod is not ready, as Kubernetes says.
      type: list
      elements: str
    error:
      description: Why it could not be read, or null. What follows is there if it could.
      type: str
    node:
      description: What it calls itself towards istiod.
      type: str
      sample: istio-ingressgateway-767c87dc78-qhq6p.istio-system
    version:
      description: Envoy's version.
      type: str
      sample: 1.36.2
    istio_version:
      description: The version of Istio's agent.
      type: str
      sample: 1.28.0
    state:
      description: Envoy's state, V(LIVE), V(DRAINING), V(PRE_INITIALIZING) or V(INITIALIZING).
      type: str
    secrets:
      description: What it asked for over SDS.
      type: list
      elements: dict
      contains:
        name:
          description: The credential's name; a CA that a credential brings has the name with C(-cacert).
          type: str
          sample: httpbin-credential
        resource:
          description: Envoy's name for it.
          type: str
          sample: kubernetes://httpbin-credential
        kind:
          description: V(certificate) (with its key), V(ca) or V(other).
          type: str
        state:
          description: V(active), V(static), or V(warming) if it has not come.
          type: str
        in_use:
          description: Whether Envoy uses it. It keeps what it refused (a key that does not belong to the certificate) without using it, and
            what came in the same message.
          type: bool
        last_updated:
          description: When it came last.
          type: str
        certificates:
          description:
            - Facts about its certificates, leaf first - C(fingerprint_sha256), C(serial), C(subject), C(common_name), C(sans), C(issuer),
              C(not_before), C(not_after), C(days_left), C(key) and C(is_ca).
          type: list
          elements: dict
        has_crl:
          description: Whether there is a CRL with the CA.
          type: bool
        has_staple:
          description: Whether there is an OCSP response with the certificate.
          type: bool
    other_certificates:
      description: Certificates in use that belong to none of these, such as those read from files, with C(kind), C(path), C(serial), C(sans),
        C(not_before), C(not_after) and C(days_left).
      type: list
      elements: dict
    listeners:
      description: Its listeners that speak TLS, with C(name), C(address), C(state) and C(servers), which have C(sni) (empty for any), C(mode),
        C(credentials), C(ca_credential) and C(alpn).
      type: list
      elements: dict
    originations:
      description: The TLS that it originates itself, with C(cluster), C(state), C(sni), C(credentials), C(ca_credential) and
        C(subject_alt_names).
      type: list
      elements: dict
    rejections:
      description: The updates that it refused and has not got right since, and those that its log of the last hour tells of, with C(what),
        C(detail) and C(at).
      type: list
      elements: dict
    counters:
      description: How often it refused something since it started, as far as it counts that, by Envoy's name for it.
      type: dict
log_matches:
  description: How many lines of the logs match.
  returned: with O(access_log)
  type: int
log_lines:
  description: The last of them, with C(proxy) (or path), C(time) (or null) and C(line).
  returned: with O(access_log)
  type: list
  elements: dict
unmet:
  description: What is not as expected, each with the proxy that it is about.
  returned: always
  type: list
  elements: str
attempts:
  description: How often it was looked.
  returned: always
  type: int
elapsed:
  description: Seconds that all of it took.
  returned: always
  type: float
"""

from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.call import Call
from ansible_collections.meshops.istio.plugins.module_utils.module import run_module
from ansible_collections.meshops.istio.plugins.module_utils.proxy_reading import read_proxies

MODES = ["SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL", "PASSTHROUGH"]
SPEC: dict[str, Any] = {
    "selector": {"type": "dict"},
    "namespace": {"type": "str", "default": "istio-system"},
    "admin_urls": {"type": "list", "elements": "str", "default": []},
    "credentials": {"type": "list", "elements": "str", "default": []},
    "access_log": {
        "type": "dict",
        "options": {
            "text": {"type": "str"},
            "regex": {"type": "str"},
            "since": {"type": "str", "default": "5m"},
            "paths": {"type": "list", "elements": "str", "default": []},
            "limit": {"type": "int", "default": 100},
        },
    },
    "expect": {
        "type": "dict",
        "options": {
            "proxies": {"type": "int", "default": 1},
            "ready": {"type": "bool"},
            "credentials": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "fingerprint": {"type": "list", "elements": "str"},
                    "ca": {"type": "bool"},
                    "ca_fingerprint": {"type": "list", "elements": "str"},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
            "servers": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "sni": {"type": "str", "required": True},
                    "credential": {"type": "str"},
                    "mode": {"type": "str", "choices": MODES},
                },
            },
            "rejected": {"type": "bool"},
            "log_lines": {"type": "int"},
        },
    },
    "timeout": {"type": "float"},
    "delay": {"type": "float", "default": 1},
    "request_timeout": {"type": "float", "default": 30},
}
CONSTRAINTS: dict[str, Any] = {}


def act(call: Call) -> dict[str, Any]:
    return read_proxies(call)


def main() -> None:
    run_module(SPEC, act, **CONSTRAINTS)


if __name__ == "__main__":
    main()
