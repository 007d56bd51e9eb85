# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host names and the certificates that cover them (RFC 6125, RFC 9525)."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from .material import Certificate

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"


def address(host: str) -> Address | None:
    """The IP address that `host` is, brackets around IPv6 allowed, or None."""
    try:
        return ipaddress.ip_address(host.strip().removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def normalise(host: str) -> str | None:
    """The host in the form in which names are compared, or None if it is no host.

    Lower case, ASCII (`bücher.example` is `xn--bcher-kva.example`), no final dot; an IP address in its canonical form. A wildcard is the
    whole first label (`*.example.com`) or all there is (`*`). Gateways' `namespace/host` counts as the host.
    """
    host = host.strip().rpartition("/")[2]
    number = address(host)
    if number is not None:
        return str(number)
    host = host.removesuffix(".").replace("\u3002", ".")
    if host == "*":
        return host
    wildcard = host.startswith("*.")
    labels = []
    for label in (host[2:] if wildcard else host).lower().split("."):
        try:
            ascii_label = label if label.isascii() else label.encode("idna").decode("ascii")
        except UnicodeError:
            return None
        if not _LABEL.fullmatch(ascii_label):
            return None
        labels.append(ascii_label)
    name = ("*." if wildcard else "") + ".".join(labels)
    return name if len(name) <= 253 else None


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
    if name is None or certificate.dns_names or certificate.ip_addresses or certificate.common_name is None:
        return False
    common_name = normalise(certificate.common_name)
    return common_name is not None and (common_name == name if address(name) is not None else pattern_covers(common_name, name))
