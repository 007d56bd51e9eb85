# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which events follow from a state of a cluster and the next one, and from the clock; and that none comes twice."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.observed import Handshake, HeldCredential, Observed, Refused
from ansible_collections.meshops.istio.plugins.module_utils.events.memory import Memory, memory_of
from ansible_collections.meshops.istio.plugins.module_utils.events.occasions import Occasion, event
from ansible_collections.meshops.istio.plugins.module_utils.events.options import settings_of
from ansible_collections.meshops.istio.plugins.module_utils.events.world import NAMING, World
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import GATEWAY, SECRET
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected
from ansible_collections.meshops.istio.tests.unit.diagnosis.sets import INGRESS
from ansible_collections.meshops.istio.tests.unit.tls.tls_pki import NOW, Issued, Pki, key_pem

Manifest = dict[str, Any]
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
PKI = Pki()
ROOT = PKI.issue("root", ca=True, days=(-10, 3000))
OLD = PKI.issue("httpbin.example.com", ROOT, days=(-10, 90))
NEW = PKI.issue("httpbin.example.com", ROOT, key="P-256#new", days=(0, 100))
GATEWAYS = [{**one, "apiVersion": "networking.istio.io/v1"} for one in yaml.safe_load_all(INGRESS) if one["kind"] == "Gateway"]
POD = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {"name": "ingress-0", "namespace": "istio-system", "labels": {"istio": "ingressgateway"}},
    "spec": {"containers": [{"name": "istio-proxy"}]},
}
OURS = "meshops.istio"


def secret(
    one: Issued, *, by: str = OURS, uid: str = "1", at: str = "2026-01-01T00:00:00Z", name: str = "httpbin-credential", **more: bytes
) -> Manifest:
    """As the API server has it; `more` are further keys, with a dot where there is an underscore."""
    data = {"tls.crt": one.pem, "tls.key": key_pem(one.key), **{key.replace("_", "."): value for key, value in more.items()}}
    owned = {"f:data": {f"f:{key}": {} for key in data}}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": "istio-system",
            "uid": uid,
            "managedFields": [{"manager": by, "time": at, "fieldsV1": owned}],
        },
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


@dataclass
class Watched:
    """A world with a clock, in which everything was listed."""

    options: Manifest = field(default_factory=dict)
    state: str = ""
    clock: Any = NOW
    world: World = field(init=False)

    def __post_init__(self) -> None:
        settings = settings_of(self.options)
        feeds = [(SECRET, "istio-system"), *((kind, None) for kind in NAMING)]
        memory = memory_of(self.state, "production", "state") if self.state else Memory("production")
        self.world = World(memory, settings.rules, feeds, settings.credentials, settings.settle, settings.remind_after)

    def begin(self, *secrets: Manifest, gateways: list[Manifest] = GATEWAYS) -> Watched:
        self.list(*secrets)
        for kind in NAMING:
            self.world.listed(kind, None, gateways if kind is GATEWAY else [], self.clock)
        self.world.found([POD])
        return self

    def list(self, *secrets: Manifest) -> None:
        self.world.listed(SECRET, "istio-system", secrets, self.clock)

    def put(self, item: Manifest) -> list[Occasion]:
        self.world.put(item, self.clock)
        return self.told()

    def told(self, after: timedelta = SECOND) -> list[Occasion]:
        self.clock += after
        return self.world.due(self.clock)

    def types(self, after: timedelta = SECOND) -> list[str]:
        return [one.type for one in self.told(after)]

    def saved(self) -> str:
        return self.world.memory.text()


def test_nothing_is_told_of_a_cluster_in_which_nothing_happens() -> None:
    watched = Watched().begin(secret(OLD))
    assert [watched.types(DAY / 24) for __ in range(30)] == [[]] * 30


def test_nothing_is_told_before_everything_is_known() -> None:
    watched = Watched()
    watched.list()
    watched.world.listed(GATEWAY, None, GATEWAYS, watched.clock)
    assert watched.told(DAY) == []
    watched.begin()
    assert watched.types() == [] and watched.types(20 * SECOND) == ["credential_missing"]


@pytest.mark.parametrize(
    ("after", "foreign"),
    [
        (secret(NEW, by="kubectl-edit"), ["kubectl-edit"]),
        (secret(NEW), None),
        # the pair is ours, the CA beside it somebody else's
        (secret(OLD, by="kubectl-edit", ca_crt=ROOT.pem), ["kubectl-edit"]),
        # a key that istiod does not read
        (secret(OLD, by="kubectl-edit", notes=b"x"), None),
        (secret(NEW, by="cert-manager"), None),
    ],
    ids=["another pair", "our own", "a CA", "an unread key", "a manager of ours"],
)
def test_a_change_is_told_where_somebody_else_made_it(after: Manifest, foreign: list[str] | None) -> None:
    watched = Watched({"own_managers": ["cert-manager"]}).begin(secret(OLD))
    found = watched.put(after)
    assert [one.facts["by"] for one in found] == ([foreign] if foreign else [])
    assert watched.put(after) == [] and watched.told() == []  # a watch that was resumed may repeat itself
    watched.list(after)
    assert watched.told() == []


def test_a_change_says_what_was_and_what_is() -> None:
    (found,) = Watched().begin(secret(OLD)).put(secret(NEW, by="helm"))
    facts = found.facts
    assert (facts["previous_fingerprint"], facts["fingerprint"]) == (OLD.certificate.fingerprint, NEW.certificate.fingerprint)
    assert facts["changed_keys"] == ["tls.crt", "tls.key"] and facts["days_left"] == 100
    assert facts["namespace"] == "istio-system" and facts["credential"] == "httpbin-credential"
    told = event(found, "production", NOW, ["prod"])
    assert told["type"] == "credential_changed" and told["cluster"] == "production" and told["meta"] == {"hosts": ["prod"]}


def test_a_key_that_is_gone_is_somebody_elses_doing_unless_we_have_written_since() -> None:
    before = secret(OLD, ca_crt=ROOT.pem)
    foreign = Watched().begin(before).put(secret(OLD))
    assert [one.facts["changed_keys"] for one in foreign] == [["ca.crt"]] and foreign[0].facts["by"] == []
    assert Watched().begin(before).put(secret(OLD, at="2026-01-02T00:00:00Z")) == []


def test_what_a_secret_loses_as_a_whole_is_told() -> None:
    empty = {**secret(OLD, by="kubectl-edit"), "data": {"other": "eA=="}}
    (found,) = Watched().begin(secret(OLD)).put(empty)
    assert found.type == "credential_changed" and found.facts["fingerprint"] is None


def test_a_rotation_of_ours_is_no_news() -> None:
    watched = Watched().begin(secret(OLD))
    during = secret(NEW)
    during["data"] |= {"previous.tls.crt": base64.b64encode(OLD.pem).decode(), "previous.tls.key": "eA=="}
    assert watched.put(during) == [] and watched.put(secret(NEW)) == []


def test_a_deletion_is_told_once_whoever_hears_of_it_first() -> None:
    watched = Watched().begin(secret(OLD))
    watched.world.gone(secret(OLD))
    (found,) = watched.told()
    assert found.type == "credential_deleted" and found.facts["fingerprint"] == OLD.certificate.fingerprint
    assert found.facts["used_by"] == ["Gateway default/mygateway"] and "still names" in found.facts["message"]
    watched.list()
    assert watched.types() == [] and watched.types(21 * SECOND) == ["credential_missing"]
    assert watched.types(DAY) == []


def test_what_went_and_came_between_two_looks_is_told_as_both() -> None:
    watched = Watched().begin(secret(OLD))
    watched.world.gone(secret(OLD))
    watched.world.put(secret(NEW, uid="2", by="kubectl"), watched.clock)
    assert watched.types() == ["credential_deleted"]
    assert [one.type for one in watched.put(secret(OLD, uid="2", by="kubectl"))] == ["credential_changed"]


def test_what_happened_while_nobody_watched_is_told_from_the_state() -> None:
    state = Watched().begin(secret(OLD), secret(OLD, name="other")).saved()
    watched = Watched(state=state).begin(secret(NEW, by="kubectl"))
    assert sorted(watched.types()) == ["credential_changed", "credential_deleted"]
    assert Watched(state=watched.saved()).begin(secret(NEW, by="kubectl")).types(DAY) == []


def test_a_missing_credential_is_told_when_it_stays_missing() -> None:
    watched = Watched().begin()
    assert watched.types() == []
    (found,) = watched.told(20 * SECOND)
    assert found.type == "credential_missing" and found.facts["credential"] == "httpbin-credential"
    assert found.facts["object"]["name"] == "mygateway" and found.facts["field"] == "spec.servers[0].tls.credentialName"
    assert "expected Secret httpbin-credential in istio-system" in found.facts["message"]
    assert Watched(state=watched.saved()).begin().types(DAY) == []  # a restart
    assert watched.put(secret(OLD)) == []
    watched.world.gone(secret(OLD))
    assert watched.types() == ["credential_deleted"] and watched.types(21 * SECOND) == ["credential_missing"]


def test_a_gateway_that_is_written_before_its_credential_is_no_event() -> None:
    watched = Watched().begin(gateways=[])
    assert watched.put(GATEWAYS[0]) == [] and watched.put(secret(OLD)) == [] and watched.types(DAY) == []


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        ({"min_remaining": "30d", "spread": "0d"}, {60: "due", 80: "emergency", 90: "expired"}),
        ({"min_remaining": "30d", "spread": "0d", "emergency_remaining": "1d"}, {60: "due", 89: "emergency", 90: "expired"}),
        ({"renewal_credentials": [{"name": "httpbin-credential", "min_remaining": "50d", "spread": "0d"}]}, {40: "due", 80: "emergency"}),
        ({"freezes": [{"from": "2020-01-01", "until": "2100-01-01"}]}, {80: "emergency", 90: "expired"}),
    ],
)
def test_a_certificate_that_expires_is_told_once_a_stage(options: Manifest, stages: dict[int, str]) -> None:
    watched = Watched(options).begin(secret(OLD))
    found = {}
    for day in range(1, 92):
        for one in watched.told(DAY):
            assert one.type == "credential_expires" and one.facts["part"] == "certificate"
            found[day] = one.facts["stage"]
    assert found.items() >= stages.items() and len(found) in (len(stages), 3)


def test_an_expiry_says_what_ends_and_ends_with_a_renewal() -> None:
    watched = Watched({"min_remaining": "95d", "spread": "0d"}).begin(secret(OLD))
    (found,) = watched.told()
    assert (found.facts["fingerprint"], found.facts["days_left"], found.facts["stage"]) == (OLD.certificate.fingerprint, 89, "due")
    assert (
        found.facts["message"]
        == f"the certificate of Secret istio-system/httpbin-credential expires in 89 days, {found.facts['not_after']}"
    )
    longer = PKI.issue("httpbin.example.com", ROOT, days=(0, 300))
    assert watched.put(secret(longer)) == [] and watched.types(DAY) == []
    assert watched.put(secret(OLD))[0].key == found.key  # the old one again is news again


def test_reminders_come_when_they_are_asked_for() -> None:
    watched = Watched({"min_remaining": "30d", "spread": "0d", "remind_after": "1d"}).begin(secret(OLD))
    found = [one.facts.get("reminder") for __ in range(64) for one in watched.told(DAY)]
    assert found == [None, 1, 2, 3, 4]


def test_a_ca_and_a_crl_that_expire_are_told() -> None:
    clients = PKI.issue("clients", ca=True, days=(-10, 5))
    crl = PKI.crl(clients, days=(-1, 9))
    watched = Watched().begin(secret(OLD, ca_crt=clients.pem, ca_crl=crl.pem))
    found = watched.told()
    assert [(one.type, one.facts.get("part")) for one in found] == [("credential_expires", "ca_certificate")]
    later = [one for one in watched.told(7 * DAY + SECOND) if one.type == "crl_expires"]
    assert [one.facts["stage"] for one in later] == ["due"] and later[0].facts["days_left"] == 1 and "clients" in later[0].facts["issuer"]
    assert [one.facts["stage"] for one in watched.told(2 * DAY) if one.type == "crl_expires"] == ["expired"]


# --- what gateways show


def observed(fingerprint: str | None, *, reached: bool = True) -> Observed:
    ref = SECRET.ref("istio-system", "httpbin-credential")
    gateway = GATEWAY.ref("default", "mygateway")
    one = Handshake(gateway, "spec.servers[0]", "httpbin.example.com", "192.0.2.1:443", (ref,), fingerprint, reached=reached)
    return Observed((one,))


def test_another_certificate_is_told_when_a_second_look_confirms_it() -> None:
    watched = Watched().begin(secret(OLD))
    right, wrong = OLD.certificate.fingerprint, NEW.certificate.fingerprint

    def look(seen: Observed) -> list[Occasion]:
        watched.world.observe(watched.world.view(watched.clock), seen)
        return watched.told()

    assert look(observed(wrong)) == [] and watched.world.is_doubtful
    assert look(observed(right)) == [] and not watched.world.is_doubtful
    assert look(observed(wrong)) == []
    (found,) = look(observed(wrong))
    facts = found.facts
    assert found.type == "credential_not_served" and facts["host"] == "httpbin.example.com" and facts["credential"] == "httpbin-credential"
    assert (facts["expected_fingerprint"], facts["served_fingerprint"]) == (right, wrong)
    assert look(observed(wrong)) == [] and look(observed(None, reached=False)) == [] and look(observed(wrong)) == []
    restarted = Watched(state=watched.saved()).begin(secret(OLD))
    assert restarted.told() == []
    assert look(observed(right)) == [] and look(observed(wrong)) == [] and len(look(observed(wrong))) == 1


def test_what_is_being_rotated_is_not_judged() -> None:
    rotating = secret(NEW)
    rotating["metadata"]["annotations"] = {"meshops.istio/rotation": "{}"}
    watched = Watched().begin(rotating)
    for __ in range(3):
        watched.world.observe(watched.world.view(watched.clock), observed(OLD.certificate.fingerprint))
        assert watched.told() == []


def test_what_proxies_hold_and_refuse_is_told() -> None:
    watched = Watched().begin(secret(OLD))
    ref = SECRET.ref("istio-system", "httpbin-credential")
    seen = Observed(
        held=(HeldCredential("ingress-0", ref, NEW.certificate.fingerprint, True), HeldCredential("ingress-1", ref, None, False)),
        refused=(Refused("ingress-0", "listener 0.0.0.0_8443", "bad filter chain"),),
    )
    for __ in range(2):
        watched.world.observe(watched.world.view(watched.clock), seen)
    found = {one.facts["proxy"] + " " + one.type: one.facts for one in watched.told()}
    assert found.keys() == {"ingress-0 credential_not_served", "ingress-1 credential_not_served", "ingress-0 update_refused"}
    assert found["ingress-0 update_refused"]["detail"] == "bad filter chain"
    watched.world.observe(watched.world.view(watched.clock), Observed(unread=("ingress-0", "ingress-1")))
    assert watched.told() == []
    for __ in range(2):
        watched.world.observe(watched.world.view(watched.clock), seen)
    assert watched.told() == []


# --- what stays out


def test_no_key_is_in_events_memory_or_what_is_kept() -> None:
    watched = Watched({"min_remaining": "95d"}).begin(secret(OLD))
    told = [*watched.told(), *watched.put(secret(NEW, by="kubectl"))]
    watched.world.gone(secret(NEW))
    told += watched.told()
    assert len(told) == 3
    everything = (
        json.dumps([event(one, "production", NOW) for one in told]) + watched.saved() + repr(Watched().begin(secret(OLD)).world.objects)
    )
    for one in (OLD, NEW):
        body = key_pem(one.key).decode().splitlines()[1]
        assert body not in everything and base64.b64encode(key_pem(one.key)).decode()[:60] not in everything
    assert "PRIVATE KEY" not in everything


def test_credentials_that_nobody_asked_for_are_passed_over() -> None:
    watched = Watched({"credentials": ["shop-*"], "min_remaining": "95d"}).begin(secret(OLD))
    assert watched.put(secret(NEW, by="kubectl")) == [] and watched.types(DAY) == []
    watched.world.gone(secret(NEW))
    assert watched.types(DAY) == []


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 2}', '{"format": 1, "cluster": "a", "known": {"x": {}}, "told": {}}'])
def test_a_state_file_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Rejected, match="expected what an earlier run"):
        memory_of(text, "a", "state_file x")
    with pytest.raises(Rejected, match="found that of 'b'"):
        memory_of(Memory("b").text(), "a", "state_file x")
