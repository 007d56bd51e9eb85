# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How our objects are marked: who manages them, and to which unit (a Gateway with its routes, say) they belong."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "meshops.istio"
FIELD_MANAGER = "meshops.istio"
"""Whose the fields are that we apply."""
OWNER_LABEL = "meshops.istio/owner"
_MAX_LABEL_VALUE = 63


def owner_value(unit: str, name: str) -> str:
    """The owner label's value for one unit, for example `("gateway", "mygateway")` -> `gateway.mygateway`.

    What would be longer than a label value may be keeps its beginning and ends in a hash of the whole.
    """
    value = f"{unit}.{name}"
    if len(value) <= _MAX_LABEL_VALUE:
        return value
    digest = hashlib.sha256(value.encode()).hexdigest()[:10]
    return f"{value[: _MAX_LABEL_VALUE - 11].rstrip('.-_')}-{digest}"


def metadata(
    name: str, namespace: str, *, owner: str, labels: Mapping[str, str] | None = None, annotations: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """An object's metadata with our labels; the user's own labels and annotations go with them, and cannot displace ours."""
    made: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "labels": {**(labels or {}), MANAGED_BY_LABEL: MANAGED_BY, OWNER_LABEL: owner},
    }
    if annotations:
        made["annotations"] = dict(annotations)
    return made


def owned_by(owner: str) -> str:
    """The label selector of a unit's objects."""
    return f"{MANAGED_BY_LABEL}={MANAGED_BY},{OWNER_LABEL}={owner}"


def owner_of(manifest: Mapping[str, Any] | None) -> str | None:
    """The unit that an object of ours belongs to; None for what something else made, or what does not exist."""
    labels = _labels(manifest)
    return labels.get(OWNER_LABEL) if labels.get(MANAGED_BY_LABEL) == MANAGED_BY else None


def is_ours(manifest: Mapping[str, Any] | None) -> bool:
    """Whether this collection made an object."""
    return _labels(manifest).get(MANAGED_BY_LABEL) == MANAGED_BY


def _labels(manifest: Mapping[str, Any] | None) -> Mapping[str, str]:
    return ((manifest or {}).get("metadata") or {}).get("labels") or {}
