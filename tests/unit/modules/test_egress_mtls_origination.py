# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What egress_mtls_origination decides by itself: which host is meant, and how a service's outcome is called."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.egress_arguments import from_arguments
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import GATEWAY
from ansible_collections.meshops.istio.plugins.module_utils.objects.plan import Plan, Unit
from ansible_collections.meshops.istio.plugins.modules.egress_mtls_origination import result, two_hosts


@pytest.mark.parametrize(
    ("given", "service", "api"),
    [
        ({"host": "a.example.com", "api_server": None}, "a.example.com", None),
        ({"host": "a.example.com", "api_server": "https://api:6443"}, "a.example.com", "https://api:6443"),
        ({"host": "https://api:6443", "api_server": None}, None, "https://api:6443"),
        ({"host": "https://other:6443", "api_server": "https://api:6443"}, None, "https://api:6443"),
        ({"name": "a", "state": "absent", "host": "https://api:6443", "api_server": None}, None, "https://api:6443"),
        ({"name": "a", "state": "present", "host": "https://a.example.com", "api_server": None}, "https://a.example.com", None),
        ({"host": None, "api_server": None}, None, None),
    ],
)
def test_the_service_s_host_is_never_taken_for_the_api_server(given: dict[str, Any], service: str | None, api: str | None) -> None:
    services, api_server = two_hosts(given)
    assert (services["host"], api_server) == (service, api)


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        (["unchanged", "unchanged"], "unchanged"),
        (["created", "created"], "created"),
        (["created", "unchanged"], "updated"),
        (["unchanged", "deleted"], "updated"),
        (["created", "deleted"], "updated"),
        (["deleted", "deleted"], "deleted"),
        ([], "unchanged"),
    ],
)
def test_the_outcome_of_a_service(actions: list[Any], expected: str) -> None:
    (one,) = from_arguments({"name": "nginx", "host": "nginx.example.com", "credential_name": "c"})
    unit = Unit(tuple(Plan(GATEWAY.ref("istio-system", f"g{index}"), action) for index, action in enumerate(actions)))
    shown = result(one, unit)
    assert shown["action"] == expected
    assert [change["action"] for change in shown.get("changes", [])] == [action for action in actions if action != "unchanged"]
