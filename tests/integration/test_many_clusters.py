# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One play against twenty clusters, ten at a time, one of which is dead: contexts of one kubeconfig, here with a namespace each."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import Mesh, Pair
from .spare import free_port

HOSTS = [f"cluster{number:02}" for number in range(20)]
DEAD = "cluster07"
ALIVE = [host for host in HOSTS if host != DEAD]
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)

TASKS = [
    {
        "meshops.istio.istio_tls_credential": {
            "kubeconfig": "{{ kubeconfig }}",
            "context": "{{ inventory_hostname }}",
            "namespace": "{{ namespace }}",
            "labels": {"cluster": "{{ inventory_hostname }}"},
            "credentials": [{"name": "one", "certificate_path": "{{ crt }}", "private_key_path": "{{ key }}"}],
        }
    },
    {
        "meshops.istio.ingress_tls_gateway": {
            "kubeconfig": "{{ kubeconfig }}",
            "context": "{{ inventory_hostname }}",
            "name": "fleet",
            "namespace": "{{ namespace }}",
            "selector": {"istio": "{{ inventory_hostname }}"},
            "servers": [{"hosts": ["{{ inventory_hostname }}.example.com"], "credential_name": "one"}],
        }
    },
]


@dataclass(frozen=True)
class Fleet:
    inventory: Path
    namespaces: dict[str, str]
    dead: str
    """The address at which nobody answers."""


@pytest.fixture
def fleet(mesh: Mesh, issue: Callable[..., Pair], tmp_path: Path) -> Iterator[Fleet]:
    config: dict[str, Any] = yaml.safe_load(Path(mesh.environment["KUBECONFIG"]).read_text())
    dead = f"https://127.0.0.1:{free_port()}"
    config["clusters"].append({"name": "dead", "cluster": {**config["clusters"][0]["cluster"], "server": dead}})
    user, cluster = config["users"][0]["name"], config["clusters"][0]["name"]
    config["contexts"] = [
        {"name": host, "context": {"cluster": "dead" if host == DEAD else cluster, "user": user, "namespace": "default"}} for host in HOSTS
    ]
    config["current-context"] = DEAD  # what forgets its context fails
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    kubeconfig.chmod(0o600)
    prefix = f"fleet-{uuid.uuid4().hex[:6]}"
    namespaces = {host: f"{prefix}-{host}" for host in HOSTS}
    made = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"test": prefix}}} for name in namespaces.values()
    ]
    mesh.kubectl("create", "-f", "-", stdin=yaml.safe_dump_all(made))
    inventory = tmp_path / "inventory.yml"
    hosts = {}
    for host in HOSTS:
        pair = issue(f"{host}.example.com")
        hosts[host] = {"namespace": namespaces[host], "crt": str(pair.certificate_path), "key": str(pair.private_key_path)}
    common = {"ansible_connection": "local", "kubeconfig": str(kubeconfig)}
    inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": common}}))
    yield Fleet(inventory, namespaces, dead)
    mesh.kubectl("delete", "namespace", "-l", f"test={prefix}", "--wait=false")


def recap(output: str) -> dict[str, tuple[int, ...]]:
    """host -> ok, changed, unreachable, failed."""
    return {match[1]: tuple(map(int, match.groups()[1:])) for match in RECAP.finditer(output)}


def test_nineteen_finish_and_the_dead_one_is_named(mesh: Mesh, fleet: Fleet) -> None:
    run = mesh.playbook(TASKS, "-i", str(fleet.inventory), "--forks", "10", login="/nonexistent")
    assert run.code == 2, "some hosts failed: that is what 2 says"
    assert recap(run.output) == {host: (0, 0, 0, 1) if host == DEAD else (2, 2, 0, 0) for host in HOSTS}
    (failure,) = run.failed
    assert [record["host"] for record in run.records if record["status"] == "failed"] == [DEAD]
    assert re.fullmatch(
        rf"no answer from the API server at {fleet.dead} after \d+ attempts \(Connection refused\); "
        "nothing listens there: check that it runs and that kubeconfig, context or host name the right cluster",
        failure["msg"],
    )
    assert failure["changed"] is False and "Traceback" not in str(failure)
    for host in ALIVE:
        name = fleet.namespaces[host]
        secret, gateway = mesh.get("secret", name, "one"), mesh.get("gateways.networking.istio.io", name, "fleet")
        assert secret and gateway, f"{host} was left out"
        assert secret["metadata"]["labels"]["cluster"] == host
        pem = base64.b64decode(secret["data"]["tls.crt"]).decode()
        assert pem.split() == Path(yaml.safe_load(fleet.inventory.read_text())["all"]["hosts"][host]["crt"]).read_text().split()
        assert gateway["spec"]["servers"][0]["hosts"] == [f"{host}.example.com"]
    assert mesh.get("secret", fleet.namespaces[DEAD], "one") is None

    again = mesh.playbook(TASKS, "-i", str(fleet.inventory), "--limit", f"cluster0*:!{DEAD}", "--forks", "10", login="/nonexistent").ok()
    assert recap(again.output) == {host: (2, 0, 0, 0) for host in ALIVE if host.startswith("cluster0")}
