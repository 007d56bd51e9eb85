# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether DestinationRules originate the TLS that their authors meant, for sidecars and gateways alike. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..istio.choice import is_shown
from ..istio.client_tls import ClientTls
from ..objects.kinds import DESTINATION_RULE, SERVICE_ENTRY, VIRTUAL_SERVICE, Manifest, ref_of
from .egress_paths import HTTP, TCP, legs
from .readings import spec_of
from .rule import Found, Rule
from .view import MeshView


def _port_of(entry: Manifest, number: int) -> dict[str, object]:
    return next((port for port in spec_of(entry).get("ports") or () if port.get("number") == number), {})


def _is_plaintext(port: dict[str, object]) -> bool:
    return str(port.get("protocol") or "TCP").upper() in (*HTTP, *TCP)


def _reached(view: MeshView, one: ClientTls) -> list[tuple[Manifest, int]]:
    """The ServiceEntries and ports of the host to which sidecars send, without TLS of the application's, what the settings apply to."""
    found = []
    for entry in view.service_entries.get(one.host, ()):
        for port in spec_of(entry).get("ports") or ():
            number = port.get("number")
            if one.port in (None, number) and _leads_there(view, one, number, _is_plaintext(port)):
                found.append((entry, number))
    return found


def _leads_there(view: MeshView, one: ClientTls, number: int, plaintext: bool) -> bool:
    to_it = [leg for leg in view.mesh_legs_to(one.host) if leg.kind != "tls" and leg.subset in ("", one.subset)]
    if any((leg.port or number) == number for leg in to_it):
        return True
    # a route for the host that goes elsewhere, through an egress gateway say, takes the requests away
    return plaintext and not view.mesh_routes_of(one.host, number) and not one.subset


def plaintext_from_sidecars(view: MeshView) -> Iterator[Found]:
    for one in view.client_tls:
        if not one.originates or not one.is_for_gateways_only or one.rule in view.asked or not _is_seen_by_sidecars(view, one):
            continue
        numbers = [number for __, number in _reached(view, one)]
        numbers += [
            int(port.get("port") or 0)
            for port in spec_of(view.service(one.host)).get("ports") or ()
            if one.port in (None, port.get("port"))
            and not _takes_tls(port)
            and not view.mesh_routes_of(one.host, int(port.get("port") or 0))
        ]
        for number in numbers[:1]:
            yield Found(
                "sidecars_send_plaintext",
                one.rule,
                f"{one.field}.credentialName",
                f"sidecars send requests to port {number} of {one.host} by themselves, and originate nothing for a rule with credentialName: they "
                "send plaintext to a TLS port",
                "lead the requests through an egress gateway, or give the rule a workloadSelector for the clients' pods and put the Secret into "
                "their namespace",
            )


def _is_seen_by_sidecars(view: MeshView, one: ClientTls) -> bool:
    export_to = spec_of(one.manifest).get("exportTo") or ("*",)
    own = one.rule.namespace
    if any(place not in (".", own) for place in export_to):
        return True
    return own not in view.gateway_namespaces


def files_of_sidecars(view: MeshView) -> Iterator[Found]:
    """A proxy that sees a rule with files, and does not have them, waits 15 s for them at its start, and logs errors."""
    for one in view.client_tls:
        if not one.originates or not one.files or one.rule in view.asked or "workloadSelector" in spec_of(one.manifest):
            continue
        lacking = [
            pod
            for pod in view.sidecars
            if is_shown(one.manifest, pod.namespace) and pod.mounts is not None and not all(map(pod.has_file, one.files))
        ]
        export_to = spec_of(one.manifest).get("exportTo") or ("*",)
        if not lacking and ("*" not in export_to or view.sidecars):
            continue
        who = f"{lacking[0].namespace}/{lacking[0].name}" + (f" and {len(lacking) - 1} more" if len(lacking) > 1 else "") if lacking else ""
        yield Found(
            "sidecars_wait_for_files",
            one.rule,
            one.field,
            f"every proxy of the mesh sees the rule, and those without its certificate files{f', such as {who},' if who else ''} wait 15 s for "
            "them at start",
            "set exportTo: ['.'], so that only proxies of the rule's namespace see it, and mount the files there; or use credentialName",
        )


def host_check(view: MeshView) -> Iterator[Found]:
    for one in view.client_tls:
        if one.originates and not one.checks_names and (one.rule in view.asked or not one.host.startswith("*")):
            own, asked = one.has_own_ca, one.rule in view.asked
            yield Found(
                "no_host_check",
                one.rule,
                "" if asked else f"{one.field}.subjectAltNames",
                "sni without subjectAltNames turns the check of the server's name off: any certificate of "
                + ("the CA that the rule names will do" if own else "any public CA will do, whoever it was issued to"),
                f"set subjectAltNames (option subject_alt_names), for example [{one.host}]",
                "hint" if own and not asked else None,
            )


def plaintext_port(view: MeshView) -> Iterator[Found]:
    for one in view.client_tls:
        if not one.originates or one.rule in view.asked:
            continue
        for entry, number in _reached(view, one):
            port = _port_of(entry, number)
            if (port.get("targetPort") or number) == 80 and not spec_of(entry).get("endpoints"):
                yield Found(
                    "tls_to_plaintext_port",
                    one.rule,
                    one.field,
                    f"proxies speak TLS to port 80 of {one.host}, which is the port for plaintext (WRONG_VERSION_NUMBER)",
                    f"set targetPort: 443 for port {number} in the ServiceEntry, or give the rule the TLS for the port that takes it "
                    "(portLevelSettings)",
                )
                break
        for port in spec_of(view.service(one.host)).get("ports") or ():
            if one.port in (None, port.get("port")) and is_plain_http(port):
                yield Found(
                    "tls_to_plaintext_port",
                    one.rule,
                    one.field,
                    f"proxies speak TLS to port {port.get('port')} of the Service {one.host}, which is for plain HTTP (WRONG_VERSION_NUMBER)",
                    "give the rule the TLS for the port that takes it (portLevelSettings), or let the Service's port lead to it",
                )
                break


def is_plain_http(port: Mapping[str, Any]) -> bool:
    """Whether a Service's port says that it is for plain HTTP, and leads to no port that is usually for TLS."""
    name = str(port.get("appProtocol") or port.get("name") or "").lower()
    says = name.split("-")[0] in ("http", "http2", "grpc") if name else port.get("port") == 80
    return says and str(port.get("targetPort") or port.get("port")) not in ("443", "8443", "https", "tls")


def _takes_tls(port: Mapping[str, Any]) -> bool:
    """Whether clients of a Service's port speak TLS themselves, as far as its name and number say."""
    name = str(port.get("appProtocol") or port.get("name") or "").lower().partition("-")[0]
    return name in ("https", "tls") or (name in ("", "tcp") and port.get("port") in (443, 8443))


def passed_on(view: MeshView) -> Iterator[Found]:
    """TLS that a gateway passes on, to a port for plain HTTP."""
    for gateway in view.gateways:
        named = f"{gateway['metadata'].get('namespace', '')}/{gateway['metadata']['name']}"
        for route in view.routes_of_gateway.get(named, ()):
            for leg in legs(route, named, view.snapshot.domain):
                ports = spec_of(view.service(leg.host)).get("ports") or ()
                port = next((one for one in ports if one.get("port") == leg.port or (leg.port is None and len(ports) == 1)), None)
                if leg.kind == "tls" and port is not None and is_plain_http(port):
                    yield Found(
                        "tls_to_plaintext_port",
                        ref_of(route),
                        leg.field,
                        f"the gateway passes TLS on to port {port.get('port')} of {leg.host}, which is for plain HTTP (WRONG_VERSION_NUMBER)",
                        "lead to the port that takes TLS, or let the gateway terminate it (mode SIMPLE) and use http routes",
                        others=(ref_of(gateway),),
                    )


RULES = (
    Rule(
        "MIT0601",
        "no_host_check",
        "warning",
        "The name of the server is not checked",
        "Where a DestinationRule sets `sni` without `subjectAltNames`, Envoy's automatic check of the server's name is off. With the system's CAs "
        "anybody's certificate is accepted. With a CA of your own it is any certificate of that CA, also another server's: Istio's own page does so, "
        "and it is a hint.",
        "Set subjectAltNames to the names that the server's certificate has.",
        host_check,
        (DESTINATION_RULE,),
    ),
    Rule(
        "MIT0602",
        "sidecars_send_plaintext",
        "error",
        "Sidecars reach a DestinationRule with credentialName, and originate no TLS for it",
        "istiod serves credentials to gateways, and to sidecars only where the rule has a workloadSelector. Other sidecars ignore the TLS "
        "settings without a word and send plain text.",
        "Lead requests through an egress gateway and keep the rule to it (exportTo), or select the clients' pods with workloadSelector.",
        plaintext_from_sidecars,
        (DESTINATION_RULE, SERVICE_ENTRY, VIRTUAL_SERVICE),
    ),
    Rule(
        "MIT0603",
        "sidecars_wait_for_files",
        "error",
        "Sidecars see a DestinationRule with certificate files that they do not have",
        "Every proxy that sees the rule asks for the files. One that does not have them waits 15 seconds at its start, and logs errors.",
        "Set exportTo so that only proxies with the files see the rule, or use credentialName at an egress gateway.",
        files_of_sidecars,
        (DESTINATION_RULE,),
    ),
    Rule(
        "MIT0604",
        "tls_to_plaintext_port",
        "warning",
        "TLS is spoken to a port for plain text",
        "The server answers the ClientHello in plain text, and Envoy ends with WRONG_VERSION_NUMBER: 503.",
        "Lead to the port that takes TLS: targetPort in the ServiceEntry, or the port of the route and of the DestinationRule.",
        plaintext_port,
        (DESTINATION_RULE,),
        also=(passed_on,),
    ),
)
