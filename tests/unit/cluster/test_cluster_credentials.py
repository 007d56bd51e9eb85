# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans for a credential's Secrets, carried out on a model of server-side apply: what istiod reads afterwards is what was asked for.

The model covers what Secrets need (maps that merge by key, forced and unforced applies, updates that take ownership); that
`differences` agrees with a real server about them is test_compare.py's business.
"""

from __future__ import annotations

import base64
import copy
import itertools
import json
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.cluster.credentials import Wanted, plan_credential, refs
from ansible_collections.meshops.istio.plugins.module_utils.istio.credential import (
    LAYOUTS,
    READ_KEYS,
    Credential,
    Layout,
    decode,
    read_as_istiod,
    secrets,
)
from ansible_collections.meshops.istio.plugins.module_utils.istio.keepers import LAST_APPLIED
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import SECRET, Ref
from ansible_collections.meshops.istio.plugins.module_utils.objects.ownership import FIELD_MANAGER
from ansible_collections.meshops.istio.plugins.module_utils.objects.plan import Unit

CANARY = b"c4n4ry-"
PAIR = {"certificate": CANARY + b"crt", "private_key": CANARY + b"key"}
CA = {"ca_certificate": CANARY + b"ca"}
CRL = {"crl": CANARY + b"crl"}
FULL = {**PAIR, **CA, **CRL}
Objects = dict[Ref, dict[str, Any]]


class Server:
    """Secrets with managedFields, as server-side apply and other writers keep them."""

    def __init__(self) -> None:
        self.objects: Objects = {}
        self.writes = 0

    def fields(self, manifest: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
        metadata = manifest["metadata"]
        labels = {("metadata", "labels", key): value for key, value in (metadata.get("labels") or {}).items()}
        annotations = {("metadata", "annotations", key): value for key, value in (metadata.get("annotations") or {}).items()}
        return {**labels, **annotations, **{("data", key): value for key, value in (manifest.get("data") or {}).items()}}

    def owned(self, live: Mapping[str, Any]) -> dict[str, set[tuple[str, ...]]]:
        def leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Any:
            for key, inner in tree.items():
                if key.startswith("f:"):
                    yield from leaves(inner, (*path, key[2:])) if inner else [(*path, key[2:])]

        return {entry["manager"]: set(leaves(entry["fieldsV1"])) for entry in live["metadata"].get("managedFields", [])}

    def store(
        self, ref: Ref, live: dict[str, Any], fields: Mapping[tuple[str, ...], Any], owned: Mapping[str, set[tuple[str, ...]]]
    ) -> None:
        kept = {name: value for name, value in live["metadata"].items() if name not in ("labels", "annotations", "managedFields")}
        new = {**live, "metadata": kept, "data": {}}
        for path, value in fields.items():
            place = new
            for step in path[:-1]:
                place = place.setdefault(step, {})
            place[path[-1]] = value
        entries = []
        for manager, paths in owned.items():
            tree: dict[str, Any] = {}
            for path in paths:
                place = tree
                for step in path[:-1]:
                    place = place.setdefault(f"f:{step}", {".": {}})
                place[f"f:{path[-1]}"] = {}
            if tree:
                entries.append({"manager": manager, "operation": "Apply", "fieldsV1": tree})
        new["metadata"]["managedFields"] = entries
        self.objects[ref] = new

    def apply(self, manifest: Mapping[str, Any], manager: str = FIELD_MANAGER, *, force: bool = False) -> None:
        self.writes += 1
        ref = Ref("Secret", manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        live = self.objects.get(ref)
        if live is None:
            head = {"name": ref.name, "namespace": ref.namespace, "uid": f"u-{self.writes}"}
            live = {"apiVersion": "v1", "kind": "Secret", "metadata": head, "type": manifest.get("type", "Opaque"), "data": {}}
        assert manifest.get("type", live["type"]) == live["type"], "type: field is immutable"
        if live["type"] == "kubernetes.io/tls":
            assert {"tls.crt", "tls.key"} <= manifest["data"].keys()
        old, asked, owned = self.fields(live), self.fields(manifest), self.owned(live)
        new = {**old, **asked}
        for other, paths in owned.items():
            lost = {path for path, value in asked.items() if path in paths and old.get(path) != value}
            if other != manager and lost:
                assert force, f"conflict with {other}: {lost}"
                paths -= lost
        others = set().union(*(paths for name, paths in owned.items() if name != manager), set())
        for path in owned.get(manager, set()) - asked.keys() - others:
            del new[path]
        assert not live.get("immutable") or {path: new[path] for path in new if path[0] == "data"} == {
            path: old[path] for path in old if path[0] == "data"
        }, "data: field is immutable when `immutable` is set"
        self.store(ref, live, new, {**owned, manager: set(asked)})

    def carry_out(self, unit: Unit) -> None:
        for plan in unit.plans:
            for write in plan.writes:
                if write.verb == "apply":
                    self.apply(write.manifest, force=write.force)
                else:
                    gone = self.objects.pop(Ref("Secret", write.manifest["metadata"]["namespace"], write.manifest["metadata"]["name"]))
                    assert write.uid == gone["metadata"]["uid"]
                    self.writes += 1

    def data(self, name: str) -> dict[str, bytes] | None:
        live = self.objects.get(Ref("Secret", "n", name))
        return None if live is None else decode(live)


def describe(data: Mapping[str, bytes]) -> dict[str, Any]:
    """What may be shown: here, the keys."""
    return {"keys": sorted(data)}


def wanted(layout: Layout = "tls", name: str = "x", *, parts: Mapping[str, bytes] | None = None, **rules: Any) -> Wanted:
    return Wanted(
        Credential(name, "n", layout, **({} if rules.get("absent") else PAIR if parts is None else parts)), f"name {name}: ", **rules
    )


def plan(server: Server, one: Wanted, taken: frozenset[Ref] = frozenset(), going: frozenset[Ref] = frozenset()) -> Unit:
    return plan_credential(one, copy.deepcopy(server.objects), describe, taken, going)


def actions(unit: Unit) -> dict[str, str]:
    return {each.ref.name: each.action for each in unit.plans if each.changed}


def codes(unit: Unit) -> list[str]:
    return [problem.code for each in unit.plans for problem in each.problems]


def done(server: Server, one: Wanted, taken: frozenset[Ref] = frozenset()) -> Unit:
    """Plans, carries out, and finds nothing left to do."""
    unit = plan(server, one, taken)
    assert codes(unit) == []
    server.carry_out(unit)
    again = plan(server, one, taken)
    assert actions(again) == {} and codes(again) == [], "the second run would change something"
    return unit


def istiod_reads(server: Server, name: str = "x") -> tuple[Any, ...]:
    """(certificate, key, CA, CRL) as a MUTUAL server would get them: the CA from `-cacert` where that exists."""
    pair = read_as_istiod(server.data(name) or {})
    twin = server.data(f"{name}-cacert")
    ca = read_as_istiod(twin) if twin is not None else pair
    return pair.certificate, pair.private_key, ca.ca_certificate, ca.ca_crl


def asked(parts: Mapping[str, bytes]) -> tuple[Any, ...]:
    return tuple(parts.get(part) for part in ("certificate", "private_key", "ca_certificate", "crl"))


def foreign(server: Server, data: Mapping[str, bytes], name: str = "x", *, manager: str = "kubectl-create", **more: Any) -> None:
    manifest = {"metadata": {"name": name, "namespace": "n"}, "type": more.pop("type", "Opaque")}
    server.apply({**manifest, "data": {key: base64.b64encode(value).decode() for key, value in data.items()}}, manager, force=True)
    live = server.objects[Ref("Secret", "n", name)]
    live["metadata"].update(more.pop("metadata", {}))
    live.update(more)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("parts", [PAIR, {**PAIR, **CA}, FULL], ids=["pair", "with CA", "with CRL"])
def test_created_then_unchanged_then_deleted(layout: Layout, parts: dict[str, bytes]) -> None:
    server = Server()
    unit = done(server, wanted(layout, parts=parts))
    assert set(actions(unit).values()) == {"created"}
    assert {ref.name: server.data(ref.name) for ref in server.objects} == secrets(Credential("x", "n", layout, **parts))
    assert istiod_reads(server) == asked(parts)
    order = [each.ref.name for each in unit.plans]
    assert order == (["x-cacert", "x"] if layout == "split" and "ca_certificate" in parts else ["x"])
    removal = done(server, wanted(layout, absent=True))
    assert [each.ref.name for each in removal.plans] == list(reversed(order)) and server.objects == {}


@pytest.mark.parametrize(
    ("first", "second", "before", "after"),
    [
        (first, second, before, after)
        for first, second in itertools.product(LAYOUTS, repeat=2)
        for before, after in itertools.product([PAIR, {**PAIR, **CA}, FULL], repeat=2)
    ],
)
def test_every_transition_between_layouts(first: Layout, second: Layout, before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """In place where the type allows it (an Opaque Secret holds everything), and never with a foreign or a forgotten key."""
    server = Server()
    server.apply({"metadata": {"name": "x", "namespace": "n"}, "type": "Opaque", "data": {}}, "somebody")
    done(server, wanted(first, parts=before))
    unit = done(server, wanted(second, parts=after))
    assert istiod_reads(server) == asked(after)
    expected = secrets(Credential("x", "n", second, **after))
    assert {ref.name: server.data(ref.name) for ref in server.objects} == expected
    assert (actions(unit) == {}) == (secrets(Credential("x", "n", first, **before)) == expected)
    # additions to -cacert come before the pair's Secret, removals after it
    order = [each.ref.name for each in unit.plans]
    assert order == (["x-cacert", "x"] if "x-cacert" in expected else ["x", "x-cacert"] if len(order) == 2 else ["x"])


@pytest.mark.parametrize("layout", ["generic", "split"])
def test_a_tls_type_cannot_hold_other_keys(layout: Layout) -> None:
    server = Server()
    done(server, wanted("tls"))
    refused = plan(server, wanted(layout))
    assert (
        codes(refused) == ["needs_replace"]
        and "its type kubernetes.io/tls cannot hold the keys cert, key" in refused.plans[0].problems[0].message
    )
    unit = done(server, wanted(layout, replace=True))
    assert actions(unit) == {"x": "replaced"} and server.data("x") == {"cert": PAIR["certificate"], "key": PAIR["private_key"]}
    assert server.objects[Ref("Secret", "n", "x")]["type"] == "Opaque"


def test_a_new_certificate_is_one_update_in_place() -> None:
    server = Server()
    done(server, wanted())
    uid, writes = server.objects[Ref("Secret", "n", "x")]["metadata"]["uid"], server.writes
    unit = done(server, wanted(parts={"certificate": b"new", "private_key": b"new key"}))
    assert actions(unit) == {"x": "updated"} and server.writes == writes + 1
    assert unit.plans[0].reasons == ("data[tls.crt] differs", "data[tls.key] differs")
    assert server.objects[Ref("Secret", "n", "x")]["metadata"]["uid"] == uid


def test_reasons_name_certificates_by_their_fingerprints() -> None:
    server = Server()
    done(server, wanted())

    def facts(data: Mapping[str, bytes]) -> dict[str, Any]:
        digest = "ab:cd:ef:01:23" if data["tls.crt"] == PAIR["certificate"] else "99:88:77:66:55"
        return {"certificate": {"fingerprint_sha256": digest, "serial": "0A", "not_after": "2027-01-01T00:00:00Z"}}

    unit = plan_credential(wanted(parts={**PAIR, "certificate": b"new"}), server.objects, facts)
    assert unit.plans[0].reasons[0] == "certificate ab:cd:ef:01… replaced by 99:88:77:66… (serial 0A, valid until 2027-01-01T00:00:00Z)"


@pytest.mark.parametrize("what", ["labels", "annotations"])
def test_labels_and_annotations(what: str) -> None:
    server = Server()
    done(server, wanted("split", parts=FULL, **{what: {"a": "1", "b": "2"}}))
    unit = done(server, wanted("split", parts=FULL, **{what: {"a": "9"}}))
    assert actions(unit) == {"x": "updated", "x-cacert": "updated"}
    assert unit.plans[0].reasons == (f"metadata.{what}.a differs", f"metadata.{what}.b no longer wanted")
    for live in server.objects.values():
        theirs = {key: value for key, value in live["metadata"][what].items() if "meshops" not in value and "meshops" not in key}
        assert theirs == {"a": "9"}


# --- what others left ------------------------------------------------------------------------------------------------------------------------

OLD = {"cert": b"old", "key": b"old key", "cacert": b"old ca", "crl": b"old crl"}
OLD_TLS = {"tls.crt": b"old", "tls.key": b"old key", "ca.crt": b"old ca", "ca.crl": b"old crl", "tls.ocsp-staple": b"old staple"}


@pytest.mark.parametrize(
    ("layout", "parts", "there", "expected"),
    [
        ("tls", PAIR, {"cert": b"o", "key": b"o"}, ["cert", "key"]),
        ("tls", PAIR, {"cert": b"o"}, []),  # without key it is not read
        ("tls", PAIR, {"cert": b"", "key": b"o"}, []),
        ("tls", PAIR, {"cacert": b"o"}, ["cacert"]),
        ("tls", PAIR, {"ca.crt": b"o"}, ["ca.crt"]),
        ("tls", PAIR, {"ca.crl": b"o"}, []),  # without a CA it is not read
        ("tls", {**PAIR, **CA}, {"ca.crl": b"o"}, ["ca.crl"]),
        ("tls", {**PAIR, **CA}, {"cacert": b"o", "crl": b"o"}, ["cacert", "crl"]),
        ("tls", PAIR, {"tls.ocsp-staple": b"o"}, ["tls.ocsp-staple"]),
        ("tls", PAIR, {"username": b"o"}, []),
        ("generic", PAIR, {"tls.crt": b"o", "tls.key": b"o", "tls.ocsp-staple": b"o"}, []),  # never read beside cert and key
        ("generic", PAIR, {"ca.crt": b"o"}, ["ca.crt"]),
        ("generic", {**PAIR, **CA}, {"ca.crt": b"o", "ca.crl": b"o"}, []),
        ("generic", {**PAIR, **CA}, {"crl": b"o"}, ["crl"]),
        # what comes to light only once the first are gone
        ("tls", {**PAIR, **CA}, {"cacert": b"o", "crl": b"o", "ca.crl": b"o"}, ["cacert", "crl", "ca.crl"]),
        ("tls", PAIR, {"cacert": b"o", "ca.crt": b"o", "ca.crl": b"o"}, ["cacert", "ca.crt", "ca.crl"]),
        ("tls", PAIR, {"cert": b"o", "key": b"o", "tls.ocsp-staple": b"o"}, ["cert", "key", "tls.ocsp-staple"]),
    ],
)
def test_keys_that_istiod_would_read_and_nobody_asked_for(
    layout: Layout, parts: dict[str, bytes], there: dict[str, bytes], expected: list[str]
) -> None:
    server = Server()
    foreign(server, there)
    refused = plan(server, wanted(layout, parts=parts))
    assert codes(refused) == ["foreign_key"] * len(expected)
    for key, problem in zip(expected, refused.plans[0].problems, strict=True):
        assert f"found {key} (set by field manager kubectl-create)" in problem.message and "force_conflicts" in problem.remedy
    unit = done(server, wanted(layout, parts=parts, force=True))
    assert istiod_reads(server) == asked(parts)
    assert read_as_istiod(server.data("x") or {}).ocsp_staple is None
    assert [write.verb for write in unit.plans[0].writes] == ["apply"] * (2 if expected else 1)
    assert {key: (server.data("x") or {}).get(key) for key in there.keys() - set(expected)} == {
        key: there[key] for key in there.keys() - set(expected)
    }, "what is not read is left to whom it belongs"


@pytest.mark.parametrize("there", [OLD, OLD_TLS, {**OLD, **OLD_TLS}])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("parts", [PAIR, FULL], ids=["pair", "with CRL"])
def test_taking_over_anything(layout: Layout, parts: dict[str, bytes], there: dict[str, bytes]) -> None:
    server = Server()
    foreign(server, there)
    done(server, wanted(layout, parts=parts, force=True))
    assert istiod_reads(server) == asked(parts)


def test_while_foreign_keys_are_taken_over_istiod_already_reads_what_was_asked_for() -> None:
    server = Server()
    foreign(server, {**OLD, **OLD_TLS})
    unit = plan(server, wanted(parts=FULL, force=True))
    first, second = unit.plans[0].writes
    server.apply(first.manifest, force=first.force)
    assert istiod_reads(server) == asked(FULL)
    server.apply(second.manifest, force=second.force)
    assert server.data("x") == secrets(Credential("x", "n", "tls", **FULL))["x"]


def test_other_values_under_our_own_keys_are_conflicts() -> None:
    server = Server()
    foreign(server, {"tls.crt": b"old", "tls.key": b"old key"})
    refused = plan(server, wanted())
    assert codes(refused) == ["conflict", "conflict"]
    assert "data[tls.crt] was set to another value by field manager kubectl-create" in refused.plans[0].problems[0].message
    done(server, wanted(force=True))
    assert istiod_reads(server) == asked(PAIR)


def test_the_same_values_are_adopted_without_force() -> None:
    server = Server()
    foreign(server, {"tls.crt": PAIR["certificate"], "tls.key": PAIR["private_key"]})
    done(server, wanted())


def test_a_key_that_another_applies_too_is_not_ours_to_drop() -> None:
    """An apply without it would leave it, and istiod would go on reading it."""
    server = Server()
    done(server, wanted(parts=FULL))
    server.objects[Ref("Secret", "n", "x")]["metadata"]["managedFields"].append(
        {"manager": "somebody", "operation": "Apply", "fieldsV1": {"f:data": {".": {}, "f:ca.crt": {}}}}
    )
    refused = plan(server, wanted())
    assert codes(refused) == ["foreign_key"] and "found ca.crt (set by field manager somebody)" in refused.plans[0].problems[0].message
    done(server, wanted(force=True))
    assert istiod_reads(server) == asked(PAIR)


def test_without_managed_fields_everything_is_somebody_elses() -> None:
    server = Server()
    done(server, wanted(parts=FULL))
    server.objects[Ref("Secret", "n", "x")]["metadata"]["managedFields"] = []
    assert actions(plan(server, wanted(parts=FULL))) == {}
    assert codes(plan(server, wanted(parts={**FULL, "certificate": b"new"}))) == ["conflict"]
    refused = plan(server, wanted())
    assert codes(refused) == ["foreign_key", "foreign_key"] and "an unknown manager" in refused.plans[0].problems[0].message


def test_random_secrets_end_as_asked_or_are_refused() -> None:
    """Whatever keys two managers left: without problems the plan gives what was asked for, and force always does."""
    choice = random.Random(1)
    keys = sorted(READ_KEYS)
    for __ in range(150):
        server = Server()
        for manager in ("one", "two")[: choice.randint(0, 2)]:
            foreign(server, {key: choice.choice([b"", b"old"]) for key in choice.sample(keys, choice.randint(1, 6))}, manager=manager)
        if choice.random() < 0.5:
            earlier = wanted(choice.choice(LAYOUTS), parts=choice.choice([PAIR, {**PAIR, **CA}, FULL]), force=True, replace=True)
            server.carry_out(plan(server, earlier))
        parts = choice.choice([PAIR, {**PAIR, **CA}, FULL])
        now = wanted(choice.choice(LAYOUTS), parts=parts, force=choice.random() < 0.5, replace=True)
        unit = plan(server, now)
        if codes(unit):
            assert not now.force and set(codes(unit)) <= {"foreign_key", "conflict", "shadowed_by_cacert", "foreign_object"}
            continue
        done(server, now)
        assert istiod_reads(server) == asked(parts)


# --- the Secret beside it --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "twin", "expected"),
    [
        (PAIR, {"cacert": b"other"}, []),  # a CA that nobody gave here
        ({**PAIR, **CA}, {"cacert": b"other"}, ["shadowed_by_cacert"]),
        ({**PAIR, **CA}, {"unrelated": b"other"}, ["shadowed_by_cacert"]),  # istiod does not go on to the other
        ({**PAIR, **CA}, {"cacert": CA["ca_certificate"]}, []),
        ({**PAIR, **CA}, {"ca.crt": CA["ca_certificate"]}, []),
        ({**PAIR, **CA}, {"cacert": CA["ca_certificate"], "crl": b"other"}, ["shadowed_by_cacert"]),
        (FULL, {"cacert": CA["ca_certificate"]}, ["shadowed_by_cacert"]),  # revoked certificates would pass
    ],
)
def test_a_foreign_cacert_secret(parts: dict[str, bytes], twin: dict[str, bytes], expected: list[str]) -> None:
    server = Server()
    foreign(server, twin, "x-cacert")
    assert codes(plan(server, wanted(parts=parts))) == expected
    unit = done(server, wanted(parts=parts, force=True))
    assert ("x-cacert" in actions(unit)) == bool(expected)
    assert unit.plans[0].ref.name == "x", "it goes when the CA is in place"
    if "ca_certificate" in parts:
        assert istiod_reads(server) == asked(parts)


def test_split_over_a_foreign_cacert_secret() -> None:
    server = Server()
    foreign(server, {"cacert": b"other", "tls.crt": b"a CA's own pair", "tls.key": b"k"}, "x-cacert")
    assert codes(plan(server, wanted("split", parts=FULL))) == ["conflict"]
    done(server, wanted("split", parts=FULL, force=True))
    assert istiod_reads(server) == asked(FULL)
    assert (server.data("x-cacert") or {})["tls.crt"] == b"a CA's own pair", "of a -cacert istiod reads no pair, so it is left"


def reference(name: str) -> Ref:
    return Ref("Secret", "n", name)


def test_a_ca_for_mounting_is_no_credential_and_is_not_added_to_anothers_secret() -> None:
    server = Server()
    one = Wanted(Credential("x", "n", "tls", ca_certificate=b"ca", ca_key="ca-chain.cert.pem"), "credentials[0]")
    foreign(server, {"cacert": b"other"}, "x-cacert")  # which istiod would read, were x a credential
    assert [ref.name for __, ref in refs(one)] == ["x"]
    assert actions(done(server, one)) == {"x": "created"} and actions(plan(server, one)) == {}
    assert decode(server.objects[reference("x")]) == {"ca-chain.cert.pem": b"ca"}, "and it is left as it is"
    another = replace(one, credential=replace(one.credential, name="y"))
    foreign(server, {"mine": b"kept"}, "y")
    assert codes(plan(server, another)) == ["foreign_object"] and codes(plan(server, replace(another, absent=True))) == ["foreign_object"]
    done(server, replace(another, force=True))
    assert decode(server.objects[reference("y")]) == {"ca-chain.cert.pem": b"ca", "mine": b"kept"}


def test_a_ca_in_a_credential_of_its_own() -> None:
    server = Server()
    both = frozenset({reference("x"), reference("x-cacert")})
    done(server, wanted(), both)
    done(server, wanted("generic", "x-cacert", parts={**CA, **CRL}), both)
    assert actions(plan(server, wanted(), both)) == {}
    assert istiod_reads(server) == asked(FULL)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_ca_that_is_given_in_both_places_is_refused(layout: Layout) -> None:
    """With split it was two credentials that wrote the same Secret at once."""
    both = frozenset({reference("x"), reference("x-cacert")})
    server = Server()
    unit = plan(server, wanted(layout, parts=FULL), both)
    assert codes(unit) == ["ca_given_twice"]
    assert "x-cacert" in str(unit.plans[0].problems or unit.plans[1].problems)


def test_a_cacert_that_was_split_off_and_is_now_asked_for_by_itself_is_not_deleted() -> None:
    server = Server()
    done(server, wanted("split", parts=FULL))
    both = frozenset({reference("x"), reference("x-cacert")})
    assert actions(plan(server, wanted("split"), both)) == {}
    ca = wanted("generic", "x-cacert", parts=CA)
    assert actions(plan(server, ca, both)) == {"x-cacert": "updated"}
    removed = plan(server, wanted("split", absent=True), frozenset({reference("x-cacert")}))
    assert actions(removed) == {"x": "deleted"}


def test_a_cacert_that_goes_in_the_same_call_shadows_nothing() -> None:
    server = Server()
    done(server, wanted("generic", "x-cacert", parts=CA))
    going = frozenset({reference("x-cacert")})
    unit = plan(server, wanted(parts={**PAIR, "ca_certificate": b"another"}), frozenset({reference("x")}), going)
    assert codes(unit) == [] and actions(unit) == {"x": "created"}
    assert codes(plan(server, wanted("split", parts=FULL), frozenset({reference("x")}), going)) == ["ca_given_twice"]


@pytest.mark.parametrize(("name", "expected"), [("x", ["x", "x-cacert"]), ("x-cacert", ["x-cacert"])])
def test_what_is_read(name: str, expected: list[str]) -> None:
    assert refs(wanted(name=name)) == [(SECRET, reference(each)) for each in expected]


# --- Secrets that are not to be touched ------------------------------------------------------------------------------------------------------

ISSUED = [
    {"annotations": {"cert-manager.io/certificate-name": "shop"}},
    {"ownerReferences": [{"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": "shop"}]},
]


@pytest.mark.parametrize("metadata", ISSUED)
def test_cert_managers_secret(metadata: dict[str, Any]) -> None:
    server = Server()
    foreign(server, {"tls.crt": b"issued", "tls.key": b"k", "ca.crt": b"issuer"}, metadata=metadata, type="kubernetes.io/tls")
    refused = plan(server, wanted(force=True))
    assert codes(refused) == ["cert_manager_owned"]
    assert "for its Certificate shop" in refused.plans[0].problems[0].message and "x-cacert" in refused.plans[0].problems[0].remedy
    assert codes(plan(server, wanted(absent=True, force=True))) == ["cert_manager_owned"]
    assert codes(plan(server, wanted(absent=True))) == ["foreign_object", "cert_manager_owned"]
    assert codes(plan(server, wanted(absent=True, force=True, from_cert_manager=True))) == []
    assert codes(plan(server, wanted(force=True, from_cert_manager=True))) == []


EXTERNAL = {"ownerReferences": [{"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "name": "shop", "controller": True}]}


def test_a_secret_that_another_tool_keeps_is_written_with_a_warning() -> None:
    server = Server()
    foreign(server, OLD, metadata=EXTERNAL)
    unit = plan(server, wanted(force=True))
    (problem,) = unit.plans[0].problems
    assert (problem.code, problem.severity) == ("kept_by_another", "warning")
    assert "External Secrets keeps this Secret for ExternalSecret shop (owner reference)" in problem.message
    server.carry_out(unit)
    assert codes(plan(server, wanted(force=True))) == [], "nothing is written, so nothing is undone"
    assert codes(plan(server, wanted(absent=True, force=True))) == ["kept_by_another"]


def applied_once(server: Server, old_key: bytes) -> None:
    """A Secret of `kubectl apply`, whose annotation holds what was applied."""
    applied = json.dumps({"data": {"tls.key": base64.b64encode(old_key).decode()}})
    manifest = {
        "metadata": {"name": "x", "namespace": "n", "annotations": {LAST_APPLIED: applied}},
        "data": {"tls.crt": "eA==", "tls.key": base64.b64encode(old_key).decode()},
    }
    server.apply(manifest, "kubectl-client-side-apply")


def test_an_old_key_in_kubectls_annotation_goes_with_force_and_is_told_without() -> None:
    server = Server()
    applied_once(server, b"the old key")
    assert sorted(codes(plan(server, wanted()))) == ["conflict", "conflict", "old_key_in_annotation"]
    assert codes(done(server, wanted(force=True))) == []
    live = server.objects[reference("x")]
    assert LAST_APPLIED not in live["metadata"].get("annotations", {}) and istiod_reads(server) == asked(PAIR)
    assert actions(plan(server, wanted(force=True))) == {}
    # and where the data is as it should be already
    live["metadata"]["annotations"] = {LAST_APPLIED: json.dumps({"stringData": {"key": "old"}})}
    unit = plan(server, wanted())
    assert actions(unit) == {} and codes(unit) == ["old_key_in_annotation"]
    assert actions(done(server, wanted(force=True))) == {"x": "updated"}
    assert LAST_APPLIED not in server.objects[reference("x")]["metadata"].get("annotations", {})


def test_the_same_key_in_kubectls_annotation_is_no_news() -> None:
    server = Server()
    done(server, wanted())
    live = server.objects[reference("x")]
    live["metadata"]["annotations"] = {LAST_APPLIED: json.dumps({"data": {"tls.key": live["data"]["tls.key"]}})}
    unit = plan(server, wanted())
    assert actions(unit) == {} and codes(unit) == []


def test_absent_leaves_what_others_keep_in_the_secret() -> None:
    server = Server()
    foreign(server, {"cert": b"c", "extra": b"theirs"})
    done(server, wanted("generic", force=True))
    unit = plan(server, wanted("generic", absent=True))
    assert codes(unit) == ["foreign_key"] and "extra (set by kubectl-create)" in unit.plans[0].problems[0].message
    assert actions(done(server, wanted("generic", absent=True, force=True))) == {"x": "deleted"}


def test_a_deletion_that_waits_for_finalizers() -> None:
    server = Server()
    done(server, wanted())
    metadata = server.objects[reference("x")]["metadata"]
    metadata["finalizers"] = ["orphan"]
    assert codes(plan(server, wanted(absent=True))) == [], "the garbage collector's own go by themselves"
    metadata["finalizers"] = ["sec.example/x"]
    unit = plan(server, wanted(absent=True))
    assert actions(unit) == {"x": "deleted"} and codes(unit) == ["waits_for_finalizers"]
    metadata["deletionTimestamp"] = "2027-01-01T00:00:00Z"
    unit = plan(server, wanted(absent=True))
    assert actions(unit) == {} and "since 2027-01-01T00:00:00Z" in unit.plans[0].problems[0].message


def test_an_immutable_secret() -> None:
    server = Server()
    done(server, wanted())
    live = server.objects[reference("x")]
    live["immutable"] = True
    assert actions(plan(server, wanted())) == {}
    assert codes(plan(server, wanted(parts=FULL))) == ["needs_replace"]
    assert actions(done(server, wanted(labels={"a": "1"}))) == {"x": "updated"}, "labels can be changed"
    unit = plan(server, wanted(parts=FULL, replace=True))
    assert codes(unit) == [] and [write.verb for write in unit.plans[0].writes] == ["delete", "apply"]
    server.carry_out(unit)
    assert istiod_reads(server) == asked(FULL)


def test_an_immutable_secret_with_foreign_keys_alone() -> None:
    server = Server()
    done(server, wanted())
    server.objects[reference("x")]["data"]["ca.crt"] = "b2xk"
    server.objects[reference("x")]["immutable"] = True
    assert "needs_replace" in codes(plan(server, wanted(force=True)))


def test_replacing_what_something_else_made_needs_force_too() -> None:
    server = Server()
    foreign(server, {"tls.crt": b"old", "tls.key": b"k", "unrelated": b"kept by somebody"}, immutable=True)
    assert codes(plan(server, wanted())) == ["needs_replace"]
    assert codes(plan(server, wanted(replace=True))) == ["foreign_object"]
    assert codes(plan(server, wanted(force=True))) == ["needs_replace"]
    assert actions(done(server, wanted(replace=True, force=True))) == {"x": "replaced"}


def test_a_secret_that_is_being_deleted() -> None:
    server = Server()
    done(server, wanted())
    server.objects[reference("x")]["metadata"]["deletionTimestamp"] = "2027-01-01T00:00:00Z"
    assert codes(plan(server, wanted())) == ["terminating"]
    assert actions(plan(server, wanted(absent=True))) == {}


def test_absent() -> None:
    server = Server()
    assert actions(plan(server, wanted(absent=True))) == {}
    foreign(server, OLD)
    foreign(server, OLD, "x-cacert")
    assert codes(plan(server, wanted(absent=True))) == ["foreign_object"]
    done(server, wanted(absent=True, force=True))
    assert server.data("x") is None and server.data("x-cacert") is not None, "the other Secret was not named"
    server = Server()
    done(server, wanted("split", parts=FULL))
    server.objects.pop(reference("x"))
    assert actions(done(server, wanted("split", absent=True))) == {"x-cacert": "deleted"}, "what an interruption left"


def test_no_key_material_in_anything_that_is_shown() -> None:
    """Every kind of plan, with canaries in every value."""
    seen = set()
    for there, owner in itertools.product([{}, OLD, OLD_TLS, {**OLD, **OLD_TLS}], ["kubectl-create", FIELD_MANAGER]):
        canaries = {key: CANARY + value for key, value in there.items()}
        for layout, parts, force, absent, immutable in itertools.product(LAYOUTS, [PAIR, FULL], *[[False, True]] * 3):
            server = Server()
            if canaries:
                foreign(server, canaries, manager=owner, immutable=immutable)
                foreign(server, canaries, "x-cacert", manager=owner)
            one = wanted(layout, parts=parts, force=force, absent=absent, replace=force)
            for each in plan(server, one).plans:
                seen.add(each.action)
                seen.update(problem.code for problem in each.problems)
                shown = [each.before, each.after, each.reasons, each.problems, each.as_result(), *map(str, each.problems), repr(one)]
                assert not any(leak in repr(shown) for leak in ("c4n4ry", base64.b64encode(CANARY).decode()[:8]))
    assert seen >= {
        "created",
        "updated",
        "replaced",
        "deleted",
        "unchanged",
        "foreign_key",
        "conflict",
        "shadowed_by_cacert",
        "needs_replace",
    }


def test_plans_do_not_print_what_they_write() -> None:
    """Should one ever end in a traceback or in a failed assertion's output."""
    server = Server()
    foreign(server, {"tls.crt": CANARY, "ca.crt": CANARY})
    for plans in (
        plan(Server(), wanted(parts=FULL)).plans,
        plan(server, wanted(parts=PAIR)).plans,
        plan(server, wanted(absent=True)).plans,
    ):
        assert base64.b64encode(CANARY).decode()[:8] not in repr(plans)
