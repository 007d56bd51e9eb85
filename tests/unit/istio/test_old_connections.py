# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The change that means the same, and what proxies say about connections. That Envoy ends connections by it is in tests/integration."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.old_connections import (
    changed_gateway,
    changed_rule,
    counted,
    read_configuration,
    upstream_connections,
)


def gateway(*servers: dict[str, Any]) -> dict[str, Any]:
    return {
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [{"hosts": [f"{n}"], "tls": tls} for n, tls in enumerate(servers)]}
    }


@pytest.mark.parametrize(
    ("tls", "changed"),
    [
        ({}, {"maxProtocolVersion": "TLSV1_3"}),
        ({"maxProtocolVersion": "TLS_AUTO"}, {"maxProtocolVersion": "TLSV1_3"}),
        ({"maxProtocolVersion": "TLSV1_3"}, {}),
        ({"maxProtocolVersion": "TLSV1_2"}, {"maxProtocolVersion": "TLSV1_2", "minProtocolVersion": "TLSV1_2"}),
        ({"maxProtocolVersion": "TLSV1_2", "minProtocolVersion": "TLSV1_2"}, {"maxProtocolVersion": "TLSV1_2"}),
        ({"minProtocolVersion": "TLSV1_3"}, {"minProtocolVersion": "TLSV1_3", "maxProtocolVersion": "TLSV1_3"}),
    ],
)
def test_a_server_is_made_to_say_the_same_otherwise(tls: dict[str, Any], changed: dict[str, Any]) -> None:
    named = {"mode": "SIMPLE", "credentialName": "shop"}
    before = gateway({**named, **tls}, {"mode": "SIMPLE", "credentialName": "other"})
    after = changed_gateway(before, ["shop"])
    assert after == gateway({**named, **changed}, {"mode": "SIMPLE", "credentialName": "other"})["spec"]
    assert before == gateway({**named, **tls}, {"mode": "SIMPLE", "credentialName": "other"})


@pytest.mark.parametrize(
    ("tls", "name", "found"),
    [
        ({"credentialName": "istio-system/shop"}, "shop", True),
        ({"credentialNames": ["other", "shop"]}, "shop", True),
        ({"credentialName": "shop"}, "shop-cacert", True),  # a credential of CAs alone
        ({"credentialName": "web", "caCertCredentialName": "shop"}, "shop", True),
        ({"credentialName": "shopping"}, "shop", False),
        ({"credentialName": "shop", "maxProtocolVersion": "TLSV1_0", "minProtocolVersion": "TLSV1_0"}, "shop", False),
    ],
)
def test_servers_that_name_it(tls: dict[str, Any], name: str, found: bool) -> None:
    assert (changed_gateway(gateway(tls), [name]) is not None) is found


def test_a_server_of_two_credentials_is_changed_once() -> None:
    both = {"credentialNames": ["a", "b"]}
    assert changed_gateway(gateway(both), ["a", "b"]) == gateway({**both, "maxProtocolVersion": "TLSV1_3"})["spec"]


@pytest.mark.parametrize(
    ("pool", "changed"),
    [
        (None, {"tcp": {"connectTimeout": "10.001s"}}),
        ({"tcp": {"connectTimeout": "30ms"}}, {"tcp": {"connectTimeout": "0.031s"}}),
        (
            {"http": {"h2UpgradePolicy": "UPGRADE"}, "tcp": {"maxConnectionDuration": "60s"}},
            {"http": {"h2UpgradePolicy": "UPGRADE"}, "tcp": {"maxConnectionDuration": "60s", "connectTimeout": "10.001s"}},
        ),
    ],
)
def test_a_rule_connects_a_millisecond_longer(pool: Any, changed: dict[str, Any]) -> None:
    def rule(pool: Any) -> dict[str, Any]:
        settings = {"port": {"number": 443}, "tls": {"mode": "MUTUAL", "credentialName": "client"}}
        other = {"port": {"number": 8443}, "tls": {"mode": "MUTUAL", "credentialName": "other"}}
        both = [settings if pool is None else {**settings, "connectionPool": pool}, other]
        return {"spec": {"host": "h", "trafficPolicy": {"portLevelSettings": both}}}

    assert changed_rule(rule(pool), ["client"]) == rule(changed)["spec"]
    assert changed_rule(rule(pool), ["unknown"]) is None


def chain(sni: str, credential: str, **more: Any) -> dict[str, Any]:
    common = {"tls_certificate_sds_secret_configs": [{"name": f"kubernetes://{credential}"}], **more}
    return {"filter_chain_match": {"server_names": [sni]}, "transport_socket": {"typed_config": {"common_tls_context": common}}}


def test_what_a_proxy_is_configured_with_around_a_credential() -> None:
    def dump(**more: Any) -> bytes:
        chains = [chain("a", "shop", **more), chain("b", "shopping")]
        cluster = {"name": "outbound|443||h", "transport_socket": chain("", "istio-system/shop-cacert")["transport_socket"]}
        sections = [
            {"dynamic_listeners": [{"name": "l", "active_state": {"listener": {"filter_chains": chains}}}]},
            {"dynamic_active_clusters": [{"cluster": cluster}, {"cluster": {"name": "other"}}]},
        ]
        return json.dumps({"configs": sections}).encode()

    def around(page: bytes, name: str) -> dict[str, str]:
        return read_configuration(page).around(name)

    found = around(dump(), "shop")
    assert len(found) == 2 and "cluster outbound|443||h" in found
    assert found == around(dump(), "shop-cacert") != around(dump(tls_params={"max": 3}), "shop")
    assert around(dump(), "nothing") == around(b"no JSON", "shop") == {}


def test_connections_are_counted() -> None:
    hosts = [
        {"stats": [{"name": "cx_active", "value": "2", "type": "GAUGE"}, {"name": "cx_total", "value": "9"}]},
        {"stats": [{"name": "cx_active"}]},
    ]
    page = {"cluster_statuses": [{"name": "c", "host_statuses": hosts}, {"name": "d", "host_statuses": hosts}]}
    assert upstream_connections(json.dumps(page).encode(), {"c"}) == 2
    assert counted(b"listener_manager.total_filter_chains_draining: 1\nserver.total_connections: 7\n") == (7, 1)
    assert counted(b"") == (None, None)
