# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which proxy a URL is reached through, by the rules of Go's programs (kubectl, istioctl): golang.org/x/net/http/httpproxy.

    HTTPS_PROXY and https_proxy for https://, HTTP_PROXY and http_proxy for http://; of two spellings upper case counts
    a value without a scheme is an HTTP proxy; ALL_PROXY is not looked at
    localhost and loopback addresses are never asked through a proxy, nor is what NO_PROXY (no_proxy) covers:
      *                                     everything
      10.0.0.0/8, fd00::/8                  the addresses of a network, where the URL holds an address
      10.0.0.1, 10.0.0.1:6443, [::1]:6443   an address
      example.com, *.example.com            a name; without the star the names below it too
      .example.com                          the names below it; example.com:6443 with that port alone
    in a CGI program (REQUEST_METHOD is set) HTTP_PROXY is a client's to choose, so it is refused

Names are compared as they are written: nothing is looked up. Go's next release will let lower case count; today's kubectl does not.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from .problems import Problem, Rejected

SCHEMES = ("http", "https", "socks5", "socks5h")
"""socks5 and socks5h are the same to Go: the proxy looks the name up."""

_PORTS: dict[str, int] = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_REMEDY = "write a URL such as http://proxy.example.com:3128 or socks5://127.0.0.1:1080"
_HOST_AND_PORT = re.compile(r"(?:\[(?P<bracketed>[^\[\]]*)\]|(?P<plain>[^:\[\]]*)):(?P<port>[^:\[\]]*)")

_Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"


@dataclass(frozen=True)
class Proxy:
    """A proxy, and who named it. What is secret in it stays out of its repr."""

    scheme: str
    host: str
    """A name or an address, without brackets."""
    port: int
    source: str
    """What named it, for messages: `HTTPS_PROXY`, `proxy-url of cluster 'prod' in /home/me/.kube/config`."""
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def is_socks(self) -> bool:
        return self.scheme.startswith("socks")

    @property
    def url(self) -> str:
        """The URL without a login."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def __str__(self) -> str:
        shown = self.url if self.username is None else self.url.replace("://", "://***@", 1)
        return f"{shown} (named by {self.source})"


def from_environment(url: str, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy that the variables name for a URL (http:// or https://), or None where it is asked directly.

    Rejected where they name something for it that is no proxy, though Go may pass over that: who sets a proxy means it to be used.
    """
    target = urlsplit(url)
    variable = next((name for name in (f"{target.scheme.upper()}_PROXY", f"{target.scheme}_proxy") if environment.get(name)), None)
    if target.scheme not in ("http", "https") or variable is None:
        return None
    if target.scheme == "http" and environment.get("REQUEST_METHOD"):
        problem = f"{variable} is not used in a CGI program (REQUEST_METHOD is set), where a client can choose it"
        raise Rejected(Problem("invalid_proxy", variable, problem, "unset REQUEST_METHOD or the proxy variable"))
    if is_exempt(url, environment.get("NO_PROXY") or environment.get("no_proxy") or ""):
        return None
    return parse(environment[variable], variable)


def parse(text: str, source: str, *, scheme_needed: bool = False) -> Proxy:
    """A proxy as a variable or an option names it. Rejected where it is none; the text may hold a login, so it is not repeated."""
    found = _split(text)
    if (found is None or not found.netloc) and "://" not in text and not scheme_needed:
        found = _split(f"http://{text}")
    if found is None or not found.hostname:
        raise Rejected(Problem("invalid_proxy", source, "expected the URL of a proxy, found something else", _REMEDY))
    if found.scheme not in SCHEMES:
        message = f"expected a proxy of one of the schemes {', '.join(SCHEMES)}, found {found.scheme}://"
        raise Rejected(Problem("invalid_proxy", source, message, _REMEDY))
    host = ascii_host(found.hostname)
    if not host.isascii():
        raise Rejected(
            Problem("invalid_proxy", source, "expected the name of a proxy, found one that no international name may be", _REMEDY)
        )
    username = None if found.username is None else unquote(found.username)
    password = None if found.password is None else unquote(found.password)
    return Proxy(found.scheme, host, found.port or _PORTS[found.scheme], source, username, password)


def is_exempt(url: str, no_proxy: str) -> bool:
    """Whether a URL is asked without a proxy: loopback always, and what the list `no_proxy` covers."""
    target = urlsplit(url)
    if is_loopback(url):
        return True
    host = ascii_host(_written_host(target))
    address = _plain(_address(host))
    host = host.strip().lower()
    port = str(target.port or _PORTS.get(target.scheme) or "")
    entries = [entry.strip().lower() for entry in no_proxy.split(",")]
    return any(entry == "*" or (entry and _covers(entry, host, port, address)) for entry in entries)


def is_loopback(url: str) -> bool:
    """As Go decides it, by what is written: LOCALHOST is another name."""
    host = _written_host(urlsplit(url))
    address = _plain(_address(host))
    return host == "localhost" or (address is not None and address.is_loopback)


def _covers(entry: str, host: str, port: str, address: _Address | None) -> bool:
    if (network := _network(entry)) is not None:
        return address is not None and address.version == network.version and address in network
    parts = _HOST_AND_PORT.fullmatch(entry)
    name = entry if parts is None else parts["plain"] if parts["bracketed"] is None else parts["bracketed"]
    if parts is not None and parts["port"] not in ("", port):
        return False
    if (wanted := _address(name)) is not None and "%" not in name:
        return address is not None and _plain(wanted) == address
    if not name or address is not None:
        return False
    name = ascii_host(name.removeprefix("*") if name.startswith("*.") else name)
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if not re.fullmatch(r"[^/%]+/(0|[1-9][0-9]{0,2})", entry):  # Python would read 10.0.0.0/255.0.0.0 too
        return None
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None
    inner = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    return network if inner is None else ipaddress.ip_network(f"{inner}/{max(network.prefixlen - 96, 0)}")


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _plain(address: _Address | None) -> _Address | None:
    """An IPv4 address that is written as IPv6 (`::ffff:127.0.0.1`) as what it is; without the zone of an interface."""
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or ipaddress.IPv6Address(int(address))
    return address


def _split(text: str) -> SplitResult | None:
    if re.search(r"[\x00-\x20\x7f]", text):
        return None
    try:
        found = urlsplit(text)
        __ = found.port  # read only when it is asked for
    except ValueError:
        return None
    return found


def _written_host(target: SplitResult) -> str:
    """The host in the case in which it is written; `hostname` makes it lower case."""
    place = target.netloc.rpartition("@")[2]
    return place[1:].partition("]")[0] if place.startswith("[") else place.partition(":")[0]


def ascii_host(name: str) -> str:
    """A host name as Go's programs ask for it: golang.org/x/net/idna's profile Lookup (UTS 46 as browsers do it, not transitional, so that ß and
    emoji stay what they are). As it is written where that refuses it. Raises ImportError where the package `idna` is needed and missing."""
    if name.isascii():
        return name
    import idna

    try:
        labels = [_shown_label(label) for label in idna.uts46_remap(name, std3_rules=True).split(".")]
        if any(unicodedata.bidirectional(letter) in ("R", "AL", "AN") for label in labels for letter in label):
            for label in filter(None, labels):
                idna.check_bidi(label, check_ltr=True)
        return ".".join(label if label.isascii() else f"xn--{label.encode('punycode').decode('ascii')}" for label in labels)
    except UnicodeError:  # idna's own errors are
        return name


def _shown_label(label: str) -> str:
    """A label in Unicode, once it is checked. UnicodeError: it is none. Without idna's own check, which refuses what browsers and Go accept."""
    from idna import core

    if label.startswith("xn--"):
        label = label[4:].encode("ascii").decode("punycode")
        if label.isascii() or core.uts46_remap(label, std3_rules=True) != label:
            raise UnicodeError("not what is written in that way")
    if label:
        core.check_hyphen_ok(label)
        core.check_initial_combiner(label)
    if not all(core.valid_contextj(label, place) for place, letter in enumerate(label) if letter in "\u200c\u200d"):
        raise UnicodeError("a joiner that joins nothing")
    return label
