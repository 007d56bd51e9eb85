# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listeners of the Gateway API that are refused: whole ListenerSets, listeners without TLS where it is needed, and those that conflict. Pure.

From what istiod says in conditions (measured with Istio 1.31: NotAllowed, HostnameConflict, UnsupportedProtocol), told from the objects alone where
they suffice, so that files are judged, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..istio.choice import age
from ..istio.gateway_api import may_attach
from ..objects.kinds import API_GATEWAY, LISTENER_SET, Manifest, Ref, ref_of
from .readings import spec_of
from .rule import Found, Rule
from .view import MeshView

_SAME_HOST = "HostnameConflict"
"""The objects tell it themselves, and before istiod does."""


def parent_ref(one: Manifest) -> Ref:
    """The Gateway to which a ListenerSet belongs."""
    parent = spec_of(one).get("parentRef") or {}
    return API_GATEWAY.ref(parent.get("namespace") or one["metadata"].get("namespace", ""), str(parent.get("name") or ""))


def refused_sets(view: MeshView) -> Iterator[Found]:
    for one in view.snapshot.of(LISTENER_SET):
        ref, wanted = ref_of(one), parent_ref(one)
        parent = view.snapshot.objects.get(wanted)
        if parent is None:
            if view.snapshot.knows(API_GATEWAY, wanted.namespace, wanted.name):
                message = f"expected {wanted}, found none: its listeners are nowhere"
                yield Found("listener_set_refused", ref, "spec.parentRef", message, f"correct parentRef, or create {wanted}")
        elif not may_attach(ref.namespace, parent) or (_by_selector(parent) and _is_not_allowed(one)):
            from_ = "Same or All" if ref.namespace == wanted.namespace else "All, or Selector with labels that the namespace has"
            message = f"{wanted} takes no ListenerSet of namespace {ref.namespace} (NotAllowed): its listeners are nowhere"
            remedy = f"set spec.allowedListeners.namespaces.from of {wanted} to {from_}"
            yield Found("listener_set_refused", ref, "spec.parentRef", message, remedy, others=(wanted,))


def without_tls(view: MeshView) -> Iterator[Found]:
    for holder in (*view.snapshot.of(API_GATEWAY), *view.snapshot.of(LISTENER_SET)):
        for index, listener in enumerate(spec_of(holder).get("listeners") or ()):
            if listener.get("protocol") in ("HTTPS", "TLS") and not listener.get("tls"):
                message = (
                    f"expected tls beside protocol {listener['protocol']}, found none: istiod refuses the listener (UnsupportedProtocol)"
                )
                remedy = "name a certificate in tls.certificateRefs, or write protocol HTTP"
                yield Found("listener_without_tls", ref_of(holder), f"spec.listeners[{index}]", message, remedy)


def conflicts(view: MeshView) -> Iterator[Found]:
    """Of one Gateway: its own listeners come first, then those of ListenerSets, the oldest first."""
    held: dict[Ref, list[Manifest]] = {ref_of(one): [one] for one in view.snapshot.of(API_GATEWAY)}
    for one in sorted(view.snapshot.of(LISTENER_SET), key=age):
        parent = view.snapshot.objects.get(parent_ref(one))
        if parent is not None and may_attach(one["metadata"].get("namespace", ""), parent):
            held[ref_of(parent)].append(one)
    for holders in held.values():
        taken: dict[tuple[Any, ...], Ref] = {}
        for holder in holders:
            for index, listener in enumerate(spec_of(holder).get("listeners") or ()):
                yield from _conflict(holder, index, listener, taken)


def _conflict(holder: Manifest, index: int, listener: Mapping[str, Any], taken: dict[tuple[Any, ...], Ref]) -> Iterator[Found]:
    ref, field, name = ref_of(holder), f"spec.listeners[{index}]", listener.get("name")
    key = (listener.get("port"), listener.get("protocol"), str(listener.get("hostname") or "").lower())
    first = taken.setdefault(key, ref)
    said = [one for one in (holder.get("status") or {}).get("listeners") or () if one.get("name") == name]
    if first != ref:
        host = f"{key[2] or 'every host'} at port {key[0]}"
        message = f"{first} has a listener for {host} already: istiod refuses listener {name} ({_SAME_HOST})"
        yield Found("listener_conflict", ref, field, message, "give it another hostname or port, or delete one of the two", others=(first,))
    elif refused := [
        found for one in said for found in _conditions(holder, one, "Conflicted", "True") if found.get("reason") != _SAME_HOST
    ]:
        message = f"istiod refuses listener {name} ({refused[0].get('reason')}): {str(refused[0].get('message') or '').rstrip('.')}"
        yield Found("listener_conflict", ref, field, message, "give it another hostname, port or protocol, or delete the one that it meets")


def _by_selector(gateway: Manifest) -> bool:
    return ((spec_of(gateway).get("allowedListeners") or {}).get("namespaces") or {}).get("from") == "Selector"


def _is_not_allowed(one: Manifest) -> bool:
    return any(found.get("reason") == "NotAllowed" for found in _conditions(one, one.get("status") or {}, "Accepted", "False"))


def _conditions(holder: Manifest, said: Mapping[str, Any], kind: str, status: str) -> Iterator[Mapping[str, Any]]:
    """Those that are about the object as it is now."""
    now = holder["metadata"].get("generation")
    for one in said.get("conditions") or ():
        if (one.get("type"), one.get("status")) == (kind, status) and one.get("observedGeneration", now) == now:
            yield one


RULES = (
    Rule(
        "MIT0812",
        "listener_set_refused",
        "error",
        "A ListenerSet whose Gateway does not take it",
        "A Gateway takes no ListenerSets unless spec.allowedListeners says from which namespaces. Otherwise none of their listeners is served.",
        "Open the Gateway in spec.allowedListeners, or correct parentRef.",
        refused_sets,
        (API_GATEWAY, LISTENER_SET),
        may_come=True,
    ),
    Rule(
        "MIT0813",
        "listener_without_tls",
        "error",
        "A listener with HTTPS or TLS has no tls",
        "istiod refuses it (UnsupportedProtocol), and nothing listens.",
        "Name a certificate in tls.certificateRefs, or write protocol HTTP.",
        without_tls,
        (API_GATEWAY,),
    ),
    Rule(
        "MIT0814",
        "listener_conflict",
        "error",
        "Listeners of one Gateway meet",
        "The Gateway's own listeners come first, then those of its ListenerSets by age. istiod refuses a later one with the same port, protocol and "
        "hostname.",
        "Give it another hostname or port.",
        conflicts,
        (API_GATEWAY, LISTENER_SET),
    ),
)
