# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""istio_tls_rotation on the sandbox: a real API server, istiod, and an ingress gateway that clients shake hands with."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from .conftest import SANDBOX, Mesh, Pair

Issue = Callable[..., Pair]
INGRESS = "http://127.0.0.1:15100"
MARKER = "meshops.istio/rotation"


def fingerprint(pair: Pair) -> str:
    return x509.load_pem_x509_certificate(pair.certificate.encode()).fingerprint(hashes.SHA256()).hex(":")


@dataclass
class Shop:
    """A host at the ingress gateway, with its credential and its own Gateway."""

    mesh: Mesh
    name: str
    hosts: tuple[str, ...]

    @property
    def host(self) -> str:
        return self.hosts[0]

    def served(self, host: str = "") -> str:
        """Fingerprint that a fresh handshake shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        address = (self.mesh.environment["INGRESS_HOST"], int(self.mesh.environment["SECURE_INGRESS_PORT"]))
        with (
            socket.create_connection(address, timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=host or self.host) as secured,
        ):
            der = secured.getpeercert(binary_form=True)
        assert der
        return x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256()).hex(":")

    def credential(self, pair: Pair, **more: Any) -> None:
        self.mesh.task("istio_tls_credential", {"name": self.name, **pair.paths, **more}).ok()

    def secret(self, suffix: str = "") -> dict[str, Any]:
        found = self.mesh.get("secret", "istio-system", self.name + suffix)
        assert found
        return found

    def wait(self, wanted: str) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if self.served() == wanted:
                    return
            except OSError:
                pass
            time.sleep(0.2)
        raise AssertionError(f"{self.host} is not served with {wanted}")

    def rotate(self, pair: Pair, *flags: str, login: str = "operator", **more: Any) -> Any:
        arguments = {"name": self.name, **pair.paths, "admin_urls": [INGRESS], "proof_timeout": 20, **more}
        return self.mesh.task("istio_tls_rotation", arguments, *flags, login=login)


@contextlib.contextmanager
def a_shop(mesh: Mesh, issue: Issue) -> Iterator[Shop]:
    """A host that is served."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    one = Shop(mesh, name, (f"{name}.example.com",))
    server = {"hosts": list(one.hosts), "mode": "SIMPLE", "credential_name": name}
    gateway = {"name": name, "namespace": "istio-system", "servers": [server], "selector": {"istio": "ingressgateway"}}
    first = issue(*one.hosts)
    credential = {"name": name, **first.paths}
    mesh.playbook([{"meshops.istio.istio_tls_credential": credential}, {"meshops.istio.ingress_tls_gateway": gateway}]).ok()
    one.wait(fingerprint(first))
    try:
        yield one
    finally:
        mesh.kubectl("delete", "gateways.networking.istio.io", name, "-n", "istio-system", "--ignore-not-found")
        mesh.kubectl("delete", "secret", name, f"{name}-cacert", "-n", "istio-system", "--ignore-not-found")


@pytest.fixture
def shop(mesh: Mesh, issue: Issue) -> Iterator[Shop]:
    with a_shop(mesh, issue) as one:
        yield one


def test_a_rotation_is_proven_by_handshakes_and_by_the_proxy(shop: Shop, issue: Issue, tmp_path: Path) -> None:
    new = issue(*shop.hosts)
    old = shop.served()
    evidence = tmp_path / "evidence.json"
    mark = shop.mesh.audit_mark()
    (result,) = shop.rotate(new, evidence=str(evidence)).ok().results("istio_tls_rotation")
    assert result["changed"]
    (one,) = result["rotations"]
    assert one["outcome"] == "rotated"
    assert one["before"]["certificate"]["fingerprint_sha256"] == old
    assert one["proof"]["proxies"] == [INGRESS]
    assert {shake["served"] for shake in one["proof"]["handshakes"]} == {fingerprint(new)} == {shop.served()}
    writes = shop.mesh.writes_since(mark)
    assert writes == [f"patch secrets {shop.name}"] * 2  # the switch, and the end
    secret = shop.secret()
    assert not any(key.startswith("previous.") for key in secret["data"])
    assert MARKER not in (secret["metadata"].get("annotations") or {})
    told = json.loads(evidence.read_text())
    assert told["rotations"][0]["proof"]["handshakes"] and "@" in told["by"]
    assert fingerprint(new) in evidence.with_suffix(".txt").read_text()
    assert "PRIVATE KEY" not in evidence.read_text() + json.dumps(result)


def test_a_second_run_writes_nothing(shop: Shop, issue: Issue) -> None:
    new = issue(*shop.hosts)
    shop.rotate(new).ok()
    mark = shop.mesh.audit_mark()
    (result,) = shop.rotate(new).ok().results("istio_tls_rotation")
    assert not result["changed"] and result["rotations"][0]["outcome"] == "unchanged"
    assert shop.mesh.writes_since(mark) == []


def test_check_mode_is_a_plan_that_can_be_approved(shop: Shop, issue: Issue) -> None:
    new, old = issue(*shop.hosts, ca="another"), shop.served()
    mark = shop.mesh.audit_mark()
    (planned,) = shop.rotate(new, "--check").ok().results("istio_tls_rotation")
    assert planned["changed"] and shop.mesh.writes_since(mark) == []
    plan = planned["plan"]
    assert plan["rotations"][0]["servers"] == [
        {"kind": "Gateway", "namespace": "istio-system", "name": shop.name, "port": 443, "hosts": list(shop.hosts)}
    ]
    assert [one["code"] for one in plan["rotations"][0]["breaks"]] == ["issuer_changed"]
    assert fingerprint(new) in planned["plan_text"] and old in planned["plan_text"]
    refused = shop.rotate(issue(*shop.hosts), plan=plan).failed[0]
    assert "plan_outdated" in refused["msg"] and "the new certificate, key or options" in refused["msg"]
    assert shop.served() == old
    shop.rotate(new, plan=plan).ok()
    assert shop.served() == fingerprint(new)
    refused = shop.rotate(new, plan=plan["id"]).failed[0]
    assert "plan_outdated" in refused["msg"]  # the world is another one since


def test_a_host_that_is_no_longer_covered_is_refused(shop: Shop, issue: Issue) -> None:
    old = shop.served()
    refused = shop.rotate(issue("elsewhere.example.com")).failed[0]
    assert "host_no_longer_covered" in refused["msg"] and shop.served() == old


def probe(shop: Shop, ca: Path) -> dict[str, Any]:
    expect = {"status": 404}  # nothing is routed: the answer is the gateway's
    return {
        "host": shop.host,
        "address": shop.mesh.environment["INGRESS_HOST"],
        "ca_certificate_path": str(ca),
        "expect": expect,
        "timeout": 2,
    }


def is_clean(shop: Shop) -> bool:
    secret = shop.secret()
    return not any(key.startswith("previous.") for key in secret["data"]) and MARKER not in (secret["metadata"].get("annotations") or {})


def test_a_probe_that_fails_only_after_the_switch_puts_the_old_state_back(shop: Shop, issue: Issue) -> None:
    """The client trusts only the CA of before."""
    old = shop.served()
    result = shop.rotate(issue(*shop.hosts, ca="another"), probes=[probe(shop, issue(*shop.hosts).ca_path)]).failed[0]
    (one,) = result["rotations"]
    assert one["outcome"] == "rolled_back" and result["changed"]
    assert "unknown_ca" in result["msg"] and "restored and proven" in result["msg"]
    assert shop.served() == old and is_clean(shop)


def test_a_probe_that_fails_before_is_told_and_not_blamed(shop: Shop, issue: Issue) -> None:
    new = issue(*shop.hosts, ca="another")
    run = shop.rotate(new, probes=[probe(shop, issue(*shop.hosts, ca="third").ca_path)]).ok()
    assert "probe_failed_before" in run.output and shop.served() == fingerprint(new)


def test_a_proxy_that_does_not_answer_before_is_told_and_not_blamed(shop: Shop, issue: Issue) -> None:
    new = issue(*shop.hosts)
    (result,) = shop.rotate(new, admin_urls=[INGRESS, "http://127.0.0.1:1"]).ok().results("istio_tls_rotation")
    assert any("127.0.0.1:1 did not answer" in note for note in result["notes"])
    assert shop.served() == fingerprint(new)


@contextlib.contextmanager
def istiod_stands_still() -> Iterator[None]:
    """What is written does not reach the proxies meanwhile."""
    pid = json.loads((SANDBOX / "run" / "processes" / "istiod.json").read_text())["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # killed meanwhile
            os.kill(pid, signal.SIGCONT)


def test_a_failed_proof_puts_the_old_state_back(shop: Shop, issue: Issue) -> None:
    old = shop.served()
    with istiod_stands_still():
        result = shop.rotate(issue(*shop.hosts), proof_timeout=4).failed[0]
    (one,) = result["rotations"]
    assert one["outcome"] == "rolled_back" and f"still presents {old}" in result["msg"]
    assert shop.served() == old and is_clean(shop)


def interrupted(shop: Shop, pair: Pair) -> None:
    """A run that is killed between its write and its proof."""
    arguments = {"name": shop.name, **pair.paths, "admin_urls": [INGRESS], "proof_timeout": 60}
    book = shop.mesh.scratch / f"killed-{uuid.uuid4().hex}.yml"
    book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [{"meshops.istio.istio_tls_rotation": arguments}]}]))
    with istiod_stands_still():
        process = subprocess.Popen(
            ["ansible-playbook", str(book)],
            env=shop.mesh.env("operator"),
            cwd=shop.mesh.scratch,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            marker = wait_for_marker(shop, lambda: process.poll() is None)
            os.kill(int(marker["holder"].split(":")[-2]), signal.SIGKILL)  # the worker, which Ansible makes a session of its own
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_marker(shop: Shop, running: Callable[[], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while True:
        found = (shop.secret()["metadata"].get("annotations") or {}).get(MARKER)
        if found:
            return dict(json.loads(found))
        assert time.monotonic() < deadline and running()
        time.sleep(0.1)


def test_what_was_killed_is_finished_by_the_same(shop: Shop, issue: Issue) -> None:
    new = issue(*shop.hosts)
    interrupted(shop, new)
    assert any(key.startswith("previous.") for key in shop.secret()["data"])
    (result,) = shop.rotate(new).ok().results("istio_tls_rotation")
    (one,) = result["rotations"]
    assert one["outcome"] == "rotated" and "this run finishes it" in one["recovered"]
    secret = shop.secret()
    assert not any(key.startswith("previous.") for key in secret["data"]) and shop.served() == fingerprint(new)


def test_what_was_killed_is_undone_by_another(shop: Shop, issue: Issue) -> None:
    old, new = shop.served(), issue(*shop.hosts)
    interrupted(shop, issue(*shop.hosts))
    (result,) = shop.rotate(new).ok().results("istio_tls_rotation")
    (one,) = result["rotations"]
    assert one["outcome"] == "rotated" and "undone first" in one["recovered"]
    assert one["before"]["certificate"]["fingerprint_sha256"] == old
    assert shop.served() == fingerprint(new)


def test_a_rotation_under_way_is_left_alone(shop: Shop, issue: Issue) -> None:
    """One that goes on: its holder is this very process."""
    from ansible_collections.meshops.istio.plugins.module_utils.rotation import holder

    found = shop.secret()
    marker = {
        "rotation": "r",
        "holder": holder.this_process(),
        "by": "me",
        "started": "2026-01-01T00:00:00Z",
        "until": "2026-01-01T00:00:00Z",
    }
    shop.mesh.kubectl("annotate", "secret", shop.name, "-n", "istio-system", f"{MARKER}={json.dumps(marker)}")
    refused = shop.rotate(issue(*shop.hosts)).failed[0]
    assert "rotation_under_way" in refused["msg"]
    assert shop.secret()["data"] == found["data"]


def test_two_rotations_at_once(shop: Shop, issue: Issue) -> None:
    from concurrent.futures import ThreadPoolExecutor

    pairs = [issue(*shop.hosts) for __ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        runs = list(threads.map(shop.rotate, pairs))
    results = [run.results("istio_tls_rotation")[-1] for run in runs]
    won = [number for number, result in enumerate(results) if not result.get("failed")]
    if len(won) == 1:  # the usual case; one may also have come after the other had ended
        other = results[1 - won[0]]
        assert "under way" in other["msg"] or "written by field manager" in other["msg"], other["msg"]
        assert shop.served() == fingerprint(pairs[won[0]])
    else:
        assert len(won) == 2 and shop.served() in map(fingerprint, pairs)


def test_a_secret_that_somebody_changes_meanwhile_is_left_alone(shop: Shop, issue: Issue) -> None:
    from concurrent.futures import ThreadPoolExecutor

    theirs = issue(*shop.hosts)
    with istiod_stands_still(), ThreadPoolExecutor(1) as threads:
        run = threads.submit(shop.rotate, issue(*shop.hosts), proof_timeout=8)
        wait_for_marker(shop, lambda: not run.done())
        made = shop.mesh.kubectl(
            "create", "secret", "tls", shop.name, "-n", "istio-system", f"--cert={theirs.certificate_path}", f"--key={theirs.private_key_path}",
            "--dry-run=client", "-o", "yaml",
        )  # fmt: skip
        shop.mesh.kubectl("replace", "-f", "-", stdin=made)
        result = run.result().failed[0]
    assert result["rotations"][0]["outcome"] == "left_alone" and "changed or deleted by something else" in result["msg"]
    shop.wait(fingerprint(theirs))
