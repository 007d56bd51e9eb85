# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is around a credential's Secret in a real API server: objects of the Gateway API that use it, and what kubectl and others left in it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import ROOT, Mesh, Pair

Issue = Callable[..., Pair]
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@pytest.fixture
def gateway_api(mesh: Mesh) -> Iterator[None]:
    """The CRDs of the Gateway API, for the time of a test."""
    found = subprocess.run(
        ["go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api"],
        cwd=ROOT / "sandbox" / "programs",
        text=True,
        capture_output=True,
        check=True,
    )
    crds = Path(found.stdout.strip()) / "config" / "crd" / "standard"
    files = [f"-f={crds / f'gateway.networking.k8s.io_{kind}.yaml'}" for kind in ("gatewayclasses", "gateways", "listenersets")]
    mesh.kubectl("apply", "--server-side", *files)
    mesh.kubectl("wait", "--for=condition=Established", *files)
    yield
    mesh.kubectl("delete", "--wait=true", *files)


def test_a_listener_of_the_gateway_api_uses_a_credential(mesh: Mesh, issue: Issue, namespace: str, gateway_api: None) -> None:
    listener = {
        "name": "https",
        "port": 443,
        "protocol": "HTTPS",
        "hostname": "a.example.com",
        "tls": {"certificateRefs": [{"name": "shop"}]},
    }
    manifest = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "listening", "namespace": namespace},
        "spec": {
            "gatewayClassName": "istio",
            "addresses": [{"type": "Hostname", "value": f"none.{namespace}.svc.cluster.local"}],
            "listeners": [listener],
        },
    }
    mesh.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    arguments = {"name": "shop", "namespace": namespace}
    run = mesh.playbook(
        [
            {"meshops.istio.istio_tls_credential": {**arguments, **issue("a.example.com").paths}},
            {"meshops.istio.istio_tls_credential_info": arguments},
            {"meshops.istio.istio_tls_credential": {**arguments, "state": "absent"}},
        ],
        login="admin",
    ).ok()
    (use,) = run.results()[1]["credentials"][0]["used_by"]
    assert (use["group"], use["name"], use["field"]) == (
        "gateway.networking.k8s.io",
        "listening",
        "spec.listeners[0].tls.certificateRefs[0]",
    )
    assert "still_used" in run.output and "closes the listeners" in " ".join(run.output.split())


def test_kubectls_annotation_goes_with_the_old_key(mesh: Mesh, issue: Issue, namespace: str) -> None:
    old, new = issue(), issue()
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "shop", "namespace": namespace},
        "stringData": {"tls.crt": old.certificate, "tls.key": old.private_key},
    }
    mesh.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    arguments = {"name": "shop", "namespace": namespace, **new.paths, "force_conflicts": True}
    run = mesh.playbook([{"meshops.istio.istio_tls_credential": arguments}] * 2, login="admin").ok()
    assert [result["changed"] for result in run.results()] == [True, False]
    metadata = mesh.get("secret", namespace, "shop")["metadata"]
    assert LAST_APPLIED not in metadata.get("annotations", {})


def test_a_deletion_that_waits_is_told_and_keys_of_others_stay(mesh: Mesh, issue: Issue, namespace: str) -> None:
    arguments = {"name": "shop", "namespace": namespace}
    mesh.task("istio_tls_credential", {**arguments, **issue().paths}, login="admin").ok()
    mesh.kubectl("patch", "-n", namespace, "secret", "shop", "--type=merge", '-p={"data":{"extra":"eA=="}}')
    refused = mesh.task("istio_tls_credential", {**arguments, "state": "absent"}, login="admin")
    assert [problem["code"] for problem in refused.failed[0]["problems"]] == ["foreign_key"]
    mesh.kubectl("patch", "-n", namespace, "secret", "shop", "--type=merge", '-p={"metadata":{"finalizers":["sec.example/x"]}}')
    absent = {"meshops.istio.istio_tls_credential": {**arguments, "state": "absent", "force_conflicts": True}}
    run = mesh.playbook([absent] * 2, login="admin").ok()
    assert [result["changed"] for result in run.results()] == [True, False]
    assert run.output.count("waits_for_finalizers") >= 2
    mesh.kubectl("patch", "-n", namespace, "secret", "shop", "--type=merge", '-p={"metadata":{"finalizers":null}}')


def test_a_missing_namespace_is_found_out_before_the_first_write(mesh: Mesh, issue: Issue, namespace: str) -> None:
    pair = issue()
    places = (namespace, f"{namespace}-b", f"{namespace}-c")
    credentials = [{"name": "shop", "namespace": place, **pair.paths} for place in places]
    refused = mesh.task("istio_tls_credential", {"credentials": credentials}, login="admin")
    (problem,) = refused.failed[0]["problems"]
    assert problem["code"] == "namespace_missing" and all(place in problem["where"] for place in places[1:])
    assert mesh.get("secret", namespace, "shop") is None
