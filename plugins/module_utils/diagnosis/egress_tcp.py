# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether TCP services can work: sidecars have to tell them apart, and servers have to speak TLS from the first byte on. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..istio.choice import is_shown, title
from ..objects.kinds import SERVICE_ENTRY, Manifest, ref_of
from .egress_case import Case, each_path
from .egress_paths import EgressPath
from .rule import Found, Rule

STARTS_IN_PLAINTEXT: Mapping[int, str] = {
    21: "FTP",
    25: "SMTP",
    110: "POP3",
    143: "IMAP",
    389: "LDAP",
    587: "SMTP",
    1433: "SQL Server",
    3306: "MySQL",
    4190: "ManageSieve",
    4222: "NATS",
    5222: "XMPP",
    5432: "PostgreSQL",
    33060: "MySQL's X Protocol",
}
"""Well-known ports of protocols that begin in plaintext and change over to TLS in words of their own.

A gateway of Istio's speaks none of them: its ClientHello meets a server that expects another first message, or that has already sent one.
PostgreSQL takes TLS at once from version 17 on, but only with the ALPN protocol `postgresql`, which a DestinationRule cannot ask for.
"""
_EXCEPTIONS: Mapping[int, str] = {
    4222: ", unless the server has handshake_first",
    5432: ", from version 17 on with the ALPN protocol postgresql, which Istio cannot ask for",
}


def starts_in_plaintext(case: Case) -> Iterator[Found]:
    path = case.path
    if not path.is_tcp or not path.mode:
        return
    for where, number in dict.fromkeys(_server_ports(path)):
        if number not in STARTS_IN_PLAINTEXT:
            continue
        name = STARTS_IN_PLAINTEXT[number]
        yield case.found(
            "tls_starts_in_plaintext",
            case.at("service_entry", "spec.ports", where),
            f"port {number} is {name}'s, which begins in plaintext and then changes over to TLS{_EXCEPTIONS.get(number, '')}: the TLS that the "
            "gateway begins with fails there",
            f"set {case.word(where, 'the port')} to a port that takes TLS from the first byte on, such as that of a proxy before the server "
            "(stunnel, HAProxy), or let clients speak TLS by themselves",
            "warning",
        )


def _server_ports(path: EgressPath) -> Iterator[tuple[str, int]]:
    """Where the gateway connects to, and the option that says so."""
    for index, endpoint in enumerate(path.endpoints):
        number = endpoint.ports.get(path.tls_port_name)
        yield (f"endpoints[{index}].ports.{path.tls_port_name}", number) if number else ("tls_port", path.tls_port)
    if not path.endpoints:
        yield "tls_port", path.tls_port


def shared_port(case: Case) -> Iterator[Found]:
    """Services on one port whom no address tells apart: istiod makes one listener for them, with the older one's route."""
    path = case.path
    mine = case.made("service_entry")
    if not path.is_tcp or mine is None:
        return
    order = case.view.order_of
    own, asked = ref_of(mine), case.view.asked
    for other in case.view.tcp_entries(path.http_port):
        viewers = [viewer for viewer in case.viewers if is_shown(other, viewer) and is_shown(mine, viewer)]
        hosts = [str(host).lower() for host in other["spec"].get("hosts") or ()]
        told_elsewhere = path.host in hosts or (
            # of two that are asked for, or there, the second tells; of one that is asked for beside one that is there, the one that is asked for
            order.get(ref_of(other), -1) >= order[own] and (ref_of(other) in asked or own not in asked)
        )
        if told_elsewhere or not viewers or not _same_addresses(path, other):
            continue
        sidecars = f"sidecars in {viewers[0]}" if viewers[0] else "sidecars"
        yield case.found(
            "tcp_port_shared",
            case.at("service_entry", "spec.addresses", "addresses"),
            f"{title(other)} has TCP on port {path.http_port}, too, and no address tells the two apart: {sidecars} "
            "send connections to either to the older one, unless they answer DNS themselves (ISTIO_META_DNS_CAPTURE)",
            f"give each service addresses, those that the clients' DNS answers for its host, or another {case.word('http_port', 'port')}",
            "warning",
        )
        return


def _same_addresses(path: EgressPath, other: Manifest) -> bool:
    """Whether both have none, or one in common."""
    theirs = set((other.get("spec") or {}).get("addresses") or ())
    return bool(theirs & set(path.addresses)) or not (theirs or path.addresses)


RULES = (
    Rule(
        "MIT0521",
        "tls_starts_in_plaintext",
        "warning",
        "The port's protocol begins in plain text",
        "MySQL, PostgreSQL, SMTP, LDAP and others change over to TLS in words of their own. The gateway begins with TLS, and the server does "
        "not understand it.",
        "Use a port that takes TLS from the first byte on, or let clients speak TLS themselves.",
        each_path(starts_in_plaintext),
        (SERVICE_ENTRY,),
    ),
    Rule(
        "MIT0522",
        "tcp_port_shared",
        "warning",
        "Two TCP services share a port, and no address tells them apart",
        "istiod makes one listener for both, with the older one's route. Connections to either go to the older one.",
        "Give each ServiceEntry addresses, or another port.",
        each_path(shared_port),
        (SERVICE_ENTRY,),
    ),
)
