# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gateway listens on, as values: the servers of Istio's Gateways, whoever made them. Pure.

The listeners of the Gateway API are in `gateway_api.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as made_with
from typing import Any

from ..objects.kinds import GATEWAY, Manifest, Ref
from .admission import HTTP_PROTOCOLS
from .choice import age

Age = tuple[str, str, str]
TERMINATING = ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL")
PASSING = ("PASSTHROUGH", "AUTO_PASSTHROUGH")
VERIFYING = ("MUTUAL", "OPTIONAL_MUTUAL")


@dataclass(frozen=True, eq=False)
class Listener:
    """One server of a Gateway."""

    gateway: Ref
    field: str
    """Where it stands in the object, for example `spec.servers[1]`."""
    created: Age
    number: int
    """The port that the object names: a Service in front may lead it to another one of the pods."""
    protocol: str
    """In upper case."""
    hosts: tuple[str, ...]
    """As istiod compares them: `namespace/host`, or the bare host where routes may come from every namespace."""
    selector: Mapping[str, str] = made_with(default_factory=dict)
    """Labels of the pods."""
    bind: str = ""
    mode: str | None = None
    """Istio's name for the TLS mode; None for a port without TLS."""
    redirects: bool = False
    tls: Mapping[str, Any] = made_with(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts without their namespaces."""
        return tuple(dict.fromkeys(host.rpartition("/")[2] for host in self.hosts))

    @property
    def is_tls(self) -> bool:
        return self.mode is not None

    @property
    def is_http(self) -> bool:
        """Plain HTTP."""
        return self.protocol.lower() in HTTP_PROTOCOLS

    @property
    def route_kind(self) -> str | None:
        """The kind of routes that istiod looks for; None where it routes by itself."""
        if self.mode == "AUTO_PASSTHROUGH":
            return None
        if self.mode == "PASSTHROUGH":
            return "tls"
        return "http" if self.is_http or self.protocol == "HTTPS" else "tcp"


def listeners_of(gateway: Manifest) -> tuple[Listener, ...]:
    """The servers of one Gateway of Istio's."""
    metadata, spec = gateway["metadata"], gateway.get("spec") or {}
    namespace = str(metadata.get("namespace", ""))
    found = []
    for index, server in enumerate(spec.get("servers") or ()):
        port, tls = server.get("port") or {}, server.get("tls")
        redirects = bool((tls or {}).get("httpsRedirect"))
        protocol = str(port.get("protocol") or "").upper()
        plain = tls is None or protocol.lower() in HTTP_PROTOCOLS
        found.append(
            Listener(
                GATEWAY.ref(namespace, str(metadata["name"])),
                f"spec.servers[{index}]",
                age(gateway),
                int(port.get("number") or 0),
                protocol,
                tuple(compared(str(host), namespace) for host in server.get("hosts") or ()),
                dict(spec.get("selector") or {}),
                bind=str(server.get("bind") or ""),
                mode=None if plain else str(tls.get("mode") or "PASSTHROUGH"),
                redirects=redirects,
                tls=tls or {},
            )
        )
    return tuple(found)


def compared(host: str, namespace: str) -> str:
    """A host as istiod compares it: `./x` is `<namespace>/x`, `*/x` is `x`."""
    prefix, separator, name = host.lower().partition("/")
    if not separator:
        return host.lower()
    return name if prefix == "*" else f"{namespace if prefix == '.' else prefix}/{name}"
