# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Gateways (of Istio and of the Kubernetes Gateway API), ListenerSets and DestinationRules refer to which credentials. Pure.

For the Gateway API: istiod's pilot/pkg/config/kube/gateway (buildTLS, buildSecretReference). A BackendTLSPolicy reads ConfigMaps only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..objects.kinds import GATEWAY_API, ISTIO
from ..problems import Problem, Rejected
from .names import CA_SUFFIX
from .reference import Lookup, Reference, Role, ca_lookup, parse_reference, server_lookups

Manifest = Mapping[str, Any]
_TERMINATE_MODE = "gateway.istio.io/tls-terminate-mode"


@dataclass(frozen=True)
class Use:
    """One place that makes istiod look a Secret up."""

    kind: str
    namespace: str
    name: str
    field: str
    """The field that holds the reference, for example `spec.servers[0].tls.credentialName`."""
    lookup: Lookup
    group: str = ISTIO
    """The API group: there are two kinds of Gateways."""

    def __str__(self) -> str:
        api = " (Gateway API)" if self.group == GATEWAY_API else ""
        return f"{self.kind} {self.namespace}/{self.name}{api}"

    def names(self, name: str, namespace: str, kind: str = "Secret") -> bool:
        """Whether istiod reads this Secret, or ConfigMap, for it. A reference without a namespace means the proxies' own, which may be any."""
        return self.lookup.kind == kind and name in self.lookup.names and self.lookup.namespace in (None, namespace)

    def as_result(self) -> dict[str, str]:
        place = {"group": self.group, "kind": self.kind, "namespace": self.namespace, "name": self.name}
        return {**place, "field": self.field, "for": self.lookup.role}


def uses(gateways: Iterable[Manifest], destination_rules: Iterable[Manifest]) -> list[Use]:
    """Every use of a credential in these live objects; references that istiod cannot read are passed over."""
    return [*(use for gateway in gateways for use in _of_gateway(gateway)), *(use for rule in destination_rules for use in _of_rule(rule))]


def gateway_api_uses(gateways: Iterable[Manifest], listener_sets: Iterable[Manifest], policies: Iterable[Manifest] = ()) -> list[Use]:
    """Every use of a Secret or of a ConfigMap with a CA in these live objects of the Gateway API; `policies` are BackendTLSPolicies."""
    found = [*(use for gateway in gateways for use in _of_api_gateway(gateway))]
    found += [use for one in listener_sets for use in _of_listeners("ListenerSet", one, frontend=False)]
    return [*found, *(use for policy in policies for use in _of_policy(policy))]


def _of_policy(policy: Manifest) -> Iterator[Use]:
    """istiod takes the first reference only, and only a ConfigMap of the policy's own namespace."""
    validation: Manifest = (policy.get("spec") or {}).get("validation") or {}
    ref = next(iter(validation.get("caCertificateRefs") or ()), None)
    if ref and ref.get("kind") == "ConfigMap" and not validation.get("wellKnownCACertificates"):
        local = {key: value for key, value in ref.items() if key != "namespace"}
        yield from _api_use("BackendTLSPolicy", policy, local, "ca", "spec.validation.caCertificateRefs[0]")


def _of_api_gateway(gateway: Manifest) -> Iterator[Use]:
    tls: Manifest = (gateway.get("spec") or {}).get("tls") or {}
    frontend: Manifest = tls.get("frontend") or {}
    yield from _of_listeners("Gateway", gateway, frontend=bool(frontend))
    settings = [("spec.tls.frontend.default", frontend.get("default"))]
    settings += [(f"spec.tls.frontend.perPort[{index}].tls", one.get("tls")) for index, one in enumerate(frontend.get("perPort") or ())]
    for place, setting in settings:
        for index, ref in enumerate(((setting or {}).get("validation") or {}).get("caCertificateRefs") or ()):
            yield from _api_use("Gateway", gateway, ref, "ca", f"{place}.validation.caCertificateRefs[{index}]")
    if ref := (tls.get("backend") or {}).get("clientCertificateRef"):
        yield from _api_use("Gateway", gateway, ref, "pair", "spec.tls.backend.clientCertificateRef")


def _of_listeners(kind: str, manifest: Manifest, *, frontend: bool) -> Iterator[Use]:
    for number, listener in enumerate((manifest.get("spec") or {}).get("listeners") or ()):
        tls: Manifest = listener.get("tls") or {}
        if tls.get("mode") == "Passthrough":
            continue
        refs = list(enumerate(tls.get("certificateRefs") or ()))
        for index, ref in refs:
            yield from _api_use(kind, manifest, ref, "pair", f"spec.listeners[{number}].tls.certificateRefs[{index}]")
        verifies = (tls.get("options") or {}).get(_TERMINATE_MODE) in ("MUTUAL", "OPTIONAL_MUTUAL")
        if verifies and refs and not frontend:  # istiod looks for the CA beside the first certificate
            yield from _api_use(kind, manifest, refs[0][1], "ca", f"spec.listeners[{number}].tls.certificateRefs[0]")


def _api_use(kind: str, manifest: Manifest, ref: Manifest, role: Role, field: str) -> Iterator[Use]:
    metadata: Manifest = manifest.get("metadata") or {}
    name, target = str(ref.get("name") or ""), ref.get("kind") or "Secret"
    if ref.get("group") or not name or (target != "Secret" and (role == "pair" or target != "ConfigMap")):
        return
    own = str(metadata.get("namespace", ""))
    # a CA is asked for as `name-cacert`, and a Secret of that name comes first
    names = (name.removesuffix(CA_SUFFIX) + CA_SUFFIX, name.removesuffix(CA_SUFFIX)) if role == "ca" and target == "Secret" else (name,)
    lookup = Lookup(role, "Secret" if target == "Secret" else "ConfigMap", names, ref.get("namespace") or own, field)
    yield Use(kind, own, str(metadata.get("name", "")), field, lookup, GATEWAY_API)


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


def deletion_problems(secret: str, namespace: str, known: Iterable[Use]) -> tuple[Problem, ...]:
    """A warning for a Secret that is to be deleted while something refers to it."""
    found = [use for use in known if use.names(secret, namespace)]
    if not found:
        return ()
    shown = list(dict.fromkeys(f"{use}, {use.field}" for use in found))
    effects = []
    if any(use.group == GATEWAY_API for use in found):
        effects.append("istiod closes the listeners of the Gateway API that need it at once")
    if any(use.group == ISTIO for use in found):
        effects.append("running proxies keep what they have, and those that start from now on will reset handshakes or refuse connections")
    return (
        Problem(
            "still_used",
            f"Secret {namespace}/{secret}",
            f"the Secret is to be deleted, and is still referred to by {'; '.join(shown[:3])}"
            + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
            + f": {'; '.join(effects)}",
            "delete or change what refers to it first",
            "warning",
        ),
    )
