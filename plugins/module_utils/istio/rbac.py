# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What RBAC objects allow a service account: for objects from files, where nobody can be asked. Pure.

From Kubernetes' pkg/registry/rbac/validation (rule.go) and plugin/pkg/auth/authorizer/rbac (VerbMatches and its neighbours).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..objects.kinds import Manifest

GROUPS = ("system:serviceaccounts", "system:authenticated")


def may_list_secrets(
    namespace: str,
    account: str,
    *,
    roles: Iterable[Manifest],
    bindings: Iterable[Manifest],
    cluster_roles: Iterable[Manifest],
    cluster_bindings: Iterable[Manifest],
) -> bool:
    """Whether a service account may list the Secrets of its own namespace."""
    cluster = {one["metadata"]["name"]: one for one in cluster_roles}
    local = {one["metadata"]["name"]: one for one in roles if one["metadata"].get("namespace") == namespace}
    bound = [one for one in bindings if one["metadata"].get("namespace") == namespace]
    for binding in (*bound, *cluster_bindings):
        if not any(_is(subject, namespace, account) for subject in binding.get("subjects") or ()):
            continue
        reference = binding.get("roleRef") or {}
        role = (cluster if reference.get("kind") == "ClusterRole" else local).get(reference.get("name", ""))
        if role is not None and any(_lists_secrets(rule) for rule in role.get("rules") or ()):
            return True
    return False


def _is(subject: Manifest, namespace: str, account: str) -> bool:
    kind, name = subject.get("kind"), subject.get("name")
    if kind == "ServiceAccount":
        return (subject.get("namespace"), name) == (namespace, account)
    if kind == "User":
        return bool(name == f"system:serviceaccount:{namespace}:{account}")
    return kind == "Group" and name in (*GROUPS, f"system:serviceaccounts:{namespace}")


def _lists_secrets(rule: Manifest) -> bool:
    def has(field: str, *wanted: str) -> bool:
        return any(value in wanted for value in _texts(rule, field))

    return has("verbs", "list", "*") and has("apiGroups", "", "*") and has("resources", "secrets", "*") and not rule.get("resourceNames")


def _texts(rule: Manifest, field: str) -> Iterator[str]:
    yield from (str(value) for value in rule.get(field) or ())
