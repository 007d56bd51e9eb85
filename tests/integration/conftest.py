# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the integration tests share: the running sandbox, playbooks against it, its audit log, and certificates."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.sandbox import layout

from . import warm_ansible
from .gateway_api_crds import installed

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SANDBOX = layout.STATE
"""Of several workers each has a mesh of its own, in a network of its own: tools/own_mesh.py."""
WRITE_VERBS = ("create", "update", "patch", "delete", "deletecollection")


@dataclass
class Run:
    """One finished ansible-playbook."""

    code: int
    output: str
    records: list[dict[str, Any]]

    def results(self, action: str = "") -> list[dict[str, Any]]:
        """The results of all tasks that were not skipped, or of one module's, in order."""
        ran = [record for record in self.records if record["status"] != "skipped"]
        return [record["result"] for record in ran if action in ("", record["action"].rpartition(".")[2])]

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [record["result"] for record in self.records if record["status"] == "failed"]

    @property
    def changed(self) -> list[str]:
        """The names of the tasks that changed something."""
        return [record["task"] for record in self.records if record["status"] == "ok" and record["result"].get("changed")]

    def ok(self) -> Run:
        assert self.code == 0, self.output
        return self


@dataclass
class Mesh:
    """The sandbox, as `. .sandbox/env` gives it to a user."""

    environment: dict[str, str]
    scratch: Path
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(10**6)))

    def env(self, login: str = "admin", venv: Path | None = None) -> dict[str, str]:
        """`login` is `admin`, `operator`, or the path of a kubeconfig; `venv` another virtual environment than .venv."""
        env = dict(self.environment)
        if login != "admin":
            env["KUBECONFIG"] = env["OPERATOR_KUBECONFIG"] if login == "operator" else login
        if venv:
            env["PATH"] = f"{venv / 'bin'}:{env['PATH']}"
            env["ANSIBLE_COLLECTIONS_PATH"] = str(venv / "collections")
            env["ANSIBLE_PYTHON_INTERPRETER"] = str(venv / "bin" / "python")
        return env

    def playbook(
        self, what: Path | str | list[Any], *arguments: str, login: str = "operator", venv: Path | None = None, **environment: str
    ) -> Run:
        """Runs a playbook: a path in the repository, or a list of tasks for the one host of the sandbox's inventory."""
        number = next(self.numbers)
        record = self.scratch / f"record-{number}.jsonl"
        if isinstance(what, list):
            path = self.scratch / f"playbook-{number}.yml"
            path.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": what}], width=10**6))
        else:
            path = ROOT / what
        env = {
            **self.env(login, venv),
            "MESHOPS_RECORD": str(record),
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "record",
            "ANSIBLE_NOCOLOR": "1",
            **environment,
        }
        done = warm_ansible.run(["ansible-playbook", str(path), *arguments], env, self.scratch, 600)
        lines = record.read_text().splitlines() if record.exists() else []
        return Run(done.returncode, done.output, [json.loads(line) for line in lines])

    def task(self, module: str, arguments: dict[str, Any], *flags: str, **more: Any) -> Run:
        """Runs one task."""
        return self.playbook([{f"meshops.istio.{module}": arguments}], *flags, **more)

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True, login: str = "admin") -> str:
        done = subprocess.run(
            ["kubectl", *arguments], env=self.env(login), input=stdin, text=True, capture_output=True, timeout=60, check=False
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout if check else done.stdout + done.stderr

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        found = self.kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found", "--show-managed-fields")
        return json.loads(found) if found else None

    @property
    def audit_log(self) -> Path:
        return layout.AUDIT_LOG

    def audit_mark(self) -> int:
        return self.audit_log.stat().st_size

    def requests_since(self, mark: int, user: str = "") -> list[dict[str, Any]]:
        """Audit events after a mark, dry runs left out; of one user where given (a part of the name)."""
        time.sleep(0.3)  # the log is written in batches
        with self.audit_log.open("rb") as file:
            file.seek(mark)
            events = [json.loads(line) for line in file if line.endswith(b"\n")]
        return [event for event in events if user in event["user"]["username"] and "dryRun" not in event["requestURI"]]

    def writes_since(self, mark: int, user: str = "meshops-operator") -> list[str]:
        return [
            f"{event['verb']} {event['objectRef']['resource']} {event['objectRef'].get('name', '')}"
            for event in self.requests_since(mark, user)
            if event["verb"] in WRITE_VERBS
            and event.get("objectRef", {}).get("resource") not in ("selfsubjectaccessreviews", "subjectaccessreviews")
        ]


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    script = layout.ENV
    assert script.is_file(), "the sandbox does not run: make sandbox"
    printed = subprocess.run(["bash", "-c", '. "$0" && env -0', str(script)], capture_output=True, check=True, env=os.environ.copy())
    environment = dict(line.split("=", 1) for line in printed.stdout.decode().split("\0") if "=" in line)
    return Mesh(environment, tmp_path_factory.mktemp("playbooks"))


@pytest.fixture
def short_path() -> Iterator[Path]:
    """For TMPDIR: ansible-core keeps a socket there, whose path has 107 bytes at most (unix(7)), and `tmp_path` may have 80 of them."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def gateway_api(mesh: Mesh) -> Iterator[None]:
    """The CRDs of the Gateway API, for the time of a module's tests."""
    with installed(mesh.kubectl):
        yield


@pytest.fixture
def namespace(mesh: Mesh) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    mesh.kubectl("create", "namespace", name)
    yield name
    mesh.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def credential_name(mesh: Mesh) -> Iterator[str]:
    """The name of a credential in istio-system (where the operator may write), gone after the test."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    yield name
    mesh.kubectl("delete", "secret", name, f"{name}-cacert", "-n", "istio-system", "--ignore-not-found")


@dataclass(frozen=True)
class Pair:
    """A certificate with its key, as files and as text."""

    certificate_path: Path
    private_key_path: Path
    ca_path: Path

    @property
    def certificate(self) -> str:
        return self.certificate_path.read_text()

    @property
    def private_key(self) -> str:
        return self.private_key_path.read_text()

    @property
    def ca(self) -> str:
        return self.ca_path.read_text()

    @property
    def paths(self) -> dict[str, str]:
        """As arguments of istio_tls_credential."""
        return {"certificate_path": str(self.certificate_path), "private_key_path": str(self.private_key_path)}


@pytest.fixture(scope="session")
def issue(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pair]:
    """Issues a pair for some hosts, by the CA of that name (made when first named)."""
    import trustme

    directory = tmp_path_factory.mktemp("pki")
    authorities: dict[str, trustme.CA] = {}
    numbers = iter(range(10**6))

    def make(*hosts: str, ca: str = "default") -> Pair:
        authority = authorities.setdefault(ca, trustme.CA(organization_name=ca))
        number = next(numbers)
        leaf = authority.issue_cert(*(hosts or ("test.example.com",)))
        pair = Pair(directory / f"{number}.crt", directory / f"{number}.key", directory / f"ca-{ca}.crt")
        pair.certificate_path.write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
        pair.private_key_path.write_bytes(leaf.private_key_pem.bytes())
        pair.ca_path.write_bytes(authority.cert_pem.bytes())
        return pair

    return make
