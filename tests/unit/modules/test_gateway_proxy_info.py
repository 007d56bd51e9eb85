# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against administration interfaces that say what real Envoys said, and log files."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.common.text.converters import to_bytes
from ansible_collections.meshops.istio.plugins.modules import gateway_proxy_info
from ansible_collections.meshops.istio.tests.unit.live.servers import Server, http_once, listening

DATA = Path(__file__).parents[1] / "istio" / "data"
GOOD = "recorded-good"
ACCESS = '"GET /status/418 HTTP/1.1" 418 - via_upstream - "-" 0 13 1 1 "-" "curl/8" "id" "httpbin.example.com"'
REFUSED = (
    "warning\tenvoy config a.cc:160\tgRPC config for type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret rejected: "
    "Failed to load private key from <inline>, Cause: KEY_VALUES_MISMATCH\tthread=7"
)
Run = Callable[..., dict[str, Any]]


def pages(name: str) -> dict[str, bytes]:
    found = json.loads((DATA / f"proxy_{name}.json").read_text())
    return {page: (content if isinstance(content, str) else json.dumps(content)).encode() for page, content in found.items()}


@pytest.fixture
def envoy() -> Iterator[Callable[..., str]]:
    """Starts an administration interface that serves recorded pages, one set after the other, the last one for ever; gives its URL."""
    with ExitStack() as opened:

        def start(*names: str) -> str:
            sets = [pages(name) for name in names]
            counts: dict[str, int] = {}
            server: Server

            def handle(connection: socket.socket) -> None:
                http_once(connection, server, b"")
                page = server.requests[-1].split(b" ")[1].decode().strip("/").partition("?")[0]
                number = counts.get(page, 0)
                counts[page] = number + 1
                content = sets[min(number, len(sets) - 1)][page]
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))

            server = opened.enter_context(listening(handle))
            return f"http://127.0.0.1:{server.port}"

        yield start


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def act(**arguments: Any) -> dict[str, Any]:
        text = json.dumps({"ANSIBLE_MODULE_ARGS": {"_ansible_remote_tmp": "/tmp", **arguments}})
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", to_bytes(text))
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        with pytest.raises(SystemExit):
            gateway_proxy_info.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return act


def test_everything_that_is_documented_is_returned(run: Run, envoy: Callable[..., str], tmp_path: Path) -> None:
    documented = yaml.safe_load(gateway_proxy_info.RETURN)
    log = tmp_path / "log"
    log.write_text("")
    result = run(admin_urls=[envoy("ingress")], access_log={"paths": [str(log)]})
    assert set(result) - {"changed", "invocation"} == set(documented)
    (proxy,) = result["proxies"]
    assert set(proxy) == set(documented["proxies"]["contains"])
    assert set(proxy["secrets"][0]) == set(documented["proxies"]["contains"]["secrets"]["contains"])
    assert result["changed"] is False and result["attempts"] == 1 and proxy["ready"] is True


def test_no_bytes_in_the_result(run: Run, envoy: Callable[..., str]) -> None:
    text = json.dumps(run(admin_urls=[envoy("ingress"), envoy("egress")]))
    assert GOOD in text and "recorded-client" in text
    for forbidden in ("LS0tLS1", "-----BEGIN", "inline_bytes"):
        assert forbidden not in text


def test_every_proxy_must_be_as_expected(run: Run, envoy: Callable[..., str]) -> None:
    one, other = envoy("ingress"), envoy("egress")
    fine = run(admin_urls=[one], expect={"ready": True, "proxies": 1, "credentials": [{"name": GOOD}]}, timeout=0)
    assert fine["unmet"] == [] and "failed" not in fine
    result = run(admin_urls=[one, other], expect={"proxies": 3, "credentials": [{"name": GOOD}]}, timeout=0)
    assert result["failed"] and len(result["proxies"]) == 2
    assert f"{other}: does not ask for credential {GOOD}" in result["msg"] and f"{one}: does" not in result["msg"]
    assert "expected 3 proxies or more, found 2" in result["msg"]


def test_it_waits(run: Run, envoy: Callable[..., str]) -> None:
    expect = {"credentials": [{"name": GOOD}]}
    result = run(admin_urls=[envoy("egress", "egress", "ingress")], expect=expect, timeout=30, delay=0)
    assert (result["attempts"], result["unmet"]) == (3, [])
    late = run(admin_urls=[envoy("egress", "egress", "ingress")], expect=expect, timeout=0)
    assert late["attempts"] == 1 and late["failed"]


def test_why_a_credential_is_not_used_is_found_in_the_log(run: Run, envoy: Callable[..., str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    recent, old = datetime.now(UTC) - timedelta(minutes=5), datetime.now(UTC) - timedelta(hours=2)
    log.write_text(f"{old.isoformat()}\t{REFUSED.replace('KEY_VALUES', 'LONG_AGO')}\n{recent.isoformat()}\t{REFUSED}\n")
    expect = {"credentials": [{"name": "recorded-bad"}]}
    result = run(admin_urls=[envoy("ingress")], access_log={"paths": [str(log)]}, expect=expect, timeout=0)
    assert "got credential recorded-bad" in result["msg"]
    assert "refused secret: Failed to load private key from <inline>, Cause: KEY_VALUES_MISMATCH" in result["msg"]
    assert "LONG_AGO" not in result["msg"]
    assert result["proxies"][0]["rejections"][0]["what"] == "secret"


def test_refused_listeners(run: Run, envoy: Callable[..., str]) -> None:
    assert run(admin_urls=[envoy("ingress")], expect={"rejected": False}, timeout=0)["unmet"] == []
    result = run(admin_urls=[envoy("refused")], expect={"rejected": False}, timeout=0)
    assert "refuses an update of listener bad" in result["msg"]


def at(minutes: float) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_log_lines_are_found_by_time_text_and_expression(run: Run, envoy: Callable[..., str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(f"[{at(60)}] {ACCESS}\n[{at(1)}] {ACCESS}\n[{at(1)}] other\n   and on\n[{at(0.5)}] {ACCESS.replace('418', '503')}\n")
    url = envoy("egress")

    def found(**more: Any) -> list[str]:
        result = run(admin_urls=[url], access_log={"paths": [str(log)], **more})
        assert result["log_matches"] == len(result["log_lines"])
        return [line["line"].partition("] ")[2] or line["line"] for line in result["log_lines"]]

    assert found(text="httpbin.example.com") == [ACCESS, ACCESS.replace("418", "503")]
    assert found(text="httpbin.example.com", regex=" 418 -") == [ACCESS]
    assert found(regex=" 418 -", since="2h") == [ACCESS, ACCESS]
    assert found(since=at(0.75)) == [ACCESS.replace("418", "503")]
    assert found(text="and on") == ["   and on"]
    assert found(text="nothing like that") == []


@pytest.mark.parametrize(("since", "count"), [("12:00:00.620", 1), ("12:00:00.620168", 1), ("12:00:00.620999", 1), ("12:00:00.621", 0)])
def test_a_line_of_the_same_millisecond_is_no_older(run: Run, envoy: Callable[..., str], tmp_path: Path, since: str, count: int) -> None:
    """Envoy cuts off what is below it: a request that followed may seem older by that."""
    log = tmp_path / "log"
    log.write_text(f"[2026-01-31T12:00:00.620Z] {ACCESS}\n")
    result = run(admin_urls=[envoy("egress")], access_log={"paths": [str(log)], "since": f"2026-01-31T{since}Z"})
    assert result["log_matches"] == count


def test_of_many_lines_the_last_are_returned(run: Run, envoy: Callable[..., str], tmp_path: Path) -> None:
    logs = [tmp_path / "a", tmp_path / "b"]
    for number, log in enumerate(logs):
        log.write_text("".join(f"[{at(4 - 0.1 * line - 0.05 * number)}] {log.name}{line}\n" for line in range(20)))
    paths = [str(log) for log in logs]
    result = run(admin_urls=[envoy("egress")], access_log={"paths": paths, "limit": 3})
    assert result["log_matches"] == 40
    assert [line["line"].rpartition(" ")[2] for line in result["log_lines"]] == ["b18", "a19", "b19"]
    assert [line["proxy"] for line in result["log_lines"]] == [paths[1], paths[0], paths[1]]
    assert run(admin_urls=[envoy("egress")], access_log={"paths": paths, "limit": 0})["log_lines"] == []


def test_a_log_is_looked_at_piece_by_piece(run: Run, envoy: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.meshops.istio.plugins.module_utils.live import envoy as live

    monkeypatch.setattr(live, "_LINES_TOGETHER", 100)
    monkeypatch.setattr(live, "_LONGEST_LINE", 64)
    log = tmp_path / "log"
    log.write_text("".join(f"[{at(4 - 0.1 * line)}] line {line}\n" for line in range(20)) + "x" * 1000)
    result = run(admin_urls=[envoy("egress")], access_log={"paths": [str(log)], "regex": "line 1?[0-4]$|^x+$", "limit": 100})
    assert [line["line"].rpartition("line ")[2] for line in result["log_lines"]] == [
        *map(str, [*range(5), *range(10, 15)]),
        *["x" * 64] * 15,
        "x" * 40,
    ]


def test_what_is_no_log_is_neither_waited_for_nor_read_for_good(run: Run, envoy: Callable[..., str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, what in ((tmp_path / "pipe", "a pipe"), ("/dev/zero", "a device"), (tmp_path, "a directory")):
        result = run(admin_urls=[envoy("egress")], access_log={"paths": [str(path)]})
        assert result["failed"] and f"{path}: expected a readable file, found: {what}" in result["msg"]


@pytest.mark.parametrize(("wanted", "met"), [(0, False), (1, True), (2, True), (3, False)])
def test_lines_that_are_expected(run: Run, envoy: Callable[..., str], tmp_path: Path, wanted: int, met: bool) -> None:
    log = tmp_path / "log"
    log.write_text(f"[{at(1)}] {ACCESS}\n[{at(1)}] {ACCESS}\n")
    expect = {"log_lines": wanted}
    result = run(admin_urls=[envoy("egress")], access_log={"paths": [str(log)], "text": "418"}, expect=expect, timeout=0)
    assert (result["unmet"] == []) is met
    if not met:
        expected = "no line" if wanted == 0 else "3 lines or more"
        assert f"expected {expected} with text '418' since 5m in the logs of {log}, found 2" in result["msg"]


def test_no_lines_at_all_is_said_with_what_may_be_missing(run: Run, envoy: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "log").write_text("")
    log = {"paths": [str(tmp_path / "log")], "regex": "x"}
    result = run(admin_urls=[envoy("egress")], access_log=log, expect={"log_lines": 1}, timeout=0)
    assert "found 0; look whether access logging is switched on" in result["msg"]
    assert run(admin_urls=[envoy("egress")], access_log=log, expect={"log_lines": 0}, timeout=0)["unmet"] == []


def test_proxies_that_cannot_be_read(run: Run, envoy: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    result = run(admin_urls=[nobody])
    assert result["failed"] and f"{nobody}: expected Envoy's administration interface to answer" in result["msg"]
    assert "Connection refused" in result["msg"]
    some = run(admin_urls=[nobody, envoy("egress")])
    assert "failed" not in some and nobody in some["notes"][0]
    assert [bool(proxy["error"]) for proxy in some["proxies"]] == [True, False]
    assert run(admin_urls=[nobody, envoy("egress")], expect={}, timeout=0)["failed"]


def test_what_answers_may_be_no_envoy(run: Run) -> None:
    server: Server
    with listening(lambda connection: http_once(connection, server, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")) as server:
        result = run(admin_urls=[f"http://127.0.0.1:{server.port}"])
    assert "expected an administration page of Envoy, found 'hi'" in result["msg"]
    with listening(lambda connection: http_once(connection, server, b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")) as server:
        result = run(admin_urls=[f"http://127.0.0.1:{server.port}"])
    assert "found: HTTP status 403" in result["msg"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"admin_urls": ["https://127.0.0.1:15000"]}, "expected http://address:port"),
        ({"admin_urls": ["127.0.0.1:15000"]}, "expected http://address:port"),
        ({"admin_urls": ["http://127.0.0.1:15000/certs"]}, "expected http://address:port"),
        ({"admin_urls": ["http://127.0.0.1:x"]}, "expected http://address:port"),
        ({"selector": {}}, "found none, which every Pod would match"),
        ({"admin_urls": ["http://a:1"], "access_log": {"text": "a"}}, "does not say where its log is"),
        ({"access_log": {"regex": "("}}, "is not a regular expression"),
        ({"access_log": {"since": "yesterday"}, "admin_urls": ["http://a:1"]}, "does not say where its log is"),
        ({"access_log": {"since": "yesterday"}}, "expected a duration such as"),
        ({"access_log": {"since": "2026-01-01T00:00:00"}}, "expected a time with its zone"),
        ({"access_log": {"limit": -1}}, "expected 0 or more, found -1"),
        ({"expect": {"log_lines": 1}}, "there is no access_log"),
        ({"expect": {"credentials": [{"name": "a", "fingerprint": ["x"]}]}}, "64 hexadecimal digits"),
        ({"delay": -1}, "delay"),
        ({"request_timeout": 0}, "request_timeout"),
    ],
)
def test_wrong_arguments(run: Run, arguments: dict[str, Any], told: str) -> None:
    result = run(**arguments)
    assert result["failed"] and told in result["msg"]


def test_a_log_that_cannot_be_read(run: Run, envoy: Callable[..., str], tmp_path: Path) -> None:
    result = run(admin_urls=[envoy("egress")], access_log={"paths": [str(tmp_path / "none")]})
    assert result["failed"] and "expected a readable file, found: No such file" in result["msg"]


def test_documentation_agrees_with_the_code() -> None:
    def compare(documented: dict[str, Any], spec: dict[str, Any]) -> None:
        assert list(documented) == list(spec)
        for name, option in spec.items():
            for key in ("type", "choices", "default", "required", "elements"):
                assert documented[name].get(key) == option.get(key), (name, key)
            compare(documented[name].get("suboptions", {}), option.get("options", {}))

    compare(yaml.safe_load(gateway_proxy_info.DOCUMENTATION)["options"], gateway_proxy_info.SPEC)
