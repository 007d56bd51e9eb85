# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CRDs of the Gateway API, which the sandbox has for some tests only."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("gatewayclasses", "gateways", "listenersets", "referencegrants", "httproutes", "backendtlspolicies")


@contextmanager
def installed(kubectl: Callable[..., str]) -> Iterator[None]:
    """They are there for the time of it, and istiod's class with them."""
    words = ["go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api"]
    found = subprocess.run(words, cwd=ROOT / "sandbox" / "programs", text=True, capture_output=True, check=True)
    crds = Path(found.stdout.strip()) / "config" / "crd" / "standard"
    files = [f"-f={crds / f'gateway.networking.k8s.io_{kind}.yaml'}" for kind in KINDS]
    kubectl("apply", "--server-side", *files)
    kubectl("wait", "--for=condition=Established", *files)
    # istiod makes its class when it meets the CRDs for the first time only
    metadata, spec = {"name": "istio"}, {"controllerName": "istio.io/gateway-controller"}
    made = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": metadata, "spec": spec}
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(made))
    try:
        _wait_for_istiod(kubectl)
        yield
    finally:
        kubectl("delete", "--wait=true", *files)


def _wait_for_istiod(kubectl: Callable[..., str]) -> None:
    """Where the CRDs were there before and went, it takes istiod a while to watch them again."""
    address = {"type": "Hostname", "value": "istio-ingressgateway.istio-system.svc.cluster.local"}  # without one it would deploy a gateway
    listener = {"name": "one", "port": 80, "protocol": "HTTP", "hostname": "seen-by-istiod.example.com"}
    spec = {"gatewayClassName": "istio", "addresses": [address], "listeners": [listener]}
    metadata = {"name": "seen-by-istiod", "namespace": "istio-system"}
    gateway = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata, "spec": spec}
    place = ("gateways.gateway.networking.k8s.io/seen-by-istiod", "-n", "istio-system")
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(gateway))
    kubectl("wait", "--for=condition=Accepted", "--timeout=55s", *place)
    kubectl("delete", *place)
