# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates and CRLs as modules return and diff them: names, dates and fingerprints, never bytes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from .certificate import Certificate
from .revocation import Crl


def rfc3339(moment: datetime) -> str:
    """An aware time in UTC, whole seconds: `2026-01-31T12:00:00Z`."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def days_left(moment: datetime, now: datetime) -> int:
    """Whole days from `now` until `moment`, rounded down: 0 on the last day, negative afterwards."""
    return (moment - now).days


def describe(what: Certificate | Sequence[Certificate], now: datetime) -> dict[str, Any]:
    """A certificate, or a chain by its first one, as a result.

    Keys: `fingerprint_sha256`, `serial`, `subject`, `common_name`, `sans` (DNS names, IP addresses, URIs, mail addresses, as text),
    `issuer`, `not_before`, `not_after`, `days_left`, `key` (`RSA 2048`), `is_ca`; for a chain also `chain`, its further certificates as
    `{fingerprint_sha256, subject, not_after, days_left}`. An empty chain gives an empty dict.
    """
    if not isinstance(what, Certificate):
        if not what:
            return {}
        return {**describe(what[0], now), "chain": [_brief(certificate, now) for certificate in what[1:]]}
    return {
        "fingerprint_sha256": what.fingerprint,
        "serial": what.serial,
        "subject": what.subject,
        "common_name": what.common_name,
        "sans": list(what.names),
        "issuer": what.issuer,
        "not_before": rfc3339(what.not_before),
        "not_after": rfc3339(what.not_after),
        "days_left": days_left(what.not_after, now),
        "key": str(what.key),
        "is_ca": what.is_ca,
    }


def _brief(certificate: Certificate, now: datetime) -> dict[str, Any]:
    return {
        "fingerprint_sha256": certificate.fingerprint,
        "subject": certificate.subject,
        "not_after": rfc3339(certificate.not_after),
        "days_left": days_left(certificate.not_after, now),
    }


def describe_crl(crl: Crl) -> dict[str, Any]:
    """A CRL as a result: `fingerprint_sha256`, `issuer`, `last_update`, `next_update` (or None), `revoked` (how many)."""
    return {
        "fingerprint_sha256": crl.fingerprint,
        "issuer": crl.issuer,
        "last_update": rfc3339(crl.last_update),
        "next_update": rfc3339(crl.next_update) if crl.next_update is not None else None,
        "revoked": crl.count,
    }
