# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh as rules look at it: a snapshot with what istiod makes of its objects, each worked out once. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..istio import gateway_api, rbac
from ..istio.choice import Rules, arrange, fqdn, rule_for
from ..istio.client_tls import ClientTls, client_tls_of
from ..istio.destinations import Known, hosts_of
from ..istio.listeners import Listener, listeners_of
from ..istio.shapes import Fault
from ..istio.snapshot import Snapshot
from ..istio.usage import Use, gateway_api_uses, uses
from ..istio.workload import Workload, has_ended, has_proxy, is_sidecar, services_of, workload_of
from ..istio.workload import pod_port as port_in_pod
from ..objects.kinds import (
    API_GATEWAY,
    BACKEND_TLS_POLICY,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    CONFIG_MAP,
    DESTINATION_RULE,
    GATEWAY,
    ISTIO,
    LISTENER_SET,
    NAMESPACE,
    NETWORK_POLICY,
    POD,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    SERVICE_ENTRY,
    VIRTUAL_SERVICE,
    WORKLOAD_ENTRY,
    Manifest,
    Ref,
    ref_of,
)
from .egress_paths import TCP, EgressPath, Leg, find_paths, legs
from .readings import Services, names_in, spec_of

if TYPE_CHECKING:
    from .observed import Observed

ServiceKey = tuple[str, str]


@dataclass(frozen=True)
class MeshView:
    snapshot: Snapshot
    now: datetime | None = None
    """Without it nothing is said about certificates' dates."""
    min_remaining_days: float = 0
    faults: Mapping[Ref, tuple[Fault, ...]] = field(default_factory=dict)
    """What stands in objects from files, and cannot stand there."""
    about: frozenset[Ref] = frozenset()
    """The objects that a call makes: what lies between them and others' is told of them."""
    before: Snapshot | None = field(default=None, repr=False)
    """Of a call: the cluster as it is, before what it wants is laid over it."""
    observed: Observed | None = field(default=None, repr=False)
    """What gateways and proxies showed, where they were asked."""
    originations: tuple[EgressPath, ...] = field(default=())
    """What a call asks for: these are looked at instead of what the objects show of them."""

    # --- Gateways and their pods

    @cached_property
    def gateways(self) -> tuple[Manifest, ...]:
        return self.snapshot.of(GATEWAY)

    @cached_property
    def listeners(self) -> tuple[Listener, ...]:
        """Every server of every Gateway, the oldest Gateway first, as istiod merges them."""
        return tuple(listener for gateway in self.gateways for listener in listeners_of(gateway))

    @cached_property
    def workloads(self) -> tuple[Workload, ...]:
        items = (*self.snapshot.of(POD), *self.snapshot.of(WORKLOAD_ENTRY))
        return tuple(workload_of(item) for item in items if not has_ended(item))

    @cached_property
    def _by_label(self) -> Mapping[tuple[str, str], tuple[int, ...]]:
        found: dict[tuple[str, str], list[int]] = {}
        for position, workload in enumerate(self.workloads):
            for pair in workload.labels.items():
                found.setdefault(pair, []).append(position)
        return {pair: tuple(positions) for pair, positions in found.items()}

    @cached_property
    def _selected(self) -> dict[tuple[tuple[str, str], ...], tuple[Workload, ...]]:
        return {}

    def selected(self, selector: Mapping[str, str]) -> tuple[Workload, ...]:
        """The workloads that a Gateway's selector matches; an empty one matches every proxy of the mesh."""
        key = tuple(sorted(selector.items()))
        if key not in self._selected:
            first, *rest = (set(self._by_label.get(pair, ())) for pair in key) if key else (set(range(len(self.workloads))),)
            positions = sorted(first.intersection(*rest))
            self._selected[key] = tuple(self.workloads[position] for position in positions)
        return self._selected[key]

    @cached_property
    def workloads_complete(self) -> bool:
        """Whether no pod of any gateway can have been overlooked."""
        return self.snapshot.coverage(POD).everywhere

    @cached_property
    def _services_of(self) -> dict[tuple[str, str], tuple[Manifest, ...]]:
        return {}

    @cached_property
    def _services_in(self) -> Mapping[str, list[Manifest]]:
        found: dict[str, list[Manifest]] = {}
        for service in self.snapshot.of(SERVICE):
            found.setdefault(service["metadata"].get("namespace", ""), []).append(service)
        return found

    def services_of(self, workload: Workload) -> tuple[Manifest, ...]:
        key = workload.namespace, workload.name
        if key not in self._services_of:
            self._services_of[key] = tuple(services_of(workload, self._services_in.get(workload.namespace, ())))
        return self._services_of[key]

    def pod_port(self, number: int, workload: Workload) -> int | str:
        """The port of a pod that a Gateway's port comes to."""
        return port_in_pod(number, self.services_of(workload), workload.ports)

    def home_of(self, selector: Mapping[str, str]) -> tuple[str, ...]:
        """The namespaces in which a Gateway's workloads run."""
        return tuple(sorted({workload.namespace for workload in self.selected(selector)}))

    @cached_property
    def meeting(self) -> Mapping[tuple[object, ...], tuple[Listener, ...]]:
        """The servers that come to one port of some pods, the oldest first: by pods, port and address.

        Where the pods are not known, Gateways with one port number meet whose selectors do not contradict each other (`may_overlap`).
        """
        found: dict[tuple[object, ...], dict[Listener, None]] = {}
        for one in self.listeners:
            pods = self.selected(one.selector)
            places: set[tuple[object, ...]] = {(pod.namespace, pod.name, self.pod_port(one.number, pod)) for pod in pods}
            if not places and not self.workloads_complete:
                places = {(one.number,)}  # whether they have pods in common is for their selectors to say
            for place in places:
                found.setdefault((*place, one.bind), {})[one] = None
        groups = {tuple(group): place for place, group in found.items()}  # replicas have the same servers
        return {place: servers for servers, place in groups.items()}

    def may_overlap(self, one: Mapping[str, str], other: Mapping[str, str]) -> bool:
        """Whether two selectors match pods in common, or may where their pods are not known."""
        pods = self.selected(one)
        if pods or self.workloads_complete:
            return any(other.items() <= pod.labels.items() for pod in pods)
        return all(other.get(key, value) == value for key, value in one.items())

    @cached_property
    def _hosts_on(self) -> dict[tuple[object, ...], tuple[str, ...]]:
        return {}

    def hosts_on(self, selector: Mapping[str, str], number: int) -> tuple[str, ...]:
        """The hosts of all servers with one selector on a port, or on the one of the pods that it comes to."""
        key = (tuple(sorted(selector.items())), number)
        if key not in self._hosts_on:
            pods = self.selected(selector)[:1]
            ports = {self.pod_port(number, pod) for pod in pods} | {number}
            mine = [one for one in self.listeners if one.selector == selector]
            found = [one for one in mine if one.number == number or any(self.pod_port(one.number, pod) in ports for pod in pods)]
            self._hosts_on[key] = tuple(dict.fromkeys(name for one in found for name in one.names))
        return self._hosts_on[key]

    @cached_property
    def gateway_namespaces(self) -> frozenset[str]:
        """Where gateways' pods run."""
        return frozenset(place for gateway in self.gateways for place in self.home_of(spec_of(gateway).get("selector") or {}))

    @cached_property
    def sidecars(self) -> tuple[Workload, ...]:
        """Pods with a proxy beside an application that no Gateway selects. A proxy alone is a gateway's."""
        chosen = {id(pod) for gateway in self.gateways for pod in self.selected(spec_of(gateway).get("selector") or {})}
        proxied = {(item["metadata"].get("namespace", ""), item["metadata"]["name"]) for item in self.snapshot.of(POD) if is_sidecar(item)}
        return tuple(pod for pod in self.workloads if (pod.namespace, pod.name) in proxied and id(pod) not in chosen)

    # --- routes and rules

    @cached_property
    def rules_are_complete(self) -> bool:
        return self.snapshot.coverage(DESTINATION_RULE).everywhere

    @cached_property
    def _rules_by_host(self) -> Mapping[str, Sequence[Manifest]]:
        found: dict[str, list[Manifest]] = {}
        for rule in self.snapshot.of(DESTINATION_RULE):
            host = fqdn(str(spec_of(rule).get("host") or ""), rule["metadata"].get("namespace", ""), self.snapshot.domain)
            found.setdefault(host, []).append(rule)
        return found

    def rules_for(self, host: str) -> Sequence[Manifest]:
        """The DestinationRules for exactly this host, wherever they are and whoever sees them."""
        return self._rules_by_host.get(host, ())

    @cached_property
    def client_tls(self) -> tuple[ClientTls, ...]:
        return tuple(one for rule in self.snapshot.of(DESTINATION_RULE) for one in client_tls_of(rule, self.snapshot.domain))

    @cached_property
    def _mesh_legs(self) -> Mapping[str, Sequence[Leg]]:
        found: dict[str, list[Leg]] = {}
        for route in self.snapshot.of(VIRTUAL_SERVICE):
            for leg in legs(route, "mesh", self.snapshot.domain):
                found.setdefault(leg.host, []).append(leg)
        return found

    def mesh_legs_to(self, host: str) -> Sequence[Leg]:
        """Where sidecars are led to a host by routes."""
        return self._mesh_legs.get(host, ())

    def mesh_routes_of(self, host: str, port: int) -> bool:
        """Whether a route of sidecars takes what is sent to a port of a host."""
        for route in self.routes.get(host, ()):
            for leg in legs(route, "mesh", self.snapshot.domain):
                if leg.match.get("port", port) == port and leg.kind != "tls":
                    return True
        return False

    @cached_property
    def known(self) -> Known:
        entries = self.snapshot.of(SERVICE_ENTRY) if self.snapshot.coverage(SERVICE_ENTRY).everywhere else None
        return Known(Services(self.snapshot), hosts_of(entries))

    @cached_property
    def rules(self) -> Rules:
        rules = self.snapshot.of(DESTINATION_RULE)
        return arrange(rules, root_namespace=self.snapshot.root_namespace, domain=self.snapshot.domain)

    @cached_property
    def routes(self) -> Mapping[str, Sequence[Manifest]]:
        """VirtualServices by host, the oldest first."""
        found: dict[str, list[Manifest]] = {}
        for route in self.snapshot.of(VIRTUAL_SERVICE):
            for host in (route.get("spec") or {}).get("hosts") or ():
                found.setdefault(fqdn(str(host), route["metadata"].get("namespace", ""), self.snapshot.domain), []).append(route)
        return found

    @cached_property
    def routes_of_gateway(self) -> Mapping[str, Sequence[Manifest]]:
        """VirtualServices by the Gateways that they name, as namespace/name."""
        found: dict[str, list[Manifest]] = {}
        for route in self.snapshot.of(VIRTUAL_SERVICE):
            namespace = route["metadata"].get("namespace", "")
            for gateway in (route.get("spec") or {}).get("gateways") or ():
                found.setdefault(gateway if "/" in gateway else f"{namespace}/{gateway}", []).append(route)
        return found

    @cached_property
    def service_entries(self) -> Mapping[str, Sequence[Manifest]]:
        """By host, in lower case."""
        found: dict[str, list[Manifest]] = {}
        for entry in self.snapshot.of(SERVICE_ENTRY):
            for host in (entry.get("spec") or {}).get("hosts") or ():
                found.setdefault(str(host).lower(), []).append(entry)
        return found

    def service(self, host: str) -> Manifest | None:
        """The Service of this cluster that a host is the whole name of."""
        key = self.service_key(host)
        return self.snapshot.get(SERVICE, *key) if key else None

    def service_key(self, host: str) -> ServiceKey | None:
        suffix = f".svc.{self.snapshot.domain}"
        name, __, namespace = host.removesuffix(suffix).partition(".")
        return (namespace, name) if host.endswith(suffix) and namespace and "." not in namespace else None

    @cached_property
    def paths(self) -> tuple[EgressPath, ...]:
        """The ways through egress gateways: those of the call, and those that the objects show."""
        owned = {str(ref) for path in self.originations for ref in path.refs}
        return (*self.originations, *(path for path in find_paths(self) if owned.isdisjoint(map(str, path.refs))))

    @cached_property
    def order_of(self) -> Mapping[Ref, int]:
        """The position of the path that an object belongs to."""
        return {ref: position for position, path in enumerate(self.paths) for ref in path.refs}

    @cached_property
    def asked(self) -> frozenset[Ref]:
        """The objects of what a call asks for."""
        return frozenset(ref for path in self.originations for ref in (*path.refs, *path.objects.values()))

    @cached_property
    def _tcp_entries(self) -> Mapping[int, Sequence[Manifest]]:
        found: dict[int, list[Manifest]] = {}
        for entry in self.snapshot.of(SERVICE_ENTRY):
            for port in spec_of(entry).get("ports") or ():
                if str(port.get("protocol") or "TCP").upper() in TCP:
                    found.setdefault(port.get("number", 0), []).append(entry)
        return found

    def tcp_entries(self, port: int) -> Sequence[Manifest]:
        return self._tcp_entries.get(port, ())

    @cached_property
    def _policies(self) -> Mapping[str, Sequence[Manifest]]:
        found: dict[str, list[Manifest]] = {}
        for policy in self.snapshot.of(NETWORK_POLICY):
            found.setdefault(policy["metadata"].get("namespace", ""), []).append(policy)
        return found

    def policies_in(self, namespace: str) -> Sequence[Manifest]:
        return self._policies.get(namespace, ())

    @property
    def is_registry_only(self) -> bool:
        return ((self.snapshot.mesh or {}).get("outboundTrafficPolicy") or {}).get("mode") == "REGISTRY_ONLY"

    # --- credentials

    @cached_property
    def uses(self) -> tuple[Use, ...]:
        of_istio = uses(self.gateways, self.snapshot.of(DESTINATION_RULE))
        of_api = gateway_api_uses(self.snapshot.of(API_GATEWAY), self.snapshot.of(LISTENER_SET), self.snapshot.of(BACKEND_TLS_POLICY))
        return (*of_istio, *of_api)

    def credential(self, kind: str, namespace: str, name: str) -> Manifest | None:
        return self.snapshot.get(SECRET if kind == "Secret" else CONFIG_MAP, namespace, name)

    def knows_credential(self, kind: str, namespace: str, name: str) -> bool:
        return self.snapshot.knows(SECRET if kind == "Secret" else CONFIG_MAP, namespace, name)

    def ref_of_credential(self, kind: str, namespace: str, name: str) -> Ref:
        return (SECRET if kind == "Secret" else CONFIG_MAP).ref(namespace, name)

    @cached_property
    def _credential_places(self) -> Mapping[tuple[str, str], Sequence[str]]:
        found: dict[tuple[str, str], list[str]] = {}
        for kind, resource in (("Secret", SECRET), ("ConfigMap", CONFIG_MAP)):
            for item in self.snapshot.of(resource):
                found.setdefault((kind, item["metadata"]["name"]), []).append(item["metadata"].get("namespace", ""))
        return found

    def namespaces_with(self, kind: str, name: str) -> list[str]:
        return sorted(self._credential_places.get((kind, name), ()))

    @cached_property
    def _originators(self) -> Mapping[Ref, tuple[Workload, ...]]:
        """The workloads that originate TLS by a DestinationRule: gateways whose routes lead to its host, and pods that it selects."""
        found: dict[Ref, dict[int, Workload]] = {}
        for gateway in self.gateways:
            pods = self.selected(spec_of(gateway).get("selector") or {})
            named = f"{gateway['metadata'].get('namespace', '')}/{gateway['metadata']['name']}"
            targets = {
                (leg.host, leg.port): leg
                for route in self.routes_of_gateway.get(named, ())
                for leg in legs(route, named, self.snapshot.domain)
            }
            for leg in targets.values():
                for place in dict.fromkeys(pod.namespace for pod in pods):
                    here = [pod for pod in pods if pod.namespace == place]
                    merged = rule_for(self.rules, place, leg.host, self._home_of_host(leg.host, place), here[0].labels)
                    for rule in merged.rules if merged else ():
                        found.setdefault(ref_of(rule), {}).update({id(pod): pod for pod in here})
        for rule in self.snapshot.of(DESTINATION_RULE):
            selector = (spec_of(rule).get("workloadSelector") or {}).get("matchLabels")
            for pod in self.selected(selector) if selector else ():
                if pod.namespace == rule["metadata"].get("namespace"):
                    found.setdefault(ref_of(rule), {})[id(pod)] = pod
        return {ref: tuple(pods.values()) for ref, pods in found.items()}

    def _home_of_host(self, host: str, other: str) -> str:
        key = self.service_key(host)
        entries = self.service_entries.get(host, ())
        return key[0] if key else entries[0]["metadata"].get("namespace", "") if entries else other

    def proxies_of(self, ref: Ref) -> tuple[Workload, ...]:
        """The proxies that need the credentials which a Gateway or a DestinationRule names."""
        if ref.key == GATEWAY.key:
            return self.selected(spec_of(self.snapshot.objects.get(ref)).get("selector") or {})
        if ref in self._asked_homes:
            place, selector = self._asked_homes[ref]
            return tuple(pod for pod in self.selected(selector) if pod.namespace == place)
        return self._originators.get(ref, ())

    @cached_property
    def _asked_homes(self) -> Mapping[Ref, tuple[str, Mapping[str, str]]]:
        paths = [path for path in self.paths if "originating_rule" in path.objects and (path.asked or path.mode)]
        return {path.objects["originating_rule"]: (path.gateway.namespace, path.gateway.selector) for path in paths}

    def homes_of(self, ref: Ref) -> tuple[str, ...]:
        """The namespaces of these proxies: for a way through an egress gateway also where the pods themselves were not read."""
        if ref in self._asked_homes:
            return (self._asked_homes[ref][0],)
        return tuple(sorted({pod.namespace for pod in self.proxies_of(ref)}))

    def accounts_of(self, ref: Ref) -> tuple[tuple[str, str], ...]:
        return tuple(dict.fromkeys((pod.namespace, pod.service_account) for pod in self.proxies_of(ref)))

    def may_list_secrets(self, account: tuple[str, str]) -> bool | None:
        """The answer of istiod's SubjectAccessReview, else what RBAC's objects say; None where neither is known."""
        if account in self.snapshot.may_list_secrets:
            return self.snapshot.may_list_secrets[account]
        kinds = (ROLE, ROLE_BINDING, CLUSTER_ROLE, CLUSTER_ROLE_BINDING)
        if not all(self.snapshot.knows(kind, account[0] if kind.namespaced else "") for kind in kinds):
            return None
        roles, bindings, cluster_roles, cluster_bindings = map(self.snapshot.of, kinds)
        return rbac.may_list_secrets(
            *account, roles=roles, bindings=bindings, cluster_roles=cluster_roles, cluster_bindings=cluster_bindings
        )

    def is_by_grant(self, use: Use) -> bool:
        """Whether a Secret is served by a ReferenceGrant, for which istiod reviews nothing."""
        return use.kind == "Gateway" and self.field_at(use).startswith("kubernetes-gateway://")

    def field_at(self, use: Use) -> str:
        """The text of the reference."""
        value: Any = self.snapshot.objects.get(Ref(use.kind, use.namespace, use.name, use.group))
        for key in re.findall(r"[A-Za-z]+|\d+", use.field):
            try:
                value = value[int(key)] if key.isdigit() else value[key]
            except (KeyError, IndexError, TypeError):
                return ""
        return str(value)

    def hosts_at(self, use: Use) -> tuple[str, ...]:
        """The hosts that are served with a credential."""
        place = use.field.partition(".tls")[0]
        if use.group == ISTIO:
            return tuple(host for one in self._listeners_at.get((use.namespace, use.name), ()) if one.field == place for host in one.names)
        holder = spec_of(self.snapshot.objects.get(Ref(use.kind, use.namespace, use.name, use.group)))
        found = re.match(r"spec\.listeners\[(\d+)\]", use.field)
        listeners = holder.get("listeners") or ()
        return (str(listeners[int(found[1])].get("hostname") or "*"),) if found and int(found[1]) < len(listeners) else ()

    @cached_property
    def _listeners_at(self) -> Mapping[tuple[str, str], Sequence[Listener]]:
        found: dict[tuple[str, str], list[Listener]] = {}
        for one in self.listeners:
            found.setdefault((one.gateway.namespace, one.gateway.name), []).append(one)
        return found

    def credentials_of(self, one: Listener) -> tuple[str, ...]:
        names = (one.tls.get("credentialName"), *(one.tls.get("credentialNames") or ()))
        return tuple(str(name) for name in names if name)

    @cached_property
    def _names_by_secret(self) -> dict[Ref, tuple[str, ...]]:
        return {}

    def certificate_names(self, one: Listener) -> tuple[str, ...]:
        """The DNS names of a server's certificates, as far as they can be read."""
        found: list[str] = []
        for place in self.home_of(one.selector):
            for name in self.credentials_of(one):
                ref = SECRET.ref(place, name)
                if ref not in self._names_by_secret:
                    self._names_by_secret[ref] = names_in(self.snapshot.objects.get(ref))
                found += self._names_by_secret[ref]
        return tuple(dict.fromkeys(found))

    # --- the Gateway API

    @cached_property
    def api_listeners(self) -> Sequence[gateway_api.Listener]:
        return gateway_api.listeners(self.snapshot.of(API_GATEWAY), self.snapshot.of(LISTENER_SET), self.snapshot.domain)

    # --- namespaces

    def labels_of(self, namespace: str) -> Mapping[str, str] | None:
        """The labels of a namespace; None where it was not read, or does not exist."""
        found = self.snapshot.get(NAMESPACE, "", namespace)
        return None if found is None else (found["metadata"].get("labels") or {})

    def has_proxies(self, namespace: str) -> bool | None:
        """Whether something of the namespace has a proxy, a pod or a machine; None where that was not read."""
        if namespace in self._proxied:
            return True
        known = self.snapshot.knows(POD, namespace) and self.snapshot.knows(WORKLOAD_ENTRY, namespace)
        return False if known else None

    def has_pods(self, namespace: str) -> bool:
        return namespace in self._peopled

    @cached_property
    def _peopled(self) -> frozenset[str]:
        return frozenset(item["metadata"].get("namespace", "") for item in self.snapshot.of(POD) if not has_ended(item))

    @cached_property
    def _proxied(self) -> frozenset[str]:
        pods = {item["metadata"].get("namespace", "") for item in self.snapshot.of(POD) if not has_ended(item) and has_proxy(item)}
        return frozenset(pods | {item["metadata"].get("namespace", "") for item in self.snapshot.of(WORKLOAD_ENTRY)})
