# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which certificate a server presents to a fresh handshake: nobody is verified, and nothing is asked after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from ..problems import Rejected
from .handshake import Contexts
from .probe import probe
from .request import Request, Result

_LABEL = "meshops-probe"
"""Stands for the wildcard of a host."""

Ask: TypeAlias = Callable[[Request], Result]


@dataclass(frozen=True)
class Presented:
    """What came of a handshake."""

    fingerprint: str | None
    """Of the certificate; None where none came."""
    failure: str | None = None
    detail: str = ""
    reached: bool = True
    """Whether anything answered at the address."""


def asker() -> Ask:
    """Makes requests that share what handshakes go by."""
    return partial(probe, contexts=Contexts())


def presented(host: str, address: str, port: int, *, timeout: float, ask: Ask) -> Presented:
    """`host` is sent as SNI. A request that cannot be made counts as not reached."""
    try:
        result = ask(Request(host, address, port, "tls", verify=False, timeout=timeout, awaits_verdict=False))
    except Rejected as rejected:
        return Presented(None, rejected.problems[0].message, reached=False)
    if result.peer_chain:
        return Presented(str(result.peer_chain[0]["fingerprint_sha256"]), result.failure, result.detail)
    return Presented(None, result.failure, result.detail, result.stage not in ("dns", "tcp"))


def asked_for(host: str, names: Sequence[str]) -> str:
    """A name that a client may ask for: of a wildcard one that it stands for, of any host one of the certificate's `names`; else empty."""
    if host == "*":
        host = next((name for name in names if "*" not in name), names[0] if names else "")
    return host.replace("*", _LABEL, 1) if host.startswith("*.") else host
