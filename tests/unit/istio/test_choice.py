# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which DestinationRule istiod uses for a client: cases worked out from its source."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.choice import ANYWHERE, arrange, fqdn, is_shown, rule_for

HOST = "api.egress.svc.cluster.local"


def rule(where: str, host: str = HOST, created: int = 1, **spec: Any) -> dict[str, Any]:
    namespace, name = where.split("/")
    stamp = f"2026-01-01T00:00:{created:02}Z"
    return {
        "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": stamp},
        "spec": {"host": host, **spec},
    }


def chosen(viewer: str, *rules: dict[str, Any], labels: dict[str, str] | None = None) -> list[str]:
    merged = rule_for(arrange(rules, root_namespace="root"), viewer, HOST, "egress", labels)
    return [f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in merged.rules] if merged else []


@pytest.mark.parametrize(
    ("viewer", "rules", "expected"),
    [
        ("shop", [], []),
        # the client's namespace, then the service's, then the root's
        ("shop", [rule("shop/a"), rule("egress/b"), rule("root/c")], ["shop/a"]),
        ("shop", [rule("egress/b"), rule("root/c")], ["egress/b"]),
        ("shop", [rule("other/a"), rule("root/c")], ["root/c"]),
        ("shop", [rule("other/a")], []),
        (ANYWHERE, [rule("shop/a"), rule("egress/b")], ["egress/b"]),
        # a client's wildcard wins over the service's own rule; within a namespace the more specific host does
        ("shop", [rule("shop/all", "*.local"), rule("egress/b")], ["shop/all"]),
        ("shop", [rule("egress/all", "*.local"), rule("egress/b")], ["egress/b"]),
        ("shop", [rule("egress/far", "*.local"), rule("egress/near", "*.svc.cluster.local")], ["egress/near"]),
        # what is private to a namespace, or shown to another one
        ("shop", [rule("egress/b", exportTo=["."])], []),
        ("egress", [rule("egress/b", exportTo=["."])], ["egress/b"]),
        ("shop", [rule("egress/b", exportTo=["shop"])], ["egress/b"]),
        ("web", [rule("egress/b", exportTo=["shop"])], []),
        ("egress", [rule("egress/b", exportTo=["shop"])], []),
        # proxies of the root namespace look at its private rules first, and at its public ones last
        ("root", [rule("root/private", exportTo=["."]), rule("egress/b")], ["root/private"]),
        ("root", [rule("root/public"), rule("egress/b")], ["egress/b"]),
        # rules of one host, namespace and exportTo are merged, the oldest first
        ("shop", [rule("egress/new", created=2), rule("egress/old", created=1)], ["egress/old", "egress/new"]),
        # with another exportTo they stay apart, and the later one counts
        ("shop", [rule("egress/old"), rule("egress/new", created=2, exportTo=["*"])], ["egress/new"]),
        ("shop", [rule("egress/old", exportTo=["shop"]), rule("egress/new", created=2, exportTo=["web"])], ["egress/old"]),
        (
            "shop",
            [rule("egress/old", exportTo=["shop"]), rule("egress/new", created=2, exportTo=["shop", "web"])],
            ["egress/old", "egress/new"],
        ),
        # short names are Services of the rule's namespace
        ("shop", [rule("egress/b", "api")], ["egress/b"]),
        ("shop", [rule("shop/a", "api"), rule("egress/b")], ["egress/b"]),
    ],
)
def test_rule_for(viewer: str, rules: list[dict[str, Any]], expected: list[str]) -> None:
    assert chosen(viewer, *rules) == expected


def test_rules_for_some_workloads_come_first() -> None:
    selected = rule("egress/some", created=2, workloadSelector={"matchLabels": {"app": "gateway"}})
    assert chosen("egress", rule("egress/all"), selected, labels={"app": "gateway", "v": "1"}) == ["egress/some"]
    assert chosen("egress", rule("egress/all"), selected, labels={"app": "other"}) == ["egress/all"]
    assert chosen("shop", selected, labels={"app": "gateway"}) == []


def test_merged_settings() -> None:
    level = {"portLevelSettings": [{"port": {"number": 443}, "tls": {"mode": "SIMPLE"}}, {"port": {"number": 80}, "connectionPool": {}}]}
    rules = [
        rule("egress/old", subsets=[{"name": "a", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}, {"name": "plain"}]),
        rule(
            "egress/new",
            created=2,
            trafficPolicy={"tls": {"mode": "MUTUAL"}},
            subsets=[{"name": "a"}, {"name": "b", "trafficPolicy": level}],
        ),
        rule("egress/newest", created=3, trafficPolicy={"tls": {"mode": "ISTIO_MUTUAL"}}),
    ]
    merged = rule_for(arrange(rules, root_namespace="root"), "shop", HOST, "egress")
    assert merged is not None
    assert list(merged.subsets) == ["a", "plain", "b"]
    assert merged.policy_from is not None
    assert merged.policy_from["metadata"]["name"] == "new"
    assert [merged.tls(443, subset) for subset in (None, "a", "plain", "b")] == [
        {"mode": "MUTUAL"},
        {"mode": "DISABLE"},
        {"mode": "MUTUAL"},
        {"mode": "SIMPLE"},
    ]
    assert merged.tls(80, "b") is None  # settings of a port replace those of the whole, what they leave out included


@pytest.mark.parametrize(
    ("export_to", "viewer", "expected"),
    [
        (None, ANYWHERE, True),
        (["*"], ANYWHERE, True),
        (["."], ANYWHERE, False),
        (["."], "home", True),
        (["."], "shop", False),
        (["shop"], "shop", True),
        (["shop"], "home", False),
    ],
)
def test_is_shown(export_to: list[str] | None, viewer: str, expected: bool) -> None:
    manifest = {
        "kind": "ServiceEntry",
        "metadata": {"name": "x", "namespace": "home"},
        "spec": {"exportTo": export_to} if export_to else {},
    }
    assert is_shown(manifest, viewer) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [("api", "api.shop.svc.cluster.local"), ("API.example.com", "api.example.com"), ("*", "*"), ("192.0.2.1", "192.0.2.1"), ("::1", "::1")],
)
def test_fqdn(host: str, expected: str) -> None:
    assert fqdn(host, "shop") == expected
