# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What istiod's validating webhook, and the CRD's own schema, refuse in a Gateway, decided from the manifest alone.

So a bad object is refused before anything is sent, in check mode too, and with what to do about it. The rules are those of Istio's
pkg/config/validation/validation.go; what istiod only warns about is a warning here. `admission_routes` does the same for VirtualServices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..problems import Problem
from .names import Found, Manifest, host_problems, is_address, metadata_problems, port_problems

MODES = ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "PASSTHROUGH", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL")
PROTOCOL_VERSIONS = ("TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3")
CIPHER_SUITES = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
)
"""What a proxy can be told to offer below TLS 1.3, whose suites cannot be chosen."""
_TERMINATING = ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL")
_PASSTHROUGH = ("PASSTHROUGH", "AUTO_PASSTHROUGH")
_TLS_PROTOCOLS = ("https", "tls")
HTTP_PROTOCOLS = ("http", "http_proxy", "http2", "grpc", "grpc-web")
_PROTOCOLS = (*_TLS_PROTOCOLS, *HTTP_PROTOCOLS, "tcp", "udp", "mongo", "redis", "mysql")
_CERTIFICATE_FIELDS = ("serverCertificate", "privateKey", "caCertificates", "credentialName", "credentialNames", "tlsCertificates")


def gateway_problems(manifest: Manifest, where: str, server_where: Callable[[int], str] | None = None) -> tuple[Problem, ...]:
    """A whole Gateway. `server_where` names its servers for the user, by their position."""
    return tuple(_gateway(manifest, where, server_where or (lambda index: f"{where}: servers[{index}]")))


def _gateway(manifest: Manifest, where: str, server_where: Callable[[int], str]) -> Found:
    yield from metadata_problems(manifest, where)
    servers: Sequence[Manifest] = manifest["spec"].get("servers") or []
    if not servers:
        yield Problem("no_servers", where, "expected at least one server, found none", "list one, or set state to absent")
    names: dict[str, int] = {}
    for index, server in enumerate(servers):
        yield from _server(server, server_where(index))
        name = (server.get("port") or {}).get("name")
        if name and names.setdefault(name, index) != index:
            yield Problem(
                "port_name_not_unique",
                server_where(index),
                f"expected port names that differ, found {name!r} in {server_where(names[name])} too",
                "name one of the two differently",
            )


def server_problems(server: Manifest, where: str) -> tuple[Problem, ...]:
    """One server of a Gateway, as it stands in the manifest."""
    return tuple(_server(server, where))


def _server(server: Manifest, where: str) -> Found:
    hosts: Sequence[str] = server.get("hosts") or []
    if not hosts:
        yield Problem("no_hosts", where, "expected at least one host, found none", "list one; '*' stands for all")
    for host in hosts:
        yield from host_problems(host, where)
    bind = server.get("bind") or ""
    port: Manifest = server.get("port") or {}
    port_faults = list(_server_port(port, bind, where))
    yield from port_faults
    yield from _bind(port, bind, where)
    tls: Manifest | None = server.get("tls")
    if tls is not None:
        yield from _server_tls(tls, where)
    if not port_faults:
        yield from _tls_and_protocol(tls, str(port["protocol"]), where)


def _server_port(port: Manifest, bind: str, where: str) -> Found:
    if str(port.get("protocol") or "").lower() not in _PROTOCOLS:
        yield Problem(
            "port_protocol",
            where,
            f"expected HTTPS or TLS (or HTTP, GRPC, TCP, ...) as protocol, found {port.get('protocol')!r}",
            "set protocol to HTTPS, or to TLS for mode PASSTHROUGH",
        )
    if port.get("number") or not bind.startswith("unix://"):
        yield from port_problems(port.get("number", 0), where)
    if port.get("targetPort"):
        yield Problem("target_port", where, "a Gateway's port has no targetPort", "set it in the gateway's Service")
    if not port.get("name"):
        yield Problem("port_name", where, "expected a name for the port, found none", "name it; names must differ within a Gateway")


def _bind(port: Manifest, bind: str, where: str) -> Found:
    if bind.startswith("unix://"):
        path = bind.removeprefix("unix://")
        if not path.startswith("@") and (not path.startswith("/") or path.endswith("/")):
            yield Problem(
                "bind", where, f"expected the absolute path of a socket in bind, found {bind!r}", "write unix:///path or unix://@name"
            )
        if port.get("number"):
            yield Problem(
                "bind", where, f"expected port 0 with a Unix socket, found {port['number']}", "set port to 0, or bind to an address"
            )
    elif bind and not is_address(bind):
        yield Problem(
            "bind", where, f"expected an IP address or unix:// path in bind, found {bind!r}", "give such an address, or leave bind out"
        )


def server_tls_problems(tls: Manifest, where: str) -> tuple[Problem, ...]:
    """The `tls` of a Gateway's server."""
    return tuple(_server_tls(tls, where))


def _server_tls(tls: Manifest, where: str) -> Found:
    mode = tls.get("mode") or "PASSTHROUGH"  # the API's default
    if mode not in MODES:
        yield Problem("tls_mode", where, f"expected one of {', '.join(MODES)} as mode, found {mode!r}", "set mode to one of them")
        return
    for field in ("minProtocolVersion", "maxProtocolVersion"):
        if tls.get(field) and tls[field] not in PROTOCOL_VERSIONS:
            yield Problem(
                "protocol_version",
                where,
                f"expected one of {', '.join(PROTOCOL_VERSIONS)} as {field}, found {tls[field]!r}",
                f"set {field} to one of them",
            )
    yield from _ciphers(tls, where)
    if len(tls.get("credentialNames") or ()) > 2:
        found = len(tls["credentialNames"])
        yield Problem(
            "credential_names", where, f"expected one or two credentialNames (RSA and ECDSA), found {found}", "leave out what is too much"
        )
    if mode == "ISTIO_MUTUAL":
        if used := _set(tls, _CERTIFICATE_FIELDS):
            yield Problem(
                "istio_mutual_with_certificates",
                where,
                f"mode ISTIO_MUTUAL uses the mesh's own certificates, found {used}",
                f"leave out {used}, or set mode to MUTUAL",
            )
        return
    if mode in _PASSTHROUGH and (used := _set(tls, ("caCrl", *_CERTIFICATE_FIELDS))):
        yield Problem(
            "passthrough_with_certificates",
            where,
            f"with mode {mode} the gateway does not terminate TLS: {used} will be ignored",
            f"leave out {used}, or set mode to SIMPLE or MUTUAL",
            "warning",
        )
    sources = [field for field in ("credentialName", "credentialNames", "tlsCertificates") if tls.get(field)]
    if tls.get("serverCertificate") and tls.get("privateKey"):
        sources.append("serverCertificate with privateKey")
    if len(sources) > 1:
        yield Problem(
            "certificate_sources", where, f"expected one source of the certificate, found {', '.join(sources)}", "keep one of them"
        )
    if mode in _PASSTHROUGH or not (tls.get("credentialName") or tls.get("credentialNames")):
        yield from _files(tls, mode, where)


def _files(tls: Manifest, mode: str, where: str) -> Found:
    """Certificates from the proxy's file system, where no credential is named."""
    if mode in _TERMINATING:
        if mode != "SIMPLE" and not tls.get("caCertificates"):
            yield Problem(
                "client_ca_missing",
                where,
                f"mode {mode} needs a CA to verify clients with, found neither a credential nor caCertificates",
                "name a credential that holds the CA, or the path of the CA's file",
            )
        pairs: Sequence[Manifest] = tls.get("tlsCertificates") or [tls]
        for pair in pairs:
            for field in ("serverCertificate", "privateKey"):
                if not pair.get(field):
                    yield Problem(
                        "certificate_missing",
                        where,
                        f"mode {mode} needs a certificate and its key, found no credential and no {field}",
                        "name a credential, or the paths of both files",
                    )
    if tls.get("caCrl"):
        if tls.get("credentialName"):
            yield Problem("crl_with_credential", where, "caCrl goes with files only, found a credential", "put the CRL into the credential")
        if mode == "SIMPLE":
            yield Problem(
                "crl_with_simple", where, "mode SIMPLE asks clients for no certificate, found caCrl", "leave out caCrl, or use MUTUAL"
            )


def _ciphers(tls: Manifest, where: str) -> Found:
    suites: Sequence[str] = tls.get("cipherSuites") or ()
    if tls.get("minProtocolVersion") in ("TLSV1_0", "TLSV1_1") and not suites:
        yield Problem(
            "old_protocol_without_ciphers",
            where,
            f"{tls['minProtocolVersion']} needs cipher suites that are off by default, found none listed",
            "list cipher suites for it, for example ECDHE-RSA-AES128-SHA, or ask for TLSV1_2",
            "warning",
        )
    unknown = sorted({suite for suite in suites if suite not in ("", "ALL") and suite[:1].isalnum() and suite not in CIPHER_SUITES})
    if unknown:
        yield Problem(
            "cipher_suite",
            where,
            f"istiod ignores cipher suites that it does not know: {', '.join(unknown)}",
            f"choose among {', '.join(CIPHER_SUITES)}; those of TLS 1.3 are always on",
            "warning",
        )
    repeated = sorted({suite for suite in suites if suites.count(suite) > 1})
    if repeated:
        yield Problem("cipher_suite_repeated", where, f"found {', '.join(repeated)} more than once", "list each once", "warning")


def _tls_and_protocol(tls: Manifest | None, protocol: str, where: str) -> Found:
    is_tls, is_http = protocol.lower() in _TLS_PROTOCOLS, protocol.lower() in HTTP_PROTOCOLS
    if is_tls and tls is None:
        yield Problem("tls_missing", where, f"protocol {protocol} needs TLS settings, found none", "set mode and a credential")
    elif tls is not None and not is_tls:
        passthrough = (tls.get("mode") or "PASSTHROUGH") in _PASSTHROUGH
        if not is_http or not passthrough or _set(tls, ("caCertificates", "privateKey", "serverCertificate")):
            yield Problem(
                "plaintext_with_tls",
                where,
                f"protocol {protocol} has no TLS settings but a redirect, found some",
                "use protocol HTTPS or TLS",
            )
    if tls is not None and tls.get("httpsRedirect") and not is_http:
        yield Problem(
            "redirect_without_http",
            where,
            f"httpsRedirect has no effect with protocol {protocol}",
            "set it on a plain HTTP server",
            "warning",
        )


def _set(tls: Manifest, fields: Iterable[str]) -> str:
    return ", ".join(field for field in fields if tls.get(field))
