# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module from its arguments to its printed result, against real servers on loopback."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic
from ansible_collections.meshops.istio.plugins.module_utils.live.request import FAILURES
from ansible_collections.meshops.istio.plugins.modules import tls_probe
from ansible_collections.meshops.istio.tests.unit.live.servers import (
    OK,
    Pki,
    Server,
    http_once,
    https,
    listening,
    make,
    server_context,
)

HOST = "a.example.com"
TEAPOT = b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 6\r\n\r\nteapot"

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


@contextlib.contextmanager
def module_arguments(arguments: dict[str, Any]) -> Iterator[None]:
    try:
        from ansible.module_utils.testing import patch_module_args
    except ImportError:  # ansible-core before 2.19
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
            yield
    else:
        with patch_module_args(arguments):
            yield


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def once(server: Server | None = None, **arguments: Any) -> dict[str, Any]:
        if server:
            arguments = {"address": server.address, "port": server.port} | arguments
        if "probes" not in arguments:
            arguments = {"host": HOST} | arguments
        with module_arguments(arguments), pytest.raises(SystemExit):
            tls_probe.main()
        output = capsys.readouterr().out
        result: dict[str, Any] = json.loads(output)
        result["output"] = output
        return result

    yield once
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_as_in_the_documentation(pki: Pki, tmp_path: Path, run: Run) -> None:
    ca = tmp_path / "ca.crt"
    ca.write_bytes(pki.root.pem)
    with https(server_context(tmp_path, pki.server), TEAPOT) as server:
        result = run(server, path="/status/418", ca_certificate_path=str(ca), expect={"status": 418})
        assert server.requests[0].startswith(b"GET /status/418 HTTP/1.1\r\n")
    assert not result.get("failed")
    assert result["changed"] is False
    assert (result["stage"], result["status"], result["body"], result["attempts"], result["unmet"]) == ("http", 418, "teapot", 1, [])
    assert result["peer_chain"][0]["sans"] == ["a.example.com", "*.wild.example.com", "127.0.0.1"]


def test_expectation_that_is_not_met(pki: Pki, tmp_path: Path, run: Run) -> None:
    with https(server_context(tmp_path, pki.server), TEAPOT) as server:
        result = run(server, ca_certificate=pki.root.pem.decode(), expect={"status": [200, 204]}, timeout=0.2, delay=0.1)
    assert result["failed"] is True
    assert "expected status 200 or 204, found status 418" in result["msg"]
    assert result["status"] == 418
    assert result["attempts"] > 1
    assert result["changed"] is False


def test_expected_failures(pki: Pki, tmp_path: Path, run: Run) -> None:
    with https(server_context(tmp_path, pki.server, client_ca=pki.root)) as server:
        required = run(server, ca_certificate=pki.root.pem.decode(), expect={"failure": "certificate_required"})
        unknown = run(server, ca_certificate=pki.foreign.pem.decode(), expect={"failure": ["unknown_ca"]})
        missed = run(server, ca_certificate=pki.foreign.pem.decode(), expect={"failure": "expired"}, timeout=0)
    assert not required.get("failed")
    assert (required["stage"], required["failure"], required["alert"]) == ("tls", "certificate_required", "certificate_required")
    assert not unknown.get("failed")
    assert missed["failed"] is True
    assert "expected failure expired, found failure unknown_ca" in missed["msg"]
    assert "CN=test root" in missed["msg"]


def test_expected_failure_that_does_not_happen(pki: Pki, tmp_path: Path, run: Run) -> None:
    with https(server_context(tmp_path, pki.server)) as server:
        result = run(server, ca_certificate=pki.root.pem.decode(), expect={"failure": "unknown_ca"}, timeout=0)
    assert result["failed"] is True
    assert "expected failure unknown_ca, found status 200" in result["msg"]


def test_without_expectation_there_is_one_attempt(pki: Pki, tmp_path: Path, run: Run) -> None:
    with https(server_context(tmp_path, pki.server), TEAPOT) as server:
        assert not run(server, ca_certificate=pki.root.pem.decode()).get("failed")
        result = run(server, ca_certificate=pki.foreign.pem.decode())
    assert (result["failed"], result["attempts"], result["failure"]) == (True, 1, "unknown_ca")


def test_tries_until_it_is_as_expected(pki: Pki, tmp_path: Path, run: Run) -> None:
    with https(server_context(tmp_path, pki.server), [OK, TEAPOT, OK, TEAPOT]) as server:
        result = run(server, ca_certificate=pki.root.pem.decode(), expect={"status": 418}, consecutive=3, delay=0.01)
    assert not result.get("failed")
    assert (result["attempts"], result["successes"]) == (6, 3)


def test_secrets_appear_nowhere(pki: Pki, tmp_path: Path, run: Run) -> None:
    client = make("client", by=pki.root)
    key = client.key(b"canary-passphrase").decode()
    given = {
        "ca_certificate": pki.root.pem.decode(),
        "client_certificate": client.pem.decode(),
        "client_private_key": key,
        "client_private_key_passphrase": "canary-passphrase",
        "secret_headers": {"Authorization": "Bearer canary-token"},
    }
    echo = b"HTTP/1.1 200 OK\r\nX-Echo: canary-token\r\n\r\n" + b"x" * 1992 + b"canary-token"
    with https(server_context(tmp_path, pki.server, client_ca=pki.root), echo) as server:
        fine = run(server, **given)
        assert b"\r\nAuthorization: Bearer canary-token\r\n" in server.requests[0]
        failed = run(server, **given, expect={"status": 500}, timeout=0)
        assert not run(server, **given, verify=False)["verified"]
        wrong = run(server, **given | {"client_private_key_passphrase": "canary-other"})
        mismatched = run(server, **given | {"client_certificate": pki.server.pem.decode()})
    assert (fine["status"], fine["verified"]) == (200, True)
    assert not fine.get("failed")
    assert failed["failed"]
    assert [wrong["problems"][0]["code"], mismatched["problems"][0]["code"]] == ["wrong_passphrase", "key_mismatch"]
    for result in (fine, failed, wrong, mismatched):
        assert "canary" not in result["output"]
        assert not any(line in result["output"] for line in key.splitlines()[1:-1])


def test_plain_request_with_a_json_body(run: Run) -> None:
    server: Server
    with listening(lambda connection: http_once(connection, server, OK)) as server:
        result = run(server, scheme="http", method="PUT", path="/put", body={"a": [1]}, headers={"X-Number": 7}, expect={"text": "hello"})
    assert not result.get("failed")
    assert b"\r\nX-Number: 7\r\n" in server.requests[0]
    assert b"\r\nContent-Type: application/json\r\n" in server.requests[0]
    assert (result["protocol"], result["peer_chain"]) == (None, [])


def test_a_few_words_over_plain_tcp(run: Run) -> None:
    with listening(lambda connection: connection.sendall(b"+PONG\r\n" if connection.recv(1024) == b"PING\r\n" else b"-ERR\r\n")) as server:
        fine = run(server, scheme="tcp", body="PING\r\n", expect={"text": "+PONG"})
        failed = run(server, scheme="tcp", body="HELLO\r\n", expect={"text": "+PONG"}, timeout=0)
    assert not fine.get("failed") and (fine["stage"], fine["body"]) == ("tcp", "+PONG\r\n")
    assert "expected text '+PONG' in the body, found '-ERR\\r\\n'" in failed["msg"]


def test_check_mode_asks_but_changes_nothing(run: Run) -> None:
    server: Server
    with listening(lambda connection: http_once(connection, server, OK)) as server:
        asked = run(server, scheme="http", _ansible_check_mode=True)
        skipped = run(server, scheme="http", method="DELETE", _ansible_check_mode=True)
        unsaid = run(server, scheme="tcp", body="FLUSHALL\r\n", _ansible_check_mode=True)
    assert unsaid["skipped"] is True
    assert asked["status"] == 200
    assert skipped["skipped"] is True
    assert "DELETE" in skipped["msg"]
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"host": "https://a.example.com"}, "expected a host name or an address, found 'https://a.example.com'"),
        ({"ca_certificate": "x", "ca_certificate_path": "/x"}, "expected one of ca_certificate and ca_certificate_path, found both"),
        ({"ca_certificate_path": "/does/not/exist.pem"}, "ca_certificate_path /does/not/exist.pem"),
        ({"ca_certificate": "nonsense"}, "ca_certificate: expected PEM certificates, found neither PEM nor"),
        ({"expect": {"failure": "unkown_ca"}}, "unkown_ca"),
        ({"expect": {"failure": "unknown_ca", "status": 200}}, "expect.failure: a request that fails has no HTTP response"),
        ({"expect": {"fingerprint": "ab:cd"}}, "expect.fingerprint: expected a SHA-256 fingerprint"),
        ({"consecutive": 0}, "consecutive: expected 1 or more"),
    ],
)
def test_wrong_arguments(run: Run, arguments: dict[str, Any], told: str) -> None:
    result = run(**{"address": "127.0.0.1", "port": 1} | arguments)
    assert result["failed"] is True
    assert told in result["msg"]
    assert "Traceback" not in result["output"]


def test_cluster_options_are_accepted_and_told_apart(pki: Pki, tmp_path: Path, run: Run) -> None:
    cluster = {
        "kubeconfig": "/k",
        "context": "c",
        "ca_cert": "/ca.crt",
        "client_cert": "/c",
        "client_key": "/k",
        "api_key": "token-of-the-cluster",
    }
    with https(server_context(tmp_path, pki.server, client_ca=pki.root)) as server:
        unknown = run(server, **cluster, validate_certs=False)
        required = run(server, **cluster, ca_certificate=pki.root.pem.decode())
    assert "ca_cert is about the cluster, ca_certificate_path about this request" in unknown["msg"]
    assert "validate_certs is about the cluster, verify about this request" in unknown["msg"]
    assert "client_cert is about the cluster, client_certificate_path about this request" in required["msg"]
    assert "ca_cert is" not in required["msg"]


def test_documentation_agrees_with_the_code() -> None:
    options = yaml.safe_load(tls_probe.DOCUMENTATION)["options"]
    assert set(options) == set(tls_probe.SPEC)
    assert list(options["probes"]["suboptions"]) == list(tls_probe.SPEC["probes"]["options"])
    suboptions = options["expect"]["suboptions"]
    assert list(suboptions) == list(tls_probe.SPEC["expect"]["options"])
    assert suboptions["failure"]["choices"] == list(FAILURES)
    described = [line.split(")")[0].removeprefix("V(") for line in suboptions["failure"]["description"] if line.startswith("V(")]
    assert described == list(FAILURES)
    for name, option in tls_probe.SPEC.items():
        documented = options[name]
        for key in ("type", "choices", "default", "required", "elements"):
            assert documented.get(key) == option.get(key), (name, key)


def test_returned_values_are_documented(pki: Pki, tmp_path: Path, run: Run) -> None:
    documented = yaml.safe_load(tls_probe.RETURN)
    with https(server_context(tmp_path, pki.server)) as server:
        result = run(server, ca_certificate=pki.root.pem.decode())
        listed = run(server, ca_certificate=pki.root.pem.decode(), probes=[{"host": HOST, "verify": False}])
    assert set(result) - {"changed", "invocation", "output"} == set(documented) - {"results"}
    assert set(listed["results"][0]) == set(documented) - {"results"} | {"name", "failed"}
    assert {"name", "failed", "msg", "skipped"} == set(documented["results"]["contains"])
    assert set(result["peer_chain"][0]) == set(documented["peer_chain"]["contains"])


# --- lists --------------------------------------------------------------------------------------------------------------


def test_a_list_is_carried_out_in_its_order_and_inherits(pki: Pki, tmp_path: Path, run: Run) -> None:
    with https(server_context(tmp_path, pki.server, client_ca=pki.root), TEAPOT) as server:
        client = make("client", by=pki.root)
        result = run(
            server,
            ca_certificate=pki.root.pem.decode(),
            client_certificate=client.pem.decode(),
            client_private_key=client.key().decode(),
            headers={"X-All": "all", "x-one": "not this"},
            path="/all",
            probes=[
                {"name": "teapot", "host": HOST, "expect": {"status": 418}, "headers": {"X-One": "one"}},
                {"host": "b.wild.example.com", "path": "/own", "verify": True},
                {"name": "foreign", "host": HOST, "ca_certificate": pki.foreign.pem.decode(), "expect": {"failure": "unknown_ca"}},
                {"name": "other port", "host": HOST, "scheme": "http", "port": 1, "expect": {"failure": "connection_refused"}},
            ],
        )
    assert not result.get("failed"), result["msg"]
    assert [item["name"] for item in result["results"]] == ["teapot", "b.wild.example.com", "foreign", "other port"]
    assert [item["failed"] for item in result["results"]] == [False] * 4
    assert [item["status"] for item in result["results"]] == [418, 418, None, None]
    asked = {request.split(b"\r\n")[0]: request for request in server.requests}
    assert b"\r\nX-One: one\r\n" in asked[b"GET /all HTTP/1.1"] and b"not this" not in asked[b"GET /all HTTP/1.1"]
    assert all(b"\r\nX-All: all\r\n" in request for request in server.requests)
    assert b"\r\nHost: b.wild.example.com\r\n" in asked[b"GET /own HTTP/1.1"]


def test_all_of_a_list_are_tried_and_all_failures_told_in_its_order(pki: Pki, tmp_path: Path, run: Run) -> None:
    names = [f"number {number}" for number in range(20)]
    with https(server_context(tmp_path, pki.server), TEAPOT) as server:
        probes = [{"name": name, "host": HOST, "expect": {"status": 200 if index % 4 == 0 else 418}} for index, name in enumerate(names)]
        result = run(server, ca_certificate=pki.root.pem.decode(), probes=probes, timeout=0, parallel=7)
        alone = run(server, ca_certificate=pki.root.pem.decode(), probes=probes[:3], timeout=0)
    assert result["failed"] and result["changed"] is False
    assert len(server.requests) == 23
    lines = result["msg"].splitlines()
    assert lines[0] == "5 of 20 probes failed:"
    assert [line.split(":")[0] for line in lines[1:]] == [f"- {name}" for name in names[::4]]
    assert all("expected status 200, found status 418" in line for line in lines[1:])
    assert [item["failed"] for item in result["results"]] == [index % 4 == 0 for index in range(20)]
    assert alone["msg"].startswith("1 of 3 probes failed: number 0: GET https://a.example.com/ at ")


def test_everything_that_is_wrong_with_a_list_is_told_before_a_request(run: Run) -> None:
    with listening(lambda connection: None) as server:
        result = run(
            server,
            scheme="http",
            probes=[
                {"name": "one", "host": HOST, "path": "no slash"},
                {"name": "two"},
                {"name": "three", "host": HOST, "expect": {"text_regex": "("}, "consecutive": 0},
                {"name": "four", "host": HOST, "scheme": "https", "ca_certificate": "no PEM"},
                {"name": "five", "host": HOST, "ports": {"80": "many"}},
                {"name": "six", "host": HOST, "expect": {"credential": ["sds://x"]}},
                {"name": "seven", "host": HOST, "expect": {"credential": ["some-cacert"]}},
            ],
            parallel=0,
        )
    assert [(problem["code"], problem["where"]) for problem in result["problems"]] == [
        ("invalid_request", "probes[0] (one): path"),
        ("no_host", "probes[1] (two): host"),
        ("invalid_expectation", "probes[2] (three): expect.text_regex"),
        ("invalid_request", "probes[2] (three): consecutive"),
        ("not_pem", "probes[3] (four): ca_certificate"),
        ("invalid_request", "probes[4] (five): ports"),
        ("credential_name", "probes[5] (six): expect.credential"),
        ("credential_ca_only", "probes[6] (seven): expect.credential"),
        ("invalid_request", "parallel"),
    ]


def test_ports_that_stand_for_others(pki: Pki, tmp_path: Path, run: Run) -> None:
    with https(server_context(tmp_path, pki.server), TEAPOT) as server:
        result = run(
            address=server.address,
            ports={"443": server.port, 80: 1},
            verify=False,
            timeout=0,
            probes=[
                {"host": HOST},
                {"host": HOST, "port": 443},
                {"host": HOST, "scheme": "http"},
                {"host": HOST, "port": server.port, "address": server.address},
                {"host": HOST, "port": 81, "scheme": "http", "expect": {"failure": "connection_refused"}},
            ],
        )
    assert [item["port"] for item in result["results"]] == [server.port, server.port, 1, server.port, 81]
    assert [item["failure"] for item in result["results"]] == [None, None, "connection_refused", None, "connection_refused"]


def test_a_list_in_check_mode_leaves_out_what_may_change_something(run: Run) -> None:
    server: Server
    with listening(lambda connection: http_once(connection, server, OK)) as server:
        result = run(server, scheme="http", _ansible_check_mode=True, probes=[{"host": HOST, "method": "POST"}, {"host": HOST}])
    assert [(item.get("skipped"), item["failed"], item.get("status")) for item in result["results"]] == [
        (True, False, None),
        (None, False, 200),
    ]
    assert len(server.requests) == 1


def test_secrets_of_a_list_appear_nowhere(pki: Pki, tmp_path: Path, run: Run) -> None:
    client = make("client", by=pki.root)
    key = client.key(b"canary-passphrase").decode()
    given = {
        "host": HOST,
        "client_certificate": client.pem.decode(),
        "client_private_key": key,
        "client_private_key_passphrase": "canary-passphrase",
        "secret_headers": {"Authorization": "Bearer canary-token"},
    }
    echo = b"HTTP/1.1 200 OK\r\nX-Echo: canary-token\r\n\r\n" + b"x" * 1992 + b"canary-token"
    with https(server_context(tmp_path, pki.server, client_ca=pki.root), echo) as server:
        shared = {"ca_certificate": pki.root.pem.decode(), "timeout": 0}
        results = [
            run(server, **shared, probes=[given, given | {"expect": {"status": 500}}]),
            run(server, **shared, probes=[given | {"client_private_key_passphrase": "canary-other"}]),
            run(server, **shared, probes=[given | {"client_private_key_path": key}]),
        ]
    assert [item["failed"] for item in results[0]["results"]] == [False, True]
    for result in results:
        assert "canary" not in result["output"]
        assert not any(line in result["output"] for line in key.splitlines()[1:-1])
