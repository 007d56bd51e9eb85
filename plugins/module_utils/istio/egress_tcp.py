# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether TCP services can work: sidecars have to tell them apart, and servers have to speak TLS from the first byte on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..problems import Problem
from .choice import is_shown, title
from .egress import Origination
from .egress_view import TCP, Case, Manifest, owner_of

STARTS_IN_PLAINTEXT: Mapping[int, str] = {
    21: "FTP",
    25: "SMTP",
    110: "POP3",
    143: "IMAP",
    389: "LDAP",
    587: "SMTP",
    1433: "SQL Server",
    3306: "MySQL",
    5432: "PostgreSQL",
    33060: "MySQL's X Protocol",
}
"""Well-known ports of protocols that begin in plaintext and change over to TLS in words of their own.

A gateway of Istio's speaks none of them: its ClientHello meets a server that expects another first message, or that has already sent one.
PostgreSQL takes TLS at once from version 17 on, but only with the ALPN protocol `postgresql`, which a DestinationRule cannot ask for.
"""


def starts_in_plaintext(case: Case) -> Iterator[Problem]:
    one = case.one
    if not one.is_tcp:
        return
    for where, number in dict.fromkeys(_server_ports(one)):
        if number not in STARTS_IN_PLAINTEXT:
            continue
        name = STARTS_IN_PLAINTEXT[number]
        since = ", from version 17 on with the ALPN protocol postgresql, which Istio cannot ask for" if number == 5432 else ""
        yield case.problem(
            "tls_starts_in_plaintext",
            where,
            f"port {number} is {name}'s, which begins in plaintext and then changes over to TLS{since}: the TLS that the gateway begins with "
            "fails there",
            f"set {where} to a port that takes TLS from the first byte on, such as that of a proxy before the server (stunnel, HAProxy), or let "
            "clients speak TLS by themselves",
            "warning",
        )


def _server_ports(one: Origination) -> Iterator[tuple[str, int]]:
    """Where the gateway connects to, and the option that says so."""
    for index, endpoint in enumerate(one.endpoints):
        number = endpoint.ports.get(one.tls_port_name)
        yield (f"endpoints[{index}].ports.{one.tls_port_name}", number) if number else ("tls_port", one.tls_port)
    if not one.endpoints:
        yield "tls_port", one.tls_port


def shared_port(case: Case) -> Iterator[Problem]:
    """Services on one port whom no address tells apart: istiod makes one listener for them, with the older one's route."""
    one = case.one
    mine = case.objects.get("service_entry")
    if not one.is_tcp or mine is None:
        return
    owners = [each.owner for each in case.view.originations]
    later = owners[owners.index(one.owner) :]  # of two in one call, the second tells
    for host, entries in case.view.service_entries.items():
        for other in entries:
            viewers = [viewer for viewer in case.viewers if is_shown(other, viewer) and is_shown(mine, viewer)]
            told_elsewhere = host == one.host or owner_of(other) in later
            if told_elsewhere or not viewers or not _is_tcp_on(other, one.http_port) or not _same_addresses(one, other):
                continue
            sidecars = f"sidecars in {viewers[0]}" if viewers[0] else "sidecars"
            yield case.problem(
                "tcp_port_shared",
                "addresses",
                f"{title(other)} has TCP on port {one.http_port}, too, and no address tells the two apart: {sidecars} "
                "send connections to either to the older one, unless they answer DNS themselves (ISTIO_META_DNS_CAPTURE)",
                "give each service addresses, those that the clients' DNS answers for its host, or another http_port",
                "warning",
            )
            return


def _is_tcp_on(entry: Manifest, number: int) -> bool:
    ports = (entry.get("spec") or {}).get("ports") or ()
    return any(port.get("number") == number and str(port.get("protocol") or "TCP").upper() in TCP for port in ports)


def _same_addresses(one: Origination, other: Manifest) -> bool:
    """Whether both have none, or one in common."""
    theirs = set((other.get("spec") or {}).get("addresses") or ())
    return bool(theirs & set(one.addresses)) or not (theirs or one.addresses)
