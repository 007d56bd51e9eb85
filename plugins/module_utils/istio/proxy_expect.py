# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a proxy is expected to hold and serve, and what it lacks. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..problems import Problem
from .names import CA_SUFFIX
from .proxy import Proxy, Secret


@dataclass(frozen=True)
class ExpectedCredential:
    """A credential that each proxy must have and use, or must not have."""

    name: str
    """A Secret's name, or a resource as Envoy calls it."""
    fingerprints: tuple[str, ...] = ()
    """Of the leaf, or of one of the CA certificates if it is a CA; any of these."""
    ca: bool | None = None
    """Whether there must be a CA for the other side's certificates beside it."""
    ca_fingerprints: tuple[str, ...] = ()
    present: bool = True


@dataclass(frozen=True)
class ExpectedServer:
    """A TLS server that each proxy must have."""

    sni: str
    credential: str | None = None
    mode: str | None = None


@dataclass(frozen=True)
class Expected:
    """What every proxy must be like; nothing given: nothing is expected."""

    credentials: tuple[ExpectedCredential, ...] = ()
    servers: tuple[ExpectedServer, ...] = ()
    rejected: bool | None = None
    """False: no update is refused."""


def plain_fingerprint(text: str) -> str:
    """A SHA-256 fingerprint in whatever spelling, as 64 lower-case digits if it is one."""
    return re.sub(r"^sha-?256(?: fingerprint)?[=:]|[:\s]", "", text.strip().lower())


def check(expected: Expected) -> list[Problem]:
    """What is wrong with the expectation itself."""
    problems = []
    for number, one in enumerate(expected.credentials):
        for option, fingerprints in (("fingerprint", one.fingerprints), ("ca_fingerprint", one.ca_fingerprints)):
            for text in fingerprints:
                if not re.fullmatch(r"[0-9a-f]{64}", plain_fingerprint(text)):
                    problems.append(
                        Problem(
                            "invalid_expectation",
                            f"expect.credentials[{number}] ({one.name}): {option}",
                            f"expected a SHA-256 fingerprint of 64 hexadecimal digits, found {text!r}",
                            "Print it with `openssl x509 -noout -fingerprint -sha256`, or take it from the module that stored the credential",
                        )
                    )
        if not one.present and (one.fingerprints or one.ca or one.ca_fingerprints):
            problems.append(
                Problem(
                    "invalid_expectation",
                    f"expect.credentials[{number}] ({one.name})",
                    "a credential that must not be there can have no fingerprint and no CA",
                    "Leave out either these or state=absent",
                )
            )
    return problems


def judge(proxy: Proxy, expected: Expected) -> list[str]:
    """What the proxy lacks, each a clause with the proxy as its subject; empty when all is as expected."""
    unmet = [lack for one in expected.credentials for lack in _credential_lacks(proxy, one)]
    unmet += [lack for one in expected.servers if (lack := _server_lack(proxy, one))]
    if expected.rejected is False:
        unmet += [f"refuses an update of {one.what}: {one.detail}" for one in proxy.rejections]
    return unmet


def _credential_lacks(proxy: Proxy, expected: ExpectedCredential) -> Iterator[str]:
    found = proxy.secrets_of(expected.name)
    if not expected.present:
        for one in found:
            if one.state != "warming":
                yield f"still holds credential {expected.name} ({_fingerprints(one)})"
        return
    yield from _lacks(proxy, expected.name, found, expected.fingerprints)
    if expected.ca or expected.ca_fingerprints:
        name = f"{expected.name}{CA_SUFFIX}"
        yield from _lacks(proxy, name, proxy.secrets_of(name), expected.ca_fingerprints)


def _lacks(proxy: Proxy, name: str, found: Sequence[Secret], fingerprints: Sequence[str]) -> Iterator[str]:
    if not found:
        yield f"does not ask for credential {name}: nothing that it is configured with names it"
    for one in found:
        wanted = {plain_fingerprint(text) for text in fingerprints}
        own = one.certificates[:1] if one.kind == "certificate" else one.certificates
        if one.state == "warming":
            yield f"has asked for credential {name} and not got it: the Secret is missing, or istiod or Envoy refused it, or one with it"
        elif wanted and not wanted & {plain_fingerprint(each["fingerprint_sha256"]) for each in own}:
            yield f"expected credential {name} with fingerprint {' or '.join(fingerprints)}, found {_fingerprints(one)}"
        elif not one.in_use:
            yield f"got credential {name} ({_fingerprints(one)}) and does not use it: Envoy refused it, or one that came with it"


def _fingerprints(secret: Secret) -> str:
    own = secret.certificates[:1] if secret.kind == "certificate" else secret.certificates
    return ", ".join(str(one["fingerprint_sha256"]) for one in own) or "no certificate"


def _server_lack(proxy: Proxy, expected: ExpectedServer) -> str | None:
    servers = [server for listener in proxy.listeners for server in listener.servers if listener.state in ("active", "static")]
    found = [server for server in servers if expected.sni in server.sni or (expected.sni == "*" and not server.sni)]
    if not found:
        names = sorted({name for server in servers for name in server.sni})
        shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        return f"has no TLS server for {expected.sni}; it has {f'those for {shown}' if names else 'none'}"
    for server in found:
        fits = expected.credential is None or expected.credential in server.credentials
        if fits and expected.mode in (None, server.mode):
            return None
    wanted = " and ".join(
        part for part in (expected.credential and f"credential {expected.credential}", expected.mode and f"mode {expected.mode}") if part
    )
    have = "; ".join(f"{' and '.join(server.credentials) or 'no credential'}, mode {server.mode}" for server in found)
    return f"expected its TLS server for {expected.sni} to have {wanted}, found {have}"
