# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan says of a rotation: what changes, whom it concerns, what breaks, and when it is no longer the approved one."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.rotation_plan import RotationPlan, approval_problems, make_plan, plan_id
from ansible_collections.meshops.istio.plugins.module_utils.istio.served import Objects, Users
from ansible_collections.meshops.istio.tests.unit.tls.tls_pki import NOW, Issued, Pki, key_pem

PKI = Pki()
ROOT = PKI.issue("root", ca=True, key="P-256#root")
OTHER = PKI.issue("root", ca=True, key="P-256#other")
A = "shop.example.com"
B = "pay.example.com"


def gateway(*hosts: str, mode: str = "SIMPLE", name: str = "g", port: int = 443, **tls: Any) -> dict[str, Any]:
    server = {"port": {"number": port}, "hosts": list(hosts), "tls": {"mode": mode, "credentialName": "c", **tls}}
    return {"metadata": {"name": name, "namespace": "apps"}, "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]}}


def rule(**tls: Any) -> dict[str, Any]:
    spec = {"host": "db.example.net", "trafficPolicy": {"tls": {"mode": "MUTUAL", "credentialName": "c", **tls}}}
    return {"metadata": {"name": "r", "namespace": "istio-system"}, "spec": spec}


def pair(issued: Issued, *chain: Issued, cas: tuple[Issued, ...] = ()) -> dict[str, bytes]:
    data = {"tls.crt": b"".join(one.pem for one in (issued, *chain)), "tls.key": key_pem(issued.key)}
    return {**data, **({"ca.crt": b"".join(ca.pem for ca in cas)} if cas else {})}


def leaf(*hosts: str, issuer: Issued = ROOT, **more: Any) -> Issued:
    return PKI.issue(hosts[0], issuer, dns=hosts, **more)


def made(
    old: dict[str, bytes] | None, new: dict[str, bytes], *gateways: dict[str, Any], rules: Any = (), lenient: bool = False
) -> RotationPlan:
    servers, presented = Users(Objects(gateways, tuple(rules))).of("c", "istio-system")
    return make_plan(
        "c",
        "istio-system",
        live={"c": old} if old else {},
        desired={"c": new},
        changed=old != new,
        servers=servers,
        presented=presented,
        proxies={"istio=ingressgateway": 2},
        metadata={},
        lenient=lenient,
    )


def codes(plan: RotationPlan) -> list[tuple[str, str]]:
    return [(problem.code, problem.severity) for problem in plan.problems]


def test_a_renewal_breaks_nothing() -> None:
    plan = made(pair(leaf(A, key="P-256#1"), ROOT), pair(leaf(A, key="P-256#2"), ROOT), gateway(A))
    assert plan.action == "rotate" and codes(plan) == []
    text = plan.text()
    assert "becomes" in text and "Gateway apps/g, port 443 (shop.example.com)" in text and "2 of istio=ingressgateway" in text


def test_the_issuer_need_not_be_in_the_chain() -> None:
    assert codes(made(pair(leaf(A)), pair(leaf(A)), gateway(A))) == []


@pytest.mark.parametrize("chained", [True, False])
def test_another_issuer_is_a_warning(chained: bool) -> None:
    from cryptography import x509

    def issued(ca: Issued) -> Issued:
        return leaf(A, issuer=ca, extensions=(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()),))

    old, new = ((issued(ca), ca) for ca in (ROOT, OTHER))
    plan = made(pair(*old) if chained else pair(old[0]), pair(*new) if chained else pair(new[0]), gateway(A))
    assert codes(plan) == [("issuer_changed", "warning")]


@pytest.mark.parametrize(("lenient", "severity"), [(False, "error"), (True, "warning")])
def test_a_host_that_is_lost(lenient: bool, severity: str) -> None:
    plan = made(pair(leaf(A, B)), pair(leaf(A)), gateway(A, B), lenient=lenient)
    assert codes(plan) == [("host_no_longer_covered", severity)]
    assert "names that go: pay.example.com" in plan.text()


def test_a_host_that_was_never_covered_is_not_its_fault() -> None:
    assert codes(made(pair(leaf(A)), pair(leaf(A)), gateway(A, B))) == [("host_not_covered", "warning")]


@pytest.mark.parametrize("host", ["*", "apps/shop.example.com", "./shop.example.com", "SHOP.example.com"])
def test_hosts_as_gateways_write_them(host: str) -> None:
    assert codes(made(pair(leaf(A, B)), pair(leaf(A)), gateway(host))) == []


def test_a_host_of_a_server_without_the_credential_does_not_count() -> None:
    other = gateway(B, name="h")
    other["spec"]["servers"][0]["tls"]["credentialName"] = "another"
    assert codes(made(pair(leaf(A, B)), pair(leaf(A)), gateway(A), other)) == []


def test_a_ca_that_goes() -> None:
    old, new = pair(leaf(A), cas=(ROOT, OTHER)), pair(leaf(A), cas=(OTHER,))
    plan = made(old, new, gateway(A, mode="MUTUAL"))
    assert ("ca_dropped", "warning") in codes(plan)
    assert "CA that goes" in plan.text()
    assert codes(made(new, old, gateway(A, mode="MUTUAL"))) == []


def test_the_key_is_told() -> None:
    same = pair(leaf(A, key="P-256#1")), pair(leaf(A, key="P-256#1"))
    assert "the private key stays the same" in made(*same, gateway(A)).changes()
    assert "the key was ECDSA P-256 and becomes RSA 2048" in " ".join(
        made(pair(leaf(A)), pair(leaf(A, key="RSA 2048")), gateway(A)).changes()
    )


def test_a_new_credential() -> None:
    plan = made(None, pair(leaf(A)), gateway(A))
    assert plan.action == "create" and codes(plan) == [] and plan.before.facts(NOW) is None


def test_origination_is_named() -> None:
    plan = made(pair(leaf(A)), pair(leaf(A)), rules=[rule()])
    assert "DestinationRule istio-system/r (db.example.net)" in plan.text()
    assert codes(plan) == []


def test_no_key_is_in_a_plan() -> None:
    new = pair(leaf(A))
    plan = made(pair(leaf(A)), new, gateway(A))
    shown = repr(plan.as_result(NOW)) + plan.text() + repr(plan)
    assert "PRIVATE" not in shown and new["tls.key"].decode().splitlines()[1] not in shown


# --- approval ----------------------------------------------------------------------------------------------------------------


def approved(*plans: RotationPlan) -> dict[str, Any]:
    return {"id": plan_id(plans), "rotations": [plan.as_result(NOW) for plan in plans]}


OLD, NEW = pair(leaf(A, key="P-256#1")), pair(leaf(A, key="P-256#2"))


def test_the_approved_plan_is_taken() -> None:
    plan = made(OLD, NEW, gateway(A))
    assert approval_problems(approved(plan), [plan]) == ()
    assert approval_problems(plan_id([plan]), [plan]) == ()
    more = RotationPlan(**{**plan.__dict__, "proxies": {"istio=ingressgateway": 3}})
    assert approval_problems(approved(plan), [more]) == ()  # pods come and go


@pytest.mark.parametrize(
    ("now", "what"),
    [
        (lambda: made(pair(leaf(A)), NEW, gateway(A)), "the Secret of istio-system/c"),
        (lambda: made(OLD, pair(leaf(A)), gateway(A)), "the new certificate, key or options of istio-system/c"),
        (
            lambda: made(OLD, NEW, gateway(A), gateway(A, name="h", port=8443)),
            "the Gateways or DestinationRules that use it of istio-system/c",
        ),
    ],
)
def test_what_has_changed_since_is_said(now: Any, what: str) -> None:
    (problem,) = approval_problems(approved(made(OLD, NEW, gateway(A))), [now()])
    assert problem.code == "plan_outdated" and what in problem.message


@pytest.mark.parametrize("given", ["0" * 64, {}, {"id": None}, 7, None, []])
def test_another_plan_is_refused(given: Any) -> None:
    assert [problem.code for problem in approval_problems(given, [made(OLD, NEW, gateway(A))])] == ["plan_outdated"]


# --- users -------------------------------------------------------------------------------------------------------------------


def users(*gateways: dict[str, Any], **more: Any) -> list[tuple[str, int, tuple[str, ...], bool]]:
    servers, __ = Users(Objects(gateways, **more)).of("c", "istio-system")
    return [(one.kind, one.port, one.hosts, one.pair) for one in servers]


def test_servers_are_found_by_what_istiod_reads() -> None:
    assert users(gateway("apps/x.example.com", "*.example.com")) == [("Gateway", 443, ("x.example.com", "*.example.com"), True)]
    assert users(gateway(A, mode="PASSTHROUGH")) == []
    assert users(gateway(A, credentialName="c-cacert")) == []


def test_a_ca_alone_is_no_pair() -> None:
    servers, __ = Users(Objects((gateway(A, mode="MUTUAL", credentialName="d", caCertCredentialName="c-cacert"),))).of(
        "c-cacert", "istio-system"
    )
    assert [one.pair for one in servers] == [False]


def test_listeners_of_the_gateway_api() -> None:
    listener = {"name": "l", "port": 443, "hostname": A, "tls": {"certificateRefs": [{"name": "c"}]}}
    one = {"metadata": {"name": "g", "namespace": "istio-system"}, "spec": {"listeners": [listener]}}
    assert users(api_gateways=(one,)) == [("Gateway (Gateway API)", 443, (A,), True)]


def staged(stage: str, old: dict[str, bytes], new: dict[str, bytes]) -> RotationPlan:
    servers, presented = Users(Objects((gateway(A, mode="MUTUAL"),), ())).of("c", "istio-system")
    world: dict[str, Any] = {"servers": servers, "presented": presented, "proxies": {}, "metadata": {}}
    return make_plan("c", "istio-system", live={"c": old}, desired={"c": new}, changed=old != new, stage=stage, **world)


def test_each_stage_of_a_ca_rotation_has_a_plan_and_they_are_approved_together() -> None:
    one = leaf(A, key="P-256#1")
    before, both, after = pair(one, cas=(ROOT,)), pair(one, cas=(ROOT, OTHER)), pair(one, cas=(OTHER,))
    plans = [staged("trust", before, both), staged("drop", both, after)]
    assert codes(plans[1]) == []  # that the old CA goes is what was asked for
    assert "stage drop" in plans[1].text() and plans[1].as_result(NOW)["stage"] == "drop"
    approved = {"id": plan_id(plans), "rotations": [plan.as_result(NOW) for plan in plans]}
    assert approval_problems(approved, plans) == ()
    (problem,) = approval_problems(approved, plans[1:])
    assert "istio-system/c (stage trust) is no longer among the rotations" in problem.message
