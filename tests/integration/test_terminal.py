# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What certificates and servers say reaches the terminal as text, and never as what the terminal acts upon."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .conftest import Mesh
from .test_secrets_never_leak import OLDEST

ASCII = "\x1b]0;OWNED\x07\x1b[31m\x7f"
EVIL = f"{ASCII}\x9b31m\u202etxt\u2066\u2028end"
"""A title for the window and red text in both ways to begin a sequence (ESC [, and U+009B), and text from right to left."""
ACTED_UPON = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Issued:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return self.key.private_bytes(*form).decode()


def issue(name: str, by: Issued | None = None, *, sans: tuple[str, ...] = (), days: int = 30) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, EVIL), x509.NameAttribute(NameOID.COMMON_NAME, f"{name}{EVIL}")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    )
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(san) for san in sans]), critical=False)
    return Issued(builder.sign(by.key if by else key, hashes.SHA256()), key)


@pytest.fixture(scope="module")
def authority() -> Issued:
    return issue("CA")


@pytest.fixture(scope="module")
def served(authority: Issued) -> Issued:
    return issue("leaf", authority, sans=(f"a{ASCII}.example.com", "b.example.com"))


@pytest.fixture(scope="module")
def port(authority: Issued, served: Issued, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server with that certificate, whose every answer is a 503 with such text in header and body."""
    path = tmp_path_factory.mktemp("served") / "pem"
    path.write_text(served.pem + authority.pem + served.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    answer = b"HTTP/1.1 503 No\r\nServer: %s\r\nX-%s: a\r\nConnection: close\r\n\r\n%s"
    # as bytes of a header, U+009B is the byte itself
    answer %= (EVIL.replace("\x9b", "").encode() + b"\x9b", b"Evil", EVIL.encode())

    def serve() -> None:
        while True:
            try:
                connection, __ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as wrapped:
                wrapped.recv(65536)
                wrapped.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("venv", [None, OLDEST], ids=["newest", "oldest"])
def test_nothing_that_a_terminal_acts_upon(
    mesh: Mesh, authority: Issued, served: Issued, port: int, credential_name: str, venv: Path | None
) -> None:
    expired = issue("expired", days=-1)
    request: dict[str, Any] = {"host": "b.example.com", "address": "127.0.0.1", "port": port, "ca_certificate": authority.pem, "timeout": 2}
    probes: dict[str, tuple[dict[str, Any], str]] = {
        "name": ({"host": "c.example.com"}, "The served certificate is for a\\x1b]0;owned"),
        "issuer": ({"ca_certificate": expired.pem}, "names the issuer"),
        "server": ({"expect": {"status": 200}}, "status 503 from server \\x1b]0;OWNED"),
        "header": ({"expect": {"headers": {"server": "nginx"}}}, "found '\\x1b]0;OWNED"),
        "body": ({"expect": {"text": "hello"}}, "expected text 'hello' in the body, found '\\x1b]0;OWNED"),
    }
    credential = {
        "name": credential_name,
        "certificate": served.pem,
        "private_key": served.key_pem,
        "ca_certificate": authority.pem + expired.pem,
    }
    tasks: list[dict[str, Any]] = [
        *({"name": name, "meshops.istio.tls_probe": {**request, **more}, "ignore_errors": True} for name, (more, __) in probes.items()),
        {"name": "data", "meshops.istio.tls_probe": request, "register": "answer"},
        {"ansible.builtin.debug": {"var": "answer"}},
        # this is printed as it is
        {"ansible.builtin.fail": {"msg": "{{ answer.headers.server }} {{ answer.body }} {{ answer.peer_chain }}"}, "ignore_errors": True},
        {"name": "credential", "meshops.istio.istio_tls_credential": {**credential, "hosts": ["b.example.com"]}},
        {"meshops.istio.istio_tls_credential": {**credential, "hosts": ["elsewhere.example.com"]}, "ignore_errors": True},
        {"meshops.istio.istio_tls_credential_info": {"name": credential_name, "hosts": ["elsewhere.example.com"]}},
    ]
    run = mesh.playbook(tasks, "-vvv", "--diff", venv=venv).ok()
    assert [record["status"] for record in run.records if record["task"] in probes] == ["failed"] * len(probes), run.output
    for record in run.records:
        if record["task"] in probes:
            assert probes[record["task"]][1].lower() in record["result"]["msg"].lower()
    warnings = [record["result"]["warnings"] for record in run.records if record["task"] == "credential"]
    assert "x1b]0" in str(warnings), "no warning has a subject in it"
    assert "OWNED" in run.output
    found = ACTED_UPON.search(run.output)
    assert not found, run.output[max(found.start() - 200, 0) : found.end() + 50].encode("unicode_escape")
