# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others wrote can neither hold us up nor show what was sent in confidence."""

from __future__ import annotations

import base64
import contextlib
import signal
import socket
import time

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.proxy import Unread
from ansible_collections.meshops.istio.plugins.module_utils.live.answers import MASK, Search, TooSlow, decode, hider, pattern_fault
from ansible_collections.meshops.istio.plugins.module_utils.live.envoy import read_page
from ansible_collections.meshops.istio.plugins.module_utils.live.expect import Expect, hidden, judge
from ansible_collections.meshops.istio.plugins.module_utils.live.probe import probe
from ansible_collections.meshops.istio.plugins.module_utils.live.request import EXCERPT_LENGTH, Request, Result
from ansible_collections.meshops.istio.tests.unit.live.servers import Server, http_once, listening


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        ("Grüße".encode(), None, "Grüße"),
        ("Grüße".encode("latin-1"), "ISO-8859-1", "Grüße"),
        ("Grüße".encode("utf-16"), "utf-16", "Grüße"),
        ("中文".encode("gbk"), "GBK", "中文"),
        (b"\xff", "us-ascii", "\ufffd"),
        *(
            (b"abc", charset, "abc")
            for charset in ("undefined", "idna", "punycode", "\0", "", "unicode_escape", "zlib", "mbcs", "x" * 10**6)
        ),
    ],
)
def test_a_servers_charset_chooses_among_the_usual_ones(data: bytes, charset: str | None, text: str) -> None:
    assert decode(data, charset) == text


def test_every_charset_is_one_of_pythons() -> None:
    from ansible_collections.meshops.istio.plugins.module_utils.live.answers import _CHARSETS

    assert {charset: "abc".encode(charset).decode(charset) for charset in _CHARSETS} == dict.fromkeys(_CHARSETS, "abc")


def test_a_charset_with_a_hanging_decoder_in_an_answer() -> None:
    server: Server
    body = b"-" * 300_000  # minutes for Python's own punycode
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=punycode\r\n\r\n" + body
    with listening(lambda connection: http_once(connection, server, answer)) as server:
        result = probe(Request("a.example.com", address=server.address, port=server.port, scheme="http"))
    assert result.text == body.decode()


@pytest.mark.parametrize(("pattern", "text"), [(r"(\w+\s?)+$", "a" * 60 + "!"), (r"(a|aa)+$", "a" * 90 + "!")])
def test_a_regular_expression_that_would_take_years(pattern: str, text: str) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TooSlow, match=r"more than 0\.1 s"):
        Search(pattern, 0.1).matches(text)
    assert signal.getsignal(signal.SIGALRM) is before and signal.getitimer(signal.ITIMER_REAL)[0] == 0
    (unmet,) = judge(Result("http", 80, status=200, text=text), Expect(text_regex=pattern))
    assert "takes more than 2 s" in unmet and "simpler expression" in unmet


def test_the_time_is_for_all_lines_together() -> None:
    search = Search(r"(\w+\s?)+$", 0.2)
    assert search.matches("fine") and not search.matches("!")
    for __ in range(2):
        with pytest.raises(TooSlow):
            search.matches("a" * 60 + "!")
    assert search._spent > 0.2


@pytest.mark.parametrize(("pattern", "fault"), [("a(", True), ("(" * 100_000, True), ("a", False)])
def test_what_is_no_regular_expression(pattern: str, fault: bool) -> None:
    assert bool(pattern_fault(pattern)) is fault


TOKEN = "eyJhbGciOiJFUzI1NiJ9.canary/canary+canary=.signature-of-it"
LOGIN = base64.b64encode(b'somebody:canary-pa"s&s').decode()


@pytest.mark.parametrize(
    ("value", "echo"),
    [
        (f"Bearer {TOKEN}", f"Bearer {TOKEN}"),
        (f"Bearer {TOKEN}", f'{{"token": "{TOKEN}"}}'),
        (f"Bearer {TOKEN}", f"/?t={TOKEN.replace('/', '%2F').replace('+', '%2B').replace('=', '%3D')}"),
        (f"Bearer {TOKEN}", f"{TOKEN[:30]}... (cut)"),
        (f"Basic {LOGIN}", 'welcome somebody:canary-pa"s&s'),
        (f"Basic {LOGIN}", '{"password": "canary-pa\\"s&s"}'),
        (f"Basic {LOGIN}", "<b>canary-pa&quot;s&amp;s</b>"),
        ('Digest username="u", response="canary0123456789"', "canary0123456789"),
        ("sessionid=canary0123; theme=dark", "canary0123"),
    ],
)
def test_an_echo_of_a_secret_is_hidden(value: str, echo: str) -> None:
    told = hider({"Authorization": value})(f"before {echo} after")
    assert "canary" not in told and MASK in told
    assert told.startswith("before ") and told.endswith(" after")


def test_words_that_are_no_secrets_stay() -> None:
    text = "Bearer of news, Basic rules, ok"
    assert hider({"Authorization": f"Bearer {TOKEN}", "X": "ok"})(text) == text
    assert hider({})(text) == text


@pytest.mark.parametrize("before", [0, 80, 110, 119, EXCERPT_LENGTH - 30, EXCERPT_LENGTH - 1])
def test_it_is_hidden_before_anything_is_cut(before: int) -> None:
    text = "x" * before + TOKEN
    result = Result("http", 443, status=500, text=text, headers={"x-echo": TOKEN})
    shown = hidden(result, hider({"Authorization": f"Bearer {TOKEN}"}))
    told = [str(shown.as_result()), *judge(result, Expect(status=(200,), text="y", headers={"x-echo": "z"}), shown)]
    assert not any(TOKEN[:4] in each for each in told)
    assert judge(result, Expect(text=TOKEN, headers={"x-echo": TOKEN}), shown) == []


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_page_of_envoy_that_comes_byte_by_byte(beginning: bytes) -> None:
    def drip(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(beginning)
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"H")
                time.sleep(0.05)

    with listening(drip) as server, pytest.raises(Unread, match=r"no whole answer within 0\.3 s"):
        read_page(f"http://127.0.0.1:{server.port}", "certs", timeout=0.3)
