# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How pods reach the cluster's DNS, as its objects tell it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.istio.cluster_dns import cache_addresses, pod_ports

KUBE_DNS = {"k8s-app": "kube-dns"}


def service(ports: str, selector: str = "{k8s-app: kube-dns}") -> dict[str, Any]:
    return {"spec": {"selector": yaml.safe_load(selector), "ports": yaml.safe_load(ports)}}


@pytest.mark.parametrize(
    ("ports", "selector", "expected"),
    [
        (
            "[{port: 53, protocol: UDP, targetPort: 53}, {port: 53, protocol: TCP, targetPort: 53}]",
            "{k8s-app: kube-dns}",
            (("TCP", 53), ("UDP", 53)),
        ),
        ("[{port: 53, protocol: UDP, targetPort: 8053}]", "{k8s-app: kube-dns}", (("UDP", 8053),)),
        ("[{port: 53, protocol: UDP, targetPort: dns}]", "{k8s-app: kube-dns}", (("UDP", "dns"),)),
        ("[{port: 53, protocol: UDP}]", "{k8s-app: kube-dns}", (("UDP", 53),)),
        ("[{port: 53, protocol: UDP, targetPort: 5353}, {port: 9153, targetPort: 9153}]", "{k8s-app: kube-dns, x: y}", (("UDP", 5353),)),
        ("[{port: 9153, targetPort: 9153}]", "{k8s-app: kube-dns}", ()),
        ("[{port: 53, protocol: UDP, targetPort: 5353}]", "{app: other}", ()),
        ("[{port: 53, protocol: UDP, targetPort: 5353}]", "{}", ()),
    ],
)
def test_pod_ports(ports: str, selector: str, expected: tuple[tuple[str, int | str], ...]) -> None:
    assert pod_ports([service(ports, selector)], KUBE_DNS) == expected


def test_pod_ports_of_several_services() -> None:
    both = [service("[{port: 53, protocol: UDP, targetPort: 53}]"), service("[{port: 53, protocol: UDP, targetPort: 5353}]")]
    assert pod_ports(both, KUBE_DNS) == (("UDP", 53), ("UDP", 5353))


def daemon_set(*args: str) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"name": "node-cache", "args": list(args)}]}}}}


def corefile(text: str) -> dict[str, Any]:
    return {"data": {"Corefile": text}}


@pytest.mark.parametrize(
    ("cache", "config", "expected"),
    [
        (None, None, ()),
        (daemon_set("-localip", "169.254.20.10,10.96.0.10", "-conf", "/etc/Corefile"), None, ("169.254.20.10", "10.96.0.10")),
        (daemon_set("-localip=169.254.25.10"), None, ("169.254.25.10",)),
        (daemon_set("--localip", "fd00::10"), None, ("fd00::10",)),
        (daemon_set("-localip", "__PILLAR__LOCAL__DNS__"), None, ("169.254.20.10",)),
        (daemon_set("-localip"), None, ("169.254.20.10",)),
        (daemon_set(), None, ("169.254.20.10",)),
        (daemon_set(), corefile("cluster.local:53 {\n    bind 169.254.30.10 10.0.0.10\n}"), ("169.254.30.10", "10.0.0.10")),
        (None, corefile(".:53 {\n  forward . /etc/resolv.conf\n}"), ("169.254.20.10",)),
        ({}, {}, ("169.254.20.10",)),
    ],
)
def test_cache_addresses(cache: dict[str, Any] | None, config: dict[str, Any] | None, expected: tuple[str, ...]) -> None:
    assert cache_addresses(cache, config) == expected
