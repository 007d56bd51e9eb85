# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others wrote can neither hold us up nor show what was sent in confidence."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.proxy import Unread
from ansible_collections.meshops.istio.plugins.module_utils.live.answers import (
    _SEARCHER,
    MASK,
    Search,
    SearchFailed,
    decode,
    hider,
    pattern_fault,
)
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


ENDLESS = [
    (r"(\w+\s?)+$", "a" * 60 + "!"),
    (r"(a|aa)+$", "a" * 90 + "!"),
    (r"Hello.*world", "Hello " * 175_000),  # of the kind in which Python looks for signals every few seconds only
    (r"(.*)(.*)(.*)(.*)(.*)[1-9]", "0" * 1_000_000),
]


@pytest.mark.parametrize(("pattern", "text"), ENDLESS)
def test_a_regular_expression_that_would_take_years(pattern: str, text: str) -> None:
    """What is measured is processor time, which does not depend on how busy the machine is."""
    before = processor_time()
    with pytest.raises(SearchFailed, match=r"more than 0\.1 s"):
        Search(pattern, 0.1).matches([text])
    assert processor_time() - before < 1
    (unmet,) = judge(Result("http", 80, status=200, text=text), Expect(text_regex=pattern))
    assert "takes more than 2 s" in unmet and "simpler expression" in unmet


def processor_time() -> float:
    return sum(sum(resource.getrusage(whose)[:2]) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def test_a_search_in_a_thread_beside_signals_of_somebody_else() -> None:
    """As in Ansible's own process, where a task's time limit is an alarm."""
    handlers = {number: signal.signal(number, lambda *__: None) for number in (signal.SIGALRM, signal.SIGPROF)}
    signal.setitimer(signal.ITIMER_REAL, 600)
    try:
        with ThreadPoolExecutor() as threads:
            found = threads.submit(Search(ENDLESS[2][0], 0.1).matches, [ENDLESS[2][1]])
            with pytest.raises(SearchFailed):
                found.result()
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 600
        signal.signal(signal.SIGPROF, signal.SIG_IGN)  # which a process inherits
        with pytest.raises(SearchFailed):
            Search(ENDLESS[2][0], 0.1).matches([ENDLESS[2][1]])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_a_search_ends_with_nobody_waiting_for_it() -> None:
    """Whoever waits may have been killed: the kernel ends the search all the same."""
    search = subprocess.Popen([sys.executable, "-I", "-S", "-c", _SEARCHER], stdin=subprocess.PIPE)
    with search:
        assert search.stdin is not None
        search.stdin.write(json.dumps([ENDLESS[2][0], [ENDLESS[2][1]], 0.1]).encode())
        search.stdin.close()
        assert search.wait(60) == -signal.SIGPROF


def test_the_time_is_for_all_lines_together() -> None:
    search = Search(r"(a|b|ab)*c", 1)
    assert search.matches(["c", "!"]) == [True, False] and search.matches([]) == []
    slow = "ab" * 11 + "!"
    with pytest.raises(SearchFailed):
        for __ in range(10_000):
            search.matches([slow] * 20)
    assert search._spent > 0, "each of them takes far less than a second"


@pytest.mark.parametrize("text", ["", "\ud800", "\U0001f600\0", "\u2028"])
def test_any_text_can_be_looked_into(text: str) -> None:
    assert Search(re.escape(text), 5).matches([text, f"a{text}b", "-"]) == [True, True, not text]


def test_a_search_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SearchFailed, match=r"fails \(.*[eE]rror"):
        Search("(", 5).matches(["a"])
    monkeypatch.setattr(sys, "executable", "/none")
    with pytest.raises(SearchFailed, match="cannot be started"):
        Search("a", 5).matches(["a"])


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


@pytest.mark.parametrize("before", [0, 80, 110, 119, EXCERPT_LENGTH - 30, EXCERPT_LENGTH - 10, EXCERPT_LENGTH - 1])
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
