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
from cryptography.hazmat.primitives import serialization

from .conftest import ROOT, SANDBOX, Mesh, Pair, Run

Issue = Callable[..., Pair]
OLDEST = ROOT / ".venv-2.16"
PASSPHRASE = "canary-passphrase-5f1c"


def canaries(*secrets: str) -> set[str]:
    """Every line of a key, and pieces of it as a Secret holds it; but not what is its public key, with which some kinds of key end."""
    found = set()
    for secret in secrets:
        public = public_part(secret)
        lines = [line for line in secret.splitlines() if "-----" not in line and line not in public]
        found |= {line for line in lines if len(line) >= 20}
        encoded = base64.b64encode(secret.encode()).decode()
        found |= {encoded[start : start + 40] for start in range(0, len(encoded) - 40, 40)}
    return found


def public_part(pem: str) -> str:
    """The public key of a private one, in base64; nothing for what is none, or is encrypted."""
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError):
        return ""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(key.public_key().public_bytes(serialization.Encoding.DER, form)).decode()


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


@pytest.fixture(autouse=True, params=["true", "false"], ids=["in Ansible's process", "as a module"])
def way(request: pytest.FixtureRequest, mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mesh.environment, "MESHOPS_IN_PROCESS", request.param)


@pytest.fixture
def quiet(mesh: Mesh, tmp_path: Path, short_path: Path) -> Callable[..., Run]:
    """Runs tasks as loudly as Ansible can; every file that Ansible or a module makes lands in a directory that is searched afterwards."""

    def run(tasks: list[Any], secrets: set[str], *arguments: str, **more: str) -> Run:
        left = tmp_path / "left"
        for name in ("local", "remote"):
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
            TMPDIR=str(short_path),
            ANSIBLE_CACHE_PLUGIN="ansible.builtin.jsonfile",
            ANSIBLE_CACHE_PLUGIN_CONNECTION=str(left / "facts"),
            ANSIBLE_RETRY_FILES_ENABLED="1",
            ANSIBLE_RETRY_FILES_SAVE_PATH=str(left / "retry"),
            **more,
        )
        assert_silent(done, [left, short_path], secrets)
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


def test_rotation(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run], tmp_path: Path) -> None:
    """Proven, refused, gone back, revoked, and with its evidence in files: of no key, neither the new one nor the one that is kept for the way back."""
    host, evidence = "canary.example.com", tmp_path / "left" / "evidence.json"
    first, second, third, fourth = pairs = [issue(host) for __ in range(4)]
    secrets = canaries(*(pair.private_key for pair in pairs))
    server = {"hosts": [host], "mode": "SIMPLE", "credential_name": credential_name}
    gateway = {"name": credential_name, "namespace": "istio-system", "selector": {"istio": "ingressgateway"}}
    common = {"name": credential_name, "admin_urls": ["http://127.0.0.1:15100"], "proof_timeout": 30}
    wrong = {"host": host, "address": mesh.environment["INGRESS_HOST"], "verify": False, "expect": {"status": 200}, "timeout": 0}
    tasks: list[Any] = [
        {"meshops.istio.istio_tls_credential": {"name": credential_name, **first.paths}},
        {"meshops.istio.ingress_tls_gateway": {**gateway, "servers": [server]}},
        {
            "meshops.istio.istio_tls_credential": {
                **common,
                "certificate": first.certificate,
                "private_key": first.private_key,
                "prove": True,
            }
        },
        {"meshops.istio.istio_tls_rotation": {**common, **second.paths}, "check_mode": True},
        {"meshops.istio.istio_tls_rotation": {**common, "certificate": second.certificate, "private_key": second.private_key}},
        {"meshops.istio.istio_tls_rotation": {**common, **third.paths, "refused": [wrong]}, "ignore_errors": True},
        {
            "meshops.istio.istio_tls_rotation": {
                **common,
                **third.paths,
                "probes": [wrong],
                "refused": [{**wrong, "expect": None, "scheme": "http"}],
            },
            "ignore_errors": True,
        },
        {"meshops.istio.istio_tls_rotation": {**common, **fourth.paths, "revoke": True, "evidence": str(evidence)}},
        {"meshops.istio.ingress_tls_gateway": {**gateway, "state": "absent"}},
    ]
    run = quiet(tasks, secrets).ok()
    assert evidence.is_file() and "rotated and proven" in evidence.with_suffix(".txt").read_text()
    outcomes = [one["outcome"] for result in run.results("istio_tls_rotation") for one in result.get("rotations", [])]
    assert outcomes[0] == "planned" and outcomes[-1] == "rotated" and "rolled_back" in outcomes, outcomes


def test_failing_credential(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run], tmp_path: Path) -> None:
    one, two = issue(), issue()
    locked = encrypted(one, tmp_path).read_text()
    secrets = canaries(one.private_key, two.private_key, locked) | {PASSPHRASE}
    name = credential_name
    half = one.private_key[: len(one.private_key) // 2]
    bad: list[dict[str, Any]] = [
        {"name": name, "certificate": two.certificate, "private_key": one.private_key},  # does not match
        {"name": name, "certificate": one.private_key, "private_key": one.certificate},  # the wrong way round
        {"name": name, "certificate": one.certificate + two.private_key, "private_key": one.private_key},
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


def test_proxies(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run]) -> None:
    """Envoy holds the keys, and pages with certificates: neither is printed, and not even a certificate."""
    pair, host = issue("canary.example.com"), f"{credential_name}.example.com"
    server = {
        "hosts": [host],
        "credential_name": credential_name,
        "routes": [{"destination": {"host": "httpbin.default.svc.cluster.local"}}],
    }
    gateway = {"name": credential_name, "namespace": "istio-system", "servers": [server]}
    log = {"paths": [str(SANDBOX / "logs" / "istio-ingressgateway.log")], "since": "1h"}
    look = {"admin_urls": ["http://127.0.0.1:15100"], "access_log": log, "timeout": 20}
    tasks: list[dict[str, Any]] = [
        {"meshops.istio.istio_tls_credential": {"name": credential_name, **pair.paths}},
        {"meshops.istio.ingress_tls_gateway": gateway},
        {"meshops.istio.gateway_proxy_info": {**look, "expect": {"credentials": [{"name": credential_name}]}}},
        {"meshops.istio.gateway_proxy_info": {**look, "timeout": 0, "expect": {"credentials": [{"name": "nope"}], "rejected": False}}},
        {"meshops.istio.ingress_tls_gateway": {**gateway, "state": "absent", "servers": []}},
    ]
    run = quiet([{**task, "ignore_errors": True} for task in tasks], canaries(pair.private_key, pair.certificate))
    assert len(run.failed) == 1 and "nope" in run.failed[0]["msg"], run.output


def test_diagnosis_and_report(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run], tmp_path: Path) -> None:
    """Certificates are in neither, unless they are asked for; keys never."""
    pair, host = issue(f"{credential_name}.example.com"), f"{credential_name}.example.com"
    keys, everything = canaries(pair.private_key), canaries(pair.private_key, pair.certificate)
    saved, reports = tmp_path / "left" / "saved.json", tmp_path / "left" / "reports"
    look = {"survey": True, "save": str(saved), "explain": [host], "handshakes": True, "fail_on": "never"}
    written = {"clusters": [{"name": "canary", "result": str(saved)}], "directory": str(reports)}
    tasks = [{"meshops.istio.gateway_diagnose": look}, {"meshops.istio.gateway_report": written}]
    server = {"hosts": [host], "credential_name": credential_name}
    gateway = {"name": credential_name, "namespace": "istio-system", "servers": [server]}
    made = [{"meshops.istio.istio_tls_credential": {"name": credential_name, **pair.paths}}, {"meshops.istio.ingress_tls_gateway": gateway}]
    quiet(made, keys).ok()
    quiet(tasks, everything).ok()
    assert credential_name in (reports / "report.html").read_text()
    quiet([{"meshops.istio.gateway_diagnose": {**look, "certificate_content": True}}, tasks[1]], keys).ok()
    assert pair.certificate.splitlines()[1] in (reports / "report.html").read_text()
    quiet([{"meshops.istio.ingress_tls_gateway": {**gateway, "state": "absent", "servers": []}}], keys).ok()


# --- every other module


def gateway_with_route(name: str, host: str, **more: Any) -> dict[str, Any]:
    routes = [{"destination": {"host": "httpbin.default.svc.cluster.local"}}]
    return {"name": name, "namespace": "istio-system", "servers": [{"hosts": [host], "credential_name": name, "routes": routes}], **more}


def test_probe(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run], tmp_path: Path) -> None:
    """The client's key by path, as content and encrypted, a secret header and a body: to a gateway that answers, and in every failure."""
    served, client = issue("canary.example.com"), issue("client.example.com", ca="clients")
    locked = encrypted(client, tmp_path).read_text()
    secrets = canaries(served.private_key, client.private_key, locked) | {PASSPHRASE}
    address = {"address": mesh.environment["INGRESS_HOST"], "port": int(mesh.environment["SECURE_INGRESS_PORT"])}
    request = {"host": "canary.example.com", **address, "ca_certificate": served.ca}
    content = {"client_certificate": client.certificate, "client_private_key": client.private_key}
    header = {"secret_headers": {"Authorization": f"Bearer {PASSPHRASE}"}}
    good = [
        {"client_certificate_path": str(client.certificate_path), "client_private_key_path": str(client.private_key_path)},
        {**content, **header},
        {**content, "client_private_key": locked, "client_private_key_passphrase": PASSPHRASE},
    ]
    bad = [
        {**content, "client_private_key": served.private_key},  # does not match
        {**content, "client_private_key": locked, "client_private_key_passphrase": PASSPHRASE + "x"},
        {**content, "ca_certificate": client.private_key},
        {**content, "client_certificate": client.private_key},
        {**content, "client_private_key_path": client.private_key, "client_private_key": None},
        {**content, **header, "expect": {"status": 599}, "timeout": 0},
        {**content, **header, "port": 1, "expect": {"status": 200}, "timeout": 0},
        {**content, "expect": {"status": "x"}},
    ]
    tasks: list[dict[str, Any]] = [
        {"meshops.istio.istio_tls_credential": {"name": credential_name, **served.paths, "ca_certificate_path": str(client.ca_path)}},
        {
            "meshops.istio.ingress_tls_gateway": {
                **gateway_with_route(credential_name, "canary.example.com"),
                "servers": [
                    {**gateway_with_route(credential_name, "canary.example.com")["servers"][0], "mode": "MUTUAL"},
                ],
            }
        },
        *({"meshops.istio.tls_probe": {**request, **one, "expect": {"status": 200}, "timeout": 20}} for one in good),
        *({"meshops.istio.tls_probe": {**request, **one}, "ignore_errors": True} for one in bad),
        {"meshops.istio.ingress_tls_gateway": {"name": credential_name, "namespace": "istio-system", "state": "absent"}},
    ]
    run = quiet(tasks, secrets).ok()
    assert len(run.failed) == len(bad), [result.get("msg") for result in run.failed]


def test_ingress_gateway(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run]) -> None:
    """It reads credentials to judge what refers to them, and a user may mistake an option for one that takes a key."""
    pair = issue("canary.example.com")
    good = gateway_with_route(credential_name, f"{credential_name}.example.com")
    server = good["servers"][0]
    bad: list[dict[str, Any]] = [
        {**good, "servers": [{**server, "credential_name": pair.private_key}]},
        {**good, "servers": [{**server, "private_key": pair.private_key}]},
        {**good, "servers": [{**server, "hosts": [pair.private_key]}]},
        {**good, "annotations": {"key": pair.private_key}, "labels": {"key": pair.private_key}},
        {**good, "namespace": "no-such-namespace"},
    ]
    module = "meshops.istio.ingress_tls_gateway"
    tasks: list[dict[str, Any]] = [
        {"meshops.istio.istio_tls_credential": {"name": credential_name, **pair.paths}},
        {module: good},
        *({module: one, "ignore_errors": True} for one in bad),
        {module: {**good, "state": "absent"}},
    ]
    run = quiet(tasks, canaries(pair.private_key)).ok()
    assert len(run.failed) == len(bad), [result.get("msg") for result in run.failed]


def test_acme_challenge(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run]) -> None:
    """What it is given is public; a user may give the account's key where the key authorization belongs."""
    pair, module = issue("canary.example.com"), "meshops.istio.acme_http_challenge"
    good = {"host": f"{credential_name}.example.org", "token": "token", "key_authorization": "token.thumbprint"}
    bad = [
        {**good, "token": pair.private_key},
        {**good, "host": pair.private_key},
        {**good, "private_key": pair.private_key},
        {**good, "key_authorization": pair.private_key},
    ]
    asked: list[dict[str, Any]] = [{"name": credential_name, "challenges": [one]} for one in (good, *bad)]
    tasks: list[dict[str, Any]] = [
        {module: asked[0]},
        *({module: one, "ignore_errors": True} for one in asked[1:]),
        {module: {"name": pair.private_key, "state": "absent"}, "ignore_errors": True},
        {module: {"name": credential_name, "state": "absent"}},
    ]
    run = quiet(tasks, canaries(pair.private_key)).ok()
    assert len(run.failed) == len(bad) + 1, [result.get("msg") for result in run.failed]


def test_origination(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run]) -> None:
    client = issue("client.example.com", ca="clients")
    good = {
        "name": credential_name,
        "host": f"{credential_name}.example.org",
        "credential_name": credential_name,
        "resolution": "STATIC",
        "endpoints": [{"address": "127.0.0.99", "ports": {"https": 443}}],
    }
    bad: list[dict[str, Any]] = [
        {**good, "credential_name": client.private_key},
        {
            **good,
            "certificate_files": {"certificate": "/c", "private_key": client.private_key, "ca_certificate": "/a"},
            "credential_name": None,
        },
        {**good, "host": client.private_key},
        {**good, "private_key": client.private_key},
        {**good, "name": f"{credential_name}-none", "credential_name": f"{credential_name}-none"},
    ]
    module = "meshops.istio.egress_mtls_origination"
    tasks: list[dict[str, Any]] = [
        {"meshops.istio.istio_tls_credential": {"name": credential_name, **client.paths, "ca_certificate_path": str(client.ca_path)}},
        {module: good},
        *({module: one, "ignore_errors": True} for one in bad),
        {module: {**good, "state": "absent"}},
    ]
    run = quiet(tasks, canaries(client.private_key)).ok()
    assert len(run.failed) == len(bad), [result.get("msg") for result in run.failed]


def test_mount(mesh: Mesh, issue: Issue, namespace: str, quiet: Callable[..., Run]) -> None:
    """It reads the Secret to tell what is mounted. With pods, whose files are compared too: tests/kind."""
    pair = issue("client.example.com")
    template = {"metadata": {"labels": {"istio": "gateway"}}, "spec": {"containers": [{"name": "istio-proxy", "image": "auto"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"istio": "gateway"}}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "gateway", "namespace": namespace}, "spec": spec}
    mesh.kubectl("create", "-f", "-", stdin=json.dumps(deployment))
    mount = {"path": "/etc/canary", "secret": "certs", "keys": ["tls.crt", "tls.key"]}
    good = {"name": "gateway", "namespace": namespace, "mounts": [mount], "wait": False}
    bad: list[dict[str, Any]] = [
        {**good, "mounts": [{**mount, "keys": ["ca.crt"]}]},
        {**good, "mounts": [{**mount, "secret": pair.private_key}]},
        {**good, "mounts": [{**mount, "path": pair.private_key}]},
        {**good, "wait": True, "timeout": 2},
    ]
    module = "meshops.istio.gateway_credential_mount"
    tasks: list[dict[str, Any]] = [
        {"meshops.istio.istio_tls_credential": {"name": "certs", "namespace": namespace, **pair.paths}},
        {module: good},
        *({module: one, "ignore_errors": True} for one in bad),
        {module: {**good, "state": "absent"}},
    ]
    run = quiet(tasks, canaries(pair.private_key), login="admin").ok()
    assert len(run.failed) == len(bad), [result.get("msg") for result in run.failed]


def test_ca_rotation(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run], tmp_path: Path) -> None:
    """The pair that is there, the one to come, the one to go back to, and those of both sides' clients; planned, done, undone and failing."""
    one, two, client = issue("canary.example.com"), issue("canary.example.com"), issue("client.example.com", ca="clients")
    old, new = issue(ca="old"), issue(ca="new")
    secrets = canaries(one.private_key, two.private_key, client.private_key)
    peer = {"host": "canary.example.com", "address": "127.0.0.1", "port": 1, "timeout": 0}
    peer |= {"client_certificate": client.certificate, "client_private_key": client.private_key}
    pair = {"certificate": two.certificate, "private_key": two.private_key}
    back = {"old_ca_certificate": old.ca, "old_certificate": one.certificate, "old_private_key": one.private_key}

    def rotation(until: str, staged: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        evidence = str(tmp_path / "left" / "evidence.json")
        own = {"name": credential_name, **pair, "ca_certificate": new.ca, "evidence": evidence, **more}
        return {"meshops.istio.istio_tls_rotation": {**own, "ca_rotation": {"until_stage": until, **(staged or {})}}}

    bad = [
        rotation("drop", {"old_peers": [peer], "new_peers": [peer]}),  # nobody answers
        rotation("drop", {"old_peers": [{**peer, "client_certificate": client.private_key}]}),
        rotation("drop", {**back, "old_private_key": two.private_key}),  # does not match
        rotation("drop", {**back, "old_certificate": one.private_key, "old_crl": one.private_key}),
        rotation(
            "drop", {**back, "old_private_key_path": one.private_key, "old_private_key": None}, refused=[{**peer, "host": one.private_key}]
        ),
    ]
    tasks: list[dict[str, Any]] = [
        {"meshops.istio.istio_tls_credential": {"name": credential_name, **one.paths, "ca_certificate": old.ca}},
        *({**task, "ignore_errors": True} for task in bad),
        {**rotation("drop"), "check_mode": True},
        rotation("drop"),
        rotation("trust", back),
    ]
    run = quiet(tasks, secrets).ok()
    assert len(run.failed) == len(bad), [result.get("msg") for result in run.failed]
    assert not any("Traceback" in str(result) for result in run.failed)


# --- roles, as they fail; as they succeed: the walkthroughs in test_playbooks.py and test_egress_playbooks.py


def test_failing_roles(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run], tmp_path: Path) -> None:
    one, two = issue("canary.example.com"), issue("canary.example.com")
    mixed = {"name": credential_name, "certificate": one.certificate, "private_key": two.private_key}
    check = {"name": "refused", "host": "canary.example.com", "client_certificate": one.certificate, "client_private_key": two.private_key}
    broken = tmp_path / "pki"
    broken.mkdir()
    (broken / "root.key").write_text(one.private_key.replace("A", "B"))
    server = {"name": "canary", "host": "canary.example.com", "certificate_path": "/none", "private_key_path": "/none"}
    roles: list[tuple[str, dict[str, Any]]] = [
        ("ingress_tls", {"ingress_tls_credentials": [mixed]}),
        ("ingress_tls", {"ingress_tls_credentials": [{**mixed, "private_keys": one.private_key}]}),
        ("ingress_tls", {"ingress_tls_checks": [check]}),
        ("ingress_tls", {"ingress_tls_checks": [{**check, "private_key": one.private_key}]}),
        ("egress_mtls", {"egress_mtls_credentials": [mixed]}),
        ("egress_mtls", {"egress_mtls_checks": [{**check, "address": "127.0.0.1", "scheme": "https"}]}),
        ("egress_mtls", {"egress_mtls_ca_secrets": [{"name": credential_name, "ca_certificate_path": str(one.private_key_path)}]}),
        ("pki", {"pki_directory": str(broken), "pki_authorities": [{"name": "root", "subject": {"CN": "root"}}]}),
        ("pki", {"pki_directory": str(broken), "pki_authorities": [{"name": "root", "subject": one.private_key}]}),
        ("sample_workloads", {"sample_workloads_external": [{**server, "ca_certificate_path": "/none", "key": one.private_key}]}),
    ]
    for role, variables in roles:
        tasks_from = "egress" if role == "sample_workloads" else "main"
        task = {"ansible.builtin.include_role": {"name": f"meshops.istio.{role}", "tasks_from": tasks_from}, "vars": variables}
        run = quiet([task], canaries(one.private_key, two.private_key))
        assert run.code != 0 or role == "pki", f"{role} {list(variables)} did not fail: {run.output}"


# --- other places than the output: what is kept by others, and what can be seen while a module works


def good_and_bad(name: str, one: Pair, two: Pair) -> list[dict[str, Any]]:
    module = "meshops.istio.istio_tls_credential"
    content = {"certificate": one.certificate, "private_key": one.private_key}
    return [
        {module: {"name": name, **content}},
        {module: {"credentials": [{"name": name, **content}], "details": "all"}},
        {module: {"name": name, **content, "private_key": two.private_key}, "ignore_errors": True},
        {module: {"name": name, **content, "unknown": two.private_key}, "ignore_errors": True},
        {"meshops.istio.istio_tls_credential_info": {"name": name}},
    ]


@pytest.mark.parametrize("callback", ["ansible.posix.json", "tree"])
def test_callbacks_that_keep_everything(
    mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run], tmp_path: Path, callback: str
) -> None:
    one, two = issue(), issue()
    trees = tmp_path / "left" / "tree"
    wanted = {"ANSIBLE_CALLBACKS_ENABLED": "record,tree", "ANSIBLE_CALLBACK_TREE_DIR": str(trees)}
    if callback != "tree":
        wanted = {"ANSIBLE_STDOUT_CALLBACK": callback}
    run = quiet(good_and_bad(credential_name, one, two), canaries(one.private_key, two.private_key), **wanted).ok()
    if callback == "tree":
        assert "fingerprint_sha256" in "".join(path.read_text() for path in trees.iterdir())
    else:
        assert "fingerprint_sha256" in run.output, "the callback tells whole results"
    assert len(run.failed) == 2


def test_runners_event_files(mesh: Mesh, issue: Issue, credential_name: str, tmp_path: Path) -> None:
    """As AWX runs it: every event, with its result, in a file."""
    import ansible_runner

    one, two = issue(), issue()
    values: dict[str, str] = {}
    tasks = aside(good_and_bad(credential_name, one, two), values)
    (tmp_path / "values.json").write_text(json.dumps(values))
    project = tmp_path / "runner" / "project"
    project.mkdir(parents=True)
    (project / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    done = ansible_runner.run(
        private_data_dir=str(tmp_path / "runner"),
        playbook="play.yml",
        inventory=mesh.environment["ANSIBLE_INVENTORY"],
        cmdline=f"-vvvv --diff -e@{tmp_path / 'values.json'}",
        envvars={**mesh.env("operator"), "ANSIBLE_NOCOLOR": "1"},
        quiet=True,
    )
    assert done.status == "successful", done.stdout.read()
    artifacts = tmp_path / "runner" / "artifacts"
    events = list(artifacts.rglob("job_events/*.json"))
    assert len(events) > 10 and any("fingerprint_sha256" in path.read_text() for path in events)
    assert_silent(Run(0, done.stdout.read(), []), [artifacts], canaries(one.private_key, two.private_key))
