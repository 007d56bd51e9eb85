# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Gateways and DestinationRules refer to which credentials. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..problems import Rejected
from .reference import Lookup, Reference, ca_lookup, parse_reference, server_lookups

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Use:
    """One place that makes istiod look a Secret up."""

    kind: str
    namespace: str
    name: str
    field: str
    """The field that holds the reference, for example `spec.servers[0].tls.credentialName`."""
    lookup: Lookup

    def names(self, secret: str, namespace: str) -> bool:
        """Whether istiod reads this Secret for it. A reference without a namespace means the proxies' own, which may be any."""
        return self.lookup.kind == "Secret" and secret in self.lookup.names and self.lookup.namespace in (None, namespace)

    def as_result(self) -> dict[str, str]:
        return {"kind": self.kind, "namespace": self.namespace, "name": self.name, "field": self.field, "for": self.lookup.role}


def uses(gateways: Iterable[Manifest], destination_rules: Iterable[Manifest]) -> list[Use]:
    """Every use of a credential in these live objects; references that istiod cannot read are passed over."""
    return [*(use for gateway in gateways for use in _of_gateway(gateway)), *(use for rule in destination_rules for use in _of_rule(rule))]


def _of_gateway(gateway: Manifest) -> Iterator[Use]:
    for number, server in enumerate((gateway.get("spec") or {}).get("servers") or ()):
        tls = server.get("tls") or {}
        if tls.get("mode") not in ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"):  # the default is PASSTHROUGH, which has no certificate
            continue
        place = f"spec.servers[{number}].tls"
        named = [(tls.get("credentialName"), f"{place}.credentialName")]
        named += [(name, f"{place}.credentialNames[{index}]") for index, name in enumerate(tls.get("credentialNames") or ())]
        credentials = list(_parsed(named))
        ca = next(_parsed([(tls.get("caCertCredentialName"), f"{place}.caCertCredentialName")]), None)
        for lookup in server_lookups(credentials, ca, verifies_clients=tls.get("mode") in ("MUTUAL", "OPTIONAL_MUTUAL")):
            yield _use("Gateway", gateway, lookup)


def _of_rule(rule: Manifest) -> Iterator[Use]:
    spec = rule.get("spec") or {}
    policies = [("spec.trafficPolicy", spec.get("trafficPolicy"))]
    policies += [
        (f"spec.subsets[{index}].trafficPolicy", subset.get("trafficPolicy")) for index, subset in enumerate(spec.get("subsets") or ())
    ]
    for place, policy in policies:
        settings = [(f"{place}.tls", (policy or {}).get("tls"))]
        settings += [
            (f"{place}.portLevelSettings[{index}].tls", port.get("tls"))
            for index, port in enumerate((policy or {}).get("portLevelSettings") or ())
        ]
        for field, tls in settings:
            mode, verifies = (tls or {}).get("mode"), not (tls or {}).get("insecureSkipVerify")
            for reference, where in _parsed([((tls or {}).get("credentialName"), f"{field}.credentialName")]):
                if mode == "MUTUAL":
                    for lookup in server_lookups([(reference, where)], None, verifies_clients=verifies):
                        yield _use("DestinationRule", rule, lookup)
                elif mode == "SIMPLE" and verifies:  # it presents nothing
                    for lookup in ca_lookup(reference, where):
                        yield _use("DestinationRule", rule, lookup)


def _parsed(named: Iterable[tuple[Any, str]]) -> Iterator[tuple[Reference, str]]:
    for text, where in named:
        if not text:
            continue
        try:
            yield parse_reference(str(text), where), where
        except Rejected:
            continue


def _use(kind: str, manifest: Manifest, lookup: Lookup) -> Use:
    metadata = manifest.get("metadata") or {}
    return Use(kind, str(metadata.get("namespace", "")), str(metadata.get("name", "")), lookup.where, lookup)
