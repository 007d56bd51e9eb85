# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts in gateways' Deployments, held to what a real API server made of them (record_deployments.py)."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.mount_arguments import Request, from_arguments
from ansible_collections.meshops.istio.plugins.module_utils.istio.mount_checks import check
from ansible_collections.meshops.istio.plugins.module_utils.istio.mounted_files import digests, files
from ansible_collections.meshops.istio.plugins.module_utils.istio.mounts import (
    Change,
    alike,
    choose,
    is_injected,
    owned,
    plan,
    restoration,
    shown,
)
from ansible_collections.meshops.istio.plugins.module_utils.objects.compare import differences
from ansible_collections.meshops.istio.plugins.module_utils.objects.ownership import FIELD_MANAGER as US
from ansible_collections.meshops.istio.plugins.module_utils.problems import Problem, Rejected

RECORDED = {case["name"]: case for case in json.loads((Path(__file__).parent / "data" / "gateway_deployments.json").read_text())}
STEPS = [
    pytest.param(name, number, id=f"{name}: {step['title']}")
    for name, case in RECORDED.items()
    for number, step in enumerate(case["steps"])
]
INSTALLERS = pytest.mark.parametrize("name", RECORDED)

CLIENT = {"path": "/etc/nginx-client-certs", "secret": "nginx-client-certs", "keys": ["tls.crt", "tls.key"]}
CA = {"path": "/etc/nginx-ca-certs", "secret": "nginx-ca-certs"}
KEYS = {"nginx-client-certs": frozenset({"tls.crt", "tls.key"}), "nginx-ca-certs": frozenset({"ca-chain.cert.pem"})}


def request(*mounts: dict[str, Any], **options: Any) -> Request:
    return from_arguments({"mounts": list(mounts) or None, **options})


def live(name: str, step: str = "") -> dict[str, Any]:
    """A recorded Deployment as it was made, or after one of the steps."""
    case = RECORDED[name]
    found = next(each for each in case["steps"] if each["title"] == step)["live"] if step else case["live"]
    return copy.deepcopy(found)


def actions(change: Change) -> dict[str, str]:
    return {mount.path: mount.action for mount in change.mounts}


def codes(problems: tuple[Problem, ...] | list[Problem]) -> list[str]:
    return [problem.code for problem in problems]


# --- what a real API server recorded


def before(name: str, number: int) -> dict[str, Any]:
    case = RECORDED[name]
    return case["live"] if number == 0 else case["steps"][number - 1]["live"]


@pytest.mark.parametrize(("name", "number"), STEPS)
def test_the_server_made_of_the_plan_what_was_meant(name: str, number: int) -> None:
    step, previous = RECORDED[name]["steps"][number], before(name, number)
    if not step["arguments"]:  # the installer upgraded: what is ours stays
        assert owned(step["live"], US) == owned(previous, US) != owned(RECORDED[name]["live"], US)
        assert step["live"]["spec"]["template"] != previous["spec"]["template"]
        return
    asked = from_arguments(step["arguments"])
    change = plan(previous, asked, US)
    assert change.manifest == step["manifest"]
    changing = [mount for mount in change.mounts if mount.action != "unchanged"]
    assert bool(differences(change.manifest, previous, US)) == bool(changing)
    again = plan(step["live"], asked, US)
    assert all(mount.action == "unchanged" for mount in again.mounts)
    assert differences(again.manifest, step["live"], US) == ()


@pytest.mark.parametrize(("name", "number"), STEPS)
def test_everything_of_others_stays_in_its_place(name: str, number: int) -> None:
    step, previous = RECORDED[name]["steps"][number], before(name, number)
    if not step["arguments"]:
        return

    def foreign(deployment: dict[str, Any]) -> dict[str, Any]:
        mine, spec = owned(deployment, US), copy.deepcopy(deployment["spec"])
        inner = spec["template"]["spec"]
        inner["volumes"] = [volume for volume in inner.get("volumes", []) if volume["name"] not in mine.volumes]
        for one in inner["containers"]:
            one["volumeMounts"] = [mount for mount in one.get("volumeMounts", []) if (one["name"], mount["mountPath"]) not in mine.mounts]
        return spec

    assert foreign(step["live"]) == foreign(previous)


@pytest.mark.parametrize(("name", "number"), STEPS)
def test_a_restored_template_is_the_previous_one(name: str, number: int) -> None:
    step, previous = RECORDED[name]["steps"][number], before(name, number)
    if not step["arguments"]:
        return
    assert alike(step["restored"], previous["spec"]["template"])
    if step["arguments"].get("state") != "absent":  # in every detail: the previous pods stay, and none has to be started
        assert step["restored"] == previous["spec"]["template"]


def test_what_was_taken_over_by_force_is_given_back() -> None:
    deployment = live("by_hand")
    change = plan(deployment, request({**CLIENT, "secret": "other"}, force_conflicts=True), US)
    assert actions(change) == {"/etc/nginx-client-certs": "updated"}
    given_back = restoration(deployment, change.manifest, US)
    assert given_back["spec"]["template"]["spec"]["containers"] == [
        {"name": "istio-proxy", "volumeMounts": [{"mountPath": "/etc/nginx-client-certs", "name": "nginx-client-certs", "readOnly": True}]}
    ]


def test_templates_are_alike_whatever_the_order() -> None:
    assert alike({"a": [{"x": 1}, {"y": 2}]}, {"a": [{"y": 2}, {"x": 1}]})
    assert not alike({"a": [{"x": 1}]}, {"a": [{"x": 1}, {"x": 1}]})


# --- the whole manifest


@INSTALLERS
def test_the_manifest_holds_our_mounts_and_nothing_else(name: str) -> None:
    change = plan(live(name), request({**CLIENT, "mode": "0440"}, {**CA, "optional": True, "volume": "roots"}), US)
    mounts = [
        {"mountPath": "/etc/nginx-client-certs", "name": "nginx-client-certs", "readOnly": True},
        {"mountPath": "/etc/nginx-ca-certs", "name": "roots", "readOnly": True},
    ]
    volumes = [
        {"name": "nginx-client-certs", "secret": {"secretName": "nginx-client-certs", "defaultMode": 0o440}},
        {"name": "roots", "secret": {"secretName": "nginx-ca-certs", "optional": True}},
    ]
    assert change.manifest == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "gateway", "namespace": "recorded-deployments"},
        "spec": {"template": {"spec": {"containers": [{"name": "istio-proxy", "volumeMounts": mounts}], "volumes": volumes}}},
    }


def test_the_same_secret_at_two_paths_is_one_volume() -> None:
    change = plan(live("injection"), request(CLIENT, {**CLIENT, "path": "/etc/again"}), US)
    spec = change.manifest["spec"]["template"]["spec"]
    assert [volume["name"] for volume in spec["volumes"]] == ["nginx-client-certs"]
    assert [mount["name"] for mount in spec["containers"][0]["volumeMounts"]] == ["nginx-client-certs"] * 2


@pytest.mark.parametrize(
    ("secret", "volume"),
    [
        ("nginx-client-certs", "nginx-client-certs"),
        ("partner.example.com", "partner-example-com-1572d8e2"),
        ("a" * 100, "a" * 54 + "-28165978"),
    ],
)
def test_names_of_volumes(secret: str, volume: str) -> None:
    assert request({"path": "/etc/x", "secret": secret}).mounts[0].volume == volume


# --- one call after the other


def test_another_call_leaves_earlier_mounts() -> None:
    change = plan(live("istioctl", "mounted"), request({"path": "/etc/partner", "secret": "partner"}), US)
    assert actions(change) == {"/etc/partner": "created"}
    paths = [mount["mountPath"] for mount in change.manifest["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]]
    assert paths == ["/etc/nginx-client-certs", "/etc/nginx-ca-certs", "/etc/partner"]


def test_prune_removes_earlier_mounts_of_ours_alone() -> None:
    change = plan(live("istioctl", "mounted"), request(CA, prune=True), US)
    assert actions(change) == {"/etc/nginx-ca-certs": "unchanged", "/etc/nginx-client-certs": "deleted"}
    assert [volume["name"] for volume in change.manifest["spec"]["template"]["spec"]["volumes"]] == ["nginx-ca-certs"]
    assert change.reasons == ("/etc/nginx-client-certs is no longer wanted",)


@pytest.mark.parametrize(
    ("changed", "volume"),
    [
        ({"secret": "other"}, "other"),
        ({"mode": "0400"}, "nginx-client-certs"),
        ({"optional": True}, "nginx-client-certs"),
        ({"volume": "renamed"}, "renamed"),
    ],
)
def test_changed_mounts_are_updated(changed: dict[str, Any], volume: str) -> None:
    deployment = live("istioctl", "mounted")
    change = plan(deployment, request({**CLIENT, **changed}, CA), US)
    assert actions(change) == {"/etc/nginx-client-certs": "updated", "/etc/nginx-ca-certs": "unchanged"}
    assert change.mounts[0].volume == volume
    assert differences(change.manifest, deployment, US)
    assert codes(check(deployment, request({**CLIENT, **changed}, CA), {}, US)) == []
    left = {one["name"] for one in change.manifest["spec"]["template"]["spec"]["volumes"]}
    assert left == {volume, "nginx-ca-certs"}


def test_an_option_that_is_not_asked_for_any_more_is_taken_back() -> None:
    deployment = live("istioctl", "added")
    partner = {"path": "/etc/partner", "secret": "partner.example.com", "mode": "0440", "optional": True}
    assert actions(plan(deployment, request(partner), US)) == {"/etc/partner": "unchanged"}
    change = plan(deployment, request({"path": "/etc/partner", "secret": "partner.example.com"}), US)
    assert actions(change) == {"/etc/partner": "updated"}
    assert differences(change.manifest, deployment, US)


def test_a_volume_keeps_its_name_when_none_is_asked_for() -> None:
    deployment = live("istioctl", "mounted")
    text = json.dumps(deployment).replace('"name": "nginx-ca-certs"', '"name": "roots"').replace('\\"nginx-ca-certs\\"', '\\"roots\\"')
    renamed = json.loads(text)
    assert owned(renamed, US).volumes["roots"] == {"name": "roots", "secret": {"secretName": "nginx-ca-certs"}}
    assert actions(plan(renamed, request(CA), US)) == {"/etc/nginx-ca-certs": "unchanged"}
    assert actions(plan(renamed, request({**CA, "volume": "nginx-ca-certs"}), US)) == {"/etc/nginx-ca-certs": "updated"}


def test_what_something_else_mounted_as_asked_for_is_left_to_it() -> None:
    deployment = live("by_hand")
    change = plan(deployment, request(CLIENT), US)
    assert actions(change) == {"/etc/nginx-client-certs": "unchanged"}
    assert "spec" not in change.manifest
    assert change.notes == ("/etc/nginx-client-certs is mounted by kubectl-patch as asked for, and left to it",)
    assert check(deployment, request(CLIENT), KEYS, US) == ()


def test_absent_leaves_what_something_else_mounted() -> None:
    change = plan(live("by_hand", "mounted"), request(CLIENT, CA, state="absent"), US)
    assert actions(change) == {"/etc/nginx-ca-certs": "deleted"}
    assert change.notes == ("/etc/nginx-client-certs stays: it was mounted by kubectl-patch, not by this module",)
    assert "spec" not in change.manifest


def test_absent_of_everything_is_all_of_ours() -> None:
    change = plan(live("istioctl", "added"), request(state="absent"), US)
    assert set(actions(change).items()) == {
        (path, "deleted") for path in ("/etc/nginx-client-certs", "/etc/nginx-ca-certs", "/etc/partner")
    }
    assert plan(live("istioctl"), request(state="absent"), US).mounts == ()


def co_owned(deployment: dict[str, Any], path: str) -> dict[str, Any]:
    """The Deployment after another manager applied one of our mounts too."""
    fields = {"f:volumeMounts": {f'k:{{"mountPath":"{path}"}}': {".": {}, "f:mountPath": {}, "f:name": {}}}}
    container = {'k:{"name":"istio-proxy"}': fields}
    entry = {"manager": "argocd", "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": container}}}}}
    for below in (entry["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"],):  # type: ignore[index]
        below['k:{"name":"istio-proxy"}']["f:name"] = {}
    deployment["metadata"]["managedFields"].append(entry)
    return deployment


def test_absent_says_what_stays_because_others_mount_it_too() -> None:
    deployment = co_owned(live("istioctl", "mounted"), "/etc/nginx-ca-certs")
    change = plan(deployment, request(CA, state="absent"), US)
    assert actions(change) == {"/etc/nginx-ca-certs": "unchanged"}
    assert "/etc/nginx-ca-certs stays: argocd mounts it too" in change.notes


def test_a_volume_that_others_use_stays() -> None:
    deployment = live("istioctl", "mounted")
    deployment["spec"]["template"]["spec"]["containers"].append(
        {"name": "watcher", "image": "w", "volumeMounts": [{"name": "nginx-ca-certs", "mountPath": "/w"}]}
    )
    change = plan(deployment, request(CA, state="absent"), US)
    assert actions(change) == {"/etc/nginx-ca-certs": "deleted"}
    spec = change.manifest["spec"]["template"]["spec"]
    assert [volume["name"] for volume in spec["volumes"]] == ["nginx-client-certs", "nginx-ca-certs"]
    assert change.notes == ("volume nginx-ca-certs stays: /w in container watcher uses it too",)


def test_a_diff_shows_the_mounts_alone() -> None:
    deployment = live("istioctl", "mounted")
    change = plan(deployment, request({**CLIENT, "secret": "other"}, {"path": "/etc/p", "secret": "p"}, prune=True), US)
    proxy = "istio-proxy"

    def source(name: str) -> dict[str, Any]:
        return {"volume": name, "secret": {"secretName": name}}

    was, becomes = shown(deployment, change)
    defaulted = {"defaultMode": 420}
    assert was == {
        proxy: {
            "/etc/nginx-client-certs": {**source("nginx-client-certs"), "secret": {"secretName": "nginx-client-certs", **defaulted}},
            "/etc/nginx-ca-certs": {**source("nginx-ca-certs"), "secret": {"secretName": "nginx-ca-certs", **defaulted}},
        }
    }
    assert becomes == {proxy: {"/etc/nginx-client-certs": source("other"), "/etc/p": source("p")}}


# --- arguments


@pytest.mark.parametrize(
    ("mount", "code"),
    [
        ({"path": "etc/x"}, "mount_path_invalid"),
        ({"path": "/"}, "mount_path_invalid"),
        ({"path": "/etc/../x"}, "mount_path_invalid"),
        ({"path": "/etc/a:b"}, "mount_path_invalid"),
        ({"secret": "istio-system/x"}, "secret_name_invalid"),
        ({"secret": None}, "secret_name_invalid"),
        ({"volume": "a.b"}, "volume_name_invalid"),
        ({"keys": ["a/b"]}, "secret_key_invalid"),
        ({"mode": "288"}, "mode_invalid"),
        ({"mode": "rw"}, "mode_invalid"),
    ],
)
def test_invalid_arguments(mount: dict[str, Any], code: str) -> None:
    with pytest.raises(Rejected) as rejected:
        request({**CLIENT, **mount})
    assert codes(list(rejected.value.problems)) == [code]


@pytest.mark.parametrize(
    ("one", "other", "code"),
    [
        (CLIENT, {**CA, "path": "/etc/nginx-client-certs/"}, "given_twice"),
        (CLIENT, {**CA, "path": "/etc/nginx-client-certs/ca"}, "mount_path_nested"),
        (CLIENT, {**CLIENT, "path": "/etc/b", "mode": "0400"}, "volume_given_twice"),
        ({**CLIENT, "volume": "v"}, {**CA, "volume": "v"}, "volume_given_twice"),
    ],
)
def test_mounts_that_contradict_each_other(one: dict[str, Any], other: dict[str, Any], code: str) -> None:
    with pytest.raises(Rejected) as rejected:
        request(one, other)
    assert codes(list(rejected.value.problems)) == [code]


def test_mounts_must_be_named_to_be_present() -> None:
    with pytest.raises(Rejected, match="mounts_missing"):
        request()
    assert request(state="absent").mounts == ()


def test_paths_are_cleaned() -> None:
    assert [mount.path for mount in request({**CLIENT, "path": "/etc//nginx-client-certs/"}).mounts] == ["/etc/nginx-client-certs"]


# --- problems


@INSTALLERS
def test_the_walkthrough_is_sound_on_every_gateway(name: str) -> None:
    assert check(live(name), request(CLIENT, CA), KEYS, US) == ()
    assert check(live(name, "mounted"), request(CLIENT, CA), KEYS, US) == ()


SECRET_CASES = [
    ({}, {}, []),  # unread: nothing is known
    ({}, {"nginx-client-certs": None}, ["secret_missing"]),
    ({"optional": True}, {"nginx-client-certs": None}, []),
    ({}, {"nginx-client-certs": frozenset({"tls.crt"})}, ["secret_key_missing"]),
    ({"keys": []}, {"nginx-client-certs": frozenset({"tls.crt"})}, []),
    ({"keys": []}, {"nginx-client-certs": frozenset()}, ["secret_empty"]),
]


@pytest.mark.parametrize(("changed", "keys", "expected"), SECRET_CASES)
def test_secrets(changed: dict[str, Any], keys: dict[str, frozenset[str] | None], expected: list[str]) -> None:
    assert codes(check(live("istioctl"), request({**CLIENT, **changed}), keys, US)) == expected


PATH_CASES = [
    ("istioctl", "/etc/istio/egressgateway-certs", ["mount_path_taken"]),
    ("istioctl", "/etc/istio/egressgateway-certs/x", ["mount_path_nested"]),
    ("istioctl", "/etc/istio/client", []),
    ("istioctl", "/etc", ["mount_path_nested", "mount_path_hides"]),
    ("istioctl", "/usr/local/bin", ["mount_path_hides"]),
    ("istioctl", "/proc/x", ["mount_path_hides"]),
    ("istioctl", "/var/run/secrets/kubernetes.io/serviceaccount", ["mount_path_injected"]),
    ("helm", "/etc/lua", ["mount_path_taken"]),
    ("helm", "/etc/istio/proxy", ["mount_path_injected"]),
    ("injection", "/etc/istio/pod/x", ["mount_path_injected"]),
    ("injection", "/var/run/secrets/tokens", ["mount_path_injected"]),
    ("injection", "/etc/certs-of-mine", []),
]


@pytest.mark.parametrize(("name", "path", "expected"), PATH_CASES)
def test_paths(name: str, path: str, expected: list[str]) -> None:
    found = codes(check(live(name), request({**CLIENT, "path": path}), KEYS, US))
    assert list(dict.fromkeys(found)) == expected


def test_a_taken_path_can_be_taken_over() -> None:
    wanted = {**CLIENT, "path": "/etc/istio/egressgateway-certs"}
    (problem,) = check(live("istioctl"), request(wanted), KEYS, US)
    assert "istio-operator mounts Secret istio-egressgateway-certs (volume egressgateway-certs)" in problem.message
    assert check(live("istioctl"), request(wanted, force_conflicts=True), KEYS, US) == ()


VOLUME_CASES = [
    ("istioctl", "istio-envoy", ["volume_taken"]),  # another source
    ("istioctl", "egressgateway-certs", ["volume_taken"]),  # another Secret
    ("istioctl", "istio-podinfo", []),
    ("injection", "istio-podinfo", ["volume_taken"]),  # the injector's
    ("helm", "lua", ["volume_taken"]),
    ("by_hand", "nginx-client-certs", []),  # the same Secret
]


@pytest.mark.parametrize(("name", "volume", "expected"), VOLUME_CASES)
def test_volumes(name: str, volume: str, expected: list[str]) -> None:
    assert codes(check(live(name), request({**CLIENT, "path": "/etc/x", "volume": volume}), KEYS, US)) == expected


def test_a_volume_of_ours_is_not_turned_away_from_its_other_mount() -> None:
    deployment = live("istioctl", "mounted")
    wanted = {"path": "/etc/x", "secret": "other", "volume": "nginx-ca-certs"}
    assert codes(check(deployment, request(wanted), {}, US)) == ["volume_taken"]
    moved = [{**wanted, "path": "/etc/nginx-ca-certs"}]
    assert codes(check(deployment, request(*moved), {}, US)) == []


def test_a_volume_with_only_some_keys_is_not_the_same() -> None:
    deployment = live("by_hand")
    for volume in deployment["spec"]["template"]["spec"]["volumes"]:
        if volume["name"] == "nginx-client-certs":
            volume["secret"]["items"] = [{"key": "tls.crt", "path": "tls.crt"}]
    problems = check(deployment, request(CLIENT), KEYS, US)
    assert codes(problems) == ["mount_path_taken", "volume_taken"]
    assert "of which only tls.crt" in problems[0].message


def test_the_deployment_itself() -> None:
    deployment = live("istioctl")
    deployment["spec"]["paused"] = True
    assert codes(check(deployment, request(CLIENT), KEYS, US)) == ["deployment_paused"]
    (problem,) = check(live("istioctl"), request(CLIENT, container="envoy"), KEYS, US)
    assert problem.code == "container_missing"
    assert "found istio-proxy" in problem.message


def test_nothing_of_a_secret_is_told_when_everything_is_removed() -> None:
    assert check(live("istioctl", "mounted"), request(CLIENT, state="absent"), {"nginx-client-certs": None}, US) == ()


@INSTALLERS
def test_injection_is_recognised(name: str) -> None:
    assert is_injected(live(name)) == (name in ("helm", "injection"))


# --- which Deployment


def test_a_selector_chooses_by_the_pods_labels() -> None:
    both = [live("istioctl"), live("helm")]
    both[0]["metadata"]["name"] = "egress"
    assert choose(both, {"istio": "egressgateway"}, "n") is both[0]
    for selector, code in (({"istio": "none"}, "deployment_missing"), ({}, "selector_empty")):
        found = choose(both, selector, "n")
        assert isinstance(found, Problem)
        assert found.code == code
    found = choose([both[0], copy.deepcopy(both[0])], {"istio": "egressgateway"}, "n")
    assert isinstance(found, Problem)
    assert (found.code, "egress, egress" in found.message) == ("deployment_ambiguous", True)


# --- files


CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n"
KEY = b"-----BEGIN PRIVATE KEY-----\nAAEC\n-----END PRIVATE KEY-----\n"


def test_files_are_known_by_digests() -> None:
    data = {"nginx-client-certs": {"tls.key": KEY, "tls.crt": CERTIFICATE}, "nginx-ca-certs": None}
    certificate, key = files(request(CLIENT, CA), data)
    fingerprint = ":".join(f"{byte:02x}" for byte in hashlib.sha256(b"\x00\x01\x02").digest())
    assert (certificate.path, certificate.kind, certificate.fingerprint) == ("/etc/nginx-client-certs/tls.crt", "certificate", fingerprint)
    assert (key.kind, key.fingerprint, key.public) == ("private_key", "", False)
    assert certificate.as_result("same")["fingerprint_sha256"] == fingerprint
    assert "fingerprint_sha256" not in certificate.as_result("differs")


def test_nothing_told_of_a_key_can_be_matched_with_it() -> None:
    key = files(request(CLIENT), {"nginx-client-certs": {"tls.key": KEY}})[0]
    told = f"{key} {key.as_result('same')}"
    assert hashlib.sha256(KEY).hexdigest() not in told
    assert "AAEC" not in told


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (CERTIFICATE + KEY, "private_key"),
        (b"-----BEGIN X509 CRL-----\nAAEC\n-----END X509 CRL-----\n", "crl"),
        (b"-----BEGIN PRIVATE KEY-----\nAA", "private_key"),
        (b"passphrase", "other"),
    ],
)
def test_what_may_be_a_key_is_not_public(content: bytes, kind: str) -> None:
    (found,) = files(request(CLIENT), {"nginx-client-certs": {"k": content}})
    assert found.kind == kind


def test_of_a_secret_that_cannot_be_read_the_keys_asked_for_are_files() -> None:
    assert [(one.path, one.sha256) for one in files(request(CLIENT), {})] == [
        ("/etc/nginx-client-certs/tls.crt", ""),
        ("/etc/nginx-client-certs/tls.key", ""),
    ]


def test_what_sha256sum_prints() -> None:
    digest = "ab" * 32
    assert digests(f"{digest}  /etc/a b/tls.crt\n{digest} */etc/c\nsha256sum: no\n") == {"/etc/a b/tls.crt": digest, "/etc/c": digest}
