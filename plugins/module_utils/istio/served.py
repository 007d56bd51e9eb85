# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who serves or presents a credential: TLS servers of Gateways and listeners, and DestinationRules. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..objects.kinds import GATEWAY_API
from ..tls.names import split_namespace
from .usage import Use, gateway_api_uses, uses

Manifest = Mapping[str, Any]
_INDEX = re.compile(r"(?:servers|listeners)\[(\d+)\]")
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
"""The label by which a Gateway of the Gateway API finds its proxies: istiod's pilot/pkg/config/kube/gateway (conversion.go)."""


@dataclass(frozen=True)
class Served:
    """One TLS server that is made with a credential."""

    kind: str
    namespace: str
    name: str
    port: int
    hosts: tuple[str, ...]
    """Without namespaces; `*` for any."""
    selector: tuple[tuple[str, str], ...]
    """Labels of its proxies."""
    pair: bool
    """Whether it serves the pair; otherwise it only verifies clients with the CA."""
    alternatives: int = 1
    """How many pairs it chooses from, by the client's algorithms."""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}, port {self.port} ({', '.join(self.hosts[:5])}{', ...' if len(self.hosts) > 5 else ''})"

    def as_result(self) -> dict[str, Any]:
        return {"kind": self.kind, "namespace": self.namespace, "name": self.name, "port": self.port, "hosts": list(self.hosts)}


@dataclass(frozen=True)
class Presented:
    """One place where a proxy originates TLS with a credential."""

    namespace: str
    name: str
    host: str
    field: str

    def __str__(self) -> str:
        return f"DestinationRule {self.namespace}/{self.name} ({self.host})"

    def as_result(self) -> dict[str, Any]:
        return {"kind": "DestinationRule", "namespace": self.namespace, "name": self.name, "host": self.host, "field": self.field}


@dataclass(frozen=True)
class Objects:
    """Live objects that may refer to credentials."""

    gateways: tuple[Manifest, ...] = ()
    rules: tuple[Manifest, ...] = ()
    api_gateways: tuple[Manifest, ...] = ()
    listener_sets: tuple[Manifest, ...] = ()


class Users:
    """Finds the users of a credential; made once for all credentials of a call."""

    def __init__(self, objects: Objects) -> None:
        self._objects = {
            (kind, *_key(manifest)): manifest
            for kind, manifests in (
                ("Gateway", objects.gateways),
                ("DestinationRule", objects.rules),
                ("Gateway (Gateway API)", objects.api_gateways),
                ("ListenerSet (Gateway API)", objects.listener_sets),
            )
            for manifest in manifests
        }
        self._by_name: dict[str, list[Use]] = {}
        found = [*uses(objects.gateways, objects.rules), *gateway_api_uses(objects.api_gateways, objects.listener_sets)]
        for use in found:
            for name in use.lookup.names:
                self._by_name.setdefault(name, []).append(use)

    def of(self, name: str, namespace: str) -> tuple[list[Served], list[Presented]]:
        """The servers and originations that istiod reads this Secret for."""
        servers: dict[tuple[str, str, str, int], Served] = {}
        presented: dict[tuple[str, str, str], Presented] = {}
        for use in self._by_name.get(name, ()):
            if not use.names(name, namespace):
                continue
            kind = f"{use.kind} (Gateway API)" if use.group == GATEWAY_API else use.kind
            manifest = self._objects.get((kind, use.namespace, use.name))
            if manifest is None:
                continue
            if kind == "DestinationRule":
                host = str((manifest.get("spec") or {}).get("host") or "")
                presented[use.namespace, use.name, use.field] = Presented(use.namespace, use.name, host, use.field)
                continue
            for number in _numbers(use, manifest):
                key = (kind, use.namespace, use.name, number)
                one = _served(kind, use, manifest, number)
                servers[key] = one if key not in servers or one.pair else servers[key]
        return list(servers.values()), list(presented.values())


def _key(manifest: Manifest) -> tuple[str, str]:
    metadata = manifest.get("metadata") or {}
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")


def _numbers(use: Use, manifest: Manifest) -> Iterable[int]:
    """The servers that a use is about; one for a whole Gateway of the Gateway API is about all of its listeners."""
    found = _INDEX.search(use.field)
    if found:
        return (int(found[1]),)
    if "backend" in use.field:
        return ()
    return range(len((manifest.get("spec") or {}).get("listeners") or ()))


def _served(kind: str, use: Use, manifest: Manifest, number: int) -> Served:
    spec = manifest.get("spec") or {}
    if kind == "Gateway":
        server = spec["servers"][number]
        tls = server.get("tls") or {}
        hosts = tuple(dict.fromkeys(split_namespace(str(host))[1] for host in server.get("hosts") or ()))
        port = int((server.get("port") or {}).get("number") or 0)
        selector = tuple(sorted((str(key), str(value)) for key, value in (spec.get("selector") or {}).items()))
        pairs = len(tls.get("credentialNames") or ()) or 1
    else:
        listener = spec["listeners"][number]
        hosts, port = (str(listener.get("hostname") or "*"),), int(listener.get("port") or 0)
        parent = (spec.get("parentRef") or {}).get("name") if kind.startswith("ListenerSet") else use.name
        selector = ((GATEWAY_NAME, str(parent or "")),)
        pairs = len((listener.get("tls") or {}).get("certificateRefs") or ()) or 1
    return Served(kind, use.namespace, use.name, port, hosts, selector, use.lookup.role == "pair", pairs)
