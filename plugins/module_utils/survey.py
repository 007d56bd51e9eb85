# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Handshakes with every host that a snapshot's Gateways serve, and what their proxies hold: what a diagnosis sees beside the objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial

from .diagnosis.observed import Handshake, HeldCredential, Observed, Refused
from .diagnosis.view import MeshView
from .istio.listeners import Listener
from .istio.proxy import Look
from .istio.served import Served
from .live.envoy import look_at
from .live.presented import Ask, asked_for, asker, presented
from .objects.kinds import SECRET
from .rotation.targets import Surroundings

_AT_ONCE = 32
_TERMINATING = ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL")


def observe(
    view: MeshView, around: Surroundings, *, handshakes: bool, proxies: bool, timeout: float, now: datetime, notes: list[str]
) -> Observed:
    """Everything at once; what a proxy or an address does not answer is part of it, or a note."""
    asked = list(_handshakes(view, around)) if handshakes else []
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        shaken = tuple(threads.map(partial(_shake, timeout=timeout, ask=asker()), asked))
    looks = _looks(view, around, now, notes) if proxies else []
    read = [look for look in looks if look.proxy]
    unread = tuple(look.source.name for look in looks if not look.proxy)
    return Observed(shaken, tuple(_held(read, view)), tuple(_refused(read)), unread)


def _handshakes(view: MeshView, around: Surroundings) -> Iterator[tuple[Handshake, str, int]]:
    """(what is to be found out, address, port) of every way to every host."""
    told: set[tuple[str, str, int]] = set()
    for one in view.listeners:
        if one.mode not in _TERMINATING:
            continue
        secrets = tuple(SECRET.ref(place, name) for place in view.home_of(one.selector) for name in view.credentials_of(one))
        for address, port in around.places(_served(one)):
            for name in one.names:
                host = asked_for(name, view.certificate_names(one))
                if host and (host, address, port) not in told:
                    told.add((host, address, port))
                    yield Handshake(one.gateway, one.field, host, f"{address}:{port}", secrets, pattern=name), address, port


def _served(one: Listener) -> Served:
    selector = tuple(sorted(one.selector.items()))
    return Served("Gateway", one.gateway.namespace, one.gateway.name, one.number, one.names, selector, True)


def _shake(asked: tuple[Handshake, str, int], *, timeout: float, ask: Ask) -> Handshake:
    one, address, port = asked
    found = presented(one.host, address, port, timeout=timeout, ask=ask)
    failure = "" if found.fingerprint else f"{found.failure or ''} ({found.detail})" if found.detail else found.failure or ""
    return replace(one, served=found.fingerprint, failure=failure, reached=found.reached)


def _looks(view: MeshView, around: Surroundings, now: datetime, notes: list[str]) -> list[Look]:
    selectors = dict.fromkeys(tuple(sorted(one.selector.items())) for one in view.listeners if one.selector)
    looks = look_at(around.proxies(selectors), now)
    notes += [f"proxy {look.source.name} was not read: {look.error}" for look in looks if look.error]
    return looks


def _held(looks: Iterable[Look], view: MeshView) -> Iterator[HeldCredential]:
    places = sorted(view.gateway_namespaces)
    for look in looks:
        for secret in look.proxy.secrets if look.proxy else ():
            if secret.kind == "other" or not secret.resource.startswith("kubernetes"):
                continue
            namespace, __, name = secret.name.rpartition("://")[2].rpartition("/")
            home = namespace or look.source.facts.get("namespace") or _only(places)
            if home:
                found = str(secret.certificates[0]["fingerprint_sha256"]) if secret.certificates and secret.state != "warming" else None
                yield HeldCredential(look.source.name, SECRET.ref(home, name), found, secret.in_use)


def _only(places: Sequence[str]) -> str:
    """Where the Secrets of a machine are, which does not say in which namespace it is: nowhere certain where gateways run in several."""
    return places[0] if len(places) == 1 else ""


def _refused(looks: Iterable[Look]) -> Iterator[Refused]:
    for look in looks:
        for one in look.proxy.rejections if look.proxy else ():
            yield Refused(look.source.name, one.what, one.detail)
