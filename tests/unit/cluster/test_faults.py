# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each fault of a connection, made by a real server or proxy on loopback, and what is said about it."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.cluster import faults, transport
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import Cluster, ClusterError, connect
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import GATEWAY, SECRET
from ansible_collections.meshops.istio.tests.unit.live.servers import Pair, Pki, http_once, https, listening, make, server_context
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

PKI = Pki()
CHECK = "check that it runs and that kubeconfig, context or host name the right cluster"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "CONNECT_TIMEOUT", 2.0)
    monkeypatch.setattr(transport, "READ_TIMEOUT", 0.5)


def answered(answer: str, body: str = "") -> bytes:
    return f"HTTP/1.1 {answer}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


def said_of(options: dict[str, Any], environment: dict[str, str] | None = None) -> str:
    """The sentence, after one attempt."""
    cluster: Cluster = connect({"api_key": "c4n4ry", **options}, environment or {})
    cluster.stopping.set()
    with pytest.raises(ClusterError) as caught:
        cluster.get(SECRET, "n", "a")
    text = str(caught.value)
    assert "c4n4ry" not in text and "\n" not in text and "object at 0x" not in text
    return text


@contextlib.contextmanager
def served(directory: Path, pair: Pair, *chain: Pair, trusted: Pair = PKI.root, **more: Any) -> Iterator[dict[str, Any]]:
    """The options that lead to a TLS server with this certificate."""
    (directory / "ca.crt").write_bytes(trusted.pem)
    with https(server_context(directory, pair, *chain, **more)) as server:
        yield {"host": f"https://{server.address}:{server.port}", "ca_cert": str(directory / "ca.crt")}


def weak(root: Pair) -> Pair:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is what is refused
    like = make("weak", "127.0.0.1", by=root).certificate
    builder = x509.CertificateBuilder(like.issuer, like.subject, key.public_key(), 7, like.not_valid_before_utc, like.not_valid_after_utc)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    return Pair(builder.sign(root.private_key, hashes.SHA256()), key)  # type: ignore[arg-type]


OLD_ROOT = make("old root", ca=True, begins=-9, ends=-1)
NO_CA = make("no CA", by=PKI.root)
CERTIFICATES: dict[str, tuple[Callable[[], tuple[Pair, ...]], Pair, str]] = {
    # certificates, what is trusted, what is said
    "wrong name": (
        lambda: (make("s", "a.example.com", "b.example.com", by=PKI.root),),
        PKI.root,
        "it is for a.example.com, b.example.com and not for 127.0.0.1: reach the server by a name that its certificate covers, "
        "or set `tls-server-name: a.example.com`",
    ),
    "wrong name, wildcard": (lambda: (make("s", "*.example.com", by=PKI.root),), PKI.root, "it is for *.example.com and not for 127.0.0.1"),
    "no name": (lambda: (make("127.0.0.1", by=PKI.root),), PKI.root, "it is not for 127.0.0.1"),
    "expired": (
        lambda: (make("s", "127.0.0.1", by=PKI.root, begins=-9, ends=-1),),
        PKI.root,
        "has expired: renew the certificate on the cluster",
    ),
    "expired CA": (lambda: (make("s", "127.0.0.1", by=OLD_ROOT),), OLD_ROOT, "it, or a CA above it, has expired"),
    "not yet valid": (lambda: (make("s", "127.0.0.1", by=PKI.root, begins=1),), PKI.root, "is not valid yet: compare the clocks"),
    "unknown CA": (lambda: (PKI.server,), PKI.foreign, "pass the CA that issued it with ca_cert or in the kubeconfig"),
    "unknown CA, in the chain": (lambda: (PKI.server, PKI.root), PKI.foreign, "pass the CA that issued it"),
    "self-signed": (lambda: (make("s", "127.0.0.1"),), PKI.foreign, "pass the CA that issued it"),
    "issued by what is no CA": (lambda: (make("s", "127.0.0.1", by=NO_CA), NO_CA), PKI.root, "the certificate that issued it is no CA"),
}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_certificates(name: str, tmp_path: Path) -> None:
    chain, trusted, says = CERTIFICATES[name]
    with served(tmp_path, *chain(), trusted=trusted) as options:
        said = said_of(options)
    assert said.startswith(f"the certificate of the API server at {options['host']} cannot be verified (") and says in said


def test_a_weak_key(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(PKI.root.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    pair = weak(PKI.root)
    (tmp_path / "pem").write_bytes(pair.key() + pair.pem)
    context.load_cert_chain(tmp_path / "pem")
    with https(context) as server:
        said = said_of({"host": f"https://127.0.0.1:{server.port}", "ca_cert": str(tmp_path / "ca.crt")})
    assert "weaker than OpenSSL here allows: issue it again with RSA of 2048 bits" in said


def test_strictness(tmp_path: Path) -> None:
    """We do not ask for it; what a context that does says is understood all the same."""
    context = ssl.create_default_context(cadata=PKI.root.pem.decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with (
        https(server_context(tmp_path, PKI.server)) as server,
        socket.create_connection(("127.0.0.1", server.port)) as plain,
        pytest.raises(ssl.SSLCertVerificationError) as caught,
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")
    assert "it lacks what RFC 5280 asks of certificates" in faults.sentence(caught.value, "https://h", 1) and faults.is_final(caught.value)


def test_a_client_certificate_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(PKI.root.pem)
    context = server_context(tmp_path, PKI.server, client_ca=PKI.root)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 the refusal comes after the handshake, and may be lost
    with https(context) as server:
        said = said_of({"host": f"https://127.0.0.1:{server.port}", "ca_cert": str(tmp_path / "ca.crt")})
    assert "ended the TLS handshake" in said and "it may want another client certificate" in said


PLAIN: dict[str, tuple[str, bytes, str]] = {
    # scheme, answer, what is said
    "HTML": (
        "http",
        answered("200 OK", "<html><head><title>x</title></head><body><h1>Welcome</h1></body></html>"),
        "is no Kubernetes API server: it says 'Welcome' (HTTP status 200); "
        "check that kubeconfig, context, host and proxy name the right one",
    ),
    "not found in HTML": (
        "http",
        answered("404 Not Found", "<p>nginx</p>"),
        "is no Kubernetes API server: it says 'nginx' (HTTP status 404)",
    ),
    "a redirect": ("http", answered("302 Found"), "is no Kubernetes API server: it says '' (HTTP status 302)"),
    "TLS to a plain port": (
        "https",
        answered("400 Bad Request"),
        "speaks no TLS; write http:// where it is meant to (kubectl proxy), else check the port",
    ),
    "plain to a TLS port": (
        "http",
        answered("400 Bad Request", "Client sent an HTTP request to an HTTPS server.\n"),
        "write https:// in the server's URL",
    ),
    "no HTTP": ("http", b"SSH-2.0-OpenSSH_9.6\r\n", "no answer from the API server at"),
    "the connection ends": ("http", b"", "no answer from the API server at"),
    "half an answer": ("http", answered("200 OK", '{"kind": "Secret"}')[:-5], "no answer from the API server at"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_something_else(name: str) -> None:
    scheme, answer, says = PLAIN[name]

    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    with listening(handle) as server:
        said = said_of({"host": f"{scheme}://127.0.0.1:{server.port}"})
    assert f"://127.0.0.1:{server.port}" in said and says in said


def test_another_version() -> None:
    groups = '{"kind": "APIGroup", "versions": [{"version": "v1beta1"}, {"version": "v1alpha3"}]}'
    with listening(
        lambda connection: http_once(
            connection,
            server,
            answered("200 OK", groups)
            if b"istio.io HTTP" in connection.recv(65536, socket.MSG_PEEK)
            else answered("404 Not Found", "404 page not found\n"),
        )
    ) as server:
        cluster = connect({"host": f"http://127.0.0.1:{server.port}", "api_key": "k"}, {})
        cluster.stopping.set()
        with pytest.raises(
            ClusterError, match=r"but networking\.istio\.io in v1beta1, v1alpha3: .* upgrade them to those of Istio 1\.22 or newer"
        ):
            list(cluster.list(GATEWAY, "n"))


def test_nothing_listens() -> None:
    assert f"after 1 attempt (Connection refused); nothing listens there: {CHECK}" in said_of({"host": f"https://127.0.0.1:{unused()}"})


def test_a_name_that_nobody_knows() -> None:
    said = said_of({"host": "https://no-such-host.invalid:6443"})
    assert "; this name is not known here: correct the name in kubeconfig, context or host, or check this machine's DNS" in said


def test_silence() -> None:
    with listening(lambda connection: connection.recv(1) and connection.recv(1 << 20) and connection.recv(1)) as server:
        said = said_of({"host": f"http://127.0.0.1:{server.port}"})
    assert "it took the connection and did not answer in time: see whether it is overloaded (`kubectl get --raw /readyz`)" in said


def test_silence_in_the_handshake() -> None:
    with listening(lambda connection: connection.recv(1 << 20) and connection.recv(1)) as server:
        said = said_of({"host": f"https://127.0.0.1:{server.port}"})
    assert "no answer from the API server at" in said and "timed out" in said


def unused() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


KUBECONFIG = {
    "clusters": [{"name": "c", "cluster": {"server": "https://api.example.com:6443"}}],
    "users": [{"name": "c", "user": {"token": "t"}}],
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    "current-context": "c",
}
BY = {
    # who names the proxy: what is told of where
    "option": ("named by the option proxy", "in the URL of the option proxy", "remove the option proxy"),
    "HTTPS_PROXY": ("named by HTTPS_PROXY", "in the URL of HTTPS_PROXY", "add api.example.com to NO_PROXY"),
    "https_proxy": ("named by https_proxy", "in the URL of https_proxy", "add api.example.com to no_proxy"),
    "kubeconfig": ("named by proxy-url of cluster 'c'", "in the URL of proxy-url of cluster 'c'", "remove proxy-url of cluster 'c'"),
}
WANTS_LOGIN, REFUSES = answered("407 Proxy Authentication Required"), answered("503 Service Unavailable")


def said_through(by: str, url: str) -> str:
    server: dict[str, Any] = {"host": "https://api.example.com:6443"}
    if by == "kubeconfig":
        cluster = {**KUBECONFIG["clusters"][0]["cluster"], "proxy-url": url}  # type: ignore[index, dict-item]
        return said_of({"kubeconfig": {**KUBECONFIG, "clusters": [{"name": "c", "cluster": cluster}]}})
    return said_of({**server, "proxy": url}) if by == "option" else said_of(server, {by: url})


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize(
    ("scheme", "answer", "says", "remedy"),
    [
        ("http", WANTS_LOGIN, "407 Proxy Authentication Required", 0),
        ("http", REFUSES, "503 Service Unavailable", 1),
        ("https", WANTS_LOGIN, "it speaks no TLS: write http:// in its URL", 1),
        ("socks5", b"\x05\xff", "SOCKS5: it wants a login", 0),
        ("socks5", b"HTTP/1.1 400 Bad Request", "it speaks no SOCKS5", 1),
        ("socks5", b"\x05\x00\x05\x05\x00\x01" + bytes(6), "SOCKS5: connection refused", 1),
        ("socks5", b"\x05\x00\x05\x02\x00\x01" + bytes(6), "SOCKS5: not allowed by its rules", 1),
        ("socks5", b"\x05", "it closed the connection", 1),
        ("http", None, "Connection refused", 1),
        ("https", None, "Connection refused", 1),
        ("socks5", None, "no connection to it: Connection refused", 1),
    ],
)
def test_proxies(by: str, scheme: str, answer: bytes | None, says: str, remedy: int) -> None:
    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer or b"")
        if len(answer or b"") > 2 and scheme == "socks5":
            connection.recv(65536)

    with listening(handle) if answer is not None else contextlib.nullcontext() as server:
        port = server.port if server else unused()
        said = said_through(by, f"{scheme}://127.0.0.1:{port}")
    named, *remedies = BY[by]
    assert said.startswith(f"the proxy {scheme}://127.0.0.1:{port} ({named}") and says in said
    assert "gave no connection to the API server at https://api.example.com:6443 (" in said and remedies[remedy] in said


def test_a_proxy_that_goes_away() -> None:
    with listening(lambda connection: connection.recv(65536)) as server:
        said = said_through("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")
    assert f"through the proxy http://127.0.0.1:{server.port} (named by HTTPS_PROXY)" in said and "and that the proxy leads there" in said


def test_a_refused_login_of_a_proxy_is_not_repeated() -> None:
    with listening(lambda connection: connection.recv(65536) and connection.sendall(WANTS_LOGIN)) as server:
        said = said_through("HTTPS_PROXY", f"http://me:c4n4ry@127.0.0.1:{server.port}")
    assert re.search(r"the proxy http://\*\*\*@127\.0\.0\.1:\d+ \(named by HTTPS_PROXY\)", said)
