# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How pods of a cluster reach its DNS, for NetworkPolicies, which see the ports of pods and not those of Services. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

Manifest = Mapping[str, Any]

DNS_PORT = 53
CACHE = "node-local-dns"
"""NodeLocal DNSCache: the name of its DaemonSet and ConfigMap."""
CACHE_ADDRESS = "169.254.20.10"
"""Where it listens unless told otherwise."""
USUAL_PORTS: tuple[tuple[str, int | str], ...] = tuple((protocol, port) for port in (53, 5353, 8053) for protocol in ("UDP", "TCP"))
"""CoreDNS as Kubernetes, OpenShift and Gardener run it: for clusters whose Service cannot be read."""


def pod_ports(services: Iterable[Manifest], labels: Mapping[str, str]) -> tuple[tuple[str, int | str], ...]:
    """(protocol, target port) behind port 53 of the Services that select pods with these labels; none where there is no such Service."""
    found: dict[tuple[str, int | str], None] = {}
    for service in services:
        spec = service.get("spec") or {}
        selector: Mapping[str, str] = spec.get("selector") or {}
        # the labels given may be fewer than the selector's: they are those of the same pods
        if not selector or not (selector.items() <= labels.items() or labels.items() <= selector.items()):
            continue
        for port in spec.get("ports") or ():
            if port.get("port") == DNS_PORT:
                found[(port.get("protocol") or "TCP", port.get("targetPort") or DNS_PORT)] = None
    return tuple(sorted(found, key=str))


def cache_addresses(daemon_set: Manifest | None, config_map: Manifest | None) -> tuple[str, ...]:
    """Where the node's cache listens: as its arguments or its Corefile say; none where there is no cache."""
    if daemon_set is None and config_map is None:
        return ()
    containers = (((daemon_set or {}).get("spec") or {}).get("template") or {}).get("spec") or {}
    for container in containers.get("containers") or ():
        words = [*(container.get("command") or ()), *(container.get("args") or ())]
        for index, word in enumerate(words):
            name, separator, value = str(word).partition("=")
            if name.lstrip("-") == "localip":
                return _addresses((value if separator else str(words[index + 1]) if index + 1 < len(words) else "").split(","))
    corefile = str(((config_map or {}).get("data") or {}).get("Corefile") or "")
    return _addresses(word for line in re.findall(r"^\s*bind\s+(.+)$", corefile, re.MULTILINE) for word in line.split())


def _addresses(texts: Iterable[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for text in texts:
        try:
            found[str(ipaddress.ip_address(text.strip()))] = None
        except ValueError:
            continue  # a placeholder, or an interface
    return tuple(found) or (CACHE_ADDRESS,)
