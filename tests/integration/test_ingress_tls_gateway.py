# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ingress_tls_gateway against a real API server, istiod and its webhook, and an ingress gateway."""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import ApiError, connect
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import resource_of

from .conftest import ROOT, WRITE_VERBS, Mesh, Pair
from .test_rights import apply, login

Issue = Callable[..., Pair]
OTHER_PORT = 18543  # no Service has it, so that the gateway binds it as it is
HTTPBIN = {"host": "httpbin.default.svc.cluster.local", "port": 8000}


def cases() -> Any:
    """The unit tests' table."""
    spec = importlib.util.spec_from_file_location("admission_cases", ROOT / "tests" / "unit" / "istio" / "admission_cases.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module.CASES


CASES = cases()


@pytest.fixture(scope="module")
def verdicts(mesh: Mesh) -> dict[str, str | None]:
    """What the API server with istiod's webhook says to each case: None, or why it refuses."""
    cluster = connect({"kubeconfig": mesh.environment["KUBECONFIG"]})

    def ask(case: Any) -> str | None:
        manifest = copy.deepcopy(case.manifest)
        # under a name that nothing has: a dry run is merged with what is there
        manifest["metadata"]["name"] += "" if case.errors in (("gateway_name",), ("object_name",)) else "-verdict"
        try:
            cluster.apply(resource_of(manifest), manifest, dry_run=True)
        except ApiError as error:
            return error.server_message
        return None

    with ThreadPoolExecutor(8) as threads:
        return dict(zip((case.name for case in CASES), threads.map(ask, CASES), strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_istiod_refuses_what_we_refuse_and_admits_what_we_admit(verdicts: dict[str, str | None], case: Any) -> None:
    assert bool(verdicts[case.name]) == bool(case.errors), verdicts[case.name]


@pytest.fixture
def host(namespace: str) -> str:
    return f"{namespace}.example.com"


def gateway(namespace: str, *servers: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"meshops.istio.ingress_tls_gateway": {"name": "shop", "namespace": namespace, "servers": list(servers), **options}}


def absent(namespace: str, **options: Any) -> dict[str, Any]:
    return {"meshops.istio.ingress_tls_gateway": {"name": "shop", "namespace": namespace, "state": "absent", **options}}


def credential(name: str, pair: Pair, **options: Any) -> dict[str, Any]:
    return {"meshops.istio.istio_tls_credential": {"name": name, **pair.paths, **options}}


def probe(mesh: Mesh, host: str, pair: Pair | None, **options: Any) -> dict[str, Any]:
    return {
        "meshops.istio.tls_probe": {
            "host": host,
            "address": mesh.environment["INGRESS_HOST"],
            "port": int(mesh.environment["SECURE_INGRESS_PORT"]),
            **({"ca_certificate_path": str(pair.ca_path)} if pair else {}),
            "timeout": 15,
            "delay": 0.2,
            **options,
        }
    }


def done(result: dict[str, Any]) -> list[str]:
    return [f"{change['action']} {change['kind']} {change['name']}" for change in result["changes"]]


def requests(mesh: Mesh, mark: int, namespace: str) -> list[tuple[str, str]]:
    """What the operator asked of a namespace since a mark, in order: verbs and objects."""
    events = [event for event in mesh.requests_since(mark, "meshops-operator") if event.get("objectRef", {}).get("namespace") == namespace]
    return [(event["verb"], f"{event['objectRef']['resource']} {event['objectRef'].get('name', '')}") for event in events]


def writes(mesh: Mesh, mark: int, namespace: str) -> list[str]:
    return [f"{verb} {what}" for verb, what in requests(mesh, mark, namespace) if verb in WRITE_VERBS]


def warned(result: dict[str, Any]) -> str:
    return "\n".join(str(warning) for warning in result.get("warnings") or [])


def test_a_host_is_served_changed_and_removed(mesh: Mesh, issue: Issue, namespace: str, host: str, credential_name: str) -> None:
    pair, client = issue(host), issue("client.example.com", ca="clients")
    status = {"match": [{"prefix": "/status"}], "destination": HTTPBIN}
    simple = {"hosts": [host], "credential_name": credential_name, "http_redirect": True, "routes": [status]}
    mutual = {**simple, "mode": "MUTUAL", "routes": [status, {"name": "all", "match": [{"prefix": "/headers"}], "destination": HTTPBIN}]}
    with_client = {"client_certificate_path": str(client.certificate_path), "client_private_key_path": str(client.private_key_path)}
    mark = mesh.audit_mark()
    run = mesh.playbook(
        [
            credential(credential_name, pair, ca_certificate_path=str(client.ca_path)),
            gateway(namespace, simple, labels={"team": "shop"}),
            probe(mesh, host, pair, path="/status/418", expect={"status": [418]}),
            probe(mesh, host, pair, path="/headers", expect={"status": [404]}),
            probe(mesh, host, None, scheme="http", port=80, expect={"status": [301], "headers": {"location": f"https://{host}/"}}),
            gateway(namespace, simple, labels={"team": "shop"}),
            gateway(namespace, mutual),
            probe(mesh, host, pair, path="/status/418", expect={"failure": ["certificate_required"]}),
            probe(mesh, host, pair, path="/headers", expect={"status": [200]}, **with_client),
            gateway(namespace, simple),
            probe(mesh, host, pair, path="/headers", expect={"status": [404]}),
            absent(namespace),
            absent(namespace),
            probe(mesh, host, pair, path="/status/418", expect={"failure": ["connection_reset", "connection_refused"]}),
        ]
    ).ok()
    created, unchanged, changed, pruned, removed, gone = run.results("ingress_tls_gateway")
    route = f"shop-{host}"
    assert done(created) == [f"created VirtualService {route}", "created Gateway shop"]
    assert created["gateway_namespaces"] == ["istio-system"]
    assert warned(created) == ""
    assert (unchanged["changed"], done(unchanged)) == (False, [])
    assert done(changed) == [f"updated VirtualService {route}", "created VirtualService all", "updated Gateway shop"]
    assert done(pruned) == ["updated Gateway shop", "deleted VirtualService all"]
    assert done(removed) == ["deleted Gateway shop", f"deleted VirtualService {route}"]
    assert (gone["changed"], done(gone)) == (False, [])
    assert writes(mesh, mark, namespace) == [
        f"patch virtualservices {route}",
        "patch gateways shop",
        f"patch virtualservices {route}",  # without the label
        "patch virtualservices all",
        "patch gateways shop",
        "patch gateways shop",
        "delete virtualservices all",
        "delete gateways shop",
        f"delete virtualservices {route}",
    ]


def test_an_international_host_is_served_as_clients_ask_for_it(
    mesh: Mesh, issue: Issue, namespace: str, host: str, credential_name: str
) -> None:
    written, sent = f"Faß.{host}.", f"xn--fa-hia.{host}"
    pair = issue(sent)
    server = {"hosts": [written], "credential_name": credential_name, "routes": [{"destination": HTTPBIN}]}
    run = mesh.playbook(
        [
            credential(credential_name, pair, hosts=[written]),
            gateway(namespace, server),
            probe(mesh, written, pair, path="/headers", expect={"status": [200], "text": sent}),
            gateway(namespace, server),
        ]
    ).ok()
    assert run.results("tls_probe")[0]["sni"] == sent
    live = mesh.get("gateway.networking.istio.io", namespace, "shop")
    assert live and live["spec"]["servers"][0]["hosts"] == [sent]
    assert run.results("ingress_tls_gateway")[1]["changed"] is False


def test_a_route_stays_with_its_server(mesh: Mesh, issue: Issue, namespace: str, host: str, credential_name: str) -> None:
    """What is meant for a MUTUAL server does not answer on the SIMPLE server of the same host on another port."""
    pair, client = issue(host), issue("client.example.com", ca="clients")
    public = {"hosts": [host], "credential_name": credential_name, "routes": [{"match": [{"prefix": "/status"}], "destination": HTTPBIN}]}
    admin = {
        "hosts": [host],
        "port": OTHER_PORT,
        "mode": "MUTUAL",
        "credential_name": credential_name,
        "routes": [{"name": "admin", "destination": HTTPBIN}],
    }
    with_client = {"client_certificate_path": str(client.certificate_path), "client_private_key_path": str(client.private_key_path)}
    mesh.playbook(
        [
            credential(credential_name, pair, ca_certificate_path=str(client.ca_path)),
            gateway(namespace, public, admin),
            probe(mesh, host, pair, path="/headers", port=OTHER_PORT, expect={"status": [200]}, **with_client),
            probe(mesh, host, pair, path="/status/418", expect={"status": [418]}),
            probe(mesh, host, pair, path="/headers", expect={"status": [404]}),
            absent(namespace),
        ]
    ).ok()


def test_the_older_gateway_keeps_a_host_as_the_warning_says(
    mesh: Mesh, issue: Issue, namespace: str, host: str, credential_name: str
) -> None:
    pair = issue(host, f"b.{host}")
    server = {"hosts": [host], "credential_name": credential_name}
    run = mesh.playbook(
        [
            credential(credential_name, pair),
            gateway(namespace, {**server, "routes": [{"destination": HTTPBIN}]}),
            probe(mesh, host, pair, path="/status/418", expect={"status": [418]}),
            {"ansible.builtin.pause": {"seconds": 1}},  # within one second names decide
            {
                "meshops.istio.ingress_tls_gateway": {
                    "name": "younger",
                    "namespace": namespace,
                    "servers": [{"hosts": [host, f"b.{host}"], "credential_name": credential_name, "routes": [{"destination": HTTPBIN}]}],
                }
            },
            {"ansible.builtin.pause": {"seconds": 1}},
            # the younger Gateway's server is dropped with its other host too
            probe(mesh, f"b.{host}", pair, expect={"failure": ["connection_reset"]}),
            probe(mesh, host, pair, path="/status/418", expect={"status": [418]}),
            gateway(namespace, {**server, "routes": [{"destination": HTTPBIN}]}),
        ]
    ).ok()
    __, younger, older = run.results("ingress_tls_gateway")
    assert f"Gateway {namespace}/shop serves {host} on port 443 too: that Gateway is the older one" in warned(younger)
    assert f"Gateway {namespace}/younger serves {host} on port 443 too: this Gateway is the older one" in warned(older)


EVERY_SHAPE: list[dict[str, Any]] = [
    {
        "hosts": ["a.{host}"],
        "credential_name": "a",
        "http_redirect": True,
        "min_protocol_version": "TLSV1_2",
        "cipher_suites": ["AES128-SHA"],
    },
    {
        "hosts": ["b.{host}"],
        "mode": "MUTUAL",
        "credential_names": ["rsa", "ecdsa"],
        "ca_cert_credential_name": "clients-cacert",
        "subject_alt_names": ["client.example.com"],
        "verify_certificate_spki": ["c" * 43 + "="],
        "verify_certificate_hash": ["ab" * 32],
        "max_protocol_version": "TLSV1_3",
    },
    {
        "hosts": ["c.{host}"],
        "mode": "OPTIONAL_MUTUAL",
        "server_certificate": "/c/tls.crt",
        "private_key": "/c/tls.key",
        "ca_certificates": "/c/ca.crt",
        "ca_crl": "/c/ca.crl",
    },
    {"hosts": ["d.{host}"], "mode": "ISTIO_MUTUAL"},
    {"hosts": ["e.{host}"], "mode": "ISTIO_MUTUAL", "protocol": "TLS", "routes": [{"destination": HTTPBIN}]},
    {"hosts": ["f.{host}", "*.f.{host}"], "mode": "PASSTHROUGH", "routes": [{"destination": HTTPBIN}]},
    {"hosts": ["*.local"], "mode": "AUTO_PASSTHROUGH", "port": 15443},
    {"hosts": ["./*.g.{host}"], "credential_name": "kubernetes://a", "bind": "127.0.0.11", "routes": [{"destination": HTTPBIN}]},
    {
        "hosts": ["h.{host}"],
        "credential_name": "h",
        "routes": [
            {
                "name": "everything",
                "match": [
                    {
                        "prefix": "/h",
                        "ignore_case": True,
                        "methods": ["GET", "HEAD"],
                        "authority": {"prefix": "h"},
                        "headers": {"X-A": "1"},
                        "without_headers": {"x-b": {"regex": "*"}},
                        "query_params": {"v": {"regex": "[0-9]+"}},
                    },
                    {"regex": "/v[0-9]+/.*"},
                ],
                "destinations": [{**HTTPBIN, "weight": 9}, {"host": "b", "subset": "v1", "weight": 1}],
                "timeout": "1m30s",
                "retries": {"attempts": 3, "per_try_timeout": "250ms", "retry_on": ["5xx", "503"]},
                "rewrite": {"regex": "^/h", "substitution": "/", "authority": "b"},
                "headers": {"response": {"set": {"strict-transport-security": "max-age=31536000"}, "remove": ["server"]}},
            },
            {"name": "everything", "destination": HTTPBIN},
        ],
    },
]


def with_host(value: Any, host: str) -> Any:
    if isinstance(value, dict):
        return {key: with_host(inner, host) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_host(inner, host) for inner in value]
    return value.replace("{host}", host) if isinstance(value, str) else value


def test_every_shape_is_admitted_and_stays_as_it_was_written(mesh: Mesh, namespace: str, host: str) -> None:
    """`--check` lists exactly what the real run makes; nothing of it reads differently afterwards."""
    # for workloads that are not there: some of it needs files, others would take the address from under what is served
    task = gateway(namespace, *with_host(EVERY_SHAPE, host), selector={"istio": namespace})
    mark = mesh.audit_mark()
    checked = mesh.playbook([task], "--check").ok().results("ingress_tls_gateway")[0]
    assert writes(mesh, mark, namespace) == []
    assert "not validated" not in "".join(checked.get("notes", []))
    made, again, removed = mesh.playbook([task, task, absent(namespace)]).ok().results("ingress_tls_gateway")
    assert done(made) == done(checked)
    routes = [f"shop-e.{host}", f"shop-f.{host}", f"shop-wildcard.g.{host}", "everything"]
    assert done(made) == [*(f"created VirtualService {route}" for route in routes), "created Gateway shop"]
    assert (again["changed"], done(again)) == (False, [])
    assert len(removed["changes"]) == 5


def test_a_bad_gateway_is_refused_before_anything_is_sent(mesh: Mesh, namespace: str, host: str) -> None:
    bad = gateway(
        namespace,
        {"hosts": [host], "credential_name": "a"},
        {"hosts": [host], "mode": "MUTUAL", "routes": [{"destination": {"host": "*"}}]},
    )
    mark = mesh.audit_mark()
    for flags in ([], ["--check"]):
        run = mesh.playbook([bad], *flags)
        assert [problem["code"] for problem in run.failed[0]["problems"]] == [
            "client_ca_missing",
            "certificate_missing",
            "certificate_missing",
            "duplicate_host",
            "destination_host",
        ]
        assert "Traceback" not in run.output
    assert requests(mesh, mark, namespace) == []


def test_a_key_in_place_of_a_path_is_not_shown(mesh: Mesh, issue: Issue, namespace: str, host: str) -> None:
    key = issue(host).private_key
    run = mesh.playbook([gateway(namespace, {"hosts": [host], "server_certificate": "/c", "private_key": key})], "-vvvv", "--diff")
    assert run.failed[0]["problems"][0]["code"] == "content_instead_of_path"
    secret = key.splitlines()[2]
    assert secret not in "".join(line for line in run.output.splitlines() if "playbook" not in line)


def test_credentials_that_are_not_there(mesh: Mesh, issue: Issue, namespace: str, host: str, credential_name: str) -> None:
    pair = issue(host)
    server = {"hosts": [host], "credential_name": credential_name}
    run = mesh.playbook(
        [
            gateway(namespace, server),
            credential(credential_name, pair, namespace=namespace),
            gateway(namespace, server),
            credential(credential_name, pair),
            gateway(namespace, {**server, "mode": "MUTUAL"}),
            gateway(namespace, {"hosts": [host], "credential_name": f"{namespace}/{credential_name}"}),
            gateway(namespace, server, selector={"istio": "nobody"}),
        ],
        login="admin",
    ).ok()
    nowhere, misplaced, without_ca, elsewhere, nobody = run.results("ingress_tls_gateway")
    assert f"expected Secret {credential_name} in istio-system, where the gateway's pods run, found none" in warned(nowhere)
    assert f"ove the one in {namespace} there" in warned(misplaced)
    assert f"expected ca.crt (or cacert) in Secret istio-system/{credential_name}, found tls.crt, tls.key" in warned(without_ca)
    assert "credential_in_other_namespace" in warned(elsewhere)
    assert "no Pod and no WorkloadEntry has the labels istio=nobody" in warned(nobody)
    checked = mesh.playbook([gateway(namespace, {"hosts": [host], "credential_name": "not-yet"})], "--check").ok().results()[0]
    assert warned(checked) == "" and "expected Secret not-yet in istio-system" in str(checked["notes"])


def test_pods_count_as_workloads(mesh: Mesh, issue: Issue, namespace: str, host: str) -> None:
    """The sandbox's gateways are WorkloadEntries; nothing schedules this Pod, but it is there."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "gw", "namespace": namespace, "labels": {"istio": namespace}},
        "spec": {"containers": [{"name": "a", "image": "a"}]},
    }
    mesh.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(pod))
    task = gateway(namespace, {"hosts": [host], "credential_name": "a"}, selector={"istio": namespace})
    assert mesh.playbook([task], login="admin").ok().results()[0]["gateway_namespaces"] == [namespace]


def test_a_foreign_gateway_is_left_alone_unless_told(mesh: Mesh, namespace: str, host: str) -> None:
    foreign = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "shop", "namespace": namespace},
        "spec": {"servers": [{"hosts": ["old.example.com"], "port": {"number": 80, "name": "http", "protocol": "HTTP"}}]},
    }
    mesh.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(foreign))
    task = gateway(namespace, {"hosts": [host], "credential_name": "a"})
    refused = mesh.playbook([task])
    assert [problem["code"] for problem in refused.failed[0]["problems"]] == ["conflict"]
    assert "spec.servers" in refused.failed[0]["msg"] and "kubectl-client-side-apply" in refused.failed[0]["msg"]
    kept = mesh.playbook([absent(namespace)])
    assert [problem["code"] for problem in kept.failed[0]["problems"]] == ["foreign_object"]
    assert mesh.get("gateways.networking.istio.io", namespace, "shop")["spec"] == foreign["spec"]
    taken = mesh.playbook([gateway(namespace, {"hosts": [host], "credential_name": "a"}, force_conflicts=True), absent(namespace)]).ok()
    assert [done(result) for result in taken.results()] == [["updated Gateway shop"], ["deleted Gateway shop"]]


def test_pruning_and_removing_leave_foreign_routes(mesh: Mesh, namespace: str, host: str) -> None:
    route = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "theirs", "namespace": namespace},
        "spec": {"hosts": [host], "gateways": [f"{namespace}/shop"], "http": [{"route": [{"destination": {"host": "theirs"}}]}]},
    }
    mesh.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(route))
    server = {"hosts": [host], "credential_name": "a"}
    ours = {**server, "routes": [{"name": "ours", "match": [{"prefix": "/a"}], "destination": HTTPBIN}]}
    run = mesh.playbook(
        [gateway(namespace, ours), gateway(namespace, server, prune=False), gateway(namespace, server), absent(namespace)]
    ).ok()
    assert [done(result) for result in run.results()] == [
        ["created VirtualService ours", "created Gateway shop"],
        [],
        ["deleted VirtualService ours"],
        ["deleted Gateway shop"],
    ]
    assert mesh.get("virtualservice", namespace, "theirs")["spec"] == route["spec"]


def test_a_namespace_that_is_yet_to_be_made(mesh: Mesh, namespace: str, host: str) -> None:
    task = gateway(f"{namespace}-later", {"hosts": [host], "credential_name": "a"})
    checked = mesh.playbook([task], "--check").ok().results()[0]
    assert done(checked) == ["created Gateway shop"]
    assert "namespace_missing" in warned(checked) and f"no {namespace}-later" in warned(checked)
    refused = mesh.playbook([task])
    assert f"namespace {namespace}-later does not exist" in refused.failed[0]["msg"]


def test_a_login_for_one_namespace_suffices_and_what_it_cannot_see_is_told(mesh: Mesh, namespace: str, host: str, tmp_path: Path) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "few", "namespace": namespace}}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "few", "namespace": namespace},
        "rules": [
            {
                "apiGroups": ["networking.istio.io"],
                "resources": ["gateways", "virtualservices"],
                "verbs": ["get", "list", "create", "patch", "delete"],
            }
        ],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "few", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "few"},
        "subjects": [{"kind": "ServiceAccount", "name": "few", "namespace": namespace}],
    }
    apply(mesh, [account, role, binding])
    few = login(mesh, "few", namespace, tmp_path)
    task = gateway(namespace, {"hosts": [host], "credential_name": "a", "routes": [{"destination": HTTPBIN}]})
    made = mesh.playbook([task], login=few).ok().results()[0]
    notes = "\n".join(made["notes"])
    assert made["changed"] and made["gateway_namespaces"] == [] and warned(made) == ""
    for expected in (
        "pods that match the selector were not looked for",
        "workloadentries",
        "gateways in other namespaces were not checked",
    ):
        assert expected in notes
    role["rules"][0]["verbs"].remove("list")
    apply(mesh, [role])
    refused = mesh.playbook([task], login=few)
    assert f"may not list virtualservices.networking.istio.io in namespace {namespace}" in refused.failed[0]["msg"]
