# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The question about rights that istiod asks for each gateway."""

from __future__ import annotations

from ..objects.kinds import SUBJECT_ACCESS_REVIEW
from .client import Cluster
from .surroundings import if_allowed


def may_list_secrets(cluster: Cluster, namespace: str, service_account: str) -> bool | None:
    """The question that istiod asks before it serves a credential to a gateway; None where this user may not ask it."""
    review = {
        "apiVersion": SUBJECT_ACCESS_REVIEW.api_version,
        "kind": SUBJECT_ACCESS_REVIEW.kind,
        "spec": {
            "user": f"system:serviceaccount:{namespace}:{service_account}",
            "resourceAttributes": {"namespace": namespace, "verb": "list", "resource": "secrets"},
        },
    }
    answer = if_allowed(lambda: cluster.create(SUBJECT_ACCESS_REVIEW, review))
    return None if answer is None else bool((answer.get("status") or {}).get("allowed"))
