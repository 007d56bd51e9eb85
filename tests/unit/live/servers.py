# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real servers on loopback, with certificates issued for the occasion."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = timedelta(days=1)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@dataclass(frozen=True)
class Pair:
    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key(self, passphrase: bytes | None = None) -> bytes:
        encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        return self.private_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def make(common_name: str, *sans: str, by: Pair | None = None, ca: bool = False, begins: float = -1, ends: float = 30) -> Pair:
    """A certificate: self-signed, or issued by a CA; `begins` and `ends` in days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(by.certificate.subject if by else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins * DAY)
        .not_valid_after(now + ends * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(san) for san in sans]), critical=False)
    return Pair(builder.sign((by or Pair(builder, key)).private_key, hashes.SHA256()), key)


def _general_name(name: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


@dataclass(frozen=True)
class Pki:
    """What the tests issue once: a CA, another one that nobody trusts, and a server certificate."""

    root: Pair = field(default_factory=lambda: make("test root", ca=True))
    foreign: Pair = field(default_factory=lambda: make("foreign root", ca=True))
    server: Pair = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "server", make("server", "a.example.com", "*.wild.example.com", "127.0.0.1", by=self.root))


def server_context(directory: Path, pair: Pair, *chain: Pair, client_ca: Pair | None = None) -> ssl.SSLContext:
    pem = directory / "server.pem"
    pem.write_bytes(pair.key() + pair.pem + b"".join(issuer.pem for issuer in chain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    pem.unlink()
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca.pem.decode())
    return context


@dataclass
class Server:
    """One listening socket; `requests` holds what each connection sent, `snis` the names asked for."""

    address: str
    port: int
    requests: list[bytes] = field(default_factory=list)
    snis: list[str | None] = field(default_factory=list)


Handler = Callable[[socket.socket], Any]


@contextlib.contextmanager
def listening(handle: Handler, address: str = "127.0.0.1") -> Iterator[Server]:
    """Hands every connection to `handle`, one after the other, and closes it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:

        def run() -> None:
            while True:
                try:
                    connection = listener.accept()[0]
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(5)
                    handle(connection)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield Server(address, listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextlib.contextmanager
def https(context: ssl.SSLContext, answer: bytes | list[bytes] = OK, address: str = "127.0.0.1") -> Iterator[Server]:
    """Reads one request's head and answers; a list of answers is used up from its beginning, its last one stays."""
    answers = [answer] if isinstance(answer, bytes) else answer
    server: Server

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            http_once(secured, server, answers.pop(0) if len(answers) > 1 else answers[0])

    context.sni_callback = lambda _socket, name, _context: server.snis.append(name)  # type: ignore[assignment, misc]
    with listening(handle, address) as server:
        yield server


def http_once(connection: socket.socket, server: Server, answer: bytes) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        if not part:
            return
        received += part
    server.requests.append(received)
    connection.sendall(answer)
