# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was told, and what was known when it was: so that nothing is told twice, nor missed over a restart. Pure.

As JSON it holds names, times, fingerprints and digests, no keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from ..problems import Problem, Rejected
from ..tls.facts import rfc3339
from .credential import Credential

_FORMAT = 1


@dataclass(frozen=True)
class Known:
    """What is compared with a Secret's next state."""

    uid: str
    digests: Mapping[str, str]
    stamps: Mapping[str, str]
    fingerprint: str | None
    managed: bool


@dataclass(frozen=True)
class Told:
    """An occasion that was told, and goes on."""

    at: str
    """RFC 3339."""
    place: str = ""
    times: int = 1

    def age(self, now: datetime) -> float:
        """Seconds."""
        return (now - datetime.fromisoformat(self.at)).total_seconds()

    def again(self, now: datetime) -> Told:
        return Told(rfc3339(now), self.place, self.times + 1)


@dataclass
class Memory:
    cluster: str
    known: dict[str, Known] = field(default_factory=dict)
    """By namespace/name."""
    told: dict[str, Told] = field(default_factory=dict)
    """By the occasion's key."""

    def text(self) -> str:
        known = {key: asdict(one) for key, one in self.known.items()}
        told = {key: asdict(one) for key, one in self.told.items()}
        return json.dumps({"format": _FORMAT, "cluster": self.cluster, "known": known, "told": told}, indent=1, sort_keys=True) + "\n"


def known_of(one: Credential) -> Known:
    return Known(one.uid, dict(one.digests), dict(one.stamps or {}), one.fingerprint, one.managed)


def memory_of(text: str, cluster: str, where: str) -> Memory:
    """What `Memory.text` wrote. Raises Rejected where it is another file, or of another cluster."""
    try:
        found: Mapping[str, Any] = json.loads(text)
        if found["format"] != _FORMAT:
            raise ValueError
        known = {str(key): Known(**one) for key, one in found["known"].items()}
        told = {str(key): Told(**one) for key, one in found["told"].items()}
        for one in told.values():
            datetime.fromisoformat(one.at)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        message = "expected what an earlier run of this event source wrote, found something else"
        raise Rejected(Problem("unreadable_state", where, message, "delete the file, or name another one")) from None
    if found["cluster"] != cluster:
        message = f"expected the state of the cluster {cluster!r}, found that of {found['cluster']!r}"
        raise Rejected(Problem("state_of_another_cluster", where, message, "give each cluster a file of its own"))
    return Memory(cluster, known, told)
