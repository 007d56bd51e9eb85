# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway_proxy_info on the sandbox, whose proxies are no Pods: what the walkthroughs look up in the gateways, from their administration interfaces."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from .conftest import SANDBOX, Mesh, Pair
from .test_egress_origination import MODULE as ORIGINATION
from .test_egress_origination import Partner, eventually, partner
from .test_ingress_tls_gateway import HTTPBIN, absent, credential, gateway, host, probe

__all__ = ["host", "partner"]  # fixtures

Issue = Callable[..., Pair]
INGRESS, EGRESS = "http://127.0.0.1:15100", "http://127.0.0.1:15200"
LOGS = SANDBOX / "logs"
NOBODY = {"KUBECONFIG": "/none", "K8S_AUTH_KUBECONFIG": "/none"}
"""Proxies that are no Pods are read without any cluster."""


def look(*urls: str, **options: Any) -> dict[str, Any]:
    return {"meshops.istio.gateway_proxy_info": {"admin_urls": list(urls or (INGRESS,)), "delay": 0.2, **options}}


def fingerprint(path: Any) -> str:
    from ansible_collections.meshops.istio.plugins.module_utils.tls.material import read_chain

    return read_chain(path.read_bytes(), where="a test")[0].fingerprint


def test_the_gateway_got_the_key_pair_and_the_ca_over_sds(
    mesh: Mesh, issue: Issue, namespace: str, host: str, credential_name: str
) -> None:
    pair, client = issue(host), issue("client.example.com", ca="clients")
    server = {"hosts": [host], "credential_name": credential_name, "mode": "MUTUAL", "routes": [{"destination": HTTPBIN}]}
    told = {
        "name": credential_name,
        "fingerprint": [fingerprint(pair.certificate_path)],
        "ca": True,
        "ca_fingerprint": [fingerprint(client.ca_path)],
    }
    served = {"sni": host, "credential": credential_name, "mode": "MUTUAL"}
    mesh.playbook(
        [credential(credential_name, pair, ca_certificate_path=str(client.ca_path)), gateway(namespace, server)],
    ).ok()
    expect = {"ready": True, "credentials": [told], "servers": [served], "rejected": False}
    run = mesh.playbook([look(expect=expect, credentials=[credential_name])], **NOBODY).ok()
    (proxy,) = run.results("gateway_proxy_info")[0]["proxies"]
    assert [(one["name"], one["state"], one["in_use"]) for one in proxy["secrets"]] == [
        (credential_name, "active", True),
        (f"{credential_name}-cacert", "active", True),
    ]
    assert proxy["secrets"][0]["certificates"][0]["fingerprint_sha256"] == fingerprint(pair.certificate_path)
    assert proxy["node"] == "istio-ingressgateway-0.istio-system" and proxy["ready"] is True

    # rotated: the new one is waited for, and the old one is not there any more
    new = issue(host)
    mesh.playbook([credential(credential_name, new, ca_certificate_path=str(client.ca_path))]).ok()
    expect = {"credentials": [{"name": credential_name, "fingerprint": [fingerprint(new.certificate_path)]}]}
    old = {"credentials": [{"name": credential_name, "fingerprint": [fingerprint(pair.certificate_path)]}]}
    run = mesh.playbook([look(expect=expect), {**look(expect=old, timeout=0), "ignore_errors": True}], **NOBODY)
    assert f"found {fingerprint(new.certificate_path)}" in run.failed[0]["msg"]

    mesh.playbook([absent(namespace)]).ok()
    gone = {"credentials": [{"name": credential_name, "state": "absent"}]}
    # with other servers on the port the listener stays, and drains what is gone for the drain time
    mesh.playbook([look(expect=gone, timeout=90)], **NOBODY).ok()


def test_check_mode_looks_as_well(mesh: Mesh) -> None:
    run = mesh.playbook([look(EGRESS, expect={"ready": True})], "--check", **NOBODY).ok()
    (result,) = run.results("gateway_proxy_info")
    assert result["proxies"][0]["version"] and result["changed"] is False


def test_a_missing_credential_is_said_to_be_missing(mesh: Mesh, issue: Issue, namespace: str, host: str, credential_name: str) -> None:
    server = {"hosts": [host], "credential_name": credential_name, "routes": [{"destination": HTTPBIN}]}
    expect = {"credentials": [{"name": credential_name}]}
    tasks = [gateway(namespace, server), {**look(expect=expect, timeout=3), "ignore_errors": True}]
    run = mesh.playbook(tasks)
    assert f"{INGRESS}: has asked for credential {credential_name} and not got it" in run.failed[0]["msg"], run.output
    mesh.playbook([credential(credential_name, issue(host)), look(expect=expect)]).ok()
    mesh.playbook([absent(namespace)]).ok()


def test_a_key_of_another_certificate_is_told_with_envoys_reason(
    mesh: Mesh, issue: Issue, namespace: str, host: str, credential_name: str
) -> None:
    pair, other = issue(host), issue(host)
    server = {"hosts": [host], "credential_name": credential_name, "routes": [{"destination": HTTPBIN}]}
    mesh.playbook(
        [credential(credential_name, pair), gateway(namespace, server), look(expect={"credentials": [{"name": credential_name}]})]
    ).ok()
    # what the modules would not write
    patch = json.dumps({"stringData": {"tls.crt": other.certificate}})
    mesh.kubectl("patch", "secret", credential_name, "-n", "istio-system", "--type=merge", "-p", patch)
    expect = {"credentials": [{"name": credential_name, "fingerprint": [fingerprint(other.certificate_path)]}]}
    paths = {"paths": [str(LOGS / "istio-ingressgateway.log")], "limit": 0}
    tasks = [look(expect=expect, timeout=5, access_log=paths), look(expect={"credentials": [{"name": credential_name}]}, timeout=0)]
    time.sleep(1)
    run = mesh.playbook([{**task, "ignore_errors": True} for task in tasks], **NOBODY)
    first, second = run.failed
    assert f"got credential {credential_name} ({fingerprint(other.certificate_path)}) and does not use it" in first["msg"]
    assert "KEY_VALUES_MISMATCH" in first["msg"]
    assert "does not use it" in second["msg"]
    # it goes on to serve with the one that it had
    mesh.playbook([probe(mesh, host, pair, scheme="tls", expect={"fingerprint": [fingerprint(pair.certificate_path)]})], **NOBODY).ok()
    mesh.playbook([absent(namespace)]).ok()


def test_the_egress_gateways_log_has_the_line(mesh: Mesh, partner: Partner) -> None:
    mesh.playbook([{ORIGINATION: partner.arguments}]).ok()
    eventually(mesh, partner.host, 200)
    since = datetime.now(UTC).isoformat()
    log = {"paths": [str(LOGS / "istio-egressgateway.log")], "text": partner.host, "since": since}
    eventually(mesh, partner.host, 200, consecutive=1)
    expect = {"log_lines": 1, "credentials": [{"name": partner.name, "ca": True}]}
    run = mesh.playbook([look(EGRESS, access_log=log, expect=expect)], **NOBODY).ok()
    (result,) = run.results("gateway_proxy_info")
    assert result["log_matches"] >= 1
    assert partner.host in result["log_lines"][0]["line"] and '" 200 ' in result["log_lines"][0]["line"]
    assert any(one["sni"] == partner.host and one["credentials"] == [partner.name] for one in result["proxies"][0]["originations"])
    # a request that went another way leaves no line here
    none = {**log, "text": f"not-{partner.host}"}
    missing = look(EGRESS, access_log=none, expect={"log_lines": 1}, timeout=2)
    run = mesh.playbook([look(EGRESS, access_log=none, expect={"log_lines": 0}), {**missing, "ignore_errors": True}], **NOBODY)
    assert len(run.failed) == 1 and "access logging" in run.failed[0]["msg"]


@pytest.mark.parametrize("login", ["admin", "operator"])
def test_where_there_are_no_pods_that_is_said(mesh: Mesh, login: str) -> None:
    run = mesh.playbook([{"meshops.istio.gateway_proxy_info": {}}], login=login)
    assert run.failed[0]["msg"] == "expected 1 proxy or more, found 0 (Pods istio=ingressgateway in namespace istio-system)."
