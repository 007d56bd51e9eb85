# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What proxies of a namespace see under a `Sidecar`: which one applies, and what its egress hosts admit. Pure.

From istiod's pilot/pkg/model/sidecar.go (convertIstioListenerToWrapper, selectServices), virtualservice.go (SelectVirtualServices) and
push_context.go (initSidecarScopes, doGetSidecarScope).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .choice import age
from .names import subset_of

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What clients need for a route: a host of a namespace, and the port of the Service or ServiceEntry."""

    namespace: str
    host: str
    port: int


def sidecars_for(sidecars: Iterable[Manifest], namespace: str, root_namespace: str) -> list[Manifest]:
    """The Sidecars that apply to some proxy of a namespace: those with a workloadSelector, and the oldest without one; the root namespace's
    where there is none of the latter. For no namespace in particular ("") only the root namespace's."""
    ordered = sorted(sidecars, key=age)
    own = [one for one in ordered if one["metadata"].get("namespace") == namespace]
    special = [one for one in own if _selector(one) is not None]
    general = [one for one in own if _selector(one) is None]
    if not general:
        general = [one for one in ordered if one["metadata"].get("namespace") == root_namespace and _selector(one) is None]
    return [*special, *general[:1]]


def _selector(sidecar: Manifest) -> Mapping[str, Any] | None:
    selector: Mapping[str, Any] | None = (sidecar.get("spec") or {}).get("workloadSelector")
    return selector


def hidden(sidecar: Manifest, viewer: str, service: Wanted, route_namespace: str, gateway: Wanted) -> tuple[Wanted, ...]:
    """What proxies of the namespace `viewer` do not see under a Sidecar, of a service that is routed through an egress gateway: `service`
    is its ServiceEntry, `route_namespace` that of the VirtualService for the same host, `gateway` the gateway's Service."""
    listeners: Sequence[Manifest] = (sidecar.get("spec") or {}).get("egress") or ()
    if not listeners:
        return ()
    by_port = [one for one in listeners if _port(one) == service.port] or [one for one in listeners if not _port(one)]
    route = Wanted(route_namespace, service.host, service.port)
    found = {need: None for need in (service, route) if not any(_admits(one, viewer, need) for one in by_port)}
    # a route that is seen brings its destinations along, on listeners for every port or for the right one
    brought = any(_port(one) in (0, gateway.port) and _admits(one, viewer, route) for one in listeners)
    if not brought and not any(_port(one) in (0, gateway.port) and _admits(one, viewer, gateway) for one in listeners):
        found[gateway] = None
    return tuple(found)


def _port(listener: Manifest) -> int:
    port = listener.get("port") or {}
    return 0 if str(port.get("protocol", "")).upper() == "HTTP_PROXY" else int(port.get("number") or 0)


def _admits(listener: Manifest, viewer: str, wanted: Wanted) -> bool:
    admitted = False
    for entry in listener.get("hosts") or ():
        namespace, separator, host = str(entry).partition("/")
        if not separator:
            continue
        excluded = namespace.startswith("~")
        namespace = (namespace[1:] or "*") if excluded else namespace
        if (viewer if namespace == "." else namespace) in ("*", wanted.namespace) and subset_of(wanted.host, host):
            if excluded:
                return False
            admitted = True
    return admitted
