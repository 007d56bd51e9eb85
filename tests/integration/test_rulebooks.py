# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real ansible-rulebook with the rulebook of the collection: a certificate that is about to expire is renewed, rotated and proven, and nobody
touches anything. What it finds of the collection is what is installed: its process has no ansible_collections on Python's path."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from .conftest import ROOT, Mesh
from .event_source import until
from .test_event_source import DAY, Maker, gateway, kubeconfig, maker, write

__all__ = ["kubeconfig", "maker"]  # fixtures

VENV = ROOT / ".venv-events"
PATIENCE = 420.0
"""Seconds: Java starts, and a playbook runs."""
INGRESS = "http://127.0.0.1:15100"
pytestmark = pytest.mark.skipif(shutil.which("java") is None, reason="ansible-rulebook needs Java: tools/extras.sh installs it")


@contextmanager
def rulebook(mesh: Mesh, name: str, directory: Path, variables: dict[str, Any]) -> Iterator[Path]:
    """ansible-rulebook at work with the operator's login for its playbooks; the log of its output."""
    host = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    inventory, given, log = directory / "inventory.yml", directory / "variables.yml", directory / "log"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {"mesh": {**host, **variables}, "elsewhere": {"ansible_connection": "local"}}}}))
    given.write_text(yaml.safe_dump(variables))
    environment = mesh.env("operator", VENV)
    environment.pop("PYTHONPATH", None)
    command = [VENV / "bin" / "ansible-rulebook", "--rulebook", name, "--inventory", inventory, "--vars", given, "--print-events"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield log
        assert process.poll() is None, log.read_text()
    finally:
        for number, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 20)):
            if process.poll() is None:
                os.killpg(process.pid, number)  # its playbooks are of its group, and of no other
                try:
                    process.wait(seconds)
                except subprocess.TimeoutExpired:
                    continue


def wait(log: Path) -> None:
    """For the end of the playbook that the rulebook starts."""
    until(lambda: "PLAY RECAP" in log.read_text(), lambda: log.read_text()[-8000:], PATIENCE)


def certificate(mesh: Mesh, name: str) -> str:
    found = mesh.get("secret", "istio-system", name)
    assert found
    return b64decode(found["data"]["tls.crt"]).decode()


def test_a_certificate_that_expires_is_renewed_by_itself(mesh: Mesh, kubeconfig: str, maker: Maker, tmp_path: Path) -> None:
    write(mesh, maker.secret("shop", age=80 * DAY), maker.secret("other", age=80 * DAY), gateway(maker, "shop"))
    before = certificate(mesh, maker.name("shop")), certificate(mesh, maker.name("other"))
    (tmp_path / "evidence").mkdir()
    pki = {"name": "server", "authority": "root", "subject": {"CN": "s"}, "key_type": "ECC", "sans": [f"DNS:{maker.host('shop')}"]}
    source = {"source": "pki", "pki_certificate": "server"}
    variables = {
        "gateway_tls_kubeconfig": kubeconfig,
        "gateway_tls_hosts": ["mesh"],
        "gateway_tls_credentials": [maker.name("shop")],
        "gateway_tls_renew_state": str(tmp_path / "state.json"),
        # both are due, and the event is about one of them
        "renewal_credentials": [{"name": maker.name(what), **source, "hosts": [maker.host(what)]} for what in ("shop", "other")],
        "renewal_directory": str(tmp_path / "renewal"),
        "renewal_admin_urls": [INGRESS],
        "renewal_addresses": [mesh.environment["INGRESS_HOST"]],
        "renewal_evidence_directory": str(tmp_path / "evidence"),
        "pki_directory": str(tmp_path / "pki"),
        "pki_authorities": [{"name": "root", "subject": {"CN": "root"}, "key_type": "ECC"}],
        "pki_certificates": [pki],
    }
    evidence = tmp_path / "evidence" / f"istio-system.{maker.name('shop')}.json"
    with rulebook(mesh, "meshops.istio.renew", tmp_path, variables) as log:
        wait(log)
    assert evidence.exists(), log.read_text()
    said = log.read_text()
    assert said.count("PLAY RECAP") == 1 and "failed=0" in said and "elsewhere" not in said.partition("PLAY RECAP")[2], said
    after = certificate(mesh, maker.name("shop"))
    new, old = (x509.load_pem_x509_certificate(one.encode()) for one in (after, before[0]))
    assert after == (tmp_path / "pki" / "server.crt").read_text() and new.not_valid_after_utc - old.not_valid_after_utc > timedelta(days=30)
    assert certificate(mesh, maker.name("other")) == before[1]
    proven = json.loads(evidence.read_text())
    assert INGRESS in json.dumps(proven) and maker.host("shop") in json.dumps(proven)
    assert "PRIVATE KEY" not in said and not any(key in said for key in maker.keys)


def test_what_is_missing_is_diagnosed_and_two_minutes_later_reported(mesh: Mesh, kubeconfig: str, maker: Maker, tmp_path: Path) -> None:
    """By two rulebooks at once, so that the minutes are not waited for alone."""
    write(mesh, gateway(maker, "missing"))
    variables = {
        "gateway_tls_kubeconfig": kubeconfig,
        "gateway_tls_hosts": ["mesh"],
        "gateway_tls_credentials": [f"{maker.mark}-*"],
        "gateway_tls_addresses": [mesh.environment["INGRESS_HOST"]],
        "gateway_tls_settle": "1s",
    }
    diagnosis = {"diagnose_handshakes": False, "diagnose_proxies": False}
    report = {
        "report_handshakes": False,
        "report_proxies": False,
        "report_directory": str(tmp_path / "written"),
        "report_formats": ["json"],
    }
    places = {name: tmp_path / name for name in ("diagnose", "report")}
    for place in places.values():
        place.mkdir()
    with (
        rulebook(mesh, "meshops.istio.report", places["report"], variables | report) as later,
        rulebook(mesh, "meshops.istio.diagnose", places["diagnose"], variables | diagnosis) as soon,
    ):
        wait(soon)
        assert "[credential_missing]" in soon.read_text() and maker.name("missing") in soon.read_text(), soon.read_text()
        wait(later)
    said = later.read_text()
    assert said.count("PLAY RECAP") == 1 and "failed=0" in said, said
    # the inventory's other host is no cluster of this source
    assert "elsewhere" not in said.partition("PLAY RECAP")[2], said
    (cluster,) = json.loads((tmp_path / "written" / "report.json").read_text())["clusters"]
    found = [one for one in cluster["findings"] if one["code"] == "credential_missing"]
    assert cluster["name"] == "mesh" and any(maker.name("missing") in text for one in found for text in one["evidence"])
