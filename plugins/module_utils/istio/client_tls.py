# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The TLS that proxies originate, as values: every `tls` of a DestinationRule, whoever made it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..objects.kinds import DESTINATION_RULE, Manifest, Ref
from .choice import fqdn

FILES = ("clientCertificate", "privateKey", "caCertificates", "caCrl")
_BUILT_IN = ("system", "")


@dataclass(frozen=True)
class ClientTls:
    rule: Ref
    manifest: Manifest
    field: str
    """For example `spec.trafficPolicy.portLevelSettings[0].tls`."""
    host: str
    """Whole, in lower case."""
    port: int | None
    """None: every port."""
    subset: str
    tls: Mapping[str, Any]

    @property
    def mode(self) -> str:
        return str(self.tls.get("mode") or "DISABLE")

    @property
    def originates(self) -> bool:
        """Whether it is TLS of the user's own, not the mesh's."""
        return self.mode in ("SIMPLE", "MUTUAL")

    @property
    def credential(self) -> str:
        return str(self.tls.get("credentialName") or "")

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(str(self.tls[name]) for name in FILES if self.tls.get(name) not in (None, *_BUILT_IN))

    @property
    def has_own_ca(self) -> bool:
        """Whether servers are verified with a CA that the rule names; otherwise it is every CA of the system."""
        return bool(self.credential) or self.tls.get("caCertificates") not in (None, *_BUILT_IN)

    @property
    def is_for_gateways_only(self) -> bool:
        """Whether sidecars originate nothing for it: they get no credential from istiod, unless the rule selects them."""
        selects = "workloadSelector" in (self.manifest.get("spec") or {})
        return bool(self.credential) and not self.credential.startswith("configmap://") and not selects

    @property
    def checks_names(self) -> bool:
        """Whether the server's name is verified: `sni` turns the automatic check off."""
        return bool(not self.tls.get("sni") or self.tls.get("subjectAltNames") or self.tls.get("insecureSkipVerify"))


def client_tls_of(rule: Manifest, domain: str = "cluster.local") -> Iterator[ClientTls]:
    metadata, spec = rule["metadata"], rule.get("spec") or {}
    namespace = str(metadata.get("namespace", ""))
    ref = DESTINATION_RULE.ref(namespace, str(metadata["name"]))
    host = fqdn(str(spec.get("host") or ""), namespace, domain)
    policies = [("spec.trafficPolicy", "", spec.get("trafficPolicy"))]
    policies += [
        (f"spec.subsets[{index}].trafficPolicy", str(subset.get("name") or ""), subset.get("trafficPolicy"))
        for index, subset in enumerate(spec.get("subsets") or ())
    ]
    for place, subset, policy in policies:
        if tls := (policy or {}).get("tls"):
            yield ClientTls(ref, rule, f"{place}.tls", host, None, subset, tls)
        for index, port in enumerate((policy or {}).get("portLevelSettings") or ()):
            if port.get("tls"):
                number = (port.get("port") or {}).get("number")
                yield ClientTls(ref, rule, f"{place}.portLevelSettings[{index}].tls", host, number, subset, port["tls"])
