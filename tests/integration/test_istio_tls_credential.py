# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""istio_tls_credential and istio_tls_credential_info against a real API server."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from .conftest import Mesh, Pair

Issue = Callable[..., Pair]


def data_of(mesh: Mesh, name: str) -> dict[str, bytes] | None:
    secret = mesh.get("secret", "istio-system", name)
    return None if secret is None else {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}


def codes(run) -> list[str]:
    return [problem["code"] for problem in run.failed[0]["problems"]]


def test_created_unchanged_updated_deleted(mesh: Mesh, issue: Issue, credential_name: str) -> None:
    first, second = issue("a.example.com"), issue("a.example.com")
    present = {"name": credential_name, "hosts": ["a.example.com"], "labels": {"team": "shop"}, "annotations": {"ticket": "1"}}
    mark = mesh.audit_mark()
    run = mesh.playbook(
        [
            {"meshops.istio.istio_tls_credential": {**present, **first.paths}},
            {"meshops.istio.istio_tls_credential": {**present, **first.paths}},
            {"meshops.istio.istio_tls_credential": {**present, **second.paths}},
            {"meshops.istio.istio_tls_credential_info": {"name": credential_name}},
        ]
    ).ok()
    created, unchanged, updated, info = run.results()
    assert [result["credentials"][0]["action"] for result in (created, unchanged, updated)] == ["created", "unchanged", "updated"]
    assert [result["changed"] for result in (created, unchanged, updated)] == [True, False, True]
    assert "replaced by" in updated["credentials"][0]["reasons"][0]
    assert [write.split()[0] for write in mesh.writes_since(mark)] == ["patch", "patch"]
    secret = mesh.get("secret", "istio-system", credential_name)
    assert secret["type"] == "kubernetes.io/tls"
    assert secret["metadata"]["labels"] == {
        "team": "shop",
        "app.kubernetes.io/managed-by": "meshops.istio",
        "meshops.istio/owner": f"credential.{credential_name}",
    }
    assert secret["metadata"]["annotations"]["ticket"] == "1"
    assert data_of(mesh, credential_name) == {"tls.crt": second.certificate.encode(), "tls.key": second.private_key.encode()}
    shown = info["credentials"][0]
    assert shown["certificate"]["fingerprint_sha256"] == updated["credentials"][0]["certificate"]["fingerprint_sha256"]
    assert shown["layout"] == "tls" and shown["managed"] and shown["exists"]
    gone = mesh.playbook([{"meshops.istio.istio_tls_credential": {"name": credential_name, "state": "absent"}}] * 2).ok()
    assert [result["credentials"][0]["action"] for result in gone.results()] == ["deleted", "unchanged"]
    assert data_of(mesh, credential_name) is None


def test_check_mode_predicts_and_writes_nothing(mesh: Mesh, issue: Issue, credential_name: str) -> None:
    pair = issue()
    mark = mesh.audit_mark()
    run = mesh.task("istio_tls_credential", {"name": credential_name, **pair.paths}, "--check", "--diff").ok()
    assert run.results()[0]["changed"] and run.results()[0]["credentials"][0]["action"] == "created"
    assert mesh.writes_since(mark) == []
    assert data_of(mesh, credential_name) is None
    assert "fingerprint_sha256" in run.output and "BEGIN" not in run.output


@pytest.mark.parametrize(
    ("layout", "secrets"),
    [
        ("tls", {"": {"tls.crt", "tls.key", "ca.crt"}}),
        ("generic", {"": {"cert", "key", "cacert"}}),
        ("split", {"": {"cert", "key"}, "-cacert": {"cacert"}}),
    ],
)
def test_layouts(mesh: Mesh, issue: Issue, credential_name: str, layout: str, secrets: dict[str, set[str]]) -> None:
    pair = issue()
    mark = mesh.audit_mark()
    arguments = {"name": credential_name, **pair.paths, "ca_certificate_path": str(pair.ca_path), "layout": layout}
    run = mesh.playbook(
        [{"meshops.istio.istio_tls_credential": arguments}] * 2 + [{"meshops.istio.istio_tls_credential_info": {"name": credential_name}}]
    ).ok()
    assert [result["changed"] for result in run.results()] == [True, False, False]
    assert {suffix: set(data_of(mesh, credential_name + suffix)) for suffix in secrets} == secrets
    # the CA's Secret first, so that a MUTUAL server never finds a pair without its CA
    assert [write.split()[-1] for write in mesh.writes_since(mark)] == [
        credential_name + suffix for suffix in sorted(secrets, reverse=True)
    ]
    assert run.results()[-1]["credentials"][0]["layout"] == layout


def test_mutual_becomes_simple(mesh: Mesh, issue: Issue, credential_name: str) -> None:
    """A CA that we wrote and no longer want goes, from the Secret itself and from a Secret of its own (last)."""
    pair = issue()
    mutual = {"name": credential_name, **pair.paths, "ca_certificate_path": str(pair.ca_path)}
    simple = {"name": credential_name, **pair.paths}
    run = mesh.playbook([{"meshops.istio.istio_tls_credential": arguments} for arguments in (mutual, simple, simple)]).ok()
    assert [result["credentials"][0]["action"] for result in run.results()] == ["created", "updated", "unchanged"]
    assert set(data_of(mesh, credential_name)) == {"tls.crt", "tls.key"}
    split = {**mutual, "layout": "generic", "force_conflicts": True}
    refused = mesh.task("istio_tls_credential", {**mutual, "layout": "split"})
    assert codes(refused) == ["needs_replace"], "a kubernetes.io/tls Secret cannot hold cert and key alone"
    assert codes(mesh.task("istio_tls_credential", split)) == ["needs_replace"]
    run = mesh.playbook(
        [
            {"meshops.istio.istio_tls_credential": {**mutual, "layout": "split", "replace": True}},
            {"meshops.istio.istio_tls_credential": {**simple, "layout": "split"}},
        ]
    ).ok()
    assert [plan["action"] for plan in run.results()[1]["credentials"][0]["secrets"]] == ["deleted"]
    assert data_of(mesh, f"{credential_name}-cacert") is None
    assert set(data_of(mesh, credential_name)) == {"cert", "key"}


WALKTHROUGH = {
    # the page's own `kubectl create secret` lines
    "tls": ["tls", "{name}", "--key={key}", "--cert={crt}"],
    "generic": ["generic", "{name}", "--from-file=key={key}", "--from-file=cert={crt}"],
    "tls keys": ["generic", "{name}", "--from-file=tls.key={key}", "--from-file=tls.crt={crt}", "--from-file=ca.crt={ca}"],
    "generic with CA": ["generic", "{name}", "--from-file=key={key}", "--from-file=cert={crt}", "--from-file=cacert={ca}"],
}


def create(mesh: Mesh, name: str, form: str, pair: Pair) -> None:
    words = [word.format(name=name, key=pair.private_key_path, crt=pair.certificate_path, ca=pair.ca_path) for word in WALKTHROUGH[form]]
    mesh.kubectl("create", "-n", "istio-system", "secret", *words)


@pytest.mark.parametrize(
    ("form", "expected", "kept_type"),
    [
        ("tls", {"conflict"}, "kubernetes.io/tls"),
        ("generic", {"foreign_key"}, "Opaque"),
        ("tls keys", {"foreign_key", "conflict"}, "Opaque"),
        ("generic with CA", {"foreign_key"}, "Opaque"),
    ],
)
def test_taking_over_what_kubectl_made(
    mesh: Mesh, issue: Issue, credential_name: str, form: str, expected: set[str], kept_type: str
) -> None:
    old, new = issue("old.example.com"), issue("new.example.com")
    create(mesh, credential_name, form, old)
    before = data_of(mesh, credential_name)
    arguments = {"name": credential_name, **new.paths}
    refused = mesh.task("istio_tls_credential", arguments)
    assert set(codes(refused)) == expected
    assert "kubectl-create" in refused.failed[0]["msg"] and "force_conflicts" in refused.failed[0]["msg"]
    assert data_of(mesh, credential_name) == before
    forced = {**arguments, "force_conflicts": True}
    run = mesh.playbook([{"meshops.istio.istio_tls_credential": forced}, {"meshops.istio.istio_tls_credential": forced}]).ok()
    assert [result["changed"] for result in run.results()] == [True, False]
    # nothing that istiod reads is left of the old one
    assert data_of(mesh, credential_name) == {"tls.crt": new.certificate.encode(), "tls.key": new.private_key.encode()}
    assert mesh.get("secret", "istio-system", credential_name)["type"] == kept_type


def test_adopting_the_same_content_needs_no_force(mesh: Mesh, issue: Issue, credential_name: str) -> None:
    pair = issue()
    create(mesh, credential_name, "tls", pair)
    run = mesh.playbook([{"meshops.istio.istio_tls_credential": {"name": credential_name, **pair.paths}}] * 2).ok()
    assert [result["changed"] for result in run.results()] == [True, False]


def test_foreign_ca_secret_shadows_the_ca(mesh: Mesh, issue: Issue, credential_name: str) -> None:
    pair, other = issue(), issue(ca="other")
    mesh.kubectl("create", "-n", "istio-system", "secret", "generic", f"{credential_name}-cacert", f"--from-file=cacert={other.ca_path}")
    arguments = {"name": credential_name, **pair.paths, "ca_certificate_path": str(pair.ca_path)}
    assert codes(mesh.task("istio_tls_credential", arguments)) == ["shadowed_by_cacert"]
    assert data_of(mesh, credential_name) is None
    run = mesh.task("istio_tls_credential", {**arguments, "force_conflicts": True}).ok()
    assert {plan["action"] for plan in run.results()[0]["credentials"][0]["secrets"]} == {"created", "deleted"}
    assert data_of(mesh, f"{credential_name}-cacert") is None


def test_ca_in_a_credential_of_its_own(mesh: Mesh, issue: Issue, credential_name: str) -> None:
    """The advice for cert-manager's Secrets: the pair here, the client CA in -cacert."""
    pair = issue()
    both = {
        "credentials": [
            {"name": credential_name, **pair.paths},
            {"name": f"{credential_name}-cacert", "layout": "generic", "ca_certificate_path": str(pair.ca_path)},
        ]
    }
    run = mesh.playbook([{"meshops.istio.istio_tls_credential": both}] * 2).ok()
    assert [result["changed"] for result in run.results()] == [True, False]
    twice = {"credentials": [{**both["credentials"][0], "ca_certificate_path": str(pair.ca_path)}, both["credentials"][1]]}
    assert codes(mesh.task("istio_tls_credential", twice)) == ["ca_given_twice"]
    moved = {"credentials": [twice["credentials"][0], {"name": f"{credential_name}-cacert", "state": "absent"}]}
    run = mesh.playbook([{"meshops.istio.istio_tls_credential": moved}] * 2).ok()
    assert [result["changed"] for result in run.results()] == [True, False]
    assert set(data_of(mesh, credential_name)) == {"tls.crt", "tls.key", "ca.crt"}


def test_cert_managers_secret_is_left_alone(mesh: Mesh, issue: Issue, credential_name: str) -> None:
    pair = issue()
    create(mesh, credential_name, "tls", pair)
    mesh.kubectl("annotate", "-n", "istio-system", "secret", credential_name, "cert-manager.io/certificate-name=shop")
    arguments = {"name": credential_name, **pair.paths}
    refused = mesh.task("istio_tls_credential", arguments)
    assert codes(refused) == ["cert_manager_owned"]
    assert f"{credential_name}-cacert" in refused.failed[0]["msg"]
    mesh.task("istio_tls_credential", {**arguments, "override_cert_manager": True}).ok()


def test_immutable_needs_replace(mesh: Mesh, issue: Issue, credential_name: str) -> None:
    old, new = issue(), issue()
    create(mesh, credential_name, "tls", old)
    mesh.kubectl("patch", "-n", "istio-system", "secret", credential_name, "--type=merge", '-p={"immutable":true}')
    refused = mesh.task("istio_tls_credential", {"name": credential_name, **new.paths, "force_conflicts": True})
    assert codes(refused) == ["needs_replace"] and "immutable" in refused.failed[0]["msg"]
    run = mesh.task("istio_tls_credential", {"name": credential_name, **new.paths, "force_conflicts": True, "replace": True}).ok()
    assert run.results()[0]["credentials"][0]["action"] == "replaced"
    assert data_of(mesh, credential_name)["tls.crt"] == new.certificate.encode()


def test_a_foreign_secret_is_not_deleted(mesh: Mesh, issue: Issue, credential_name: str) -> None:
    create(mesh, credential_name, "tls", issue())
    refused = mesh.task("istio_tls_credential", {"name": credential_name, "state": "absent"})
    assert codes(refused) == ["foreign_object"]
    assert data_of(mesh, credential_name) is not None
    mesh.task("istio_tls_credential", {"name": credential_name, "state": "absent", "force_conflicts": True}).ok()
    assert data_of(mesh, credential_name) is None


def test_more_than_eight_are_read_with_one_list(mesh: Mesh, issue: Issue, credential_name: str) -> None:
    pair = issue()
    names = [f"{credential_name}-{number}" for number in range(20)]
    arguments = {"credentials": [{"name": name, **pair.paths} for name in names]}
    try:
        mesh.task("istio_tls_credential", arguments).ok()
        mark = mesh.audit_mark()
        run = mesh.task("istio_tls_credential", arguments).ok()
        assert not run.results()[0]["changed"]
        verbs = [event["verb"] for event in mesh.requests_since(mark, "meshops-operator")]
        assert verbs == ["list"]
    finally:
        mesh.kubectl("delete", "secret", "-n", "istio-system", *names, "--ignore-not-found")


def test_everything_wrong_is_told_at_once_and_nothing_written(mesh: Mesh, issue: Issue, credential_name: str) -> None:
    good, other = issue("a.example.com"), issue("b.example.com")
    mark = mesh.audit_mark()
    run = mesh.task(
        "istio_tls_credential",
        {
            "credentials": [
                {"name": credential_name, **good.paths},
                {"name": "two", "certificate_path": str(good.certificate_path), "private_key_path": str(other.private_key_path)},
                {"name": "three", **good.paths, "hosts": ["c.example.com"]},
                {"name": "four", "certificate_path": "/nowhere.crt", "private_key_path": str(good.private_key_path)},
            ]
        },
    )
    assert codes(run) == ["key_mismatch", "host_not_covered", "file_unreadable"]
    assert all(f"credentials[{number}]" in run.failed[0]["msg"] for number in (1, 2, 3))
    assert mesh.writes_since(mark) == []


def test_on_invalid_warn_writes_all_the_same(mesh: Mesh, issue: Issue, credential_name: str) -> None:
    pair = issue("a.example.com")
    run = mesh.task("istio_tls_credential", {"name": credential_name, **pair.paths, "hosts": ["c.example.com"], "on_invalid": "warn"}).ok()
    assert "host_not_covered" in [warning["code"] for warning in run.results()[0]["credentials"][0]["warnings"]]
    assert data_of(mesh, credential_name)


def test_a_ca_whose_clock_is_ahead(mesh: Mesh, credential_name: str, tmp_path: Path) -> None:
    """Written, and looked at, by the same tolerance."""
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=10)
    leaf = trustme.CA().issue_cert("a.example.com", not_before=soon, not_after=soon + datetime.timedelta(days=90))
    pair = Pair(tmp_path / "crt", tmp_path / "key", tmp_path / "ca")
    leaf.cert_chain_pems[0].write_to_path(str(pair.certificate_path))
    leaf.private_key_pem.write_to_path(str(pair.private_key_path))
    present = {"name": credential_name, **pair.paths}
    assert codes(mesh.task("istio_tls_credential", present)) == ["not_yet_valid"]
    assert data_of(mesh, credential_name) is None
    mesh.task("istio_tls_credential", {**present, "not_before_tolerance": "1h"}).ok()
    info = {"name": credential_name}
    for tolerance, severity in ({}, "error"), ({"not_before_tolerance": "1h"}, "warning"):
        (found,) = mesh.task("istio_tls_credential_info", {**info, **tolerance}).ok().results()
        assert [(one["code"], one["severity"]) for one in found["credentials"][0]["problems"]] == [("not_yet_valid", severity)]
