# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of objects that this collection reads and writes, and where the API serves them.

A fixed table instead of API discovery: discovery costs several requests on every run, and the kinds are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote


@dataclass(frozen=True)
class Resource:
    """One kind, as the API serves it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    list_field_selector: str = ""
    """Sent with every LIST of this kind, to leave out what is never looked at."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The URL's path: of one object, of the kind in one namespace, or (without a namespace) in all of them."""
        parts = ["apis" if self.group else "api", self.api_version]
        if namespace and self.namespaced:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=""))
        return "/" + "/".join(parts)


_NETWORKING = "networking.istio.io"

SECRET = Resource("", "v1", "secrets", "Secret", list_field_selector="type!=helm.sh/release.v1")
CONFIG_MAP = Resource("", "v1", "configmaps", "ConfigMap")
SERVICE = Resource("", "v1", "services", "Service")
POD = Resource("", "v1", "pods", "Pod")
EVENT = Resource("", "v1", "events", "Event")
DEPLOYMENT = Resource("apps", "v1", "deployments", "Deployment")
REPLICA_SET = Resource("apps", "v1", "replicasets", "ReplicaSet")
NODE = Resource("", "v1", "nodes", "Node", namespaced=False)
NAMESPACE = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
GATEWAY = Resource(_NETWORKING, "v1", "gateways", "Gateway")
VIRTUAL_SERVICE = Resource(_NETWORKING, "v1", "virtualservices", "VirtualService")
DESTINATION_RULE = Resource(_NETWORKING, "v1", "destinationrules", "DestinationRule")
SERVICE_ENTRY = Resource(_NETWORKING, "v1", "serviceentries", "ServiceEntry")
WORKLOAD_ENTRY = Resource(_NETWORKING, "v1", "workloadentries", "WorkloadEntry")
NETWORK_POLICY = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
SIDECAR = Resource(_NETWORKING, "v1", "sidecars", "Sidecar")
AUTHORIZATION_POLICY = Resource("security.istio.io", "v1", "authorizationpolicies", "AuthorizationPolicy")
DAEMON_SET = Resource("apps", "v1", "daemonsets", "DaemonSet")
API_GATEWAY = Resource("gateway.networking.k8s.io", "v1", "gateways", "Gateway")
LISTENER_SET = Resource("gateway.networking.k8s.io", "v1", "listenersets", "ListenerSet")
SUBJECT_ACCESS_REVIEW = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False)

_BY_KIND = {
    (resource.api_version, resource.kind): resource
    for resource in (
        SECRET,
        CONFIG_MAP,
        SERVICE,
        POD,
        EVENT,
        DEPLOYMENT,
        REPLICA_SET,
        NODE,
        NAMESPACE,
        GATEWAY,
        VIRTUAL_SERVICE,
        DESTINATION_RULE,
        SERVICE_ENTRY,
        WORKLOAD_ENTRY,
        NETWORK_POLICY,
        SIDECAR,
        AUTHORIZATION_POLICY,
        DAEMON_SET,
        SUBJECT_ACCESS_REVIEW,
    )
}


@dataclass(frozen=True, order=True)
class Ref:
    """One object by name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def resource_of(manifest: Mapping[str, Any]) -> Resource:
    """The table's entry for a manifest's apiVersion and kind."""
    return _BY_KIND[(manifest["apiVersion"], manifest["kind"])]


def ref_of(manifest: Mapping[str, Any]) -> Ref:
    metadata = manifest["metadata"]
    return Ref(manifest["kind"], metadata.get("namespace", ""), metadata["name"])
