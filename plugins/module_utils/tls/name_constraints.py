# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name constraints (RFC 5280, 4.2.1.10) as OpenSSL and as BoringSSL, Envoy's library, apply them. They differ, so there are two verdicts.

OpenSSL's are in https://github.com/openssl/openssl/blob/master/crypto/x509/v3_ncons.c, BoringSSL's in its crypto/x509/v3_ncons.cc; the tests
ask both.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Any

from ..problems import Problem
from .certificate_checks import error, listed, warning
from .fields import canonical
from .material import Certificate
from .paths import subject_of

OPENSSL, ENVOY = "OpenSSL", "Envoy"


def check_name_constraints(path: Sequence[Certificate], where: str) -> Iterator[Problem]:
    """Every name of the leaf, and of the CAs on its way, against the constraints of the CAs above. What both libraries refuse is an error."""
    from cryptography import x509

    for place, issuer in enumerate(path[1:], 1):
        constraints = issuer.extension(x509.NameConstraints)
        if constraints is None:
            continue
        permitted, excluded = list(constraints.permitted_subtrees or ()), list(constraints.excluded_subtrees or ())
        for below, certificate in enumerate(path[:place]):
            if below and certificate.is_self_issued:
                continue
            found: dict[str, set[str]] = {}
            for who in (OPENSSL, ENVOY):
                for name in _refused(certificate, below == 0, permitted, excluded, who):
                    found.setdefault(name, set()).add(who)
            for name, by in found.items():
                yield _violated(issuer, certificate, name, by, permitted, excluded, where)


def _violated(
    issuer: Certificate, certificate: Certificate, name: str, by: set[str], permitted: list[Any], excluded: list[Any], where: str
) -> Problem:
    bounds = f"permits {listed(list(map(_shown, permitted)), 'any')}, excludes {listed(list(map(_shown, excluded)), 'none')}"
    also = f"; {next(iter(by))} as the peer refuses it, others do not" if len(by) == 1 else ""
    return (error if len(by) > 1 else warning)(
        "name_constraints_violated",
        where,
        f"expected names that the CA {issuer.label} may issue for ({bounds}), found {name} in {certificate.label}{also}",
        "Have the certificate issued by a CA that may issue for the name",
    )


def _shown(tree: Any) -> str:
    value = tree.value
    return str(value.rfc4514_string() if hasattr(value, "rfc4514_string") else getattr(value, "dotted_string", value)) or '""'


def _refused(certificate: Certificate, is_leaf: bool, permitted: list[Any], excluded: list[Any], who: str) -> Iterator[str]:
    """The names of `certificate` that `who` finds out of bounds."""
    from cryptography import x509

    names = list(certificate.extension(x509.SubjectAlternativeName) or ())
    for name in names:
        allowed, forbidden = ([tree for tree in trees if type(tree) is type(name)] for trees in (permitted, excluded))
        if any(_holds(tree, name, who, excludes=True) for tree in forbidden) or (
            allowed and not any(_holds(tree, name, who, excludes=False) for tree in allowed)
        ):
            yield _shown(name)
    yield from _refused_subject(certificate, permitted, excluded)
    if is_leaf:
        yield from _refused_common_name(certificate, names, permitted, excluded, who)


def _refused_subject(certificate: Certificate, permitted: list[Any], excluded: list[Any]) -> Iterator[str]:
    from cryptography import x509

    subject = subject_of(certificate)
    trees = [
        (canonical(tree.value.public_bytes()), tree in excluded) for tree in (*permitted, *excluded) if isinstance(tree, x509.DirectoryName)
    ]
    within = [excludes for tree, excludes in trees if subject[: len(tree)] == tree]
    if subject and trees and (any(within) or (not within and not all(excludes for __, excludes in trees))):
        yield certificate.subject


def _refused_common_name(certificate: Certificate, names: list[Any], permitted: list[Any], excluded: list[Any], who: str) -> Iterator[str]:
    """What counts for a host where there is no SAN. BoringSSL then refuses every common name that looks like a host."""
    from cryptography import x509

    host = certificate.common_name or ""
    labels = host.removesuffix(".").split(".")
    looks_like_a_host = all(
        label and label.replace("-", "").replace("_", "").isascii() and label.replace("-", "").replace("_", "").isalnum()
        for label in labels
    )
    trees = [[tree for tree in side if isinstance(tree, x509.DNSName)] for side in (permitted, excluded)]
    if not any(trees) or not looks_like_a_host:
        return
    if who == ENVOY and not names:
        yield f"the common name {host} and no subject alternative name"
    if who == OPENSSL and len(labels) > 1 and not any(isinstance(name, x509.DNSName) for name in names):
        within = [[_holds(tree, x509.DNSName(host), who, excludes=False) for tree in side] for side in trees]
        if any(within[1]) or (within[0] and not any(within[0])):
            yield f"the common name {host} and no subject alternative name"


def _holds(tree: Any, name: Any, who: str, *, excludes: bool) -> bool:
    """Whether a subtree holds a name of its kind; for a kind that `who` cannot compare, the answer with which it is refused."""
    from cryptography import x509

    if isinstance(name, x509.DNSName):
        return _dns(tree.value.lower(), name.value.lower(), who, excludes)
    if isinstance(name, x509.IPAddress):
        if who == ENVOY or not isinstance(name.value, ipaddress.IPv4Address | ipaddress.IPv6Address):
            return excludes  # BoringSSL knows no constraints for addresses, and so refuses all of them
        return tree.value.version == name.value.version and name.value in tree.value
    if isinstance(name, x509.UniformResourceIdentifier):
        __, found, authority = name.value.partition("//")
        host = authority.partition("/")[0].partition(":")[0]
        return _suffix(tree.value.lower(), host.lower()) if found and host else excludes
    if isinstance(name, x509.RFC822Name):
        return _mail(tree.value, name.value)
    if isinstance(name, x509.DirectoryName):
        base, whole = canonical(tree.value.public_bytes()), canonical(name.value.public_bytes())
        return whole[: len(base)] == base
    return excludes  # kinds for which neither library knows constraints


def _dns(base: str, name: str, who: str, excludes: bool) -> bool:
    if who == ENVOY:
        name = name.removesuffix(".")
        if excludes and name.startswith("*.") and base.removeprefix(".").endswith(name[1:]):
            return True  # a wildcard stands for what is excluded, too
    return not base or name == base or name.endswith(base if base.startswith(".") else "." + base)


def _suffix(base: str, host: str) -> bool:
    return host.endswith(base) and host != base if base.startswith(".") else host == base


def _mail(base: str, address: str) -> bool:
    local, __, host = address.rpartition("@")
    base_local, at, base_host = base.rpartition("@")
    if at:
        return host.lower() == base_host.lower() and local == base_local
    return _suffix(base.lower(), host.lower())
