# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CA rotations in stages: the stage that is read, what each stage that follows holds, the way back, and what never gets in."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.ca_stages import (
    Aim,
    Stage,
    Step,
    checked,
    held,
    stage_of,
    stage_problems,
    steps,
)
from ansible_collections.meshops.istio.plugins.module_utils.istio.credential import LAYOUTS, Credential, Layout, secrets
from ansible_collections.meshops.istio.plugins.module_utils.tls.material import read_cas, read_crls
from ansible_collections.meshops.istio.tests.unit.tls.tls_pki import NOW, Issued, Pki, key_pem

PKI = Pki()
OLD, NEW, THIRD = (PKI.issue(f"{name} CA", ca=True) for name in ("old", "new", "third"))
FIRST, SECOND = (PKI.issue("shop.example.com", OLD, key=f"P-256#{name}") for name in ("first", "second"))
MINUTE = timedelta(minutes=1)
CRLS: dict[str, bytes] = {ca.certificate.subject: PKI.crl(ca).pem for ca in (OLD, NEW, THIRD)}


def crl(*cas: Issued) -> bytes:
    return b"".join(CRLS[ca.certificate.subject] for ca in cas)


def credential(leaf: Issued | None = None, *cas: Issued, layout: Layout = "tls", **more: Any) -> Credential:
    pair = {"certificate": leaf.pem, "private_key": key_pem(leaf.key)} if leaf else {}
    ca = {"ca_certificate": b"".join(ca.pem for ca in cas)} if cas else {}
    return Credential("c", "n", layout, **{**pair, **ca, **more})


def aim(until: Stage, new: Credential | None = None, old: Credential | None = None) -> Aim:
    return Aim(new or credential(SECOND, NEW), old or credential(), until)


def shown(found: tuple[Step, ...]) -> list[tuple[str, str, set[str]]]:
    """Stage, leaf and CAs of each step, in words."""
    names = {FIRST.pem: "first", SECOND.pem: "second", None: "none"}
    return [
        (
            step.stage,
            names[step.credential.certificate],
            {ca.subject.removeprefix("CN=").removesuffix(" CA") for ca in read_cas(step.credential.ca_certificate or b"", where="")}
            if step.credential.ca_certificate
            else set(),
        )
        for step in found
    ]


TRUST, SWITCH, DROP = ("trust", "first", {"old", "new"}), ("switch", "second", {"old", "new"}), ("drop", "second", {"new"})


@pytest.mark.parametrize(
    ("live", "stage"),
    [
        (credential(FIRST, OLD), "before"),
        (credential(SECOND, OLD), "before"),  # the certificate came first
        (credential(FIRST, OLD, NEW), "trust"),
        (credential(FIRST, NEW, OLD), "trust"),
        (credential(SECOND, OLD, NEW), "switch"),
        (credential(SECOND, NEW), "drop"),
        (credential(FIRST, NEW), "drop"),  # another certificate since
    ],
)
def test_the_stage_is_read_from_what_is_there(live: Credential, stage: Stage) -> None:
    for until in ("trust", "switch", "drop"):
        assert stage_of(live, aim(until)) == stage


@pytest.mark.parametrize(
    ("live", "until", "expected"),
    [
        (credential(FIRST, OLD), "drop", [TRUST, SWITCH, DROP]),
        (credential(FIRST, OLD), "switch", [TRUST, SWITCH]),
        (credential(FIRST, OLD), "trust", [TRUST]),
        (credential(FIRST, OLD, NEW), "drop", [SWITCH, DROP]),  # interrupted after the first stage
        (credential(SECOND, OLD, NEW), "drop", [DROP]),
        (credential(SECOND, NEW), "drop", [DROP]),  # nothing is left to do, and it is proven again
        (credential(FIRST, NEW), "drop", [DROP]),
        (credential(FIRST, OLD, NEW), "trust", [TRUST]),
        (credential(SECOND, OLD, NEW), "switch", [SWITCH]),
        (credential(SECOND, OLD), "drop", [("trust", "second", {"old", "new"}), SWITCH, DROP]),
    ],
)
def test_what_follows(live: Credential, until: Stage, expected: list[Any]) -> None:
    asked = aim(until)
    assert stage_problems(live, asked) == ()
    assert shown(steps(live, asked)) == expected


def test_a_bundle_with_openssls_trust_settings_is_read_as_envoy_reads_it() -> None:
    """Somebody else made the Secret: RHEL's ca-bundle.trust.crt has such blocks anywhere."""
    both = OLD.pem + NEW.pem.replace(b" CERTIFICATE", b" TRUSTED CERTIFICATE")
    live = Credential(**{**credential(FIRST).__dict__, "ca_certificate": both})
    assert stage_of(live, aim("drop")) == "trust"
    assert shown(steps(live, aim("drop"))) == [SWITCH, DROP]


def test_what_is_there_already_stays_as_it_stands() -> None:
    """The order of a bundle, and text in it: a second run writes nothing."""
    live = credential(FIRST, OLD, NEW)
    live = Credential(**{**live.__dict__, "ca_certificate": b"# ours\n" + live.ca_certificate})  # type: ignore[operator]
    (step,) = steps(live, aim("trust"))
    ready, problems = checked(step, aim("trust"), NOW, MINUTE)
    assert ready.credential == live and not problems


@pytest.mark.parametrize(
    ("live", "until", "old", "expected"),
    [
        (credential(SECOND, NEW), "switch", credential(None, OLD), [SWITCH]),
        (credential(SECOND, NEW), "trust", credential(FIRST, OLD), [SWITCH, TRUST]),
        (credential(SECOND, OLD, NEW), "trust", credential(FIRST), [TRUST]),
        (credential(FIRST, NEW), "trust", credential(None, OLD), [("switch", "first", {"old", "new"}), TRUST]),
    ],
)
def test_the_way_back(live: Credential, until: Stage, old: Credential, expected: list[Any]) -> None:
    asked = aim(until, old=old)
    assert stage_problems(live, asked) == ()
    assert shown(steps(live, asked)) == expected


@pytest.mark.parametrize(
    ("live", "asked", "codes"),
    [
        (credential(SECOND, NEW), aim("switch"), ["old_ca_missing"]),
        (credential(SECOND, OLD, NEW), aim("trust"), ["old_certificate_missing"]),
        (credential(SECOND, NEW), aim("trust"), ["old_ca_missing", "old_certificate_missing"]),
        (credential(FIRST, OLD, THIRD), aim("drop", old=credential(None, OLD)), ["ca_unknown"]),
        (credential(FIRST), aim("drop"), ["no_ca_before"]),
        (credential(), aim("drop", credential(None, NEW)), ["no_ca_before", "no_credential"]),
        (credential(FIRST, OLD), aim("drop", credential()), ["nothing_given"]),
    ],
)
def test_what_no_stage_follows_from(live: Credential, asked: Aim, codes: list[str]) -> None:
    assert [problem.code for problem in stage_problems(live, asked)] == codes


def test_what_is_to_stay_is_named_among_the_new() -> None:
    live = credential(FIRST, OLD, THIRD)
    asked = aim("drop", credential(None, NEW, THIRD), credential(None, OLD))
    assert stage_problems(live, asked) == () and stage_of(live, asked) == "before"
    assert [cas for __, __, cas in shown(steps(live, asked))] == [{"old", "new", "third"}, {"new", "third"}]


def test_without_a_certificate_to_switch_it_stays() -> None:
    asked = aim("drop", credential(None, NEW))
    assert shown(steps(credential(FIRST, OLD), asked)) == [TRUST, ("drop", "first", {"new"})]
    assert shown(steps(credential(FIRST, OLD, NEW), aim("switch", credential(None, NEW)))) == [("switch", "first", {"old", "new"})]
    assert shown(steps(credential(FIRST, NEW), aim("trust", credential(None, NEW), credential(None, OLD)))) == [TRUST]


def test_a_certificate_of_another_issuer_whom_only_the_peers_trust() -> None:
    """A client credential: that the partner trusts the new issuer, and later drops the old one, its probes show."""
    asked = aim("drop", credential(SECOND))
    assert shown(steps(credential(FIRST, OLD), asked)) == [
        ("trust", "first", {"old"}),
        ("switch", "second", {"old"}),
        ("drop", "second", {"old"}),
    ]
    assert shown(steps(credential(SECOND, OLD), asked)) == [("drop", "second", {"old"})]
    back = aim("trust", credential(SECOND), credential(FIRST))
    assert shown(steps(credential(SECOND, OLD), back)) == [("trust", "first", {"old"})]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_as_istiod_does(layout: Layout) -> None:
    live = credential(FIRST, OLD, layout=layout, crl=crl(OLD))
    assert held(credential(layout=layout), secrets(live)) == live
    asked = aim("drop", credential(SECOND, NEW, layout=layout, crl=crl(NEW)))
    data = secrets(live)
    for step in steps(live, asked):  # each run sees how far the one before came
        assert step.stage == asked.until or steps(held(asked.new, data), asked)[0] == step
        data = secrets(step.credential)
        assert stage_of(held(asked.new, data), asked) == step.stage


def test_a_ca_in_a_secret_of_its_own_comes_first() -> None:
    """Beside cert-manager's Secret, or as caCertCredentialName."""
    data = {"c": secrets(credential(FIRST, OLD))["c"], "c-cacert": {"cacert": NEW.pem}}
    assert held(credential(), data).ca_certificate == NEW.pem
    alone = Credential("c-cacert", "n", "generic", ca_certificate=NEW.pem)
    (trust, drop) = steps(held(alone, {"c-cacert": {"cacert": OLD.pem}}), Aim(alone, Credential("c-cacert", "n", "generic"), "drop"))
    assert secrets(trust.credential) == {"c-cacert": {"cacert": NEW.pem + OLD.pem}} and not trust.credential.certificate
    assert secrets(drop.credential) == {"c-cacert": {"cacert": NEW.pem}}


def test_the_staple_goes_with_its_certificate() -> None:
    live = credential(FIRST, OLD, ocsp_staple=b"of the first")
    staples = [step.credential.ocsp_staple for step in steps(live, aim("drop"))]
    assert staples == [b"of the first", None, None]
    renewed = aim("drop", credential(SECOND, NEW, ocsp_staple=b"of the second"))
    assert [step.credential.ocsp_staple for step in steps(live, renewed)][1:] == [b"of the second"] * 2


# --- CRLs


def problems_of(live: Credential, asked: Aim) -> dict[str, list[str]]:
    return {
        step.stage: [problem.code for problem in checked(step, asked, NOW, MINUTE)[1] if problem.severity == "error"]
        for step in steps(live, asked)
    }


def test_crls_of_both_cas_as_long_as_both_are_trusted() -> None:
    live, asked = credential(FIRST, OLD, crl=crl(OLD)), aim("drop", credential(None, NEW, crl=crl(NEW)))
    trust, drop = steps(live, asked)
    assert {each.issuer for each in read_crls(trust.credential.crl or b"", where="")} == {"CN=old CA", "CN=new CA"}
    assert drop.credential.crl == crl(NEW)
    assert problems_of(live, asked) == {"trust": [], "drop": []}


def test_a_ca_of_the_same_name_has_crls_of_its_own() -> None:
    again = PKI.issue("old CA", ca=True, key="P-256#again")
    ours, theirs = PKI.crl(again).pem, crl(OLD)
    (trust, __) = steps(credential(FIRST, OLD, crl=theirs), aim("drop", credential(None, again, crl=ours)))
    assert {each.pem for each in read_crls(trust.credential.crl or b"", where="")} == {ours, theirs}
    newer = PKI.crl(OLD, days=(0, 9)).pem  # the old CA stays beside another that comes
    (trust, __) = steps(credential(FIRST, OLD, THIRD, crl=crl(OLD, THIRD)), aim("drop", credential(None, OLD, NEW, crl=newer + crl(NEW))))
    assert {each.pem for each in read_crls(trust.credential.crl or b"", where="")} == {newer, crl(NEW), crl(THIRD)}


@pytest.mark.parametrize(
    ("before", "after", "given", "expected"),
    [
        (crl(OLD), None, None, {"trust": ["crl_incomplete"], "drop": []}),
        (None, crl(NEW), None, {"trust": ["crl_incomplete"], "drop": []}),
        (None, crl(NEW), crl(OLD), {"trust": [], "drop": []}),
        (PKI.crl(OLD, days=(-9, -1)).pem, crl(NEW), None, {"trust": ["crl_expired"], "drop": []}),
        (PKI.crl(OLD, days=(-9, -1)).pem, crl(NEW), crl(OLD), {"trust": [], "drop": []}),  # a newer one was given
        (crl(OLD), PKI.crl(NEW, days=(-9, -1)).pem, None, {"trust": ["crl_expired"], "drop": ["crl_expired"]}),
        (None, None, None, {"trust": [], "drop": []}),
    ],
)
def test_what_would_cut_off_good_peers_never_gets_in(
    before: bytes | None, after: bytes | None, given: bytes | None, expected: dict[str, list[str]]
) -> None:
    live = credential(FIRST, OLD, crl=before)
    asked = aim("drop", credential(None, NEW, crl=after), credential(None, OLD, crl=given))
    assert problems_of(live, asked) == expected
