# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with Gateways of the Gateway API on Istio, where their conditions say nothing of it, or more is lost than they say. Pure.

From istiod's pilot/pkg/config/kube/gateway (buildTLS, buildSecretReference), and measured with Istio 1.31.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..istio.admission import CIPHER_SUITES
from ..istio.gateway_api import collisions, meetings
from ..istio.names import CA_SUFFIX
from ..istio.reference_grants import is_granted
from ..objects.kinds import API_GATEWAY, BACKEND_TLS_POLICY, GATEWAY, LISTENER_SET, POD, REFERENCE_GRANT, SECRET, Manifest, ref_of
from .listeners import field_of, from_problems
from .readings import spec_of
from .rule import Found, Rule
from .view import MeshView

_MODE = "gateway.istio.io/tls-terminate-mode"
_CIPHERS = "gateway.istio.io/tls-cipher-suites"
_MODES = ("MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL", "ISTIO_SIMPLE")


def beside_istio(view: MeshView) -> Iterator[Found]:
    for gateway in view.gateways if view.api_listeners else ():
        selector = spec_of(gateway).get("selector") or {}
        pods = view.selected(selector)
        services = list({id(service): service for pod in pods for service in view.services_of(pod)}.values())
        yield from from_problems(
            collisions(gateway, meetings(view.api_listeners, selector, pods, services), field_of, loses="error"), gateway
        )


def _holders(view: MeshView) -> Iterator[Manifest]:
    yield from view.snapshot.of(API_GATEWAY)
    yield from view.snapshot.of(LISTENER_SET)


def _listeners(view: MeshView) -> Iterator[tuple[Manifest, str, Mapping[str, Any]]]:
    for holder in _holders(view):
        for index, listener in enumerate(spec_of(holder).get("listeners") or ()):
            yield holder, f"spec.listeners[{index}]", listener


def options(view: MeshView) -> Iterator[Found]:
    for holder, field, listener in _listeners(view):
        mode = ((listener.get("tls") or {}).get("options") or {}).get(_MODE)
        if mode is not None and mode not in _MODES:
            yield Found(
                "terminate_mode_unknown",
                ref_of(holder),
                f"{field}.tls.options",
                f"expected one of {', '.join(_MODES)} as {_MODE}, found {mode!r}: istiod takes it for SIMPLE, asks clients for no certificate, and "
                "no condition says so",
                f"write {str(mode).upper() if str(mode).upper() in _MODES else 'MUTUAL'}",
            )


def cipher_suites(view: MeshView) -> Iterator[Found]:
    for holder, field, listener in _listeners(view):
        text = ((listener.get("tls") or {}).get("options") or {}).get(_CIPHERS)
        unknown = [name for one in str(text or "").split(",") if (name := one.strip()) and name not in CIPHER_SUITES]
        if unknown:
            yield Found(
                "api_cipher_suite",
                ref_of(holder),
                f"{field}.tls.options",
                f"istiod drops cipher suites that it does not know, and no condition says so: {', '.join(unknown)}",
                f"choose among {', '.join(CIPHER_SUITES)}; those of TLS 1.3 are always on",
            )


def references(view: MeshView) -> Iterator[Found]:
    for holder, field, listener in _listeners(view):
        refs = (listener.get("tls") or {}).get("certificateRefs") or ()
        if len(refs) > 2:
            yield Found(
                "too_many_certificates",
                ref_of(holder),
                f"{field}.tls.certificateRefs",
                f"expected one or two certificates (RSA and ECDSA), found {len(refs)}: istiod drops the listener",
                "leave out what is too much",
            )
        yield from _ungranted(view, holder, f"{field}.tls.certificateRefs", refs)
    for gateway in view.snapshot.of(API_GATEWAY):
        tls = spec_of(gateway).get("tls") or {}
        if (tls.get("backend") or {}).get("clientCertificateRef"):
            yield Found(
                "client_certificate_not_sent",
                ref_of(gateway),
                "spec.tls.backend.clientCertificateRef",
                "istiod accepts the reference (conditions are True) and never sends the certificate: servers that demand one hang up",
                "use a DestinationRule with mode MUTUAL and credentialName for the backend",
            )
        frontend = tls.get("frontend") or {}
        settings = [("spec.tls.frontend.default", frontend.get("default") or {})]
        settings += [(f"spec.tls.frontend.perPort[{i}].tls", one.get("tls") or {}) for i, one in enumerate(frontend.get("perPort") or ())]
        for place, setting in settings:
            validation = setting.get("validation") or {}
            refs = validation.get("caCertificateRefs") or ()
            field = f"{place}.validation.caCertificateRefs"
            if len(refs) > 1:
                yield Found(
                    "too_many_client_cas",
                    ref_of(gateway),
                    field,
                    f"expected one CA reference, found {len(refs)}: istiod refuses all of them, and the listener is gone",
                    "put the CAs into one ConfigMap or Secret",
                )
            if validation.get("mode") == "AllowInsecureFallback":
                yield Found(
                    "clients_not_verified",
                    ref_of(gateway),
                    f"{place}.validation.mode",
                    "AllowInsecureFallback lets in clients without a certificate, and with one of any other CA",
                    "set mode to AllowValidOnly",
                )
            asked_for = [{**one, "name": str(one.get("name")).removesuffix(CA_SUFFIX) + CA_SUFFIX} for one in refs]
            yield from _ungranted(view, gateway, field, asked_for)
            yield from _shadowed_cas(view, gateway, field, refs)


def _shadowed_cas(view: MeshView, gateway: Manifest, field: str, refs: Any) -> Iterator[Found]:
    """A CA is asked for as `name-cacert`, whatever the reference says, and a Secret of that name comes first."""
    for index, one in enumerate(refs):
        name, place = str(one.get("name")), str(one.get("namespace") or gateway["metadata"].get("namespace", ""))
        if not name.endswith(CA_SUFFIX) and view.snapshot.get(SECRET, place, name + CA_SUFFIX) is not None:
            yield Found(
                "client_ca_shadowed",
                ref_of(gateway),
                f"{field}[{index}]",
                f"clients are verified with the CA of Secret {place}/{name}{CA_SUFFIX}, which istiod looks for first, and not with {name}",
                f"delete Secret {name}{CA_SUFFIX} where it is not meant, or give {name} another name",
                others=(SECRET.ref(place, name + CA_SUFFIX),),
            )


def _ungranted(view: MeshView, holder: Manifest, field: str, refs: Any) -> Iterator[Found]:
    namespace = holder["metadata"].get("namespace", "")
    for index, one in enumerate(refs):
        other = one.get("namespace") or namespace
        if other == namespace or not view.snapshot.knows(REFERENCE_GRANT, other) or one.get("kind") == "ConfigMap":
            continue
        kind = str(holder.get("kind") or "Gateway")
        if not is_granted(view.snapshot.of(REFERENCE_GRANT), namespace, other, str(one.get("name")), kind):
            yield Found(
                "api_reference_not_granted",
                ref_of(holder),
                f"{field}[{index}]",
                f"the Secret {other}/{one.get('name')} is in another namespace, and no ReferenceGrant there lets a {kind} of {namespace} use it: "
                "istiod drops the listener (RefNotPermitted)",
                f"make a ReferenceGrant in {other} (from kind {kind}, namespace {namespace}; to kind Secret, name {one.get('name')})",
            )


def backend_policies(view: MeshView) -> Iterator[Found]:
    for policy in view.snapshot.of(BACKEND_TLS_POLICY):
        validation = spec_of(policy).get("validation") or {}
        if not validation.get("subjectAltNames"):
            yield Found(
                "backend_name_not_checked",
                ref_of(policy),
                "spec.validation.subjectAltNames",
                "istiod checks the server's name only where subjectAltNames is set, whatever the specification says of hostname: any certificate "
                "of the CA will do",
                f"set subjectAltNames, for example type Hostname, hostname {validation.get('hostname') or 'the name of the server'}",
            )


RULES = (
    Rule(
        "MIT0801",
        "gateway_not_merged",
        "error",
        "An Istio Gateway selects pods of a Gateway API gateway in another namespace",
        "In pods that istiod made for a Gateway of the Gateway API it takes Istio Gateways of that namespace only.",
        "Make the Gateway there, or select other workloads.",
        beside_istio,
        (GATEWAY, API_GATEWAY, POD),
    ),
    Rule(
        "MIT0803",
        "terminate_mode_unknown",
        "error",
        "A terminate mode that istiod does not know",
        "Values are compared with their case. istiod takes an unknown one for SIMPLE: clients are let in without a certificate, and every "
        "condition is True.",
        "Write MUTUAL, OPTIONAL_MUTUAL, ISTIO_MUTUAL or ISTIO_SIMPLE.",
        options,
        (API_GATEWAY,),
    ),
    Rule(
        "MIT0804",
        "too_many_certificates",
        "error",
        "A listener has more than two certificates",
        "istiod takes two at most (RSA and ECDSA), and drops the listener otherwise.",
        "Leave out what is too much.",
        references,
        (API_GATEWAY,),
    ),
    Rule(
        "MIT0805",
        "too_many_client_cas",
        "error",
        "More than one CA reference for clients",
        "The schema takes sixteen, istiod one: the listener is refused (NoValidCACertificate).",
        "Put the CAs into one ConfigMap or Secret.",
        references,
        (API_GATEWAY,),
    ),
    Rule(
        "MIT0806",
        "api_reference_not_granted",
        "error",
        "A certificate reference into another namespace has no ReferenceGrant",
        "istiod drops the listener (RefNotPermitted): its port refuses connections.",
        "Make the ReferenceGrant in the Secret's namespace.",
        references,
        (API_GATEWAY, REFERENCE_GRANT),
        may_come=True,
    ),
    Rule(
        "MIT0807",
        "client_certificate_not_sent",
        "error",
        "The gateway's client certificate is never sent",
        "istiod checks tls.backend.clientCertificateRef, and does not use it. Servers that demand a certificate hang up.",
        "Use a DestinationRule with mode MUTUAL and credentialName.",
        references,
        (API_GATEWAY,),
    ),
    Rule(
        "MIT0808",
        "clients_not_verified",
        "warning",
        "Clients are let in without a valid certificate",
        "AllowInsecureFallback lets in clients without a certificate, and with an untrusted one.",
        "Set mode to AllowValidOnly.",
        references,
        (API_GATEWAY,),
    ),
    Rule(
        "MIT0809",
        "backend_name_not_checked",
        "warning",
        "The name of a backend is not checked",
        "For a BackendTLSPolicy without subjectAltNames istiod sets `sni` alone, which turns Envoy's check of the name off.",
        "Set subjectAltNames.",
        backend_policies,
        (BACKEND_TLS_POLICY,),
    ),
    Rule(
        "MIT0810",
        "api_cipher_suite",
        "warning",
        "A cipher suite of a listener that istiod does not know",
        "istiod drops it without a condition. Where none is left, the proxy's own list counts.",
        "Choose among the suites that it knows.",
        cipher_suites,
        (API_GATEWAY,),
    ),
    Rule(
        "MIT0811",
        "client_ca_shadowed",
        "error",
        "Clients are verified with another CA than the listener names",
        "The reference travels as `name-cacert`, and a Secret of that name is taken before the one that is named. Every condition is True.",
        "Delete the Secret that ends in -cacert, or name the CA differently.",
        references,
        (API_GATEWAY, SECRET),
    ),
)
