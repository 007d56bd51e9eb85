# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Secret says of a rotation that is under way: its previous content, and who rotates. Pure.

Both travel in the very write that brings the new pair, so that at no moment one is there without the other, and no other object, right or
file is needed to go back. istiod looks at none of it (`READ_KEYS`). Who can read the new key there can read the old one, and could before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from ..tls.facts import rfc3339
from .credential import READ_KEYS, decode

ANNOTATION = "meshops.istio/rotation"
PREVIOUS = "previous."
"""Begins the keys under which the previous content stands: `previous.tls.crt`, for example."""

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Marker:
    """A rotation that has written and not yet proven."""

    rotation: str
    """The identifier of its plan."""
    holder: str
    """The process that rotates: see `rotation/holder.py`."""
    by: str
    """Who that is for people: `user@host`, and the job's number where there is one."""
    started: datetime
    until: datetime
    """When it has ended for certain, one way or the other, if it lives."""
    created: bool = False
    """Whether the Secret did not exist before."""

    def text(self) -> str:
        return json.dumps({**asdict(self), "started": rfc3339(self.started), "until": rfc3339(self.until)}, sort_keys=True)


def marker_of(secret: Manifest | None) -> Marker | None:
    """The marker of a live Secret. One that cannot be read counts as one of a rotation that has ended: its previous content is there all the same."""
    text = (((secret or {}).get("metadata") or {}).get("annotations") or {}).get(ANNOTATION)
    if not text:
        return None
    try:
        found = json.loads(text)
        times = {name: datetime.fromisoformat(found[name]).astimezone(UTC) for name in ("started", "until")}
        return Marker(str(found["rotation"]), str(found["holder"]), str(found["by"]), **times, created=bool(found.get("created")))
    except (ValueError, KeyError, TypeError):
        long_ago = datetime.min.replace(tzinfo=UTC)
        return Marker("unknown", "", "unknown", long_ago, long_ago)


def previous(secret: Manifest | None) -> dict[str, bytes]:
    """The content that the Secret had before the rotation; empty where none is kept."""
    return {key.removeprefix(PREVIOUS): value for key, value in decode(secret).items() if key.startswith(PREVIOUS)}


def current(secret: Manifest | None) -> dict[str, bytes]:
    """The Secret's data without what is kept of before."""
    return {key: value for key, value in decode(secret).items() if not key.startswith(PREVIOUS)}


def kept(secret: Manifest | None) -> dict[str, str]:
    """What is to be kept of a live Secret, encoded as it is there."""
    return {PREVIOUS + key: value for key, value in ((secret or {}).get("data") or {}).items() if key in READ_KEYS and value}
