# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a credential name refers to, and which objects istiod looks up for it.

The rules are those of istiod's pilot/pkg/model/credentials/resource.go (the forms), pilot/pkg/security/model/authentication.go (which
names are asked for), pilot/pkg/xds/sds.go and pilot/pkg/credentials/kube/secrets.go (what is read, and who may).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from ..problems import Problem, Rejected
from .names import CA_SUFFIX, is_dns_label, is_object_name

Scheme = Literal["kubernetes", "configmap", "kubernetes-gateway", "builtin", "invalid", "sds"]
Role = Literal["pair", "ca"]

_SCHEMES: tuple[Scheme, ...] = ("kubernetes", "configmap", "kubernetes-gateway", "builtin", "invalid", "sds")
_FORMS = (
    "a Secret's name, kubernetes://[namespace/]name, kubernetes-gateway://namespace/name, configmap://namespace/name (for a CA), "
    "builtin:// or sds://name"
)


@dataclass(frozen=True)
class Reference:
    """A credential name, taken apart."""

    text: str
    """As the user wrote it, and as it stands in the manifest."""
    scheme: Scheme
    name: str = ""
    """The object's name; empty for `builtin://` and `invalid://`."""
    namespace: str | None = None
    """None where the object is looked for in the proxy's own namespace."""


@dataclass(frozen=True)
class Lookup:
    """One object that istiod reads for a proxy: the first of `names` that exists, whatever is in it."""

    role: Role
    kind: Literal["Secret", "ConfigMap"]
    names: tuple[str, ...]
    namespace: str | None
    """None: the proxy's own namespace."""
    where: str
    """The argument that asks for it."""


def parse_reference(text: str, where: str) -> Reference:
    """Takes a credential name apart; raises Rejected where istiod could not read it."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme not in _SCHEMES:
        raise Rejected(_malformed(where, f"expected a reference that Istio knows, found the scheme {scheme!r} in {text!r}"))
    if not separator:
        return _object(text, "kubernetes", text, where)
    for known in _SCHEMES:
        if scheme == known:
            return _with_scheme(text, known, rest, where)
    raise AssertionError(scheme)  # every scheme in the tuple was tried


def _with_scheme(text: str, scheme: Scheme, rest: str, where: str) -> Reference:
    if scheme == "invalid":
        problem = Problem(
            "credential_never_valid",
            where,
            f"found {text!r}, with which istiod marks credentials that it will never serve",
            "name the Secret that holds the certificate",
        )
        raise Rejected(problem)
    if scheme == "builtin":
        return Reference(text, scheme)
    if scheme == "sds":
        if not rest:
            raise Rejected(_malformed(where, f"expected the name of a resource after sds://, found {text!r}"))
        return Reference(text, scheme, rest)
    if scheme != "kubernetes" and "/" not in rest:
        raise Rejected(_malformed(where, f"expected {scheme}://namespace/name, found {text!r} without a namespace"))
    return _object(text, scheme, rest, where)


def _object(text: str, scheme: Scheme, rest: str, where: str) -> Reference:
    parts = rest.split("/")
    if len(parts) > 2:
        raise Rejected(_malformed(where, f"expected at most namespace/name, found {text!r}"))
    name = parts[-1]
    namespace = parts[0] if len(parts) == 2 else None
    if not is_object_name(name):
        raise Rejected(
            _malformed(where, f"expected the name of a Kubernetes object (lower case, digits, '-' and '.'), found {name!r} in {text!r}")
        )
    if namespace is not None and not is_dns_label(namespace):
        raise Rejected(_malformed(where, f"expected a namespace (lower case, digits and '-'), found {namespace!r} in {text!r}"))
    return Reference(text, scheme, name, namespace)


def _malformed(where: str, message: str) -> Problem:
    return Problem("credential_name", where, message, f"use {_FORMS}")


def is_ca_only(reference: Reference) -> bool:
    """Whether istiod reads only a CA certificate for it."""
    return reference.scheme == "configmap" or (
        reference.scheme in ("kubernetes", "kubernetes-gateway") and reference.name.endswith(CA_SUFFIX)
    )


def pair_problems(reference: Reference, where: str) -> tuple[Problem, ...]:
    """What is wrong with a reference that must give a certificate and its private key."""
    if not is_ca_only(reference):
        return ()
    if reference.scheme == "configmap":
        found = f"the ConfigMap {reference.text!r}, which may hold a CA certificate only"
    else:
        found = f"{reference.text!r}: istiod reads only a CA certificate from a credential whose name ends in {CA_SUFFIX}"
    return (
        Problem(
            "credential_ca_only",
            where,
            f"expected a Secret with certificate and key, found {found}",
            f"name the Secret that holds the pair, without {CA_SUFFIX}; the CA belongs into the CA credential",
        ),
    )


def ca_problems(reference: Reference, where: str) -> tuple[Problem, ...]:
    """What is wrong with a reference that must give a CA certificate by itself (`caCertCredentialName`)."""
    if is_ca_only(reference) or reference.scheme == "sds":
        return ()
    return (
        Problem(
            "ca_credential_not_ca_only",
            where,
            f"expected a reference that istiod reads as a CA certificate, found {reference.text!r}, for which it sends certificate and key "
            "and the proxy can then verify nobody",
            f"put the CA into a Secret whose name ends in {CA_SUFFIX}, or use configmap://namespace/name",
        ),
    )


def namespace_problems(reference: Reference, where: str, proxy_namespaces: Collection[str] | None = None) -> tuple[Problem, ...]:
    """A Secret is served only to proxies of its own namespace. `proxy_namespaces` is None where it is unknown in which ones they run."""
    if reference.scheme != "kubernetes" or reference.namespace is None:
        return ()
    remedy = f"put the Secret into the namespace of the gateway's workloads and name it without one: {reference.name}"
    if proxy_namespaces is None:
        message = (
            f"{reference.text!r} names a namespace, and istiod serves a Secret only to proxies of its own one: "
            f"this works only if the gateway's workloads run in {reference.namespace}"
        )
        return (Problem("credential_names_namespace", where, message, remedy, "warning"),)
    elsewhere = sorted(set(proxy_namespaces) - {reference.namespace})
    if not elsewhere:
        return ()
    message = (
        f"expected a Secret of the namespace in which the gateway's workloads run ({', '.join(elsewhere)}), found {reference.text!r}: "
        "istiod refuses to serve Secrets across namespaces"
    )
    return (Problem("credential_in_other_namespace", where, message, remedy),)


def pair_lookup(reference: Reference, where: str) -> tuple[Lookup, ...]:
    """The object with certificate and key; none for references that are not looked up in Kubernetes."""
    if reference.scheme not in ("kubernetes", "kubernetes-gateway"):
        return ()
    return (Lookup("pair", "Secret", (reference.name,), reference.namespace, where),)


def ca_lookup(reference: Reference, where: str) -> tuple[Lookup, ...]:
    """The object with the CA certificate that goes with a credential, or that a CA-only reference names itself.

    `X-cacert` comes first, then `X`; an `X-cacert` without a CA in it is an error to istiod, it does not go on to `X`.
    """
    if reference.scheme == "configmap":
        return (Lookup("ca", "ConfigMap", (reference.name.removesuffix(CA_SUFFIX),), reference.namespace, where),)
    if reference.scheme not in ("kubernetes", "kubernetes-gateway"):
        return ()
    plain = reference.name.removesuffix(CA_SUFFIX)
    return (Lookup("ca", "Secret", (plain + CA_SUFFIX, plain), reference.namespace, where),)


def server_lookups(
    credentials: Iterable[tuple[Reference, str]], ca_credential: tuple[Reference, str] | None, *, verifies_clients: bool
) -> tuple[Lookup, ...]:
    """Everything that istiod reads for one TLS server; credentials come as (reference, the argument that holds it).

    Only a server that verifies clients (MUTUAL, OPTIONAL_MUTUAL) asks for a CA: the CA credential's, else the first credential's.
    """
    pairs = list(credentials)
    found = [lookup for reference, where in pairs for lookup in pair_lookup(reference, where)]
    if verifies_clients:
        source = ca_credential or (pairs[0] if pairs else None)
        if source:
            found += ca_lookup(*source)
    return tuple(found)
