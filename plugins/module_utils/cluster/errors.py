# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong with the API server, each in one sentence for the user."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..objects.kinds import Resource

NOT_SERVED = "NotServed"


class ClusterError(Exception):
    """The cluster could not be asked, or said no; `str()` is one sentence for the user."""

    hopeless = False
    """Whether no other request would get through either."""


class ConfigurationError(ClusterError):
    """The options do not say how to reach a cluster, or as whom."""

    hopeless = True


class Unreachable(ClusterError):
    """No answer from the API server within the stated bound."""

    hopeless = True


class ApiError(ClusterError):
    """An answer of the API server other than success."""

    def __init__(self, status: int, verb: str, resource: Resource, namespace: str, name: str, answer: Mapping[str, Any], host: str) -> None:
        self.status = status
        self.verb = verb
        self.resource = resource
        self.namespace = namespace
        self.name = name
        self.reason = str(answer.get("reason") or "")
        self.server_message = str(answer.get("message") or f"HTTP status {status}")
        details = answer.get("details") or {}
        causes = details.get("causes")
        self.causes: list[Mapping[str, Any]] = [one for one in causes if isinstance(one, Mapping)] if isinstance(causes, list) else []
        self.about = (str(details.get("kind") or ""), str(details.get("name") or ""))
        """The plural (where deleting: the kind) and the name of the object that it is about: not always the one that was asked for."""
        self.host = host
        self.hopeless = status == 401
        super().__init__(self._sentence())

    @property
    def missing_verb(self) -> str | None:
        """The verb that RBAC denies, where that is what happened; a 403 of a quota, a webhook or a dying namespace is not."""
        found = re.search(r"cannot ([\w:-]+) resource", self.server_message)
        return found[1] if self.status == 403 and found else None

    @property
    def is_missing_namespace(self) -> bool:
        return self.status == 404 and self.verb == "patch" and 'namespaces "' in self.server_message

    @property
    def is_dying_namespace(self) -> bool:
        return self.status == 403 and "is being terminated" in self.server_message

    @property
    def is_apply_conflict(self) -> bool:
        return self.status == 409 and any(cause.get("reason") == "FieldManagerConflict" for cause in self.causes)

    @property
    def is_stale(self) -> bool:
        """Whether the object is not (any more) what the request's resourceVersion and uid say."""
        is_conflict = self.status == 409 and self.verb in ("patch", "delete") and not self.is_apply_conflict
        return is_conflict and self.about in ((self.resource.plural, self.name), (self.resource.kind, self.name))

    @property
    def conflicts(self) -> list[tuple[str, str]]:
        """(field, manager) of each conflict of a server-side apply."""
        found = []
        for cause in self.causes:
            manager = re.search(r'conflict with "([^"]+)"', str(cause.get("message") or ""))
            found.append((str(cause.get("field") or "").lstrip("."), manager[1] if manager else "another manager"))
        return found

    def _sentence(self) -> str:
        place = f" in namespace {self.namespace}" if self.namespace else ""
        what = f"{self.resource.kind} {self.name}" if self.name else f"{self.resource.plural}"
        if self.status == 401:
            return (
                f"the API server at {self.host} does not accept the login (401 while asking to {self.verb} {what}{place}): "
                "the token or client certificate is wrong or has expired; log in again or pass a valid kubeconfig, context or api_key"
            )
        if verb := self.missing_verb:
            user = re.search(r'User "([^"]+)"', self.server_message)
            # not always the resource that was asked for: to act as another user is a right of its own
            denied = re.search(r'resource "([^"]+)" in API group "([^"]*)"( at the cluster scope)?', self.server_message)
            plural, group = (denied[1], denied[2]) if denied else (self.resource.plural, self.resource.group)
            scope = " in the whole cluster" if denied and denied[3] else place
            if user and user[1] == "system:anonymous":  # a right for it would be one for everybody
                return (
                    f"the API server at {self.host} got no login that it knows, so it let nobody {verb} {plural}{scope} (needed for {what}); give a "
                    "token, a client certificate or an exec plugin: API servers take no username and password since Kubernetes 1.19"
                )
            # a websocket is a GET, and since Kubernetes 1.35 needs the right to create as well
            needed = "the verbs 'get' and 'create'" if plural == "pods/exec" else f"the verb {verb!r}"
            return (
                f"permission denied: {user[1] if user else 'this user'} may not {verb} {plural}{'.' + group if group else ''}{scope} "
                f"(needed for {what}); add {needed} to its Role, or use one of the Roles in docs/rbac"
            )
        if self.is_apply_conflict:
            fields = ", ".join(f"{path} (managed by {manager})" for path, manager in self.conflicts)
            return f"{what}{place} has fields that another manager set to other values: {fields}; set force_conflicts to take them over"
        if self.reason == NOT_SERVED:
            return f"cannot {self.verb} {what}{place}: {self.server_message}"
        if self.is_missing_namespace:
            return f"cannot write {what}: namespace {self.namespace} does not exist; create it first"
        if self.is_dying_namespace:
            return f"cannot write {what}: namespace {self.namespace} is being terminated; create it again when it is gone, then run again"
        remedy = "; raise the quota, or delete what nobody needs" if "exceeded quota:" in self.server_message else ""
        return f"the API server refused to {self.verb} {what}{place} ({self.status} {self.reason}): {self.server_message}{remedy}"
