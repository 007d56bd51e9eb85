# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real ACME server: Let's Encrypt's Pebble, which asks the ingress gateway for HTTP-01 challenges, and the DNS that it believes."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.meshops.istio.sandbox import pebble
from ansible_collections.meshops.istio.sandbox.layout import LOCAL

from .conftest import Pair
from .databases import free_port, running

NEVER_SLEEP = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0", "PEBBLE_WFE_NONCEREJECT": "5"}


@dataclass(frozen=True)
class Acme:
    """Pebble, and the DNS server beside it."""

    directory: str
    management: str
    dns_management: str
    trusted: Path
    """The CA of Pebble's own HTTPS."""
    log: Path

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.trusted))

    def root(self) -> str:
        """The CA that issues, in PEM; another one each time that Pebble starts."""
        with urllib.request.urlopen(f"{self.management}/roots/0", timeout=5, context=self._context()) as answer:  # noqa: S310 - Pebble's
            return str(answer.read().decode())

    def wants_renewed(self, certificate: str, info: dict[str, Any]) -> None:
        """Sets the renewal information (RFC 9773) of a certificate."""
        leaf = certificate[: certificate.index("-----END CERTIFICATE-----") + 26]
        body = json.dumps({"Certificate": leaf, "ARIResponse": json.dumps(info)}).encode()
        request = urllib.request.Request(f"{self.management}/set-renewal-info/", body, method="POST")  # noqa: S310 - Pebble's
        with urllib.request.urlopen(request, timeout=5, context=self._context()):  # noqa: S310 - Pebble's
            pass


@contextmanager
def acme(served: Pair, directory: Path, web: str) -> Iterator[Acme]:
    """`served` is for 127.0.0.1; every name leads to the address `web`."""
    pebble.make()
    ports = {name: free_port(LOCAL) for name in ("acme", "management", "dns", "dns management")}
    places = {name: directory / name for name in ("pebble", "dns")}
    for place in places.values():
        place.mkdir(parents=True)
    dns = [pebble.DNS, "-defaultIPv4", web, "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""]
    dns += ["-dnsserver", f"{LOCAL}:{ports['dns']}", "-management", f"{LOCAL}:{ports['dns management']}"]
    config = {
        "listenAddress": f"{LOCAL}:{ports['acme']}",
        "managementListenAddress": f"{LOCAL}:{ports['management']}",
        "certificate": str(served.certificate_path),
        "privateKey": str(served.private_key_path),
        "httpPort": 80,
        "tlsPort": 443,
        "retryAfter": {"authz": 1, "order": 1},
        "keyAlgorithm": "ecdsa",
        "profiles": {"default": {"description": "as public CAs", "validityPeriod": 90 * 86400}},
    }
    (places["pebble"] / "config.json").write_text(json.dumps({"pebble": config}))
    settings = [f"{name}={value}" for name, value in NEVER_SLEEP.items()]
    server = ["env", *settings, pebble.SERVER, "-strict", "-config", "config.json", "-dnsserver", f"{LOCAL}:{ports['dns']}"]
    with running(dns, LOCAL, ports["dns management"], places["dns"]), running(server, LOCAL, ports["acme"], places["pebble"]):
        yield Acme(
            f"https://{LOCAL}:{ports['acme']}/dir",
            f"https://{LOCAL}:{ports['management']}",
            f"http://{LOCAL}:{ports['dns management']}",
            served.ca_path,
            places["pebble"] / "log",
        )
