# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/report.yml on the sandbox with three faults at once, beside a cluster that nobody answers for."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from ansible_collections.meshops.istio.tests.unit.report.results import RIGHT, host

from .conftest import ROOT, Mesh, Run
from .spare import free_port
from .test_gateway_diagnose import ADMIN
from .test_rights import apply

WRITTEN = "meshops.istio.report : Write the report"
FORMATS = (".html", ".ics", ".json", ".junit.xml", ".md", ".prom", ".sarif")


@dataclass(frozen=True)
class Reported:
    """One run, and what it wrote."""

    run: Run
    directory: Path
    inventory: Path
    names: tuple[str, str, str]
    """Of the Gateways with a fault: no credential, an expired one, one for another host."""
    writes: list[str]
    keys: tuple[str, ...] = field(repr=False)

    @property
    def data(self) -> dict[str, Any]:
        return dict(json.loads((self.directory / "report.json").read_text()))

    @property
    def sandbox(self) -> dict[str, Any]:
        return next(one for one in self.data["clusters"] if one["name"] == "alive")

    def host(self, name: str) -> dict[str, Any]:
        (found,) = [one for one in self.sandbox["hosts"] if one["host"] == f"{name}.example.com"]
        return dict(found)


def gateway(name: str) -> list[dict[str, Any]]:
    place = {"name": name, "namespace": "istio-system"}
    port = {"number": 443, "name": f"https-{name}", "protocol": "HTTPS"}
    server = {"port": port, "hosts": [f"{name}.example.com"], "tls": {"mode": "SIMPLE", "credentialName": name}}
    route = {"destination": {"host": "httpbin.default.svc.cluster.local", "port": {"number": 8000}}}
    istio = "networking.istio.io/v1"
    return [
        {"apiVersion": istio, "kind": "Gateway", "metadata": place, "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]}},
        {
            "apiVersion": istio,
            "kind": "VirtualService",
            "metadata": place,
            "spec": {"hosts": [f"{name}.example.com"], "gateways": [name], "http": [{"route": [route]}]},
        },
    ]


def secret(name: str, leaf: trustme.LeafCert) -> dict[str, Any]:
    data = {"tls.crt": b"".join(part.bytes() for part in leaf.cert_chain_pems), "tls.key": leaf.private_key_pem.bytes()}
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "istio-system"}, "data": encoded}


def inventory_in(directory: Path, mesh: Mesh) -> Path:
    """The sandbox, and a cluster at whose address nothing listens."""
    config = yaml.safe_load(Path(mesh.environment["OPERATOR_KUBECONFIG"]).read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{free_port()}"
    (directory / "dead").write_text(yaml.safe_dump(config))
    logins = {"alive": mesh.environment["OPERATOR_KUBECONFIG"], "dead": str(directory / "dead")}
    hosts = {name: {"meshops_login": {"kubeconfig": path}} for name, path in logins.items()}
    inventory = directory / "inventory.yml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": {"ansible_connection": "local", "report_admin_urls": ADMIN}}}))
    return inventory


@pytest.fixture(scope="module")
def reported(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reported]:
    directory = tmp_path_factory.mktemp("report")
    mark = uuid.uuid4().hex[:8]
    names = (f"missing-{mark}", f"expired-{mark}", f"other-{mark}")
    ca, now = trustme.CA(), datetime.now(UTC)
    days = {"not_before": now - timedelta(days=90), "not_after": now - timedelta(days=1)}
    leaves = {names[1]: ca.issue_cert(f"{names[1]}.example.com", **days), names[2]: ca.issue_cert("elsewhere.example.org")}
    items = [*(item for name in names for item in gateway(name)), *(secret(name, leaf) for name, leaf in leaves.items())]
    apply(mesh, items)
    inventory = inventory_in(directory, mesh)
    try:
        audit = mesh.audit_mark()
        run = report(mesh, inventory, directory / "reports")
        writes = mesh.writes_since(audit)
        keys = tuple(leaf.private_key_pem.bytes().decode() for leaf in leaves.values())
        yield Reported(run, directory / "reports", inventory, names, writes, keys)
    finally:
        mesh.kubectl("delete", "gateways.networking.istio.io,virtualservices,secrets", "-n", "istio-system", "--ignore-not-found", *names)


def report(mesh: Mesh, inventory: Path | None, directory: Path, *arguments: str) -> Run:
    hosts = ("-i", str(inventory)) if inventory else ()
    return mesh.playbook("playbooks/report.yml", *hosts, "-e", f"report_directory={directory}", *arguments, login="/nonexistent")


def test_every_format_is_written_and_no_cluster(reported: Reported) -> None:
    reported.run.ok()
    assert sorted(path.name for path in reported.directory.iterdir()) == [f"report{suffix}" for suffix in FORMATS]
    assert reported.run.changed == [WRITTEN]
    assert reported.writes == []


def test_the_three_faults_are_told_once_each(reported: Reported) -> None:
    found = {
        one["code"]: one
        for one in reported.sandbox["findings"]
        if one["severity"] == "error" and any(name in text for name in reported.names for text in one["objects"])
    }
    assert found.keys() == {"credential_missing", "expired", "host_not_covered", "no_certificate_served"}
    assert found["no_certificate_served"]["explained_by"] == [found["credential_missing"]["id"]], "a symptom, and no problem of its own"


def test_every_way_breaks_at_its_certificate(reported: Reported) -> None:
    for name in reported.names:
        way = reported.host(name)
        assert way["state"] == "broken", name
        states = {stage["stage"]: stage["state"] for stage in way["stages"]}
        assert states.pop("credential") == "broken"
        assert states.pop("handshake") == ("broken" if name == reported.names[0] else "right")
        assert set(states.values()) == {"right"}, states


def test_the_dead_cluster_is_named(reported: Reported) -> None:
    (dead,) = [one for one in reported.data["clusters"] if one["name"] == "dead"]
    assert dead["state"] == "not_looked_at" and dead["error"].startswith("no answer from the API server at https://127.0.0.1:")
    page = (reported.directory / "report.html").read_text()
    assert "1 of 2 clusters was not looked at: dead." in page and all(f"{name}.example.com" in page for name in reported.names)


def test_it_is_as_the_schema_says(reported: Reported) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(json.loads((ROOT / "docs" / "report.schema.json").read_text())).validate(reported.data)


def test_the_expired_certificate_is_known_with_what_it_breaks(reported: Reported) -> None:
    (expired,) = [one for one in reported.data["certificates"] if one["hosts"] == [f"{reported.names[1]}.example.com"]]
    assert expired["state"] == "broken" and expired["days_left"] < 0
    assert expired["places"] == [{"cluster": "alive", "object": f"Secret istio-system/{reported.names[1]}", "role": "leaf"}]


def test_no_key_and_no_certificate_is_in_it(reported: Reported) -> None:
    texts = [path.read_text() for path in reported.directory.iterdir()] + [reported.run.output, str(reported.run.records)]
    lines = {line for key in reported.keys for line in key.splitlines() if len(line) > 40}
    for text in texts:
        assert not any(line in text for line in lines)
        assert "BEGIN CERTIFICATE" not in text and "PRIVATE KEY" not in text


def test_a_second_run_changes_nothing_and_check_mode_knows(mesh: Mesh, reported: Reported, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in reported.directory.iterdir()}
    foreseen = report(mesh, reported.inventory, reported.directory, "--check").ok()
    assert foreseen.changed == []
    assert {path.name: path.read_bytes() for path in reported.directory.iterdir()} == before
    assert report(mesh, reported.inventory, reported.directory).ok().changed == []
    elsewhere = report(mesh, reported.inventory, tmp_path / "new", "--check", "-e", "report_fail_on=error")
    assert elsewhere.changed == [WRITTEN] and not (tmp_path / "new").exists()
    assert len(elsewhere.failed) == 2, "the sandbox for its problems, the other because it was not looked at"


def test_the_next_report_tells_what_is_gone(mesh: Mesh, tmp_path: Path) -> None:
    """Of files, and with nothing of a cluster: the role keeps what it found."""
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    (manifests / "shop.yaml").write_text(yaml.safe_dump_all(host("shop", missing=True)))
    (manifests / "right.yaml").write_text(yaml.safe_dump_all(RIGHT))
    variables = {"report_paths": [str(manifests)], "report_results": str(tmp_path / "kept"), "report_formats": ["json", "metrics"]}
    words = ("-i", "a cluster,", "-e", json.dumps({**variables, "report_metrics_directory": str(tmp_path / "textfiles")}))

    def compared() -> Any:
        report(mesh, None, tmp_path / "reports", *words).ok()
        (cluster,) = json.loads((tmp_path / "reports" / "report.json").read_text())["clusters"]
        return cluster["compared"]

    assert compared() is None
    (manifests / "shop.yaml").unlink()
    found = compared()
    assert found["new"] == [] and "credential_missing" in {one["code"] for one in found["gone"]}
    assert [path.name for path in (tmp_path / "textfiles").iterdir()] == ["report.prom"]
