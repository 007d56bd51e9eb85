# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is known of a cluster to events. Pure.

There are two sorts. What happened once (`credential_changed`, `credential_deleted`) follows from a state and the next one. What is so
(`credential_expires`, `credential_missing`, ...) is told when it begins to be so, and again only after it has ended meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..diagnosis.diagnose import run
from ..diagnosis.observed import Handshake, Observed, is_wrong, wanted_by
from ..diagnosis.table import BY_CODE
from ..diagnosis.view import MeshView
from ..istio.names import CA_SUFFIX
from ..istio.usage import Use
from ..objects.kinds import Ref
from ..renewal.due import Policy, Served, Span, decide, length
from ..tls.facts import days_left, rfc3339
from .credential import Credential, Written

EXPIRES, CRL_EXPIRES = "credential_expires", "crl_expires"
CHANGED, DELETED, MISSING = "credential_changed", "credential_deleted", "credential_missing"
NOT_SERVED, REFUSED = "credential_not_served", "update_refused"
TYPES = (EXPIRES, CHANGED, DELETED, NOT_SERVED, REFUSED, CRL_EXPIRES, MISSING)
SEEN = (NOT_SERVED, REFUSED)
"""What is known from handshakes and proxies only."""


@dataclass(frozen=True)
class Occasion:
    """What is to be told. Two with the same key are the same occasion."""

    type: str
    key: str
    facts: Mapping[str, Any]
    """What the event says beside its type: texts, numbers, lists. Never key material."""
    place: str = ""
    """Where it was seen, for what handshakes and proxies show: what cannot be asked now is as it was."""


@dataclass(frozen=True)
class Rules:
    """When something is worth an event."""

    policy: Policy = field(default_factory=Policy)
    own: Mapping[str, Policy] = field(default_factory=dict)
    """Policies of single credentials, by namespace/name."""
    crl_remaining: Span = 0.2
    managers: Collection[str] = ("meshops.istio",)
    """Field managers whose changes are no news."""

    def policy_for(self, key: str) -> Policy:
        return self.own.get(key, self.policy)


def event(occasion: Occasion, cluster: str, now: datetime, hosts: Sequence[str] = ()) -> dict[str, Any]:
    """The event as a rulebook gets it. `id` is the same for the same occasion, whoever tells it."""
    number = hashlib.sha256(f"{cluster} {occasion.key}".encode()).hexdigest()[:16]
    told: dict[str, Any] = {"type": occasion.type, "id": number, "cluster": cluster, "time": rfc3339(now), **occasion.facts}
    return {**told, "meta": {"hosts": list(hosts)}} if hosts else told


# --- what happened


def changed(before_fingerprint: str | None, what: Written, after: Credential, now: datetime) -> Occasion:
    by = ", ".join(what.by) or "an unknown field manager"
    facts = {
        **_about(after),
        "by": list(what.by),
        "changed_keys": list(what.keys),
        "previous_fingerprint": before_fingerprint,
        "fingerprint": after.fingerprint,
        **(_dates(after.certificate, now) if after.certificate else {}),
        "message": f"{by} changed {', '.join(what.keys)} of Secret {after.key}",
    }
    digest = " ".join(f"{key}={value}" for key, value in sorted(after.digests.items()))
    return Occasion(CHANGED, f"{CHANGED} {after.key} {before_fingerprint} {after.uid} {digest}", facts)


def deleted(namespace: str, name: str, uid: str, fingerprint: str | None, *, managed: bool, used_by: Sequence[Use]) -> Occasion:
    users = list(dict.fromkeys(str(use) for use in used_by))
    still = f", which {', '.join(users[:3])} still names" if users else ""
    facts = {
        "namespace": namespace,
        "credential": name,
        "managed": managed,
        "fingerprint": fingerprint,
        "used_by": users,
        "message": f"Secret {namespace}/{name} was deleted{still}",
    }
    return Occasion(DELETED, f"{DELETED} {namespace}/{name} {uid}", facts)


# --- what is so


def standing(credentials: Iterable[Credential], rules: Rules, now: datetime) -> Iterator[Occasion]:
    """What the clock alone brings about."""
    for one in credentials:
        yield from _expiring(one, rules.policy_for(one.key), now)
        for crl in one.crls:
            left = length(rules.crl_remaining, crl.next_update - crl.last_update)
            if now >= crl.next_update - left:
                stage = "expired" if now >= crl.next_update else "due"
                facts = {
                    **_about(one),
                    "stage": stage,
                    "crl_fingerprint": crl.fingerprint,
                    "issuer": crl.issuer,
                    "next_update": rfc3339(crl.next_update),
                    "days_left": days_left(crl.next_update, now),
                    "message": f"the CRL of {crl.issuer} in Secret {one.key} {_ends(crl.next_update, now)}: gateways then refuse every client",
                }
                yield Occasion(CRL_EXPIRES, f"{CRL_EXPIRES} {one.key} {crl.fingerprint} {stage}", facts)


def _expiring(one: Credential, policy: Policy, now: datetime) -> Iterator[Occasion]:
    for part, what, served in (("certificate", "certificate", one.certificate), ("ca_certificate", "CA", one.ca)):
        stage = _stage(one.key, served, policy, now) if served else ""
        if served and stage:
            facts = {
                **_about(one),
                "part": part,
                "stage": stage,
                "fingerprint": served.fingerprint,
                "names": list(served.names),
                **_dates(served, now),
                "message": f"the {what} of Secret {one.key} {_ends(served.not_after, now)}",
            }
            yield Occasion(EXPIRES, f"{EXPIRES} {one.key} {part} {served.fingerprint} {stage}", facts)


def _stage(key: str, served: Served, policy: Policy, now: datetime) -> str:
    """`due` (and the calendar is open), `emergency`, `expired`, or nothing."""
    if now >= served.not_after:
        return "expired"
    if now >= served.not_after - length(policy.emergency_remaining, served.lifetime):
        return "emergency"
    return "due" if decide(key, served, policy, now).is_due else ""


def missing(view: MeshView) -> Iterator[Occasion]:
    """Credentials that a Gateway, ListenerSet or DestinationRule names and that are not where istiod looks, by the diagnosis' own rule."""
    for one in run(view, rules=[BY_CODE["credential_missing"]]):
        kind, __, place = one.cause.partition(" ")
        namespace, __, name = place.partition("/")
        facts = {
            "namespace": namespace,
            "credential": name,
            "object": {"group": one.ref.group, "kind": one.ref.kind, "namespace": one.ref.namespace, "name": one.ref.name},
            "field": one.field,
            "message": f"{one.ref}, {one.field}: {one.message}",
            "remedy": one.remedy,
        }
        yield Occasion(MISSING, f"{MISSING} {kind} {place} {one.ref} {one.field}", facts)


def served(view: MeshView, observed: Observed, credentials: Mapping[Ref, Credential]) -> Iterator[Occasion]:
    """Where gateways and proxies show another certificate than the Secret has. What is being rotated is left out."""
    for one in observed.handshakes:
        live = [credentials[ref] for ref in one.credentials if ref in credentials]
        if live and is_wrong(view, one) and not any(each.is_rotating for each in live):
            yield _handshake(live[0], one, sorted(wanted_by(view, one)))
    for held in observed.held:
        live_one = credentials.get(held.secret)
        wanted = live_one.fingerprint if live_one else None
        if live_one is None or wanted is None or live_one.is_rotating or held.secret.name.endswith(CA_SUFFIX):
            continue
        if held.fingerprint != wanted or not held.in_use:
            found = "has not got it" if held.fingerprint is None else "holds another" if held.fingerprint != wanted else "does not use it"
            facts = {
                **_about(live_one),
                "found_by": "proxy",
                "proxy": held.proxy,
                "expected_fingerprint": wanted,
                "served_fingerprint": held.fingerprint if held.in_use else None,
                "message": f"proxy {held.proxy} {found}: the certificate of Secret {live_one.key}",
            }
            yield Occasion(NOT_SERVED, f"{NOT_SERVED} {live_one.key} {held.proxy} {wanted}", facts, held.proxy)


def _handshake(live: Credential, one: Handshake, wanted: Sequence[str]) -> Occasion:
    where = f"{one.host} at {one.place}"
    facts = {
        **_about(live),
        "found_by": "handshake",
        "host": one.host,
        "place": one.place,
        "expected_fingerprint": wanted[0],
        "served_fingerprint": one.served,
        "message": f"{where} presents another certificate than Secret {live.key} has",
    }
    return Occasion(NOT_SERVED, f"{NOT_SERVED} {live.key} {where} {' '.join(wanted)} {one.served}", facts, where)


def refused(observed: Observed) -> Iterator[Occasion]:
    for one in observed.refused:
        namespace, name = _named_in(one.what)
        facts = {
            "namespace": namespace,
            "credential": name,
            "proxy": one.proxy,
            "what": one.what,
            "detail": one.detail,
            "message": f"proxy {one.proxy} refuses an update of {one.what}, and keeps what it had: {one.detail}",
        }
        yield Occasion(REFUSED, f"{REFUSED} {one.proxy} {one.what} {one.detail}", facts, one.proxy)


def _named_in(what: str) -> tuple[str, str]:
    """(namespace, name) of the credential that a proxy's resource `kubernetes://name` or `kubernetes-gateway://namespace/name` means; empty."""
    __, separator, rest = what.partition("://")
    namespace, __, name = rest.rpartition("/")
    return (namespace, name) if separator else ("", "")


def places_away(observed: Observed) -> set[str]:
    """Every place that could not be asked."""
    return {f"{one.host} at {one.place}" for one in observed.handshakes if not one.reached} | set(observed.unread)


# --- the parts of events


def _about(one: Credential) -> dict[str, Any]:
    return {"namespace": one.namespace, "credential": one.name, "managed": one.managed}


def _dates(served: Served, now: datetime) -> dict[str, Any]:
    return {"not_after": rfc3339(served.not_after), "days_left": days_left(served.not_after, now)}


def _ends(moment: datetime, now: datetime) -> str:
    days = days_left(moment, now)
    when = f"in {days} days" if days > 1 else "tomorrow" if days == 1 else "within a day"
    return f"expired {rfc3339(moment)}" if now >= moment else f"expires {when}, {rfc3339(moment)}"


def uses_of(known: Iterable[Use], namespace: str, name: str) -> list[Use]:
    return [use for use in known if use.names(name, namespace)]
