# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with Gateways and VirtualServices by themselves: what istiod's webhook refuses (which matters for files), and what it admits
and then drops, or what proxies refuse. Pure.

The judging is that of `istio/admission.py`, `admission_routes.py` and `ingress_checks.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..istio.admission import gateway_problems
from ..istio.admission_routes import virtual_service_problems
from ..istio.ingress import Server
from ..istio.ingress_checks import server_problems
from ..istio.listeners import Listener, listeners_of
from ..istio.reference import Reference, parse_reference
from ..objects.kinds import GATEWAY, VIRTUAL_SERVICE, Manifest
from ..problems import Problem, Rejected
from .listeners import field_of, from_problems
from .readings import spec_of
from .rule import Found, Rule, Severity
from .view import MeshView

_TOLD_ELSEWHERE = ("credential_names_namespace", "credential_name", "credential_never_valid")


def admission(view: MeshView) -> Iterator[Found]:
    for gateway in view.gateways:
        yield from from_problems(gateway_problems(_whole(gateway), "metadata", field_of), gateway)
    for route in view.snapshot.of(VIRTUAL_SERVICE):
        if spec_of(route).get("hosts"):
            found = virtual_service_problems(_whole(route), "metadata", lambda kind, index: f"spec.{kind}[{index}]")
            yield from from_problems(found, route)


def _whole(manifest: Manifest) -> dict[str, Any]:
    """With what a file may leave out."""
    metadata = {"namespace": "default", **manifest["metadata"]}
    return {**manifest, "metadata": metadata, "spec": spec_of(manifest)}


def shapes(view: MeshView) -> Iterator[Found]:
    for ref, faults in view.faults.items():
        for one in faults:
            message = f"expected {one.expected}, found {one.found}: it was read as if it were not there"
            yield Found(
                "malformed_object",
                ref,
                one.field,
                message,
                "write the field as the schema of the kind has it (kubectl explain)",
                cause=str(ref),
            )


def servers(view: MeshView) -> Iterator[Found]:
    for gateway in view.gateways:
        found: list[Problem] = []
        for one in listeners_of(gateway):
            if one.is_tls:
                found += server_problems(_server(one))
        yield from from_problems([one for one in found if one.code not in _TOLD_ELSEWHERE], gateway)


def _server(one: Listener) -> Server:
    """A listener as the checks of the module `ingress_tls_gateway` look at it."""
    names = [one.tls.get("credentialName"), *(one.tls.get("credentialNames") or ())]
    return Server(
        where=one.field,
        hosts=one.hosts,
        port=one.number,
        port_name="",
        protocol="TLS" if one.protocol == "TLS" else "HTTPS",
        tls={**one.tls, "mode": one.mode},
        bind=one.bind or None,
        credentials=tuple(_references(names)),
        ca_credential=next(iter(_references([one.tls.get("caCertCredentialName")])), None),
    )


def _references(names: Iterable[object]) -> Iterator[Reference]:
    for name in names:
        try:
            if name:
                yield parse_reference(str(name), "")
        except Rejected:
            continue


def _admitted(number: int, code: str, title: str, meaning: str, remedy: str, severity: Severity = "error") -> Rule:
    return Rule(f"MIT09{number:02}", code, severity, title, meaning, remedy, admission, (GATEWAY,))


def _own(number: int, code: str, severity: Severity, title: str, meaning: str, remedy: str) -> Rule:
    return Rule(f"MIT03{number:02}", code, severity, title, meaning, remedy, servers, (GATEWAY,))


_REFUSED = "istiod's webhook, or the schema, refuses such an object."
RULES = (
    Rule(
        "MIT0954",
        "malformed_object",
        "error",
        "An object is not of the form that its kind has",
        "The API server refuses such an object.",
        "Correct it, as the schema of the kind has it.",
        shapes,
        (),
    ),
    _own(
        21,
        "credential_ca_only",
        "error",
        "A server's credential is one that istiod reads only a CA from",
        "From a ConfigMap, and from a Secret whose name ends in -cacert, istiod reads no certificate with its key.",
        "Name the Secret that holds the pair.",
    ),
    _own(
        22,
        "ca_credential_not_ca_only",
        "error",
        "caCertCredentialName names a Secret that istiod serves as a pair",
        "Only a name that ends in -cacert, or a ConfigMap, is read as a CA. Otherwise the proxy can verify nobody.",
        "Put the CA into a Secret whose name ends in -cacert, or use configmap://namespace/name.",
    ),
    _own(
        23,
        "ca_credential_with_files",
        "error",
        "A CA credential stands beside certificate files",
        "istiod reads a CA credential only together with a credential.",
        "Name the credential of the pair too, or give caCertificates.",
    ),
    _own(24, "protocol_versions", "error", "No TLS version is allowed", "The lowest version is above the highest.", "Exchange the two."),
    _own(
        25,
        "certificate_digest",
        "error",
        "A certificate's digest has the wrong form",
        "Proxies refuse the whole listener.",
        "Compute it with openssl as Envoy's documentation shows.",
    ),
    _own(
        26,
        "client_checks_without_clients",
        "warning",
        "Checks of client certificates that nobody is asked for",
        "The mode asks clients for no certificate: the settings have no effect.",
        "Set mode to MUTUAL, or leave them out.",
    ),
    _own(
        27,
        "digests_without_credential",
        "error",
        "Digests have no effect beside certificate files",
        "istiod applies them only together with a credential. Clients are not checked.",
        "Use a credential, or leave them out.",
    ),
    _own(
        28,
        "protocol_settings_unused",
        "warning",
        "TLS versions or cipher suites have no effect with the mode",
        "Only servers with mode SIMPLE, MUTUAL or OPTIONAL_MUTUAL use them.",
        "Leave them out, or set another mode.",
    ),
    _own(
        29,
        "host_is_address",
        "warning",
        "A TLS host is an address",
        "Clients send no address as SNI: nothing matches.",
        "Name the domain, or '*'.",
    ),
    _admitted(
        1, "gateway_name", "A Gateway's name is not admitted", _REFUSED, "Choose a name of up to 63 lower-case letters, digits and '-'."
    ),
    _admitted(2, "object_name", "A name is not admitted", _REFUSED, "Choose a name of lower-case letters, digits, '-' and '.'."),
    _admitted(3, "namespace_name", "A namespace's name is not admitted", _REFUSED, "Name an existing namespace."),
    _admitted(4, "label", "A label is not admitted", _REFUSED, "Shorten it, or use an annotation."),
    _admitted(5, "annotation", "An annotation is not admitted", _REFUSED, "Leave it out."),
    _admitted(6, "no_servers", "A Gateway without servers", _REFUSED, "List one."),
    _admitted(7, "no_hosts", "No hosts", _REFUSED, "List one."),
    _admitted(8, "host", "A host is no domain name", _REFUSED, "Write it like httpbin.example.com."),
    _admitted(9, "host_namespace", "A host's namespace is not admitted", _REFUSED, "Name a namespace, '.' or '*' before the slash."),
    _admitted(10, "host_partial_wildcard", "A wildcard is a part of a label", _REFUSED, "Write *.example.com, or list the names."),
    _admitted(11, "host_short_name", "A host has no domain", _REFUSED, "Write it out."),
    _admitted(12, "port_name", "A port has no name", _REFUSED, "Name it."),
    _admitted(13, "port_name_not_unique", "Two ports have one name", _REFUSED, "Name one of the two differently."),
    _admitted(14, "port_number", "A port is not from 1 to 65535", _REFUSED, "Correct it."),
    _admitted(15, "port_protocol", "A protocol that Istio does not know", _REFUSED, "Use HTTPS, TLS, HTTP or TCP."),
    _admitted(16, "target_port", "A Gateway's port has a targetPort", _REFUSED, "Set it in the gateway's Service."),
    _admitted(17, "bind", "A bind address is not admitted", _REFUSED, "Give an IP address, or leave it out."),
    _admitted(
        18, "tls_mode", "A TLS mode that Istio does not know", _REFUSED, "Use SIMPLE, MUTUAL, OPTIONAL_MUTUAL, PASSTHROUGH or ISTIO_MUTUAL."
    ),
    _admitted(19, "tls_missing", "A TLS port has no TLS settings", _REFUSED, "Set mode and a credential."),
    _admitted(20, "plaintext_with_tls", "A plain port has TLS settings", _REFUSED, "Use protocol HTTPS or TLS."),
    _admitted(21, "protocol_version", "A TLS version that Istio does not know", _REFUSED, "Use TLSV1_2 or TLSV1_3."),
    _admitted(22, "credential_names", "More than two credentials", _REFUSED, "Name one or two (RSA and ECDSA)."),
    _admitted(23, "istio_mutual_with_certificates", "ISTIO_MUTUAL with certificates", _REFUSED, "Leave them out, or use MUTUAL."),
    _admitted(24, "certificate_sources", "Several sources of the certificate", _REFUSED, "Keep one of them."),
    _admitted(25, "client_ca_missing", "MUTUAL without a CA", _REFUSED, "Name a credential that holds the CA, or the CA's file."),
    _admitted(26, "certificate_missing", "A server has no certificate", _REFUSED, "Name a credential, or the paths of both files."),
    _admitted(27, "crl_with_credential", "caCrl beside a credential", _REFUSED, "Put the CRL into the credential."),
    _admitted(28, "crl_with_simple", "caCrl with mode SIMPLE", _REFUSED, "Leave it out, or use MUTUAL."),
    _admitted(
        29,
        "passthrough_with_certificates",
        "Certificates at a server that passes TLS on",
        "They are ignored.",
        "Leave them out, or terminate TLS.",
        "warning",
    ),
    _admitted(
        30,
        "old_protocol_without_ciphers",
        "An old TLS version without cipher suites",
        "Envoy has none on for it.",
        "List suites.",
        "warning",
    ),
    _admitted(
        31, "cipher_suite", "A cipher suite that istiod does not know", "istiod ignores it.", "Choose among those it knows.", "warning"
    ),
    _admitted(32, "cipher_suite_repeated", "A cipher suite twice", "It has no effect.", "List each once.", "warning"),
    _admitted(
        33, "redirect_without_http", "A redirect on a port without HTTP", "It has no effect.", "Set it on a plain HTTP server.", "warning"
    ),
    _admitted(34, "gateway_reference", "A Gateway's name in a route is not admitted", _REFUSED, "Write namespace/name."),
    _admitted(35, "hosts_overlap", "Hosts of one VirtualService overlap", _REFUSED, "Keep the wider one."),
    _admitted(36, "no_routes", "A VirtualService without routes", _REFUSED, "Add one."),
    _admitted(37, "no_destination", "A route without a destination", _REFUSED, "Name the service that answers."),
    _admitted(38, "destination_and_redirect", "A route with several answers", _REFUSED, "Keep one."),
    _admitted(39, "destination_host", "A destination is no service's name", _REFUSED, "Correct it."),
    _admitted(40, "subset", "A subset's name is not admitted", _REFUSED, "Use letters, digits and '-'."),
    _admitted(41, "weight", "Weights are not admitted", _REFUSED, "Give each destination its share."),
    _admitted(42, "header_name", "A header's name is not admitted", _REFUSED, "Correct it."),
    _admitted(43, "header_value", "A header's value is not admitted", _REFUSED, "Write a literal percent sign as %%."),
    _admitted(44, "match_kinds", "A match of several kinds", _REFUSED, "Keep one of exact, prefix and regex."),
    _admitted(45, "match_empty", "An empty match", _REFUSED, "Leave it out to match everything."),
    _admitted(46, "regex", "A regular expression that RE2 does not take", _REFUSED, "See RE2's syntax."),
    _admitted(47, "rewrite", "A rewrite is not admitted", _REFUSED, "Set one of uri, uriRegexRewrite and authority."),
    _admitted(48, "retries", "Retries are not admitted", _REFUSED, "Correct the policy."),
    _admitted(49, "duration", "A duration is not admitted", _REFUSED, "Write it like 5s."),
    _admitted(50, "sni_missing", "A TLS route without SNI hosts", _REFUSED, "List them."),
    _admitted(51, "sni_host", "An SNI host is not among the hosts", _REFUSED, "Make both agree."),
    _admitted(52, "sni_is_address", "An SNI host is an address", "Clients send no address as SNI.", "Name the domain.", "warning"),
    _admitted(
        53,
        "route_unreachable",
        "A route that is never reached",
        "An earlier one takes every request.",
        "Move it up, or remove it.",
        "warning",
    ),
)
