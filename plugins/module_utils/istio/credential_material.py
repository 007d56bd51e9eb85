# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the bytes of certificates, keys, CAs and CRLs to what is wrong with them as a whole. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

from ..problems import Problem, Rejected
from ..tls import ca_checks, checks, facts, forms, material, revocation_checks
from ..tls.certificate_checks import TOLERANCE
from .credential import read_as_istiod, reading_problems

T = TypeVar("T")

PARTS = ("certificate", "private_key", "pkcs12", "ca_certificate", "crl", "ocsp_staple")
"""What a credential can be made from; each is content or a path."""


@dataclass(frozen=True)
class Source:
    """Bytes, and the argument that they came from."""

    data: bytes
    where: str

    def __repr__(self) -> str:
        return f"Source({self.where})"


@dataclass(frozen=True)
class Demands:
    """What the material has to satisfy."""

    hosts: tuple[str, ...] = ()
    purpose: Literal["server", "client"] = "server"
    min_remaining: timedelta = timedelta()
    trust_anchors: tuple[material.Certificate, ...] | None = None
    not_before_tolerance: timedelta = TOLERANCE
    roots: checks.Roots = field(default_factory=checks.Roots)
    """Roots of browsers and of this machine: where a chain ends in one of them it is complete."""


@dataclass(frozen=True)
class Checked:
    """Parsed material and everything that was found out about it."""

    parts: Mapping[str, bytes]
    """certificate, private_key, ca_certificate, crl, ocsp_staple as they are to be stored; what is unusable is as it was given."""
    certificate: dict[str, Any] | None
    """Facts about the leaf and its chain."""
    ca_certificate: dict[str, Any] | None
    problems: tuple[Problem, ...]
    unusable: tuple[Problem, ...]
    """Problems that no `on_invalid` can turn into warnings: there is nothing that could be stored."""

    def __repr__(self) -> str:
        return f"Checked(problems={self.problems}, unusable={self.unusable})"


def check_material(
    sources: Mapping[str, Source],
    demands: Demands,
    *,
    now: datetime,
    private_key_passphrase: str | None = None,
    pkcs12_passphrase: str | None = None,
    stored: bool = True,
) -> Checked:
    """Parses and judges everything that was given; finds all problems, not only the first. With `stored`, the parts are as they are to be
    stored: CAs without those that would keep Envoy from using the others."""
    unusable: list[Problem] = []
    problems: list[Problem] = []

    def attempt(parse: Callable[[], T]) -> T | None:
        try:
            return parse()
        except Rejected as rejected:
            unusable.extend(rejected.problems)
            return None

    given = dict(sources)
    if bundle_source := given.pop("pkcs12", None):
        if clashing := [part for part in ("certificate", "private_key") if part in given]:
            unusable.append(
                Problem(
                    "given_twice",
                    bundle_source.where,
                    f"expected the pair once, found a PKCS#12 bundle and {' and '.join(clashing)}",
                    "give one of them",
                )
            )
        elif bundle := attempt(
            lambda: material.read_pkcs12(bundle_source.data, passphrase=pkcs12_passphrase, hosts=demands.hosts, where=bundle_source.where)
        ):
            given["certificate"] = Source(bundle.chain_pem, bundle_source.where)
            given["private_key"] = Source(bundle.key_pem, bundle_source.where)

    if stored:
        given = _converted(given)

    def parsed(part: str, parse: Callable[[bytes, str], T]) -> T | None:
        source = given.get(part)
        return attempt(lambda: parse(source.data, source.where)) if source else None

    chain = parsed("certificate", lambda data, place: material.read_chain(data, where=place))
    key = parsed("private_key", lambda data, place: material.read_private_key(data, passphrase=private_key_passphrase, where=place))
    cas = parsed("ca_certificate", lambda data, place: material.read_chain(data, where=place))
    crls = parsed("crl", lambda data, place: material.read_crls(data, where=place))
    parts = {part: source.data for part, source in given.items()}
    spare = ca_checks.superseded(cas, now=now, not_before_tolerance=demands.not_before_tolerance) if cas and stored else ()
    if cas and spare:
        problems.append(ca_checks.left_out(spare, given["ca_certificate"].where))
        cas = tuple(ca for ca in cas if ca not in spare)
        parts["ca_certificate"] = material.chain_pem(cas)
    staple = parsed("ocsp_staple", lambda data, place: material.read_ocsp_staple(data, where=place))
    clock: dict[str, Any] = {"now": now, "not_before_tolerance": demands.not_before_tolerance}
    if chain:
        common: dict[str, Any] = {
            **clock,
            "min_remaining": demands.min_remaining,
            "trust_anchors": demands.trust_anchors,
            "cas": cas or (),
            "roots": demands.roots,
            "where": given["certificate"].where,
            "key_where": given["private_key"].where if key else None,
        }
        if demands.purpose == "client":
            problems += checks.check_client_pair(chain, key, **common)
        else:
            problems += checks.check_server_pair(chain, key, hosts=demands.hosts, **common)
            if staple or "ocsp_staple" not in given:
                place = given["ocsp_staple" if staple else "certificate"].where
                issuers = (*(cas or ()), *(demands.trust_anchors or ()))
                problems += revocation_checks.check_ocsp(staple, chain, issuers=issuers, where=place, **clock)
    if cas:
        problems += ca_checks.check_ca(cas, min_remaining=demands.min_remaining, where=given["ca_certificate"].where, **clock)
    if crls and cas:
        problems += revocation_checks.check_crls(crls, cas, chain=chain or (), where=given["crl"].where, **clock)
    if bundle_source:  # what could not be read from it was given all the same
        parts = {"certificate": bundle_source.data, "private_key": bundle_source.data, **parts}
    if key:
        parts["private_key"] = key.pem
    return Checked(
        parts,
        facts.describe(chain, now) if chain else None,
        facts.describe(_valid_first(cas, now), now) if cas else None,
        tuple(problems),
        tuple(unusable),
    )


def _converted(given: Mapping[str, Source]) -> dict[str, Source]:
    """The parts in PEM, from whatever form they were brought in; what cannot be converted as it is."""
    key = given["private_key"].data if "private_key" in given else None
    convert: dict[str, Callable[[bytes], bytes]] = {
        "certificate": lambda data: forms.certificates_as_pem(data, key=key),
        "ca_certificate": forms.certificates_as_pem,
        "private_key": forms.key_as_pem,
        "crl": forms.crls_as_pem,
    }
    return {part: Source(convert[part](source.data), source.where) if part in convert else source for part, source in given.items()}


def _valid_first(cas: Sequence[material.Certificate], now: datetime) -> list[material.Certificate]:
    """A bundle lasts as long as the CAs that are valid: its facts are not those of an expired one."""
    return sorted(cas, key=lambda ca: ca.not_after < now)


def judge_data(secret_data: Mapping[str, bytes], demands: Demands, *, now: datetime, where: str) -> tuple[Problem, ...]:
    """What is wrong with a Secret that exists: with its keys, and with what istiod reads from them."""
    reading = read_as_istiod(secret_data)
    parts = {
        "certificate": reading.certificate,
        "private_key": reading.private_key,
        "ca_certificate": reading.ca_certificate,
        "crl": reading.ca_crl,
        "ocsp_staple": reading.ocsp_staple,
    }
    checked = check_material(
        {part: Source(data, f"{where}: {part}") for part, data in parts.items() if data}, demands, now=now, stored=False
    )
    return (*reading_problems(secret_data, where=where), *checked.unusable, *checked.problems)


def describe_data(secret_data: Mapping[str, bytes], now: datetime) -> dict[str, Any]:
    """What may be shown of a Secret: the facts of what istiod reads from it, never the bytes."""
    reading = read_as_istiod(secret_data)
    shown: dict[str, Any] = {"keys": sorted(secret_data)}
    for what, pem in (("certificate", reading.certificate), ("ca_certificate", reading.ca_certificate)):
        if pem is None:
            continue
        try:
            found = material.read_chain(pem, where=what)
            shown[what] = facts.describe(_valid_first(found, now) if what == "ca_certificate" else found, now)
        except Rejected as rejected:
            shown[what] = {"unreadable": rejected.problems[0].message}
    if reading.ca_crl:
        shown["crl"] = "present"
    return shown
