# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""External services behind an egress gateway: from a module's arguments to checked values, with every problem found on the way."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from ..problems import Rejected
from ..tls.names import NoHost, normalise, read, shown
from .egress import (
    NAME_PATTERNS,
    CertificateFiles,
    EgressGateway,
    Mode,
    ObjectName,
    Origination,
    Part,
    PodGroup,
)
from .egress_endpoints import PROTOCOLS, RESOLUTIONS, addresses_of, endpoints_of, ports_of
from .egress_reader import Reader, given_options
from .names import domain_fault, is_address, is_dns_label, is_object_name, label_problems
from .reference import namespace_problems, pair_problems, parse_reference


def from_arguments(params: Mapping[str, Any]) -> tuple[Origination, ...]:
    """The services that a module's arguments describe; raises `Rejected` with every problem found.

    `params` holds one service (`name`, `host`, ...), or `services`, of which each inherits the other options and may override them.
    Options that are absent or None take their defaults. A service to be removed (`state: absent`) needs no more than its name and what
    says where its objects are.
    """
    reader = Reader()
    given = {option: value for option, value in params.items() if value is not None}
    services = given.pop("services", None)
    if services is not None and ("name" in given or "host" in given):
        reader.wrong(
            "services_and_name",
            "services",
            "expected one service (name, host) or a list of services, found both",
            "move name and host into an item of services",
        )
    originations = []
    if services is None:
        originations.append(_origination(reader, "", given))
    else:
        shared = {option: value for option, value in given.items() if option not in ("name", "host")}
        for index, service in enumerate(services):
            originations.append(_origination(reader, f"services[{index}]", _inherit(shared, service)))
    if not reader.problems:
        _check_distinct(reader, originations)
    if reader.problems:
        raise Rejected(reader.problems)
    return tuple(originations)


def _inherit(shared: Mapping[str, Any], service: Mapping[str, Any]) -> dict[str, Any]:
    own = {option: value for option, value in service.items() if value is not None}
    merged = {**shared, **own}
    for option, other in (("credential_name", "certificate_files"), ("certificate_files", "credential_name")):
        if option in own and other not in own:
            merged.pop(other, None)
    for option in ("gateway", "objects"):
        if option in own and option in shared:
            merged[option] = {**given_options(shared[option]), **given_options(own[option])}
    return merged


_TO_REMOVE = ("name", "namespace", "gateway", "objects", "client_namespaces")


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _age(reader: Reader, where: str, text: Any) -> int | None:
    """Seconds; None where nothing bounds it."""
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", str(text).strip())
    if found is None:
        reader.wrong("invalid_duration", where, f"expected a duration such as 10m or 1h, found {text!r}", "write a number and s, m, h or d")
        return None
    return int(found[1]) * _SECONDS[found[2]]


_DNS = PodGroup("kube-system", {"k8s-app": "kube-dns"}, 53)
_ISTIOD = PodGroup("istio-system", {"app": "istiod"}, 15012)


def _origination(reader: Reader, where: str, given: Mapping[str, Any]) -> Origination:
    prefix = f"{where}." if where else ""
    absent = given.get("state") == "absent"
    if absent:
        given = {**{option: value for option, value in given.items() if option in _TO_REMOVE}, "mode": "SIMPLE", "host": "nothing.invalid"}
    name = _name(reader, where, given)
    host = _host(reader, f"{prefix}host", str(given["host"])) if given.get("host") else ""
    gateway = _gateway(reader, f"{prefix}gateway", given_options(given.get("gateway")))
    namespace = reader.label(where, "namespace", str(given.get("namespace") or gateway.namespace))
    mode = reader.one_of(f"{prefix}mode", given.get("mode", "MUTUAL"), cast(Sequence[Mode], ("MUTUAL", "SIMPLE")))
    objects = _objects(reader, prefix, name, namespace, gateway, given_options(given.get("objects")))
    credential_name, files = _identity(reader, prefix, mode, given, gateway, objects["originating_rule"].namespace)
    protocol = reader.one_of(f"{prefix}protocol", given.get("protocol", "HTTP"), PROTOCOLS)
    http_port, tls_port = ports_of(reader, prefix, protocol, given)
    resolution = reader.one_of(f"{prefix}resolution", given.get("resolution", "DNS"), RESOLUTIONS)
    sans = given.get("subject_alt_names")
    origination = Origination(
        where=f"{where} ({name})" if where and name else where or name or "name",
        name=name,
        host=host,
        namespace=namespace,
        gateway=gateway,
        mode=mode,
        objects=objects,
        sni=_host(reader, f"{prefix}sni", str(given["sni"])) if given.get("sni") else host,
        subject_alt_names=(host,) if sans is None else tuple(_san(str(san)) for san in sans),
        credential_name=credential_name,
        files=files,
        http_port=http_port,
        tls_port=tls_port,
        protocol=protocol,
        resolution=resolution,
        endpoints=endpoints_of(
            reader, f"{prefix}endpoints", resolution, given.get("endpoints") or (), protocol, one_port=http_port == tls_port
        ),
        addresses=addresses_of(reader, f"{prefix}addresses", resolution, given.get("addresses") or ()),
        export_to=_export_to(reader, f"{prefix}export_to", given.get("export_to") or ()),
        rule_export_to=_export_to(reader, f"{prefix}rule_export_to", given.get("rule_export_to") or (".",)),
        max_connection_age=_age(reader, f"{prefix}max_connection_age", given.get("max_connection_age")),
        client_namespaces=_client_namespaces(reader, where, given),
        direct_tls=bool(given.get("direct_tls", False)),
        prevent_bypass=bool(given.get("prevent_bypass", False)),
        absent=absent,
        dns=_pods(reader, f"{prefix}dns", given.get("dns"), _DNS),
        control_plane=_pods(reader, f"{prefix}control_plane", given.get("control_plane"), _ISTIOD),
    )
    _check_together(reader, prefix, origination)
    return origination


def _client_namespaces(reader: Reader, where: str, given: Mapping[str, Any]) -> tuple[str, ...]:
    names = dict.fromkeys(given.get("client_namespaces") or ())
    return tuple(reader.label(where, f"client_namespaces[{index}]", str(name)) for index, name in enumerate(names))


def _name(reader: Reader, where: str, given: Mapping[str, Any]) -> str:
    for option in ("name", "host"):
        if not given.get(option):
            reader.wrong("missing_option", f"{where}.{option}" if where else option, f"expected {option}, found none", f"set {option}")
    name = str(given.get("name") or "")
    return reader.label(where, "name", name) if name else ""


def _check_together(reader: Reader, prefix: str, origination: Origination) -> None:
    if origination.direct_tls and origination.http_port == origination.tls_port and origination.http_port:
        reader.wrong(
            "direct_tls_on_one_port",
            f"{prefix}direct_tls",
            f"clients that speak TLS themselves need a port of their own, found {origination.tls_port} for both",
            "give tls_port another number than http_port, or turn direct_tls off",
        )
    if origination.prevent_bypass:
        _check_bypass(reader, prefix, origination)


def _host(reader: Reader, where: str, given: str) -> str:
    """The host as objects hold it."""
    host = read(given)
    if "*" in ((host.instead or given) if isinstance(host, NoHost) else host):
        reader.wrong(
            "wildcard_host",
            where,
            f"expected one host name, found the wildcard {given!r}",
            "list each host as a service of its own: the gateway has to know which server to connect to and which name to verify "
            "(Istio documents wildcard egress only for TLS that clients originate themselves, through an additional SNI proxy)",
        )
    elif isinstance(host, NoHost):
        reader.wrong(
            "invalid_host",
            where,
            f"expected a fully qualified DNS name such as api.example.com, found {shown(given)!r}: {host.why}",
            host.remedy,
        )
    elif is_address(host):
        reader.wrong(
            "host_is_address",
            where,
            f"expected a DNS name, found the address {host}",
            "name the service (the name is what clients ask for and what the certificate is checked against) and give the address in endpoints",
        )
    elif (fault := domain_fault(host)) or "." not in host:
        reader.wrong(
            "invalid_host",
            where,
            f"expected a fully qualified DNS name such as api.example.com, found {given!r}: {fault or 'it has no domain'}",
            "give the whole name",
        )
    return host if isinstance(host, str) else given


def _san(name: str) -> str:
    """An international name as certificates hold it; everything else (URIs too) as it is."""
    return name if name.isascii() else normalise(name) or name


def _gateway(reader: Reader, where: str, given: Mapping[str, Any]) -> EgressGateway:
    defaults = EgressGateway()
    selector = given.get("selector")
    if selector is not None and not selector:
        reader.wrong(
            "empty_selector",
            f"{where}.selector",
            "expected the labels of the egress gateway's pods, found none",
            "an empty selector would configure every gateway of the mesh: give labels such as {istio: egressgateway}",
        )
    labels = {str(key): str(value) for key, value in (selector or defaults.selector).items()}
    reader.problems += label_problems(labels, f"{where}.selector")
    return EgressGateway(
        selector=labels,
        service=reader.label(where, "service", str(given.get("service", defaults.service))),
        namespace=reader.label(where, "namespace", str(given.get("namespace", defaults.namespace))),
        port=reader.port(f"{where}.port", given.get("port", defaults.port)),
        cluster_domain=str(given.get("cluster_domain", defaults.cluster_domain)),
    )


def _identity(
    reader: Reader, prefix: str, mode: Mode, given: Mapping[str, Any], gateway: EgressGateway, rule_namespace: str
) -> tuple[str | None, CertificateFiles | None]:
    credential_name = given.get("credential_name") or None
    files = CertificateFiles(**given_options(given["certificate_files"])) if given.get("certificate_files") else None
    if credential_name and files:
        reader.wrong(
            "two_sources",
            f"{prefix}certificate_files",
            "expected one source of certificates, found credential_name and certificate_files",
            "keep credential_name: istiod delivers and rotates it; certificate_files needs mounts in the gateway's pods",
        )
    if mode == "MUTUAL" and not credential_name and not files:
        reader.wrong(
            "no_client_certificate",
            f"{prefix}credential_name",
            "mode MUTUAL presents a client certificate, and none was given",
            "set credential_name (a Secret with key, certificate and CA in the gateway's namespace) or certificate_files, or use mode SIMPLE",
        )
    if credential_name:
        _check_credential(reader, f"{prefix}credential_name", mode, str(credential_name), gateway, rule_namespace)
    if files:
        _check_files(reader, f"{prefix}certificate_files", mode, files)
    return (str(credential_name) if credential_name else None), files


def _check_credential(reader: Reader, where: str, mode: Mode, name: str, gateway: EgressGateway, rule_namespace: str) -> None:
    try:
        reference = parse_reference(name, where)
    except Rejected as rejected:
        reader.problems += rejected.problems
        return
    if mode == "MUTUAL":
        reader.problems += pair_problems(reference, where)
    reader.problems += namespace_problems(reference, where, (gateway.namespace,))
    if reference.scheme == "configmap" and reference.namespace != rule_namespace:
        reader.wrong(
            "configmap_in_other_namespace",
            where,
            f"expected a ConfigMap of the originating rule's namespace {rule_namespace}, found {name!r}, which istiod refuses",
            f"use configmap://{rule_namespace}/{reference.name}",
        )


def _check_files(reader: Reader, where: str, mode: Mode, files: CertificateFiles) -> None:
    for option, path in files.given.items():
        if not path.startswith("/") and not (option == "ca_certificate" and path == "system"):
            reader.wrong(
                "relative_path",
                f"{where}.{option}",
                f"expected an absolute path inside the gateway's pods, found {path!r}",
                "give the path under which the Secret is mounted, for example /etc/istio/nginx-client-certs/tls.crt",
            )
    if mode == "MUTUAL":
        for option in ("certificate", "private_key"):
            if option not in files.given:
                reader.wrong(
                    "no_client_certificate",
                    f"{where}.{option}",
                    f"mode MUTUAL needs certificate and private_key, and {option} is missing",
                    f"set {option}, or use mode SIMPLE",
                )
    else:
        for option in ("certificate", "private_key"):
            if option in files.given:
                reader.wrong(
                    "client_certificate_unused",
                    f"{where}.{option}",
                    f"mode SIMPLE presents no client certificate, and {option} was given",
                    "use mode MUTUAL, or remove it",
                )


def _export_to(reader: Reader, where: str, values: Sequence[str]) -> tuple[str, ...]:
    entries = tuple(dict.fromkeys(map(str, values)))
    if "*" in entries and len(entries) > 1:
        reader.wrong("invalid_export_to", where, f"expected * alone or namespaces, found {', '.join(entries)}", "remove * or the others")
    for entry in entries:
        if entry == "~":
            reader.wrong("invalid_export_to", where, "~ hides an object from everyone", "list the clients' namespaces")
        elif entry not in ("*", ".") and not is_dns_label(entry):
            reader.wrong("invalid_export_to", where, f"expected a namespace, '.' or '*', found {entry!r}", "list the clients' namespaces")
    return entries


def _pods(reader: Reader, where: str, options: Mapping[str, Any] | None, default: PodGroup) -> PodGroup:
    given = given_options(options)
    labels = given.get("labels", default.labels)
    if not labels:
        reader.wrong(
            "empty_selector", f"{where}.labels", "expected the pods' labels, found none", "an empty selector would admit every pod"
        )
    return PodGroup(
        reader.label(where, "namespace", str(given.get("namespace", default.namespace))),
        {str(key): str(value) for key, value in labels.items()},
        reader.port(f"{where}.port", given.get("port", default.port)),
    )


def _objects(
    reader: Reader, prefix: str, name: str, namespace: str, gateway: EgressGateway, given: Mapping[str, Any]
) -> dict[Part, ObjectName]:
    """Where each object lives. The rules live where the gateway is: see `egress_objects.py`."""
    homes: dict[Part, str] = {"originating_rule": gateway.namespace, "first_hop_rule": gateway.namespace}
    objects: dict[Part, ObjectName] = {}
    for part, pattern in NAME_PATTERNS.items():
        chosen = given_options(given.get(part))
        here = f"{prefix}objects.{part}"
        made = str(chosen.get("name") or (pattern.format(name=name) if name else ""))
        home = str(chosen.get("namespace") or homes.get(part, namespace))
        if "namespace" in chosen:
            reader.label(here, "namespace", home)
        usable = is_dns_label(made) if part == "gateway" else is_object_name(made)
        if not usable and ("name" in chosen or is_dns_label(name)):  # a bad name of the service was reported as such
            kind = "DNS label (63 characters at most, no dots)" if part == "gateway" else "DNS name in lower case"
            reader.wrong(
                "invalid_name", f"{here}.name", f"expected a {kind}, found {made!r}", f"shorten the service's name or set {here}.name"
            )
        objects[part] = ObjectName(home, made)
    return objects


def _check_bypass(reader: Reader, prefix: str, origination: Origination) -> None:
    where = f"{prefix}prevent_bypass"
    if origination.direct_tls:
        reader.wrong(
            "bypass_and_direct_tls",
            where,
            "prevent_bypass lets clients reach nothing but the gateway, and direct_tls routes them past it",
            "turn one of them off",
        )
    if not origination.client_namespaces:
        reader.wrong(
            "client_namespaces_missing",
            f"{prefix}client_namespaces",
            "prevent_bypass makes a NetworkPolicy in each namespace of clients, and none was named",
            "list them in client_namespaces",
        )
    own = {
        origination.gateway.namespace: "the egress gateway",
        origination.control_plane.namespace: "istiod",
        origination.dns.namespace: "the cluster's DNS",
    }
    for index, client in enumerate(origination.client_namespaces):
        if client in own:
            reader.wrong(
                "bypass_policy_cuts_off",
                f"{prefix}client_namespaces[{index}]",
                f"the NetworkPolicy would hold for every pod of {client}, and {own[client]} runs there",
                "run clients in namespaces of their own",
            )


def _check_distinct(reader: Reader, originations: Sequence[Origination]) -> None:
    def distinct(code: str, option: str, key: Callable[[Origination], Any], remedy: str) -> None:
        first: dict[Any, Origination] = {}
        for origination in originations:
            value = key(origination)
            other = first.setdefault(value, origination)
            if other is not origination:
                shown = "/".join(value) if isinstance(value, tuple) else value
                reader.wrong(code, f"{origination.where}: {option}", f"{shown} is already used by {other.where}", remedy)

    distinct("duplicate_name", "name", lambda one: (one.namespace, one.name), "give every service a name of its own")
    originations = [one for one in originations if not one.absent]
    distinct(
        "duplicate_subset",
        "name",
        lambda one: (one.gateway.host, one.subset),
        "give every service behind a gateway a name of its own: it names the first hop's subset, of which istiod keeps only the oldest",
    )
    distinct(
        "duplicate_host",
        "host",
        lambda one: one.host,
        "describe a host once: istiod keeps one route and one TLS server for it, and drops the later ones",
    )
    if reader.problems:
        return
    taken: dict[tuple[str, ObjectName], tuple[Origination, Part]] = {}
    for origination in originations:
        for part, target in origination.objects.items():
            if part == "network_policy" or (part == "direct_virtual_service" and not origination.direct_tls):
                continue
            other, other_part = taken.setdefault((part.rsplit("_", 1)[-1], target), (origination, part))
            if (other, other_part) != (origination, part):
                reader.wrong(
                    "duplicate_object",
                    f"{origination.where}: objects.{part}",
                    f"{target} is already the name of {other_part} of {other.where}",
                    "give every object a name of its own",
                )
