# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is behind an answer in Envoy's own name. The bodies are Envoy's; tests/integration asks a real one for those that can be made to happen."""

from __future__ import annotations

import re

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.live.envoy_answers import ANSWERS, cause

ITSELF = {"server": "istio-envoy"}
BEHIND = {"server": "istio-envoy", "x-envoy-upstream-service-time": "3"}
RESET = "upstream connect error or disconnect/reset before headers. "
LATEST = RESET + "retried and the latest reset reason: "
TLS = LATEST + "remote connection failure, transport failure reason: TLS_error:|268435581:SSL routines:OPENSSL_internal:"
NGINX = "<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>\r\n"
GO = "Client sent an HTTP request to an HTTPS server.\n"


@pytest.mark.parametrize(
    ("status", "headers", "body", "told"),
    [
        (403, ITSELF, "RBAC: access denied", "itself: an AuthorizationPolicy denies it"),
        (403, BEHIND, "RBAC: access denied", "The proxy of the workload behind it answered this: an AuthorizationPolicy"),
        (403, ITSELF, "", "CUSTOM"),
        (403, BEHIND, "", ""),
        (403, BEHIND, "You may not, says RBAC: access denied", ""),
        (401, ITSELF, "Jwt is missing", "RequestAuthentication"),
        (401, BEHIND, "who are you?", ""),
        (404, ITSELF, "", "no VirtualService"),
        (404, BEHIND, "", ""),
        (404, {"server": "nginx"}, "", ""),
        (413, ITSELF, "Payload Too Large", "body"),
        (421, ITSELF, "", "SNI"),
        (426, ITSELF, "Upgrade Required", "HTTP/1.0"),
        (429, ITSELF, "local_rate_limited", "rate limit"),
        (429, BEHIND, "slow down", ""),
        (431, ITSELF, "Request Header Fields Too Large", "60 KiB"),
        (502, ITSELF, "", "REGISTRY_ONLY"),
        (503, ITSELF, "", "no cluster"),
        (503, ITSELF, "no healthy upstream", "no endpoints that are ready"),
        (503, BEHIND, "no healthy upstream", "The proxy of the workload"),
        (503, ITSELF, LATEST + "remote connection failure", "refuses the connection"),
        (503, ITSELF, RESET + "reset reason: connection failure", "refuses the connection"),
        (503, ITSELF, LATEST + "delayed connect error: Connection refused", "refuses the connection"),
        (503, ITSELF, RESET + "reset reason: connection timeout", "in time"),
        (503, ITSELF, RESET + "reset reason: overflow", "circuit breaker"),
        (503, ITSELF, RESET + "reset reason: connection termination", "ended the connection"),
        (503, ITSELF, TLS + "CERTIFICATE_VERIFY_FAILED:TLS_error_end", "does not trust"),
        (503, ITSELF, TLS + "WRONG_VERSION_NUMBER:TLS_error_end", "speaks TLS to a destination that does not"),
        (503, ITSELF, TLS + "TLSV1_ALERT_UNKNOWN_CA:TLS_error_end", "which client certificate"),
        (
            503,
            ITSELF,
            RESET + "reset reason: connection failure, transport failure reason: TLS error: Secret is not supplied by SDS",
            "credential",
        ),
        (503, ITSELF, "something new", "destination"),
        (503, BEHIND, "maintenance", ""),
        (504, ITSELF, "upstream request timeout", "raise timeout"),
        (400, BEHIND, GO, "tls mode SIMPLE"),
        (400, BEHIND, NGINX, "tls mode SIMPLE"),
        (400, {}, GO, "use scheme https"),
        (400, {"server": "nginx"}, NGINX, "use scheme https"),
        (400, BEHIND, "missing parameter", ""),
        (301, {**ITSELF, "location": "https://a.example.com/"}, "", "httpsRedirect"),
        (301, {**BEHIND, "location": "https://a.example.com/"}, "", ""),
        (200, ITSELF, "", ""),
    ],
)
def test_causes(status: int, headers: dict[str, str], body: str, told: str) -> None:
    found = cause(status, headers, body, scheme="http")
    assert (told in found) if told else not found
    assert not found.endswith(".")


def test_the_table_is_in_order() -> None:
    """Every answer can be reached, and a body is looked for before any body is taken."""
    for number, answer in enumerate(ANSWERS):
        re.compile(answer.body or "")
        before = [each.body for each in ANSWERS[:number] if each.status == answer.status]
        assert None not in before and answer.body not in before
