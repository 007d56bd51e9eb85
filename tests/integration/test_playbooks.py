# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks and roles, as users run them: the walkthrough from nothing to nothing, and each role's own promises."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, Mesh, Run
from .test_secrets_never_leak import canaries

OLDEST = ROOT / ".venv-2.16"
LOUD = ("-vvvv", "--diff")
KINDS = "secrets,gateways.networking.istio.io,virtualservices.networking.istio.io,services,deployments,workloadentries"
CERTIFICATES = ("httpbin.example.com", "helloworld-v1.example.com", "httpbin-mutual.example.com", "client.example.com")
AUTHORITIES = ("example.com", "intermediate.example.com", "clients-ca")
DIAGNOSE = {"diagnose_fail_on": "never", "diagnose_admin_urls": ["http://127.0.0.1:15100"]}
OBJECTS = {
    ("Secret", "istio-system", "httpbin-credential"),
    ("Secret", "istio-system", "helloworld-credential"),
    ("Secret", "istio-system", "httpbin-mutual-credential"),
    ("Gateway", "default", "mygateway"),
    ("VirtualService", "default", "httpbin"),
    ("VirtualService", "default", "helloworld-v1"),
    ("VirtualService", "default", "httpbin-mutual"),
}


def objects(mesh: Mesh) -> set[tuple[str, str, str]]:
    """(kind, namespace, name) of whatever a playbook could have made or removed."""
    found = set()
    for namespace in ("default", "istio-system"):
        for item in json.loads(mesh.kubectl("get", KINDS, "-n", namespace, "-o", "json"))["items"]:
            # other tests run against the same sandbox
            if not item["metadata"]["name"].startswith("test-"):
                found.add((item["kind"], namespace, item["metadata"]["name"]))
    return found


def announced(run: Run) -> set[tuple[str, str, str]]:
    """The objects that the modules say they create, the tasks that only validate left out."""
    found = set()
    for record in run.records:
        result = record["result"]
        if not record["task"].endswith(("Keep the credentials", "Keep the Gateways and their routes")):
            continue
        for item in result.get("results", [result]):
            found |= {("Secret", made["namespace"], made["name"]) for made in item.get("credentials", []) if made["action"] == "created"}
            found |= {(made["kind"], made["namespace"], made["name"]) for made in item.get("changes", []) if made["action"] == "created"}
    return found


def probes(run: Run) -> list[dict[str, Any]]:
    """The results of all requests, those in loops one by one."""
    found = [item for result in run.results("tls_probe") for item in result.get("results", [result])]
    return [item for item in found if not item.get("skipped")]


def wrong_with(diagnosed: Run, objects: set[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """What a run of diagnose.yml found wrong with some objects; hints apart."""
    (result,) = diagnosed.results("gateway_diagnose")
    names = {name for __, __, name in objects}
    return [one for one in result["findings"] if one["severity"] != "hint" and any(ref["name"] in names for ref in one["objects"])]


def uid(mesh: Mesh, name: str = "httpbin-credential") -> str:
    secret = mesh.get("secret", "istio-system", name)
    assert secret, f"Secret {name} is missing"
    return str(secret["metadata"]["uid"])


@dataclass
class Story:
    """The walkthrough, one run after the other, from an empty sandbox to an empty one."""

    pki: Path
    runs: dict[str, Run] = field(default_factory=dict)
    writes: dict[str, list[str]] = field(default_factory=dict)
    seen: dict[str, set[tuple[str, str, str]]] = field(default_factory=dict)
    uids: list[str] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def story(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Story:
    told = Story(tmp_path_factory.mktemp("secure-gateways") / "pki")

    def run(name: str, playbook: str, *arguments: str, user: str = "meshops-operator", **more: Any) -> Run:
        mark = mesh.audit_mark()
        # what egress gateways have is in test_egress_playbooks.py
        done = mesh.playbook(f"playbooks/{playbook}.yml", "--skip-tags", "egress", "-e", f"pki_directory={told.pki}", *arguments, **more)
        told.runs[name] = done
        told.writes[name] = mesh.writes_since(mark, user)
        told.seen[name] = objects(mesh)
        if told.pki.is_dir():
            told.secrets |= canaries(*(key.read_text() for key in told.pki.glob("*.key")))
        return done

    run("cleanup before", "cleanup").ok()
    run("check without certificates", "site", "--check", *LOUD).ok()
    told.seen["files after check"] = {(str(path), "", "") for path in told.pki.parent.rglob("*")}
    run("validate without certificates", "site", "--tags", "validate").ok()
    run("pki", "site", "--tags", "pki", *LOUD).ok()
    run("validate", "site", "--tags", "validate", *LOUD).ok()
    run("check", "site", "--check", *LOUD).ok()
    run("site", "site", *LOUD).ok()
    run("site again", "site").ok()
    told.uids.append(uid(mesh))
    run("admin on 2.16", "site", login="admin", venv=OLDEST, user="admin").ok()
    run("verify", "site", "--tags", "verify").ok()
    run("diagnose", "diagnose", "-e", json.dumps(DIAGNOSE)).ok()
    run("rotate check", "rotate", "--check", *LOUD).ok()
    run("rotate", "rotate", *LOUD).ok()
    run("rotate planned", "rotate", "--check").ok()
    told.uids.append(uid(mesh))
    run("apply", "site", "--tags", "apply").ok()
    run("cleanup check", "cleanup", "--check").ok()
    run("cleanup", "cleanup", *LOUD).ok()
    run("cleanup again", "cleanup").ok()
    return told


def test_check_mode_without_certificates_tells_what_would_be_issued_and_goes_on(story: Story) -> None:
    done = story.runs["check without certificates"]
    for name in (*AUTHORITIES, *CERTIFICATES):
        assert name in next(result["msg"] for result in done.results("debug") if "would issue" in str(result.get("msg")))
    assert "not yet issued" in done.output
    assert "verify is skipped in check mode" in done.output
    assert announced(done) == {found for found in OBJECTS if found[0] != "Secret"}
    assert story.writes["check without certificates"] == []
    assert not [path for path, __, __ in story.seen["files after check"] if "pki" in Path(path).parts[-2:]]


def test_check_mode_lists_exactly_the_objects_that_a_real_run_makes(story: Story) -> None:
    made = story.seen["site"] - story.seen["check"]
    assert made == OBJECTS
    assert announced(story.runs["check"]) == made == announced(story.runs["site"])
    assert story.writes["check"] == []
    assert len(story.writes["site"]) == len(OBJECTS)


def test_a_second_run_changes_nothing_and_writes_nothing(story: Story) -> None:
    assert story.runs["site again"].changed == []
    assert story.writes["site again"] == []
    assert len(probes(story.runs["site again"])) == 13


def test_it_runs_on_the_oldest_ansible_core_as_the_administrator_too(story: Story) -> None:
    assert story.runs["admin on 2.16"].changed == []
    assert story.writes["admin on 2.16"] == []
    assert len(probes(story.runs["admin on 2.16"])) == 13


def test_every_check_of_the_walkthrough_is_asserted_those_that_must_fail_included(story: Story) -> None:
    found = probes(story.runs["site"])
    assert [(probe["status"], probe["failure"]) for probe in found] == [
        (418, None),
        (404, None),
        (None, "unknown_ca"),
        (None, "name_mismatch"),
        (None, "connection_reset"),
        (200, None),
        (404, None),
        (None, "certificate_required"),
        (None, "client_certificate_refused"),
        (418, None),
        (200, None),
        (200, None),
        (200, None),
    ]
    [mutual] = found[-1:]
    assert len(mutual["peer_chain"]) == 2, "expected the intermediate to be served with the certificate"


def test_the_tag_validate_checks_everything_and_writes_nothing(story: Story) -> None:
    assert "not yet issued" in story.runs["validate without certificates"].output
    for name in ("validate without certificates", "validate"):
        assert story.writes[name] == []
        assert story.runs[name].changed == []
        assert probes(story.runs[name]) == []
    assert story.runs["validate"].results("ingress_tls_gateway")
    assert story.runs["validate"].results("istio_tls_credential")[0]["credentials"][0]["action"] == "created"


def test_a_diagnosis_finds_nothing_wrong(story: Story) -> None:
    assert wrong_with(story.runs["diagnose"], story.seen["site"]) == []
    assert story.writes["diagnose"] == []


def test_the_tag_verify_only_looks(story: Story) -> None:
    done = story.runs["verify"]
    assert len(probes(done)) == 13
    assert done.results("istio_tls_credential") == []
    assert done.results("openssl_privatekey") == []
    assert story.writes["verify"] == []


def test_the_tag_apply_does_not_verify(story: Story) -> None:
    assert probes(story.runs["apply"]) == []
    assert story.runs["apply"].results("ingress_tls_gateway")


def test_a_rotation_is_in_place_and_the_old_ca_fails(story: Story) -> None:
    found = probes(story.runs["rotate"])
    assert [(probe["status"], probe["failure"]) for probe in found] == [(418, None), (None, "unknown_ca")] * 2
    rotated, original = (probe["peer_chain"][0]["fingerprint_sha256"] for probe in (found[0], found[2]))
    assert rotated != original
    assert found[1]["peer_chain"][0]["fingerprint_sha256"] == rotated
    assert story.uids[0] == story.uids[1]
    rotations = [result["rotations"][0] for result in story.runs["rotate"].results("istio_tls_rotation")]
    assert [one["outcome"] for one in rotations] == ["rotated", "rotated"]
    # each way: the switch, and the end after the proof; on a slow machine it may be sent once more between them
    assert story.writes["rotate"] == ["patch secrets httpbin-credential"] * (4 + sum(one["proof"]["sent_again"] for one in rotations))
    assert story.runs["apply"].changed == [], "the original credential is not back"


def test_a_rotation_in_check_mode_says_what_is_missing(story: Story) -> None:
    assert "not yet issued" in story.runs["rotate check"].output
    assert story.writes["rotate check"] == []
    assert probes(story.runs["rotate check"]) == []


def test_a_rotation_in_check_mode_hands_its_plan_on(story: Story) -> None:
    (told,) = story.runs["rotate planned"].results("set_stats")
    assert told["ansible_stats"]["per_host"] is False
    (plan,) = told["ansible_stats"]["data"]["meshops_rotation_plan"].values()
    planned = story.runs["rotate planned"].results("istio_tls_rotation")[0]
    assert plan == {"id": planned["plan"]["id"], "text": planned["plan_text"].splitlines()}
    assert story.writes["rotate planned"] == []


def test_cleanup_leaves_the_namespaces_as_they_were(story: Story) -> None:
    assert story.seen["cleanup check"] == story.seen["apply"]
    assert story.seen["cleanup"] == story.seen["cleanup before"]
    assert {("Service", "default", "httpbin"), ("WorkloadEntry", "default", "helloworld-v1")} <= story.seen["cleanup"]
    assert not story.pki.exists()


def test_cleanup_removes_against_the_order_of_making_and_tolerates_what_is_gone(story: Story) -> None:
    removed = story.writes["cleanup"]
    assert len(removed) == len(OBJECTS)
    assert removed[0] == "delete gateways mygateway"
    assert all(" secrets " in write for write in removed[-3:])
    assert story.runs["cleanup again"].changed == []
    assert story.writes["cleanup again"] == []


def test_no_key_appears_in_the_loudest_output(story: Story) -> None:
    assert len(story.secrets) > 50
    for name, done in story.runs.items():
        text = done.output + str(done.records)
        assert not [secret for secret in story.secrets if secret in text], f"a key is in the output of {name}"


# --- ingress_tls ----------------------------------------------------------------------------------------------------------------


def include(role: str, tasks_from: str = "main", **variables: Any) -> dict[str, Any]:
    return {"ansible.builtin.include_role": {"name": f"meshops.istio.{role}", "tasks_from": tasks_from}, "vars": variables}


SHOWN = {"ansible.builtin.debug": {"msg": "{{ ingress_tls_address }} {{ ingress_tls_ports | to_json }}"}}


def discovered(run: Run) -> tuple[str, dict[str, int]]:
    address, __, ports = run.ok().results("debug")[-1]["msg"].partition(" ")
    return address, json.loads(ports)


def test_the_address_is_the_load_balancers(mesh: Mesh) -> None:
    done = mesh.playbook([include("ingress_tls", "discover"), SHOWN])
    assert discovered(done) == (mesh.environment["INGRESS_HOST"], {})


def test_an_address_that_is_given_is_taken_without_reading_the_service(mesh: Mesh) -> None:
    given = {"ingress_tls_ingress_host": "192.0.2.7", "ingress_tls_ingress_port": 8443, "ingress_tls_service": "no-such"}
    done = mesh.playbook([include("ingress_tls", "discover", **given), SHOWN])
    assert discovered(done) == ("192.0.2.7", {"443": 8443})


def service(mesh: Mesh, namespace: str, kind: str, status: dict[str, Any] | None = None) -> dict[str, str]:
    """Makes a gateway's Service, and tells it to the role."""
    spec = {"type": kind, "ports": [{"name": "http2", "port": 80}, {"name": "https", "port": 443}]}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "gateway", "namespace": namespace}, "spec": spec}
    mesh.kubectl("apply", "-f", "-", stdin=json.dumps(body))
    if status:
        mesh.kubectl(
            "patch", "service", "gateway", "-n", namespace, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status})
        )
    return {"ingress_tls_service": "gateway", "ingress_tls_service_namespace": namespace}


def test_the_address_may_be_a_host_name_that_is_resolved(mesh: Mesh, namespace: str) -> None:
    found = service(mesh, namespace, "LoadBalancer", {"loadBalancer": {"ingress": [{"hostname": "localhost"}]}})
    check = {"name": "resolve it", "host": "nobody.example.com", "port": 1, "expect": {"failure": "connection_refused"}}
    done = mesh.playbook([include("ingress_tls", "verify", ingress_tls_checks=[check], **found), SHOWN])
    assert discovered(done) == ("localhost", {})
    assert probes(done)[0]["address"] in ("127.0.0.1", "::1")


def test_without_a_load_balancer_it_is_a_node_and_the_node_ports(mesh: Mesh, namespace: str) -> None:
    found = service(mesh, namespace, "NodePort")
    node = f"test-{uuid.uuid4().hex[:8]}"
    mesh.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}))
    try:
        addresses = [{"type": "InternalIP", "address": "192.0.2.20"}, {"type": "Hostname", "address": node}]
        mesh.kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", json.dumps({"status": {"addresses": addresses}}))
        done = mesh.playbook([include("ingress_tls", "discover", **found), SHOWN])
    finally:
        mesh.kubectl("delete", "node", node)
    made = mesh.get("service", namespace, "gateway")
    assert made
    assert discovered(done) == ("192.0.2.20", {str(port["port"]): port["nodePort"] for port in made["spec"]["ports"]})


def running_pod(mesh: Mesh, namespace: str, node: str, address: str, ready: str = "True") -> None:
    """A pod of the gateway on a node, as a kubelet would report it."""
    head = {"name": f"gateway-{node}", "namespace": namespace, "labels": {"app": "gateway"}}
    spec = {"nodeName": node, "containers": [{"name": "istio-proxy", "image": "none"}]}
    mesh.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": head, "spec": spec}))
    conditions = [{"type": kind, "status": ready} for kind in ("Ready", "ContainersReady")]
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}
    patch = json.dumps({"status": status})
    mesh.kubectl("patch", "pod", head["name"], "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)


def endpoints(mesh: Mesh, namespace: str, count: int) -> None:
    """Waits for the EndpointSlices that Kubernetes' own controller makes."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        slices = json.loads(mesh.kubectl("get", "endpointslices", "-n", namespace, "-o", "json"))["items"]
        if sum(len(one.get("endpoints") or ()) for one in slices) == count:
            return
        time.sleep(0.1)
    raise AssertionError(f"no {count} endpoints in {namespace}")


@pytest.mark.parametrize(("policy", "chosen"), [("Local", "192.0.2.22"), ("Cluster", "192.0.2.21")])
def test_with_the_traffic_policy_local_it_is_a_node_that_runs_the_gateway(mesh: Mesh, namespace: str, policy: str, chosen: str) -> None:
    found = service(mesh, namespace, "NodePort")
    change = {"spec": {"externalTrafficPolicy": policy, "selector": {"app": "gateway"}}}
    mesh.kubectl("patch", "service", "gateway", "-n", namespace, "--type=merge", "-p", json.dumps(change))
    names = [f"{namespace}-{letter}" for letter in "abc"]
    try:
        for name, address in zip(names, ("192.0.2.21", "192.0.2.22", "192.0.2.23"), strict=True):
            mesh.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}))
            status = json.dumps({"status": {"addresses": [{"type": "InternalIP", "address": address}]}})
            mesh.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", status)
        running_pod(mesh, namespace, names[0], "10.9.9.1", ready="False")
        running_pod(mesh, namespace, names[1], "10.9.9.2")
        endpoints(mesh, namespace, 2)
        done = mesh.playbook([include("ingress_tls", "discover", **found), SHOWN])
    finally:
        mesh.kubectl("delete", "pods", "--all", "-n", namespace, "--force", "--grace-period=0")
        mesh.kubectl("delete", "node", *names, "--ignore-not-found")
    address, ports = discovered(done)
    assert address == chosen
    assert sorted(ports) == ["443", "80"]


@pytest.mark.parametrize("kind", ["ClusterIP", "none"])
def test_a_service_without_a_way_in_is_told_with_the_remedy(mesh: Mesh, namespace: str, kind: str) -> None:
    named = {"ingress_tls_service": "gateway", "ingress_tls_service_namespace": namespace}
    if kind != "none":
        service(mesh, namespace, kind)
    done = mesh.playbook([include("ingress_tls", "discover", **named)])
    assert done.code != 0
    assert f"found {kind}" in done.failed[0]["msg"]
    assert "ingress_tls_ingress_host" in done.failed[0]["msg"]


def test_a_check_that_is_not_met_fails_and_names_expected_and_found(mesh: Mesh) -> None:
    check = {"name": "not served", "host": "nobody.example.com", "port": 9, "timeout": 0, "expect": {"status": 200}}
    done = mesh.playbook([include("ingress_tls", "verify", ingress_tls_checks=[check])])
    assert done.code != 0
    assert "expected status 200, found failure connection_refused" in done.output


def test_a_check_against_a_credential_that_is_missing_fails(mesh: Mesh) -> None:
    check = {"name": "served", "host": "nobody.example.com", "timeout": 0, "credential": "test-no-such-credential"}
    done = mesh.playbook([include("ingress_tls", "verify", ingress_tls_checks=[check])])
    assert done.code != 0
    assert "found no such Secret" in done.output and "istio-system/test-no-such-credential" in done.output


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"ingress_tls_checks": [{"name": "typo", "host": "a.example.com", "ca_certificate_paht": "x"}]}, "ca_certificate_paht"),
        ({"ingress_tls_checks": [{"host": "a.example.com"}]}, "name"),
        ({"ingress_tls_gateways": [{"name": "a", "server": []}]}, "server"),
        ({"ingress_tls_credentials": [{"name": "a", "certificate_file": "x"}]}, "certificate_file"),
        ({"ingress_tls_state": "gone"}, "gone"),
    ],
)
def test_variables_are_checked(mesh: Mesh, variables: dict[str, Any], named: str) -> None:
    mark = mesh.audit_mark()
    done = mesh.playbook([include("ingress_tls", **variables)])
    assert done.code != 0
    assert named in str(done.failed)
    assert mesh.writes_since(mark) == []


def test_the_playbook_for_users_fails_where_a_file_is_missing(mesh: Mesh, credential_name: str) -> None:
    given = {"ingress_tls_credentials": [{"name": credential_name, "certificate_path": "/no/such.crt", "private_key_path": "/no/such.key"}]}
    for arguments in ((), ("--tags", "validate")):
        done = mesh.playbook("playbooks/ingress_tls.yml", "-e", json.dumps(given), *arguments)
        assert done.code != 0
        assert "/no/such.crt" in str(done.failed)
    assert mesh.playbook("playbooks/ingress_tls.yml", "-e", json.dumps(given), "--check").ok()


def test_the_playbook_for_users_makes_and_removes_what_their_variables_describe(
    mesh: Mesh, issue: Any, credential_name: str, namespace: str
) -> None:
    pair = issue("shop.example.com")
    server = {"hosts": ["shop.example.com"], "credential_name": credential_name}
    probe = {"host": "shop.example.com", "ca_certificate_path": str(pair.ca_path), "credential": credential_name}
    given = {
        "ingress_tls_credentials": [{"name": credential_name, "hosts": ["shop.example.com"], **pair.paths}],
        "ingress_tls_gateways": [{"name": "shop", "namespace": namespace, "servers": [server]}],
        "ingress_tls_checks": [{"name": "served", **probe}],
        "ingress_tls_labels": {"team": "shop"},
        # the login is a variable; nothing in the environment leads to the cluster
        "meshops_login": {"kubeconfig": mesh.environment["OPERATOR_KUBECONFIG"]},
    }

    def run(*arguments: str) -> Run:
        return mesh.playbook("playbooks/ingress_tls.yml", "-e", json.dumps(given), *arguments, login="/no/such/kubeconfig").ok()

    assert probes(run())[0]["status"] == 404
    for kind, place, name in (("secret", "istio-system", credential_name), ("gateway.networking.istio.io", namespace, "shop")):
        made = mesh.get(kind, place, name)
        assert made
        assert made["metadata"]["labels"]["team"] == "shop"
    assert run().changed == []
    run("--tags", "cleanup")
    assert not mesh.get("secret", "istio-system", credential_name)
    assert not mesh.get("gateway.networking.istio.io", namespace, "shop")


def test_a_client_key_given_as_content_is_not_printed(mesh: Mesh, issue: Any) -> None:
    pair = issue("client.example.com")
    check = {
        "name": "with a key",
        "host": "nobody.example.com",
        "port": 9,
        "client_certificate": "{{ certificate }}",
        "client_private_key": "{{ key }}",
        "secret_headers": {"authorization": "{{ token }}"},
        "expect": {"failure": "connection_refused"},
    }
    values = mesh.scratch / "client-key.json"
    values.write_text(json.dumps({"certificate": pair.certificate, "key": pair.private_key, "token": "canary-of-a-token"}))
    done = mesh.playbook([include("ingress_tls", ingress_tls_checks=[check])], *LOUD, "-e", f"@{values}").ok()
    assert probes(done)
    text = done.output + str(done.records)
    assert not [secret for secret in {*canaries(pair.private_key), "canary-of-a-token"} if secret in text]


# --- sample_workloads -----------------------------------------------------------------------------------------------------------


def test_sample_workloads_are_deployed_and_removed(mesh: Mesh, namespace: str) -> None:
    def run(*arguments: str, **more: Any) -> Run:
        given = {"sample_workloads_deploy": True, "sample_workloads_namespace": namespace, "sample_workloads_wait_timeout": 0, **more}
        # the sandbox has no kubelet: that Pods start is tried on kind
        return mesh.playbook([include("sample_workloads", **given)], *arguments, login="admin").ok()

    def made() -> set[str]:
        found = mesh.kubectl("get", "deployments,services", "-n", namespace, "-o", "name").split()
        return {name.rpartition(".apps/")[2] for name in found}

    assert run("--check").changed
    assert made() == set()
    run()
    assert made() == {"httpbin", "helloworld-v1", "service/httpbin", "service/helloworld-v1"}
    assert run().changed == []
    run(sample_workloads_state="absent")
    assert made() == set()
    assert run(sample_workloads_state="absent").changed == []


def test_sample_workloads_that_should_be_there_are_missed(mesh: Mesh, namespace: str) -> None:
    done = mesh.playbook([include("sample_workloads", sample_workloads_namespace=namespace)])
    assert done.code != 0
    assert f"Expected Service {namespace}/httpbin with port 8000, found none" in done.output
