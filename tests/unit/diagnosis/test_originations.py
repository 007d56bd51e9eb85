# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every rule about originations in their cluster: a case in which it fires, and one close by in which it is silent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.originations import Checked, check_set
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.table import RULES
from ansible_collections.meshops.istio.plugins.module_utils.istio.egress_arguments import from_arguments
from ansible_collections.meshops.istio.plugins.module_utils.istio.egress_objects import manifests
from ansible_collections.meshops.istio.plugins.module_utils.istio.snapshot import EVERYWHERE, Coverage, Snapshot
from ansible_collections.meshops.istio.plugins.module_utils.istio.workload import Workload
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import (
    API_GATEWAY,
    AUTHORIZATION_POLICY,
    DESTINATION_RULE,
    GATEWAY,
    NAMESPACE,
    NETWORK_POLICY,
    POD,
    SECRET,
    SERVICE,
    SERVICE_ENTRY,
    SIDECAR,
    VIRTUAL_SERVICE,
    WORKLOAD_ENTRY,
    Kind,
    Manifest,
    Ref,
    Resource,
    ref_of,
)

NGINX: dict[str, Any] = {"name": "nginx", "host": "nginx.example.com", "credential_name": "client-credential"}
FILES = {"certificate": "/etc/c/tls.crt", "private_key": "/etc/c/tls.key", "ca_certificate": "/etc/ca/ca.crt"}
GATEWAY_HOST = "istio-egressgateway.istio-system.svc.cluster.local"
LABELS = {"istio": "egressgateway", "app": "istio-egressgateway"}
PAIR = frozenset(("tls.crt", "tls.key", "ca.crt"))


def service(ports: str = "[{port: 443, targetPort: 8443}]", selector: str = "{istio: egressgateway}", labels: str = "{}") -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load(f"{{metadata: {{labels: {labels}}}, spec: {{selector: {selector}, ports: {ports}}}}}")
    return made


@dataclass(frozen=True)
class Facts:
    """What a cluster holds, in short; None, or a missing key, stands for what could not be read."""

    service_entries: Any = None
    gateways: Any = None
    destination_rules: Any = None
    virtual_services: Any = None
    network_policies: Any = None
    services: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    workloads: Any = None
    secret_keys: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    may_list_secrets: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    sidecars: Any = None
    authorization_policies: Any = None
    namespaces: Mapping[str, Any] = field(default_factory=dict)
    injected: Mapping[str, bool] = field(default_factory=dict)
    waypoints: Any = None
    mesh: Any = None

    def snapshot(self) -> Snapshot:
        objects: dict[Ref, Manifest] = {}
        read: dict[Kind, Coverage] = {}

        def add(resource: Resource, items: Any, coverage: Coverage = EVERYWHERE) -> None:
            if items is not None:
                made = [{**item, "apiVersion": resource.api_version, "kind": resource.kind} for item in items]
                objects.update({ref_of(item): item for item in made})
                read[resource.key] = coverage

        add(SERVICE_ENTRY, self.service_entries)
        add(GATEWAY, self.gateways)
        add(DESTINATION_RULE, self.destination_rules)
        add(VIRTUAL_SERVICE, self.virtual_services)
        add(NETWORK_POLICY, self.network_policies)
        add(SIDECAR, self.sidecars)
        add(AUTHORIZATION_POLICY, self.authorization_policies)
        add(API_GATEWAY, self.waypoints)
        add(SERVICE, [named(key, item) for key, item in self.services.items() if item], Coverage(names=frozenset(self.services)))
        keys = {key: {"data": dict.fromkeys(held, "eA==")} for key, held in self.secret_keys.items() if held is not None}
        add(SECRET, [named(key, item) for key, item in keys.items()], Coverage(names=frozenset(self.secret_keys)))
        names = {("", name): labels for name, labels in self.namespaces.items()}
        made = [named(key, {"metadata": {"labels": labels}}) for key, labels in names.items() if labels is not None]
        add(NAMESPACE, made, Coverage(names=frozenset(names)))
        homes = frozenset({"istio-system"} if self.workloads is not None else ()) | frozenset(self.injected)
        pods = [pod_of(one) for one in self.workloads or () if one.mounts is not None]
        pods += [named((place, "app"), {"spec": {"containers": [{"name": "istio-proxy"}]}}) for place, has in self.injected.items() if has]
        if homes:
            add(POD, pods, Coverage(namespaces=homes))
            machines = [
                named((one.namespace, one.name), {"spec": {"labels": one.labels}}) for one in self.workloads or () if one.mounts is None
            ]
            add(WORKLOAD_ENTRY, machines, Coverage(namespaces=homes))
        return Snapshot(objects, read, self.may_list_secrets, self.mesh)


def named(key: tuple[str, str], item: Any) -> dict[str, Any]:
    metadata = {**(item.get("metadata") or {}), "namespace": key[0], "name": key[1]}
    return {**item, "metadata": metadata}


def pod_of(one: Workload) -> dict[str, Any]:
    env = [{"name": "ISTIO_META_UNPRIVILEGED_POD", "value": "true"}] if one.unprivileged else []
    container = {"name": "istio-proxy", "env": env, "volumeMounts": [{"mountPath": mount} for mount in one.mounts or ()]}
    spec = {"serviceAccountName": one.service_account, "containers": [container]}
    return {"metadata": {"namespace": one.namespace, "name": one.name, "labels": one.labels}, "spec": spec}


PROXY = Workload("istio-system", "egress-1", "egress-sa", LABELS, ("/etc/c", "/etc/ca/"), ports={}, unprivileged=False)
PORT_443 = {"services": {("istio-system", "istio-egressgateway"): service("[{port: 443, targetPort: 443}]")}}
CLUSTER = Facts(
    service_entries=(),
    gateways=(),
    destination_rules=(),
    virtual_services=(),
    network_policies=(),
    services={("istio-system", "istio-egressgateway"): service()},
    workloads=(PROXY,),
    secret_keys={("istio-system", "client-credential"): PAIR, ("istio-system", "client-credential-cacert"): None},
    may_list_secrets={("istio-system", "egress-sa"): True},
    sidecars=(),
    authorization_policies=(),
    mesh={},
)


def live(kind: str, name: str, spec: str, *, namespace: str = "istio-system", created: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    """A live object in somebody else's hands; by default older than anything that is still to be created."""
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": created}
    return {"kind": kind, "metadata": metadata, "spec": yaml.safe_load(spec)}


def rule(name: str, spec: str, **more: str) -> dict[str, Any]:
    return live("DestinationRule", name, spec, **more)


def gateway(name: str, spec: str, **more: str) -> dict[str, Any]:
    return live("Gateway", name, spec, **more)


def route(name: str, spec: str, **more: str) -> dict[str, Any]:
    return live("VirtualService", name, spec, **more)


def entry(name: str, spec: str, **more: str) -> dict[str, Any]:
    return live("ServiceEntry", name, spec, **more)


MONGO: dict[str, Any] = {"protocol": "TCP", "http_port": 27017}
OTHER_MONGO = entry("mongo", "{hosts: [mongo.example.net], ports: [{number: 27017, protocol: MONGO}]}")


def sidecar(hosts: str, namespace: str = "shop") -> dict[str, Any]:
    return live("Sidecar", "narrow", f"{{egress: [{{hosts: {hosts}}}]}}", namespace=namespace)


@dataclass(frozen=True)
class Given:
    """Arguments and facts that differ from the good case, and what a hand may have changed in the manifests."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    change: Callable[[dict[str, Any]], None] | None = None
    """Called with the specs of the unit's objects by name."""


def check(given: Given) -> Checked:
    originations = from_arguments({**NGINX, **given.arguments})
    objects = {one.owner: deepcopy(manifests(one)) for one in originations}
    if given.change:
        given.change({made["metadata"]["name"]: made["spec"] for made in objects[originations[0].owner]})
    return check_set(originations, replace(CLUSTER, **given.facts).snapshot(), objects)


def codes(given: Given) -> set[str]:
    return {problem.code for problem in check(given).problems}


def _set_sni(specs: dict[str, Any]) -> None:
    specs["egressgateway-for-nginx"]["subsets"][0]["trafficPolicy"]["portLevelSettings"][0]["tls"]["sni"] = "other.example.com"


def _no_sni(specs: dict[str, Any]) -> None:
    del specs["egressgateway-for-nginx"]["subsets"][0]["trafficPolicy"]["portLevelSettings"][0]["tls"]["sni"]


def _wildcard_gateway(specs: dict[str, Any]) -> None:
    specs["egress-nginx"]["servers"][0]["hosts"] = ["partners/*.example.com"]


def _rename_subset(specs: dict[str, Any]) -> None:
    specs["egressgateway-for-nginx"]["subsets"][0]["name"] = "other"


def _rename_subset_everywhere(specs: dict[str, Any]) -> None:
    _rename_subset(specs)
    specs["direct-nginx-through-egress-gateway"]["http"][0]["route"][0]["destination"]["subset"] = "other"


def _plain_first_hop(specs: dict[str, Any]) -> None:
    specs["egressgateway-for-nginx"]["subsets"][0]["trafficPolicy"] = {"tls": {"mode": "DISABLE"}}


def _mutual_for_all_ports(specs: dict[str, Any]) -> None:
    specs["egressgateway-for-nginx"]["subsets"][0]["trafficPolicy"] = {"tls": {"mode": "ISTIO_MUTUAL", "sni": "nginx.example.com"}}


def _route_to_http(specs: dict[str, Any]) -> None:
    specs["direct-nginx-through-egress-gateway"]["http"][1]["route"][0]["destination"]["port"]["number"] = 80


def _tls_for_the_whole_rule(specs: dict[str, Any]) -> None:
    specs["originate-mtls-for-nginx"]["trafficPolicy"] = {"tls": {"mode": "SIMPLE"}}


def _tls_routes(specs: dict[str, Any]) -> None:
    specs["direct-nginx-through-egress-gateway"]["tls"] = [{"match": [{"sniHosts": ["nginx.example.com"]}]}]


AMBIENT = {"istio.io/dataplane-mode": "ambient"}
SELECTORS = {"discoverySelectors": [{"matchLabels": {"mesh": "yes"}}]}
GATEWAY_RULE = f"{{host: {GATEWAY_HOST}, subsets: [{{name: other}}]}}"
HOST_TLS = "{host: nginx.example.com, trafficPolicy: {tls: {mode: SIMPLE}}}"
HTTP_ROUTE = "{hosts: [nginx.example.com], http: [{route: [{destination: {host: elsewhere}}]}]}"
TWO = {
    "name": None,
    "host": None,
    "services": [
        {"name": "nginx", "host": "nginx.example.com", "client_namespaces": ["shop"], "direct_tls": True},
        {"name": "b", "host": "b.example.com", "client_namespaces": ["shop", "billing"], "prevent_bypass": True},
    ],
}
TWO_APART = {**TWO, "services": [{**TWO["services"][0], "client_namespaces": ["web"]}, TWO["services"][1]]}  # type: ignore[index]
NEWER = "2027-01-01T00:00:00Z"


def owned(made: dict[str, Any], owner: str = "origination.istio-system.nginx") -> dict[str, Any]:
    labels = {"app.kubernetes.io/managed-by": "meshops.istio", "meshops.istio/owner": owner}
    return {**made, "metadata": {**made["metadata"], "labels": labels}}


def https_server(host: str, port: int = 443, selector: str = "{istio: egressgateway}") -> str:
    return f"{{selector: {selector}, servers: [{{port: {{number: {port}, name: x, protocol: HTTPS}}, hosts: ['{host}'], tls: {{mode: SIMPLE}}}}]}}"


# code: (fires, is silent)
CASES: dict[str, tuple[Given, Given]] = {
    "first_hop_sni": (Given(change=_set_sni), Given(change=_wildcard_gateway)),
    "subset_missing": (Given(change=_rename_subset), Given(change=_rename_subset_everywhere)),
    "first_hop_not_mutual": (Given(change=_plain_first_hop), Given(change=_mutual_for_all_ports)),
    "first_hop_rule_shadowed": (
        Given({"client_namespaces": ["shop"]}, {"destination_rules": [rule("own", GATEWAY_RULE, namespace="shop")]}),
        Given({"client_namespaces": ["web"]}, {"destination_rules": [rule("own", GATEWAY_RULE, namespace="shop")]}),
    ),
    "first_hop_rule_invisible": (
        Given({"objects": {"first_hop_rule": {"namespace": "web"}}, "client_namespaces": ["shop"]}),
        Given({"objects": {"first_hop_rule": {"namespace": "shop"}}, "client_namespaces": ["shop"]}),
    ),
    "subset_taken": (
        Given(facts={"destination_rules": [rule("hand-made", GATEWAY_RULE.replace("other", "nginx"))]}),
        Given(facts={"destination_rules": [rule("hand-made", GATEWAY_RULE)]}),
    ),
    "route_taken": (
        Given(facts={"virtual_services": [route("hand-made", HTTP_ROUTE)]}),
        Given(facts={"virtual_services": [route("hand-made", HTTP_ROUTE.replace("nginx.example.com", "'*.example.com'"))]}),
    ),
    "not_shown": (
        Given({"export_to": ["web"], "client_namespaces": ["shop"]}),
        Given({"export_to": ["shop"], "client_namespaces": ["shop"]}),
    ),
    "gateway_host_taken": (
        Given(facts={"gateways": [gateway("hand-made", https_server("nginx.example.com"))]}),
        Given(facts={"gateways": [gateway("hand-made", https_server("nginx.example.com", selector="{istio: ingressgateway}"))]}),
    ),
    "gateway_port_plaintext": (
        Given(facts={"gateways": [gateway("plain", https_server("a.b").replace("HTTPS", "HTTP"))]}),
        Given(facts={"gateways": [gateway("plain", https_server("a.b", 80).replace("HTTPS", "HTTP"))]}),
    ),
    "no_gateway_workload": (
        Given(facts={"workloads": (Workload("istio-system", "x", "sa", {"istio": "ingressgateway"}),)}),
        Given(facts={"workloads": None}),
    ),
    "gateway_service_missing": (
        Given(facts={"services": {("istio-system", "istio-egressgateway"): None}}),
        Given(facts={"services": {}}),
    ),
    "service_selects_others": (
        Given(facts={"services": {("istio-system", "istio-egressgateway"): service(selector="{istio: ingressgateway}")}}),
        Given(facts={"services": {("istio-system", "istio-egressgateway"): service(selector="{app: istio-egressgateway}")}}),
    ),
    "gateway_port_missing": (
        Given({"gateway": {"port": 8443}}),
        Given(
            {"gateway": {"port": 8443}},
            {"services": {("istio-system", "istio-egressgateway"): service("[{port: 8443, targetPort: 8443}]")}},
        ),
    ),
    "privileged_target_port": (
        Given(facts={**PORT_443, "workloads": (PROXY, replace(PROXY, name="egress-2", unprivileged=True))}),
        Given(facts={**PORT_443, "workloads": (PROXY, replace(PROXY, name="machine", mounts=None, unprivileged=None))}),
    ),
    "tls_routes_on_terminating_server": (
        Given(change=_tls_routes),
        Given({"direct_tls": True}),  # its tls routes are bound to sidecars
    ),
    "originating_rule_invisible": (
        Given({"objects": {"originating_rule": {"namespace": "web"}}, "namespace": "web"}),
        Given({"objects": {"originating_rule": {"namespace": "web"}}, "namespace": "web", "rule_export_to": [".", "istio-system"]}),
    ),
    "originating_rule_overridden": (
        Given(facts={"destination_rules": [rule("hand-made", HOST_TLS.replace("host:", "exportTo: [.], host:"))]}),
        Given(facts={"destination_rules": [rule("hand-made", "{host: nginx.example.com, exportTo: [.], subsets: [{name: v1}]}")]}),
    ),
    "no_origination": (Given(change=_route_to_http), Given(change=_tls_for_the_whole_rule)),
    "no_host_check": (Given({"subject_alt_names": []}), Given({"subject_alt_names": ["edge.example.net"]})),
    "credential_missing": (
        Given(facts={"secret_keys": {**CLUSTER.secret_keys, ("istio-system", "client-credential"): None}}),
        Given(facts={"secret_keys": {}}),
    ),
    "credential_without_pair": (
        Given(facts={"secret_keys": {**CLUSTER.secret_keys, ("istio-system", "client-credential"): frozenset(("tls.crt", "ca.crt"))}}),
        Given(facts={"secret_keys": {**CLUSTER.secret_keys, ("istio-system", "client-credential"): frozenset(("cert", "key", "cacert"))}}),
    ),
    "credential_without_ca": (
        Given(facts={"secret_keys": {**CLUSTER.secret_keys, ("istio-system", "client-credential"): frozenset(("tls.crt", "tls.key"))}}),
        Given(
            facts={
                "secret_keys": {
                    ("istio-system", "client-credential"): frozenset(("tls.crt", "tls.key")),
                    ("istio-system", "client-credential-cacert"): frozenset(("cacert",)),
                }
            }
        ),
    ),
    "gateway_may_not_list_secrets": (
        Given(facts={"may_list_secrets": {("istio-system", "egress-sa"): False}}),
        Given({"mode": "SIMPLE"}, {"may_list_secrets": {("istio-system", "egress-sa"): False}}),
    ),
    "file_not_mounted": (
        Given({"credential_name": None, "certificate_files": {**FILES, "ca_certificate": "/etc/ca-certs/ca.crt"}}),
        Given({"credential_name": None, "certificate_files": FILES}),
    ),
    "host_is_mesh_service": (
        Given({"host": "my-nginx.mesh-external.svc.cluster.local"}),
        Given({"endpoints": [{"address": "my-nginx.mesh-external.svc.cluster.local"}]}),
    ),
    "port_protocol_conflict": (
        Given(facts={"service_entries": [entry("x", "{hosts: [nginx.example.com], ports: [{number: 443, protocol: HTTP}]}")]}),
        Given(facts={"service_entries": [entry("x", "{hosts: [other.example.com], ports: [{number: 443, protocol: HTTP}]}")]}),
    ),
    "host_declared_twice": (
        Given(facts={"service_entries": [entry("x", "{hosts: [nginx.example.com], ports: [{number: 443, protocol: TLS}]}")]}),
        Given(facts={"service_entries": [entry("x", "{hosts: [nginx.example.com], exportTo: [.]}", namespace="lab")]}),
    ),
    "tls_to_plaintext_port": (
        Given({"endpoints": [{"address": "192.0.2.1", "ports": {"https": 80}}]}),
        Given({"endpoints": [{"address": "192.0.2.1", "ports": {"https": 8080, "http": 80}}]}),
    ),
    "tls_starts_in_plaintext": (
        Given({"protocol": "TCP", "http_port": 3306}),
        Given({"protocol": "TCP", "http_port": 3306, "endpoints": [{"address": "tls-proxy.example.com", "ports": {"tls": 3307}}]}),
    ),
    "tcp_port_shared": (
        Given(MONGO, facts={"service_entries": [OTHER_MONGO]}),
        Given({**MONGO, "addresses": ["192.0.2.1"]}, facts={"service_entries": [OTHER_MONGO]}),
    ),
    "no_endpoints_at_gateway": (Given({"resolution": "NONE"}), Given({"resolution": "DNS"})),
    "sidecars_send_plaintext": (
        Given({"rule_export_to": ["*"]}),
        Given({"rule_export_to": ["*"], "mode": "SIMPLE", "credential_name": "configmap://istio-system/roots"}),
    ),
    "sidecars_wait_for_files": (
        Given({"rule_export_to": ["*"], "credential_name": None, "certificate_files": FILES}),
        Given({"credential_name": None, "certificate_files": FILES}),
    ),
    "tls_inside_tls": (
        Given({"rule_export_to": ["*"], "mode": "SIMPLE", "credential_name": None, "direct_tls": True}),
        Given({"mode": "SIMPLE", "credential_name": None, "direct_tls": True}),
    ),
    "other_egress_policy": (
        Given(
            {"prevent_bypass": True, "client_namespaces": ["shop"]},
            {"network_policies": [live("NetworkPolicy", "all", "{policyTypes: [Egress], egress: [{}]}", namespace="shop")]},
        ),
        Given(
            {"prevent_bypass": True, "client_namespaces": ["shop"]},
            {"network_policies": [live("NetworkPolicy", "none", "{policyTypes: [Ingress, Egress]}", namespace="shop")]},
        ),
    ),
    "direct_tls_blocked": (Given(TWO), Given(TWO_APART)),
    "object_of_another": (
        Given(facts={"gateways": [owned(gateway("egress-nginx", https_server("a.b")), "origination.partners.nginx")]}),
        Given(facts={"gateways": [owned(gateway("egress-nginx", https_server("a.b")))]}),
    ),
    "sidecar_hides": (
        Given({"client_namespaces": ["shop"]}, {"sidecars": [sidecar("['./*']")]}),
        Given({"client_namespaces": ["shop"]}, {"sidecars": [sidecar("['./*', 'istio-system/*']"), sidecar("['./*']", "elsewhere")]}),
    ),
    "clients_without_sidecar": (
        Given({"client_namespaces": ["shop"]}, {"namespaces": {"shop": {}}, "injected": {"shop": False}}),
        Given({"client_namespaces": ["shop"]}, {"namespaces": {"shop": {}}, "injected": {"shop": True}}),
    ),
    "clients_without_waypoint": (
        Given({"client_namespaces": ["shop"]}, {"namespaces": {"shop": AMBIENT}, "injected": {"shop": False}}),
        Given(
            {"client_namespaces": ["shop"]},
            {"namespaces": {"shop": AMBIENT, "istio-system": {"istio.io/use-waypoint": "egress"}}, "injected": {"shop": False}},
        ),
    ),
    "waypoint_loops": (
        Given(facts={"namespaces": {"istio-system": {"istio.io/use-waypoint": "egress", "istio.io/ingress-use-waypoint": "true"}}}),
        Given(facts={"namespaces": {"istio-system": {"istio.io/use-waypoint": "egress"}}}),
    ),
    "authorization_refuses": (
        Given(facts={"authorization_policies": [live("AuthorizationPolicy", "nothing", "{}")]}),
        Given(facts={"authorization_policies": [live("AuthorizationPolicy", "nothing", "{selector: {matchLabels: {app: other}}}")]}),
    ),
    "namespace_not_discovered": (
        Given(facts={"mesh": SELECTORS, "namespaces": {"istio-system": {}}}),
        Given(facts={"mesh": SELECTORS, "namespaces": {"istio-system": {"mesh": "yes"}}}),
    ),
}


def test_the_good_case_is_silent() -> None:
    assert check(Given()) == Checked(())


@pytest.mark.parametrize("code", CASES)
def test_fires(code: str) -> None:
    found = check(CASES[code][0]).problems
    (mine,) = [problem for problem in found if problem.code == code][:1]
    assert mine.where.startswith(("nginx", "services[0] (nginx)"))
    assert mine.remedy and not mine.message.endswith(".")


@pytest.mark.parametrize("code", CASES)
def test_is_silent(code: str) -> None:
    assert code not in codes(CASES[code][1])


def test_every_rule_about_ways_through_egress_gateways_has_its_case() -> None:
    told = {rule.code for rule in RULES if rule.id.startswith("MIT05")} - {"bypass_possible"}  # which modules do not tell
    assert told <= set(CASES)


# --- closer looks at some of the rules


def test_clients_of_a_namespace_that_is_not_there() -> None:
    (found,) = check(Given({"client_namespaces": ["shop"]}, {"namespaces": {"shop": None}})).problems
    assert (found.code, found.severity) == ("clients_without_sidecar", "warning")
    assert "there is no namespace shop" in found.message and "correct the name" in found.remedy
    assert check(Given({"client_namespaces": ["shop"]}, {"namespaces": {}})).problems == ()  # not read


def labelled_entry(**labels: str) -> dict[str, Any]:
    made = owned(entry("nginx", "{hosts: [nginx.example.com], ports: [{number: 80, protocol: HTTP}, {number: 443, protocol: HTTPS}]}"))
    return {**made, "metadata": {**made["metadata"], "labels": {**made["metadata"]["labels"], **labels}}}


USE = "istio.io/use-waypoint"
WAYPOINT = {
    "metadata": {"name": "w", "namespace": "istio-system"},
    "spec": {"listeners": [{"port": 15008, "protocol": "HBONE"}]},
    "status": {"addresses": [{"value": "10.0.0.1"}]},
}


@pytest.mark.parametrize(
    ("of_client", "of_home", "facts", "told"),
    [
        (
            {USE: "w"},
            {},
            {},
            "neither the ServiceEntry nor its namespace istio-system",
        ),  # the clients' own waypoint does not see the request
        ({}, {USE: "w"}, {}, None),  # waypoints were not read
        ({}, {USE: "w"}, {"waypoints": [WAYPOINT]}, None),
        ({}, {USE: "other"}, {"waypoints": [WAYPOINT]}, "there is no waypoint istio-system/other"),
        ({}, {}, {"service_entries": [labelled_entry(**{USE: "w"})]}, None),
        ({}, {USE: "w"}, {"service_entries": [labelled_entry(**{USE: "none"})]}, "neither the ServiceEntry"),
    ],
)
def test_waypoints(of_client: dict[str, str], of_home: dict[str, str], facts: dict[str, Any], told: str | None) -> None:
    around = {"namespaces": {"shop": {**AMBIENT, **of_client}, "istio-system": of_home}, "injected": {"shop": False}}
    found = [one for one in check(Given({"client_namespaces": ["shop"]}, {**around, **facts})).problems if "waypoint" in one.code]
    assert [told in one.message for one in found if told] == ([True] if told else [])
    assert bool(found) is bool(told)


TWO_DATABASES = [{"name": "a", "host": "a.example.com"}, {"name": "b", "host": "b.example.com"}]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Given(MONGO), []),
        (Given({"protocol": "TCP", "http_port": 6379, "tls_port": 6380, "direct_tls": True}), []),
        (Given({"protocol": "TCP", "tls_port": 5432, "resolution": "DNS_ROUND_ROBIN"}), ["tls_starts_in_plaintext"]),
        (Given({"protocol": "TCP", "http_port": 13306, "tls_port": 3306}), ["tls_starts_in_plaintext"]),
        (Given({"protocol": "TCP", "http_port": 3306, "tls_port": 3307}), []),
        (
            Given({**MONGO, "endpoints": [{"address": "a.example.net", "ports": {"tls": 3306}}, {"address": "b.example.net"}]}),
            ["tls_starts_in_plaintext"],
        ),
        (Given({"tls_port": 3306}), []),
        (Given(MONGO, facts={"virtual_services": [route("old", "{hosts: [nginx.example.com], http: [{route: []}]}")]}), []),
        (Given(MONGO, facts={"virtual_services": [route("old", "{hosts: [nginx.example.com], tcp: [{route: []}]}")]}), ["route_taken"]),
        (
            Given(MONGO, facts={"virtual_services": [route("old", "{hosts: [a.b], gateways: [egress-nginx], http: [{}]}")]}),
            ["tls_routes_on_terminating_server", "host_not_served"],
        ),
        (
            Given(MONGO, facts={"service_entries": [entry("x", "{hosts: [nginx.example.com], ports: [{number: 27017, protocol: HTTP}]}")]}),
            ["port_protocol_conflict"],
        ),
        (
            Given(MONGO, facts={"service_entries": [entry("x", "{hosts: [nginx.example.com], ports: [{number: 27017, protocol: TCP}]}")]}),
            ["host_declared_twice"],
        ),
        (Given({**MONGO, "http_port": 27018}, facts={"service_entries": [OTHER_MONGO]}), []),
        (Given(facts={"service_entries": [OTHER_MONGO]}), []),
        (Given({**MONGO, "name": None, "host": None, "services": TWO_DATABASES}), ["tcp_port_shared"]),
        (
            Given({**MONGO, "name": None, "host": None, "services": [{**TWO_DATABASES[0], "addresses": ["192.0.2.1"]}, TWO_DATABASES[1]]}),
            [],
        ),
        (Given({**MONGO, "name": None, "host": None, "addresses": ["192.0.2.1"], "services": TWO_DATABASES}), ["tcp_port_shared"]),
    ],
)
def test_tcp(given: Given, expected: list[str]) -> None:
    assert [problem.code for problem in check(given).problems] == expected


@pytest.mark.parametrize("name", ["a", "z"])
def test_a_database_that_is_there_already(name: str) -> None:
    """With all of its objects; whichever comes first by name, the one that is asked for is told."""
    kinds = {
        "ServiceEntry": "service_entries",
        "Gateway": "gateways",
        "DestinationRule": "destination_rules",
        "VirtualService": "virtual_services",
    }
    facts: dict[str, list[Any]] = {}
    [there] = from_arguments({**NGINX, **MONGO, "name": name, "host": f"{name}.example.com"})
    for made in manifests(there):
        facts.setdefault(kinds[made["kind"]], []).append(made)
    assert [problem.code for problem in check(Given(MONGO, facts)).problems] == ["tcp_port_shared"]
    assert check(Given({**MONGO, "http_port": 27018}, facts)).problems == ()


@pytest.mark.parametrize(
    ("given", "code", "severity", "told"),
    [
        # the newer of two loses: ours is still to be made, unless it is there already
        (CASES["route_taken"][0], "route_taken", "error", "requests go past the gateway"),
        (
            Given(
                facts={
                    "virtual_services": [
                        owned(route("direct-nginx-through-egress-gateway", "{}")),
                        route("later", HTTP_ROUTE, created=NEWER),
                    ]
                }
            ),
            "route_taken",
            "warning",
            "ignores it from now on",
        ),
        (CASES["gateway_host_taken"][0], "gateway_host_taken", "error", "so that istiod drops this server"),
        (
            Given(
                facts={
                    "gateways": [
                        owned(gateway("egress-nginx", https_server("nginx.example.com"))),
                        gateway("later", https_server("*/nginx.example.com"), created=NEWER),
                    ]
                }
            ),
            "gateway_host_taken",
            "warning",
            "Gateway istio-system/later",
        ),
        (
            Given(facts={"gateways": [gateway("later", https_server("shop/nginx.example.com"), created="9999-1")]}),
            "gateway_host_taken",
            "error",
            "refuse the whole listener",
        ),
        # a Gateway may name the pods' port instead of the Service's
        (Given(facts={"gateways": [gateway("x", https_server("nginx.example.com", 8443))]}), "gateway_host_taken", "error", "port 8443"),
        (Given(change=_no_sni), "first_hop_sni", "error", f"outbound_.443_.nginx_.{GATEWAY_HOST}"),
        (
            Given({"client_namespaces": ["shop"]}, {"destination_rules": [rule("all", "{host: '*.local'}", namespace="shop")]}),
            "first_hop_rule_shadowed",
            "error",
            "DestinationRule shop/all",
        ),
        # rules whose exportTo differ are not merged, and the last one counts
        (
            Given(facts={"destination_rules": [rule("z", GATEWAY_RULE.replace("host:", "exportTo: ['*'], host:"), created="9999-1")]}),
            "first_hop_rule_shadowed",
            "error",
            "istio-system/z",
        ),
        (
            Given(facts={"destination_rules": [rule("public", HOST_TLS)]}),
            "tls_inside_tls",
            None,
            "",
        ),
        (
            Given({"client_namespaces": ["istio-system"]}),
            "sidecars_send_plaintext",
            "error",
            "the clients in istio-system",
        ),
        (
            Given(
                {"client_namespaces": ["shop"], "direct_tls": True},
                {"destination_rules": [rule("shops-own", HOST_TLS, namespace="shop")]},
            ),
            "tls_inside_tls",
            "error",
            "DestinationRule shop/shops-own",
        ),
        (
            Given(
                facts={
                    "secret_keys": {
                        ("istio-system", "client-credential"): None,
                        ("istio-system", "client-credential-cacert"): None,
                        ("default", "client-credential"): PAIR,
                    }
                }
            ),
            "credential_missing",
            "error",
            "there is one in default",
        ),
        # an X-cacert without a CA in it is an error to istiod, it does not go on to X
        (
            Given(facts={"secret_keys": {**CLUSTER.secret_keys, ("istio-system", "client-credential-cacert"): frozenset(("tls.crt",))}}),
            "credential_without_ca",
            "error",
            "client-credential-cacert",
        ),
        (
            Given({"mode": "SIMPLE"}, {"secret_keys": {**CLUSTER.secret_keys, ("istio-system", "client-credential"): None}}),
            "credential_missing",
            "error",
            "",
        ),
        (Given({"tls_port": 80, "http_port": 8080}), "tls_to_plaintext_port", "warning", "port 80 of nginx.example.com"),
        (
            Given(facts={"virtual_services": [route("foreign", "{hosts: [x.example.com], gateways: [egress-nginx], tls: [{}]}")]}),
            "tls_routes_on_terminating_server",
            "warning",
            "VirtualService istio-system/foreign",
        ),
        (
            Given(facts={"service_entries": [entry("x", "{hosts: [NGINX.example.com], ports: [{number: 80, protocol: HTTPS}]}")]}),
            "port_protocol_conflict",
            "error",
            "port 80 as HTTPS, where HTTP is expected",
        ),
    ],
)
def test_closer(given: Given, code: str, severity: str | None, told: str) -> None:
    found = [problem for problem in check(given).problems if problem.code == code]
    assert {problem.severity for problem in found} == ({severity} if severity else set())
    assert not severity or any(told in f"{problem.where} {problem.message}" for problem in found)


@pytest.mark.parametrize(
    "facts",
    [
        {"virtual_services": [route("tls-only", "{hosts: [nginx.example.com], tls: [{}]}")]},
        {"virtual_services": [route("private", HTTP_ROUTE.replace("hosts:", "exportTo: [.], hosts:"), namespace="lab")]},
        {"virtual_services": [route("gateways-only", HTTP_ROUTE.replace("hosts:", "gateways: [ingress], hosts:"))]},
        {"virtual_services": [route("port", "{hosts: [nginx.example.com], http: [{match: [{port: 8080}]}]}")]},
        {"virtual_services": [owned(route("renamed", HTTP_ROUTE))]},  # will be pruned
        {"gateways": [gateway("bound", https_server("nginx.example.com").replace("port: {", "bind: 192.0.2.1, port: {"))]},
        {"gateways": [gateway("wide", https_server("*.example.com"))]},
        {"gateways": [owned(gateway("renamed", https_server("nginx.example.com")))]},
        {"destination_rules": [rule("public", "{host: '*.example.com', trafficPolicy: {tls: {mode: DISABLE}}}")]},
        {"destination_rules": [rule("lab", HOST_TLS, namespace="lab")]},
        {"destination_rules": [owned(rule("renamed", HOST_TLS))]},
    ],
)
def test_what_others_have_and_does_not_matter(facts: dict[str, Any]) -> None:
    assert check(Given(facts=facts)).problems == ()


def test_what_could_not_be_read_is_noted() -> None:
    (one,) = from_arguments({**NGINX, "prevent_bypass": True, "client_namespaces": ["shop"]})
    checked = check_set([one], replace(Facts().snapshot(), notes=("VirtualServices outside of istio-system",)))
    assert checked.problems == ()
    assert [note.split(" ")[0] for note in checked.notes] == [
        "Gateways",
        "DestinationRules",
        "VirtualServices",
        "ServiceEntries",
        "NetworkPolicies",
        "Sidecars",
        "AuthorizationPolicies",
        "Namespaces",
        "meshConfig",
        "the",
        "Service",
        "Secret",
        "Secret",
        "not",
    ]
    unasked = check(Given(facts={"may_list_secrets": {}}))
    assert unasked.notes == (
        "whether the service account istio-system/egress-sa may list Secrets was not asked (SubjectAccessReview not allowed)",
    )
    assert check(Given({"mode": "SIMPLE"}, {"may_list_secrets": {}})).notes == ()
