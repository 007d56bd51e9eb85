# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is around an origination: the objects of others that open, close or take over what it makes."""

from __future__ import annotations

from collections.abc import Iterator

from ..problems import Problem
from .choice import title
from .egress_view import Case, key_of, owner_of


def other_policies(case: Case) -> Iterator[Problem]:
    one = case.one
    if not one.prevent_bypass:
        return
    for policy in case.view.snapshot.network_policies or ():
        spec = policy.get("spec") or {}
        if (
            policy["metadata"].get("namespace") not in one.client_namespaces
            or owner_of(policy)
            or "Egress" not in (spec.get("policyTypes") or ())
        ):
            continue
        if spec.get("egress"):
            yield case.problem(
                "other_egress_policy",
                f"prevent_bypass in {policy['metadata']['namespace']}",
                f"{title({**policy, 'kind': 'NetworkPolicy'})} lets traffic out, too, and policies add up",
                "make sure that it does not let clients reach the external service",
                "warning",
            )


def direct_tls_blocked(case: Case) -> Iterator[Problem]:
    one = case.one
    if not one.direct_tls:
        return
    for other in case.view.originations:
        shared = sorted(set(one.client_namespaces) & set(other.client_namespaces))
        if other.prevent_bypass and shared:
            yield case.problem(
                "direct_tls_blocked",
                "direct_tls",
                f"prevent_bypass of {other.where} closes the direct way out of {', '.join(shared)} for every service",
                "turn direct_tls off, or run those clients in a namespace without prevent_bypass",
            )


def foreign_names(case: Case) -> Iterator[Problem]:
    """Objects of the same name that another unit of ours made: an apply would take them over without a conflict."""
    for made in case.objects.values():
        owner = owner_of(case.view.live.get(key_of(made), made))
        if owner not in (None, case.one.owner):
            yield case.problem(
                "object_of_another",
                title(made),
                f"expected an object of this service, found one that belongs to {owner}",
                "choose another name for the service, or set objects",
            )
