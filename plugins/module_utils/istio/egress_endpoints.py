# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an external service is: ports, addresses and endpoints from its options. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from ..tls.names import normalise
from .egress import (
    PORT_NAMES,
    Endpoint,
    Protocol,
    Resolution,
)
from .egress_reader import Reader, given_options
from .names import domain_fault, is_address

PROTOCOLS: Sequence[Protocol] = ("HTTP", "HTTP2", "GRPC", "TCP")


RESOLUTIONS: Sequence[Resolution] = ("DNS", "DNS_ROUND_ROBIN", "STATIC", "NONE")


def ports_of(reader: Reader, prefix: str, protocol: Protocol, given: Mapping[str, Any]) -> tuple[int, int]:
    """Where clients connect to, and where the gateway does. With TCP there is no usual port, and the two may be one."""
    defaults = (80, 443)
    if protocol == "TCP":
        port = given.get("http_port", given.get("tls_port"))
        if port is None:
            reader.wrong(
                "missing_option",
                f"{prefix}http_port",
                "expected the port to which clients connect, found none, and TCP has no usual one",
                "set http_port (or its alias port), for example to 27017, and tls_port where the service takes TLS on another one",
            )
            return 0, 0
        defaults = (port, port)
    http_port = reader.port(f"{prefix}http_port", given.get("http_port", defaults[0]))
    tls_port = reader.port(f"{prefix}tls_port", given.get("tls_port", defaults[1]))
    if http_port == tls_port and http_port and protocol != "TCP":
        reader.wrong(
            "same_port",
            f"{prefix}tls_port",
            f"expected a port other than http_port, found {tls_port} for both",
            "clients speak HTTP on http_port and the gateway speaks TLS to tls_port: give them different numbers",
        )
    return http_port, tls_port


def addresses_of(reader: Reader, where: str, resolution: Resolution, values: Sequence[Any]) -> tuple[str, ...]:
    """As istiod takes them: IP addresses, or with STATIC and NONE networks, too."""
    for index, value in enumerate(map(str, values)):
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError:
            reader.wrong(
                "invalid_address",
                f"{where}[{index}]",
                f"expected an IP address, found {value!r}",
                "give the address that the clients' DNS answers for the host; where the service really is belongs into endpoints",
            )
            continue
        if "/" in value and resolution not in ("STATIC", "NONE"):
            reader.wrong(
                "invalid_address",
                f"{where}[{index}]",
                f"resolution {resolution} takes single addresses, found the network {value}",
                "list the addresses without prefix length, or use resolution STATIC",
            )
    return tuple(dict.fromkeys(map(str, values)))


def endpoints_of(
    reader: Reader, where: str, resolution: Resolution, items: Sequence[Mapping[str, Any]], protocol: Protocol, *, one_port: bool
) -> tuple[Endpoint, ...]:
    if resolution == "NONE" and items:
        reader.wrong(
            "endpoints_unused",
            where,
            f"resolution NONE connects to the address that the client asked for, and {len(items)} endpoints were given",
            "use resolution STATIC (addresses) or DNS (names)",
        )
    if resolution == "STATIC" and not items:
        reader.wrong(
            "endpoints_missing",
            where,
            "resolution STATIC needs endpoints, and none were given",
            "give their addresses, or use resolution DNS",
        )
    if resolution == "DNS_ROUND_ROBIN" and len(items) > 1:
        reader.wrong(
            "too_many_endpoints",
            where,
            f"resolution DNS_ROUND_ROBIN takes one endpoint at most, found {len(items)}",
            "give one name that resolves to all addresses, or use resolution DNS",
        )
    return tuple(_endpoint(reader, f"{where}[{index}]", resolution, item, protocol, one_port) for index, item in enumerate(items))


def _endpoint(reader: Reader, here: str, resolution: Resolution, item: Mapping[str, Any], protocol: Protocol, one_port: bool) -> Endpoint:
    given = given_options(item)
    address = str(given.get("address") or "")
    address = address if address.isascii() else normalise(address) or address
    if resolution == "STATIC" and not is_address(address):
        reader.wrong(
            "invalid_endpoint",
            f"{here}.address",
            f"resolution STATIC takes IP addresses, found {address!r}",
            "give an address, or use resolution DNS",
        )
    elif resolution in ("DNS", "DNS_ROUND_ROBIN") and not is_address(address) and (domain_fault(address) or "*" in address):
        reader.wrong(
            "invalid_endpoint",
            f"{here}.address",
            f"expected a DNS name or an IP address, found {address!r}",
            "give the name without scheme, port or path",
        )
    return Endpoint(
        address=address,
        ports=_endpoint_ports(reader, f"{here}.ports", given.get("ports") or {}, protocol, one_port=one_port),
        labels={str(key): str(value) for key, value in (given.get("labels") or {}).items()},
        locality=given.get("locality"),
        weight=given.get("weight"),
    )


def _endpoint_ports(reader: Reader, where: str, given: Mapping[str, Any], protocol: Protocol, *, one_port: bool) -> dict[str, int]:
    """By the ServiceEntry's port names. With TCP the names of HTTP services are understood, too, so that a service can change over."""
    mesh_name, tls_name = PORT_NAMES[protocol == "TCP"]
    names = {mesh_name: mesh_name, tls_name: tls_name}
    if protocol == "TCP":
        names |= dict(zip(PORT_NAMES[False], (mesh_name, tls_name), strict=True))
    if one_port:
        names = dict.fromkeys(names, mesh_name)
    ports: dict[str, int] = {}
    for name, value in given.items():
        number = reader.port(f"{where}.{name}", _as_int(value))
        if name not in names:
            reader.wrong(
                "unknown_port_name",
                f"{where}.{name}",
                f"expected the port names {mesh_name} and {tls_name}, found {name!r}",
                f"map {tls_name} to the port on which the endpoint takes TLS",
            )
        elif ports.setdefault(names[name], number) != number:
            reader.wrong(
                "endpoint_ports_differ",
                where,
                f"expected one number for a port of the service, found {', '.join(map(str, given.values()))}",
                f"map {tls_name} alone, or give http_port and tls_port different numbers",
            )
    return ports


def _as_int(value: Any) -> Any:
    """Templates yield `"443"` where 443 is meant."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value
