# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: RUF001
"""One reading of a host: the forms that people write, and that all modules read them alike."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio import egress_arguments, ingress_arguments
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress_checks import problems as problems_of
from ansible_collections.meshops.istio.plugins.module_utils.live import request as live_request
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected
from ansible_collections.meshops.istio.plugins.module_utils.tls import names
from ansible_collections.meshops.istio.plugins.module_utils.tls.host_checks import check_hosts
from tls_pki import Pki

READ = {
    # written -> read
    "shop.example.com": "shop.example.com",
    "Shop.EXAMPLE.com": "shop.example.com",
    " shop.example.com\n": "shop.example.com",
    "shop.example.com.": "shop.example.com",
    "*.Example.com.": "*.example.com",
    "*": "*",
    "localhost": "localhost",
    "my_host.example.com": "my_host.example.com",
    "10.0.0.1": "10.0.0.1",
    "[2001:DB8::1]": "2001:db8::1",
    "2001:db8:0::1": "2001:db8::1",
    "münchen.example": "xn--mnchen-3ya.example",
    "MÜNCHEN.Example": "xn--mnchen-3ya.example",
    "mu\u0308nchen.example": "xn--mnchen-3ya.example",  # decomposed, as macOS writes it
    "XN--mnchen-3ya.example": "xn--mnchen-3ya.example",
    "*.münchen.example": "*.xn--mnchen-3ya.example",
    "中文.com": "xn--fiq228c.com",
    "中文。com": "xn--fiq228c.com",
    "faß.de": "xn--fa-hia.de",  # fass.de in IDNA 2003, which is somebody else's
    "FAẞ.de": "xn--fa-hia.de",
    "βόλος.com": "xn--nxasmm1c.com",  # with a final sigma
    "ΒΌΛΟΣ.com": "xn--nxasmq6b.com",  # without
    "نامه\u200cای.com": "xn--mgba3gch31f060k.com",  # a zero width non-joiner where Persian wants it
    "ｓｈｏｐ．example．com": "shop.example.com",
}
REFUSED = {
    # written -> the reason, the host that is meant
    "shop.example.com:443": ("it holds a port (443)", "shop.example.com"),
    "shop.example.com:": ("port", "shop.example.com"),
    "münchen.example:443": ("port", "xn--mnchen-3ya.example"),
    "*.example.com:443": ("port", "*.example.com"),
    "10.0.0.1:443": ("port", "10.0.0.1"),
    "[2001:db8::1]:443": ("port", "2001:db8::1"),
    "https://shop.example.com": ("URL", "shop.example.com"),
    "https://Shop.example.com:8443/a?b#c": ("URL", "shop.example.com"),
    "https://[::1]:8443/": ("URL", "::1"),
    "HTTPS:/shop.example.com": ("URL", "shop.example.com"),
    "//shop.example.com": ("URL", "shop.example.com"),
    "https://user:secret@shop.example.com": ("URL", "shop.example.com"),
    "shop.example.com/path": ("path", "shop.example.com"),
    "shop.example.com/": ("path", "shop.example.com"),
    "user@shop.example.com": ("user name", "shop.example.com"),
    "10.0.0.0/8": ("path", "10.0.0.0"),
    "shop.example.com, api.example.com": ("space", None),
    "shop.example.com,api.example.com": ("comma", None),
    "shop .example.com": ("space", None),
    "": ("empty", None),
    "  ": ("empty", None),
    ".": ("empty", None),
    "shop..example.com": ("a label is empty", None),
    ".example.com": ("a label is empty", None),
    "shop.example.com..": ("a label is empty", None),
    "-shop.example.com": ("'-shop' is no label", None),
    "@/etc/passwd": ("path", None),
    "a*.example.com": ("wildcard", None),
    "a.*.example.com": ("wildcard", None),
    "**": ("wildcard", None),
    "10.0.0": ("number", None),
    "010.0.0.1": ("number", None),
    "fe80:::1": ("no label", None),
    "a" * 64 + ".example.com": ("longer than 63", None),
    ".".join(["a" * 50] * 6): ("longer than 253", None),
    "i❤.example": ("no international name", None),  # what registries sold before IDNA 2008 is asked for in its xn-- form
    "a\u200db.example": ("no international name", None),  # a zero width joiner where no script wants one
    "shop\x1b[1m.example.com": ("no label", None),
}


@pytest.mark.parametrize(("written", "expected"), READ.items())
def test_a_host_is_read(written: str, expected: str) -> None:
    assert names.read(written) == expected
    assert names.read(expected) == expected


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("istio-system/Shop.example.com", "shop.example.com"),
        ("*/shop.example.com", "shop.example.com"),
        ("./*.example.com", "*.example.com"),
        ("shop/münchen.example", "xn--mnchen-3ya.example"),
    ],
)
def test_a_gateways_form_with_a_namespace_is_no_path(written: str, meant: str) -> None:
    found = names.read(written)
    assert isinstance(found, names.NoHost)
    assert "it holds a namespace" in found.why and found.instead == meant


@pytest.mark.parametrize("written", REFUSED)
def test_no_host_is_told_with_what_to_write(written: str) -> None:
    why, instead = REFUSED[written]
    found = names.read(written)
    assert isinstance(found, names.NoHost)
    assert why in found.why and found.instead == instead
    assert names.normalise(written) is None


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("./shop.example.com", (".", "shop.example.com")),
        ("*/Shop.example.com", ("*", "Shop.example.com")),
        ("istio-system/shop.example.com", ("istio-system", "shop.example.com")),
        ("shop.example.com/path", (None, "shop.example.com/path")),
        ("https://shop.example.com", (None, "https://shop.example.com")),
        ("//shop.example.com", (None, "//shop.example.com")),
    ],
)
def test_a_namespace_before_the_slash_is_no_path(written: str, expected: tuple[str | None, str]) -> None:
    assert names.split_namespace(written) == expected


def test_a_password_is_not_shown() -> None:
    assert "secret" not in names.shown("https://user:secret@shop.example.com/")


def test_without_the_package_only_international_names_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "idna", None)
    names.read.cache_clear()
    assert names.read("shop.example.com") == "shop.example.com"
    with pytest.raises(ImportError) as missing:
        names.read("münchen.example")
    assert missing.value.name == "idna"


# --- all modules alike


def _by_ingress(written: str) -> str:
    route = {"destination": {"host": "httpbin", "port": 8000}}
    server = {"hosts": [written], "credential_name": "shop", "routes": [route]}
    gateway = ingress_arguments.from_arguments({"name": "shop", "servers": [server]})
    if problems := problems_of(gateway):
        raise Rejected(problems)
    assert gateway.servers[0].routes[0].hosts == gateway.servers[0].hosts
    return gateway.servers[0].hosts[0]


def _by_egress(written: str) -> str:
    (origination,) = egress_arguments.from_arguments({"name": "shop", "host": written, "credential_name": "shop"})
    assert origination.sni == origination.host and origination.subject_alt_names == (origination.host,)
    return origination.host


def _by_credential(written: str, pki: Pki) -> str:
    read = names.read(written)
    leaf = pki.issue("leaf", dns=(read if isinstance(read, str) else "x.example.com",)).certificate
    problems = list(check_hosts(leaf, [written], "hosts"))
    if problems:
        raise Rejected(problems)
    return str(read)


def _by_probe(written: str) -> str:
    request = live_request.Request(written)
    if problems := live_request.check(request):
        raise Rejected(problems)
    return str(request.sent_sni)


ALIKE = ("Shop.EXAMPLE.com", "shop.example.com.", " shop.example.com", "münchen.example", "faß.de", "中文。com", "نامه\u200cای.com")
REFUSED_ALIKE = [
    "shop.example.com:443",
    "https://user:secret@shop.example.com/x",
    "shop.example.com/path",
    "shop .example.com",
    "shop..example.com",
    "i❤.example",
    "[::1]:443",
]


@pytest.fixture
def modules(pki: Pki) -> dict[str, Any]:
    return {
        "ingress_tls_gateway": _by_ingress,
        "egress_mtls_origination": _by_egress,
        "istio_tls_credential": lambda written: _by_credential(written, pki),
        "tls_probe": _by_probe,
    }


@pytest.mark.parametrize("written", ALIKE)
def test_modules_write_the_same_name(written: str, modules: dict[str, Any]) -> None:
    assert {name: module(written) for name, module in modules.items()} == dict.fromkeys(modules, names.read(written))


@pytest.mark.parametrize("written", REFUSED_ALIKE)
def test_modules_refuse_with_the_same_words(written: str, modules: dict[str, Any]) -> None:
    no_host = names.read(written)
    assert isinstance(no_host, names.NoHost)
    for module in modules.values():
        with pytest.raises(Rejected) as rejected:
            module(written)
        (problem,) = rejected.value.problems
        assert no_host.why in problem.message and no_host.remedy in problem.remedy
        assert "secret" not in str(problem)


@pytest.mark.parametrize(
    ("written", "module", "words"),
    [
        ("my_host.example.com", "ingress_tls_gateway", "istiod takes"),  # as istiod's webhook has it
        ("my_host.example.com", "egress_mtls_origination", "'my_host' is no label"),
        ("*.example.com", "egress_mtls_origination", "wildcard"),
        ("*.example.com", "tls_probe", "wildcard"),
        ("10.0.0.1", "egress_mtls_origination", "address"),
        ("[2001:db8::1]", "ingress_tls_gateway", "IPv6"),
        ("shop", "ingress_tls_gateway", "domain"),
        ("shop", "egress_mtls_origination", "domain"),
    ],
)
def test_what_is_a_host_but_not_there(written: str, module: str, words: str, modules: dict[str, Any]) -> None:
    assert isinstance(names.read(written), str)
    with pytest.raises(Rejected) as rejected:
        modules[module](written)
    assert words in rejected.value.problems[0].message


def test_addresses_and_underscores_are_covered_by_certificates(pki: Pki) -> None:
    leaf = pki.issue("leaf", dns=("my_host.example.com", "*.example.org"), ip=("2001:db8::1", "10.0.0.1")).certificate
    hosts = ("[2001:DB8::1]", "10.0.0.1", "my_host.example.com", "*.example.org", "istio-system/My_Host.example.com.", "a.example.org")
    assert list(check_hosts(leaf, hosts, "hosts")) == []


def test_an_international_name_has_its_own_remedy() -> None:
    found = names.read("i❤.example")
    assert isinstance(found, names.NoHost) and found.remedy.startswith("Write it in its xn-- form")
