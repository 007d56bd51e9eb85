# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Secret as the watch of a cluster keeps it: names, dates and fingerprints of what istiod reads. Pure.

A private key is never kept. Whether one has changed is told by a digest of each of the Secret's keys.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from ..istio.credential import READ_KEYS, read_as_istiod
from ..istio.rotation_marker import current, marker_of
from ..objects.compare import owners
from ..objects.ownership import is_ours
from ..problems import Rejected
from ..renewal.due import Served
from ..tls import material

T = TypeVar("T")
Manifest = Mapping[str, Any]
_KEPT = b"(a private key)"


@dataclass(frozen=True)
class Crl:
    """One certificate revocation list of a credential."""

    fingerprint: str
    issuer: str
    last_update: datetime
    next_update: datetime


@dataclass(frozen=True)
class Credential:
    """What is kept of a Secret."""

    namespace: str
    name: str
    uid: str
    digests: Mapping[str, str]
    """Of the keys that istiod may read: a part of the SHA-256 of each."""
    certificate: Served | None = None
    """The leaf; None where istiod reads none, or it cannot be read."""
    ca: Served | None = None
    """Of the CAs the one that is valid for longest."""
    crls: tuple[Crl, ...] = ()
    managed: bool = False
    """Whether this collection made it."""
    managers: Mapping[str, tuple[str, ...]] | None = None
    """The field managers of each of these keys."""
    stamps: Mapping[str, str] | None = None
    """When each field manager last wrote (RFC 3339, as the API server has it)."""
    is_rotating: bool = False
    """Whether a rotation has written and not yet proven."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def fingerprint(self) -> str | None:
        return self.certificate.fingerprint if self.certificate else None


def credential_of(secret: Manifest) -> Credential | None:
    """None for a Secret that holds nothing that istiod reads."""
    data = {key: value for key, value in current(secret).items() if key in READ_KEYS and value}
    if not data:
        return None
    metadata: Manifest = secret["metadata"]
    reading = read_as_istiod(data)
    cas = _read(reading.ca_certificate, lambda pem: material.read_cas(pem, where=""))
    crls = _read(reading.ca_crl, lambda pem: material.read_crls(pem, where=""))
    return Credential(
        namespace=str(metadata.get("namespace") or ""),
        name=str(metadata["name"]),
        uid=str(metadata.get("uid") or ""),
        digests={key: hashlib.sha256(value).hexdigest()[:32] for key, value in sorted(data.items())},
        certificate=_first(_read(reading.certificate, lambda pem: material.read_chain(pem, where=""))),
        ca=_first(sorted(cas, key=lambda one: one.not_after, reverse=True)),
        crls=tuple(Crl(one.fingerprint, one.issuer, one.last_update, one.next_update) for one in crls if one.next_update is not None),
        managed=is_ours(secret),
        managers={path[1]: tuple(sorted(names)) for path, names in owners(secret) if len(path) == 2 and path[0] == "data"},
        stamps={str(entry.get("manager")): str(entry.get("time") or "") for entry in metadata.get("managedFields") or ()},
        is_rotating=marker_of(secret) is not None,
    )


def _read(pem: bytes | None, parse: Callable[[bytes], Sequence[T]]) -> Sequence[T]:
    try:
        return parse(pem) if pem else ()
    except Rejected:
        return ()


def _first(certificates: Sequence[material.Certificate]) -> Served | None:
    if not certificates:
        return None
    one = certificates[0]
    return Served(one.not_before, one.not_after, tuple(one.names), one.fingerprint)


def without_keys(secret: Manifest) -> dict[str, Any]:
    """A Secret as it may be kept for rules, which look at what is public of it and at which keys there are."""
    kept = {
        key: b64encode(_KEPT).decode() if key in ("key", "tls.key") and value else value
        for key, value in (secret.get("data") or {}).items()
        if key in READ_KEYS
    }
    metadata = {key: secret["metadata"].get(key) for key in ("name", "namespace", "labels", "uid", "creationTimestamp")}
    return {**{key: secret[key] for key in ("kind", "apiVersion", "type") if key in secret}, "metadata": metadata, "data": kept}


@dataclass(frozen=True)
class Written:
    """What became of a Secret's keys."""

    keys: tuple[str, ...]
    """Those that changed, came or went; empty where none did."""
    by: tuple[str, ...] = ()
    """The field managers of others that did it, as far as the Secret tells."""
    is_ours: bool = False
    """Whether we did all of it."""


def written(before: Mapping[str, str], stamps: Mapping[str, str], after: Credential, own: Collection[str]) -> Written:
    """`before` are the digests, and `stamps` the times of writing, that were known; `own` our field managers.

    Of a key that is there its managers have written it: where we are among them, all agree with us. Of one that is gone nothing is left: those
    count that have written since, and where nobody has, it was somebody else, since to remove a field is a write of ours that is stamped.
    """
    changed = tuple(sorted(key for key in before.keys() | after.digests.keys() if before.get(key) != after.digests.get(key)))
    there = [set((after.managers or {}).get(key, ())) for key in changed if key in after.digests]
    if not there:
        there = [{name for name, stamp in (after.stamps or {}).items() if stamps.get(name) != stamp}]
    foreign = [managers for managers in there if managers.isdisjoint(own)]
    return Written(changed, tuple(sorted(set().union(*foreign))), is_ours=bool(changed) and not foreign)
