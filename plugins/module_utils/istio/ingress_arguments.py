# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An ingress Gateway from a module's arguments, with every problem found on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from ..problems import Problem, Rejected
from ..tls.names import canonical, shown
from .ingress import HTTPS_PORT, PASSTHROUGH_MODES, IngressGateway, Route, Server, allowed_from, bare, port_names, route_name
from .names import matches, milliseconds
from .reference import Reference, parse_reference

Options = Mapping[str, Any]

DEFAULT_NAMESPACE = "default"
DEFAULT_SELECTOR = {"istio": "ingressgateway"}

TLS_FIELDS = {
    # option -> field of the API's ServerTLSSettings
    "credential_name": "credentialName",
    "credential_names": "credentialNames",
    "ca_cert_credential_name": "caCertCredentialName",
    "server_certificate": "serverCertificate",
    "private_key": "privateKey",
    "ca_certificates": "caCertificates",
    "ca_crl": "caCrl",
    "subject_alt_names": "subjectAltNames",
    "verify_certificate_spki": "verifyCertificateSpki",
    "verify_certificate_hash": "verifyCertificateHash",
    "min_protocol_version": "minProtocolVersion",
    "max_protocol_version": "maxProtocolVersion",
    "cipher_suites": "cipherSuites",
}
_FILES = ("server_certificate", "private_key", "ca_certificates", "ca_crl")
_PATHS = ("prefix", "exact", "regex")
_HTTP_ONLY = ("match", "timeout", "retries", "rewrite", "headers")


def from_arguments(params: Options) -> IngressGateway:
    """The Gateway that a module's arguments describe; raises Rejected with every problem that keeps it from being read.

    Options that are absent, None or empty take their defaults. What is wrong with the Gateway itself is told by `ingress_checks`.
    """
    problems: list[Problem] = []
    name, namespace = params["name"], params.get("namespace") or DEFAULT_NAMESPACE
    listed: Sequence[Options] = params.get("servers") or []
    selector = params.get("selector")
    servers = [_server(options, index, name, namespace, problems) for index, options in enumerate(listed)]
    gateway = IngressGateway(
        name=name,
        namespace=namespace,
        selector=_texts(DEFAULT_SELECTOR if selector is None else selector),
        servers=_with_port_names(servers, listed),
        labels=_texts(params.get("labels")),
        annotations=_texts(params.get("annotations")),
    )
    if problems:
        raise Rejected(problems)
    return gateway


def _texts(mapping: Options | None) -> dict[str, str]:
    return {str(key): str(value) for key, value in (mapping or {}).items()}


def _with_port_names(servers: Sequence[Server], listed: Sequence[Options]) -> tuple[Server, ...]:
    """Names the ports that the user left without a name."""
    unnamed = [server for server in servers if not server.port_name]
    described = [(server.protocol, server.port, server.hosts[0] if server.hosts else "none", server.bind) for server in unnamed]
    names = iter(port_names(described, [str(options["port_name"]) for options in listed if options.get("port_name")]))
    return tuple(server if server.port_name else replace(server, port_name=next(names)) for server in servers)


def _server(options: Options, index: int, gateway_name: str, namespace: str, problems: list[Problem]) -> Server:
    hosts = _hosts(options.get("hosts"))
    where = f"servers[{index}] ({shown(hosts[0])})" if hosts else f"servers[{index}]"
    mode = options.get("mode") or "SIMPLE"
    protocol: Literal["HTTPS", "TLS"] = options.get("protocol") or ("TLS" if mode in PASSTHROUGH_MODES else "HTTPS")
    for option in _FILES:
        if "-----BEGIN" in str(options.get(option) or ""):
            problems.append(
                Problem(
                    "content_instead_of_path",
                    f"{where}: {option}",
                    "expected the path of a file in the gateway's pods, found the content of one (not shown)",
                    "make a credential of it with istio_tls_credential and name that with credential_name",
                )
            )
    tls = {"mode": mode, **{field: options[option] for option, field in TLS_FIELDS.items() if options.get(option)}}
    single = options.get("credential_name")
    named = [*([single] if single else []), *(options.get("credential_names") or [])]
    references = [_reference(text, f"{where}: credential {text}", problems) for text in named]
    ca = options.get("ca_cert_credential_name")
    server = Server(
        where=where,
        hosts=hosts,
        port=HTTPS_PORT if options.get("port") is None else options["port"],
        port_name=options.get("port_name") or "",
        protocol=protocol,
        tls=tls,
        bind=options.get("bind") or None,
        http_redirect=bool(options.get("http_redirect")),
        credentials=tuple(reference for reference in references if reference),
        ca_credential=_reference(ca, f"{where}: ca_cert_credential_name", problems) if ca else None,
    )
    routes = []
    for position, route in enumerate(options.get("routes") or []):
        routes.append(_route(route, f"servers[{index}].routes[{position}]", server, gateway_name, namespace, problems))
    return replace(server, routes=tuple(routes))


def _reference(text: str, where: str, problems: list[Problem]) -> Reference | None:
    try:
        return parse_reference(text, where)
    except Rejected as rejected:
        problems += rejected.problems
        return None


def _hosts(hosts: Sequence[str] | None) -> tuple[str, ...]:
    """In the form in which a proxy compares SNI: lower case, ASCII; each once."""
    return tuple(dict.fromkeys(canonical(host) for host in hosts or ()))


def _route(options: Options, where: str, server: Server, gateway_name: str, namespace: str, problems: list[Problem]) -> Route:
    hosts = _hosts(options.get("hosts")) or server.names
    kind = server.route_kind
    if kind is None:
        problems.append(
            Problem(
                "route_on_auto_passthrough",
                where,
                "mode AUTO_PASSTHROUGH routes by SNI to the mesh's own services and reads no routes",
                "leave out the routes, or set mode to PASSTHROUGH",
            )
        )
    elif kind != "http" and (used := [option for option in _HTTP_ONLY if options.get(option)]):
        problems.append(
            Problem(
                "http_option_without_http",
                where,
                f"expected no {', '.join(used)}: with protocol {server.protocol} and mode {server.mode} the gateway sees no HTTP",
                "leave that out, or terminate TLS with protocol HTTPS",
            )
        )
    for host in hosts:
        offered = [other for other in server.hosts if matches(host, bare(other))]
        if server.hosts and not offered:
            problems.append(
                Problem(
                    "route_host_not_served",
                    where,
                    f"expected hosts of the server ({', '.join(server.names)}), found {host!r}",
                    "add it to the server's hosts, or leave out the route's hosts",
                )
            )
        elif offered and all(allowed_from(other) not in (None, ".", namespace) for other in offered):
            problems.append(
                Problem(
                    "route_host_of_other_namespace",
                    where,
                    f"the server takes routes for {offered[0]} from namespace {allowed_from(offered[0])} only, found one in {namespace}",
                    "list the host without a namespace, or leave the routes to that namespace",
                )
            )
    rule = {"route": _destinations(options, where, problems)}
    if kind == "http":
        rule = {**_http_match(options.get("match"), where, problems), **rule, **_http_settings(options, where, problems)}
    name = options.get("name") or route_name(gateway_name, hosts[0] if hosts else "none")
    return Route(where, name, hosts, rule)


def _destinations(options: Options, where: str, problems: list[Problem]) -> list[dict[str, Any]]:
    single, several = options.get("destination"), options.get("destinations")
    if bool(single) == bool(several):
        found = "both" if single else "neither"
        problems.append(
            Problem(
                "destination",
                where,
                f"expected destination or destinations, found {found}",
                "name one service with destination, or several with their weights with destinations",
            )
        )
    made = []
    for destination in several or ([single] if single else []):
        target: dict[str, Any] = {"host": destination.get("host") or ""}
        if destination.get("port") is not None:
            target["port"] = {"number": destination["port"]}
        if destination.get("subset"):
            target["subset"] = destination["subset"]
        weight = destination.get("weight")
        made.append({"destination": target} if weight is None else {"destination": target, "weight": weight})
    return made


def _http_match(listed: Sequence[Options] | None, where: str, problems: list[Problem]) -> dict[str, Any]:
    matched = []
    for index, options in enumerate(listed or []):
        place = f"{where}.match[{index}]"
        match: dict[str, Any] = {}
        paths = [kind for kind in _PATHS if options.get(kind) is not None]
        if len(paths) > 1:
            problems.append(
                Problem(
                    "match_kinds",
                    place,
                    f"expected one of prefix, exact and regex, found {' and '.join(paths)}",
                    "list them as several matches",
                )
            )
        if paths:
            match["uri"] = {paths[0]: options[paths[0]]}
            if paths[0] != "regex" and not options[paths[0]].startswith(("/", "*")) and options[paths[0]]:
                problems.append(
                    Problem("match_path", place, f"expected a path that begins with '/', found {options[paths[0]]!r}", "put a '/' in front")
                )
        if options.get("ignore_case"):
            match["ignoreUriCase"] = True
        if options.get("methods"):
            methods = [method.upper() for method in options["methods"]]
            match["method"] = {"exact": methods[0]} if len(methods) == 1 else {"regex": "|".join(methods)}
        if options.get("authority"):
            match["authority"] = _text_match(options["authority"], f"{place}: authority", problems)
        for option, field in (("headers", "headers"), ("without_headers", "withoutHeaders")):
            if options.get(option):
                # proxies compare the names of headers in lower case; names of JWT claims are not headers
                match[field] = {
                    name if name.startswith("@") else name.lower(): _text_match(value, f"{place}: {option} {name}", problems)
                    for name, value in options[option].items()
                }
        if options.get("query_params"):
            match["queryParams"] = {
                name: _text_match(value, f"{place}: query_params {name}", problems) for name, value in options["query_params"].items()
            }
        if not match:
            problems.append(
                Problem("match_empty", place, "expected a condition, found none", "name a path, or leave out match to take everything")
            )
        matched.append(match)
    return {"match": matched} if matched else {}


def _text_match(value: Any, where: str, problems: list[Problem]) -> dict[str, Any]:
    """`text` is an exact match; `{prefix: text}` and `{regex: text}` are the others."""
    if isinstance(value, Mapping):
        if len(value) == 1 and next(iter(value)) in _PATHS:
            return {str(kind): str(text) for kind, text in value.items()}
        problems.append(
            Problem(
                "match_kinds",
                where,
                f"expected one of prefix, exact and regex, found {', '.join(map(str, value)) or 'none'}",
                "keep one of them",
            )
        )
        return {}
    return {"exact": str(value)}


def _http_settings(options: Options, where: str, problems: list[Problem]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if rewrite := options.get("rewrite"):
        made["rewrite"] = {field: rewrite[field] for field in ("uri", "authority") if rewrite.get(field)}
        if rewrite.get("regex"):
            made["rewrite"]["uriRegexRewrite"] = {"match": rewrite["regex"], "rewrite": rewrite.get("substitution") or ""}
    if options.get("timeout"):
        made["timeout"] = _seconds(options["timeout"], f"{where}: timeout", problems)
    if retries := options.get("retries"):
        made["retries"] = {"attempts": retries.get("attempts") or 0}
        if retries.get("per_try_timeout"):
            made["retries"]["perTryTimeout"] = _seconds(retries["per_try_timeout"], f"{where}: retries.per_try_timeout", problems)
        if retries.get("retry_on"):
            made["retries"]["retryOn"] = ",".join(str(condition) for condition in retries["retry_on"])
    if headers := options.get("headers"):
        changed: dict[str, Any] = {}
        for side in ("request", "response"):
            operations: Options = headers.get(side) or {}
            kept: dict[str, Any] = {operation: _texts(operations[operation]) for operation in ("set", "add") if operations.get(operation)}
            if operations.get("remove"):
                kept["remove"] = list(operations["remove"])
            if kept:
                changed[side] = kept
        if changed:
            made["headers"] = changed
    return made


def _seconds(text: str, where: str, problems: list[Problem]) -> str:
    """A duration as the API wants it: in seconds."""
    found = milliseconds(str(text))
    if found is None:
        problems.append(Problem("duration", where, f"expected a duration, found {text!r}", "write it like 5s, 250ms or 1m30s"))
        return "0s"
    whole, rest = divmod(found, 1000)
    return f"{int(whole)}s" if not rest else f"{found / 1000:.6f}".rstrip("0") + "s"
