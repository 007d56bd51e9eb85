# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports that a gateway's proxies listen on, and those that istiod leaves out."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.istio.workload import (
    Workload,
    pod_port,
    services_of,
    skipped_ports,
    skipping_pods,
)


def service(ports: str, labels: str = "{}", selector: str = "{istio: gateway}", namespace: str = "istio-system") -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load(
        f"{{metadata: {{name: gw, namespace: {namespace}, labels: {labels}}}, spec: {{selector: {selector}, ports: {ports}}}}}"
    )
    return made


def workload(**more: Any) -> Workload:
    return Workload("istio-system", "gw-0", "default", {"istio": "gateway", "app": "gateway"}, **more)


UNTRANSLATED = "{experimental.istio.io/disable-gateway-port-translation: 'false'}"


@pytest.mark.parametrize(
    ("ports", "labels", "named", "expected"),
    [
        ("[{port: 443, targetPort: 8443}]", "{}", None, 8443),
        ("[{port: 443, targetPort: 443}]", "{}", None, 443),
        ("[{port: 443}]", "{}", None, 443),
        ("[{port: 8443, targetPort: 9443}]", "{}", None, 443),  # no such port: as it is
        ("[{port: 443, targetPort: 8443}]", UNTRANSLATED, None, 443),  # the label counts, whatever its value
        ("[{port: 443, targetPort: https}]", "{}", {"https": 8443}, 8443),
        ("[{port: 443, targetPort: https}]", "{}", {"http": 8080}, 443),  # no endpoint: istiod does not know that port
        ("[{port: 443, targetPort: https}]", "{}", None, "https"),
        ("[]", "{}", None, 443),
    ],
)
def test_pod_port(ports: str, labels: str, named: dict[str, int] | None, expected: int | str) -> None:
    assert pod_port(443, [service(ports, labels)], named) == expected


def test_pod_port_of_several_services() -> None:
    untranslated = service("[{port: 443, targetPort: 1443}]", UNTRANSLATED)
    assert pod_port(443, [untranslated, service("[{port: 443, targetPort: 2443}]"), service("[{port: 443, targetPort: 3443}]")]) == 2443
    assert pod_port(443, []) == 443


@pytest.mark.parametrize(
    ("more", "selected"),
    [
        ({}, True),
        ({"selector": "{istio: gateway, app: gateway}"}, True),
        ({"selector": "{istio: other}"}, False),
        ({"selector": "{}"}, False),  # endpoints made by hand
        ({"namespace": "elsewhere"}, False),
    ],
)
def test_services_of(more: dict[str, str], selected: bool) -> None:
    assert bool(services_of(workload(), [service("[]", **more)])) is selected


@pytest.mark.parametrize(
    ("target", "unprivileged", "skipped"),
    [
        ("443", True, True),
        ("1023", True, True),
        ("1024", True, False),
        ("8443", True, False),
        ("443", False, False),  # a sysctl or a capability lets it listen
        ("443", None, False),
        ("https", True, False),
    ],
)
def test_skipping_pods(target: str, unprivileged: bool | None, skipped: bool) -> None:
    pods = [workload(unprivileged=unprivileged)]
    assert [port for __, port in skipping_pods(443, pods, [service(f"[{{port: 443, targetPort: {target}}}]")])] == (
        [int(target)] if skipped else []
    )


def test_skipping_pods_by_name() -> None:
    pods = [workload(unprivileged=True, ports={"https": 443}), workload(unprivileged=True, ports={"https": 8443})]
    assert skipping_pods(8443, pods, [service("[{port: 8443, targetPort: https}]")]) == [(pods[0], 443)]


def test_skipped_ports_of_a_gateway() -> None:
    gateway = {"spec": {"servers": [{"port": {"number": number}} for number in (80, 443, 443, 8443)]}}
    pods = [workload(unprivileged=True), workload(unprivileged=True)]
    front = [service("[{port: 80, targetPort: 8080}, {port: 443}]")]
    (problem,) = skipped_ports(gateway, "servers[{}]".format, pods, front)
    assert (problem.code, problem.where, problem.severity) == ("privileged_target_port", "servers[1]", "warning")
    assert "the pod gw-0 and 1 more" in problem.message
    assert skipped_ports(gateway, str, [workload()], front) == []
    assert skipped_ports(gateway, str, pods, []) == [], "Services that may not be read say nothing"
