# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that are older than a rotation: a client holds its own, and either keeps it or is made to leave."""

from __future__ import annotations

import contextlib
import datetime
import json
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from .conftest import Mesh, Pair
from .load import under_load
from .spare import until
from .test_egress_origination import Partner, eventually, origination, partner
from .test_rotation import INGRESS, Issue, Shop, a_shop, fingerprint

__all__ = ["partner"]  # a fixture
EGRESS = "http://127.0.0.1:15200"


@pytest.fixture(scope="module")
def shop(mesh: Mesh, issue: Issue) -> Iterator[Shop]:
    """One for all of them: each leaves it as it was."""
    with a_shop(mesh, issue) as one:
        yield one


@dataclass
class Held:
    """A client that makes a request five times a second, all on one connection, as long as it is let."""

    connection: ssl.SSLSocket
    host: str
    over: threading.Event = field(default_factory=threading.Event)
    answers: list[str] = field(default_factory=list)
    ended: str = ""

    def work(self) -> None:
        while not self.over.wait(0.2):
            try:
                self.connection.sendall(f"GET / HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
                answer = b""
                while b"\r\n\r\n" not in answer:
                    part = self.connection.recv(65536)
                    if not part:
                        raise ConnectionError("closed by the gateway")
                    answer += part
            except OSError as error:
                self.ended = str(error)
                return
            self.answers.append(answer.partition(b"\r\n")[0].decode())
            if b"connection: close" in answer.lower():
                self.ended = "asked to leave"
                return

    def goes_on(self) -> bool:
        """Whether it still gets answers."""
        count = len(self.answers)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not self.ended and len(self.answers) < count + 3:
            time.sleep(0.1)
        return not self.ended


@contextlib.contextmanager
def held(shop: Shop, client: Pair | None = None) -> Iterator[Held]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if client:
        context.load_cert_chain(client.certificate_path, client.private_key_path)
    address = (shop.mesh.environment["INGRESS_HOST"], int(shop.mesh.environment["SECURE_INGRESS_PORT"]))
    with socket.create_connection(address, timeout=10) as plain, context.wrap_socket(plain, server_hostname=shop.host) as secured:
        one = Held(secured, shop.host)
        thread = threading.Thread(target=one.work)
        thread.start()
        try:
            yield one
        finally:
            one.over.set()
            thread.join()


def is_counted() -> bool:
    """Whether Envoy tells of any client's connection: it counts them anew every 5 s."""
    with urllib.request.urlopen(f"{INGRESS}/stats?filter=server.total_connections", timeout=10) as answer:  # noqa: S310
        return int(answer.read().rpartition(b":")[2]) > 0


def gateway_spec(shop: Shop) -> Any:
    found = shop.mesh.get("gateways.networking.istio.io", "istio-system", shop.name)
    assert found
    return found["spec"]


def test_an_old_connection_goes_on_unless_it_is_ended(shop: Shop, issue: Issue) -> None:
    """With a certificate that is replaced it goes on; with `end_old_connections` the client is asked to leave, others are not, and the Gateway
    is as it was."""
    spec = gateway_spec(shop)
    with held(shop) as client:
        until(is_counted, "Envoy to count the client's connection")
        (result,) = shop.rotate(issue(*shop.hosts)).ok().results("istio_tls_rotation")
        assert client.goes_on()
        (count,) = result["rotations"][0]["connections"]["open"]
        assert count["proxy"] == INGRESS and count["downstream"] >= 1 and count["upstream"] is None
        assert result["rotations"][0]["connections"]["ended"] is None
        mark = shop.mesh.audit_mark()
        new = issue(*shop.hosts)
        (result,) = shop.rotate(new, end_old_connections=True).ok().results("istio_tls_rotation")
        assert result["rotations"][0]["connections"]["ended"] is True, result
        assert client.ended, "the client was let go on"
    assert all("404" in answer for answer in client.answers)  # nothing is routed: the answer is the gateway's
    assert gateway_spec(shop) == spec and shop.served() == fingerprint(new)
    assert [one for one in shop.mesh.writes_since(mark) if "secrets" not in one] == [f"patch gateways {shop.name}"] * 2
    made = {"name": shop.name, "namespace": "istio-system", "selector": {"istio": "ingressgateway"}}
    server = {"hosts": list(shop.hosts), "mode": "SIMPLE", "credential_name": shop.name}
    (again,) = shop.mesh.task("ingress_tls_gateway", {**made, "servers": [server]}).ok().results("ingress_tls_gateway")
    assert not again["changed"]


def test_connections_of_a_gateway_of_somebody_elses_are_left_and_told(shop: Shop, issue: Issue) -> None:
    shop.mesh.kubectl(
        "label", "gateways.networking.istio.io", shop.name, "-n", "istio-system", "app.kubernetes.io/managed-by=helm", "--overwrite"
    )
    spec = gateway_spec(shop)
    with held(shop) as client:
        run = shop.rotate(issue(*shop.hosts), end_old_connections=True).ok()
        assert client.goes_on()
        (connections,) = [one["connections"] for one in run.results("istio_tls_rotation")[0]["rotations"]]
        assert connections["ended"] is False and "is not this collection's alone" in connections["troubles"][0]
        assert "connections_stay" in run.output and "Restart the gateway's proxies" in run.output
        new = issue(*shop.hosts)
        refused = shop.rotate(new, revoke=True).failed[0]
        (one,) = refused["rotations"]
        assert one["outcome"] == "failed" and "old connections may go on" in refused["msg"] and "The new state stays" in refused["msg"]
        assert shop.served() == fingerprint(new)
    assert gateway_spec(shop) == spec
    shop.mesh.kubectl(
        "label",
        "gateways.networking.istio.io",
        shop.name,
        "-n",
        "istio-system",
        "app.kubernetes.io/managed-by=meshops.istio",
        "--overwrite",
    )


def test_a_leaked_key_may_not_come_back(shop: Shop, issue: Issue, tmp_path: Path) -> None:
    """Neither in the new certificate, nor as another credential."""
    other = f"{shop.name}-b"
    leaked = issue(*shop.hosts)
    again = {"hosts": [f"b.{shop.host}"], "mode": "SIMPLE", "credential_name": other}
    made = {"name": other, "namespace": "istio-system", "selector": {"istio": "ingressgateway"}, "servers": [again]}
    credentials = {"credentials": [{"name": name, **leaked.paths} for name in (shop.name, other)], "prove": True, "admin_urls": [INGRESS]}
    shop.mesh.playbook([{"meshops.istio.ingress_tls_gateway": made}, {"meshops.istio.istio_tls_credential": credentials}]).ok()
    try:
        same = reissued(leaked, tmp_path / "same.crt")
        refused = shop.rotate(Pair(same, leaked.private_key_path, leaked.ca_path), revoke=True).failed[0]
        assert "key_kept" in refused["msg"] and shop.served() == fingerprint(leaked)
        new = issue(*shop.hosts)
        refused = shop.rotate(new, revoke=True).failed[0]
        (one,) = refused["rotations"]
        assert one["outcome"] == "failed" and shop.served() == fingerprint(new)
        assert f"the old certificate is still held by {INGRESS} as credential {other}: rotate that too" in one["reasons"]
    finally:
        shop.mesh.kubectl("delete", "gateways.networking.istio.io", other, "-n", "istio-system", "--ignore-not-found")
        shop.mesh.kubectl("delete", "secret", other, "-n", "istio-system", "--ignore-not-found")


def reissued(pair: Pair, path: Path) -> Path:
    """Another certificate for the same key, signed by itself."""
    key = serialization.load_pem_private_key(pair.private_key.encode(), None)
    old = x509.load_pem_x509_certificate(pair.certificate.encode())
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(old.subject).issuer_name(old.subject).public_key(old.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=9))
    names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    made = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())  # type: ignore[arg-type]
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def authority(tmp_path: Path) -> Callable[..., Any]:
    """A CA of clients that can revoke."""
    import trustme

    ca = trustme.CA(organization_name="clients")

    def crl(*revoked: Pair) -> Path:
        issuer = x509.load_pem_x509_certificate(ca.cert_pem.bytes())
        key = serialization.load_pem_private_key(ca.private_key_pem.bytes(), None)
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
        builder = builder.last_update(now - datetime.timedelta(hours=1)).next_update(now + datetime.timedelta(days=9))
        for pair in revoked:
            serial = x509.load_pem_x509_certificate(pair.certificate.encode()).serial_number
            builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build())
        path = tmp_path / f"{len(revoked)}.crl"
        path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))  # type: ignore[arg-type]
        return path

    def client(name: str) -> Pair:
        leaf = ca.issue_cert(name)
        pair = Pair(tmp_path / f"{name}.crt", tmp_path / f"{name}.key", tmp_path / "clients.crt")
        pair.certificate_path.write_bytes(leaf.cert_chain_pems[0].bytes())
        pair.private_key_path.write_bytes(leaf.private_key_pem.bytes())
        pair.ca_path.write_bytes(ca.cert_pem.bytes())
        return pair

    client.crl = crl  # type: ignore[attr-defined]
    return client


def test_a_revoked_client_is_refused_and_its_connection_ended(shop: Shop, issue: Issue, authority: Any) -> None:
    good, stolen, served = authority("good.example.com"), authority("stolen.example.com"), issue(*shop.hosts)
    trust = {**served.paths, "ca_certificate_path": str(good.ca_path)}
    shop.mesh.task("istio_tls_credential", {"name": shop.name, **trust, "crl_path": str(authority.crl())}).ok()
    server = {"hosts": list(shop.hosts), "mode": "MUTUAL", "credential_name": shop.name}
    made = {"name": shop.name, "namespace": "istio-system", "selector": {"istio": "ingressgateway"}, "servers": [server]}
    shop.mesh.task("ingress_tls_gateway", made).ok()

    def asks(pair: Pair, **expect: Any) -> dict[str, Any]:
        paths = {"client_certificate_path": str(pair.certificate_path), "client_private_key_path": str(pair.private_key_path)}
        place = {"host": shop.host, "address": shop.mesh.environment["INGRESS_HOST"], "ca_certificate_path": str(served.ca_path)}
        return {"name": pair.certificate_path.stem, **place, **paths, "expect": expect, "timeout": 5}

    shop.mesh.task("tls_probe", {**asks(stolen, status=404), "timeout": 20, "consecutive": 3}).ok()
    with held(shop, stolen) as client:
        assert client.goes_on()
        peers = {"probes": [asks(good, status=404)], "refused": [{**asks(stolen), "expect": None}]}
        run = shop.rotate(served, **trust, crl_path=str(authority.crl(stolen)), revoke=True, **peers).ok()
        assert client.ended, "the revoked client was let go on"
    assert "probe_failed_before" not in run.output
    (one,) = run.results("istio_tls_rotation")[0]["rotations"]
    assert one["outcome"] == "rotated" and one["connections"]["ended"] and "another CRL" in one["changes"]
    shop.mesh.task("ingress_tls_gateway", {**made, "servers": [{**server, "mode": "SIMPLE"}]}).ok()


def test_an_egress_gateway_presents_the_new_certificate_at_once(mesh: Mesh, partner: Partner, issue: Issue) -> None:
    """Its pool goes on with the old one, until old connections are ended: then no request fails, and the partner sees the new serial number."""
    origination(mesh, partner.arguments).ok()
    eventually(mesh, partner.host, 200)
    address, port = mesh.environment["MESH_CLIENT"].split(":")
    rule = rules(mesh, partner)
    arguments = {"name": partner.name, "purpose": "client", "admin_urls": [EGRESS], "proof_timeout": 20}

    def rotate(**more: Any) -> Any:
        new = issue("client.example.org", ca="partner")
        run = mesh.task(
            "istio_tls_rotation", {**arguments, **new.paths, "ca_certificate_path": str(new.ca_path), **more}, login="operator"
        ).ok()
        serial = x509.load_pem_x509_certificate(new.certificate.encode()).serial_number
        return f"{serial:X}", run.results("istio_tls_rotation")[0]["rotations"][0]

    with under_load(address, int(port), [partner.host], threads=2) as load:
        time.sleep(1)
        shaken = len(partner.serials)
        __, result = rotate()
        assert result["connections"]["open"][0]["upstream"] >= 1 and result["connections"]["open"][0]["downstream"] is None
        assert partner.serials[shaken:] == [], "the pool made a new connection, which was never seen"
        serial, result = rotate(end_old_connections=True)
        assert result["connections"]["ended"] is True, result
        time.sleep(1)
    assert load["failures"] == {} and set(load["statuses"]) == {"200"} and load["requests"] > 100, load
    assert {text.lstrip("0") for text in partner.serials[shaken:]} == {serial}
    assert rules(mesh, partner) == rule


def rules(mesh: Mesh, partner: Partner) -> Any:
    owner = f"meshops.istio/owner=origination.istio-system.{partner.name}"
    found = json.loads(mesh.kubectl("get", "destinationrules.networking.istio.io", "-A", "-l", owner, "-o", "json"))["items"]
    return {one["metadata"]["name"]: one["spec"] for one in found}
