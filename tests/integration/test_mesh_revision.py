# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The meshConfig that counts is that of the gateway's revision, which a tag as `istioctl tag` makes it may stand for."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from .conftest import Mesh


def injector(revision: str) -> dict[str, Any]:
    """The webhook of a revision as its installation brings it, for pods of no namespace."""
    head = {"name": f"istio-sidecar-injector-{revision}", "labels": {"istio.io/rev": revision, "app": "sidecar-injector"}}
    webhook = {
        "name": "rev.namespace.sidecar-injector.istio.io",
        "clientConfig": {"service": {"name": f"istiod-{revision}", "namespace": "istio-system", "path": "/inject", "port": 443}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Ignore",
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        "namespaceSelector": {"matchLabels": {"meshops.istio/none": "none"}},
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": head,
        "webhooks": [webhook],
    }


@pytest.fixture
def revision(mesh: Mesh, namespace: str) -> Iterator[str]:
    """A revision whose istiod reads nothing of the test's namespace, as its meshConfig has it; its tag has the same name and `-tag`."""
    name = namespace
    selectors = {"discoverySelectors": [{"matchLabels": {"team": "none"}}]}
    head = {"name": f"istio-{name}", "namespace": "istio-system"}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": head, "data": {"mesh": yaml.safe_dump(selectors)}}
    words = ["istioctl", "tag", "generate", f"{name}-tag", f"--revision={name}"]
    mesh.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([config, injector(name)]))
    try:
        made = subprocess.run(words, env=mesh.env("admin"), text=True, capture_output=True, check=False, timeout=60)
        assert made.returncode == 0, made.stderr
        (tag,) = [one for one in yaml.safe_load_all(made.stdout) if one and one["kind"] == "MutatingWebhookConfiguration"]
        mesh.kubectl("apply", "-f", "-", stdin=json.dumps({**tag, "webhooks": []}))  # what it would inject has no istiod here
        yield name
    finally:
        mesh.kubectl("delete", "configmap", f"istio-{name}", "-n", "istio-system")
        mesh.kubectl(
            "delete",
            "mutatingwebhookconfigurations",
            f"istio-sidecar-injector-{name}",
            f"istio-revision-tag-{name}-tag",
            "--ignore-not-found",
        )


def told(mesh: Mesh, namespace: str) -> str:
    server = {"hosts": [f"{namespace}.example.com"], "credential_name": "none"}
    gateway = {"name": "shop", "namespace": namespace, "selector": {"app": namespace}, "servers": [server]}
    run = mesh.task("ingress_tls_gateway", gateway, "--check").ok()
    return str(run.results()[0].get("warnings"))


@pytest.mark.parametrize(
    ("label", "undiscovered"),
    [("", False), ("{name}", True), ("{name}-tag", True), ("default", False)],
    ids=["none", "revision", "tag", "default"],
)
def test_the_mesh_config_of_a_revision(mesh: Mesh, namespace: str, revision: str, label: str, undiscovered: bool) -> None:
    labels = {"app": namespace, **({"istio.io/rev": label.format(name=revision)} if label else {})}
    spec = {"address": "127.0.0.99", "labels": labels}
    entry = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": "gw", "namespace": namespace},
        "spec": spec,
    }
    mesh.kubectl("apply", "-f", "-", stdin=json.dumps(entry))
    assert ("namespace_not_discovered" in told(mesh, namespace)) is undiscovered


def test_a_namespace_names_the_revision_of_its_workloads(mesh: Mesh, namespace: str, revision: str) -> None:
    spec = {"address": "127.0.0.99", "labels": {"app": namespace}}
    entry = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": "gw", "namespace": namespace},
        "spec": spec,
    }
    mesh.kubectl("apply", "-f", "-", stdin=json.dumps(entry))
    assert "namespace_not_discovered" not in told(mesh, namespace)
    mesh.kubectl("label", "namespace", namespace, f"istio.io/rev={revision}-tag")
    assert "namespace_not_discovered" in told(mesh, namespace)
