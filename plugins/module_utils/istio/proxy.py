# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running proxy says of itself, as facts about TLS (`proxy_dump` reads them, `proxy_expect` compares them).

Shapes: Envoy's api/envoy/admin/v3 (config_dump.proto, certs.proto, server_info.proto); names of secrets: Istio's
pilot/pkg/model/credentials/resource.go. Envoy writes `[redacted]` for private keys; of certificates only facts are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, TypeAlias

from ..tls.facts import days_left, rfc3339
from .names import CA_SUFFIX

Kind = Literal["certificate", "ca", "other"]


State = Literal["active", "warming", "static"]
"""Of a secret. `warming`: asked for, and not received."""


Identity: TypeAlias = tuple[str, datetime, datetime]
"""Serial number and validity of a certificate: Envoy tells no fingerprint of those in use, and serial numbers alone are not unique among issuers
(walkthroughs number 0, 1, ...)."""


Mode = Literal["SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL", "PASSTHROUGH"]


_KUBERNETES = "kubernetes://"


_GATEWAY_API = "kubernetes-gateway://"


OWN = ("default", "ROOTCA")
"""The workload's own certificate and the mesh's root, as istio-agent names them."""


@dataclass(frozen=True)
class Held:
    """A certificate that a TLS context of the proxy was made with (`/certs`)."""

    kind: Kind
    path: str
    """`<inline>` for what came over SDS."""
    serial: str
    not_before: datetime
    not_after: datetime
    sans: tuple[str, ...] = ()

    @property
    def identity(self) -> Identity:
        return self.serial, self.not_before, self.not_after

    def as_result(self, now: datetime) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "path": self.path,
            "serial": self.serial,
            "sans": list(self.sans),
            "not_before": rfc3339(self.not_before),
            "not_after": rfc3339(self.not_after),
            "days_left": days_left(self.not_after, now),
        }


@dataclass(frozen=True)
class Secret:
    """A secret that the proxy asked for over SDS, or was configured with."""

    resource: str
    """Envoy's name, for example `kubernetes://httpbin-credential`."""
    kind: Kind
    state: State
    last_updated: str | None
    certificates: tuple[Mapping[str, Any], ...] = ()
    """Facts about each, leaf first."""
    has_crl: bool = False
    has_staple: bool = False
    in_use: bool = False
    """Whether a TLS context was made with it. Envoy keeps a secret that it refused (a key that does not belong to the certificate) without
    using it, and with it everything that came in the same message."""
    problem: str = ""
    """Why its certificates cannot be told."""

    @property
    def name(self) -> str:
        return credential_name(self.resource)

    def as_result(self) -> dict[str, Any]:
        more = {"problem": self.problem} if self.problem else {}
        return {
            "name": self.name,
            "resource": self.resource,
            "kind": self.kind,
            "state": self.state,
            "in_use": self.in_use,
            "last_updated": self.last_updated,
            "certificates": [dict(one) for one in self.certificates],
            "has_crl": self.has_crl,
            "has_staple": self.has_staple,
            **more,
        }


@dataclass(frozen=True)
class Server:
    """One TLS server of a listener: a filter chain."""

    sni: tuple[str, ...]
    """Empty: any."""
    mode: Mode
    credentials: tuple[str, ...] = ()
    """Names of credentials; for certificates that are files their paths."""
    ca_credential: str | None = None
    alpn: tuple[str, ...] = ()

    def as_result(self) -> dict[str, Any]:
        return {
            "sni": list(self.sni),
            "mode": self.mode,
            "credentials": list(self.credentials),
            "ca_credential": self.ca_credential,
            "alpn": list(self.alpn),
        }


@dataclass(frozen=True)
class Listener:
    name: str
    address: str
    state: Literal["active", "warming", "draining", "static"]
    servers: tuple[Server, ...]

    def as_result(self) -> dict[str, Any]:
        return {"name": self.name, "address": self.address, "state": self.state, "servers": [one.as_result() for one in self.servers]}


@dataclass(frozen=True)
class Origination:
    """TLS that the proxy originates to an upstream, the mesh's own mutual TLS apart."""

    cluster: str
    state: Literal["active", "warming"]
    sni: str | None
    credentials: tuple[str, ...] = ()
    ca_credential: str | None = None
    subject_alt_names: tuple[str, ...] = ()

    def as_result(self) -> dict[str, Any]:
        return {
            "cluster": self.cluster,
            "state": self.state,
            "sni": self.sni,
            "credentials": list(self.credentials),
            "ca_credential": self.ca_credential,
            "subject_alt_names": list(self.subject_alt_names),
        }


@dataclass(frozen=True)
class Uses:
    """What a proxy uses a credential for."""

    served: bool = False
    """Whether clients are served with it."""
    clusters: frozenset[str] = frozenset()
    """Names of the clusters to which it is presented."""


@dataclass(frozen=True)
class Rejection:
    """An update that the proxy refused, and has not got right since."""

    what: str
    """For example `listener 0.0.0.0_443`."""
    detail: str
    at: str | None

    def as_result(self) -> dict[str, Any]:
        return {"what": self.what, "detail": self.detail, "at": self.at}


@dataclass(frozen=True)
class Proxy:
    """What one proxy holds."""

    node: str
    """`istio-ingressgateway-0.istio-system`, or Envoy's own id where that is of another form."""
    version: str
    """Envoy's."""
    istio_version: str | None
    state: str
    """Envoy's: LIVE, DRAINING, PRE_INITIALIZING or INITIALIZING."""
    secrets: tuple[Secret, ...] = ()
    held: tuple[Held, ...] = ()
    """Certificates in use that belong to none of the secrets: those read from files."""
    listeners: tuple[Listener, ...] = ()
    originations: tuple[Origination, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    """Of what was ever refused or missing since the proxy started, as far as it counts that; without those that are 0."""

    now: datetime = datetime.min
    """When that was."""

    def as_result(self, names: Sequence[str] = ()) -> dict[str, Any]:
        """`names`: the credentials to show, if not all."""
        wanted = [name for one in names for name in (one, f"{one}{CA_SUFFIX}")]
        shown = self.secrets if not names else [one for one in self.secrets if any(is_meant(name, one) for name in wanted)]
        return {
            "node": self.node,
            "version": self.version,
            "istio_version": self.istio_version,
            "state": self.state,
            "secrets": [one.as_result() for one in shown],
            "other_certificates": [one.as_result(self.now) for one in self.held],
            "listeners": [one.as_result() for one in self.listeners],
            "originations": [one.as_result() for one in self.originations],
            "rejections": [one.as_result() for one in self.rejections],
            "counters": dict(self.counters),
        }

    @cached_property
    def references(self) -> Mapping[str, frozenset[str]]:
        """State -> names of the credentials that listeners and clusters in that state are made with."""
        found: dict[str, set[str | None]] = {}
        for listener in self.listeners:
            for server in listener.servers:
                found.setdefault(listener.state, set()).update((*server.credentials, server.ca_credential))
        for one in self.originations:
            found.setdefault(one.state, set()).update((*one.credentials, one.ca_credential))
        return {state: frozenset(name for name in names if name) for state, names in found.items()}

    @cached_property
    def drained(self) -> frozenset[str]:
        """Names of the credentials that only listeners on their way out have: Envoy lets these end their connections, and keeps what they were
        made with."""
        return self.references.get("draining", frozenset()).difference(
            *(names for state, names in self.references.items() if state != "draining")
        )

    def uses(self) -> Mapping[str, Uses]:
        """Last part of a credential's name, without that of its CA -> what serves or presents it; what is on its way in or out left out."""
        found: dict[str, Uses] = {}
        for listener in self.listeners:
            for server in listener.servers if listener.state in ("active", "static") else ():
                for name in _credentials_of(server):
                    found[name] = replace(found.get(name, Uses()), served=True)
        for one in self.originations:
            for name in _credentials_of(one) if one.state == "active" else ():
                known = found.get(name, Uses())
                found[name] = replace(known, clusters=known.clusters | {one.cluster})
        return found

    def refers_to(self, name: str) -> bool:
        """Whether its configuration, that of what is on its way out left out, names a credential of whatever namespace, or its CA."""
        return name in self._referred or name + CA_SUFFIX in self._referred

    @cached_property
    def _referred(self) -> frozenset[str]:
        """Last parts of names."""
        return frozenset(name.rpartition("/")[2] for state, names in self.references.items() if state != "draining" for name in names)

    def secrets_of(self, name: str) -> list[Secret]:
        """The secrets that a credential's name means (`is_meant`), drained ones left out."""
        named = self._by_last_part.get(name.rpartition("/")[2], ())
        return [one for one in named if is_meant(name, one) and one.name not in self.drained]

    @cached_property
    def _by_last_part(self) -> Mapping[str, Sequence[Secret]]:
        found: dict[str, list[Secret]] = {}
        for one in self.secrets:
            found.setdefault(one.resource.rpartition("/")[2], []).append(one)
        return found

    @property
    def is_suspicious(self) -> bool:
        """Whether something was refused, or has not come: then its log may say why."""
        return bool(self.rejections or self.counters) or any(not one.in_use for one in self.secrets if one.kind != "other")


def _credentials_of(user: Server | Origination) -> set[str]:
    named = (*user.credentials, user.ca_credential)
    return {name.rpartition("/")[2].removesuffix(CA_SUFFIX) for name in named if name}


class Unread(Exception):
    """A proxy could not be read; `str()` is one sentence, which names it."""


@dataclass(frozen=True)
class Source:
    """Where a proxy can be read."""

    name: str
    page: Callable[[str], bytes]
    """Its administration page with a path; raises Unread."""
    ready: bool | None = None
    """What Kubernetes says; None for one that is no Pod."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the result says beside the proxy's own."""
    trouble: str = ""
    """Why it is of no use to ask it now."""


@dataclass(frozen=True)
class Log:
    """Where a proxy's log can be read."""

    name: str
    lines: Callable[[datetime | None], Iterable[tuple[datetime | None, str]]]
    """Since a time: when each was written, if that is known, and what."""


@dataclass(frozen=True)
class Look:
    """What came of reading one proxy."""

    source: Source
    proxy: Proxy | None
    error: str = ""

    @property
    def ready(self) -> bool:
        return self.proxy is not None and (self.proxy.state == "LIVE" if self.source.ready is None else self.source.ready)

    def as_result(self, names: Sequence[str] = ()) -> dict[str, Any]:
        """`names`: the credentials to show, if not all."""
        result = {"name": self.source.name, **self.source.facts, "ready": self.ready, "error": self.error or None}
        return {**result, **(self.proxy.as_result(names) if self.proxy else {})}


def credential_name(resource: str) -> str:
    """`httpbin-credential` of `kubernetes://httpbin-credential`; every other resource is called as Envoy calls it."""
    return resource.removeprefix(_KUBERNETES)


def is_meant(name: str, secret: Secret) -> bool:
    if "://" in name:
        return secret.resource == name
    return secret.name == name or (secret.resource.startswith(_GATEWAY_API) and secret.resource.endswith(f"/{name}"))
