# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The administration pages of a proxy that runs in a Pod, read through the API server: as `istioctl proxy-config` does it."""

from __future__ import annotations

from .client import Cluster
from .pods import PodError, run

CONTAINER = "istio-proxy"


def read_page(cluster: Cluster, namespace: str, name: str, path: str, *, container: str = CONTAINER, timeout: float = 30.0) -> bytes:
    """A page of Envoy's administration interface; raises PodError where it cannot be had."""
    ran = run(cluster, namespace, name, ["pilot-agent", "request", "GET", path], container=container, timeout=timeout)
    if ran.code:
        said = " ".join(ran.stderr.decode("utf-8", "replace").split())[:300]
        raise PodError(f"Pod {namespace}/{name}: its proxy did not answer ({said or f'exit code {ran.code}'})")
    return ran.stdout
