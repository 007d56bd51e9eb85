# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small readings of single objects, which the view and the rules share. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..istio.credential import decode, read_as_istiod
from ..istio.snapshot import Snapshot
from ..objects.kinds import SERVICE, Manifest
from ..problems import Rejected
from ..tls import material

ServiceKey = tuple[str, str]
"""(namespace, name)"""


def spec_of(manifest: Manifest | None) -> Mapping[str, Any]:
    return (manifest or {}).get("spec") or {}


def names_in(secret: Manifest | None) -> tuple[str, ...]:
    certificate = read_as_istiod(decode(secret)).certificate if secret else None
    if not certificate:
        return ()
    try:
        return tuple(material.read_chain(certificate, where="")[0].dns_names)
    except Rejected:
        return ()


class Services(Mapping[ServiceKey, "Manifest | None"]):
    """Services by (namespace, name): None for what does not exist, no key for what was not looked at."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def __getitem__(self, key: ServiceKey) -> Manifest | None:
        if not self._snapshot.knows(SERVICE, *key):
            raise KeyError(key)
        return self._snapshot.get(SERVICE, *key)

    def __iter__(self) -> Iterator[ServiceKey]:
        return iter((item["metadata"].get("namespace", ""), item["metadata"]["name"]) for item in self._snapshot.of(SERVICE))

    def __len__(self) -> int:
        return len(self._snapshot.of(SERVICE))


def mounted_secrets(pods: Iterable[Manifest]) -> frozenset[str]:
    """The names of Secrets that pods mount."""
    volumes = [volume for pod in pods for volume in spec_of(pod).get("volumes") or ()]
    sources = [source for one in volumes for source in (one, *((one.get("projected") or {}).get("sources") or ()))]
    return frozenset(str((one.get("secret") or {}).get("secretName") or (one.get("secret") or {}).get("name")) for one in sources)
