# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""curl's requests against real servers: the same result as a probe's own, and nothing secret where others could see it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.live import curl
from ansible_collections.meshops.istio.plugins.module_utils.live.curl import Runner, check_for_curl, command, probe_by
from ansible_collections.meshops.istio.plugins.module_utils.live.curl_answer import CurlError, Files
from ansible_collections.meshops.istio.plugins.module_utils.live.probe import probe
from ansible_collections.meshops.istio.plugins.module_utils.live.request import BODY_LIMIT, Request, Result
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

HOST = "a.example.com"

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


def here(arguments: Sequence[str], data: bytes) -> tuple[int, bytes, bytes]:
    done = subprocess.run(list(arguments), input=data, capture_output=True, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr


by_curl = probe_by(here)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curl, "_HANDSHAKE_SECONDS", 0.3)


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


def request(server: Server, pki: Pki, **more: Any) -> Request:
    given: dict[str, Any] = {"host": HOST, "address": server.address, "port": server.port, "ca": pki.root.pem, "timeout": 5.0}
    return Request(**given | more)


def client(pair: Pair) -> dict[str, bytes]:
    return {"client_certificate": pair.pem, "client_private_key": pair.key()}


def ending(result: Result) -> tuple[Any, ...]:
    return result.stage, result.failure, result.alert, result.status, result.text, result.address, result.sni


# --- the same as a probe ----------------------------------------------------------------------------------------------


@needs_curl
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"path": "/status/418?a=b&c=%20", "headers": {"X-Test": 'a "quoted" \\ value', "X-Empty": "", "User-Agent": "me"}},
        {"method": "POST", "headers": {"Content-Type": "text/plain"}},
        {"method": "PUT", "body": b""},
        {"method": "HEAD"},
        {"method": "DELETE"},
        {"method": "OPTIONS", "path": "*"},
        {"path": "/../a/./b#c"},
        {"verify": False, "ca": None},
        {"max_version": "TLSv1.2"},
        {"min_version": "TLSv1.3"},
        {"alpn": ()},
    ],
    ids=str,
)
def test_requests_are_the_same(pki: Pki, tmp_path: Path, more: dict[str, Any]) -> None:
    with https(server_context(tmp_path, pki.server, pki.root)) as server:
        asked = request(server, pki, **more)
        own, theirs = probe(asked), by_curl(asked)
    assert ending(own) == ending(theirs)
    assert own.verified is theirs.verified is more.get("verify", True)
    assert (own.protocol, own.cipher, own.alpn, own.headers) == (theirs.protocol, theirs.cipher, theirs.alpn, theirs.headers)
    assert [one["fingerprint_sha256"] for one in own.peer_chain] == [one["fingerprint_sha256"] for one in theirs.peer_chain]
    assert list(theirs.timings) == list(own.timings)
    heads = [one.partition(b"\r\n\r\n")[0].split(b"\r\n") for one in server.requests]
    sent = [sorted(line.strip() for line in head if line != b"Content-Length: 0") for head in heads]
    assert sent[0] == sent[1]
    assert server.snis == [HOST, HOST]


def issued(pki: Pki, **more: Any) -> Pair:
    return make("server", HOST, by=more.pop("by", pki.root), **more)


FAILURES = {
    "unknown_ca": lambda pki: issued(pki, by=pki.foreign),
    "unknown_ca, self-signed": lambda pki: make("server", HOST),
    "unknown_ca, of the same name": lambda pki: issued(pki, by=make("test root", ca=True)),
    "expired": lambda pki: issued(pki, ends=-0.5),
    "not_yet_valid": lambda pki: issued(pki, begins=1),
    "name_mismatch": lambda pki: make("server", "b.example.com", by=pki.root),
    "name_mismatch, common name alone": lambda pki: make(HOST, by=pki.root),
}


@needs_curl
@pytest.mark.parametrize("kind", FAILURES)
def test_refused_certificates(pki: Pki, tmp_path: Path, kind: str) -> None:
    with https(server_context(tmp_path, FAILURES[kind](pki))) as server:
        asked = request(server, pki)
        own, theirs = probe(asked), by_curl(asked)
    assert theirs.failure == kind.partition(",")[0]
    assert ending(own) == ending(theirs)
    assert own.peer_chain[0]["fingerprint_sha256"] == theirs.peer_chain[0]["fingerprint_sha256"]
    if kind != "name_mismatch, common name alone":  # curl takes that for a name
        assert server.requests == []  # to see what is served nothing is asked


@needs_curl
@pytest.mark.parametrize("scheme", ["https", "tls"])
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_client_certificates(pki: Pki, tmp_path: Path, version: str, scheme: str) -> None:
    with https(server_context(tmp_path, pki.server, client_ca=pki.root)) as server:
        asked = request(server, pki, max_version=version, scheme=scheme)
        cases = [
            asked,
            replace(asked, **client(make("client", by=pki.foreign))),
            replace(asked, **client(make("client", by=pki.root, ends=-0.5))),
            replace(asked, **client(make("client", by=pki.root))),
        ]
        own, theirs = [probe(one) for one in cases], [by_curl(one) for one in cases]
    assert [ending(one) for one in own] == [ending(one) for one in theirs]
    assert [one.failure for one in theirs] == ["certificate_required", "client_certificate_refused", "client_certificate_refused", None]


@needs_curl
def test_certificate_required_is_told_reliably(pki: Pki, tmp_path: Path) -> None:
    with https(server_context(tmp_path, pki.server, client_ca=pki.root)) as server:
        asked = request(server, pki, body=b"x" * 500_000, method="POST")
        assert {by_curl(asked).failure for __ in range(5)} == {"certificate_required"}


@needs_curl
def test_encrypted_keys_and_a_certificate_with_its_key(pki: Pki, tmp_path: Path) -> None:
    pair = make("client", by=pki.root)
    with https(server_context(tmp_path, pki.server, client_ca=pki.root)) as server:
        asked = request(server, pki, client_certificate=pair.pem, client_private_key=pair.key(b'open "sesame"'))
        assert by_curl(replace(asked, client_private_key_passphrase='open "sesame"')).status == 200
        assert by_curl(request(server, pki, client_certificate=pair.key() + pair.pem)).status == 200
        with pytest.raises(Rejected, match="passphrase"):
            by_curl(asked)
        with pytest.raises(Rejected):
            by_curl(replace(asked, client_private_key=pki.root.key()))


@needs_curl
def test_files_where_curl_runs(pki: Pki, tmp_path: Path) -> None:
    pair = make("client", by=pki.root)
    for name, content in (("ca.crt", pki.root.pem), ("tls.crt", pair.pem), ("tls.key", pair.key()), ("other.key", pki.root.key())):
        (tmp_path / name).write_bytes(content)
    paths = Files(str(tmp_path / "ca.crt"), str(tmp_path / "tls.crt"), str(tmp_path / "tls.key"))
    with https(server_context(tmp_path, pki.server, client_ca=pki.root)) as server:
        asked = request(server, pki, ca=None)
        assert probe_by(here, paths)(asked).status == 200
        assert command(asked, paths)[0] == ["curl", "-q", "-K", "-"]  # no shell is needed
        for wrong, where in (
            (replace(paths, client_private_key=str(tmp_path / "other.key")), "client_certificate"),
            (replace(paths, client_certificate=str(tmp_path / "none")), "client_certificate"),
            (replace(paths, ca=str(tmp_path / "none")), "ca_certificate"),
        ):
            with pytest.raises(Rejected, match="curl cannot use it") as rejected:
                probe_by(here, wrong)(asked)
            assert rejected.value.problems[0].where == where


@needs_curl
@pytest.mark.parametrize("body", [b"a=b\n'quoted' \"twice\" \\ \t\r\n\xc3\xa4", b"'\\\n\"x\xff" * 50_000], ids=["short", "long"])
def test_bodies_arrive_as_they_are(pki: Pki, body: bytes) -> None:
    received = bytearray()

    def handle(connection: socket.socket) -> None:
        while not received.endswith(body):
            received.extend(connection.recv(65536))
        connection.sendall(OK)

    with listening(handle) as server:
        asked = Request(host=HOST, address=server.address, port=server.port, scheme="http", method="POST", body=body, timeout=5.0)
        assert by_curl(asked).status == 200
    head, __, arrived = bytes(received).partition(b"\r\n\r\n")
    assert arrived == body
    assert b"Content-Length: %d" % len(body) in head and b"Content-Type" not in head and b"Expect" not in head


@needs_curl
def test_of_a_large_answer_the_beginning_is_kept(pki: Pki, tmp_path: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\n" + b"y" * (BODY_LIMIT + 1)
    with https(server_context(tmp_path, pki.server), answer) as server:
        result = by_curl(request(server, pki))
    assert (result.status, len(result.text), result.text_truncated) == (200, BODY_LIMIT, True)


@needs_curl
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nA: b\r\na: c\r\n\r\n", ("http", None, 204, "")),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=latin-1\r\nContent-Length: 1\r\n\r\n\xe4", ("http", None, 200, "ä")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", ("http", "connection_reset", 200, "hello")),
        (b"", ("http", "connection_reset", None, "")),
        (b"SSH-2.0-x\r\n\r\n", ("http", "http_malformed", None, "")),
    ],
)
def test_answers(answer: bytes, expected: tuple[Any, ...]) -> None:
    server: Server
    with listening(lambda connection: http_once(connection, server, answer)) as server:
        asked = Request(host=HOST, address=server.address, port=server.port, scheme="http", timeout=5.0)
        own, theirs = probe(asked), by_curl(asked)
    assert (theirs.stage, theirs.failure, theirs.status, theirs.text) == expected
    assert (own.failure, own.status) == (theirs.failure, theirs.status)
    if "a" in theirs.headers:
        assert theirs.headers["a"] == own.headers["a"] == "b, c"


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def alert(number: int) -> Any:
    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"\x15\x03\x03\x00\x02\x02" + bytes([number]))

    return handle


@needs_curl
@pytest.mark.parametrize(
    ("handle", "expected"),
    [
        (reset, ("tls", "connection_reset", None)),
        (lambda connection: connection.recv(65536), ("tls", "connection_reset", None)),
        (lambda connection: connection.recv(65536) and connection.sendall(OK), ("tls", "not_tls", None)),
        (alert(112), ("tls", "unrecognized_name", "unrecognized_name")),
        (alert(70), ("tls", "protocol_version", "protocol_version")),
        (alert(40), ("tls", "handshake_failure", "handshake_failure")),
        (lambda connection: time.sleep(0.6), ("tls", "tls_timeout", None)),
    ],
    ids=["reset", "closed", "http", "unrecognized_name", "protocol_version", "handshake_failure", "silent"],
)
def test_handshakes_that_fail(pki: Pki, handle: Any, expected: tuple[Any, ...]) -> None:
    with listening(handle) as server:
        result = by_curl(request(server, pki, timeout=0.4 if expected[1] == "tls_timeout" else 5.0))
    assert (result.stage, result.failure, result.alert) == expected
    assert result.address == server.address


@needs_curl
def test_versions_that_do_not_meet(pki: Pki, tmp_path: Path) -> None:
    context = server_context(tmp_path, pki.server)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with https(context) as server:
        assert by_curl(request(server, pki, max_version="TLSv1.2")).failure == "protocol_version"


@needs_curl
def test_no_way_there(pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    refused = by_curl(Request(host=HOST, address="127.0.0.1", port=port, timeout=5.0))
    assert (refused.stage, refused.failure, refused.address, refused.port) == ("tcp", "connection_refused", "127.0.0.1", port)
    unknown = by_curl(Request(host="does-not-exist.invalid", timeout=5.0))
    assert (unknown.stage, unknown.failure) == ("dns", "name_not_resolved")


@needs_curl
def test_the_environment_and_the_users_own_configuration_count_for_nothing(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".curlrc").write_text("proxy = http://127.0.0.1:9\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with https(server_context(tmp_path, pki.server)) as server:
        assert by_curl(request(server, pki)).status == 200


# --- what is secret ---------------------------------------------------------------------------------------------------


@needs_curl
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_nothing_secret_is_in_any_process_or_file(pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    pair = make("client", by=pki.root)
    secrets = [pair.key().splitlines()[1], b"open sesame", b"Bearer t0ken", b"in the body", pair.pem.splitlines()[1]]
    work, temporary = tmp_path / "work", tmp_path / "tmp"
    work.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    seen: list[bytes] = []

    def watched(arguments: Sequence[str], data: bytes) -> tuple[int, bytes, bytes]:
        assert list(arguments) == ["sh"]
        running = subprocess.Popen([shell], cwd=work, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert running.stdin
        running.stdin.write(data)
        running.stdin.close()
        running.stdin = None
        time.sleep(0.3)  # curl waits for the silent server now
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # it may have ended by now
                if entry.name.isdigit() and f"PPid:\t{running.pid}\n" in (entry / "status").read_text():
                    seen.extend(((entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()))
        seen.append(Path(f"/proc/{running.pid}/cmdline").read_bytes())
        assert not list(work.iterdir()) and not list(temporary.iterdir())
        out, err = running.communicate(timeout=10)
        return running.returncode, out, err

    with listening(lambda connection: time.sleep(1)) as server:
        asked = request(server, pki, timeout=1.0, client_certificate=pair.pem, client_private_key=pair.key(b"open sesame"))
        asked = replace(asked, client_private_key_passphrase="open sesame", headers={"Authorization": "Bearer t0ken"}, body=b"in the body")
        assert probe_by(watched)(asked).failure == "tls_timeout"
    assert any(b"curl" in one for one in seen)
    assert len(seen) >= 3
    for secret in secrets:
        assert not any(secret in one for one in seen)


def test_the_command_is_the_same_whatever_is_asked(pki: Pki) -> None:
    pair = make("client", by=pki.root)
    asked = Request(host=HOST, ca=pki.root.pem, client_certificate=pair.pem, client_private_key=pair.key())
    assert command(asked, Files())[0] == ["sh"]
    assert command(Request(host=HOST, headers={"Authorization": "x"}), Files())[0] == ["curl", "-q", "-K", "-"]


def test_a_shell_without_printf_of_its_own_is_not_given_a_key(pki: Pki, tmp_path: Path) -> None:
    def without(arguments: Sequence[str], data: bytes) -> tuple[int, bytes, bytes]:
        return here([*arguments], b"command() { echo /usr/bin/printf; }\n" + data)

    with pytest.raises(CurlError, match="printf is a program of its own"):
        probe_by(without)(Request(host=HOST, ca=pki.root.pem, timeout=1.0))


def test_what_the_container_has_in_its_environment_does_not_carry_secrets_to_curl(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("c", "p0", "p1", "p2", "p3"):
        monkeypatch.setenv(name, "set by somebody")
    curl_here = tmp_path / "curl"
    curl_here.write_text(f"#!/bin/sh\nenv > {tmp_path}/environment\n")
    curl_here.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    pair = make("client", by=pki.root)
    asked = Request(
        host=HOST, ca=pki.root.pem, client_certificate=pair.pem, client_private_key=pair.key(), headers={"X": "canary"}, timeout=1.0
    )
    with pytest.raises(CurlError):
        probe_by(here)(asked)
    seen = (tmp_path / "environment").read_text()
    assert "PATH=" in seen and "canary" not in seen and "-----BEGIN" not in seen


def test_a_body_is_no_way_into_the_shell(pki: Pki, tmp_path: Path) -> None:
    """Quoting holds whatever is in a header or a body."""
    mark = tmp_path / "was-here"
    evil = f"'; touch {mark}; '$(touch {mark})`touch {mark}`\\'"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    asked = Request(host=HOST, address="127.0.0.1", port=port, ca=pki.root.pem, headers={"X": evil}, body=evil.encode() * 2000, timeout=1.0)
    probe_by(here)(asked)
    assert not mark.exists()


# --- what cannot be asked ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "files", "told"),
    [
        (Request(host=HOST, sni="b.example.com"), Files(), "curl sends the name that it verifies"),
        (Request(host=HOST, sni="", verify=False), Files(), "curl sends the name that it verifies"),
        (Request(host=HOST, ca=b"x", trust_system_store=True), Files(), "either the system's CAs"),
        (Request(host=HOST, trust_system_store=False), Files(), "either the system's CAs"),
        (Request(host=HOST, scheme="tls", alpn=("h2",)), Files(), "cannot offer protocols"),
        (Request(host=HOST, ca=b"x"), Files(ca="/ca"), "ca_certificate is given too"),
        (Request(host=HOST), Files(client_private_key="/key"), "a key but no client certificate"),
        (Request(host=HOST), Files(ca="ca.crt"), "an absolute path"),
        (Request(host=HOST), Files(client_certificate="/a:b"), "without a colon"),
        (Request(host=HOST, scheme="http"), Files(ca="/ca"), "plain HTTP takes no CA"),
        (Request(host=HOST, body=b"\0"), Files(), "zero bytes"),
    ],
)
def test_what_curl_cannot_do(asked: Request, files: Files, told: str) -> None:
    (problem,) = check_for_curl(asked, files)
    assert told in str(problem)


def test_what_curl_can_do() -> None:
    assert check_for_curl(Request(host=HOST, sni="b.example.com", verify=False), Files()) == []
    assert check_for_curl(Request(host=HOST, ca=b"x", trust_system_store=False), Files(None, "/crt", "/key")) == []


@pytest.mark.parametrize(
    ("ran", "told"),
    [
        ((127, b"", b"sh: 2: curl: not found\n"), "no program curl"),
        ((97, b"", b""), "no program curl"),
        ((2, b"", b"curl: option --tls-max: is unknown\ncurl: try 'curl --help'\n"), "exit code 2: option --tls-max: is unknown"),
        ((137, b"", b""), "exit code 137: nothing was said"),
    ],
)
def test_no_curl_or_an_old_one(ran: tuple[int, bytes, bytes], told: str) -> None:
    def run(arguments: Sequence[str], data: bytes) -> tuple[int, bytes, bytes]:
        return ran

    runner: Runner = run
    with pytest.raises(CurlError, match="curl") as error:
        probe_by(runner)(Request(host=HOST))
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("code", "message", "number", "failure", "alert"),
    [
        # other versions and TLS libraries than the one here
        (60, "SSL certificate problem: self signed certificate in certificate chain", "19", "unknown_ca", None),
        (60, "SSL certificate problem: certificate has expired", "0", "expired", None),
        (60, "SSL: no alternative certificate subject name matches target host name 'a'", "0", "name_mismatch", None),
        (51, "SSL: certificate subject name 'b' does not match target host name 'a'", "0", "name_mismatch", None),
        (60, "SSL certificate problem: EE certificate key too weak", "66", "certificate_invalid", None),
        (98, "TLS client certificate required", "0", "certificate_required", "certificate_required"),
        (
            56,
            "LibreSSL SSL_read: error:1404C45C: tlsv13 alert certificate required, errno 0",
            "0",
            "certificate_required",
            "certificate_required",
        ),
        (35, "OpenSSL/3.2.1: error:0A000412:SSL routines::ssl/tls alert bad certificate", "0", "certificate_required", "bad_certificate"),
        (35, "Recv failure: Connection reset by peer", "0", "connection_reset", None),
        (35, "TLS connect error: error:0A00010B:SSL routines::wrong version number", "0", "not_tls", None),
        (35, "OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to a:443", "0", "connection_reset", None),
        (7, "Failed to connect to a port 443 after 1 ms: Couldn't connect to server", "0", "connection_refused", None),
        (7, "Failed to connect to a port 443: No route to host", "0", "unreachable", None),
        (7, "Failed to connect to a port 443: Connection timed out", "0", "connection_timeout", None),
    ],
)
def test_what_other_curls_say(code: int, message: str, number: str, failure: str, alert: str | None) -> None:
    told = (
        f"* TLSv1.3 (IN), TLS handshake, Certificate (11):\ncurl: ({code}) {message}\n\nmeshops-probe-outcome\nssl_verify_result={number}\n"
    )
    ran = code, b"", f"{told}meshops-probe-outcome\n\n".encode()
    result = probe_by(lambda __, ___: ran)(Request(host=HOST))
    assert (result.failure, result.alert) == (failure, alert)
