# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The egress walkthrough as users run it, from nothing to nothing, and the promises of the roles that carry it out."""

from __future__ import annotations

import base64
import collections
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from .conftest import ROOT, SANDBOX, Mesh, Pair, Run
from .test_egress_origination import eventually
from .test_playbooks import LOUD, OLDEST, include, probes, wrong_with
from .test_rights import login
from .test_secrets_never_leak import canaries

Issue = Callable[..., Pair]
Name = tuple[str, str, str]
KINDS = (
    "secrets,gateways.networking.istio.io,virtualservices.networking.istio.io,destinationrules.networking.istio.io,"
    "serviceentries.networking.istio.io,networkpolicies.networking.k8s.io"
)
HOST = "nginx.example.com"
DIAGNOSE = {"diagnose_fail_on": "never", "diagnose_admin_urls": ["http://127.0.0.1:15200"]}
CERTIFICATES = ("nginx-root", "nginx-intermediate", "nginx.example.com", "nginx-client")
OBJECTS = {
    ("Secret", "istio-system", "client-credential"),
    ("DestinationRule", "istio-system", "originate-mtls-for-nginx"),
    ("DestinationRule", "istio-system", "egressgateway-for-nginx"),
    ("Gateway", "istio-system", "egress-nginx"),
    ("ServiceEntry", "istio-system", "nginx"),
    ("VirtualService", "istio-system", "nginx"),
    ("VirtualService", "istio-system", "direct-nginx-through-egress-gateway"),
}
SEEN = [(200, None), (None, None), (None, "name_mismatch"), (400, None), (200, None)]
"""What the checks of site.yml come to: status and failure."""


def objects(mesh: Mesh) -> set[Name]:
    """(kind, namespace, name) of whatever a playbook could have made or removed."""
    found = set()
    for namespace in ("default", "istio-system"):
        for item in json.loads(mesh.kubectl("get", KINDS, "-n", namespace, "-o", "json"))["items"]:
            if not item["metadata"]["name"].startswith("test-"):  # other tests run against the same sandbox
                found.add((item["kind"], namespace, item["metadata"]["name"]))
    return found


def announced(run: Run) -> set[Name]:
    """The objects that the modules say they create, the tasks that only validate left out."""
    found = set()
    for record in run.records:
        if record["task"].endswith(("Keep the credentials", "Keep the services")):
            result = record["result"]
            found |= {("Secret", made["namespace"], made["name"]) for made in result.get("credentials", []) if made["action"] == "created"}
            changes = [change for service in result.get("services", []) for change in service.get("changes", [])]
            found |= {(made["kind"], made["namespace"], made["name"]) for made in changes if made["action"] == "created"}
    return found


def process(name: str) -> int | None:
    """The id of a process that runs beside the sandbox."""
    record = SANDBOX / "run" / "processes" / f"{name}.json"
    return int(json.loads(record.read_text())["pid"]) if record.is_file() else None


@dataclass
class Story:
    """The walkthrough, one run after the other."""

    pki: Path
    runs: dict[str, Run] = field(default_factory=dict)
    writes: dict[str, list[str]] = field(default_factory=dict)
    seen: dict[str, set[Name]] = field(default_factory=dict)
    processes: dict[str, int | None] = field(default_factory=dict)
    """Ids of my-nginx."""
    secrets: set[str] = field(default_factory=set)
    answers: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    """What a request through the mesh came to: status, serial number that nginx saw, serial number in the file."""


def ask(mesh: Mesh, host: str) -> tuple[int, str]:
    """Status, and the serial number of the certificate that nginx saw."""
    connection = http.client.HTTPConnection(*mesh.environment["MESH_CLIENT"].split(":"), timeout=10)  # type: ignore[arg-type]
    try:
        connection.request("GET", "/", headers={"Host": host, "User-Agent": "test-of-playbooks"})
        response = connection.getresponse()
        return response.status, response.getheader("X-Client-Serial", "")
    finally:
        connection.close()


@pytest.fixture(scope="module")
def story(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Story:
    told = Story(tmp_path_factory.mktemp("egress") / "pki")

    def run(name: str, playbook: str, *arguments: str, user: str = "meshops-operator", **more: Any) -> Run:
        mark = mesh.audit_mark()
        own = ("--skip-tags", "ingress", "-e", f"pki_directory={told.pki}")
        done = mesh.playbook(f"playbooks/{playbook}.yml", *own, *arguments, **more)
        told.runs[name] = done.ok()
        told.writes[name] = mesh.writes_since(mark, user)
        told.seen[name] = objects(mesh)
        told.processes[name] = process("my-nginx")
        if told.pki.is_dir():
            told.secrets |= canaries(*(key.read_text() for key in told.pki.glob("*.key")))
        return done

    run("cleanup before", "cleanup")
    run("check without certificates", "site", "--check", *LOUD)
    run("pki", "site", "--tags", "pki", *LOUD)
    run("check", "site", "--check", *LOUD)
    run("site", "site", *LOUD)
    certificate = x509.load_pem_x509_certificate((told.pki / "nginx-client.crt").read_bytes())
    told.answers["site"] = (*ask(mesh, HOST), f"{certificate.serial_number:X}")
    run("check again", "site", "--check")
    run("site again", "site")
    run("admin on 2.16", "site", login="admin", venv=OLDEST, user="admin")
    run("verify", "site", "--tags", "verify")
    run("diagnose", "diagnose", "-e", json.dumps(DIAGNOSE))
    run("verify_egress check", "verify_egress", "--check", *LOUD)
    # as in a CI container: HOME is not what the passwd file says
    run("verify_egress", "verify_egress", *LOUD, HOME=str(tmp_path_factory.mktemp("home")))
    run("apply", "site", "--tags", "apply")
    run("cleanup check", "cleanup", "--check")
    run("cleanup", "cleanup", *LOUD)
    run("cleanup again", "cleanup")
    return told


def test_check_mode_without_certificates_tells_what_would_be_issued_and_goes_on(story: Story) -> None:
    done = story.runs["check without certificates"]
    told = next(result["msg"] for result in done.results("debug") if "would issue" in str(result.get("msg")))
    assert all(name in told for name in CERTIFICATES)
    assert "would run what needs" in done.output
    assert announced(done) == {found for found in OBJECTS if found[0] != "Secret"}
    assert story.writes["check without certificates"] == []
    assert story.processes["check without certificates"] is None


def test_check_mode_lists_exactly_the_objects_that_a_real_run_makes(story: Story) -> None:
    made = story.seen["site"] - story.seen["check"]
    assert made == OBJECTS
    assert announced(story.runs["check"]) == made == announced(story.runs["site"])
    assert story.writes["check"] == []
    assert story.processes["check"] is None
    assert len(story.writes["site"]) == len(OBJECTS)
    assert story.runs["check"].changed == story.runs["site"].changed
    assert story.runs["check again"].changed == []


def test_a_second_run_changes_nothing_and_writes_nothing(story: Story) -> None:
    for name in ("site again", "admin on 2.16", "verify"):
        assert story.runs[name].changed == []
        assert story.writes[name] == []
        assert story.processes[name] == story.processes["site"]
        assert [(probe["status"], probe["failure"]) for probe in probes(story.runs[name])] == SEEN


def test_every_check_of_the_walkthrough_is_asserted_those_that_must_fail_included(story: Story) -> None:
    found = probes(story.runs["site"])
    assert [(probe["status"], probe["failure"]) for probe in found] == SEEN
    direct, __, ___, refused, through = found
    assert "Welcome to nginx!" in direct["body"] and direct["headers"]["x-client-verify"] == "SUCCESS"
    assert "No required SSL certificate was sent" in refused["body"]
    assert "Welcome to nginx!" in through["body"]
    [logged] = story.runs["site"].results("wait_for")
    assert len(logged["results"]) == 1


def test_a_diagnosis_finds_nothing_wrong(story: Story) -> None:
    assert wrong_with(story.runs["diagnose"], story.seen["site"]) == []
    assert story.writes["diagnose"] == []


def test_nginx_saw_the_gateways_certificate(story: Story, mesh: Mesh) -> None:
    status, seen, issued = story.answers["site"]
    assert status == 200
    assert seen.lstrip("0") == issued
    log = Path(mesh.environment["EGRESS_LOG"]).read_text()
    assert any('"test-of-playbooks"' in line and " 200 " in line and f"outbound|443||{HOST}" in line for line in log.splitlines())


def test_a_verification_proves_what_must_be_refused(story: Story) -> None:
    found = probes(story.runs["verify_egress"])
    checks, bypass, rotated = found[:4], found[4], found[-1]
    assert [probe["status"] for probe in checks] == [200, 503, 400, 400]
    assert "The SSL certificate error" in checks[2]["body"]
    assert "No required SSL certificate was sent" in checks[3]["body"]
    assert bypass["stage"] != "tcp"
    assert "not enforced here: B12" in story.runs["verify_egress"].output
    assert rotated["headers"]["x-client-serial"] != checks[0]["headers"]["x-client-serial"]


def test_a_rotation_is_in_place_and_no_request_fails(story: Story) -> None:
    during = next(
        record["result"] for record in story.runs["verify_egress"].records if record["task"] == "B25 during a rotation no request fails"
    )
    assert during["attempts"] == during["successes"] == 300
    writes = story.writes["verify_egress"]
    [rotated] = [one for result in story.runs["verify_egress"].results("istio_tls_rotation") for one in result["rotations"]]
    assert rotated["outcome"] == "rotated" and rotated["proof"]["proxies"] == ["http://127.0.0.1:15200"]
    assert [probe["holds"] for probe in rotated["proof"]["probes"]] == [True]
    # made; and rotated: the switch, and the end after the proof; on a slow machine it may be sent once more between them
    assert writes.count("patch secrets verify-client-credential") == 3 + rotated["proof"]["sent_again"]
    assert sorted(write for write in writes if write.startswith("delete secrets")) == [  # they are deleted side by side
        "delete secrets verify-client-credential",
        "delete secrets verify-foreign-credential",
    ]


def test_a_verification_leaves_everything_as_it_was(story: Story) -> None:
    assert story.seen["verify_egress"] == story.seen["site"]
    assert story.processes["verify_egress"] == story.processes["site"]
    assert process("verify-nginx") is None
    assert story.runs["apply"].changed == []
    touched = {write for write in story.writes["verify_egress"] if "verify" not in write}
    assert touched == set()
    assert story.writes["verify_egress check"] == []


def test_cleanup_leaves_the_namespaces_as_they_were(story: Story) -> None:
    assert story.seen["cleanup check"] == story.seen["apply"]
    assert story.processes["cleanup check"] == story.processes["site"]
    assert story.seen["cleanup"] == story.seen["cleanup before"]
    assert story.processes["cleanup"] is None
    assert not story.pki.exists()
    assert {write.split()[0] for write in story.writes["cleanup"]} == {"delete"}
    assert len(story.writes["cleanup"]) == len(OBJECTS)
    assert story.writes["cleanup"][-1] == "delete secrets client-credential"
    assert story.runs["cleanup again"].changed == []
    assert story.writes["cleanup again"] == []


def test_no_key_appears_in_the_loudest_output(story: Story) -> None:
    assert len(story.secrets) > 50
    for name, done in story.runs.items():
        text = done.output + str(done.records)
        assert not [secret for secret in story.secrets if secret in text], f"a key is in the output of {name}"


# --- egress_mtls: a server and certificates of the test's own ---------------------------------------------------------------------


@dataclass
class Partner:
    """An external service behind an nginx that the role sample_workloads runs."""

    mesh: Mesh
    name: str
    client: Pair
    endpoint: dict[str, Any]

    @property
    def host(self) -> str:
        return f"{self.name}.example.org"

    def run(self, *arguments: str, login: str = "operator", **variables: Any) -> Run:
        given = {"egress_mtls_client_namespaces": ["default"], **variables}
        return self.mesh.playbook([{**include("egress_mtls", **given), "tags": ["always"]}], *arguments, login=login)

    def service(self, **more: Any) -> dict[str, Any]:
        return {"name": self.name, "host": self.host, "resolution": "STATIC", "endpoints": [self.endpoint], **more}

    def credential(self, **more: Any) -> dict[str, Any]:
        return {"name": self.name, **self.client.paths, "ca_certificate_path": str(self.client.ca_path), **more}

    def check(self, **more: Any) -> dict[str, Any]:
        return {"name": "it answers", "host": self.host, "expect": {"status": 200}, **more}


@pytest.fixture
def partner(mesh: Mesh, issue: Issue, credential_name: str) -> Iterator[Partner]:
    served = issue(f"{credential_name}.example.org", ca="playbooks")
    client = issue("client.example.org", ca="playbooks")
    server = {"name": credential_name, "host": f"{credential_name}.example.org", **served.paths, "ca_certificate_path": str(served.ca_path)}
    with socket.create_server(("127.0.0.33", 0)) as free:
        port = free.getsockname()[1]
    given = {
        "sample_workloads_external": [server],
        "sandbox_external_place": f"127.0.0.33:{port}",
    }
    run = [include("sample_workloads", "egress", **given)]
    mesh.playbook(run).ok()
    made = Partner(mesh, credential_name, client, {"address": "127.0.0.33", "ports": {"https": port}})
    yield made
    made.run(egress_mtls_state="absent", egress_mtls_services=[{"name": made.name}])
    mesh.playbook([include("sample_workloads", "egress", sample_workloads_state="absent", **given)]).ok()
    assert process(credential_name) is None


def test_from_mounted_files_to_a_credential_while_requests_flow(mesh: Mesh, partner: Partner) -> None:
    """The gateway is a process here and reads the files where they are; the Secrets are those of the walkthrough."""
    pair, authority = f"{partner.name}-client-certs", f"{partner.name}-ca-certs"
    files = {
        "certificate": str(partner.client.certificate_path),
        "private_key": str(partner.client.private_key_path),
        "ca_certificate": str(partner.client.ca_path),
    }
    before = {
        "egress_mtls_credentials": [{"name": pair, **partner.client.paths}],
        "egress_mtls_ca_secrets": [{"name": authority, "ca_certificate_path": files["ca_certificate"]}],
        "egress_mtls_services": [partner.service(certificate_files=files)],
        "egress_mtls_checks": [partner.check()],
    }
    after = {
        "egress_mtls_credentials": [partner.credential(), {"name": pair, "state": "absent"}],
        "egress_mtls_ca_secrets": [{"name": authority, "state": "absent"}],
        "egress_mtls_services": [partner.service(credential_name=partner.name)],
        "egress_mtls_checks": [partner.check(credential=partner.name, consecutive=3)],
    }
    try:
        assert partner.run("--check", **before).ok().changed
        assert mesh.get("secret", "istio-system", authority) is None
        secrets = canaries(partner.client.private_key)
        done = partner.run(*LOUD, **before).ok()
        assert not [secret for secret in secrets if secret in done.output + str(done.records)]
        made = {name: mesh.get("secret", "istio-system", name) for name in (pair, authority)}
        assert all(made.values())
        assert {name: set(secret["data"]) for name, secret in made.items() if secret} == {
            pair: {"tls.crt", "tls.key"},
            authority: {"ca-chain.cert.pem"},
        }
        assert base64.b64decode(made[authority]["data"]["ca-chain.cert.pem"]).strip() == partner.client.ca_path.read_bytes().strip()  # type: ignore[index]
        mark = mesh.audit_mark()
        assert partner.run(**before).ok().changed == []
        assert [write for write in mesh.writes_since(mark) if partner.name in write] == []

        answers: collections.Counter[int] = collections.Counter()
        over = threading.Event()

        def load() -> None:
            while not over.is_set():
                answers[ask(mesh, partner.host)[0]] += 1

        thread = threading.Thread(target=load)
        thread.start()
        try:
            changed = partner.run(**after).ok()
        finally:
            over.set()
            thread.join()
        assert set(answers) == {200} and answers[200] > 100, answers
        assert changed.changed
        assert mesh.get("secret", "istio-system", pair) is None
        assert mesh.get("secret", "istio-system", authority) is None
        assert partner.run(**after).ok().changed == []

        assert partner.run(egress_mtls_state="absent", **after).ok().changed
        assert mesh.get("secret", "istio-system", partner.name) is None
        assert partner.run(egress_mtls_state="absent", **after).ok().changed == []
    finally:
        mesh.kubectl("delete", "secret", pair, authority, "-n", "istio-system", "--ignore-not-found")


def test_a_check_names_what_it_lacks(mesh: Mesh, partner: Partner, issue: Issue) -> None:
    made = {"egress_mtls_credentials": [partner.credential()], "egress_mtls_services": [partner.service(credential_name=partner.name)]}
    partner.run("--tags", "apply", **made).ok()
    eventually(mesh, partner.host, 200)
    verify = ("--tags", "verify")

    def msg(run: Run) -> str:
        assert run.code != 0
        return str([result.get("results", result) for result in run.failed])

    # another credential than the one that is in use
    other = f"{partner.name}-cacert"
    unknown = partner.check(credential=other, timeout=0)
    assert "no such credential" in msg(partner.run(*verify, egress_mtls_checks=[unknown]))
    # a line that does not come
    past = partner.check(access_log="outbound_of_somebody_else")
    assert "Look whether access logging is on" in msg(partner.run(*verify, egress_mtls_checks=[past], egress_mtls_check_timeout=3))
    # no log at all is told, and is no success
    told = partner.run(*verify, egress_mtls_checks=[past], egress_mtls_access_log="").ok()
    assert "not checked: the access log" in told.output
    # nowhere to ask
    lost = partner.run(*verify, egress_mtls_checks=[partner.check()], egress_mtls_client_address="")
    assert "expected egress_mtls_client_address" in msg(lost)


def test_a_way_past_the_gateway_is_a_failure_only_where_policies_are_enforced(mesh: Mesh, partner: Partner) -> None:
    port = partner.endpoint["ports"]["https"]
    opened = {"name": "the direct way", "host": partner.host, "address": "127.0.0.33", "port": port}
    closed = {**opened, "port": 1}
    verify = ("--tags", "verify")
    for check in (opened, closed):
        told = partner.run(*verify, egress_mtls_bypass_checks=[check]).ok()
        assert "not enforced here: the direct way" in told.output
    refused = partner.run(*verify, egress_mtls_bypass_checks=[opened], egress_mtls_policies_enforced=True)
    assert refused.code != 0
    assert "expected a connection to 127.0.0.33" in str(refused.failed)
    proven = partner.run(*verify, egress_mtls_bypass_checks=[closed], egress_mtls_policies_enforced=True).ok()
    assert "not enforced here" not in proven.output
    unresolved = {"name": "nowhere", "host": "no-such-host.invalid"}
    assert partner.run(*verify, egress_mtls_bypass_checks=[unresolved], egress_mtls_policies_enforced=True).code != 0


def test_secrets_of_others_and_keys_are_refused_as_ca_certificates(mesh: Mesh, partner: Partner) -> None:
    def run(**item: Any) -> Run:
        return partner.run(egress_mtls_ca_secrets=[{"name": partner.name, "ca_certificate_path": str(partner.client.ca_path), **item}])

    key = run(ca_certificate_path=str(partner.client.private_key_path))
    assert key.code != 0
    assert "found a private key alone" in str(key.failed)
    assert not [secret for secret in canaries(partner.client.private_key) if secret in key.output + str(key.records)]
    mesh.kubectl("create", "secret", "generic", partner.name, "-n", "istio-system", "--from-literal=mine=kept")
    theirs = run()
    assert theirs.code != 0
    assert "found one that something else made" in str(theirs.failed)
    assert "found one that something else made" in str(run(state="absent").failed)
    kept = mesh.get("secret", "istio-system", partner.name)
    assert kept and set(kept["data"]) == {"mine"}


def test_the_named_role_suffices(mesh: Mesh, partner: Partner, tmp_path: Path) -> None:
    account = f"{partner.name}-login"
    text = (ROOT / "docs" / "rbac" / "named.yaml").read_text()
    items = yaml.safe_load(text.replace("client-credential", partner.name).replace("-named", f"-{partner.name}"))["items"]
    for item in items:
        if item["kind"] == "ServiceAccount":
            item["metadata"]["name"] = account
        for subject in item.get("subjects", []):
            subject["name"] = account
    mesh.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(items))
    try:
        made = {
            "egress_mtls_credentials": [partner.credential()],
            "egress_mtls_services": [partner.service(credential_name=partner.name)],
            "egress_mtls_checks": [partner.check(credential=partner.name)],
        }
        kubeconfig = login(mesh, account, "istio-system", tmp_path)
        assert partner.run(login=kubeconfig, **made).ok().changed
        assert partner.run(login=kubeconfig, **made).ok().changed == []
        assert partner.run(login=kubeconfig, egress_mtls_state="absent", **made).ok().changed
        refused = partner.run(login=kubeconfig, egress_mtls_credentials=[partner.credential(name=f"{partner.name}-other")])
        assert "may not get secrets" in str(refused.failed)
    finally:
        mesh.kubectl("delete", "-f", "-", stdin=yaml.safe_dump_all(items))


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"egress_mtls_checks": [{"name": "typo", "host": "a.example.com", "acces_log": "x"}]}, "acces_log"),
        ({"egress_mtls_services": [{"name": "a", "hosts": ["a.example.com"]}]}, "hosts"),
        ({"egress_mtls_credentials": [{"name": "a", "certificate_file": "x"}]}, "certificate_file"),
        ({"egress_mtls_state": "gone"}, "gone"),
    ],
)
def test_variables_are_checked(mesh: Mesh, variables: dict[str, Any], named: str) -> None:
    mark = mesh.audit_mark()
    done = mesh.playbook([include("egress_mtls", **variables)])
    assert done.code != 0
    assert named in str(done.failed)
    assert mesh.writes_since(mark) == []


def test_the_playbook_for_users_fails_where_a_file_is_missing(mesh: Mesh, credential_name: str) -> None:
    given = {"egress_mtls_credentials": [{"name": credential_name, "certificate_path": "/no/such.crt", "private_key_path": "/no/such.key"}]}
    done = mesh.playbook("playbooks/egress_mtls.yml", "-e", json.dumps(given))
    assert done.code != 0
    assert "/no/such.crt" in str(done.failed)
    assert mesh.playbook("playbooks/egress_mtls.yml", "-e", json.dumps(given), "--check").ok()


# --- sample_workloads -------------------------------------------------------------------------------------------------------------


def test_servers_and_client_are_deployed_and_removed(mesh: Mesh, namespace: str, issue: Issue) -> None:
    served, client = issue("nginx.example.com", ca="playbooks"), issue("client.example.org", ca="playbooks")
    outside = f"{namespace}-external"

    def run(*arguments: str, **more: Any) -> Run:
        given = {
            "sample_workloads_deploy": True,
            "sample_workloads_namespace": namespace,
            "sample_workloads_wait_timeout": 0,
            "sample_workloads_external_tasks": "",
            "sample_workloads_external_namespace": outside,
            "sample_workloads_external": [
                {"name": "my-nginx", "prefix": "nginx", "host": HOST, **served.paths, "ca_certificate_path": str(served.ca_path)}
            ],
            "sample_workloads_client": {**client.paths, "ca_certificate_path": str(client.ca_path)},
            **more,
        }
        # the sandbox has no kubelet: that Pods start is tried on kind
        return mesh.playbook([include("sample_workloads", "egress", **given)], *LOUD, *arguments, login="admin").ok()

    def made(where: str) -> set[str]:
        kinds = "deployments,services,secrets,configmaps,serviceaccounts"
        found = mesh.kubectl("get", kinds, "-n", where, "-o", "name", "--ignore-not-found").split()
        return {name for name in found if not name.endswith(("/default", "/kube-root-ca.crt", "/istio-ca-root-cert", "/istio-ca-crl"))}

    secrets = canaries(served.private_key, client.private_key)
    done = run()
    assert not [secret for secret in secrets if secret in done.output + str(done.records)]
    assert made(outside) == {
        "deployment.apps/my-nginx",
        "service/my-nginx",
        "secret/nginx-server-certs",
        "secret/nginx-ca-certs",
        "configmap/nginx-configmap",
    }
    assert made(namespace) == {
        "deployment.apps/sleep",
        "service/sleep",
        "serviceaccount/sleep",
        "secret/nginx-client-certs",
        "secret/nginx-ca-certs",
    }
    labels = json.loads(mesh.kubectl("get", "namespace", outside, "-o", "json"))["metadata"]["labels"]
    assert labels["istio-injection"] == "disabled"
    configuration = json.loads(mesh.kubectl("get", "configmap", "nginx-configmap", "-n", outside, "-o", "json"))["data"]["nginx.conf"]
    assert "ssl_verify_client on;" in configuration and "access_log /var/log/nginx/access.log main;" in configuration
    mounts = json.loads(mesh.kubectl("get", "deployment", "my-nginx", "-n", outside, "-o", "json"))["spec"]["template"]["spec"]
    assert [mount["mountPath"] for mount in mounts["containers"][0]["volumeMounts"]] == [
        "/etc/nginx",
        "/etc/nginx-server-certs",
        "/etc/nginx-ca-certs",
    ]
    assert run().changed == []
    assert run("--check", sample_workloads_state="absent").changed
    assert made(outside)
    run(sample_workloads_state="absent")
    assert made(namespace) == set()
    assert mesh.kubectl("get", "namespace", outside, "--ignore-not-found") == ""
    assert run(sample_workloads_state="absent").changed == []


def test_servers_without_certificates_are_told(mesh: Mesh) -> None:
    server = {
        "name": "test-none",
        "host": HOST,
        **{f"{part}_path": f"/no/such/{part}" for part in ("certificate", "private_key", "ca_certificate")},
    }
    done = mesh.playbook([include("sample_workloads", "egress", sample_workloads_external=[server])])
    assert done.code != 0
    assert "found no /no/such/certificate" in str(done.failed)
    assert process("test-none") is None
