# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter awx_clusters: the hosts of an AWX inventory, one a cluster, from a list or from the contexts of a kubeconfig."""

from __future__ import annotations

DOCUMENTATION = r"""
name: awx_clusters
short_description: Turn clusters into hosts of an AWX inventory
version_added: 0.1.0
author:
  - The meshops.istio developers (@meshops)
description:
  - Turns the clusters of the role P(meshops.istio.awx_content#role), or the contexts of a kubeconfig, into hosts for C(awx.awx.host).
  - A context becomes a host with the variable C(meshops_login), which names it. Characters that a host cannot have become V(-) in the host's name.
positional: _input
options:
  _input:
    description: The clusters, each with a C(name), and maybe C(login), C(variables), C(description), C(enabled) and C(state).
    type: list
    elements: dict
    required: true
  kubeconfig:
    description: The content of a kubeconfig, whose contexts take the place of the list. It must be complete in itself.
    type: dict
  contexts:
    description: Regular expressions. A context is taken when one of them matches its whole name.
    type: list
    elements: str
    default: [".*"]
"""

EXAMPLES = r"""
- name: Show the hosts that the contexts of a kubeconfig become
  ansible.builtin.debug:
    msg: "{{ [] | meshops.istio.awx_clusters(lookup('ansible.builtin.file', '~/.kube/config') | from_yaml, ['production-.*']) }}"
"""

RETURN = r"""
_value:
  description: The hosts, each with C(name), C(description), C(enabled), C(variables) and C(state).
  type: list
  elements: dict
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

OPTIONS = ("name", "login", "variables", "description", "enabled", "state")
FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
"""Fields of a kubeconfig that name a file of the machine that it is on."""


def awx_clusters(
    clusters: Sequence[Mapping[str, Any]], kubeconfig: Mapping[str, Any] | None = None, contexts: Sequence[str] = (".*",)
) -> list[dict[str, Any]]:
    listed = clusters if kubeconfig is None else _contexts(kubeconfig, contexts)
    hosts = [_host(cluster) for cluster in listed]
    seen: dict[str, str] = {}
    for host, cluster in zip(hosts, listed, strict=True):
        called = str((cluster.get("login") or {}).get("context", host["name"]))
        if host["name"] in seen:
            raise AnsibleFilterError(
                f"expected a name of its own for each cluster, found {host['name']} twice ({seen[host['name']]}, {called}). Rename one of them"
            )
        seen[host["name"]] = called
    return hosts


def _host(cluster: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(cluster, Mapping) or not isinstance(cluster.get("name"), str) or not cluster["name"]:
        raise AnsibleFilterError("awx_content_clusters: expected a name in each, found a cluster without. Give it one")
    if unknown := sorted(set(cluster) - {*OPTIONS}):
        raise AnsibleFilterError(
            f"awx_content_clusters, {cluster['name']}: expected {', '.join(OPTIONS)}; found {', '.join(unknown)}. Put variables under `variables`"
        )
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._@-]*", cluster["name"]):
        raise AnsibleFilterError(
            f"awx_content_clusters: expected a name of letters, digits and . _ @ -, found {cluster['name']!r}. AWX takes it for a pattern or a port"
        )
    login = {"meshops_login": cluster["login"]} if cluster.get("login") else {}
    return {
        "name": cluster["name"],
        "description": cluster.get("description", ""),
        "enabled": cluster.get("enabled", True),
        "variables": {**login, **(cluster.get("variables") or {})},
        "state": cluster.get("state", "present"),
    }


def _contexts(kubeconfig: Mapping[str, Any], patterns: Sequence[str]) -> list[dict[str, Any]]:
    if not isinstance(kubeconfig, Mapping) or not isinstance(kubeconfig.get("contexts"), list):
        raise AnsibleFilterError("awx_content_kubeconfig: expected a kubeconfig with contexts, found none. Name another file")
    expressions = [_expression(pattern) for pattern in patterns]
    listed = [str(context["name"]) for context in kubeconfig["contexts"] if isinstance(context, Mapping) and context.get("name")]
    taken = [name for name in listed if any(expression.fullmatch(name) for expression in expressions)]
    if not taken:
        raise AnsibleFilterError(
            f"awx_content_contexts: expected a match with one of the kubeconfig's contexts ({', '.join(listed) or 'none'}), found none"
        )
    for kind, part in (("clusters", "cluster"), ("users", "user")):
        for entry in kubeconfig.get(kind) or []:
            if found := [field for field in FILES if field in (entry.get(part) or {})]:
                raise AnsibleFilterError(
                    f"awx_content_kubeconfig: expected everything inside of it, found the file named by {found[0]} of {part} {entry.get('name')},"
                    " which a job does not have. Make it complete with `kubectl config view --flatten --raw`"
                )
    return [{"name": re.sub(r"[^A-Za-z0-9._@-]", "-", name).lstrip("-.@") or "-", "login": {"context": name}} for name in taken]


def _expression(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        raise AnsibleFilterError(
            f"awx_content_contexts: expected regular expressions, found {pattern!r} ({error}). Put a backslash before a sign that stands for itself"
        ) from None


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"awx_clusters": awx_clusters}
