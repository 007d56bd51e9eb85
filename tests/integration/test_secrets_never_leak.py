# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Canaries: key material given in every way, with everything that Ansible can print, in success and in failure."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Mesh, Pair, Run

Issue = Callable[..., Pair]
PASSPHRASE = "canary-passphrase-5f1c"


def canaries(*secrets: str) -> set[str]:
    """Every line of a key, and pieces of it as a Secret holds it."""
    found = set()
    for secret in secrets:
        lines = [line for line in secret.splitlines() if "-----" not in line]
        found |= {line for line in lines if len(line) >= 20}
        encoded = base64.b64encode(secret.encode()).decode()
        found |= {encoded[start : start + 40] for start in range(0, len(encoded) - 40, 40)}
    return found


def assert_silent(run: Run, kept: Iterable[Path], secrets: set[str]) -> None:
    assert secrets
    places = {"the output": run.output, "the results": str(run.records)}
    for directory in kept:
        places |= {str(path): path.read_text(errors="replace") for path in directory.rglob("*") if path.is_file()}
    for place, text in places.items():
        leaked = [secret for secret in secrets if secret in text]
        assert not leaked, f"{len(leaked)} pieces of a key in {place}"


def aside(value: Any, values: dict[str, str]) -> Any:
    """The tasks with every secret taken from a variable, as from a vault: ansible-core quotes a failing task's own lines in its errors."""
    if isinstance(value, dict):
        return {key: aside(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [aside(inner, values) for inner in value]
    if isinstance(value, str) and ("\n" in value or PASSPHRASE in value):
        name = f"value_{len(values)}"
        values[name] = value
        return f"{{{{ {name} }}}}"
    return value


@pytest.fixture
def quiet(mesh: Mesh, tmp_path: Path) -> Callable[..., Run]:
    """Runs tasks as loudly as Ansible can; every file that Ansible or a module makes lands in a directory that is searched afterwards."""

    def run(tasks: list[Any], secrets: set[str], *arguments: str) -> Run:
        left = tmp_path / "left"
        for name in ("local", "remote", "tmp"):
            (left / name).mkdir(parents=True, exist_ok=True)
        values: dict[str, str] = {}
        path = tmp_path / "values.json"
        tasks = aside(tasks, values)
        path.write_text(json.dumps(values))
        done = mesh.playbook(
            tasks,
            "-vvvv",
            "--diff",
            f"-e@{path}",
            *arguments,
            ANSIBLE_LOCAL_TEMP=str(left / "local"),
            ANSIBLE_REMOTE_TEMP=str(left / "remote"),
            TMPDIR=str(left / "tmp"),
        )
        assert_silent(done, [left], secrets)
        return done

    return run


def encrypted(pair: Pair, directory: Path) -> Path:
    path = directory / "encrypted.key"
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", str(pair.private_key_path), "-out", str(path), "-passout", f"pass:{PASSPHRASE}"],
        check=True,
        capture_output=True,
    )
    return path


def test_credential(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run], tmp_path: Path) -> None:
    one, two, three = issue(), issue(), issue()
    locked = encrypted(three, tmp_path)
    secrets = canaries(one.private_key, two.private_key, three.private_key, locked.read_text()) | {PASSPHRASE}
    content = {"certificate": two.certificate, "private_key": two.private_key}
    name = credential_name
    good = [
        {"name": name, **one.paths},
        {"name": name, **content},
        {"credentials": [{"name": name, **content}], "details": "all"},
        {"name": name, "certificate": three.certificate, "private_key": locked.read_text(), "private_key_passphrase": PASSPHRASE},
        {"name": name, "layout": "generic", "replace": True, **one.paths},
    ]
    run = quiet([{"meshops.istio.istio_tls_credential": arguments} for arguments in good], secrets)
    run.ok()
    quiet([{"meshops.istio.istio_tls_credential": {"name": name, "layout": "generic", **content}}], secrets, "--check").ok()
    quiet([{"meshops.istio.istio_tls_credential_info": {"name": name, "hosts": ["elsewhere.example.com"]}}], secrets).ok()


def test_failing_credential(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run], tmp_path: Path) -> None:
    one, two = issue(), issue()
    locked = encrypted(one, tmp_path).read_text()
    secrets = canaries(one.private_key, two.private_key, locked) | {PASSPHRASE}
    name = credential_name
    half = one.private_key[: len(one.private_key) // 2]
    bad: list[dict[str, Any]] = [
        {"name": name, "certificate": two.certificate, "private_key": one.private_key},  # does not match
        {"name": name, "certificate": one.private_key, "private_key": one.certificate},  # the wrong way round
        {"name": name, "certificate": one.certificate + one.private_key, "private_key": one.private_key},
        {"name": name, "certificate": one.certificate, "private_key": half},
        {"name": name, "certificate": one.certificate, "private_key": locked},
        {"name": name, "certificate": one.certificate, "private_key": locked, "private_key_passphrase": PASSPHRASE + "x"},
        {"name": name, "certificate_path": one.private_key, "private_key": one.private_key},  # content where a path belongs
        {"name": name, "certificate": one.certificate, "private_key_path": one.private_key},
        {"name": name, "pkcs12": one.private_key, "pkcs12_passphrase": PASSPHRASE},
        {"name": name, "crl": one.private_key, "ca_certificate": one.private_key},
        {"name": name, "unknown": 1, "certificate": one.certificate, "private_key": one.private_key},
        {"credentials": [{"name": name, "certificate": one.certificate, "private_key": one.private_key, "unknown": 1}]},
        {"credentials": [{"name": name, "certificate": two.certificate, "private_key": one.private_key}]},
        {
            "name": name,
            "certificate": one.certificate,
            "private_key": one.private_key,
            "host": "https://127.0.0.1:1",
            "api_key": PASSPHRASE,
        },
        {"name": name, "namespace": "no-such-namespace", "certificate": one.certificate, "private_key": one.private_key},
    ]
    tasks = [{"meshops.istio.istio_tls_credential": arguments, "ignore_errors": True} for arguments in bad]
    run = quiet(tasks, secrets)
    assert len(run.failed) == len(bad), run.output
    assert not any("Traceback" in str(result) for result in run.failed)
