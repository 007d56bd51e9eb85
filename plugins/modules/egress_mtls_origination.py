#!/usr/bin/python
# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module egress_mtls_origination: external services that an egress gateway reaches over (mutual) TLS."""

from __future__ import annotations

DOCUMENTATION = r"""
module: egress_mtls_origination
short_description: Let an egress gateway originate mutual TLS to external services
version_added: 0.1.0
author:
  - The meshops.istio developers (@meshops)
description:
  - Applications send plain HTTP, or with O(protocol=TCP) what databases and brokers speak, to O(host). Their sidecars pass it on to the egress
    gateway, and the gateway opens the TLS connection to the external service, with a client certificate of its own.
  - For every service it makes one set of objects - a C(ServiceEntry), a C(Gateway), the C(DestinationRule) of the first hop, the
    C(VirtualService) that routes requests to the gateway and from there to the service, and the C(DestinationRule) that originates TLS.
  - The set is checked as a whole, next to everybody else's objects and as istiod looks at them, before anything is written. A set that istiod
    admits and that would answer 503, send plaintext, or go past the gateway is refused, with what to do about it.
  - Objects are written in an order in which traffic never breaks, and removed in the reverse.
  - Services have no objects in common, so that any number of them stands behind one gateway, from one call or from several.
  - The rule that originates TLS lives in the gateway's namespace and is shown to no other - sidecars that see it send plaintext, or wait 15 s
    for files that they do not have.
extends_documentation_fragment:
  - meshops.istio.auth
  - meshops.istio.objects
  - meshops.istio.attributes
attributes:
  check_mode:
    details:
      - Needs read rights only. Where the login may write, the server's dry run is asked as well.
      - What an earlier task of the same play would have made (the credential, the gateway) is no error in check mode, but a note.
options:
  services:
    description:
      - Several services in one call, each with the options of this module from O(name) to O(objects). What an item leaves out is taken from
        the option of the same name beside the list.
      - A service that leaves the list stays as it is; O(services[].state=absent) removes it.
    type: list
    elements: dict
    suboptions:
      <<: &service
        name:
          description:
            - Name of the service. It names the objects, and the subset of the first hop.
            - Lower-case letters, digits and hyphens; unique behind a gateway.
          type: str
        host:
          description:
            - The external service's DNS name, as clients ask for it. Required with O(state=present).
            - An international name is written in its V(xn--) form (IDNA 2008), in which clients ask for it.
            - Wildcards are refused, because the gateway has to know which server to connect to and which name to verify.
            - In other modules O(host) is the URL of the API server. A URL is taken for that here, too, where no service is made that needs a
              host (with O(services) or O(state=absent)); see O(api_server).
          type: str
        namespace:
          description:
            - "Namespace of the Gateway, the ServiceEntry and the VirtualServices. Default: that of the gateway's workloads."
          type: str
        gateway:
          description:
            - The egress gateway.
          type: dict
          suboptions:
            selector:
              description:
                - "Labels of the gateway's workloads. Default: the label C(istio) with the value V(egressgateway)."
              type: dict
            service:
              description:
                - "Name of the Service in front of them. Default: V(istio-egressgateway)."
              type: str
            namespace:
              description:
                - "Namespace of the workloads and of their Service, and so of their credentials. Default: V(istio-system)."
              type: str
            port:
              description:
                - "The Service's port over which sidecars reach the gateway. Default: V(443)."
              type: int
            cluster_domain:
              description:
                - "Domain of the cluster's Services. Default: V(cluster.local)."
              type: str
        mode:
          description:
            - V(MUTUAL), the default, presents a client certificate; V(SIMPLE) only verifies the server.
          type: str
          choices: [MUTUAL, SIMPLE]
        credential_name:
          description:
            - Credential with the client's certificate and key and the CA of the server, a Secret in the namespace of the gateway's workloads;
              see M(meshops.istio.istio_tls_credential). Changed credentials are used without a restart.
            - With O(mode=SIMPLE) only its CA is read; a name that ends in V(-cacert), or V(configmap://namespace/name), will do.
            - A CRL for the server's certificates belongs into the credential, as V(ca.crl) beside V(ca.crt).
          type: str
        certificate_files:
          description:
            - Files in the gateway's workloads in place of a credential, for example from mounted Secrets.
          type: dict
          suboptions:
            certificate:
              description:
                - Path of the client's certificate chain.
              type: str
            private_key:
              description:
                - Path of its private key.
              type: str
            ca_certificate:
              description:
                - "Path of the CA certificates for the server. Default: the operating system's."
              type: str
            crl:
              description:
                - Path of revocation lists for the server's certificates.
              type: str
        subject_alt_names:
          description:
            - "Names of which the server's certificate must hold one. Default: O(host)."
            - An empty list turns the check of the name off - any certificate that chains to the CA will do then.
          type: list
          elements: str
        max_connection_age:
          description:
            - How long the gateway keeps a connection to the server at most, for example V(10m) or V(1h). There is no limit by default.
            - The gateway's pool goes on presenting the old client certificate as long as a connection lives. With a limit, a rotation takes effect
              everywhere within that time.
          type: str
        sni:
          description:
            - "Server name that the gateway asks for. Default: O(host)."
          type: str
        http_port:
          description:
            - "Port on which clients speak HTTP, or what O(protocol) says, to O(host). Default: V(80)."
            - With O(protocol=TCP) the default is O(tls_port), for example V(27017) for both.
          type: int
          aliases: [port]
        tls_port:
          description:
            - "Port of O(host) for TLS. Default: V(443). An endpoint may map it to another one."
            - With O(protocol=TCP) the default is O(http_port).
            - The service has to speak TLS from the first byte on. MongoDB, Redis (C(tls-port)) and Kafka (an C(SSL) listener) do. MySQL,
              PostgreSQL, SQL Server, SMTP, LDAP and others begin in plaintext and change over to TLS in words of their own, which no gateway
              of Istio's speaks. Let O(endpoints) lead to a proxy that takes TLS for them, or let their clients speak TLS by themselves. Their
              well-known ports bring a warning.
          type: int
        protocol:
          description:
            - "What clients speak on O(http_port). Default: V(HTTP). V(HTTP2) and V(GRPC) are HTTP/2 all the way to the service."
            - V(TCP) is any other protocol, such as those of MongoDB, Redis and Kafka; each connection of a client is one of the gateway's. It
              shares the gateway's port with HTTP services, and needs O(http_port), O(tls_port) or both.
          type: str
          choices: [HTTP, HTTP2, GRPC, TCP]
        resolution:
          description:
            - How the gateway finds the service. V(DNS), the default, resolves O(host) or the endpoints' names, and spreads the load over every
              address of the answer; what the answers name no more is drained. V(STATIC) takes the endpoints' addresses.
            - V(DNS_ROUND_ROBIN) is for servers behind many changing addresses, such as managed databases and object stores. New connections go
              to the first address of the latest answer, and open ones stay whatever DNS says. It takes one endpoint at most.
            - V(NONE) connects to the address that the client asked for. Sidecars can do so, a gateway cannot.
          type: str
          choices: [DNS, DNS_ROUND_ROBIN, STATIC, NONE]
        addresses:
          description:
            - IP addresses that the clients' DNS answers for O(host). With O(resolution=STATIC) networks such as V(192.0.2.0/24) will do, too.
            - They matter with O(protocol=TCP), where sidecars cannot read the host from a request. Without them two TCP services on one
              port get one listener, and connections to both go to the older service. Sidecars that answer DNS themselves
              (C(ISTIO_META_DNS_CAPTURE), which is off in Istio's defaults) need none, because istiod allocates addresses for them (by default
              since Istio 1.25, before with C(ISTIO_META_DNS_AUTO_ALLOCATE)).
            - Where the service really is says O(endpoints).
          type: list
          elements: str
        endpoints:
          description:
            - Where the service really is.
          type: list
          elements: dict
          suboptions:
            address:
              description:
                - DNS name or IP address.
              type: str
              required: true
            ports:
              description:
                - The endpoint's own ports by the names V(https) (for O(tls_port)) and V(http) (for O(http_port)), with O(protocol=TCP) V(tls)
                  and V(tcp).
              type: dict
            labels:
              description:
                - Labels of the endpoint.
              type: dict
            locality:
              description:
                - Where it is, as V(region/zone/subzone).
              type: str
            weight:
              description:
                - Its share of the load.
              type: int
        export_to:
          description:
            - "Namespaces that see the ServiceEntry and the routes; V(.) is O(namespace). Default: the whole mesh."
            - The gateway's namespace is added, because the gateway has to see them, too.
          type: list
          elements: str
        rule_export_to:
          description:
            - "Namespaces that see the rule that originates TLS. Default: V([.]), its own."
          type: list
          elements: str
        client_namespaces:
          description:
            - Namespaces of the clients. Whether they see what they need, and nothing that harms them, is checked for each.
          type: list
          elements: str
        direct_tls:
          description:
            - "Also route TLS that clients originate themselves on O(tls_port), by its SNI and past the gateway. Default: V(false)."
          type: bool
        prevent_bypass:
          description:
            - "Make a NetworkPolicy in each of O(client_namespaces) that lets its pods reach nothing but the cluster's DNS, istiod and the egress
              gateway. Default: V(false)."
            - Policies add up, so other traffic is let through by policies of one's own. They need a network plugin that enforces them.
            - The DNS is let through on the ports that its pods listen on, which its Services in the namespace of O(dns) tell, and at the addresses of
              the nodes' caches (NodeLocal DNSCache), where the cluster has them.
            - Excludes O(direct_tls).
          type: bool
        dns:
          description:
            - The pods of the cluster's DNS, for O(prevent_bypass). A port other than 53 is used as it is.
          type: dict
          suboptions: &pods
            namespace:
              description:
                - "Their namespace. Default: V(kube-system) for the DNS and V(istio-system) for istiod."
              type: str
            labels:
              description:
                - "Their labels. Default: V(k8s-app=kube-dns) for the DNS and V(app=istiod) for istiod."
              type: dict
            port:
              description:
                - "The pods' port. Default: V(53) for the DNS and V(15012) for istiod."
              type: int
        control_plane:
          description:
            - The pods of istiod, for O(prevent_bypass). Their namespace is taken for the mesh's root namespace.
          type: dict
          suboptions: *pods
        objects:
          description:
            - Names and namespaces of single objects, where those made of O(name) and O(namespace) will not do.
            - "Default: the gateway's namespace for the rules."
          type: dict
          suboptions:
            service_entry:
              description:
                - The ServiceEntry; called O(name).
              type: dict
              suboptions: &object
                name:
                  description:
                    - Its name.
                  type: str
                namespace:
                  description:
                    - Its namespace.
                  type: str
            gateway:
              description:
                - The Gateway; called C(egress-<name>).
              type: dict
              suboptions: *object
            first_hop_rule:
              description:
                - The DestinationRule for sidecars towards the gateway; called C(egressgateway-for-<name>).
              type: dict
              suboptions: *object
            virtual_service:
              description:
                - The VirtualService through the gateway; called C(direct-<name>-through-egress-gateway).
              type: dict
              suboptions: *object
            originating_rule:
              description:
                - The DestinationRule that originates TLS; called C(originate-mtls-for-<name>).
              type: dict
              suboptions: *object
            direct_virtual_service:
              description:
                - The VirtualService of O(direct_tls); called O(name).
              type: dict
              suboptions: *object
            network_policy:
              description:
                - The NetworkPolicies of O(prevent_bypass); called C(<name>-only-through-egress-gateway).
              type: dict
              suboptions:
                name:
                  description:
                    - Their name.
                  type: str
      state:
        description:
          - "Whether the service should exist. Default: the value of O(state)."
        type: str
        choices: [present, absent]
  <<: *service
  api_server:
    description:
      - URL of the API server, which is called C(host) in the other modules. E(K8S_AUTH_HOST) is used where it is not given.
    type: str
  on_invalid:
    description:
      - Whether a set that would not work in this cluster ends the task (V(fail)) or is written with warnings (V(warn)), for example to change
        over from objects that were made by hand.
      - What the API server would refuse is an error in any case.
    type: str
    choices: [fail, warn]
    default: fail
  prune:
    description:
      - Delete objects that this module made for a service and that the service no longer has, for example its policies when O(prevent_bypass) is
        turned off.
      - What something else made is never deleted.
    type: bool
    default: true
  state:
    description:
      - Whether the services should exist. V(absent) removes exactly what was made for them, and needs no more than O(name), and O(namespace) or
        O(gateway) where they were given.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: meshops.istio.istio_tls_credential
  - module: meshops.istio.ingress_tls_gateway
  - name: Egress Gateways with TLS Origination
    description: Istio's own walkthrough, whose objects this module makes.
    link: https://istio.io/latest/docs/tasks/traffic-management/egress/egress-gateway-tls-origination/
"""

EXAMPLES = r"""
- name: The gateway's credential for the partner's API
  meshops.istio.istio_tls_credential:
    name: client-credential
    namespace: istio-system
    certificate_path: client.crt
    private_key_path: client.key
    ca_certificate_path: partner-ca.crt
    purpose: client

- name: One partner API
  meshops.istio.egress_mtls_origination:
    name: nginx
    host: nginx.example.com
    namespace: istio-system
    gateway: {selector: {istio: egressgateway}, service: istio-egressgateway, namespace: istio-system}
    mode: MUTUAL
    credential_name: client-credential
    subject_alt_names: [nginx.example.com]
    resolution: DNS
    endpoints: [{address: my-nginx.mesh-external.svc.cluster.local, ports: {https: 443}}]
    state: present

- name: Several services behind one gateway, out of reach in any other way
  meshops.istio.egress_mtls_origination:
    credential_name: partners-client
    client_namespaces: [shop, billing]
    prevent_bypass: true
    services:
      - {name: payments, host: payments.example.net}
      - {name: ledger, host: ledger.example.org, tls_port: 8443, protocol: GRPC}
      - {name: weather, host: api.weather.example, mode: SIMPLE, credential_name: weather-roots-cacert}
      - {name: old-bank, state: absent}

- name: Databases, to which applications speak without TLS
  meshops.istio.egress_mtls_origination:
    credential_name: databases-client
    protocol: TCP
    services:
      - {name: orders, host: orders.mongo.example.net, port: 27017}
      - {name: cache, host: cache.example.net, port: 6379, tls_port: 6380, resolution: DNS_ROUND_ROBIN}
      - {name: broker-0, host: b-0.kafka.example.net, port: 9092, tls_port: 9094, addresses: [192.0.2.10]}
      - {name: broker-1, host: b-1.kafka.example.net, port: 9092, tls_port: 9094, addresses: [192.0.2.11]}

- name: Certificates from mounted files
  meshops.istio.egress_mtls_origination:
    name: nginx
    host: nginx.example.com
    certificate_files:
      certificate: /etc/nginx-client-certs/tls.crt
      private_key: /etc/nginx-client-certs/tls.key
      ca_certificate: /etc/nginx-ca-certs/ca-chain.cert.pem
"""

RETURN = r"""
services:
  description: What was done (in check mode - would be) about each service, in the order given.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The service's name.
      type: str
      returned: always
    namespace:
      description: Its namespace.
      type: str
      returned: always
    host:
      description: The external host.
      type: str
      returned: unless the service is to be absent
    action:
      description: V(created), V(updated), V(deleted) or V(unchanged).
      type: str
      returned: always
    changes:
      description: The objects that changed, in order, each with C(kind), C(namespace), C(name), C(action) and C(reasons).
      type: list
      elements: dict
      returned: when something changed
  sample:
    - name: nginx
      namespace: istio-system
      host: nginx.example.com
      action: updated
      changes:
        - kind: DestinationRule
          namespace: istio-system
          name: originate-mtls-for-nginx
          action: updated
          reasons: [spec.trafficPolicy.portLevelSettings differs]
problems:
  description:
    - What is wrong with the arguments or with the set in this cluster.
    - Each with C(code), C(where) and C(severity); the sentence with what was expected, what was found and what to do stands in C(msg), in the
      same order. Where there are very many, the ones that have no room there bring C(message) and C(remedy).
  returned: failure
  type: list
  elements: dict
  sample:
    - code: credential_without_ca
      where: "nginx: credential_name"
      severity: error
notes:
  description: What could not be checked, for example for want of rights.
  returned: when there is something
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.arguments import OBJECT_OPTIONS
from ansible_collections.meshops.istio.plugins.module_utils.call import Call
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import Cluster
from ansible_collections.meshops.istio.plugins.module_utils.cluster.cluster_dns import with_dns
from ansible_collections.meshops.istio.plugins.module_utils.cluster.egress import Live, plan_absent, plan_present, read_live, take_snapshot
from ansible_collections.meshops.istio.plugins.module_utils.cluster.reconcile import execute
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.originations import MAY_COME, check_set
from ansible_collections.meshops.istio.plugins.module_utils.istio.egress import Origination
from ansible_collections.meshops.istio.plugins.module_utils.istio.egress_arguments import from_arguments
from ansible_collections.meshops.istio.plugins.module_utils.istio.egress_objects import manifests
from ansible_collections.meshops.istio.plugins.module_utils.istio.names import metadata_problems
from ansible_collections.meshops.istio.plugins.module_utils.module import run_module
from ansible_collections.meshops.istio.plugins.module_utils.objects.plan import Unit, problems_of

TEXT = {"type": "str"}
TEXTS = {"type": "list", "elements": "str"}
PODS = {"type": "dict", "options": {"namespace": TEXT, "labels": {"type": "dict"}, "port": {"type": "int"}}}
OBJECT = {"type": "dict", "options": {"name": TEXT, "namespace": TEXT}}
SERVICE_OPTIONS: dict[str, Any] = {
    "name": TEXT,
    "host": TEXT,
    "namespace": TEXT,
    "gateway": {
        "type": "dict",
        "options": {"selector": {"type": "dict"}, "service": TEXT, "namespace": TEXT, "port": {"type": "int"}, "cluster_domain": TEXT},
    },
    "mode": {"type": "str", "choices": ["MUTUAL", "SIMPLE"]},
    "credential_name": TEXT,
    "certificate_files": {
        "type": "dict",
        "options": {"certificate": TEXT, "private_key": {"type": "str", "no_log": False}, "ca_certificate": TEXT, "crl": TEXT},
    },
    "subject_alt_names": TEXTS,
    "max_connection_age": TEXT,
    "sni": TEXT,
    "http_port": {"type": "int", "aliases": ["port"]},
    "tls_port": {"type": "int"},
    "protocol": {"type": "str", "choices": ["HTTP", "HTTP2", "GRPC", "TCP"]},
    "resolution": {"type": "str", "choices": ["DNS", "DNS_ROUND_ROBIN", "STATIC", "NONE"]},
    "addresses": TEXTS,
    "endpoints": {
        "type": "list",
        "elements": "dict",
        "options": {
            "address": {"type": "str", "required": True},
            "ports": {"type": "dict"},
            "labels": {"type": "dict"},
            "locality": TEXT,
            "weight": {"type": "int"},
        },
    },
    "export_to": TEXTS,
    "rule_export_to": TEXTS,
    "client_namespaces": TEXTS,
    "direct_tls": {"type": "bool"},
    "prevent_bypass": {"type": "bool"},
    "dns": PODS,
    "control_plane": PODS,
    "objects": {
        "type": "dict",
        "options": {
            "service_entry": OBJECT,
            "gateway": OBJECT,
            "first_hop_rule": OBJECT,
            "virtual_service": OBJECT,
            "originating_rule": OBJECT,
            "direct_virtual_service": OBJECT,
            "network_policy": {"type": "dict", "options": {"name": TEXT}},
        },
    },
    "state": {"type": "str", "choices": ["present", "absent"]},
}
SPEC: dict[str, Any] = {
    **SERVICE_OPTIONS,
    **OBJECT_OPTIONS,
    "api_server": TEXT,
    "services": {"type": "list", "elements": "dict", "options": SERVICE_OPTIONS},
    "on_invalid": {"type": "str", "choices": ["fail", "warn"], "default": "fail"},
    "prune": {"type": "bool", "default": True},
}
CONSTRAINTS: dict[str, Any] = {"mutually_exclusive": [("services", "name")], "required_one_of": [("services", "name")]}


def look_around(call: Call, cluster: Cluster, originations: tuple[Origination, ...], live: Live, labels: Mapping[str, str]) -> None:
    """Judges the set in its cluster."""
    snapshot = take_snapshot(cluster, originations, live)
    checked = check_set(originations, snapshot, {one.owner: manifests(one, labels=labels) for one in originations if not one.absent})
    found = list(checked.problems)
    call.notes += checked.notes
    if call.check_mode:  # an earlier task may be about to make it
        call.notes += [str(problem) for problem in found if problem.code in MAY_COME]
        found = [problem for problem in found if problem.code not in MAY_COME]
    call.judge(found, on_invalid=call.params["on_invalid"])


def plan(call: Call, one: Origination, live: Live, labels: Mapping[str, str], annotations: Mapping[str, str]) -> Unit:
    force = call.params["force_conflicts"]
    if one.absent:
        return plan_absent(one, live, force=force, notes=call.notes)
    return plan_present(one, live, labels=labels, annotations=annotations, force=force, prune=call.params["prune"])


def result(one: Origination, unit: Unit) -> dict[str, Any]:
    changes = [each.as_result() for each in unit.plans if each.changed]
    actions = {change["action"] for change in changes}
    shown: dict[str, Any] = {"name": one.name, "namespace": one.namespace}
    if not one.absent:
        shown["host"] = one.host
    whole = len(changes) == len(unit.plans) and len(actions) == 1
    shown["action"] = "unchanged" if not changes else actions.pop() if whole else "updated"
    if changes:
        shown["changes"] = changes
    return shown


def two_hosts(params: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The arguments of the services, and the API server: here `host` is the service's, unless it is a URL.

    One service that is to be made needs a host of its own, so that a URL is no API server's there, but refused as a host.
    """
    given = params["host"] or ""
    needed = bool(params.get("name")) and params.get("state") != "absent"
    is_url = given.startswith(("http://", "https://")) and not needed
    return {**params, "host": None if is_url else params["host"]}, params["api_server"] or (given if is_url else None)


def act(call: Call) -> dict[str, Any]:
    params, api_server = two_hosts(call.params)
    originations = from_arguments(params)
    if not originations:
        return {"changed": False, "services": []}
    labels, annotations = ({str(key): str(value) for key, value in (params[option] or {}).items()} for option in ("labels", "annotations"))
    call.judge(metadata_problems(manifests(originations[0], labels=labels, annotations=annotations)[0], "labels and annotations"))
    cluster = call.connect(host=api_server)
    originations = with_dns(cluster, originations, call.notes)
    live = read_live(cluster, originations)
    if all(one.absent for one in originations):
        call.notes += [f"not read: {what}" for what in live.unread]
    else:
        look_around(call, cluster, originations, live, labels)
    units = [plan(call, one, live, labels, annotations) for one in originations]
    call.judge(problems_of(units))
    outcome = execute(cluster, units, check_mode=call.check_mode, rehearse=True)
    return call.finish(outcome, services=[result(one, unit) for one, unit in zip(originations, units, strict=True)])


def main() -> None:
    run_module(SPEC, act, **CONSTRAINTS)


if __name__ == "__main__":
    main()
