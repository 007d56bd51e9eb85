# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real handshakes with the real Envoy: what it thinks of a client's chain, given its CAs. One Envoy holds all cases, a socket file each."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Peer:
    """Envoy's trusted CAs (and CRLs), and what a client presents to it; all in PEM."""

    cas: bytes
    chain: bytes
    key: bytes
    crls: bytes = b""


def _inline(data: bytes) -> dict[str, str]:
    return {"inline_bytes": base64.b64encode(data).decode()}


def _listener(path: str, peer: Peer, server: Peer) -> dict[str, Any]:
    context: dict[str, Any] = {"trusted_ca": _inline(peer.cas)}
    if peer.crls:
        context["crl"] = _inline(peer.crls)
    tls = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_certificates": [{"certificate_chain": _inline(server.chain), "private_key": _inline(server.key)}],
            "validation_context": context,
        },
    }
    echo = {
        "name": "envoy.filters.network.echo",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"},
    }
    return {
        "name": path,
        "address": {"pipe": {"path": path}},
        "filter_chains": [{"transport_socket": {"name": "tls", "typed_config": tls}, "filters": [echo]}],
    }


def _answer(path: str, peer: Peer, directory: Path) -> str:
    """Empty where Envoy took the client; else its alert, or what the client's own library said."""
    (directory / "client.crt").write_bytes(peer.chain)
    (directory / "client.key").write_bytes(peer.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    try:
        context.load_cert_chain(directory / "client.crt", directory / "client.key")
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(10)
            plain.connect(path)
            with context.wrap_socket(plain) as tls:
                tls.sendall(b"x")
                return "" if tls.recv(1) == b"x" else "closed"
    except (ssl.SSLError, OSError) as error:
        return str(getattr(error, "reason", None) or error)


def _listens(path: str) -> bool:
    """Envoy makes all its sockets before it listens at the first."""
    with socket.socket(socket.AF_UNIX) as plain:
        return plain.connect_ex(path) == 0


@contextlib.contextmanager
def listening(peers: Sequence[Peer], server: Peer, envoy: str) -> Iterator[list[str]]:
    """A socket's path for each peer, at which one Envoy listens with that peer's CAs. `server` is the pair that Envoy shows."""
    with tempfile.TemporaryDirectory() as name:
        paths = [f"{name}/{number}" for number in range(len(peers))]
        listeners = [_listener(path, peer, server) for path, peer in zip(paths, peers, strict=True)]
        configuration = Path(name) / "envoy.json"
        configuration.write_text(json.dumps({"static_resources": {"listeners": listeners}}))
        command = [envoy, "-c", configuration, "-l", "error", "--concurrency", "1", "--use-dynamic-base-id"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                end = time.monotonic() + 30
                while not all(map(_listens, paths)) and process.poll() is None and time.monotonic() < end:
                    time.sleep(0.02)
                if process.poll() is not None:
                    raise RuntimeError(process.stdout.read() if process.stdout else "")
                yield paths
            finally:
                process.kill()


def ask(peers: Sequence[Peer], server: Peer, envoy: str) -> list[str]:
    """For each peer: empty where Envoy takes it, else why not (the TLS alert). `server` is the pair that Envoy shows."""
    with listening(peers, server, envoy) as paths, tempfile.TemporaryDirectory() as name:
        return [_answer(path, peer, Path(name)) for path, peer in zip(paths, peers, strict=True)]


def served(server: Peer, envoy: str) -> int:
    """How many certificates Envoy shows of a server's chain."""
    with listening([server], server, envoy) as [path]:
        shown = subprocess.run(["openssl", "s_client", "-unix", path, "-showcerts"], input=b"", capture_output=True, check=False).stdout
    return shown.count(b"-----BEGIN CERTIFICATE-----")
