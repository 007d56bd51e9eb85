# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the labels of a namespace decide: whether istiod reads it at all, and whether its pods get a sidecar. Pure.

From istiod's pkg/kube/namespace/filter.go (discoverySelectors) and manifests/charts/istio-control's mutating webhook.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Labels = Mapping[str, str]
INJECTION = "istio-injection"
REVISION = "istio.io/rev"
DATAPLANE = "istio.io/dataplane-mode"
WAYPOINT = "istio.io/use-waypoint"


def is_discovered(labels: Labels, mesh: Mapping[str, Any]) -> bool:
    """Whether a namespace with these labels matches one of meshConfig's discoverySelectors; without any, all do."""
    selectors: Sequence[Any] = mesh.get("discoverySelectors") or ()
    return not selectors or any(selects(selector or {}, labels) for selector in selectors)


def selects(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Whether a label selector of Kubernetes matches."""
    if not all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(one, labels) for one in selector.get("matchExpressions") or ())


def _holds(expression: Mapping[str, Any], labels: Labels) -> bool:
    key, values = expression.get("key", ""), expression.get("values") or ()
    answers = {
        "In": labels.get(key) in values,
        "NotIn": labels.get(key) not in values,
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }
    return answers.get(str(expression.get("operator")), True)


def dataplane(labels: Labels) -> Literal["sidecar", "ambient", "pods decide", "none"]:
    """How pods of a namespace come into the mesh; where nothing is said, a label of theirs may ask for a sidecar."""
    if labels.get(INJECTION) == "enabled":
        return "sidecar"
    if labels.get(REVISION) and INJECTION not in labels:
        return "sidecar"
    if labels.get(DATAPLANE) == "ambient":
        return "ambient"
    return "none" if INJECTION in labels else "pods decide"
