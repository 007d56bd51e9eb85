# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gateways that Istio's Helm chart made today are no fault, whatever is asked of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.ingresses import check_gateway
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.originations import Checked, check_set
from ansible_collections.meshops.istio.plugins.module_utils.istio import egress_arguments, ingress_arguments
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress import gateway_manifest
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress_checks import problems
from ansible_collections.meshops.istio.plugins.module_utils.istio.snapshot import EVERYWHERE, snapshot_of
from ansible_collections.meshops.istio.plugins.module_utils.istio.workload import skipped_ports, skipping_pods, workload_of
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import (
    AUTHORIZATION_POLICY,
    DESTINATION_RULE,
    GATEWAY,
    POD,
    SECRET,
    SERVICE,
    SERVICE_ENTRY,
    SIDECAR,
    VIRTUAL_SERVICE,
    WORKLOAD_ENTRY,
)

ISTIO_KINDS = (AUTHORIZATION_POLICY, DESTINATION_RULE, GATEWAY, SERVICE_ENTRY, SIDECAR, VIRTUAL_SERVICE)
CHART = Path(__file__).parent / "data" / "helm_gateway.manifests"


def release(name: str) -> dict[str, dict[str, Any]]:
    """The chart's objects by kind, for the release istio-<name>."""
    return {item["kind"]: item for item in yaml.safe_load_all(CHART.read_text().replace("ingress", name))}


@pytest.mark.parametrize("port", [80, 443, 15021])
def test_istiod_skips_no_port(port: int) -> None:
    made = release("ingress")
    assert skipping_pods(port, [workload_of(made["Pod"])], [made["Service"]]) == []


def test_an_old_gateway_is_told_apart() -> None:
    made = release("ingress")
    made["Pod"]["spec"]["containers"][0]["env"].append({"name": "ISTIO_META_UNPRIVILEGED_POD", "value": "true"})
    assert skipping_pods(443, [workload_of(made["Pod"])], [made["Service"]])


def test_an_ingress_gateway() -> None:
    made = release("ingress")
    pod = workload_of(made["Pod"])
    server = {"hosts": ["shop.example.com"], "credential_name": "shop", "http_redirect": True}
    gateway = ingress_arguments.from_arguments({"name": "shop", "selector": {"istio": "ingress"}, "servers": [server]})
    assert problems(gateway) == ()
    kinds = (GATEWAY, POD, SERVICE)
    snapshot = snapshot_of([made["Pod"], made["Service"]], read={kind.key: EVERYWHERE for kind in kinds})
    assert check_gateway(gateway, snapshot) == ()
    assert skipped_ports(gateway_manifest(gateway), str, [pod], [made["Service"]]) == []


def test_an_egress_gateway() -> None:
    made = release("egressgateway")
    place = made["Service"]["metadata"]["namespace"]
    gateway = {"namespace": place, "service": made["Service"]["metadata"]["name"], "selector": {"istio": "egressgateway"}}
    service = {"name": "nginx", "host": "nginx.example.com", "credential_name": "client", "namespace": place, "gateway": gateway}
    account = made["Pod"]["spec"]["serviceAccountName"]
    secret = {
        "kind": "Secret",
        "metadata": {"name": "client", "namespace": place},
        "data": dict.fromkeys(("tls.crt", "tls.key", "ca.crt"), "eA=="),
    }
    kinds = (*ISTIO_KINDS, POD, SERVICE, SECRET, WORKLOAD_ENTRY)
    snapshot = snapshot_of(
        [made["Pod"], made["Service"], secret],
        read={kind.key: EVERYWHERE for kind in kinds},
        may_list_secrets={(place, account): True},
        mesh={},
    )
    found = check_set(egress_arguments.from_arguments(service), snapshot)
    assert found == Checked(())
