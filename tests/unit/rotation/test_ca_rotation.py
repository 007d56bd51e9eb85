# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CA rotation as a chain of transactions: interrupted, overtaken, and what peers must see in each stage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.credential import LAYOUTS, Credential, Layout, secrets
from ansible_collections.meshops.istio.plugins.module_utils.istio.rotation_plan import never_written
from ansible_collections.meshops.istio.plugins.module_utils.probes import PROBE_OPTIONS
from ansible_collections.meshops.istio.plugins.module_utils.problems import Problem
from ansible_collections.meshops.istio.plugins.module_utils.rotation.ca_rotation import CA_ROTATION, CaRotation, from_arguments, refusals
from ansible_collections.meshops.istio.plugins.module_utils.rotation.stages import follows, last_tried, stages
from ansible_collections.meshops.istio.plugins.module_utils.rotation.transaction import Rotation, is_same, refs_of
from ansible_collections.meshops.istio.plugins.module_utils.rotation.writes import finishing, restoring, switching
from ansible_collections.meshops.istio.tests.unit.cluster.test_cluster_credentials import Server, codes, foreign, plan, wanted
from ansible_collections.meshops.istio.tests.unit.rotation.test_rotation_writes import MARKER
from ansible_collections.meshops.istio.tests.unit.tls.tls_pki import NOW, Issued, Pki, key_pem
from cryptography import x509

PKI = Pki()
OLD, NEW = (PKI.issue(f"{name} CA", ca=True) for name in ("old", "new"))
FIRST, SECOND, CLIENT = (PKI.issue("a.example.com", OLD, key=f"P-256#{name}") for name in ("first", "second", "client"))


def parts(leaf: Issued, ca: Issued) -> dict[str, Any]:
    return {"certificate": leaf.pem, "private_key": key_pem(leaf.key), "ca_certificate": ca.pem}


def options(until: str = "drop", **more: Any) -> dict[str, Any]:
    return {"ca_rotation": {**dict.fromkeys(CA_ROTATION["options"]), "until_stage": until, **more}, "not_before_tolerance": "60s"}


def peer(**more: Any) -> dict[str, Any]:
    client = {"client_certificate": CLIENT.pem.decode(), "client_private_key": key_pem(CLIENT.key).decode()}
    return {**dict.fromkeys(PROBE_OPTIONS), "name": None, "host": "a.example.com", **client, **more}


def asked(layout: Layout, **more: Any) -> Rotation:
    final = wanted(layout, parts=parts(SECOND, NEW))
    staged, problems = from_arguments(options(**more), final.credential, "", NOW)
    assert not problems
    return Rotation(final, [], refs=refs_of(final), staged=staged)


def at_first(layout: Layout) -> Server:
    server = Server()
    server.carry_out(plan(server, wanted(layout, parts=parts(FIRST, OLD))))
    return server


def chain_of(server: Server, layout: Layout, **more: Any) -> list[Rotation]:
    chain, problems = stages(asked(layout, **more), server.objects, NOW)
    assert {problem.code for problem in problems} <= {"peers_not_probed", "ca_bundle_flaws"}
    return chain


def write(server: Server, one: Rotation, *, end: bool = True) -> None:
    server.carry_out(switching(plan(server, one.wanted), dict(server.objects), MARKER, keep=True))
    if end:
        server.carry_out(finishing(one.refs, dict(server.objects)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_run_goes_on_where_another_ended(layout: Layout) -> None:
    server = at_first(layout)
    left = ["trust", "switch", "drop"]
    while left:
        chain = chain_of(server, layout)
        assert [one.stage for one in chain] == left
        write(server, chain[0])
        left = left[1:]
    (last,) = chain_of(server, layout)
    assert last.staged and last.staged.found == "drop"
    assert not any(each.changed for each in plan(server, last.wanted).plans)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_written_and_not_proven_is_taken_up(layout: Layout) -> None:
    """It counts as the stage that it led to only when it was proven."""
    server = at_first(layout)
    for stage in ("trust", "switch", "drop"):
        write(server, chain_of(server, layout)[0], end=False)
        first = chain_of(server, layout)[0]
        assert first.stage == stage and is_same(first, server.objects, secrets(first.wanted.credential))
        server.carry_out(finishing(first.refs, dict(server.objects)))


def test_what_was_written_and_is_no_longer_wanted_is_not_taken_up() -> None:
    """Killed while it dropped the old CA, and now asked to stop before that: the run undoes it first."""
    server = at_first("split")
    for __ in range(2):
        write(server, chain_of(server, "split")[0])
    write(server, chain_of(server, "split")[0], end=False)
    (stopped,) = chain_of(server, "split", until="switch")
    assert stopped.stage == "switch" and not is_same(stopped, server.objects, secrets(stopped.wanted.credential))


def test_what_goes_back_is_in_the_stage_before() -> None:
    server = at_first("split")
    write(server, chain_of(server, "split")[0])
    write(server, chain_of(server, "split")[0], end=False)
    server.carry_out(restoring(chain_of(server, "split")[0].refs, dict(server.objects)))
    assert [one.stage for one in chain_of(server, "split")] == ["switch", "drop"]


def test_a_stage_follows_only_on_what_the_one_before_left() -> None:
    server = at_first("split")
    chain = chain_of(server, "split")
    assert follows(chain[0], server.objects) == ""
    write(server, chain[0])
    assert follows(chain[1], server.objects) == ""
    server.carry_out(plan(server, wanted("split", parts=parts(FIRST, OLD))))
    assert follows(chain[1], server.objects) == "x-cacert was changed by something else after stage trust"


def test_how_a_chain_ended() -> None:
    chain = chain_of(at_first("tls"), "tls")
    for one, outcome in zip(chain, ("rotated", "rolled_back", "not_tried"), strict=True):
        one.outcome = outcome  # type: ignore[assignment]
    assert last_tried(chain) is chain[1]
    chain[1].outcome = chain[2].outcome = "unchanged"
    assert last_tried(chain) is chain[2]


def test_a_bundle_of_both_that_no_secret_holds() -> None:
    """Each for itself is small enough."""
    server, name = Server(), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x" * 50)] * 3500)
    large = [PKI.issue("", ca=True, subject=name, key=f"P-256#large{number}") for number in range(2)]
    server.carry_out(plan(server, wanted("generic", parts=parts(FIRST, large[0]))))
    final = wanted("generic", parts=parts(FIRST, large[1]))
    staged, __ = from_arguments(options(), final.credential, "", NOW)
    __, problems = stages(Rotation(final, [], refs=refs_of(final), staged=staged), server.objects, NOW)
    found = [(problem.code, problem.where) for problem in problems if problem.severity == "error"]
    assert found == [("too_large", f"ca_rotation, stage {stage}") for stage in ("trust", "switch")]


def test_one_without_stages_is_itself() -> None:
    one = replace(asked("tls"), staged=None)
    assert stages(one, {}, NOW) == ([one], [])


@pytest.mark.parametrize("stage", ["trust", "switch"])
def test_a_staple_of_somebody_else_is_found_before_anything_is_written(stage: str) -> None:
    """Left beside the new certificate, it would make Envoy refuse the whole update."""
    server = at_first("tls")
    pair = {"tls.crt": FIRST.pem, "tls.key": key_pem(FIRST.key)}  # without which the API server takes nothing of this type
    foreign(server, {**pair, "tls.ocsp-staple": b"of the first"}, type="kubernetes.io/tls")
    (one,) = (one for one in chain_of(server, "tls") if one.stage == stage)
    # as long as its certificate stays, it stays
    assert set(codes(plan(server, one.wanted))) == (set() if stage == "trust" else {"foreign_key", "conflict"})


@pytest.mark.parametrize(("lenient", "severity"), [(True, "warning"), (False, "error")])
def test_what_is_wrong_with_a_stage_is_as_severe_as_asked_but_for_what_cuts_off_everybody(lenient: bool, severity: str) -> None:
    server, expired = at_first("tls"), PKI.issue("new CA", ca=True, days=(-9, -1))
    final = wanted("tls", parts={**parts(SECOND, expired), "crl": PKI.crl(expired, days=(-9, -1)).pem})
    staged, __ = from_arguments(options(), final.credential, "", NOW)
    one = Rotation(final, [], refs=refs_of(final), staged=staged, lenient=lenient)
    found = {(problem.code, problem.severity) for problem in stages(one, server.objects, NOW)[1] if problem.code != "peers_not_probed"}
    assert ("ca_expired", severity) in found and ("crl_incomplete", "error") in found


# --- peers


def peers(**more: Any) -> CaRotation:
    staged, problems = from_arguments(options(**more), Credential("c", "n", "tls"), "", NOW)
    assert staged and not problems
    return staged


def test_what_peers_must_see_in_each_stage() -> None:
    staged = peers(old_peers=[peer(expect={"status": [200]})], new_peers=[peer(expect={"status": [200]})])
    for stage in ("trust", "switch"):
        passing, refused = staged.proofs(stage)  # type: ignore[arg-type]
        assert not refused and [(one.name, one.expect.status, one.expect.fails) for one in passing] == [
            ("new peer: a.example.com", (200,), False),
            ("old peer: a.example.com", (200,), False),
        ]
    (accepted,), (kept_out,) = staged.proofs("drop")
    assert accepted.expect.status == (200,) and kept_out.name == "old peer refused: a.example.com"
    assert kept_out.expect.failure == ("client_certificate_refused",) and not kept_out.expect.status
    assert accepted.options["consecutive"] == 3  # a replica that stays behind is found


@pytest.mark.parametrize(("scheme", "status", "failure"), [("http", (503,), ()), ("tcp", (), ("connection_reset",))])
def test_how_an_egress_gateway_tells_that_it_refused_a_server(scheme: str, status: tuple[int, ...], failure: tuple[str, ...]) -> None:
    plain = peer(scheme=scheme, port=80, client_certificate=None, client_private_key=None)
    (probe,), problems = refusals([plain], "")
    assert (probe.expect.status, probe.expect.failure, problems) == (status, failure, [])


def test_that_nobody_without_a_certificate_gets_in_proves_nothing() -> None:
    __, problems = refusals([peer(client_certificate=None, client_private_key=None)], "")
    assert [(problem.code, problem.where) for problem in problems] == [("no_client_certificate", "refused")]


def test_without_peers_it_is_told_what_nothing_shows() -> None:
    __, problems = stages(asked("tls"), at_first("tls").objects, NOW)
    (told,) = (problem for problem in problems if problem.code == "peers_not_probed")
    assert told.severity == "warning" and "no old_peers and no new_peers" in told.message


# --- arguments


@pytest.mark.parametrize(
    ("given", "code", "where"),
    [
        ({"old_ca_certificate_path": "/nowhere"}, "file_unreadable", "ca_rotation.old_ca_certificate_path"),
        ({"old_crl": "x"}, "not_pem", "ca_rotation.old_crl"),
        ({"old_certificate": FIRST.pem.decode()}, "incomplete_pair", "ca_rotation"),
        ({"old_certificate": FIRST.pem.decode(), "old_private_key": key_pem(SECOND.key).decode()}, "key_mismatch", ""),
        ({"old_peers": [peer(host=None)]}, "no_host", "ca_rotation.old_peers"),
    ],
)
def test_arguments_that_cannot_be_used(given: dict[str, Any], code: str, where: str) -> None:
    __, problems = from_arguments(options(**given), Credential("c", "n", "tls"), "", NOW)
    assert [problem.code for problem in problems] == [code]
    assert problems[0].where.startswith(where)


def test_what_never_gets_in_stays_an_error() -> None:
    made = [Problem(code, "", "", "", severity) for code in ("crl_expired", "expires_soon") for severity in ("error", "warning")]
    assert never_written(made) == made[:1]
