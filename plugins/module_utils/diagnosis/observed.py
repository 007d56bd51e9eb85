# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gateways really serve and hold, beside what their Secrets say: from handshakes, and from the proxies themselves. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..istio.credential import decode, read_as_istiod
from ..istio.names import CA_SUFFIX
from ..objects.kinds import GATEWAY, SECRET, Ref
from ..problems import Rejected
from ..tls import material
from .rule import Found, Rule
from .view import MeshView


@dataclass(frozen=True)
class Handshake:
    """One fresh handshake with a host."""

    server: Ref
    """The Gateway that serves it."""
    field: str
    """Its server, for example `spec.servers[0]`."""
    host: str
    place: str
    """address:port"""
    credentials: tuple[Ref, ...]
    """The Secrets whose certificate should be presented."""
    served: str | None = None
    """Fingerprint of what was presented."""
    failure: str = ""
    reached: bool = True
    pattern: str = ""
    """The server's host, where it is a wildcard that `host` stands for."""


@dataclass(frozen=True)
class HeldCredential:
    """A credential as a proxy holds it."""

    proxy: str
    secret: Ref
    fingerprint: str | None
    """None where it has asked for it and got nothing."""
    in_use: bool


@dataclass(frozen=True)
class Refused:
    """An update that a proxy refused."""

    proxy: str
    what: str
    detail: str


@dataclass(frozen=True)
class Observed:
    """What was seen beside the objects."""

    handshakes: tuple[Handshake, ...] = ()
    held: tuple[HeldCredential, ...] = ()
    refused: tuple[Refused, ...] = ()
    unread: tuple[str, ...] = ()
    """Proxies that could not be read."""


def handshakes(view: MeshView) -> Iterator[Found]:
    for one in view.observed.handshakes if view.observed else ():
        wanted = wanted_by(view, one)
        where = f"{one.host} at {one.place}"
        if not one.reached:
            message = f"expected {where} to be reached, found: {one.failure}"
            remedy = "look at the gateway's Service, its endpoints and the way there, or name the addresses that count (addresses)"
            yield Found("gateway_not_reached", one.server, one.field, message, remedy, cause=f"{one.server} {one.place}")
        elif one.served is None:
            message = f"expected a certificate from {where}, found: {one.failure or 'none'}"
            remedy = (
                "mend what is told of its Gateway and credential; where nothing is, look whether the gateway's proxy is connected to istiod"
            )
            yield Found("no_certificate_served", one.server, one.field, message, remedy, others=one.credentials)
        elif is_wrong(view, one):
            names = ", ".join(str(ref) for ref in one.credentials)
            message = f"expected {where} to present {' or '.join(sorted(wanted))} of {names}, found {one.served}"
            remedy = (
                "have the Secret sent once more (kubectl annotate secret --overwrite NAME touched=now), and look in istiod's log for what was refused "
                "beside it; where the certificate is mounted as a file, change it there"
            )
            yield Found("another_certificate_served", one.server, one.field, message, remedy, others=one.credentials)
        elif one.credentials and all(_is_gone(view, ref) for ref in one.credentials):
            message = f"{where} presents {one.served}, and there is no {' or '.join(map(str, one.credentials))} any more: the proxy keeps its last copy"
            remedy = "create the Secret again before the gateway's pods are replaced, or delete the server from the Gateway"
            yield Found("deleted_credential_served", one.server, one.field, message, remedy, others=one.credentials)


def _is_gone(view: MeshView, ref: Ref) -> bool:
    return ref not in view.snapshot.objects and view.snapshot.knows(SECRET, ref.namespace, ref.name)


def wanted_by(view: MeshView, one: Handshake) -> set[str]:
    """The fingerprints of the certificates that should be presented; empty where that is not known."""
    return {found for ref in one.credentials if (found := _fingerprint(view, ref))}


def is_wrong(view: MeshView, one: Handshake) -> bool:
    """Whether another certificate is presented than a Secret has."""
    wanted = wanted_by(view, one)
    return bool(one.served and wanted and one.served not in wanted)


def proxies(view: MeshView) -> Iterator[Found]:
    observed = view.observed
    for one in observed.held if observed else ():
        wanted = _fingerprint(view, one.secret)
        remedy = f"have it sent once more (kubectl annotate secret -n {one.secret.namespace} {one.secret.name} --overwrite touched=now)"
        if one.fingerprint is None:
            if view.snapshot.objects.get(one.secret) is not None:
                message = f"proxy {one.proxy} has asked for it and not got it: istiod or Envoy refused it, or one that was sent with it"
                yield Found("credential_not_delivered", one.secret, "", message, remedy, cause=str(one.secret))
        elif wanted and one.fingerprint != wanted:
            message = f"expected proxy {one.proxy} to hold {wanted}, found {one.fingerprint}"
            yield Found("proxy_holds_another", one.secret, "", message, remedy, cause=str(one.secret))
        elif not one.in_use:
            message = f"proxy {one.proxy} got it and does not use it: Envoy refused it, or one that was sent with it"
            yield Found("credential_refused_by_proxy", one.secret, "", message, remedy, cause=str(one.secret))
    for refused in observed.refused if observed else ():
        message = f"proxy {refused.proxy} refuses an update of {refused.what}: {refused.detail}"
        ref = GATEWAY.ref("", refused.proxy)
        yield Found(
            "update_refused", ref, refused.what, message, "mend what the detail names; the proxy keeps its old configuration until then"
        )


def _fingerprint(view: MeshView, ref: Ref) -> str | None:
    """Of the certificate that istiod reads from a Secret; for a CA's Secret of its first CA."""
    reading = read_as_istiod(decode(view.snapshot.objects.get(ref)))
    is_ca = ref.name.endswith(CA_SUFFIX)
    pem = reading.ca_certificate if is_ca else reading.certificate
    if not pem:
        return None
    try:
        return (material.read_cas if is_ca else material.read_chain)(pem, where="")[0].fingerprint
    except Rejected:
        return None


RULES = (
    Rule(
        "MIT1001",
        "gateway_not_reached",
        "warning",
        "A gateway's address is not reached",
        "Nothing answers from where the diagnosis runs. Clients elsewhere may reach it.",
        "Look at the gateway's Service, its endpoints and the way there, or name the addresses that count.",
        handshakes,
        (GATEWAY,),
    ),
    Rule(
        "MIT1002",
        "no_certificate_served",
        "error",
        "A host gets no certificate",
        "The gateway ends the handshake: no server matches the SNI, or its credential is missing or unusable.",
        "Mend what is told of its Gateway and credential.",
        handshakes,
        (GATEWAY,),
    ),
    Rule(
        "MIT1003",
        "another_certificate_served",
        "error",
        "A gateway presents another certificate than its Secret has",
        "An update did not arrive: istiod sends what changes together in one message, and a refused Secret holds up others beside it. Or the "
        "certificate comes from a mounted file.",
        "Have the Secret sent once more by a harmless change of it, an annotation for example.",
        handshakes,
        (SECRET,),
    ),
    Rule(
        "MIT1004",
        "credential_not_delivered",
        "error",
        "A proxy waits for a credential",
        "The proxy has asked for it and got nothing, so its listener or cluster refuses connections.",
        "Mend what is told of the credential; where nothing is, have it sent once more.",
        proxies,
        (SECRET,),
    ),
    Rule(
        "MIT1005",
        "proxy_holds_another",
        "error",
        "A proxy holds another certificate than the Secret has",
        "An update did not arrive in this proxy, and it does not recover by itself.",
        "Have the Secret sent once more by a harmless change of it, an annotation for example.",
        proxies,
        (SECRET,),
    ),
    Rule(
        "MIT1006",
        "credential_refused_by_proxy",
        "error",
        "A proxy does not use a credential that it got",
        "Envoy refused it (a key of another certificate, a weak key, a staple that does not match), or one that was sent with it.",
        "Mend the credential; where it is right, have it sent once more.",
        proxies,
        (SECRET,),
    ),
    Rule(
        "MIT1007",
        "update_refused",
        "error",
        "A proxy refuses an update",
        "The proxy goes on with its old configuration, without the change that was meant.",
        "Mend what the detail names.",
        proxies,
        (GATEWAY,),
    ),
    Rule(
        "MIT1008",
        "deleted_credential_served",
        "error",
        "A gateway serves a certificate whose Secret is gone",
        "Envoy keeps the last pair that it got. It is never renewed, and the next pod of the gateway has none: every handshake is reset from then on.",
        "Create the Secret again, or delete the server.",
        handshakes,
        (SECRET,),
    ),
)
