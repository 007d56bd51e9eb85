#!/usr/bin/python
# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module ingress_tls_gateway: a secure ingress Gateway with the VirtualServices that route its hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ingress_tls_gateway
short_description: Manage secure ingress Gateways and their routes
version_added: 0.1.0
author:
  - The meshops.istio developers (@meshops)
description:
  - Makes an Istio C(Gateway) with any number of TLS servers, and the C(VirtualServices) that route their hosts, or a list of such Gateways, in
    one call.
  - Everything is checked against istiod's admission rules before anything is sent, in check mode too. What istiod admits and then drops, or
    proxies refuse, is found as well.
  - Warns about hosts that another Gateway already serves for the same workloads on that port, and about credentials that the gateway's
    workloads would not find in their namespace.
  - Routes are written before the Gateway and removed after it, so that a host that is served never lacks its routes.
  - A host of a server whose routes are managed elsewhere needs no O(servers[].routes); VirtualServices that something else made are left
    alone.
extends_documentation_fragment:
  - meshops.istio.auth
  - meshops.istio.objects
  - meshops.istio.attributes
attributes:
  check_mode:
    details:
      - Needs read rights only. Where the login may write, the server's dry run is asked as well.
options:
  gateways:
    description:
      - Several Gateways in one call. Each takes O(namespace), O(selector), O(prune), O(state) and O(force_conflicts) from beside the list if it
        leaves them out. Its O(labels) and O(annotations) are added to those beside the list.
      - Nothing is written before all of them have been checked, each beside the others as they will be.
    type: list
    elements: dict
    suboptions:
      <<: &gateway
          name:
            description:
              - Name of the Gateway - lower-case letters, digits and hyphens, without dots.
            type: str
          namespace:
            description:
              - "Namespace of the Gateway and of its VirtualServices. Credentials are looked up elsewhere - where the gateway's workloads run.
                Default: V(default)."
            type: str
          selector:
            description:
              - "Labels of the gateway's workloads. Default: the label C(istio) with the value V(ingressgateway)."
            type: dict
          prune:
            description:
              - Delete VirtualServices that this module made for the Gateway and that are no longer among the routes.
              - "What something else made is never deleted. Default: V(true)."
            type: bool
          servers:
            description:
              - The TLS servers. Required for a Gateway that should exist.
            type: list
            elements: dict
            suboptions:
              hosts:
                description:
                  - Domain names that are served - V(httpbin.example.com), V(*.example.com), or V(*) for all.
                  - A namespace and a slash in front (V(team/httpbin.example.com), or a dot for the Gateway's own) let only VirtualServices of that
                    namespace use the host.
                  - International names are written in the Gateway in their V(xn--) form (IDNA 2008).
                type: list
                elements: str
                required: true
              port:
                description:
                  - Port of the gateway's Service, or of its workloads if no Service has it.
                type: int
                default: 443
              port_name:
                description:
                  - "Name of the port. Default: a name that no other server has, made of protocol, port and first host."
                type: str
              protocol:
                description:
                  - What is inside of TLS - HTTP with V(HTTPS), anything with V(TLS).
                  - "Default: V(TLS) with O(servers[].mode=PASSTHROUGH) and O(servers[].mode=AUTO_PASSTHROUGH), and V(HTTPS) otherwise."
                type: str
                choices: [HTTPS, TLS]
              bind:
                description:
                  - "Address on which the gateway listens. Default: all addresses."
                type: str
              mode:
                description:
                  - V(SIMPLE) serves a certificate, V(MUTUAL) asks clients for theirs too, V(OPTIONAL_MUTUAL) does but admits clients without one.
                  - V(PASSTHROUGH) and V(AUTO_PASSTHROUGH) route by SNI without terminating TLS. V(ISTIO_MUTUAL) is the mesh's own mutual TLS.
                type: str
                choices: [SIMPLE, MUTUAL, OPTIONAL_MUTUAL, PASSTHROUGH, AUTO_PASSTHROUGH, ISTIO_MUTUAL]
                default: SIMPLE
              credential_name:
                description:
                  - Credential with certificate and key; with V(MUTUAL) also with the CA for the clients, unless a credential of the same name and
                    C(-cacert) holds it.
                  - A Secret in the namespace of the gateway's workloads, or C(kubernetes://name), C(kubernetes-gateway://namespace/name),
                    C(builtin://), C(sds://name).
                type: str
              credential_names:
                description:
                  - Two credentials in place of one, with an RSA and an ECDSA certificate. The CA for the clients comes from the first.
                type: list
                elements: str
              ca_cert_credential_name:
                description:
                  - Credential with the CA for the clients - a name that ends in C(-cacert), or C(configmap://namespace/name).
                type: str
              server_certificate:
                description:
                  - Path of the certificate's file in the gateway's pods, in place of a credential.
                type: str
              private_key:
                description:
                  - Path of the private key's file in the gateway's pods. It is not shown in results, in case somebody puts a key here.
                type: str
              ca_certificates:
                description:
                  - Path of the file with the CA for the clients in the gateway's pods.
                type: str
              ca_crl:
                description:
                  - Path of the file with revocation lists of that CA in the gateway's pods.
                type: str
              subject_alt_names:
                description:
                  - Names of which a client's certificate must have one.
                type: list
                elements: str
              verify_certificate_spki:
                description:
                  - SHA-256 of public keys, in base64, of which a client's certificate must have one. Works with credentials only.
                type: list
                elements: str
              verify_certificate_hash:
                description:
                  - SHA-256 fingerprints, of which a client's certificate must have one. Works with credentials only.
                type: list
                elements: str
              min_protocol_version:
                description:
                  - Lowest version of TLS.
                type: str
                choices: [TLS_AUTO, TLSV1_0, TLSV1_1, TLSV1_2, TLSV1_3]
              max_protocol_version:
                description:
                  - Highest version of TLS.
                type: str
                choices: [TLS_AUTO, TLSV1_0, TLSV1_1, TLSV1_2, TLSV1_3]
              cipher_suites:
                description:
                  - Cipher suites below TLS 1.3, as BoringSSL names them.
                type: list
                elements: str
              http_redirect:
                description:
                  - Answer plain HTTP requests for the hosts on port 80 with a redirect to HTTPS.
                type: bool
                default: false
              routes:
                description:
                  - Where the hosts' traffic goes. Each route is a VirtualService of its own, or a further rule of the one with the same name.
                  - Rules of one VirtualService are tried in their order; the order among VirtualServices of one host is Istio's.
                  - A route serves its own server only, also where another server of this Gateway has the same host on another port.
                type: list
                elements: dict
                suboptions:
                  name:
                    description:
                      - "Name of the VirtualService. Default: the Gateway's name, a hyphen, and the route's first host."
                    type: str
                  hosts:
                    description:
                      - "The route's hosts. Default: all of the server's."
                    type: list
                    elements: str
                  match:
                    description:
                      - Conditions of which one must hold; without any the route takes everything. With protocol V(HTTPS) only, when TLS is terminated.
                    type: list
                    elements: dict
                    suboptions:
                      prefix:
                        description:
                          - What the path begins with.
                        type: str
                      exact:
                        description:
                          - The whole path.
                        type: str
                      regex:
                        description:
                          - RE2 expression for the whole path.
                        type: str
                      ignore_case:
                        description:
                          - Take upper and lower case of the path as the same. Does not apply to O(servers[].routes[].match[].regex).
                        type: bool
                      methods:
                        description:
                          - HTTP methods.
                        type: list
                        elements: str
                      authority:
                        description:
                          - The request's host, as a text, or as a dictionary with V(exact), V(prefix) or V(regex).
                        type: raw
                      headers:
                        description:
                          - Headers and their values, as texts, or as dictionaries with V(exact), V(prefix) or V(regex).
                        type: dict
                      without_headers:
                        description:
                          - Headers and values that must not be there, written the same way.
                        type: dict
                      query_params:
                        description:
                          - Query parameters and their values, written the same way.
                        type: dict
                  destination:
                    description:
                      - The service that answers. Either this or O(servers[].routes[].destinations).
                    type: dict
                    suboptions: &target
                      host:
                        description:
                          - Name of the service; a short name is one in the Gateway's namespace.
                        type: str
                        required: true
                      port:
                        description:
                          - The service's port. Required if it has several.
                        type: int
                      subset:
                        description:
                          - Subset of a DestinationRule.
                        type: str
                  destinations:
                    description:
                      - Several services that share the traffic by their weights.
                    type: list
                    elements: dict
                    suboptions:
                      <<: *target
                      weight:
                        description:
                          - The service's share.
                        type: int
                  timeout:
                    description:
                      - How long an answer may take, for example V(5s).
                    type: str
                  retries:
                    description:
                      - Whether and when failed requests are tried again.
                    type: dict
                    suboptions:
                      attempts:
                        description:
                          - How often; 0 turns retries off.
                        type: int
                        required: true
                      per_try_timeout:
                        description:
                          - How long each attempt may take, for example V(2s).
                        type: str
                      retry_on:
                        description:
                          - Conditions such as V(5xx), V(connect-failure) or V(503).
                        type: list
                        elements: str
                  rewrite:
                    description:
                      - What requests become before they are forwarded.
                    type: dict
                    suboptions:
                      uri:
                        description:
                          - Replaces the path, or the prefix that was matched.
                        type: str
                      regex:
                        description:
                          - RE2 expression for the part of the path that is replaced, in place of O(servers[].routes[].rewrite.uri).
                        type: str
                      substitution:
                        description:
                          - What that part is replaced with.
                        type: str
                      authority:
                        description:
                          - Replaces the host.
                        type: str
                  headers:
                    description:
                      - Headers that are changed, for example C(strict-transport-security) in the response.
                    type: dict
                    suboptions:
                      request:
                        description:
                          - Headers of the request.
                        type: dict
                        suboptions: &changes
                          set:
                            description:
                              - Headers and their values, in place of what is there.
                            type: dict
                          add:
                            description:
                              - Headers and their values, beside what is there.
                            type: dict
                          remove:
                            description:
                              - Headers to take out.
                            type: list
                            elements: str
                      response:
                        description:
                          - Headers of the response.
                        type: dict
                        suboptions: *changes
      state:
        description:
          - "Whether the objects of this Gateway should exist. Default: the value of O(state)."
        type: str
        choices: [present, absent]
      labels:
        description:
          - Further labels for its objects.
        type: dict
      annotations:
        description:
          - Further annotations for its objects.
        type: dict
      force_conflicts:
        description:
          - "Whether to take over what another field manager has set. Default: the value of O(force_conflicts)."
        type: bool
  <<: *gateway
notes:
  - The Gateway is a Networking API object (C(networking.istio.io/v1)), not one of the Kubernetes Gateway API.
seealso:
  - module: meshops.istio.istio_tls_credential
  - module: meshops.istio.tls_probe
"""

EXAMPLES = r"""
- name: Serve httpbin over HTTPS
  meshops.istio.ingress_tls_gateway:
    name: mygateway
    namespace: default
    selector: {istio: ingressgateway}
    servers:
      - hosts: [httpbin.example.com]
        mode: SIMPLE
        credential_name: httpbin-credential
        http_redirect: true
        routes:
          - match: [{prefix: /status}, {prefix: /delay}]
            destination: {host: httpbin, port: 8000}

- name: Two hosts, one of which asks clients for certificates
  meshops.istio.ingress_tls_gateway:
    name: mygateway
    servers:
      - hosts: [helloworld-v1.example.com]
        credential_name: helloworld-credential
        min_protocol_version: TLSV1_2
        routes:
          - match: [{exact: /hello}]
            destination: {host: helloworld-v1, port: 5000}
      - hosts: [httpbin-mutual.example.com]
        mode: MUTUAL
        credential_name: httpbin-mutual-credential
        routes:
          - name: httpbin-mutual
            destination: {host: httpbin, port: 8000}

- name: Pass TLS through to a service that terminates it
  meshops.istio.ingress_tls_gateway:
    name: passthrough
    servers:
      - hosts: [nginx.example.com]
        mode: PASSTHROUGH
        routes:
          - destination: {host: my-nginx, port: 443}

- name: Several Gateways in one call
  meshops.istio.ingress_tls_gateway:
    namespace: shops
    gateways:
      - name: shop
        servers:
          - hosts: [shop.example.com]
            credential_name: shop-credential
            http_redirect: true
            routes:
              - destination: {host: shop, port: 8080}
      - name: partners
        selector: {istio: partner-gateway}
        servers:
          - hosts: [partners.example.com]
            mode: MUTUAL
            credential_name: partners-credential
            routes:
              - destination: {host: partners, port: 8080}
      - name: old-shop
        state: absent

- name: Remove the Gateway and its routes
  meshops.istio.ingress_tls_gateway:
    name: mygateway
    state: absent
"""

RETURN = r"""
changes:
  description: What was changed (in check mode - would be), in order.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: The object's kind.
      type: str
      returned: always
    namespace:
      description: The object's namespace.
      type: str
      returned: always
    name:
      description: The object's name.
      type: str
      returned: always
    action:
      description: V(created), V(updated) or V(deleted).
      type: str
      returned: always
    reasons:
      description: Why - the fields that differed, for example.
      type: list
      elements: str
      returned: always
  sample:
    - kind: Gateway
      namespace: default
      name: mygateway
      action: updated
      reasons: [spec.servers differs]
gateways:
  description: What was done about each Gateway, in the order given.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The Gateway's name.
      type: str
    namespace:
      description: Its namespace.
      type: str
    action:
      description: V(created), V(updated), V(deleted) or V(unchanged), of the Gateway and its VirtualServices together.
      type: str
    changes:
      description: Its part of RV(changes).
      type: list
      elements: dict
    gateway_namespaces:
      description: Namespaces in which its workloads run, and so in which its credentials have to be.
      type: list
      elements: str
      returned: if it should exist
applied:
  description: What was written before a failure; RV(failures) and RV(not_tried) are the rest.
  returned: failure while writing
  type: list
  elements: dict
failures:
  description: What could not be written, each with its C(error).
  returned: failure while writing
  type: list
  elements: dict
not_tried:
  description: What was not tried because something before it failed. The Gateways of a list do not wait for each other.
  returned: failure while writing
  type: list
  elements: dict
gateway_namespaces:
  description: Namespaces in which the gateway's workloads run, and so in which its credentials have to be.
  returned: with O(state=present), without O(gateways)
  type: list
  elements: str
  sample: [istio-system]
problems:
  description:
    - What is wrong with the arguments.
    - Each with C(code), C(where) and C(severity); the sentence with what was expected, what was found and what to do stands in C(msg), in the
      same order. Where there are very many, the ones that have no room there bring C(message) and C(remedy).
  returned: when arguments are wrong
  type: list
  elements: dict
  sample:
    - code: duplicate_host
      where: servers[1] (httpbin.example.com)
      severity: error
notes:
  description: What could not be checked, for example for want of rights.
  returned: when there is something
  type: list
  elements: str
"""

from dataclasses import replace
from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.arguments import OBJECT_OPTIONS
from ansible_collections.meshops.istio.plugins.module_utils.call import Call
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import Cluster
from ansible_collections.meshops.istio.plugins.module_utils.cluster.gateways import owned_selector, plan_absent, plan_present
from ansible_collections.meshops.istio.plugins.module_utils.cluster.ingress import passed_waypoints, take_snapshot
from ansible_collections.meshops.istio.plugins.module_utils.cluster.reconcile import execute, owned, read
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.ingresses import MAY_COME, check_gateway
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress import IngressGateway, manifests
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress_checks import problems
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress_gateways import Asked, Beside, beside_of, read_gateways
from ansible_collections.meshops.istio.plugins.module_utils.module import run_module
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import (
    GATEWAY,
    VIRTUAL_SERVICE,
    ref_of,
    resource_of,
)
from ansible_collections.meshops.istio.plugins.module_utils.objects.plan import Unit, problems_of
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected

TARGET = {"host": {"type": "str", "required": True}, "port": {"type": "int"}, "subset": {"type": "str"}}
HEADER_CHANGES = {"set": {"type": "dict"}, "add": {"type": "dict"}, "remove": {"type": "list", "elements": "str"}}
VERSIONS = ["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]
ROUTE_OPTIONS: dict[str, Any] = {
    "name": {"type": "str"},
    "hosts": {"type": "list", "elements": "str"},
    "match": {
        "type": "list",
        "elements": "dict",
        "options": {
            "prefix": {"type": "str"},
            "exact": {"type": "str"},
            "regex": {"type": "str"},
            "ignore_case": {"type": "bool"},
            "methods": {"type": "list", "elements": "str"},
            "authority": {"type": "raw"},
            "headers": {"type": "dict"},
            "without_headers": {"type": "dict"},
            "query_params": {"type": "dict"},
        },
    },
    "destination": {"type": "dict", "options": TARGET},
    "destinations": {"type": "list", "elements": "dict", "options": {**TARGET, "weight": {"type": "int"}}},
    "timeout": {"type": "str"},
    "retries": {
        "type": "dict",
        "options": {
            "attempts": {"type": "int", "required": True},
            "per_try_timeout": {"type": "str"},
            "retry_on": {"type": "list", "elements": "str"},
        },
    },
    "rewrite": {
        "type": "dict",
        "options": {"uri": {"type": "str"}, "regex": {"type": "str"}, "substitution": {"type": "str"}, "authority": {"type": "str"}},
    },
    "headers": {
        "type": "dict",
        "options": {"request": {"type": "dict", "options": HEADER_CHANGES}, "response": {"type": "dict", "options": HEADER_CHANGES}},
    },
}
SERVER_OPTIONS: dict[str, Any] = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "port": {"type": "int", "default": 443},
    "port_name": {"type": "str"},
    "protocol": {"type": "str", "choices": ["HTTPS", "TLS"]},
    "bind": {"type": "str"},
    "mode": {
        "type": "str",
        "choices": ["SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "PASSTHROUGH", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL"],
        "default": "SIMPLE",
    },
    "credential_name": {"type": "str"},
    "credential_names": {"type": "list", "elements": "str"},
    "ca_cert_credential_name": {"type": "str"},
    "server_certificate": {"type": "str"},
    "private_key": {"type": "str", "no_log": True},
    "ca_certificates": {"type": "str"},
    "ca_crl": {"type": "str"},
    "subject_alt_names": {"type": "list", "elements": "str"},
    "verify_certificate_spki": {"type": "list", "elements": "str"},
    "verify_certificate_hash": {"type": "list", "elements": "str"},
    "min_protocol_version": {"type": "str", "choices": VERSIONS},
    "max_protocol_version": {"type": "str", "choices": VERSIONS},
    "cipher_suites": {"type": "list", "elements": "str"},
    "http_redirect": {"type": "bool", "default": False},
    "routes": {"type": "list", "elements": "dict", "options": ROUTE_OPTIONS},
}
GATEWAY_OPTIONS: dict[str, Any] = {
    "name": {"type": "str"},
    "namespace": {"type": "str"},
    "selector": {"type": "dict"},
    "prune": {"type": "bool"},
    "servers": {"type": "list", "elements": "dict", "options": SERVER_OPTIONS},
}
ITEM_OPTIONS = {
    **GATEWAY_OPTIONS,
    **{name: {key: value for key, value in option.items() if key != "default"} for name, option in OBJECT_OPTIONS.items()},
}
SPEC: dict[str, Any] = {
    "gateways": {"type": "list", "elements": "dict", "options": ITEM_OPTIONS},
    **GATEWAY_OPTIONS,
    **OBJECT_OPTIONS,
}
CONSTRAINTS: dict[str, Any] = {
    "mutually_exclusive": [("gateways", "name"), ("gateways", "servers")],
    "required_one_of": [("gateways", "name")],
}


def look_around(call: Call, cluster: Cluster, gateway: IngressGateway, beside: Beside) -> list[str]:
    """What the Gateway meets in the cluster becomes warnings; the other Gateways of this call are there as they will be. Where it runs."""
    snapshot, namespaces = take_snapshot(cluster, gateway, call.notes)
    found = check_gateway(gateway, snapshot, beside.made, beside.gone)
    if call.check_mode:  # an earlier task may be about to make it
        call.notes += [str(problem) for problem in found if problem.code in MAY_COME]
        found = tuple(problem for problem in found if problem.code not in MAY_COME)
    call.judge(found)
    call.judge(passed_waypoints(cluster, gateway, snapshot))
    return namespaces


def plan(call: Call, cluster: Cluster, asked: Asked, beside: Beside) -> tuple[Unit, list[str] | None]:
    """What is to be done about one Gateway, and where its workloads run."""
    ref, force = asked.ref, asked.options["force_conflicts"]
    selector = owned_selector(ref.name)
    if asked.gateway is None:
        belonging = owned(cluster, VIRTUAL_SERVICE, ref.namespace, selector)
        return plan_absent(ref.name, ref.namespace, read(cluster, [(GATEWAY, ref)])[ref], belonging, force=force), None
    wanted = manifests(asked.gateway)
    live = read(cluster, [(resource_of(manifest), ref_of(manifest)) for manifest in wanted])
    belonging = owned(cluster, VIRTUAL_SERVICE, ref.namespace, selector) if asked.options["prune"] else []
    unit = plan_present(wanted, live, belonging, prune=asked.options["prune"], force=force)
    return unit, look_around(call, cluster, asked.gateway, beside)


def result(asked: Asked, unit: Unit, namespaces: list[str] | None) -> dict[str, Any]:
    changes = [each.as_result() for each in unit.plans if each.changed]
    actions = {change["action"] for change in changes}
    whole = len(changes) == len(unit.plans) and len(actions) == 1
    action = "unchanged" if not changes else actions.pop() if whole else "updated"
    shown = {"name": asked.ref.name, "namespace": asked.ref.namespace, "action": action, "changes": changes}
    return shown if namespaces is None else {**shown, "gateway_namespaces": namespaces}


def act(call: Call) -> dict[str, Any]:
    asked = read_gateways(call.params)
    call.judge(problem for one in asked for problem in one.at(problems(one.gateway) if one.gateway else ()))
    cluster = call.connect()
    planned, found = [], []
    for one in asked:
        inner = replace(call, doubts=[], notes=[])
        try:
            planned.append(plan(inner, cluster, one, beside_of(one, asked)))
        except Rejected as rejected:
            inner.doubts += rejected.problems
        found += one.at(inner.doubts)
        call.notes += inner.notes
    call.judge(found)
    units = [unit for unit, __ in planned]
    call.judge([problem for one, unit in zip(asked, units, strict=True) for problem in one.at(problems_of([unit]))])
    outcome = execute(cluster, units, check_mode=call.check_mode, rehearse=True)
    results = [result(one, *what) for one, what in zip(asked, planned, strict=True)]
    alone = {} if call.params["gateways"] is not None or not asked[0].gateway else {"gateway_namespaces": results[0]["gateway_namespaces"]}
    changes = [change for each in results for change in each["changes"]]
    return call.finish(outcome, changes=changes, gateways=results, **alone)


def main() -> None:
    run_module(SPEC, act, **CONSTRAINTS)


if __name__ == "__main__":
    main()
