# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the pages of Envoy's administration interface to what a proxy holds and serves. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from ..problems import Problem, Rejected
from ..tls.facts import describe
from ..tls.material import read_cas, read_chain
from .names import CA_SUFFIX
from .proxy import OWN, Held, Identity, Kind, Listener, Mode, Origination, Proxy, Rejection, Secret, Server, State, credential_name

PAGES: Mapping[str, str] = {
    "server_info": "server_info",
    "certs": "certs",
    "config_dump": "config_dump",
    # (update_rejected|ssl_context_update_by_sds|context_secrets_not_ready)$
    "stats": "stats?filter=%28update_rejected%7Cssl_context_update_by_sds%7Ccontext_secrets_not_ready%29%24",
}
"""What is read of each proxy: a name for the page, and its path and query."""

SECRETS: Mapping[str, str] = {"certs": PAGES["certs"], "secrets": "config_dump?resource=dynamic_active_secrets"}
"""What is read anew of a proxy that was read before: the secrets that have come, which is a fraction of the whole."""


def read_proxy(pages: Mapping[str, bytes], now: datetime, *, where: str) -> Proxy:
    """The proxy of its `PAGES`. Rejected with `not_envoy` when they are none of Envoy's."""
    info = _json(pages["server_info"], f"{where}: server_info")
    dump = _json(pages["config_dump"], f"{where}: config_dump")
    held = tuple(_held(_json(pages["certs"], f"{where}: certs")))
    if "state" not in info or "configs" not in dump:
        raise _not_envoy(where, "JSON of another program")
    sections = {str(one.get("@type", "")).rpartition(".")[2]: one for one in dump["configs"] if isinstance(one, Mapping)}
    secrets, used = _in_use(_secrets(sections.get("SecretsConfigDump") or {}, now), held)
    listeners = sections.get("ListenersConfigDump") or {}
    node = info.get("node") or {}
    return Proxy(
        node=_node_name(str(node.get("id") or "")),
        version=_version(str(info.get("version") or "")),
        istio_version=(node.get("metadata") or {}).get("ISTIO_VERSION"),
        state=str(info["state"]),
        secrets=secrets,
        held=tuple(one for one in dict.fromkeys(held) if one.identity not in used),
        listeners=tuple(_listeners(listeners)),
        originations=tuple(_originations(sections.get("ClustersConfigDump") or {})),
        rejections=tuple(dict.fromkeys(_rejections(listeners))),
        counters=_counters(pages["stats"]),
        now=now,
    )


def read_secrets(known: Proxy, pages: Mapping[str, bytes], now: datetime, *, where: str) -> Proxy:
    """A proxy that was read before with the secrets of its `SECRETS`; the rest is as it was. Of each update Envoy tells the time: what has none
    since is not read again."""
    entries = _json(pages["secrets"], f"{where}: config_dump").get("configs") or []
    held = _held(_json(pages["certs"], f"{where}: certs"))
    before = {one.resource: one for one in known.secrets if one.state == "active"}
    come = {}
    for entry in entries:
        name = str(entry.get("name") or "")
        there = before.get(name)
        come[name] = there if there and there.last_updated == entry.get("last_updated") else _secret(entry, "active", now)
    others = [one for one in known.secrets if one.state != "active" and one.resource not in come]
    secrets, __ = _in_use([*come.values(), *others], held)
    return replace(known, secrets=secrets, now=now)


def _in_use(secrets: Iterable[Secret], held: Iterable[Held]) -> tuple[tuple[Secret, ...], set[Identity]]:
    """The secrets in the order of their names, each with whether it is in use; and what of the certificates in use is theirs."""
    by_kind: dict[Kind, set[Identity]] = {}
    for one in held:
        by_kind.setdefault(one.kind, set()).add(one.identity)
    found, used = [], set[Identity]()
    for secret in secrets:
        matching = _identities(secret) & by_kind.get(secret.kind, set())
        used |= matching
        found.append(replace(secret, in_use=bool(matching)))
    return tuple(sorted(found, key=lambda one: one.resource)), used


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
                not_before, not_after = time_of(one.get("valid_from")), time_of(one.get("expiration_time"))
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


def time_of(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _identities(secret: Secret) -> set[Identity]:
    """By what the secret's certificates are known where they are in use: of a chain Envoy tells the leaf."""
    own = secret.certificates[:1] if secret.kind == "certificate" else secret.certificates
    return {(_serial(one["serial"]), datetime.fromisoformat(one["not_before"]), datetime.fromisoformat(one["not_after"])) for one in own}


def _secrets(section: Mapping[str, Any], now: datetime) -> Iterator[Secret]:
    groups: tuple[tuple[str, State], ...] = (
        ("static_secrets", "static"),
        ("dynamic_active_secrets", "active"),
        ("dynamic_warming_secrets", "warming"),
    )
    for key, state in groups:
        for one in section.get(key) or []:
            yield _secret(one, state, now)


def _secret(entry: Mapping[str, Any], state: State, now: datetime) -> Secret:
    content = entry.get("secret") or {}
    pair, trust = content.get("tls_certificate"), content.get("validation_context")
    name = str(entry.get("name") or content.get("name") or "")
    source = (pair or {}).get("certificate_chain") if pair is not None else (trust or {}).get("trusted_ca")
    certificates: tuple[Mapping[str, Any], ...] = ()
    problem = ""
    if source is not None:
        try:
            read = read_chain if pair is not None else read_cas
            certificates = tuple(describe(one, now) for one in read(_bytes(source), where=name))
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
    if credentials == OWN[:1] and wants:
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
                if credentials == OWN[:1]:  # the mesh's own mutual TLS, which every cluster has
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
