# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that were made before a rotation: how many there are, and the change that makes Envoy end them. Pure.

Another certificate touches no connection that stands. Another configuration around it does: of a listener Envoy drains the filter chains that
are no longer as they were (`connection: close`, and the end after the drain time, Istio's `drainDuration`, 45 s by default), and of a
cluster the pool is left to the requests that are under way. So a setting that means the same is written and taken back:

* `maxProtocolVersion: TLSV1_3`, or `minProtocolVersion: TLSV1_2`, which are what Envoy takes for a server where they are not set;
* of a DestinationRule `connectTimeout`, a millisecond longer (istiod's default is 10 s).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .names import CA_SUFFIX

Manifest = Mapping[str, Any]
CLUSTERS = "clusters?format=json"
CONFIG = "config_dump"
# ^(server\.total_connections|listener_manager\.total_filter_chains_draining)$
STATS = "stats?filter=%5E%28server%5C.total_connections%7Clistener_manager%5C.total_filter_chains_draining%29%24"
"""Both are among the statistics that every Istio proxy has; those of single listeners are not."""
_DEFAULT_CONNECT_TIMEOUT = 10.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_NAMED = re.compile(r'"kubernetes://(?:[^"/]+/)?([^"/]+)"')
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def changed_gateway(gateway: Manifest, credentials: Collection[str]) -> dict[str, Any] | None:
    """The spec with such a change in every server that names any of the credentials; None where no server does, or none can be changed so."""
    spec: dict[str, Any] = json.loads(json.dumps(gateway.get("spec") or {}))
    changed = False
    for server in spec.get("servers") or ():
        tls = server.get("tls") or {}
        named = [tls.get("credentialName"), tls.get("caCertCredentialName"), *(tls.get("credentialNames") or ())]
        if _are_named(credentials, named):
            changed = _toggled(tls) or changed
    return spec if changed else None


def _toggled(tls: dict[str, Any]) -> bool:
    for field, same in (("maxProtocolVersion", "TLSV1_3"), ("minProtocolVersion", "TLSV1_2")):
        found = tls.get(field) or "TLS_AUTO"
        if found == "TLS_AUTO":
            tls[field] = same
            return True
        if found == same:
            del tls[field]
            return True
    return False


def changed_rule(rule: Manifest, credentials: Collection[str]) -> dict[str, Any] | None:
    """The same of a DestinationRule: a connect timeout that is a millisecond longer."""
    spec: dict[str, Any] = json.loads(json.dumps(rule.get("spec") or {}))
    changed = False
    for settings in _policies(spec):
        if _are_named(credentials, [(settings.get("tls") or {}).get("credentialName")]):
            pool = settings["connectionPool"] = dict(settings.get("connectionPool") or {})
            tcp = pool["tcp"] = dict(pool.get("tcp") or {})
            tcp["connectTimeout"] = f"{_seconds(tcp.get('connectTimeout')) + 0.001:.3f}s"
            changed = True
    return spec if changed else None


def _policies(spec: Manifest) -> Iterator[dict[str, Any]]:
    for policy in (spec.get("trafficPolicy"), *(subset.get("trafficPolicy") for subset in spec.get("subsets") or ())):
        if policy:
            yield policy
            yield from policy.get("portLevelSettings") or ()


def _seconds(text: Any) -> float:
    parts = _DURATION.findall(str(text or ""))
    return sum(float(number) * _UNITS[unit] for number, unit in parts) if parts else _DEFAULT_CONNECT_TIMEOUT


def _are_named(credentials: Collection[str], references: Collection[Any]) -> bool:
    """Whether a reference means one of the credentials, or, for one of CAs, the credential that it belongs to."""
    names = {*credentials, *(name.removesuffix(CA_SUFFIX) for name in credentials)}
    return any(str(one or "").rpartition("/")[2] in names for one in references)


# --- what a proxy says ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Configuration:
    """What a proxy is configured with around credentials."""

    places: tuple[tuple[str, str, frozenset[str]], ...] = ()
    """Filter chain or cluster; its TLS settings, or all of it, as text; the names of the credentials in it."""

    def around(self, credential: str) -> dict[str, str]:
        """Filter chain or cluster -> text, of those with the credential."""
        name = credential.removesuffix(CA_SUFFIX)
        return {place: text for place, text, names in self.places if not names.isdisjoint((credential, name, f"{name}{CA_SUFFIX}"))}


def read_configuration(config_dump: bytes) -> Configuration:
    found = []
    for section in _json(config_dump).get("configs") or ():
        for one in section.get("dynamic_listeners") or ():
            listener = (one.get("active_state") or {}).get("listener") or {}
            for chain in listener.get("filter_chains") or ():
                match = json.dumps(chain.get("filter_chain_match"), sort_keys=True)
                found.append((f"listener {one.get('name')} {match}", json.dumps(chain.get("transport_socket"), sort_keys=True)))
        for one in section.get("dynamic_active_clusters") or ():
            cluster = one.get("cluster") or {}
            found.append((f"cluster {cluster.get('name')}", json.dumps(cluster, sort_keys=True)))
    return Configuration(tuple((place, text, names) for place, text in found if (names := frozenset(_NAMED.findall(text)))))


def upstream_connections(clusters: bytes, names: Collection[str]) -> int:
    """How many connections a proxy has open to the hosts of these clusters."""
    count = 0
    for cluster in _json(clusters).get("cluster_statuses") or ():
        if cluster.get("name") in names:
            for host in cluster.get("host_statuses") or ():
                count += sum(int(stat.get("value") or 0) for stat in host.get("stats") or () if stat.get("name") == "cx_active")
    return count


def counted(stats: bytes) -> tuple[int | None, int | None]:
    """(connections that clients have open to a proxy, of whatever host, as of up to 5 s ago; filter chains that are draining); None for what it
    does not count. Envoy makes the first anew when it flushes its statistics (`stats_flush_interval`)."""
    found = {}
    for line in stats.decode("utf-8", "replace").splitlines():
        name, __, value = line.partition(": ")
        if value.strip().isdecimal():
            found[name] = int(value)
    return found.get("server.total_connections"), found.get("listener_manager.total_filter_chains_draining")


def _json(page: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(page)
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}
