# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRLs that Envoy does not use although they are valid: those for a part of a CA's certificates, and those with critical extensions that its
library does not know (RFC 5280, 5.2 and 5.3). By what Envoy does, which asks for a CRL of the CA's own certificate too: OpenSSL takes some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from .certificate import Certificate
from .fields import crl_fields
from .revocation import Crl

if TYPE_CHECKING:
    from cryptography import x509

_KNOWN = frozenset({"2.5.29.28", "2.5.29.35"})
"""issuingDistributionPoint and authorityKeyIdentifier: a critical one is no obstacle."""


def not_used_by_envoy(crl: Crl, cas: Sequence[Certificate]) -> str | None:
    """What it is about a CRL that keeps Envoy from using it for these CAs, its issuers, in words that follow "one"; None where it is used."""
    from cryptography import x509

    unknown = [each.oid.dotted_string for each in crl.parsed.extensions if each.critical and each.oid.dotted_string not in _KNOWN]
    if unknown:
        return f"with a critical extension ({unknown[0]})"
    if crl_fields(crl.der).has_critical_entry:
        return "with a critical extension of a revoked certificate"
    limits = [each.value for each in crl.parsed.extensions if isinstance(each.value, x509.IssuingDistributionPoint)]
    return next(filter(None, (_limit(each, cas) for each in limits)), None)


def _limit(point: x509.IssuingDistributionPoint, cas: Sequence[Certificate]) -> str | None:
    from cryptography import x509

    if point.only_contains_user_certs:
        return "for certificates of users alone, without the CA's own"
    if point.only_contains_ca_certs:
        return "for certificates of CAs alone"
    if point.only_some_reasons:
        return "for some reasons alone"
    if point.indirect_crl:
        return "for certificates of several CAs (an indirect CRL)"
    names = set(point.full_name or ())
    for ca in cas if names else ():
        points = ca.extension(x509.CRLDistributionPoints)
        if not names & set(_full_names(points or ())):
            return f"for one distribution point alone, which {ca.label} does not name as its own"
    return None


def _full_names(points: Iterable[x509.DistributionPoint]) -> Iterator[x509.GeneralName]:
    for point in points:
        yield from point.full_name or ()
