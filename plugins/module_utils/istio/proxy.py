# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running proxy says of itself: Envoy's administration pages as facts about TLS, and whether these are as expected.

Shapes: Envoy's api/envoy/admin/v3 (config_dump.proto, certs.proto, server_info.proto); names of secrets: Istio's
pilot/pkg/model/credentials/resource.go. Envoy writes `[redacted]` for private keys; of certificates only facts are kept.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from ..problems import Problem, Rejected
from ..tls.facts import days_left, describe, rfc3339
from ..tls.material import read_chain
from .names import CA_SUFFIX

PAGES: Mapping[str, str] = {
    "server_info": "server_info",
    "certs": "certs",
    "config_dump": "config_dump",
    # (update_rejected|ssl_context_update_by_sds|context_secrets_not_ready)$
    "stats": "stats?filter=%28update_rejected%7Cssl_context_update_by_sds%7Ccontext_secrets_not_ready%29%24",
}
"""What is read of each proxy: a name for the page, and its path and query."""

Kind = Literal["certificate", "ca", "other"]
Mode = Literal["SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL", "PASSTHROUGH"]

_KUBERNETES = "kubernetes://"
_GATEWAY_API = "kubernetes-gateway://"
_OWN = ("default", "ROOTCA")
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
    def identity(self) -> tuple[str, datetime, datetime]:
        """Envoy tells no fingerprint; serial numbers alone are not unique among issuers (walkthroughs number 0, 1, ...)."""
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
    state: Literal["active", "warming", "static"]
    """`warming`: asked for, and not received."""
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
        shown = self.secrets if not names else [one for one in self.secrets if any(_means(name, one) for name in wanted)]
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

    @property
    def is_suspicious(self) -> bool:
        """Whether something was refused, or has not come: then its log may say why."""
        return bool(self.rejections or self.counters) or any(not one.in_use for one in self.secrets if one.kind != "other")


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


# --- reading ----------------------------------------------------------------------------------------------------------


def read_proxy(pages: Mapping[str, bytes], now: datetime, *, where: str) -> Proxy:
    """The proxy of its `PAGES`. Rejected with `not_envoy` when they are none of Envoy's."""
    info = _json(pages["server_info"], f"{where}: server_info")
    dump = _json(pages["config_dump"], f"{where}: config_dump")
    held = tuple(_held(_json(pages["certs"], f"{where}: certs")))
    if "state" not in info or "configs" not in dump:
        raise _not_envoy(where, "JSON of another program")
    sections = {str(one.get("@type", "")).rpartition(".")[2]: one for one in dump["configs"] if isinstance(one, Mapping)}
    secrets, used = [], set()
    for secret in _secrets(sections.get("SecretsConfigDump") or {}, now):
        matching = _matching(secret, held)
        used |= matching
        secrets.append(Secret(**{**secret.__dict__, "in_use": bool(matching)}))
    listeners = sections.get("ListenersConfigDump") or {}
    node = info.get("node") or {}
    return Proxy(
        node=_node_name(str(node.get("id") or "")),
        version=_version(str(info.get("version") or "")),
        istio_version=(node.get("metadata") or {}).get("ISTIO_VERSION"),
        state=str(info["state"]),
        secrets=tuple(sorted(secrets, key=lambda one: one.resource)),
        held=tuple(one for one in dict.fromkeys(held) if one.identity not in used),
        listeners=tuple(_listeners(listeners)),
        originations=tuple(_originations(sections.get("ClustersConfigDump") or {})),
        rejections=tuple(dict.fromkeys(_rejections(listeners))),
        counters=_counters(pages["stats"]),
        now=now,
    )


def _not_envoy(where: str, found: str) -> Rejected:
    remedy = "Name the address of Envoy's administration interface: port 15000 of an Istio proxy, http://127.0.0.1:15000"
    return Rejected(Problem("not_envoy", where, f"expected an administration page of Envoy, found {found}", remedy))


def _json(page: bytes, where: str) -> Mapping[str, Any]:
    try:
        found = json.loads(page)
    except ValueError:
        found = None
    if not isinstance(found, Mapping):
        text = " ".join(page[:200].decode("utf-8", "replace").split())
        raise _not_envoy(where, f"{text[:80]!r}" if text else "nothing")
    return found


def _version(text: str) -> str:
    """`1.40.0` of `9e55.../1.40.0/Clean/RELEASE/BoringSSL`."""
    parts = text.split("/")
    return parts[1] if len(parts) > 1 else text


def _node_name(identity: str) -> str:
    """`name.namespace` of `router~address~name.namespace~domain`."""
    parts = identity.split("~")
    return parts[2] if len(parts) == 4 else identity


def _held(page: Mapping[str, Any]) -> Iterator[Held]:
    keys: tuple[tuple[Kind, str], ...] = (("certificate", "cert_chain"), ("ca", "ca_cert"))
    for context in page.get("certificates") or []:
        for kind, key in keys:
            for one in context.get(key) or []:
                not_before, not_after = _time(one.get("valid_from")), _time(one.get("expiration_time"))
                if not_before is None or not_after is None:
                    continue
                yield Held(
                    kind=kind,
                    path=str(one.get("path") or ""),
                    serial=_serial(str(one.get("serial_number") or "")),
                    not_before=not_before,
                    not_after=not_after,
                    sans=tuple(str(value) for name in one.get("subject_alt_names") or [] for value in name.values()),
                )


def _serial(text: str) -> str:
    return text.upper().lstrip("0") or "0"


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _matching(secret: Secret, held: Sequence[Held]) -> set[tuple[str, datetime, datetime]]:
    """The certificates in use that are the secret's: of a chain Envoy tells the leaf."""
    own = secret.certificates[:1] if secret.kind == "certificate" else secret.certificates
    identities = {
        (_serial(one["serial"]), datetime.fromisoformat(one["not_before"]), datetime.fromisoformat(one["not_after"])) for one in own
    }
    return {one.identity for one in held if one.kind == secret.kind and one.identity in identities}


def _secrets(section: Mapping[str, Any], now: datetime) -> Iterator[Secret]:
    groups: tuple[tuple[str, Literal["active", "warming", "static"]], ...] = (
        ("static_secrets", "static"),
        ("dynamic_active_secrets", "active"),
        ("dynamic_warming_secrets", "warming"),
    )
    for key, state in groups:
        for one in section.get(key) or []:
            yield _secret(one, state, now)


def _secret(entry: Mapping[str, Any], state: Literal["active", "warming", "static"], now: datetime) -> Secret:
    content = entry.get("secret") or {}
    pair, trust = content.get("tls_certificate"), content.get("validation_context")
    name = str(entry.get("name") or content.get("name") or "")
    source = (pair or {}).get("certificate_chain") if pair is not None else (trust or {}).get("trusted_ca")
    certificates: tuple[Mapping[str, Any], ...] = ()
    problem = ""
    if source is not None:
        try:
            certificates = tuple(describe(one, now) for one in read_chain(_bytes(source), where=name))
        except Rejected as rejected:
            problem = rejected.problems[0].message
    kind: Kind = "certificate" if pair is not None else "ca" if trust is not None else "other"
    if kind == "other" and state == "warming":  # nothing has come yet: the name tells what it will be
        kind = "ca" if name.endswith(CA_SUFFIX) or name == "ROOTCA" or name.startswith(("file-root:", "configmap://")) else "certificate"
    return Secret(
        resource=name,
        kind=kind,
        state=state,
        last_updated=entry.get("last_updated"),
        certificates=certificates,
        has_crl=bool((trust or {}).get("crl")),
        has_staple=bool((pair or {}).get("ocsp_staple")),
        problem=problem,
    )


def _bytes(source: Mapping[str, Any]) -> bytes:
    """The content of a DataSource; of a file that only the proxy can read there is none."""
    if "inline_bytes" in source:
        try:
            return base64.b64decode(source["inline_bytes"])
        except (binascii.Error, ValueError):
            return b""
    return str(source.get("inline_string") or "").encode()


def _listeners(section: Mapping[str, Any]) -> Iterator[Listener]:
    for one in section.get("static_listeners") or []:
        if servers := _servers(one.get("listener") or {}):
            yield Listener(str(one["listener"].get("name") or ""), _address(one["listener"]), "static", servers)
    states: tuple[Literal["active", "warming", "draining"], ...] = ("active", "warming", "draining")
    for one in section.get("dynamic_listeners") or []:
        for state in states:
            listener = (one.get(f"{state}_state") or {}).get("listener")
            if listener and (servers := _servers(listener)):
                yield Listener(str(one.get("name") or listener.get("name") or ""), _address(listener), state, servers)


def _address(listener: Mapping[str, Any]) -> str:
    address = listener.get("address") or {}
    place = address.get("socket_address")
    if not place:
        return str(
            (address.get("pipe") or {}).get("path") or (address.get("envoy_internal_address") or {}).get("server_listener_name") or ""
        )
    host = str(place.get("address", ""))
    return f"{f'[{host}]' if ':' in host else host}:{place.get('port_value', place.get('named_port', 0))}"


def _servers(listener: Mapping[str, Any]) -> tuple[Server, ...]:
    chains = [*(listener.get("filter_chains") or []), *([listener["default_filter_chain"]] if listener.get("default_filter_chain") else [])]
    return tuple(server for chain in chains if (server := _server(chain)))


def _server(chain: Mapping[str, Any]) -> Server | None:
    match = chain.get("filter_chain_match") or {}
    sni = tuple(match.get("server_names") or ())
    context = _tls_context(chain.get("transport_socket"))
    if context is None:
        return Server(sni, "PASSTHROUGH") if sni or match.get("transport_protocol") == "tls" else None
    common = context.get("common_tls_context") or {}
    credentials, ca = _references(common)
    wants = bool(context.get("require_client_certificate"))
    mode: Mode = "MUTUAL" if wants else "OPTIONAL_MUTUAL" if ca else "SIMPLE"
    if credentials == _OWN[:1] and wants:
        mode = "ISTIO_MUTUAL"
    return Server(sni, mode, credentials, ca, tuple(common.get("alpn_protocols") or ()))


def _tls_context(socket: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The TLS context of a transport socket; of QUIC's, and of one that another wraps (the PROXY protocol's), the one inside."""
    while socket:
        config = socket.get("typed_config") or {}
        if str(config.get("@type", "")).endswith(("DownstreamTlsContext", "UpstreamTlsContext")):
            return dict(config)
        for inner in ("downstream_tls_context", "upstream_tls_context"):
            if inner in config:
                return dict(config[inner])
        socket = config.get("transport_socket")
    return None


def _references(common: Mapping[str, Any]) -> tuple[tuple[str, ...], str | None]:
    """The credentials that a TLS context is made with, and the one with its CA."""
    names = [credential_name(str(one.get("name", ""))) for one in common.get("tls_certificate_sds_secret_configs") or []]
    names += [str((one.get("certificate_chain") or {}).get("filename") or "(inline)") for one in common.get("tls_certificates") or []]
    combined = common.get("combined_validation_context") or {}
    by_name = common.get("validation_context_sds_secret_config") or combined.get("validation_context_sds_secret_config")
    if by_name:
        return tuple(names), credential_name(str(by_name.get("name", "")))
    trusted = (common.get("validation_context") or combined.get("default_validation_context") or {}).get("trusted_ca")
    return tuple(names), str(trusted.get("filename") or "(inline)") if trusted else None


def _originations(section: Mapping[str, Any]) -> Iterator[Origination]:
    states: tuple[Literal["active", "warming"], ...] = ("active", "warming")
    for state in states:
        for one in section.get(f"dynamic_{state}_clusters") or []:
            cluster = one.get("cluster") or {}
            sockets = [
                cluster.get("transport_socket"),
                *(each.get("transport_socket") for each in cluster.get("transport_socket_matches") or []),
            ]
            for context in filter(None, map(_tls_context, sockets)):
                common = context.get("common_tls_context") or {}
                credentials, ca = _references(common)
                if credentials == _OWN[:1]:  # the mesh's own mutual TLS, which every cluster has
                    continue
                sni = context.get("sni") or None
                yield Origination(str(cluster.get("name", "")), state, sni, credentials, ca, tuple(_subject_alt_names(common)))


def _subject_alt_names(common: Mapping[str, Any]) -> Iterator[str]:
    combined = (common.get("combined_validation_context") or {}).get("default_validation_context")
    context = combined or common.get("validation_context") or {}
    matchers = [one.get("matcher") or {} for one in context.get("match_typed_subject_alt_names") or []]
    for matcher in [*matchers, *(context.get("match_subject_alt_names") or [])]:
        for how, text in matcher.items():
            if isinstance(text, str):
                yield text if how == "exact" else f"{how}:{text}"
            elif isinstance(text, Mapping) and "regex" in text:
                yield f"regex:{text['regex']}"


def _rejections(section: Mapping[str, Any]) -> Iterator[Rejection]:
    """Envoy tells this of listeners alone; of clusters and secrets there are counters and its log."""
    seen = set()
    for one in section.get("dynamic_listeners") or []:
        error = one.get("error_state")
        if not error:
            continue
        name = one.get("name") or (error.get("failed_configuration") or {}).get("name") or ""
        if (name, error.get("details")) not in seen:  # Envoy tells the same a second time, without name and time
            seen.add((name, error.get("details")))
            yield Rejection(f"listener {name}", str(error.get("details") or ""), error.get("last_update_attempt"))


def _counters(page: bytes) -> dict[str, int]:
    counters = {}
    for line in page.decode("utf-8", "replace").splitlines():
        name, __, value = line.rpartition(": ")
        if name and value.strip().isdecimal() and int(value) and not name.endswith("ssl_context_update_by_sds"):
            counters[name] = int(value)
    return counters


# --- the log ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One line of a proxy's log."""

    proxy: str
    time: datetime | None
    text: str

    def as_result(self) -> dict[str, Any]:
        return {"proxy": self.proxy, "time": rfc3339(self.time) if self.time else None, "line": self.text}


_TIME_IN_LINE = re.compile(r'(?:^\[?|"(?:start_time|time)":\s*")(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))')
_REFUSED = re.compile(r"(?:config for (?P<type>\S+)|config update|config) rejected: (?P<detail>.+?)(?:\tthread=\d+)?$")


def line_time(text: str) -> datetime | None:
    """When a line was written, where it says so: Istio's default access logs (text, JSON) and the agent's own lines do."""
    found = _TIME_IN_LINE.search(text)
    moment = _time(found[1]) if found else None
    return moment.astimezone(UTC) if moment else None


def refusals(lines: Sequence[Line]) -> list[Rejection]:
    """What the log says about refused updates, each once with the last time."""
    last: dict[tuple[str, str], Line] = {}
    for line in lines:
        found = _REFUSED.search(line.text)
        if found:
            last[((found["type"] or "configuration").rpartition(".")[2].lower(), found["detail"].strip())] = line
    return [Rejection(what, detail, rfc3339(line.time) if line.time else None) for (what, detail), line in last.items()]


def is_refusal(text: str) -> bool:
    return "rejected: " in text and bool(_REFUSED.search(text))


# --- what is expected -------------------------------------------------------------------------------------------------


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
    found = _find(proxy, expected.name)
    if not expected.present:
        for one in found:
            if one.state != "warming":
                yield f"still holds credential {expected.name} ({_fingerprints(one)})"
        return
    yield from _lacks(proxy, expected.name, found, expected.fingerprints)
    if expected.ca or expected.ca_fingerprints:
        name = f"{expected.name}{CA_SUFFIX}"
        yield from _lacks(proxy, name, _find(proxy, name), expected.ca_fingerprints)


def _find(proxy: Proxy, name: str) -> list[Secret]:
    """The secrets that a credential's name means: a Gateway's, and a Gateway API's of whatever namespace. Those left out that only
    listeners on their way out have: Envoy lets these end their connections, and keeps what they were made with."""
    drained = _references_of(proxy, "draining") - _references_of(proxy, "active", "warming", "static")
    return [one for one in proxy.secrets if _means(name, one) and one.name not in drained]


def _references_of(proxy: Proxy, *states: str) -> set[str]:
    servers = [server for listener in proxy.listeners if listener.state in states for server in listener.servers]
    clusters = [one for one in proxy.originations if one.state in states]
    named = {name for server in servers for name in (*server.credentials, server.ca_credential)}
    return {name for name in named.union(*((*one.credentials, one.ca_credential) for one in clusters)) if name}


def _means(name: str, secret: Secret) -> bool:
    if "://" in name:
        return secret.resource == name
    return secret.name == name or (secret.resource.startswith(_GATEWAY_API) and secret.resource.endswith(f"/{name}"))


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
