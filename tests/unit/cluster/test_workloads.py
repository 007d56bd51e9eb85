# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read from a Pod or a WorkloadEntry."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.istio.workload import workload_of


def item(spec: str, kind: str = "Pod") -> dict[str, Any]:
    return {
        "kind": kind,
        "metadata": {"namespace": "istio-system", "name": "gw-0", "labels": {"istio": "gateway"}},
        "spec": yaml.safe_load(spec),
    }


@pytest.mark.parametrize(
    ("spec", "unprivileged"),
    [
        ("{containers: [{name: istio-proxy}]}", False),
        ("{containers: [{name: istio-proxy, env: [{name: ISTIO_META_UNPRIVILEGED_POD, value: 'true'}]}]}", True),
        ("{containers: [{name: istio-proxy, env: [{name: ISTIO_META_UNPRIVILEGED_POD, value: '1'}]}]}", True),
        ("{containers: [{name: istio-proxy, env: [{name: ISTIO_META_UNPRIVILEGED_POD, value: 'false'}]}]}", False),
        ("{containers: [{name: istio-proxy, env: [{name: ISTIO_META_UNPRIVILEGED_POD, value: 'yes'}]}]}", False),
        ("{containers: [{name: istio-proxy, env: [{name: ISTIO_META_UNPRIVILEGED_POD}]}]}", False),
        ("{containers: [{name: istio-proxy, env: [{name: ISTIO_META_UNPRIVILEGED_POD, valueFrom: {fieldRef: {}}}]}]}", None),
        ("{containers: [{name: istio-proxy, envFrom: [{configMapRef: {name: x}}]}]}", None),
        ("{containers: [{name: app, env: [{name: ISTIO_META_UNPRIVILEGED_POD, value: 'true'}]}, {name: istio-proxy}]}", False),
        (
            "{containers: [{name: app}], initContainers: [{name: istio-proxy, restartPolicy: Always, "
            "env: [{name: ISTIO_META_UNPRIVILEGED_POD, value: 'true'}]}]}",
            True,
        ),
    ],
)
def test_unprivileged(spec: str, unprivileged: bool | None) -> None:
    assert workload_of(item(spec)).unprivileged is unprivileged


def test_named_ports() -> None:
    spec = "{containers: [{name: a, ports: [{name: https, containerPort: 8443}, {containerPort: 1}]}, {name: b, ports: [{name: https, containerPort: 2}]}]}"
    assert workload_of(item(spec)).ports == {"https": 8443}  # the first counts, as for the endpoints
    assert workload_of(item("{ports: {https: 8443}}", "WorkloadEntry")).ports == {"https": 8443}
    assert workload_of(item("{}", "WorkloadEntry")).unprivileged is None
