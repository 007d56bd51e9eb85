# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether istiod serves what an Istio Gateway names as `kubernetes-gateway://namespace/name`: the Gateway's place, and ReferenceGrants. Pure.

From istiod's pilot/pkg/model/gateway.go (mergeGateways: VerifiedCertificateReferences), pilot/pkg/xds/sds.go (filterAuthorizedResources) and
pilot/pkg/config/kube/gatewaycommon/references.go (SecretAllowed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..problems import Problem
from .names import CA_SUFFIX

Manifest = Mapping[str, Any]
GROUP = "gateway.networking.k8s.io"
_SCHEME = "kubernetes-gateway://"


@dataclass(frozen=True)
class Named:
    """One Secret that a server of an Istio Gateway names so."""

    where: str
    namespace: str
    name: str
    ca_is_left_out: bool = False
    """Whether the server needs the CA beside the pair, in a mode for which istiod does not think of it."""


def named_in(gateway: Manifest, where: Callable[[int], str]) -> Iterator[Named]:
    """What the servers of an Istio Gateway name so; `where` gives the place of a server, by its index."""
    for index, server in enumerate((gateway.get("spec") or {}).get("servers") or ()):
        tls: Manifest = server.get("tls") or {}
        ca = tls.get("caCertCredentialName")
        for text in (tls.get("credentialName"), *(tls.get("credentialNames") or ()), ca):
            namespace, separator, name = str(text or "").removeprefix(_SCHEME).partition("/")
            if str(text or "").startswith(_SCHEME) and separator:
                left_out = tls.get("mode") == "OPTIONAL_MUTUAL" and not ca and not name.endswith(CA_SUFFIX)
                yield Named(f"{where(index)}: credential {text}", namespace, name, left_out)


def is_granted(grants: Iterable[Manifest], from_namespace: str, namespace: str, name: str, kind: str = "Gateway") -> bool:
    """Whether a Gateway (or ListenerSet) of one namespace may use a Secret of another: a ReferenceGrant beside the Secret says so."""
    for grant in grants:
        spec = grant.get("spec") or {}
        if grant["metadata"].get("namespace") != namespace:
            continue
        given = any(
            (one.get("group"), one.get("kind"), one.get("namespace")) == (GROUP, kind, from_namespace) for one in spec.get("from") or ()
        )
        taken = any(
            not one.get("group") and one.get("kind") == "Secret" and one.get("name") in (None, name) for one in spec.get("to") or ()
        )
        if given and taken:
            return True
    return False


def grant_problems(
    named: Iterable[Named], gateway: str, proxy_namespaces: Sequence[str], grants: Sequence[Manifest] | None
) -> tuple[Problem, ...]:
    """What keeps istiod from serving these Secrets to proxies. `gateway` is the namespace of the Gateway object; grants that could not be
    read are None, and then nothing is said of them."""
    return tuple(problem for one in named for namespace in proxy_namespaces for problem in _problems(one, gateway, namespace, grants))


def _problems(one: Named, gateway: str, proxies: str, grants: Sequence[Manifest] | None) -> Iterator[Problem]:
    text = f"{_SCHEME}{one.namespace}/{one.name}"
    if gateway != proxies:
        yield Problem(
            "credential_in_other_namespace",
            one.where,
            f"istiod serves {text!r} only to proxies of the Gateway object's own namespace: the Gateway is in {gateway}, the gateway's "
            f"workloads run in {proxies}",
            f"make the Gateway in {proxies}, or put the Secret there and name it without a namespace: {one.name}",
            "warning",
        )
        return
    if one.namespace != proxies and grants is not None and not is_granted(grants, proxies, one.namespace, one.name):
        yield Problem(
            "reference_not_granted",
            one.where,
            f"{text!r} is in another namespace than the Gateway, and no ReferenceGrant in {one.namespace} lets Gateways of {proxies} use it: "
            "istiod does not serve it, and handshakes will be reset",
            f"make a ReferenceGrant in {one.namespace} (from group {GROUP}, kind Gateway, namespace {proxies}; to kind Secret, name {one.name}) "
            "before the Gateway: one that comes later counts only after the next change of the Gateway and of the Secret",
            "warning",
        )
    if one.ca_is_left_out:
        yield Problem(
            "ca_not_served",
            one.where,
            f"with mode OPTIONAL_MUTUAL istiod serves the pair of {text!r}, but not its CA",
            "name the CA by itself (ca_cert_credential_name), or use mode MUTUAL, or a Secret of the workloads' namespace by its name alone",
            "warning",
        )
