# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which proxy a URL is reached through. tests/integration/test_like_kubectl.py asks kubectl the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected
from ansible_collections.meshops.istio.plugins.module_utils.proxy_choice import Proxy, ascii_host, from_environment, is_exempt, parse

P = "http://proxy.example:3128"
API = "https://api.example.com:6443"


@pytest.mark.parametrize(
    ("url", "environment", "proxy", "source"),
    [
        (API, {"HTTPS_PROXY": P}, P, "HTTPS_PROXY"),
        (API, {"https_proxy": P}, P, "https_proxy"),
        (API, {"HTTPS_PROXY": P, "https_proxy": "http://other:1"}, P, "HTTPS_PROXY"),
        (API, {"HTTPS_PROXY": "", "https_proxy": P}, P, "https_proxy"),
        (API, {"HTTPS_PROXY": "", "https_proxy": ""}, None, None),
        (API, {"HTTP_PROXY": P, "http_proxy": P}, None, None),
        (API, {"ALL_PROXY": P, "all_proxy": P}, None, None),
        (API, {"HTTPS_PROXY": P, "REQUEST_METHOD": "GET"}, P, "HTTPS_PROXY"),
        ("http://api.example.com", {"HTTPS_PROXY": P}, None, None),
        ("http://api.example.com", {"HTTP_PROXY": P}, P, "HTTP_PROXY"),
        ("http://api.example.com", {"HTTP_PROXY": P, "http_proxy": "http://other:1"}, P, "HTTP_PROXY"),
        ("ftp://api.example.com", {"HTTP_PROXY": P, "HTTPS_PROXY": P, "ftp_proxy": P}, None, None),
        (API, {"HTTPS_PROXY": P, "NO_PROXY": "example.com"}, None, None),
        (API, {"HTTPS_PROXY": P, "NO_PROXY": "other", "no_proxy": "example.com"}, P, "HTTPS_PROXY"),
        (API, {"HTTPS_PROXY": P, "NO_PROXY": "example.com", "no_proxy": "other"}, None, None),
        ("https://127.0.0.1:6443", {"HTTPS_PROXY": P}, None, None),
        ("https://localhost:6443", {"HTTPS_PROXY": P}, None, None),
        ("https://[::1]:6443", {"HTTPS_PROXY": "no proxy at all"}, None, None),
    ],
)
def test_the_variable_that_counts(url: str, environment: dict[str, str], proxy: str | None, source: str | None) -> None:
    found = from_environment(url, environment)
    assert (found and found.url, found and found.source) == (proxy, source)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("proxy.example:3128", Proxy("http", "proxy.example", 3128, "X")),
        ("proxy", Proxy("http", "proxy", 80, "X")),
        ("10.0.0.1:3128", Proxy("http", "10.0.0.1", 3128, "X")),
        ("http://proxy", Proxy("http", "proxy", 80, "X")),
        ("https://proxy/", Proxy("https", "proxy", 443, "X")),
        ("HTTP://Proxy:1", Proxy("http", "proxy", 1, "X")),
        ("socks5://127.0.0.1", Proxy("socks5", "127.0.0.1", 1080, "X")),
        ("http://Bücher.example:3128", Proxy("http", "xn--bcher-kva.example", 3128, "X")),
        ("socks5h://[::1]:9", Proxy("socks5h", "::1", 9, "X")),
        ("http://me:s%40cret@proxy:3128", Proxy("http", "proxy", 3128, "X", "me", "s@cret")),
        ("me:secret@proxy:3128", Proxy("http", "proxy", 3128, "X", "me", "secret")),
        ("http://me@proxy:3128", Proxy("http", "proxy", 3128, "X", "me", None)),
    ],
)
def test_what_names_a_proxy(text: str, expected: Proxy) -> None:
    assert parse(text, "X") == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ftp://me:CANARY@proxy", "found ftp://"),
        ("socks4://proxy:1080", "found socks4://"),
        ("http://proxy:port", "something else"),
        ("http://me:CANARY@", "something else"),
        ("http://proxy:99999", "something else"),
        ("my proxy CANARY", "something else"),
        ("http://-ü.example:3128", "no international name"),
        ("http://[::1", "something else"),
        ("", "something else"),
    ],
)
def test_what_names_none(text: str, words: str) -> None:
    with pytest.raises(Rejected, match=words) as caught:
        from_environment(API, {"HTTPS_PROXY": text}) if text else parse(text, "HTTPS_PROXY")
    assert str(caught.value).startswith("HTTPS_PROXY: ") and "CANARY" not in str(caught.value)


def test_a_scheme_can_be_required() -> None:
    assert parse("socks5://p:1", "proxy-url", scheme_needed=True).port == 1
    with pytest.raises(Rejected, match="proxy-url"):
        parse("proxy.example:3128", "proxy-url", scheme_needed=True)


def test_http_proxy_is_a_clients_to_choose_in_cgi() -> None:
    with pytest.raises(Rejected, match="REQUEST_METHOD"):
        from_environment("http://api.example.com", {"HTTP_PROXY": P, "REQUEST_METHOD": "GET"})


NAME, NUMBER, SIX = "https://api.example.com:6443", "https://10.1.2.3:6443", "https://[fd00::5]:6443"
EXEMPT = [
    ("https://localhost", ""),
    ("http://127.0.0.1:80", ""),
    ("https://127.9.9.9:6443", ""),
    ("https://[::1]:6443", ""),
    ("https://[::ffff:127.0.0.1]:6443", ""),
    (NAME, "*"),
    (NAME, "other, *"),
    (NUMBER, "*"),
    (NAME, "example.com"),
    (NAME, " EXAMPLE.com ,"),
    ("https://API.example.com:6443", "api.example.com"),
    (NAME, ".example.com"),
    (NAME, "*.example.com"),
    (NAME, "api.example.com:6443"),
    (NAME, "example.com:6443"),
    (NAME, "example.com:"),
    ("https://api.example.com", "example.com:443"),
    ("http://api.example.com", "example.com:80"),
    (NUMBER, "10.1.2.3"),
    (NUMBER, "10.1.2.3:6443"),
    (NUMBER, "::ffff:10.1.2.3"),
    (NUMBER, "10.0.0.0/8"),
    (NUMBER, "10.200.1.1/8"),
    (NUMBER, "::ffff:10.0.0.0/104"),
    (SIX, "fd00::5"),
    (SIX, "[fd00::5]:6443"),
    (SIX, "fd00::/8"),
    ("https://www.bücher.example", "xn--bcher-kva.example"),
    ("https://www.xn--bcher-kva.example", "bücher.example"),
]
ASKED = [
    ("https://localhost.example", "localhost"),
    ("https://LOCALHOST", ""),
    ("https://128.0.0.1", ""),
    (NAME, ""),
    (NAME, "com.example"),
    (NAME, "ample.com"),
    (NAME, "pi.example.com"),
    (NAME, ".api.example.com"),
    (NAME, "*.api.example.com"),
    (NAME, "*example.com"),
    (NAME, "api.*"),
    (NAME, "example.com:443"),
    (NAME, "https://api.example.com"),
    (NAME, "example.com other.com"),
    (NAME, "0.0.0.0/0"),
    (NAME, ":6443"),
    (NUMBER, "10.1.2"),
    (NUMBER, "10.1.2.3:443"),
    (NUMBER, "10.1.2.0/255.255.255.0"),
    (NUMBER, "::/0"),
    (NUMBER, ".3"),
    (SIX, "[fd00::5]"),
    (SIX, "0.0.0.0/0"),
]


@pytest.mark.parametrize(("url", "no_proxy", "exempt"), [(*case, True) for case in EXEMPT] + [(*case, False) for case in ASKED])
def test_no_proxy(url: str, no_proxy: str, exempt: bool) -> None:
    assert is_exempt(url, no_proxy) == exempt


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # recorded from golang.org/x/net/idna v0.58.0, Lookup.ToASCII, as net/http/httpproxy calls it
        ("API.example", "API.example"),
        ("a_b.example", "a_b.example"),
        ("Bücher.Example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("straße.de", "xn--strae-oqa.de"),
        ("ΣΑΣ.gr", "xn--mxa9ab.gr"),
        ("ς.gr", "xn--3xa.gr"),
        ("☃.example", "xn--n3h.example"),
        ("😀.example", "xn--e28h.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("\uff25\uff58.ü", "ex.xn--tda"),
        ("xn--bcher-kva.ü.example", "xn--bcher-kva.xn--tda.example"),
        ("क्\u200dष.example", "xn--11b2ezcw70k.example"),
        ("נ.example", "xn--leb.example"),
        (".ü", ".xn--tda"),
        # refused there, and left as they are
        ("a\u200cb.example", "a\u200cb.example"),
        ("aא.ü.example", "aא.ü.example"),
        ("a_b.ü.example", "a_b.ü.example"),
        ("-ü.example", "-ü.example"),
        ("\u0301a.example", "\u0301a.example"),
        ("xn--a.ü", "xn--a.ü"),
        ("⒈.example", "⒈.example"),
    ],
)
def test_international_names_as_go_reads_them(name: str, expected: str) -> None:
    assert ascii_host(name) == expected


def test_a_password_is_for_the_proxy_alone() -> None:
    proxy = parse("http://me:CANARY@proxy:3128", "HTTPS_PROXY")
    assert "CANARY" not in f"{proxy} {proxy!r} {proxy.url}"
    assert str(proxy) == "http://***@proxy:3128 (named by HTTPS_PROXY)"
    assert (proxy.username, proxy.password, proxy.url) == ("me", "CANARY", "http://proxy:3128")
    assert replace(proxy, host="::1").url == "http://[::1]:3128"
