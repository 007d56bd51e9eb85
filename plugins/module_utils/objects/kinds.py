# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of objects that this collection reads and writes, and where the API serves them. Pure.

A fixed table instead of API discovery: discovery costs several requests on every run, and the kinds are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

Manifest = Mapping[str, Any]
Kind = tuple[str, str]
"""(API group, kind)"""
ISTIO = "networking.istio.io"
GATEWAY_API = "gateway.networking.k8s.io"


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

    @property
    def key(self) -> Kind:
        """The kind, whichever version of the API shows it."""
        return self.group, self.kind

    def ref(self, namespace: str, name: str) -> Ref:
        return Ref(self.kind, namespace, name, self.group)

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The URL's path: of one object, of the kind in one namespace, or (without a namespace) in all of them."""
        parts = ["apis" if self.group else "api", self.api_version]
        if namespace and self.namespaced:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=""))
        return "/" + "/".join(parts)


SECRET = Resource("", "v1", "secrets", "Secret", list_field_selector="type!=helm.sh/release.v1")
CONFIG_MAP = Resource("", "v1", "configmaps", "ConfigMap")
SERVICE = Resource("", "v1", "services", "Service")
POD = Resource("", "v1", "pods", "Pod")
EVENT = Resource("", "v1", "events", "Event")
DEPLOYMENT = Resource("apps", "v1", "deployments", "Deployment")
REPLICA_SET = Resource("apps", "v1", "replicasets", "ReplicaSet")
NODE = Resource("", "v1", "nodes", "Node", namespaced=False)
NAMESPACE = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
GATEWAY = Resource(ISTIO, "v1", "gateways", "Gateway")
VIRTUAL_SERVICE = Resource(ISTIO, "v1", "virtualservices", "VirtualService")
DESTINATION_RULE = Resource(ISTIO, "v1", "destinationrules", "DestinationRule")
SERVICE_ENTRY = Resource(ISTIO, "v1", "serviceentries", "ServiceEntry")
WORKLOAD_ENTRY = Resource(ISTIO, "v1", "workloadentries", "WorkloadEntry")
NETWORK_POLICY = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
SIDECAR = Resource(ISTIO, "v1", "sidecars", "Sidecar")
AUTHORIZATION_POLICY = Resource("security.istio.io", "v1", "authorizationpolicies", "AuthorizationPolicy")
DAEMON_SET = Resource("apps", "v1", "daemonsets", "DaemonSet")
API_GATEWAY = Resource(GATEWAY_API, "v1", "gateways", "Gateway")
LISTENER_SET = Resource(GATEWAY_API, "v1", "listenersets", "ListenerSet")
HTTP_ROUTE = Resource(GATEWAY_API, "v1", "httproutes", "HTTPRoute")
BACKEND_TLS_POLICY = Resource(GATEWAY_API, "v1", "backendtlspolicies", "BackendTLSPolicy")
REFERENCE_GRANT = Resource(GATEWAY_API, "v1beta1", "referencegrants", "ReferenceGrant")
"""In the version that istiod reads."""
_ADMISSION = "admissionregistration.k8s.io"
MUTATING_WEBHOOKS = Resource(_ADMISSION, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", namespaced=False)
VALIDATING_WEBHOOKS = Resource(_ADMISSION, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", namespaced=False)
ROLE = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDING = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
CLUSTER_ROLE = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDING = Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False)
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
    group: str = ""
    """The API group: there are two kinds of Gateways."""

    def __str__(self) -> str:
        api = " (Gateway API)" if self.group == GATEWAY_API else ""
        return f"{self.kind} {self.namespace}/{self.name}{api}" if self.namespace else f"{self.kind} {self.name}{api}"

    @property
    def key(self) -> Kind:
        return self.group, self.kind


def resource_of(manifest: Manifest) -> Resource:
    """The table's entry for a manifest's apiVersion and kind."""
    return _BY_KIND[(manifest["apiVersion"], manifest["kind"])]


def ref_of(manifest: Manifest) -> Ref:
    metadata = manifest["metadata"]
    return Ref(manifest["kind"], metadata.get("namespace", ""), metadata["name"], group_of(manifest))


def group_of(manifest: Manifest) -> str:
    """The API group of a manifest's apiVersion; objects keep their group over all versions."""
    group, separator, __ = str(manifest.get("apiVersion") or "").partition("/")
    return group if separator else ""


def with_kind(item: dict[str, Any], resource: Resource) -> dict[str, Any]:
    """An item of a LIST, which carries no kind, as a GET would give it."""
    return {"apiVersion": resource.api_version, "kind": resource.kind, **item}
