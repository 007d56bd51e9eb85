# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CA rotation in stages: which one a credential is in, and what it holds in each one that follows. Pure.

- `before`: it trusts the old CA, not (all of) the new one.
- `trust`: it trusts both.
- `switch`: it trusts both, and its certificate is the new one.
- `drop`: it trusts the new CA alone.

The stage is what istiod reads from the Secrets, and stands nowhere else: whatever a run was killed in, the next one sees how far it came.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from ..problems import Problem, Rejected
from ..tls.material import Certificate, chain_pem, crl_pem, read_cas, read_chain, read_crls
from ..tls.revocation import Crl
from .credential import Credential, read_with_ca
from .credential_material import Demands, Source, check_material
from .rotation_plan import Data, readable

Stage = Literal["before", "trust", "switch", "drop"]
STAGES: tuple[Stage, ...] = ("before", "trust", "switch", "drop")
UNTIL = STAGES[1:]


@dataclass(frozen=True)
class Aim:
    """What a CA rotation leads to, and what it comes from as far as that was said."""

    new: Credential
    """As it is to be in the end. What it leaves out (the pair, the CA) stays as it is."""
    old: Credential
    """The parts that going back needs, and the old CA's CRL where there is another one than in the Secret."""
    until: Stage
    where: str = ""
    """Stands before the arguments' names in messages."""


@dataclass(frozen=True)
class Step:
    """One stage, and the credential as it is then."""

    stage: Stage
    credential: Credential


@dataclass(frozen=True)
class _Cas:
    """The CAs by what becomes of them."""

    live: tuple[Certificate, ...]
    old: tuple[Certificate, ...]
    """Those that go: as they were given, else what is trusted now and not wanted in the end."""
    new: tuple[Certificate, ...]

    @property
    def both(self) -> tuple[Certificate, ...]:
        return tuple(dict.fromkeys((*self.new, *self.old)))


def held(like: Credential, data: Data) -> Credential:
    """What istiod reads of a credential: the pair from its Secret, the CA from the `-cacert` Secret first."""
    own, verified = read_with_ca(like.name, data)
    return replace(
        like,
        certificate=own.certificate,
        private_key=own.private_key,
        ocsp_staple=own.ocsp_staple,
        ca_certificate=verified.ca_certificate,
        crl=verified.ca_crl,
    )


def stage_of(live: Credential, aim: Aim) -> Stage:
    """The stage that a credential is in."""
    cas = _cas(live, aim)
    if cas.new:
        if not set(cas.new) <= set(cas.live):
            return "before"
        if not set(cas.old) & set(cas.live):
            return "drop"
        return "switch" if _switched(live, aim) else "trust"
    return "switch" if _switched(live, aim) else "before"  # the peers trust and drop: nothing here tells those stages apart


def steps(live: Credential, aim: Aim) -> tuple[Step, ...]:
    """The stages up to the one that is wanted, in the order in which they come; that one alone where the credential is there already."""
    cas, now = _cas(live, aim), STAGES.index(stage_of(live, aim))
    end = STAGES.index(aim.until)
    numbers = range(now + 1, end + 1) if now < end else range(now - 1, end - 1, -1) if now > end else (end,)
    stages = [STAGES[number] for number in numbers]
    if not aim.new.certificate and len(stages) > 1 and "switch" in stages:
        stages.remove("switch")  # nothing of it is here; the stage beside it holds the same and proves the same
    backwards = now > end
    return tuple(Step(stage, _content(stage, live, aim, cas, backwards=backwards)) for stage in stages)


def stage_problems(live: Credential, aim: Aim) -> tuple[Problem, ...]:
    """Why no stage follows from what is there and what is wanted."""
    cas, found = _cas(live, aim), []
    where = f"{aim.where}ca_rotation"

    def problem(code: str, message: str, remedy: str) -> None:
        found.append(Problem(code, where, message, remedy))

    now = stage_of(live, aim)
    back = STAGES.index(now) > STAGES.index(aim.until)
    if not aim.new.certificate and not aim.new.ca_certificate:
        problem("nothing_given", "expected the new CA, or the new certificate, found neither", "give ca_certificate_path")
    if cas.new and not cas.live:
        message = "expected a credential that trusts a CA already, found none in the Secret: there is no CA to rotate"
        problem("no_ca_before", message, "leave out ca_rotation: the CA then comes in one write")
    if not aim.new.certificate and not cas.live and not live.certificate:
        problem("no_credential", "expected a credential to rotate, found none in the cluster", "make it with istio_tls_credential first")
    strange = [ca for ca in cas.live if ca not in cas.both]
    if cas.new and aim.old.ca_certificate and strange:
        shown = ", ".join(f"{ca.subject} ({ca.fingerprint})" for ca in strange[:3])
        problem(
            "ca_unknown",
            f"expected the Secret to trust only the old and the new CA, found {shown} too",
            "add it to ca_certificate where it is to stay, or to ca_rotation.old_ca_certificate where it is to go",
        )
    if back and now == "drop" and not aim.old.ca_certificate:
        message = f"expected the old CA, to go back from stage drop to stage {aim.until}, found that the Secret no longer has it"
        problem("old_ca_missing", message, "give ca_rotation.old_ca_certificate_path")
    if back and aim.until == "trust" and _switched(live, aim) and not (aim.old.certificate and aim.old.private_key):
        message = "expected the old certificate with its key, to go back to stage trust, found that the Secret no longer has them"
        problem("old_certificate_missing", message, "give ca_rotation.old_certificate_path and ca_rotation.old_private_key_path")
    return tuple(found)


def checked(step: Step, aim: Aim, now: datetime, not_before_tolerance: timedelta) -> tuple[Step, tuple[Problem, ...]]:
    """A stage with its CAs as they are to be stored, and what is wrong with them and their CRLs together."""
    where = f"{aim.where}ca_rotation, stage {step.stage}"
    given = {"ca_certificate": step.credential.ca_certificate, "crl": step.credential.crl}
    found = check_material(
        {part: Source(data, where) for part, data in given.items() if data},
        Demands(not_before_tolerance=not_before_tolerance),
        now=now,
    )
    parts: dict[str, Any] = {part: found.parts.get(part, data) for part, data in given.items()}
    if _same_cas(parts["ca_certificate"], step.credential.ca_certificate):
        parts["ca_certificate"] = step.credential.ca_certificate  # as it stands in the Secret
    return replace(step, credential=replace(step.credential, **parts)), (*found.unusable, *found.problems)


def _content(stage: Stage, live: Credential, aim: Aim, cas: _Cas, *, backwards: bool) -> Credential:
    pair = live
    if backwards and stage == "trust" and _switched(live, aim) and aim.old.certificate:
        pair = aim.old
    elif not backwards and stage in ("switch", "drop") and aim.new.certificate:
        pair = aim.new
    if not cas.new:
        ca, crl = live.ca_certificate, live.crl
    elif stage == "drop":
        ca, crl = aim.new.ca_certificate, aim.new.crl
    else:
        ca, crl = chain_pem(cas.both), _crls_of_both(live, aim, cas)
    if _same_cas(ca, live.ca_certificate) and _same_crls(crl, live.crl):
        ca, crl = live.ca_certificate, live.crl  # another order is no change
    return replace(
        aim.new,
        certificate=pair.certificate,
        private_key=pair.private_key,
        ocsp_staple=pair.ocsp_staple if aim.new.layout == "tls" else None,
        ca_certificate=ca,
        crl=crl,
    )


def _cas(live: Credential, aim: Aim) -> _Cas:
    there, new = _trusted(live.ca_certificate), _trusted(aim.new.ca_certificate)
    old = _trusted(aim.old.ca_certificate) if aim.old.ca_certificate else there if new else ()
    return _Cas(there, tuple(ca for ca in old if ca not in new), new)


def _switched(live: Credential, aim: Aim) -> bool:
    """Whether the certificate is the new one already."""
    new = readable(aim.new.certificate, read_chain)
    return bool(new) and readable(live.certificate, read_chain)[:1] == new[:1]


def _crls_of_both(live: Credential, aim: Aim, cas: _Cas) -> bytes | None:
    """The new CAs' CRLs, and the old ones': as they were given, else those in the Secret."""
    old = _crls(aim.old.crl) or [crl for crl in _crls(live.crl) if any(crl.signed_by(ca) is not False for ca in cas.old)]
    new = _crls(aim.new.crl)

    def of_one_ca(one: Crl, other: Crl) -> bool:
        """By the key: a CA that was made anew under the same name is another."""
        return any(one.signed_by(ca) is not False and other.signed_by(ca) is not False for ca in cas.both)

    # of one CA's several the one that was given now counts
    found = tuple(dict.fromkeys((*new, *(crl for crl in old if not any(of_one_ca(crl, other) for other in new)))))
    return crl_pem(found) if found else None


def _trusted(pem: bytes | None) -> tuple[Certificate, ...]:
    """The CAs of a bundle, each once."""
    return tuple(dict.fromkeys(readable(pem, read_cas)))


def _crls(pem: bytes | None) -> list[Crl]:
    try:
        return list(read_crls(pem, where="")) if pem else []
    except Rejected:
        return []


def _same_cas(one: bytes | None, other: bytes | None) -> bool:
    return bool(one and other) and set(_trusted(one)) == set(_trusted(other))


def _same_crls(one: bytes | None, other: bytes | None) -> bool:
    return {crl.der for crl in _crls(one)} == {crl.der for crl in _crls(other)} and bool(one) == bool(other)
