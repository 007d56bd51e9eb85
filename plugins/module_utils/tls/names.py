# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host names as all modules read them, and the certificates that cover them (RFC 5890, RFC 6125, RFC 9525)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from .material import Certificate

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//|https?:/?", re.IGNORECASE)
_PORT = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*):(?P<port>[0-9]*)")

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"


@dataclass(frozen=True)
class NoHost:
    """Why a text is no host, and which one seems to be meant."""

    why: str
    """A clause, such as `it holds a port`."""
    instead: str | None = None
    """The host in it, in the form of `read`."""
    is_international: bool = False
    """Whether it is meant as an international name."""

    @property
    def remedy(self) -> str:
        if self.is_international:
            return "Write it in its xn-- form, if it is registered so, or correct it"
        return f"Write {self.instead}" if self.instead else "Write the bare name, such as shop.example.com"


@lru_cache(4096)  # a host is read many times on its way
def address(host: str) -> Address | None:
    """The IP address that `host` is, brackets around IPv6 allowed, or None."""
    text = host.strip()
    bracketed = text.startswith("[") and text.endswith("]")
    try:
        return ipaddress.IPv6Address(text[1:-1]) if bracketed else ipaddress.ip_address(text)
    except ValueError:
        return None


@lru_cache(4096)
def read(text: str) -> str | NoHost:
    """A host as a user writes it, in the form in which names are compared, written in objects and sent as SNI; or why it is none.

    Lower case, ASCII by IDNA 2008 (`münchen.example` is `xn--mnchen-3ya.example`, `faß.example` is `xn--fa-hia.example`), no final dot, no
    space around it; an IP address in its canonical form, without brackets. A wildcard is the whole first label (`*.example.com`) or all
    there is (`*`). Raises ImportError where a name is international and the package `idna` is missing.
    """
    text = text.strip()
    number = address(text)
    if number is not None:
        return str(number)
    if more := _more_than_a_host(text):
        return more
    ascii_text = text.lower() if text.isascii() else _ascii(text)
    if isinstance(ascii_text, NoHost):
        return ascii_text
    number = address(ascii_text)  # digits of another script
    if number is not None:
        return str(number)
    host = ascii_text.removesuffix(".")
    if host == "*":
        return host
    fault = _fault(host.removeprefix("*.")) or ("it is longer than 253 characters" if len(host) > 253 else "")
    return NoHost(fault) if fault else host


def _more_than_a_host(text: str) -> NoHost | None:
    """What people take along from a browser, a configuration file or another option."""
    if behind := _behind_a_namespace(text):
        return NoHost("it holds a namespace, which only the hosts of a Gateway take", behind)
    beginning = _URL.match(text)
    rest = text[beginning.end() :] if beginning else text
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    host = authority.rpartition("@")[2]
    with_port = _PORT.fullmatch(host)
    if with_port:
        host = with_port["host"]
    if beginning:
        why = "it is a URL"
    elif authority != rest:
        why = "it holds a path"
    elif "@" in authority:
        why = "it holds a user name"
    elif with_port:
        why = f"it holds a port ({with_port['port'] or 'an empty one'})"
    elif re.search(r"[\s,;]", text):
        return NoHost("it holds a space" if re.search(r"\s", text) else "it holds a comma or semicolon, and is one host only")
    else:
        return None
    meant = read(host) if host else NoHost("")
    return NoHost(why, meant if isinstance(meant, str) else None)


def _behind_a_namespace(text: str) -> str | None:
    """The host in `namespace/shop.example.com`, `*/...` or `./...`, as a Gateway's hosts may be written. A path behind a host is none."""
    namespace, rest = split_namespace(text)
    if namespace is None or "." not in rest or "/" in rest:
        return None
    if namespace not in ("*", ".") and (namespace == "localhost" or not _LABEL.fullmatch(namespace)):
        return None
    host = read(rest)
    return host if isinstance(host, str) else None


def _ascii(text: str) -> str | NoHost:
    """An international name by IDNA 2008, after the mappings that browsers and curl make (UTS 46, non-transitional: `ß` stays what it is)."""
    import idna

    try:
        labels = idna.uts46_remap(text, std3_rules=False).split(".")
        return ".".join(label if label.isascii() else idna.alabel(label).decode("ascii") for label in labels)
    except UnicodeError as error:  # idna's own errors are
        return NoHost(f"it is no international name that DNS admits ({error})", is_international=True)


def _fault(name: str) -> str:
    if not name:
        return "it is empty"
    labels = name.split(".")
    for label in labels:
        if not label:
            return "a label is empty"
        if "*" in label:
            return "a wildcard must be the whole first label"
        if len(label) > 63:
            return f"the label {label[:10]}... is longer than 63 characters"
        if not _LABEL.fullmatch(label):
            return f"{label!r} is no label of a domain name"
    return "its last label is a number, but it is no address" if labels[-1].isdigit() else ""


def split_namespace(host: str) -> tuple[str | None, str]:
    """The namespace before the slash of a Gateway's host (`.` and `*` too), or None, and the host itself."""
    namespace, slash, name = host.strip().partition("/")
    if not slash or ":" in namespace or (not namespace and name.startswith("/")) or ("." in namespace and namespace != "."):
        return None, host.strip()  # `shop.example.com/path` is none
    return namespace, name


def canonical(host: str) -> str:
    """A Gateway's host in the form of `read`, with its namespace; as it is where it is no host, of which others tell."""
    namespace, name = split_namespace(host)
    found = read(name)
    if isinstance(found, NoHost):
        return host.strip()
    return found if namespace is None else f"{namespace}/{found}"


def normalise(host: str) -> str | None:
    """The host in the form of `read`, or None if it is no host. Gateways' `namespace/host` counts as the host."""
    found = read(split_namespace(host)[1])
    return None if isinstance(found, NoHost) else found


def shown(text: str) -> str:
    """A host that was refused, as messages may show it: short, and without the password of a URL."""
    text = re.sub(r"[^/\s]*@", "...@", text)
    return text if len(text) <= 260 else f"{text[:260]}..."


def pattern_covers(pattern: str, host: str) -> bool:
    """Whether a certificate's DNS name covers a normalised host name: equal, or a wildcard for exactly one first label.

    A wildcard *host* stands for any number of names, so only the same wildcard covers it. Wildcards inside a label (`w*.example.com`) and
    those for a whole top-level domain (`*.com`, `*`) cover nothing: OpenSSL and browsers do not take them.
    """
    pattern = pattern.lower().removesuffix(".")
    if pattern == host:
        return not pattern.startswith("*") or pattern.count(".") > 1
    if not pattern.startswith("*.") or pattern.count(".") < 2 or host.startswith("*"):
        return False
    first, dot, rest = host.partition(".")
    return bool(first and dot) and rest == pattern[2:]


def covers(host: str, certificate: Certificate) -> bool:
    """Whether a client that asked for `host` would take the certificate for it: by its subject alternative names alone, as Go, browsers and
    Envoy do. An IP address is covered by an IP SAN only. See `common_name_covers` for certificates without any."""
    name = normalise(host)
    if name is None:
        return False
    number = address(name)
    if number is not None:
        return number in certificate.ip_addresses
    return any(pattern_covers(pattern, name) for pattern in certificate.dns_names)


def common_name_covers(host: str, certificate: Certificate) -> bool:
    """Whether a certificate without DNS and IP names covers `host` for the few clients that still look at the common name (OpenSSL, curl)."""
    name = normalise(host)
    if name is None or certificate.dns_names or certificate.ip_addresses or not (certificate.common_name or "").isascii():
        return False
    common_name = normalise(certificate.common_name or "")
    return common_name is not None and (common_name == name if address(name) is not None else pattern_covers(common_name, name))
