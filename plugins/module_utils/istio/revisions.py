# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which istiod is a proxy's, and where its meshConfig is: revisions and the tags that stand for them. Pure.

From istiod's pilot/pkg/bootstrap/mesh.go (getMeshConfigMapName), pkg/revisions (default_watcher.go, tag_watcher.go) and the charts' revision tags
(manifests/charts/istio-control/istio-discovery/templates/revision-tags-mwc.yaml).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .mesh_namespace import REVISION

Labels = Mapping[str, str]
DEFAULT = "default"
DEFAULT_VALIDATOR = "istiod-default-validator"
"""The ValidatingWebhookConfiguration that carries the default revision where no tag does."""


def asked_for(labels: Labels, namespace_labels: Labels) -> str:
    """The revision, or the tag, that a proxy asks for; `default` where nothing names one."""
    return labels.get(REVISION) or namespace_labels.get(REVISION) or DEFAULT


def tag_webhook(tag: str, root_namespace: str) -> str:
    """The name of the MutatingWebhookConfiguration that says which revision a tag stands for."""
    return f"istio-revision-tag-{tag}" + ("" if root_namespace == "istio-system" else f"-{root_namespace}")


def revision_in(webhook: Mapping[str, Any] | None) -> str | None:
    """The revision that a webhook configuration carries."""
    return (((webhook or {}).get("metadata") or {}).get("labels") or {}).get(REVISION) or None


def config_map_name(revision: str) -> str:
    """The ConfigMap with the meshConfig of a revision."""
    return "istio" if revision == DEFAULT else f"istio-{revision}"
