# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records gateways' Deployments as a real API server keeps them, and what it makes of our applies to them, for test_mounts.py.

Against the sandbox: `. .sandbox/env && python tests/unit/istio/record_deployments.py`. Each gateway is made as its installer makes it, with
the installer's field manager; then mounts are applied one call after the other, the installer upgrades, and our part is taken back.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import Cluster, connect
from ansible_collections.meshops.istio.plugins.module_utils.istio.mount_arguments import from_arguments
from ansible_collections.meshops.istio.plugins.module_utils.istio.mounts import Change, plan, restoration
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import DEPLOYMENT
from ansible_collections.meshops.istio.plugins.module_utils.objects.ownership import FIELD_MANAGER

RECORDED = Path(__file__).parent / "data" / "gateway_deployments.json"
NAMESPACE = "recorded-deployments"
Manifest = dict[str, Any]

CLIENT = {"path": "/etc/nginx-client-certs", "secret": "nginx-client-certs"}
CA = {"path": "/etc/nginx-ca-certs", "secret": "nginx-ca-certs"}


def kubectl(*words: str, stdin: Any = None) -> str:
    text = json.dumps(stdin) if stdin is not None else None
    return subprocess.run(["kubectl", *words], input=text, text=True, check=True, stdout=subprocess.PIPE).stdout


def server_side(manager: str, manifest: Manifest) -> None:
    kubectl("apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "-f", "-", stdin=manifest)


# --- installers: make the Deployment, or (a second time) upgrade it


def istioctl(upgrade: bool) -> None:
    """`istioctl install` with an egress gateway."""
    words = ("istioctl", "manifest", "generate", "--set", "profile=demo", *(("--set", "tag=9.9.9") if upgrade else ()))
    printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    found = next(
        item
        for item in yaml.safe_load_all(printed)
        if item and item["kind"] == "Deployment" and item["metadata"]["name"] == "istio-egressgateway"
    )
    found["metadata"] |= {"namespace": NAMESPACE, "name": "gateway"}
    server_side("istio-operator", found)


def helm(upgrade: bool) -> None:
    """The chart `gateway` with its default values, and volumes of the user's; Helm 3 creates, and patches strategically."""
    container = {
        "name": "istio-proxy",
        "image": "auto",
        "securityContext": {
            "capabilities": {"drop": ["ALL"]},
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        },
        "ports": [{"containerPort": 15090, "protocol": "TCP", "name": "http-envoy-prom"}],
        "resources": {"limits": {"cpu": "2000m", "memory": "1024Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
        "volumeMounts": [{"name": "lua", "mountPath": "/etc/lua"}],
    }
    labels = {"sidecar.istio.io/inject": "true", "app": "gateway", "istio": "gateway", "app.kubernetes.io/name": "gateway"}
    manifest = {
        **deployment(labels),
        "spec": {
            "selector": {"matchLabels": {"app": "gateway", "istio": "gateway"}},
            "template": {
                "metadata": {"annotations": {"inject.istio.io/templates": "gateway"}, "labels": labels},
                "spec": {
                    "serviceAccountName": "gateway",
                    "securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]},
                    "volumes": [{"name": "lua", "configMap": {"name": "lua"}}],
                    "containers": [container],
                },
            },
        },
    }
    if not upgrade:
        kubectl("create", "--field-manager=helm", "-f", "-", stdin=manifest)
        return
    changes = {"spec": {"template": {"spec": {"containers": [{"name": "istio-proxy", "imagePullPolicy": "Never"}]}}}}
    kubectl("patch", "deployment", "gateway", "-n", NAMESPACE, "--field-manager=helm", "--type=strategic", "-p", json.dumps(changes))


def injection(upgrade: bool) -> None:
    """A Deployment of the user's own, `kubectl apply`, with nothing in it but `image: auto`: no volume, no mount."""
    template: Manifest = {
        "metadata": {"annotations": {"inject.istio.io/templates": "gateway"}, "labels": {"istio": "gateway"}},
        "spec": {"containers": [{"name": "istio-proxy", "image": "auto"}]},
    }
    if upgrade:
        template["spec"]["containers"][0]["imagePullPolicy"] = "Never"
    spec = {"replicas": 2, "selector": {"matchLabels": {"istio": "gateway"}}, "template": template}
    kubectl("apply", "-f", "-", stdin={**deployment({}), "spec": spec})


def by_hand(upgrade: bool) -> None:
    """Istio's walkthrough: `kubectl patch` puts one of the two mounts into the Deployment that istioctl made."""
    istioctl(upgrade)
    if upgrade:
        return
    base = "/spec/template/spec"
    patch = [
        {
            "op": "add",
            "path": f"{base}/containers/0/volumeMounts/0",
            "value": {"mountPath": CLIENT["path"], "name": CLIENT["secret"], "readOnly": True},
        },
        {
            "op": "add",
            "path": f"{base}/volumes/0",
            "value": {"name": CLIENT["secret"], "secret": {"secretName": CLIENT["secret"], "optional": True}},
        },
    ]
    kubectl("patch", "deployment", "gateway", "-n", NAMESPACE, "--type=json", "-p", json.dumps(patch))


def deployment(labels: Manifest) -> Manifest:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "gateway", "namespace": NAMESPACE, "labels": labels}}


INSTALLERS: dict[str, Callable[[bool], None]] = {"istioctl": istioctl, "helm": helm, "injection": injection, "by_hand": by_hand}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("mounted", {"mounts": [CLIENT, CA]}),
    ("added", {"mounts": [{"path": "/etc/partner", "secret": "partner.example.com", "mode": "0440", "optional": True}]}),
    ("one_removed", {"mounts": [{"path": CLIENT["path"]}], "state": "absent"}),
    ("upgraded", {}),
    ("removed", {"state": "absent"}),
]
"""What is done to each, one after the other; without arguments it is the installer's turn."""


def look() -> Manifest:
    found: Manifest = json.loads(kubectl("get", "deployment", "gateway", "-n", NAMESPACE, "-o", "json", "--show-managed-fields"))
    found.pop("status", None)
    for name in ("uid", "resourceVersion", "creationTimestamp", "annotations"):
        found["metadata"].pop(name, None)
    for entry in found["metadata"]["managedFields"]:
        entry.pop("time")
        _without(entry, "f:env")
    _without(found["spec"], "env")  # what nobody here looks at, and takes most of the room
    return found


def _without(value: Any, key: str) -> None:
    if isinstance(value, dict):
        value.pop(key, None)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _without(inner, key)


def record(cluster: Cluster, name: str, install: Callable[[bool], None]) -> dict[str, Any]:
    kubectl("delete", "deployment", "gateway", "-n", NAMESPACE, "--ignore-not-found")
    install(False)
    made: dict[str, Any] = {"name": name, "live": look(), "steps": []}
    previous = made["live"]
    for title, arguments in CALLS:
        change: Change | None = None
        if arguments:
            change = plan(previous, from_arguments(arguments), FIELD_MANAGER)
            cluster.apply(DEPLOYMENT, change.manifest)
        else:
            install(True)
        live = look()
        step = {"title": title, "arguments": arguments, "manifest": change.manifest if change else None, "live": live}
        if change:
            cluster.apply(DEPLOYMENT, restoration(previous, change.manifest, FIELD_MANAGER), force=True)
            step["restored"] = look()["spec"]["template"]
            cluster.apply(DEPLOYMENT, change.manifest)
        made["steps"].append(step)
        previous = look()
    return made


def main() -> None:
    kubectl("create", "namespace", NAMESPACE)
    try:
        recorded = [record(connect({}), name, install) for name, install in INSTALLERS.items()]
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    RECORDED.parent.mkdir(exist_ok=True)
    lines = [json.dumps(one, sort_keys=True, separators=(",", ":")) for one in recorded]
    RECORDED.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
