# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTPRoutes of the Kubernetes Gateway API: which of them take a host's requests at a listener, where they lead, and what istiod says of them. Pure.

https://gateway-api.sigs.k8s.io/reference/spec/#httproute; refusals as istiod's conditions have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..objects.kinds import GATEWAY_API, ISTIO, Ref
from ..tls.names import pattern_covers

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Way:
    """A route that names a listener for a host."""

    route: Manifest
    refused: str
    """Why it does not lead, in istiod's word and ours; empty where it does."""
    hosts: tuple[str, ...]
    """Services and external hosts to which it leads, as proxies call them."""
    answers: str
    """What it answers by itself where it leads nowhere."""


def ways(routes: Iterable[Manifest], holder: Ref, listener: Manifest, name: str, domain: str) -> list[Way]:
    """Those that name the listener of a Gateway or ListenerSet, and take requests for `name`; those that lead come first."""
    found = []
    for route in routes:
        spec, namespace = route.get("spec") or {}, route["metadata"].get("namespace", "")
        named = [one for one in spec.get("parentRefs") or () if _is_meant(one, holder, namespace, listener)]
        hostnames = [str(one).lower() for one in spec.get("hostnames") or ()]
        if named and (not hostnames or any(_meet(one, name) for one in hostnames)):
            refused = _not_let_in(holder, namespace, listener) or _refused(route, holder, namespace, listener)
            found.append(Way(route, refused, tuple(dict.fromkeys(_hosts(spec, namespace, domain))), _answers(spec)))
    return sorted(found, key=lambda one: bool(one.refused))


def _is_meant(parent: Manifest, holder: Ref, namespace: str, listener: Manifest) -> bool:
    """Whether a parentRef names the listener: by its object, and by its name and port where these are given."""
    place = (parent.get("group") or GATEWAY_API, parent.get("kind") or "Gateway", parent.get("namespace") or namespace, parent.get("name"))
    wanted = (holder.group, holder.kind, holder.namespace, holder.name)
    section, port = parent.get("sectionName"), parent.get("port")
    return place == wanted and section in (None, "", listener.get("name")) and port in (None, listener.get("port"))


def _meet(one: str, other: str) -> bool:
    """Whether two hosts, each of which may be a wildcard, have a name in common."""
    if "*" in (one, other) or one == other:
        return True
    return any(
        wild.startswith("*.") and (name.endswith(wild[1:]) or pattern_covers(wild, name)) for wild, name in ((one, other), (other, one))
    )


def _not_let_in(holder: Ref, namespace: str, listener: Manifest) -> str:
    allowed = ((listener.get("allowedRoutes") or {}).get("namespaces") or {}).get("from") or "Same"
    if allowed == "None" or (allowed == "Same" and namespace != holder.namespace):
        return f"NotAllowedByListeners: the listener takes routes {'of no' if allowed == 'None' else 'of its own'} namespace only"
    return ""


def _refused(route: Manifest, holder: Ref, namespace: str, listener: Manifest) -> str:
    """What a condition says about the route as it is now."""
    now = route["metadata"].get("generation")
    for parent in (route.get("status") or {}).get("parents") or ():
        if not _is_meant(parent.get("parentRef") or {}, holder, namespace, listener):
            continue
        for one in parent.get("conditions") or ():
            is_refusal = one.get("type") in ("Accepted", "ResolvedRefs") and one.get("status") == "False"
            if is_refusal and one.get("observedGeneration", now) == now:
                return f"{one.get('reason')}: {str(one.get('message') or '').rstrip('.')}"
    return ""


def _hosts(spec: Manifest, namespace: str, domain: str) -> Iterator[str]:
    for one in _backends(spec):
        kind = (one.get("group") or "", one.get("kind") or "Service")
        if kind == ("", "Service"):
            yield f"{one.get('name')}.{one.get('namespace') or namespace}.svc.{domain}"
        elif kind == (ISTIO, "Hostname"):
            yield str(one.get("name")).lower()


def _backends(spec: Manifest) -> Sequence[Manifest]:
    return [one for rule in spec.get("rules") or () for one in rule.get("backendRefs") or ()]


def _answers(spec: Manifest) -> str:
    kinds = {one.get("type") for rule in spec.get("rules") or () for one in rule.get("filters") or ()}
    return "a redirect" if "RequestRedirect" in kinds else "an answer of its own" if _backends(spec) else "an error, for want of a backend"
