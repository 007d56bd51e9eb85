# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the bytes of certificates, keys, CAs and CRLs to what is wrong with them as a whole. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal, TypeVar

from ..problems import Problem, Rejected
from ..tls import ca_checks, checks, facts, forms, material, revocation_checks
from ..tls.certificate_checks import TOLERANCE
from ..tls.roots import Roots
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
    roots: Roots = field(default_factory=Roots)
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

    def attempt(parse: Callable[[], T]) -> T | None:
        try:
            return parse()
        except Rejected as rejected:
            unusable.extend(rejected.problems)
            return None

    given = dict(sources)
    if bundle_source := given.pop("pkcs12", None):
        given |= attempt(lambda: _pair_in(bundle_source, given, demands, pkcs12_passphrase)) or {}
    if stored:
        given = _converted(given)

    read = _read(given, attempt, private_key_passphrase)
    parts = {part: source.data for part, source in given.items()}
    spare = ca_checks.superseded(read.cas, now=now, not_before_tolerance=demands.not_before_tolerance) if read.cas and stored else ()
    left_out = [ca_checks.left_out(spare, given["ca_certificate"].where)] if spare else []
    if read.cas and spare:
        read = replace(read, cas=tuple(ca for ca in read.cas if ca not in spare))
        parts["ca_certificate"] = material.chain_pem(read.cas or ())
    if bundle_source:  # what could not be read from it was given all the same
        parts = {"certificate": bundle_source.data, "private_key": bundle_source.data, **parts}
    parts |= {"private_key": read.key.pem} if read.key else {}
    return Checked(
        parts,
        facts.describe(read.chain, now) if read.chain else None,
        facts.describe(_valid_first(read.cas, now), now) if read.cas else None,
        (*left_out, *_judged(read, given, demands, now)),
        tuple(unusable),
    )


def _pair_in(bundle: Source, given: Mapping[str, Source], demands: Demands, passphrase: str | None) -> dict[str, Source]:
    """The pair in a PKCS#12 bundle. Rejected where it cannot be read, or stands beside another pair."""
    if clashing := [part for part in ("certificate", "private_key") if part in given]:
        message = f"expected the pair once, found a PKCS#12 bundle and {' and '.join(clashing)}"
        raise Rejected(Problem("given_twice", bundle.where, message, "give one of them"))
    read = material.read_pkcs12(bundle.data, passphrase=passphrase, hosts=demands.hosts, where=bundle.where)
    return {"certificate": Source(read.chain_pem, bundle.where), "private_key": Source(read.key_pem, bundle.where)}


@dataclass(frozen=True)
class _Read:
    """What could be read; None for what was not given, or cannot be read."""

    chain: tuple[material.Certificate, ...] | None
    key: material.PrivateKey | None
    cas: tuple[material.Certificate, ...] | None
    crls: tuple[material.Crl, ...] | None
    staple: material.OcspStaple | None


def _read(given: Mapping[str, Source], attempt: Callable[[Callable[[], Any]], Any], private_key_passphrase: str | None) -> _Read:
    """Every part that is given; `attempt` keeps what cannot be read."""

    def parsed(part: str, parse: Callable[..., T]) -> T | None:
        source = given.get(part)
        return attempt(lambda: parse(source.data, where=source.where)) if source else None

    return _Read(
        parsed("certificate", material.read_chain),
        parsed("private_key", partial(material.read_private_key, passphrase=private_key_passphrase)),
        parsed("ca_certificate", material.read_cas),
        parsed("crl", material.read_crls),
        parsed("ocsp_staple", material.read_ocsp_staple),
    )


def _judged(read: _Read, given: Mapping[str, Source], demands: Demands, now: datetime) -> Iterator[Problem]:
    """What is wrong with certificates, CAs, CRLs and staple that could be read."""
    chain, cas = read.chain, read.cas
    clock: dict[str, Any] = {"now": now, "not_before_tolerance": demands.not_before_tolerance}
    common: dict[str, Any] = {
        **clock,
        "min_remaining": demands.min_remaining,
        "trust_anchors": demands.trust_anchors,
        "cas": cas or (),
        "roots": demands.roots,
        "key_where": given["private_key"].where if read.key else None,
    }
    if chain and demands.purpose == "client":
        yield from checks.check_client_pair(chain, read.key, where=given["certificate"].where, **common)
    elif chain:
        yield from checks.check_server_pair(chain, read.key, hosts=demands.hosts, where=given["certificate"].where, **common)
        if read.staple or "ocsp_staple" not in given:
            place = given["ocsp_staple" if read.staple else "certificate"].where
            issuers = (*(cas or ()), *(demands.trust_anchors or ()))
            yield from revocation_checks.check_ocsp(read.staple, chain, issuers=issuers, where=place, **clock)
    if cas:
        yield from ca_checks.check_ca(cas, min_remaining=demands.min_remaining, where=given["ca_certificate"].where, **clock)
    if read.crls and cas:
        yield from revocation_checks.check_crls(read.crls, cas, chain=chain or (), where=given["crl"].where, **clock)


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
    keys = sorted(secret_data)
    shown: dict[str, Any] = {"secret_keys": keys, "keys": keys}  # the latter for older playbooks: in Jinja `.keys` is a dictionary's method
    for what, pem in (("certificate", reading.certificate), ("ca_certificate", reading.ca_certificate)):
        if pem is None:
            continue
        try:
            found = (material.read_cas if what == "ca_certificate" else material.read_chain)(pem, where=what)
            shown[what] = facts.describe(_valid_first(found, now) if what == "ca_certificate" else found, now)
        except Rejected as rejected:
            shown[what] = {"unreadable": rejected.problems[0].message}
    if reading.ca_crl:
        shown["crl"] = "present"
    return shown


def public_contents(secret_data: Mapping[str, bytes], ca_secret: Mapping[str, bytes] | None) -> dict[str, str]:
    """What a rotation of the pair alone passes on unchanged, as PEM: `layout`, and `certificate`, `ca_certificate` and `crl` where they are there.

    `ca_secret` is the data of the credential's own `-cacert` Secret. Only what parses as certificates and CRLs is returned, made anew from what was
    read: a key that somebody put among them stays out.
    """
    reading = read_as_istiod(secret_data)
    ca = read_as_istiod(ca_secret) if ca_secret else reading
    made = {"layout": "split" if ca_secret else "generic" if "cert" in reading.keys else "tls"}
    contents: tuple[tuple[str, bytes | None, Callable[[bytes], bytes]], ...] = (
        ("certificate", reading.certificate, lambda data: material.chain_pem(material.read_chain(data, where="certificate"))),
        ("ca_certificate", ca.ca_certificate, lambda data: material.chain_pem(material.read_cas(data, where="ca_certificate"))),
        ("crl", ca.ca_crl, lambda data: material.crl_pem(material.read_crls(data, where="crl"))),
    )
    for part, data, written in contents:
        if not data:
            continue
        try:
            made[part] = written(data).decode()
        except Rejected:
            continue
    return made
