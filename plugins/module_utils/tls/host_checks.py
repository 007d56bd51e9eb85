# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a server's certificate covers the hosts that clients ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..problems import Problem
from .certificate_checks import error, listed, warning
from .material import Certificate
from .names import NoHost, address, common_name_covers, covers, pattern_covers, read, shown, split_namespace


def check_hosts(leaf: Certificate, hosts: Iterable[str], where: str) -> Iterator[Problem]:
    nameless = not leaf.dns_names and not leaf.ip_addresses
    if nameless:
        yield warning(
            "cn_only",
            where,
            f"expected the hosts as subject alternative names, found none, only the common name {leaf.common_name or '(none)'}; many clients "
            "(browsers, Go, Envoy, Python) refuse such a certificate, curl with OpenSSL takes it",
            "Issue the certificate again with subjectAltName",
        )
    for host in dict.fromkeys(hosts):
        name = read(split_namespace(host)[1])
        if isinstance(name, NoHost):
            yield error(
                "host_invalid",
                where,
                f"expected a DNS name, a wildcard (*.example.com) or an IP address as host, found {shown(host)!r}: {name.why}",
                name.remedy,
            )
        elif name != "*" and not covers(host, leaf) and not (nameless and common_name_covers(host, leaf)):
            yield _not_covered(name, leaf, where)
        elif (fitting := [each for each in leaf.dns_names if pattern_covers(each, name)]) and all(each.endswith(".") for each in fitting):
            yield _with_dot(name, fitting[0], where)


def _with_dot(name: str, found: str, where: str) -> Problem:
    """RFC 5280 (4.2.1.6) wants names without: OpenSSL (X509_check_host) and Go compare the dot too, curl and browsers do not."""
    return warning(
        "name_with_final_dot",
        where,
        f"expected a name without a final dot for {name}, found only {found}; many clients (Go, Python, and all that let OpenSSL compare) refuse such a "
        "certificate, curl takes it",
        f"Issue the certificate again with subjectAltName DNS:{found.removesuffix('.')}",
    )


def _not_covered(name: str, leaf: Certificate, where: str) -> Problem:
    # a space or a line end in a name would not be seen without quotes
    written = [each if each.isprintable() and each.split() == [each] else repr(each) for each in leaf.dns_names]
    names = [*written, *map(str, leaf.ip_addresses)]
    found = listed(names, f"the common name {leaf.common_name or '(none)'} only", 10)
    kind = "IP" if address(name) is not None else "DNS"
    hint = ""
    if kind == "IP" and name in leaf.dns_names:
        hint = "; an IP address must stand there as an IP, not as a DNS name"
    elif kind == "DNS" and any(pattern.startswith("*.") and name.endswith(pattern[1:]) for pattern in leaf.dns_names):
        hint = "; a wildcard stands for exactly one label"
    elif name.startswith("*."):
        hint = "; a wildcard host needs the same wildcard"
    return error(
        "host_not_covered",
        where,
        f"expected a certificate for {name}, found {found} in {leaf.label}{hint}",
        f"Issue the certificate with subjectAltName {kind}:{name}, or remove the host",
    )
