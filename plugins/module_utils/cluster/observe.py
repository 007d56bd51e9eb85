# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what a check needs beyond the objects to be written. A missing right becomes a note: less is checked, and that is said."""

from __future__ import annotations

from typing import Any

from ..objects.kinds import Resource, with_kind
from .client import ApiError, Cluster


def list_where_allowed(cluster: Cluster, resource: Resource, namespace: str, notes: list[str]) -> list[dict[str, Any]]:
    """All objects of a kind in the cluster; where that is not allowed those in the namespace, and where that is not either, none."""
    for place in (None, namespace):
        try:
            found = list(cluster.list(resource, place))
        except ApiError as error:
            if error.missing_verb:
                where = f"namespace {place}" if place else "other namespaces"
                notes.append(f"{resource.plural} in {where} were not checked: this user may not {error.missing_verb} them")
                continue
            if error.status == 404:  # the kind itself is unknown there
                notes.append(f"{resource.plural} were not looked at: the cluster does not serve {resource.api_version}")
                return []
            raise
        return [with_kind(item, resource) for item in found]
    return []
