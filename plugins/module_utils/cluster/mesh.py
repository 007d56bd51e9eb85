# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""meshConfig of the istiod that serves a gateway: of its revision, which a tag may stand for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..istio.mesh_namespace import REVISION
from ..istio.revisions import DEFAULT, DEFAULT_VALIDATOR, asked_for, config_map_name, revision_in, tag_webhook
from ..istio.workload import Workload
from ..objects.kinds import CONFIG_MAP, MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS, Resource
from .client import Cluster
from .reconcile import read
from .surroundings import if_allowed, namespace_labels


def mesh_config(cluster: Cluster, root_namespace: str, workloads: Collection[Workload], unread: list[str]) -> Mapping[str, Any] | None:
    """meshConfig of the workloads' revision; empty where there is none, None where it could not be read."""
    asked = _asked_for(cluster, workloads)
    if len(asked) > 1:
        unread.append(
            f"meshConfig of {', '.join(asked[1:])} (the gateway's workloads are of the revision {asked[0]}, too, and that one's was read)"
        )
    revision, certain = _revision(cluster, asked[0], root_namespace)
    ref = CONFIG_MAP.ref(root_namespace, config_map_name(revision))
    answer = if_allowed(lambda: read(cluster, [(CONFIG_MAP, ref)]))
    if answer is None or (answer[ref] is None and not certain):
        return None
    text = ((answer[ref] or {}).get("data") or {}).get("mesh") or ""
    import yaml

    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    return parsed if isinstance(parsed, dict) else {}


def _asked_for(cluster: Cluster, workloads: Collection[Workload]) -> list[str]:
    """The injector leaves its revision on the pods; where there was none, labels tell which one they are for."""
    unnamed = sorted({one.namespace for one in workloads if not one.revision and not one.labels.get(REVISION)})
    labels = namespace_labels(cluster, unnamed) if unnamed else {}
    return sorted({one.revision or asked_for(one.labels, labels.get(one.namespace) or {}) for one in workloads}) or [DEFAULT]


def _revision(cluster: Cluster, asked: str, root_namespace: str) -> tuple[str, bool]:
    """The revision behind a revision's or tag's name, and whether everything that decides could be read."""
    tagged, certain = _read_revision(cluster, MUTATING_WEBHOOKS, tag_webhook(asked, root_namespace))
    if tagged or asked != DEFAULT:
        return tagged or asked, certain
    default, also = _read_revision(cluster, VALIDATING_WEBHOOKS, DEFAULT_VALIDATOR)
    return default or DEFAULT, certain and also


def _read_revision(cluster: Cluster, resource: Resource, name: str) -> tuple[str | None, bool]:
    ref = resource.ref("", name)
    answer = if_allowed(lambda: read(cluster, [(resource, ref)]))
    return (None, False) if answer is None else (revision_in(answer[ref]), True)
