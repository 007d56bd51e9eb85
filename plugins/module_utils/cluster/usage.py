# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading all that may refer to a credential. Clusters without the Gateway API are nothing to note."""

from __future__ import annotations

from typing import Any

from ..istio.usage import Use, gateway_api_uses, uses
from ..objects.kinds import API_GATEWAY, BACKEND_TLS_POLICY, DESTINATION_RULE, GATEWAY, LISTENER_SET, Resource, with_kind
from .client import ApiError, Cluster
from .observe import list_where_allowed


def find_uses(cluster: Cluster, namespace: str, notes: list[str]) -> list[Use]:
    """What refers to credentials, in the whole cluster; where that may not be listed, in the namespace."""
    gateways = list_where_allowed(cluster, GATEWAY, namespace, notes)
    rules = list_where_allowed(cluster, DESTINATION_RULE, namespace, notes)
    listeners = [list_of_gateway_api(cluster, resource, notes) for resource in (API_GATEWAY, LISTENER_SET, BACKEND_TLS_POLICY)]
    return [*uses(gateways, rules), *gateway_api_uses(*listeners)]


def list_of_gateway_api(cluster: Cluster, resource: Resource, notes: list[str]) -> list[dict[str, Any]]:
    """All objects of one of its kinds; none where the cluster does not serve it, or a Role from before does not name it."""
    try:
        return [with_kind(item, resource) for item in cluster.list(resource, None)]
    except ApiError as error:
        if error.status == 404:
            return []
        if not error.missing_verb:
            raise
    notes.append(f"{resource.plural}.{resource.group} were not checked: this user may not list them (nothing to do where there are none)")
    return []
