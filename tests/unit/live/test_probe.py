# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.live import handshake, reach
from ansible_collections.meshops.istio.plugins.module_utils.live import probe as probe_module
from ansible_collections.meshops.istio.plugins.module_utils.live.probe import probe
from ansible_collections.meshops.istio.plugins.module_utils.live.request import BODY_LIMIT, EXCERPT_LENGTH, FAILURES, Request, Result, check
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected
from ansible_collections.meshops.istio.tests.unit.live.servers import (
    OK,
    Pair,
    Pki,
    Server,
    http_once,
    https,
    listening,
    make,
    server_context,
)
from cryptography.hazmat.primitives import hashes

HOST = "a.example.com"


def request(server: Server, pki: Pki, **more: Any) -> Request:
    given: dict[str, Any] = {"host": HOST, "address": server.address, "port": server.port, "ca": pki.root.pem, "timeout": 5.0}
    return Request(**given | more)


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


# --- what goes well ---------------------------------------------------------------------------------------------------


def test_request_goes_through(pki: Pki, tmp_path: Path) -> None:
    with https(server_context(tmp_path, pki.server, pki.root)) as server:
        result = probe(request(server, pki, path="/status/418?a=b", headers={"X-Test": "yes"}))
    assert (result.stage, result.failure, result.status, result.text) == ("http", None, 200, "hello")
    assert (result.address, result.sni, result.protocol, result.alert) == ("127.0.0.1", HOST, "TLSv1.3", None)
    assert result.cipher is not None
    assert result.cipher.startswith("TLS_")
    assert server.snis == [HOST]
    head = server.requests[0].decode()
    assert head.startswith("GET /status/418?a=b HTTP/1.1\r\n")
    assert f"\r\nHost: {HOST}\r\n" in head  # without the port, which is a way in (a node port, say), and no part of the name
    assert "\r\nX-Test: yes\r\n" in head
    assert list(result.timings) == ["dns", "tcp", "tls", "http", "total"]
    assert result.timings["total"] >= max(result.timings[stage] for stage in ("dns", "tcp", "tls", "http")) > 0


def test_peer_chain_is_described(pki: Pki, tmp_path: Path) -> None:
    with https(server_context(tmp_path, pki.server, pki.root)) as server:
        result = probe(request(server, pki))
    leaf, root = result.peer_chain
    assert leaf["fingerprint_sha256"] == pki.server.certificate.fingerprint(hashes.SHA256()).hex(":")
    assert int(leaf["serial"], 16) == pki.server.certificate.serial_number
    assert "a.example.com" in str(leaf["sans"])
    assert "test root" in leaf["issuer"]
    assert "test root" in root["subject"]


def test_result_is_plain_data(pki: Pki, tmp_path: Path) -> None:
    import json

    with https(server_context(tmp_path, pki.server)) as server:
        shown = probe(request(server, pki)).as_result()
    assert json.loads(json.dumps(shown)) == shown
    assert (shown["body"], shown["body_truncated"]) == ("hello", False)


def test_environment_proxies_are_not_used(pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with https(server_context(tmp_path, pki.server)) as server:
        assert probe(request(server, pki)).status == 200


@pytest.mark.parametrize(
    ("more", "seen", "failure"),
    [
        ({"sni": "b.example.com"}, "b.example.com", None),  # the host decides what the certificate must say
        ({"sni": ""}, None, None),
        ({"host": "b.example.com", "sni": "a.example.com"}, "a.example.com", "name_mismatch"),
        ({"host": "b.example.com", "sni": ""}, None, "name_mismatch"),
        ({"host": "x.wild.example.com"}, "x.wild.example.com", None),
        ({"host": "x.wild.example.com", "sni": "other"}, "other", None),
        ({"host": "y.x.wild.example.com"}, "y.x.wild.example.com", "name_mismatch"),
        ({"host": "127.0.0.1", "address": None}, None, None),  # an address is no SNI, and is looked for among the certificate's addresses
        ({"host": "127.0.0.1", "sni": "a.example.com"}, "a.example.com", None),
        ({"host": "127.0.0.2"}, None, "name_mismatch"),
        ({"host": "127.0.0.2", "sni": "a.example.com"}, "a.example.com", "name_mismatch"),
        ({"host": "A.Example.COM."}, "a.example.com", None),
    ],
)
def test_sni_and_name(pki: Pki, tmp_path: Path, more: dict[str, Any], seen: str | None, failure: str | None) -> None:
    with https(server_context(tmp_path, pki.server)) as server:
        result = probe(request(server, pki, **more))
    assert (server.snis, result.sni, result.failure) == ([seen], seen, failure)
    assert bool(server.requests) == (failure is None)
    assert len(result.peer_chain) == 1


def test_intermediate_as_anchor(pki: Pki, tmp_path: Path) -> None:
    intermediate = make("intermediate", by=pki.root, ca=True)
    leaf = make("leaf", HOST, by=intermediate)
    with https(server_context(tmp_path, leaf)) as server:
        assert probe(request(server, pki, ca=intermediate.pem)).failure is None
        assert probe(request(server, pki)).failure == "unknown_ca"
    with https(server_context(tmp_path, leaf, intermediate)) as server:
        assert probe(request(server, pki)).failure is None


def test_system_store_is_used_only_without_ca(pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store.pem"
    store.write_bytes(pki.root.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(store))
    with https(server_context(tmp_path, pki.server)) as server:
        asked = request(server, pki, ca=None)
        assert probe(asked).failure is None
        assert probe(replace(asked, ca=pki.foreign.pem)).failure == "unknown_ca"
        assert probe(replace(asked, ca=pki.foreign.pem, trust_system_store=True)).failure is None


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_handshake_alone(pki: Pki, tmp_path: Path, version: str) -> None:
    context = server_context(tmp_path, pki.server)
    context.set_alpn_protocols(["h2"])
    with https(context) as server:
        result = probe(request(server, pki, scheme="tls", max_version=version, alpn=("h2", "http/1.1")))
    assert (result.stage, result.failure, result.protocol, result.alpn, result.status) == ("tls", None, version, "h2", None)
    assert server.requests == []


def test_ipv6_literal(pki: Pki, tmp_path: Path) -> None:
    pair = make("six", "::1", by=pki.root)
    try:
        with https(server_context(tmp_path, pair), address="::1") as server:
            result = probe(request(server, pki, host="[::1]", address=None))
    except OSError:
        pytest.skip("there is no IPv6 here")
    assert (result.failure, result.address) == (None, "::1")
    assert b"\r\nHost: [::1]\r\n" in server.requests[0]


def test_without_verification_anything_goes(pki: Pki, tmp_path: Path) -> None:
    with https(server_context(tmp_path, make("old", "other.example.com", by=pki.foreign, ends=-0.5))) as server:
        result = probe(request(server, pki, verify=False))
    assert (result.failure, result.status, len(result.peer_chain)) == (None, 200, 1)


# --- what the server's certificate may lack ---------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [True, False], ids=["same handshake", "second handshake"])
@pytest.mark.parametrize(
    ("failure", "issue"),
    [
        ("unknown_ca", lambda pki: make("leaf", HOST, by=pki.foreign)),
        ("unknown_ca", lambda pki: make("leaf", HOST)),
        # another CA of the same name, as after a rotation that keeps the CA's subject
        ("unknown_ca", lambda pki: make("leaf", HOST, by=make("test root", ca=True))),
        ("name_mismatch", lambda pki: make("leaf", "other.example.com", by=pki.root)),
        ("name_mismatch", lambda pki: make(HOST, by=pki.root)),
        ("expired", lambda pki: make("leaf", HOST, by=pki.root, ends=-0.5)),
        ("not_yet_valid", lambda pki: make("leaf", HOST, by=pki.root, begins=1)),
        ("certificate_invalid", lambda pki: make("leaf", HOST, by=make("no CA", by=pki.root))),
    ],
)
def test_refused_certificate_is_shown(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str, issue: Any, kept: bool
) -> None:
    if not kept:
        chain, calls = handshake.served_chain, []

        def forgetful(secured: ssl.SSLSocket) -> tuple[bytes, ...]:
            calls.append(secured)
            return chain(secured) if len(calls) > 1 else ()

        monkeypatch.setattr(handshake, "served_chain", forgetful)
    leaf: Pair = issue(pki)
    chain_sent = ()
    if failure == "certificate_invalid":
        middle = make("no CA", by=pki.root)
        leaf, chain_sent = make("leaf", HOST, by=middle), (middle,)
    with https(server_context(tmp_path, leaf, *chain_sent)) as server:
        result = probe(request(server, pki))
    assert (result.stage, result.failure, result.alert, result.status) == ("tls", failure, None, None)
    assert [int(certificate["serial"], 16) for certificate in result.peer_chain] == [
        pair.certificate.serial_number for pair in (leaf, *chain_sent)
    ]
    assert result.detail
    assert server.requests == []


# --- client certificates ----------------------------------------------------------------------------------------------


def client(pair: Pair) -> dict[str, Any]:
    return {"client_certificate": pair.pem, "client_private_key": pair.key()}


@pytest.mark.parametrize("scheme", ["https", "tls"])
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_client_certificate(pki: Pki, tmp_path: Path, version: str, scheme: str) -> None:
    with https(server_context(tmp_path, pki.server, client_ca=pki.root)) as server:
        asked = request(server, pki, max_version=version, scheme=scheme)
        results = [
            probe(asked),
            probe(replace(asked, **client(make("client", by=pki.foreign)))),
            probe(replace(asked, **client(make("client", by=pki.root, ends=-0.5)))),
            probe(replace(asked, **client(make("client", by=pki.root)))),
        ]
    assert [(result.stage, result.failure) for result in results] == [
        ("tls", "certificate_required"),
        ("tls", "client_certificate_refused"),
        ("tls", "client_certificate_refused"),
        (scheme.replace("https", "http"), None),
    ]
    first = "certificate_required" if version == "TLSv1.3" else "handshake_failure"
    assert [result.alert for result in results] == [first, "unknown_ca", "certificate_expired", None]
    assert all("CN=server" in result.peer_chain[0]["subject"] for result in results)


def test_the_servers_verdict_need_not_be_waited_for(pki: Pki, tmp_path: Path) -> None:
    """Envoy says nothing when it is content, so that each handshake would take half a second, of which the served certificate is no matter."""
    with https(server_context(tmp_path, pki.server, client_ca=pki.root)) as server:
        asked = request(server, pki, max_version="TLSv1.3", scheme="tls")
        results = [probe(replace(asked, awaits_verdict=awaits)) for awaits in (True, False)]
    assert [result.failure for result in results] == ["certificate_required", None]
    assert results[0].peer_chain == results[1].peer_chain != ()


@pytest.mark.parametrize(("asks", "knows", "waits"), [(False, True, False), (True, True, True), (False, False, True)])
def test_a_verdict_is_waited_for_where_a_certificate_was_asked_for(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asks: bool, knows: bool, waits: bool
) -> None:
    """Else each of a thousand hosts would take half a second more. Where Python does not tell whether it was, it may have been."""
    waited: list[object] = []
    monkeypatch.setattr(handshake, "_settle", lambda *arguments: waited.append(arguments))
    if not knows:
        monkeypatch.setattr(handshake, "_notes_requests", lambda context: False)
    with https(server_context(tmp_path, pki.server, client_ca=pki.root if asks else None)) as server:
        asked, contexts = request(server, pki, max_version="TLSv1.3", scheme="tls"), handshake.Contexts()
        for __ in range(2):  # the second with what the first was made by
            assert probe(asked, contexts=contexts).failure is None
    assert len(waited) == 2 * waits


def test_certificate_required_is_told_reliably(pki: Pki, tmp_path: Path) -> None:
    # the alert races with our request, on which the server's reset follows
    with https(server_context(tmp_path, pki.server, client_ca=pki.root)) as server:
        asked = request(server, pki, body=b"x" * 500_000, method="POST")
        assert {probe(asked).failure for number in range(20)} == {"certificate_required"}


def test_key_touches_no_file(pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    on = True

    def audit(event: str, arguments: Any) -> None:
        if on and event in ("open", "tempfile.mkstemp", "tempfile.mkdtemp", "os.rename", "os.link", "os.symlink"):
            opened.append(f"{event} {arguments[0]}")

    pair = make("client", by=pki.root)
    with https(server_context(tmp_path, pki.server, client_ca=pki.root)) as server:
        asked = request(server, pki, client_certificate=pair.pem, client_private_key=pair.key(b"open sesame"))
        asked = replace(asked, client_private_key_passphrase="open sesame")
        probe(asked)  # imports are done now
        (tmp_path / "empty").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "empty"))
        sys.addaudithook(audit)
        assert probe(asked).failure is None
        monkeypatch.delattr(os, "memfd_create", raising=False)
        assert probe(asked).failure is None
        on = False
    assert opened == []
    assert list((tmp_path / "empty").iterdir()) == []
    assert "PRIVATE" not in repr(asked)
    assert "sesame" not in repr(asked)


@pytest.mark.parametrize(
    ("code", "more"),
    [
        ("key_mismatch", lambda pki: {"client_private_key": pki.foreign.key()}),
        ("key_missing", lambda pki: {"client_private_key": None}),
        ("passphrase_missing", lambda pki: {"client_private_key": pki.server.key(b"secret-word")}),
        (
            "passphrase_wrong",
            lambda pki: {"client_private_key": pki.server.key(b"secret-word"), "client_private_key_passphrase": "other-word"},
        ),
        ("not_pem", lambda pki: {"client_private_key": b"secret-word"}),
        ("key_unreadable", lambda pki: {"client_private_key": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}),
        ("not_pem", lambda pki: {"client_certificate": b"secret-word"}),
        ("not_pem", lambda pki: {"ca": b"secret-word"}),
    ],
)
@pytest.mark.parametrize("memfd", [True, False])
def test_unusable_certificates_are_refused(pki: Pki, monkeypatch: pytest.MonkeyPatch, code: str, more: Any, memfd: bool) -> None:
    if not memfd:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    asked = Request("a.example.com", "127.0.0.1", 1, **({"ca": pki.root.pem} | client(pki.server) | more(pki)))
    with pytest.raises(Rejected) as rejected:
        probe(asked)
    assert [problem.code for problem in rejected.value.problems] == [code if memfd else code.replace("key_mismatch", "key_unreadable")]
    assert "-word" not in str(rejected.value)


def test_key_within_the_certificate_file(pki: Pki, tmp_path: Path) -> None:
    pair = make("client", by=pki.root)
    with https(server_context(tmp_path, pki.server, client_ca=pki.root)) as server:
        assert probe(request(server, pki, client_certificate=pair.key() + pair.pem)).failure is None


# --- servers that do something else -----------------------------------------------------------------------------------


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def reset_on_hello(connection: socket.socket) -> None:
    connection.recv(65536)
    reset(connection)


def alert(number: int) -> Any:
    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(bytes([21, 3, 3, 0, 2, 2, number]))

    return handle


@pytest.mark.parametrize(
    ("failure", "told", "handle"),
    [
        ("connection_reset", None, reset_on_hello),
        ("connection_reset", None, lambda connection: connection.recv(65536)),  # closes
        ("not_tls", None, lambda connection: connection.recv(65536) and connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("not_tls", None, lambda connection: connection.sendall(b"220 mail.example.com ESMTP\r\n") or connection.recv(65536)),
        ("unrecognized_name", "unrecognized_name", alert(112)),
        ("protocol_version", "protocol_version", alert(70)),
        ("handshake_failure", "handshake_failure", alert(40)),
        ("handshake_failure", "internal_error", alert(80)),
        ("handshake_failure", "no_application_protocol", alert(120)),
    ],
)
def test_servers_that_break_off(pki: Pki, failure: str, told: str | None, handle: Any) -> None:
    with listening(handle) as server:
        result = probe(request(server, pki))
    assert (result.stage, result.failure, result.alert, result.peer_chain) == ("tls", failure, told, ())


def test_no_version_in_common(pki: Pki, tmp_path: Path) -> None:
    context = server_context(tmp_path, pki.server)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with https(context) as server:
        assert probe(request(server, pki)).protocol == "TLSv1.2"
        assert probe(request(server, pki, min_version="TLSv1.3")).failure == "protocol_version"
        old = probe(request(server, pki, max_version="TLSv1.1"))
    assert (old.failure, old.alert) == ("protocol_version", "protocol_version")  # it is the server that says so, not our own policy


def test_nothing_listens(pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = probe(Request(HOST, "127.0.0.1", port, ca=pki.root.pem))
    assert (result.stage, result.failure, result.address) == ("tcp", "connection_refused", "127.0.0.1")
    assert list(result.timings) == ["dns", "tcp", "total"]


def test_name_does_not_resolve() -> None:
    result = probe(Request("nowhere.invalid", timeout=3))
    assert (result.stage, result.failure, result.address) == ("dns", "name_not_resolved", None)


def test_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **more: released.wait(5) and [])
    result = probe(Request(HOST, timeout=0.05))
    released.set()
    assert (result.stage, result.failure) == ("dns", "name_not_resolved")


def test_next_address_is_tried(pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with https(server_context(tmp_path, pki.server)) as server:
        both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, server.port)) for address in ("127.0.0.9", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **more: both)
        result = probe(request(server, pki))
    assert (result.failure, result.address) == (None, "127.0.0.1")


@pytest.mark.parametrize(
    ("scheme", "stage", "failure"), [("https", "tls", "tls_timeout"), ("tls", "tls", "tls_timeout"), ("http", "http", "http_timeout")]
)
def test_silent_server(pki: Pki, scheme: str, stage: str, failure: str) -> None:
    done = threading.Event()
    with listening(lambda connection: done.wait(5)) as server:
        result = probe(request(server, pki, ca=None, scheme=scheme, timeout=0.1))
        done.set()
    assert (result.stage, result.failure) == (stage, failure)
    assert 90 < result.timings["total"] < 1000


def test_connection_that_is_never_accepted(pki: Pki) -> None:
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (fillers.enter_context(socket.socket()) for number in range(2)):  # fill the queue: further SYNs are dropped
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        result = probe(Request(HOST, *listener.getsockname(), timeout=0.1))
    assert (result.stage, result.failure) == ("tcp", "connection_timeout")


# --- http -------------------------------------------------------------------------------------------------------------


def plain(answer: bytes, **more: Any) -> tuple[Result, Server]:
    server: Server
    with listening(lambda connection: http_once(connection, server, answer)) as server:
        result = probe(Request(**{"host": HOST, "address": server.address, "port": server.port, "scheme": "http", "timeout": 2.0} | more))
    return result, server


def test_plain_http() -> None:
    result, server = plain(OK, method="POST", path="/anything", body=b"data", headers={"host": "other.example.com", "accept": "text/html"})
    assert (result.stage, result.failure, result.status, result.text) == ("http", None, 200, "hello")
    assert (result.sni, result.protocol, result.peer_chain) == (None, None, ())
    head, body = server.requests[0].split(b"\r\n\r\n")
    assert b"\r\nhost: other.example.com" in head
    assert head.lower().count(b"host:") == head.lower().count(b"accept:") == 1
    assert b"\r\nContent-Length: 4" in head
    assert body in (b"", b"data")  # it may arrive apart from the head


def test_chunked_body_and_headers() -> None:
    result = plain(
        b"HTTP/1.1 418 I'm a teapot\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\nx-a: 2\r\nContent-Type: text/plain; charset=latin-1\r\n\r\n"
        b"3\r\nteA\r\n2\r\n\xe4p\r\n0\r\n\r\n"
    )[0]
    assert (result.failure, result.status, result.text) == (None, 418, "teAäp")
    assert result.headers["x-a"] == "1, 2"


def test_body_until_close_head_and_unknown_charset() -> None:
    assert plain(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain; charset=nonsense\r\n\r\nuntil \xffclose")[0].text == "until �close"
    assert plain(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", method="HEAD")[0].failure is None
    assert plain(b"HTTP/1.1 204 No Content\r\n\r\n")[0].failure is None


def test_large_body_is_bounded() -> None:
    result = plain(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"a" * 9_000_000)[0]
    assert (result.failure, len(result.text), result.text_truncated) == (None, BODY_LIMIT, True)
    assert (len(result.as_result()["body"]), result.as_result()["body_truncated"]) == (EXCERPT_LENGTH, True)


@pytest.mark.parametrize(
    ("answer", "failure", "status"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "http_malformed", None),
        (b"", "connection_reset", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "connection_reset", 200),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nsh", "connection_reset", 200),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "http_malformed", 200),
    ],
)
def test_broken_responses(answer: bytes, failure: str, status: int | None) -> None:
    result = plain(answer)[0]
    assert (result.stage, result.failure, result.status) == ("http", failure, status)


def test_body_that_never_ends() -> None:
    done = threading.Event()

    def handle(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not done.wait(0.02):
            connection.sendall(b".")  # each part in time, the whole never

    with listening(handle) as server:
        result = probe(Request(HOST, server.address, server.port, scheme="http", timeout=0.2))
        done.set()
    assert (result.failure, result.status) == ("http_timeout", 200)
    assert result.timings["total"] < 1000


def test_server_that_resets_after_the_handshake(pki: Pki, tmp_path: Path) -> None:
    context = server_context(tmp_path, pki.server)

    def handle(connection: socket.socket) -> None:
        secured = context.wrap_socket(connection, server_side=True)
        secured.recv(65536)
        reset(socket.socket(fileno=secured.detach()))

    with listening(handle) as server:
        result = probe(request(server, pki))
    assert (result.stage, result.failure, len(result.peer_chain)) == ("http", "connection_reset", 1)
    assert "TLS 1.3" in result.detail


# --- requests that cannot be made ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "given"),
    [
        ("host", {"host": "https://a.example.com/"}),
        ("host", {"host": "a.example.com:443"}),
        ("host", {"host": ""}),
        ("host", {"host": "*.example.com"}),
        ("host", {"host": f"{'a' * 64}.example.com"}),
        ("host", {"host": "ä" * 64}),
        ("address", {"address": "not an address"}),
        ("sni", {"sni": "a b"}),
        ("sni", {"sni": "127.0.0.1"}),
        ("port", {"port": 0}),
        ("port", {"port": 65536}),
        ("request_timeout", {"timeout": 0}),
        ("method", {"method": "GET /"}),
        ("path", {"path": "status"}),
        ("path", {"path": "/a b"}),
        ("path", {"path": "/\r\nX: y"}),
        ("headers", {"headers": {"X": "a\r\nY: b"}}),
        ("headers", {"headers": {"X:": "a"}}),
        ("min_version", {"min_version": "SSLv3"}),
        ("min_version", {"min_version": "TLSv1.3", "max_version": "TLSv1.2"}),
        ("alpn", {"alpn": ("h2",)}),
        ("client_private_key", {"client_private_key": b"k"}),
        ("scheme", {"scheme": "http", "ca": b"c"}),
    ],
)
def test_impossible_requests(where: str, given: dict[str, Any]) -> None:
    assert [problem.where for problem in check(Request(**{"host": HOST} | given))] == [where]


def test_possible_requests() -> None:
    for given in (
        {"host": "localhost"},
        {"host": "bücher.example"},
        {"host": "_a.example.com."},
        {"host": "::1"},
        {"sni": ""},
        {"path": "*", "method": "OPTIONS"},
        {"path": "/a?b=%20#c"},
        {"alpn": ("h2",), "scheme": "tls"},
    ):
        assert check(Request(**{"host": HOST} | given)) == [], given
    assert Request("bücher.example").sent_sni == "xn--bcher-kva.example"


def test_every_failure_of_the_code_is_documented() -> None:
    import re

    source = "".join(Path(room.__file__).read_text(encoding="utf-8") for room in (probe_module, reach, handshake))
    named = set(re.findall(r'Failed\(\s*"(\w+)"', source)) | set(handshake.VERIFY_CODES.values())
    named |= {"protocol_version", "unrecognized_name", "certificate_invalid"}  # through variables
    assert named == set(FAILURES)
