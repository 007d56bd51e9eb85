# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks and roles, as users run them: the walkthrough from nothing to nothing, and each role's own promises."""

from __future__ import annotations

import json
import stat
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from .conftest import ROOT, Mesh, Run
from .test_secrets_never_leak import canaries

OLDEST = ROOT / ".venv-2.16"
LOUD = ("-vvvv", "--diff")
KINDS = "secrets,gateways.networking.istio.io,virtualservices.networking.istio.io,services,deployments,workloadentries"
CERTIFICATES = ("httpbin.example.com", "helloworld-v1.example.com", "httpbin-mutual.example.com", "client.example.com")
AUTHORITIES = ("example.com", "intermediate.example.com", "clients-ca")
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
    run("rotate check", "rotate", "--check", *LOUD).ok()
    run("rotate", "rotate", *LOUD).ok()
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
    assert story.writes["rotate"] == ["patch secrets httpbin-credential"] * 2
    assert story.runs["apply"].changed == [], "the original credential is not back"


def test_a_rotation_in_check_mode_says_what_is_missing(story: Story) -> None:
    assert "not yet issued" in story.runs["rotate check"].output
    assert story.writes["rotate check"] == []
    assert probes(story.runs["rotate check"]) == []


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
    assert "no such credential: test-no-such-credential" in done.output


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


# --- pki ------------------------------------------------------------------------------------------------------------------------

PKI = {
    "pki_authorities": [
        {"name": "root", "subject": {"O": "example Inc.", "CN": "root"}},
        {"name": "below", "issuer": "root", "subject": {"CN": "below"}, "key_type": "ECC"},
        {"name": "other", "subject": {"CN": "other"}, "key_type": "ECC"},
    ],
    "pki_certificates": [
        {"name": "server", "authority": "below", "subject": {"CN": "s.example.com"}, "sans": ["DNS:s.example.com", "IP:192.0.2.1"]},
        {"name": "client", "authority": "other", "subject": {"CN": "client"}, "purpose": "client", "key_type": "ECC"},
    ],
}


@pytest.fixture
def pki(mesh: Mesh, tmp_path: Path) -> Any:
    """Runs the role for `PKI`, with some variables changed."""

    def run(*arguments: str, venv: Path | None = None, **changes: Any) -> Run:
        return mesh.playbook([include("pki", **{"pki_directory": str(tmp_path / "pki"), **PKI, **changes})], *arguments, venv=venv)

    run.directory = tmp_path / "pki"  # type: ignore[attr-defined]
    return run


def certificates(directory: Path, name: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates((directory / f"{name}.crt").read_bytes())


def names_of(chain: list[x509.Certificate]) -> list[str | bytes]:
    return [certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value for certificate in chain]


def serials(directory: Path) -> dict[str, int]:
    return {name: certificates(directory, name)[0].serial_number for name in ("root", "below", "other", "server", "client")}


def changed_entry(of: str, which: str, /, **changes: Any) -> list[dict[str, Any]]:
    return [{**entry, **changes} if entry["name"] == which else entry for entry in PKI[of]]


def test_pki_issues_chains_that_verify_and_keys_that_only_the_owner_reads(pki: Any) -> None:
    pki().ok()
    directory = pki.directory
    leaf, *intermediates = certificates(directory, "server")
    assert names_of(intermediates) == ["below"]
    assert names_of(certificates(directory, "below")) == ["below", "root"]
    store = Store(certificates(directory, "root"))
    verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName("s.example.com"))
    assert len(verifier.verify(leaf, intermediates)) == 3
    assert certificates(directory, "client")[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value == x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    found = serials(directory)
    assert len(set(found.values())) == len(found)
    for key in directory.glob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert len(list(directory.glob("*.key"))) == 5


def test_pki_issues_nothing_that_is_not_due_and_goes_on_issuing_what_is(pki: Any, mesh: Mesh) -> None:
    pki(pki_renew_before_days=5, pki_certificates=changed_entry("pki_certificates", "server", days=10)).ok()
    first = serials(pki.directory)
    assert pki(pki_renew_before_days=5).ok().changed == []
    # ten days are left of it: due with 30
    assert any("Keep a certificate: server" in name for name in pki("--check").ok().changed)
    assert serials(pki.directory) == first
    assert pki().ok().changed
    second = serials(pki.directory)
    assert {name for name in first if first[name] != second[name]} == {"server"}
    assert pki(venv=OLDEST).ok().changed == []


def test_pki_issues_anew_what_a_new_authority_signed_and_nothing_else(pki: Any) -> None:
    pki().ok()
    first = serials(pki.directory)
    (pki.directory / "root.key").unlink()
    pki().ok()
    second = serials(pki.directory)
    assert {name for name in first if first[name] != second[name]} == {"root", "below", "server"}
    # the same key, another certificate
    changed = changed_entry("pki_authorities", "other", subject={"CN": "another"})
    pki(pki_authorities=changed).ok()
    third = serials(pki.directory)
    assert {name for name in first if second[name] != third[name]} == {"other", "client"}
    assert pki(pki_authorities=changed).ok().changed == []


def test_pki_follows_the_variables(pki: Any) -> None:
    pki().ok()
    first = serials(pki.directory)
    pki(pki_certificates=changed_entry("pki_certificates", "server", sans=["DNS:t.example.com"])).ok()
    second = serials(pki.directory)
    assert {name for name in first if first[name] != second[name]} == {"server"}
    names = certificates(pki.directory, "server")[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["t.example.com"]


def test_pki_removes_its_own_files_only(pki: Any) -> None:
    pki().ok()
    (pki.directory / "mine.txt").write_text("kept")
    pki(pki_state="absent").ok()
    assert [path.name for path in pki.directory.rglob("*") if path.is_file()] == ["mine.txt"]
    (pki.directory / "mine.txt").unlink()
    assert pki(pki_state="absent").ok()
    assert not pki.directory.exists()
    assert pki(pki_state="absent").ok().changed == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"pki_certificates": changed_entry("pki_certificates", "server", authority="nobody")}, "Found authority nobody"),
        ({"pki_certificates": changed_entry("pki_certificates", "server", sans=[])}, "clients no longer look at the common name"),
        ({"pki_certificates": changed_entry("pki_certificates", "server", days=30)}, "it would be renewed in every run"),
        ({"pki_certificates": changed_entry("pki_certificates", "server", name="root")}, "a name that is used once"),
        ({"pki_authorities": list(reversed(PKI["pki_authorities"]))}, "stands above it"),
        ({"pki_certificates": [{"name": "server"}]}, "authority"),
    ],
)
def test_pki_names_what_is_wrong_with_its_variables(pki: Any, changes: dict[str, Any], named: str) -> None:
    done = pki(**changes)
    assert done.code != 0
    assert named in str(done.failed)
    assert not pki.directory.exists()
