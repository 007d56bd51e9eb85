# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that a diagnosis looked at, whether something is wrong with it or not: certificates, hosts and egress services. Pure.

It holds names, dates and fingerprints; certificates themselves only where they are asked for, keys never.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..istio.credential import read_as_istiod
from ..istio.names import CA_SUFFIX
from ..istio.rotation_plan import readable
from ..istio.usage import Use
from ..objects.kinds import DESTINATION_RULE, SECRET, Manifest, Ref
from ..tls.certificate import Certificate
from ..tls.facts import rfc3339
from ..tls.material import read_cas, read_chain
from ..tls.paths import issuer_of, signed_by, subject_of
from .credentials import data_of, places_of, use_ref
from .diagnose import Finding
from .explain import Explainer, Stage, State, verdict
from .readings import spec_of
from .view import MeshView

_STATES: tuple[State, ...] = ("broken", "doubtful", "unknown", "right")
"""The worst first."""


@dataclass
class _Held:
    """A Secret or ConfigMap with certificates, and who uses it."""

    manifest: Manifest
    users: dict[str, None] = field(default_factory=dict)
    hosts: dict[str, None] = field(default_factory=dict)


@dataclass
class _Seen:
    """A certificate, and where it stands."""

    certificate: Certificate
    places: dict[tuple[str, str], None] = field(default_factory=dict)
    users: dict[str, None] = field(default_factory=dict)
    hosts: dict[str, None] = field(default_factory=dict)


def inventory(view: MeshView, explainer: Explainer, told: Sequence[Finding], *, content: bool = False) -> dict[str, Any]:
    """`{looked_at, min_remaining_days, hosts, certificates}`, in a stable order.

    A host: `host`, `direction` (`ingress`: served to clients; `egress`: an external service behind an egress gateway), `state` (of its worst
    stage), `verdict`, `stages` as in `explain`, and `findings`: the positions in `told` of those that concern it. A certificate: what
    `_described` gives.
    """
    position = {one: number for number, one in enumerate(told)}
    return {
        "looked_at": rfc3339(view.now) if view.now else None,
        "min_remaining_days": view.min_remaining_days,
        "hosts": sorted(_hosts(view, explainer, position), key=lambda one: (one["direction"], one["host"])),
        "certificates": [_described(one, issuer, content) for one, issuer in _with_issuers(_certificates(view))],
    }


# --- hosts


def _hosts(view: MeshView, explainer: Explainer, position: Mapping[Finding, int]) -> Iterator[dict[str, Any]]:
    served = [one for one in view.listeners if one.is_tls and one.mode != "AUTO_PASSTHROUGH" and not explainer.is_inside(one)]
    for name in dict.fromkeys([*(name for one in served for name in one.names), *_of_gateway_api(view, explainer)]):
        yield _host(name, "ingress", explainer.inward(name), position)
    for path in view.paths:
        yield _host(path.host.lower(), "egress", explainer.outward(path), position)
    led = {path.host.lower() for path in view.paths}
    for name in dict.fromkeys(one.host for one in view.client_tls if one.mode in ("SIMPLE", "MUTUAL") and one.host not in led):
        if stages := explainer.straight(name):
            yield _host(name, "egress", stages, position)


def _of_gateway_api(view: MeshView, explainer: Explainer) -> Iterator[str]:
    """Hosts of listeners with TLS."""
    for name, places in explainer.listeners.items():
        if any(spec_of(view.snapshot.objects[ref])["listeners"][index].get("tls") for ref, index in places):
            yield name


def _host(name: str, direction: str, stages: Sequence[Stage], position: Mapping[Finding, int]) -> dict[str, Any]:
    state = next((state for state in _STATES if any(stage.state == state for stage in stages)), "unknown")
    shown = [stage.as_result() for stage in stages]
    findings = sorted({position[one] for stage in stages for one in stage.findings if one in position})
    return {"host": name, "direction": direction, "state": state, "verdict": verdict(stages), "stages": shown, "findings": findings}


# --- certificates


def _certificates(view: MeshView) -> list[_Seen]:
    found: dict[str, _Seen] = {}
    for ref, held in _held(view).items():
        for role, certificate in _in(held.manifest, ref):
            one = found.setdefault(certificate.fingerprint, _Seen(certificate))
            one.places[str(ref), role] = None
            one.users |= held.users
            if role != "trusted":
                one.hosts |= held.hosts
    return sorted(found.values(), key=lambda one: (one.certificate.not_after, one.certificate.fingerprint))


def _held(view: MeshView) -> dict[Ref, _Held]:
    """What something refers to, and what else lies in the namespaces of gateways."""
    found: dict[Ref, _Held] = {}
    for use in view.uses:
        for place in places_of(view, use):
            for manifest in (view.credential(use.lookup.kind, place, name) for name in use.lookup.names):
                if manifest is not None:
                    ref = view.ref_of_credential(use.lookup.kind, place, manifest["metadata"]["name"])
                    one = found.setdefault(ref, _Held(manifest))
                    one.users[str(use_ref(use))] = None
                    one.hosts.update(dict.fromkeys(_hosts_of(view, use)))
    for ref, manifest in view.snapshot.objects.items():
        if ref.key == SECRET.key and ref.namespace in view.gateway_namespaces:
            found.setdefault(ref, _Held(manifest))
    return found


def _hosts_of(view: MeshView, use: Use) -> Iterable[str]:
    if use.kind == DESTINATION_RULE.kind:
        host = spec_of(view.snapshot.objects.get(use_ref(use))).get("host")
        return (str(host),) if host else ()
    return view.hosts_at(use)


def _in(manifest: Manifest, ref: Ref) -> Iterator[tuple[str, Certificate]]:
    """(role, certificate): `leaf`, `chain` (sent with it) or `trusted` (what peers are verified with)."""
    reading = read_as_istiod(data_of(ref.kind, manifest))
    pair = reading.certificate if ref.kind == SECRET.kind else None
    for number, certificate in enumerate(readable(pair, read_chain)):
        yield ("trusted" if ref.name.endswith(CA_SUFFIX) else "chain" if number else "leaf"), certificate
    for certificate in readable(reading.ca_certificate, read_cas):
        yield "trusted", certificate


def _with_issuers(seen: Sequence[_Seen]) -> Iterator[tuple[_Seen, str | None]]:
    """Each with the fingerprint of its issuer, where that is among them: of several, the one that is valid for longest."""
    by_name: dict[Any, list[Certificate]] = {}
    for one in seen:
        if one.certificate.is_ca:
            by_name.setdefault(subject_of(one.certificate), []).append(one.certificate)
    for one in seen:
        mine = one.certificate
        issuers = [each for each in by_name.get(issuer_of(mine), ()) if each != mine and signed_by(mine, each)]
        yield one, issuers[-1].fingerprint if issuers and not mine.is_self_issued else None


def _described(one: _Seen, issuer: str | None, content: bool) -> dict[str, Any]:
    """`fingerprint_sha256`, `serial`, `subject`, `names`, `issuer`, `issued_by` (the issuer's fingerprint, or None), `not_before`, `not_after`,
    `key`, `is_ca`, `places` (`{object, role}`), `used_by`, `hosts`; with `content` also `pem`. What changes from day to day is not in it."""
    certificate = one.certificate
    return {
        "fingerprint_sha256": certificate.fingerprint,
        "serial": certificate.serial,
        "subject": certificate.label,
        "names": list(certificate.names),
        "issuer": certificate.issuer,
        "issued_by": issuer,
        "not_before": rfc3339(certificate.not_before),
        "not_after": rfc3339(certificate.not_after),
        "key": str(certificate.key),
        "is_ca": certificate.is_ca,
        "places": [{"object": place, "role": role} for place, role in sorted(one.places)],
        "used_by": sorted(one.users),
        "hosts": sorted(one.hosts),
        **({"pem": certificate.pem.decode("ascii")} if content else {}),
    }
