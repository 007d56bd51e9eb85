# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role renewal on the sandbox: what is due is renewed from every source, proven, and nothing else is touched. ACME is Pebble's."""

from __future__ import annotations

import http.client
import json
import stat
import threading
import time
import uuid
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key, pkcs12

from .acme import Acme, acme
from .conftest import ROOT, Mesh, Pair, Run
from .test_secrets_never_leak import OLDEST, assert_silent, canaries

Issue = Callable[..., Pair]
MIDDLE = ROOT / ".venv-2.19"
INGRESS = "http://127.0.0.1:15100"
DAY = timedelta(days=1)
SOURCES = ("pki", "files", "own", "http", "dns", "broken", "fresh")
DNS_TASKS = """
- name: Change the DNS
  ansible.builtin.uri:
    url: "{{ dns_management }}/{{ 'set-txt' if renewal_challenge_state == 'present' else 'clear-txt' }}"
    method: POST
    body_format: json
    body: {host: "{{ record.key }}.", value: "{{ record.value[0] }}"}
  loop: "{{ renewal_challenge_records | dict2items }}"
  loop_control: {loop_var: record}
"""
OWN_TASKS = """
- name: Ask a CA of our own
  ansible.builtin.set_fact:
    renewal_issued: {pkcs12_path: "{{ renewal_item.own_path }}", pkcs12_passphrase: opens}
"""


def leaf(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def fingerprint(pem: str) -> str:
    return leaf(pem).fingerprint(hashes.SHA256()).hex(":")


@dataclass
class Fleet:
    """One credential a source, each served for hosts of its own, and nearly all about to expire."""

    mesh: Mesh
    acme: Acme
    directory: Path
    mark: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}")
    authority: trustme.CA = field(default_factory=trustme.CA)

    def name(self, source: str) -> str:
        return f"{self.mark}-{source}"

    def hosts(self, source: str) -> list[str]:
        """Those of `http` are reached over plain HTTP in two ways: by a wildcard's route, and not at all. A redirect is left to
        test_acme_http_challenge.py: Pebble asks with `:80` in the Host header, which no public CA does, and Envoy redirects to https on that port.
        """
        more = {"http": [f"wild.{self.mark}.example.com", f"none.{self.mark}.example.org"]}
        return more.get(source, [f"*.dns.{self.mark}.example.com" if source == "dns" else f"{source}.{self.mark}.example.com"])

    def issue(self, name: str, *hosts: str, age: timedelta = 80 * DAY, life: timedelta = 85 * DAY) -> tuple[Path, Path]:
        begin = datetime.now(UTC) - age
        made = self.authority.issue_cert(*hosts, not_before=begin, not_after=begin + life)
        certificate, key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        certificate.write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
        key.write_bytes(made.private_key_pem.bytes())
        return certificate, key

    def variables(self) -> dict[str, Any]:
        clients = self.directory / "clients.pem"
        listed = [{"name": self.name(source), "source": source, "hosts": self.hosts(source)} for source in SOURCES]
        by_source = {one["source"]: one for one in listed}
        by_source["pki"]["pki_certificate"] = "server"
        for source in ("files", "fresh"):
            path = self.directory / f"new-{source}"
            by_source[source].update(source="files", certificate_path=f"{path}.crt", private_key_path=f"{path}.key")
        by_source["own"].update(source=str(self.directory / "own.yml"), own_path=str(self.directory / "new-own.p12"))
        by_source["http"].update(source="acme", reuse_key=True)
        by_source["dns"].update(source="acme", acme={"challenge": "dns-01", "dns_tasks": str(self.directory / "dns.yml")})
        by_source["broken"].update(source="acme", acme={"directory": "https://127.0.0.1:1/dir"})
        assert clients.is_file()
        return {
            "renewal_credentials": listed,
            "renewal_directory": str(self.directory / "renewal"),
            "renewal_admin_urls": [INGRESS],
            "renewal_evidence_directory": str(self.directory / "evidence"),
            "renewal_acme": {"directory": self.acme.directory, "terms_agreed": True},
            "dns_management": self.acme.dns_management,
            "pki_directory": str(self.directory / "pki"),
            "pki_authorities": [{"name": "root", "subject": {"CN": "root"}, "key_type": "ECC"}],
            "pki_certificates": [
                {"name": "server", "authority": "root", "subject": {"CN": "s"}, "key_type": "ECC", "sans": [f"DNS:{self.hosts('pki')[0]}"]}
            ],
        }

    def run(self, *arguments: str, venv: Path | None = None, **changes: Any) -> Run:
        number = next(self.mesh.numbers)
        path = self.directory / f"inventory-{number}.yml"
        host = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
        path.write_text(yaml.safe_dump({"all": {"hosts": {"mesh": {**host, **self.variables(), **changes}}}}))
        return self.mesh.playbook("playbooks/renew.yml", "-i", str(path), *arguments, venv=venv, SSL_CERT_FILE=str(self.acme.trusted))

    def secret(self, source: str) -> dict[str, Any]:
        found = self.mesh.get("secret", "istio-system", self.name(source))
        assert found
        return found

    def served(self, source: str) -> str:
        return b64decode(self.secret(source)["data"]["tls.crt"]).decode()


def report(run: Run) -> dict[str, dict[str, str]]:
    """What the role says of each credential, by its name."""
    (facts,) = [result["ansible_facts"] for result in run.results("set_fact") if "renewal_report" in result.get("ansible_facts", {})]
    return {one["name"]: one for one in facts["renewal_report"]}


def gateway(name: str, servers: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": name, "namespace": "istio-system", "servers": servers, "state": "present"}


@pytest.fixture(scope="module")
def fleet(mesh: Mesh, issue: Issue, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("renewal")
    with acme(issue("127.0.0.1", ca="pebble"), directory / "acme", mesh.environment["INGRESS_HOST"]) as server:
        one = Fleet(mesh, server, directory)
        clients = directory / "clients.pem"
        clients.write_bytes(one.authority.cert_pem.bytes())
        (directory / "dns.yml").write_text(DNS_TASKS)
        (directory / "own.yml").write_text(OWN_TASKS)
        (directory / "evidence").mkdir()
        credentials = []
        for source in SOURCES:
            age = DAY if source == "fresh" else 80 * DAY
            certificate, key = one.issue(source, *one.hosts(source), age=age)
            credentials.append({"name": one.name(source), "certificate_path": str(certificate), "private_key_path": str(key)})
        credentials[SOURCES.index("files")]["ca_certificate_path"] = str(clients)
        for source in ("files", "own"):
            one.issue(f"new-{source}", *one.hosts(source), age=timedelta(hours=1))
        to_pkcs12(directory / "new-own")
        route = [{"destination": {"host": "httpbin.default.svc.cluster.local", "port": 8000}}]
        gateways = [
            gateway(
                one.name(source), [{"hosts": [host], "credential_name": one.name(source), "routes": route} for host in one.hosts(source)]
            )
            for source in SOURCES
        ]
        mesh.task("istio_tls_credential", {"credentials": credentials}).ok()
        mesh.task("ingress_tls_gateway", {"gateways": gateways}).ok()
        mesh.kubectl("apply", "-f", "-", stdin=plain_http(one))
        yield one
        mesh.task("ingress_tls_gateway", {"gateways": [{**each, "state": "absent", "servers": []} for each in gateways]})
        mesh.kubectl("delete", "gateway.networking.istio.io,virtualservice", f"{one.mark}-plain", "-n", "default")
        mesh.kubectl("delete", "secret", *(one.name(source) for source in SOURCES), "-n", "istio-system")


def to_pkcs12(path: Path) -> None:
    key = load_pem_private_key(path.with_suffix(".key").read_bytes(), None)
    chain = x509.load_pem_x509_certificates(path.with_suffix(".crt").read_bytes())
    bundle = pkcs12.serialize_key_and_certificates(None, key, chain[0], chain[1:], BestAvailableEncryption(b"opens"))  # type: ignore[arg-type]
    path.with_suffix(".p12").write_bytes(bundle)


def plain_http(fleet: Fleet) -> str:
    """Somebody else's catch-all for plain HTTP, with all of a domain's hosts."""
    hosts, about = [f"*.{fleet.mark}.example.com"], {"name": f"{fleet.mark}-plain", "namespace": "default"}
    server = {"hosts": hosts, "port": {"number": 80, "name": "http", "protocol": "HTTP"}}
    to = [{"route": [{"destination": {"host": "httpbin", "port": {"number": 8000}}}]}]
    objects = [
        {"kind": "Gateway", "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]}},
        {"kind": "VirtualService", "spec": {"hosts": hosts, "gateways": [about["name"]], "http": to}},
    ]
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "List",
            "items": [{"apiVersion": "networking.istio.io/v1", "metadata": about, **one} for one in objects],
        }
    )


class Watch:
    """Asks for a page over plain HTTP all the time, as users do, and keeps what was answered."""

    def __init__(self, mesh: Mesh, host: str) -> None:
        self.address, self.host, self.seen = mesh.environment["INGRESS_HOST"], host, list[int]()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._ask)

    def ask(self) -> int:
        connection = http.client.HTTPConnection(self.address, 80, timeout=5)
        try:
            connection.request("GET", "/status/202", headers={"Host": self.host})
            return connection.getresponse().status
        finally:
            connection.close()

    def _ask(self) -> None:
        while not self.over.wait(0.05):
            self.seen.append(self.ask())

    def __enter__(self) -> Watch:
        end = time.monotonic() + 20
        while self.ask() != 202:
            assert time.monotonic() < end
            time.sleep(0.1)
        self.thread.start()
        return self

    def __exit__(self, *__: object) -> None:
        self.over.set()
        self.thread.join()


@pytest.fixture(scope="module")
def renewed(fleet: Fleet) -> dict[str, Any]:
    """The one run that renews, and what there was before and while it ran."""
    before = {source: fleet.secret(source) for source in SOURCES}
    mark = fleet.mesh.audit_mark()
    with Watch(fleet.mesh, fleet.hosts("http")[0]) as watch:
        run = fleet.run("-vvvv", "--diff")
    return {"run": run, "before": before, "watch": watch, "writes": fleet.mesh.writes_since(mark)}


def test_check_mode_says_what_is_due_and_asks_nobody_for_it(fleet: Fleet) -> None:
    mark = fleet.mesh.audit_mark()
    run = fleet.run("--check").ok()
    said = report(run)
    due = {fleet.name(source) for source in SOURCES if source != "fresh"}
    assert {name for name, one in said.items() if one["outcome"] == "would_renew"} == due
    assert all("4 days remain; due since" in said[name]["reason"] or "the files hold" in said[name]["reason"] for name in due)
    fresh = said[fleet.name("fresh")]
    assert fresh["outcome"] == "not_due" and fresh["until"] > datetime.now(UTC).isoformat()
    assert run.changed == ["meshops.istio.renewal : Report"] or run.changed == ["Report"]
    assert fleet.mesh.writes_since(mark) == [] and not (fleet.directory / "renewal").exists()
    assert "/order-plz" not in fleet.acme.log.read_text()


def test_each_is_renewed_by_its_source_and_rotated(fleet: Fleet, renewed: dict[str, Any]) -> None:
    said = report(renewed["run"])
    assert {source: said[fleet.name(source)]["outcome"] for source in SOURCES} == {
        **dict.fromkeys(SOURCES, "renewed"),
        "broken": "failed",
        "fresh": "not_due",
    }, renewed["run"].output
    assert fingerprint(fleet.served("files")) == fingerprint((fleet.directory / "new-files.crt").read_text())
    assert fingerprint(fleet.served("own")) == fingerprint((fleet.directory / "new-own.crt").read_text())
    assert fingerprint(fleet.served("pki")) == fingerprint((fleet.directory / "pki" / "server.crt").read_text())
    root = leaf(fleet.acme.root())
    for source in ("http", "dns"):
        chain = x509.load_pem_x509_certificates(fleet.served(source).encode())
        chain[-1].verify_directly_issued_by(root)
        names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
        assert sorted(names) == sorted(fleet.hosts(source))
    rotations = [result["rotations"][0] for result in renewed["run"].results("istio_tls_rotation")]
    assert len(rotations) == 5
    for one in rotations:
        assert one["outcome"] == "rotated" and one["proof"]["proxies"] == [INGRESS] and one["proof"]["handshakes"]
    evidence = json.loads((fleet.directory / "evidence" / f"istio-system.{fleet.name('files')}.json").read_text())
    assert fingerprint(fleet.served("files")) in json.dumps(evidence)


def test_what_failed_is_what_it_was_and_the_others_went_on(fleet: Fleet, renewed: dict[str, Any]) -> None:
    run: Run = renewed["run"]
    assert run.code != 0
    assert fleet.secret("broken")["metadata"]["resourceVersion"] == renewed["before"]["broken"]["metadata"]["resourceVersion"]
    message = run.failed[-1]["msg"]
    assert message.startswith("1 of 7 credentials could not be renewed") and fleet.name("broken") in message and "127.0.0.1:1" in message


def test_all_but_the_pair_stays(fleet: Fleet, renewed: dict[str, Any]) -> None:
    before, after = renewed["before"]["files"]["data"], fleet.secret("files")["data"]
    assert before["ca.crt"] == after["ca.crt"] and before["tls.key"] != after["tls.key"] and before.keys() == after.keys()


def test_routes_of_others_lose_nothing_while_challenges_are_answered(fleet: Fleet, renewed: dict[str, Any]) -> None:
    assert len(renewed["watch"].seen) > 50 and set(renewed["watch"].seen) == {202}
    made = [write.split() for write in renewed["writes"] if write.split()[1] in ("gateways", "virtualservices")]
    assert {verb for verb, __, __ in made} == {"patch", "delete"}
    ours = {name for __, __, name in made}
    assert all(name.startswith(f"{fleet.name('http')}-acme-") for name in ours) and len(ours) == 3  # two hosts, one Gateway
    left = fleet.mesh.kubectl("get", "gateway.networking.istio.io,virtualservice", "-A", "-o", "name")
    assert "-acme-" not in left


def test_no_key_is_told_or_stays_on_the_controller(fleet: Fleet, renewed: dict[str, Any]) -> None:
    keys = [b64decode(fleet.secret(source)["data"]["tls.key"]).decode() for source in SOURCES]
    account = (fleet.directory / "renewal" / "account.key").read_text()
    assert_silent(renewed["run"], [], canaries(*keys, account))
    kept = {str(path.relative_to(fleet.directory / "renewal")) for path in (fleet.directory / "renewal").rglob("*") if path.is_file()}
    assert kept == {"account.key", f"istio-system.{fleet.name('http')}/tls.key"}  # the latter with reuse_key
    assert not list((fleet.directory / "pki").rglob("*.renewal*"))


def test_a_second_run_changes_and_writes_nothing(fleet: Fleet, renewed: dict[str, Any]) -> None:
    mark = fleet.mesh.audit_mark()
    fine = [one for one in fleet.variables()["renewal_credentials"] if one["name"] != fleet.name("broken")]
    run = fleet.run(renewal_credentials=fine).ok()
    assert run.changed == [] and fleet.mesh.writes_since(mark) == []
    assert {one["outcome"] for one in report(run).values()} == {"not_due"}


def test_the_ca_is_heeded_when_it_wants_one_renewed(fleet: Fleet, renewed: dict[str, Any]) -> None:
    now = datetime.now(UTC)
    window = {"start": (now - DAY).isoformat(), "end": (now - DAY / 2).isoformat()}
    fleet.acme.wants_renewed(fleet.served("http"), {"suggestedWindow": window, "explanationURL": "https://ca.example.com/why"})
    freeze = [{"from": f"{now - DAY:%Y-%m-%d}", "until": f"{now + 9 * DAY:%Y-%m-%d}"}]
    fine = [one for one in fleet.variables()["renewal_credentials"] if one["name"] in (fleet.name("http"), fleet.name("dns"))]
    said = report(fleet.run("--check", renewal_credentials=fine, renewal_freezes=freeze, venv=OLDEST).ok())
    one = said[fleet.name("http")]
    assert one["outcome"] == "would_renew"
    assert (
        "by the CA's renewal information (https://ca.example.com/why)" in one["reason"] and "the CA wanted it renewed by" in one["reason"]
    )
    assert said[fleet.name("dns")]["outcome"] == "not_due"


def test_what_was_issued_and_not_rotated_is_taken_by_the_next_run(fleet: Fleet, renewed: dict[str, Any]) -> None:
    """A certificate is due that lacks a host; its rotation fails before anything is written, and is made up for without another order."""
    (one,) = [each for each in fleet.variables()["renewal_credentials"] if each["name"] == fleet.name("http")]
    one["hosts"].append(f"more.{fleet.mark}.example.com")
    before, key = fleet.secret("http")["metadata"]["resourceVersion"], fleet.secret("http")["data"]["tls.key"]
    run = fleet.run(renewal_credentials=[{**one, "ca_certificate_path": "/no/such/file"}], venv=MIDDLE)
    assert "/no/such/file" in run.failed[-1]["msg"] and "does not cover more." in run.failed[-1]["msg"]
    assert fleet.secret("http")["metadata"]["resourceVersion"] == before
    place = fleet.directory / "renewal" / f"istio-system.{fleet.name('http')}"
    issued = (place / "issued.crt").read_text()
    assert stat.S_IMODE(place.stat().st_mode) == 0o700 and stat.S_IMODE((place / "tls.key").stat().st_mode) == 0o600
    orders = fleet.acme.log.read_text().count("/order-plz")
    said = report(fleet.run(renewal_credentials=[one]).ok())
    assert said[fleet.name("http")]["outcome"] == "renewed"
    assert fingerprint(fleet.served("http")) == fingerprint(issued)
    assert fleet.acme.log.read_text().count("/order-plz") == orders
    assert fleet.secret("http")["data"]["tls.key"] == key and [path.name for path in place.iterdir()] == ["tls.key"]  # reuse_key
