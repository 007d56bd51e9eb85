# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read from the pages of real Envoys (recorded by record_proxy.py), and what is said where it is not as expected."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.proxy import (
    Listener,
    Origination,
    Proxy,
    Rejection,
    Secret,
    Server,
    Uses,
)
from ansible_collections.meshops.istio.plugins.module_utils.istio.proxy_dump import read_proxy, read_secrets
from ansible_collections.meshops.istio.plugins.module_utils.istio.proxy_expect import (
    Expected,
    ExpectedCredential,
    ExpectedServer,
    check,
    judge,
)
from ansible_collections.meshops.istio.plugins.module_utils.istio.proxy_log import Line, is_refusal, line_time, refusals
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected

NOW = datetime(2027, 1, 1, tzinfo=UTC)
Recorded = dict[str, Any]


def recorded(name: str) -> Recorded:
    found: Recorded = json.loads((Path(__file__).parent / "data" / f"proxy_{name}.json").read_text())
    return found


def proxy_of(pages: Recorded) -> Proxy:
    encoded = {name: (page if isinstance(page, str) else json.dumps(page)).encode() for name, page in pages.items()}
    return read_proxy(encoded, NOW, where="the proxy")


def section(pages: Recorded, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in pages["config_dump"]["configs"] if one["@type"].endswith(name))
    return found


@pytest.fixture(scope="module")
def ingress() -> Proxy:
    return proxy_of(recorded("ingress"))


@pytest.fixture(scope="module")
def egress() -> Proxy:
    return proxy_of(recorded("egress"))


def named(proxy: Proxy, name: str) -> Secret:
    return next(one for one in proxy.secrets if one.name == name)


# --- what is read -----------------------------------------------------------------------------------------------------


def test_it_says_who_it_is(ingress: Proxy) -> None:
    assert (ingress.node, ingress.version, ingress.state) == ("istio-ingressgateway-0.istio-system", "1.40.0", "LIVE")
    assert ingress.istio_version and ingress.istio_version.startswith("1.")


def test_secrets_and_whether_they_are_in_use(ingress: Proxy) -> None:
    assert [(one.name, one.kind, one.state, one.in_use) for one in ingress.secrets] == [
        ("ROOTCA", "ca", "active", True),
        ("default", "certificate", "active", True),
        ("recorded-bad", "certificate", "active", False),  # the key does not belong to it
        ("recorded-good", "certificate", "active", True),
        ("recorded-missing", "certificate", "warming", False),
        ("recorded-missing-cacert", "ca", "warming", False),
        ("recorded-mutual", "certificate", "active", True),
        ("recorded-mutual-cacert", "ca", "active", True),
    ]
    good = named(ingress, "recorded-good")
    assert good.resource == "kubernetes://recorded-good"
    assert good.certificates[0]["sans"] == ["good.recorded.example.com"]
    assert good.last_updated and good.last_updated.endswith("Z")


def test_what_is_served_instead_of_a_refused_certificate_is_told(ingress: Proxy) -> None:
    (still,) = ingress.held
    assert still.sans == ("other.recorded.example.com",) and still.kind == "certificate"


def test_tls_servers(ingress: Proxy) -> None:
    (listener,) = ingress.listeners
    assert (listener.name, listener.address, listener.state) == ("0.0.0.0_443", "127.0.0.11:443", "active")
    alpn = ("h2", "http/1.1")
    assert listener.servers == (
        Server(("good.recorded.example.com",), "SIMPLE", ("recorded-good",), None, alpn),
        Server(("bad.recorded.example.com",), "SIMPLE", ("recorded-bad",), None, alpn),
        Server(("mutual.recorded.example.com",), "MUTUAL", ("recorded-mutual",), "recorded-mutual-cacert", alpn),
        Server(("missing.recorded.example.com",), "MUTUAL", ("recorded-missing",), "recorded-missing-cacert", alpn),
    )


def secrets_only(pages: Recorded) -> dict[str, bytes]:
    """What Envoy answers when it is asked for nothing else."""
    dump = {"configs": section(pages, "SecretsConfigDump")["dynamic_active_secrets"]}
    return {"certs": json.dumps(pages["certs"]).encode(), "secrets": json.dumps(dump).encode()}


def test_secrets_are_read_anew_without_the_rest(ingress: Proxy) -> None:
    pages = recorded("ingress")
    assert read_secrets(ingress, secrets_only(pages), NOW, where="the proxy") == ingress
    entries = section(pages, "SecretsConfigDump")["dynamic_active_secrets"]
    good, other = (next(one for one in entries if one["name"] == f"kubernetes://recorded-{name}") for name in ("good", "mutual"))
    good["secret"]["tls_certificate"] = other["secret"]["tls_certificate"]
    good["last_updated"] = "2027-01-01T00:00:00.000Z"
    pages["certs"]["certificates"] = [one for one in pages["certs"]["certificates"] if "good.recorded" not in json.dumps(one)]
    now = read_secrets(ingress, secrets_only(pages), NOW, where="the proxy")
    assert (
        named(now, "recorded-good").certificates
        == named(ingress, "recorded-mutual").certificates
        != named(ingress, "recorded-good").certificates
    )
    assert named(now, "recorded-good").in_use and now.listeners == ingress.listeners
    section(pages, "SecretsConfigDump")["dynamic_active_secrets"] = []
    assert {one.state for one in read_secrets(now, secrets_only(pages), NOW, where="the proxy").secrets} == {"warming"}
    assert {one.state for one in read_secrets(now, {"certs": b"{}", "secrets": b"{}"}, NOW, where="the proxy").secrets} == {"warming"}
    with pytest.raises(Rejected, match="not_envoy"):
        read_secrets(ingress, {"certs": b"{}", "secrets": b"no such page"}, NOW, where="the proxy")


def test_what_a_credential_is_used_for(ingress: Proxy, egress: Proxy) -> None:
    assert ingress.uses() == {f"recorded-{name}": Uses(served=True) for name in ("good", "bad", "mutual", "missing")}
    assert egress.uses()["recorded-client"] == Uses(clusters=frozenset({"outbound|8444||partner.recorded.example.com"}))
    assert ingress.refers_to("recorded-mutual") and not ingress.refers_to("recorded")
    going = replace(ingress, listeners=tuple(replace(one, state="draining") for one in ingress.listeners))
    assert going.uses() == {} and not going.refers_to("recorded-mutual") and going.secrets_of("recorded-mutual") == []
    elsewhere = Listener("l", "[::]:443", "active", (Server(("a",), "MUTUAL", ("kubernetes-gateway://n/shop",), "x/shop-cacert"),))
    assert replace(ingress, listeners=(elsewhere,)).refers_to("shop")


def test_originations_without_the_meshs_own(egress: Proxy) -> None:
    name = "partner.recorded.example.com"
    cluster = "outbound|8444||partner.recorded.example.com"
    assert egress.originations == (Origination(cluster, "active", name, ("recorded-client",), "recorded-client-cacert", (name,)),)
    assert named(egress, "recorded-client").in_use and named(egress, "recorded-client-cacert").in_use


def test_refused_listeners_are_told_once() -> None:
    proxy = proxy_of(recorded("refused"))
    (rejection,) = proxy.rejections
    assert rejection.what == "listener bad"
    assert "KEY_VALUES_MISMATCH" in rejection.detail and rejection.at
    assert proxy.counters == {"listener_manager.lds.update_rejected": 1}
    assert [one.path for one in proxy.held] == ["/etc/envoy/good.crt"]
    assert proxy.listeners[0].servers == (Server(("good.recorded.example.com",), "SIMPLE", ("/etc/envoy/good.crt",)),)
    assert proxy.node == "of-its-own" and proxy.istio_version is None


def test_no_bytes_of_certificates_and_keys_are_returned(ingress: Proxy, egress: Proxy) -> None:
    for name, proxy in (("ingress", ingress), ("egress", egress)):
        shown = json.dumps(proxy.as_result())
        assert "inline_bytes" in json.dumps(recorded(name))
        for forbidden in ("inline_bytes", "LS0tLS1", "BEGIN", "redacted"):
            assert forbidden not in shown


def test_only_some_credentials_can_be_shown(ingress: Proxy) -> None:
    shown = ingress.as_result(["recorded-mutual"])
    assert [one["name"] for one in shown["secrets"]] == ["recorded-mutual", "recorded-mutual-cacert"]
    assert len(ingress.as_result()["secrets"]) == 8


@pytest.mark.parametrize(
    ("context", "server"),
    [
        ({"require_client_certificate": True}, Server((), "MUTUAL", ("a",), "a-cacert")),
        ({"require_client_certificate": False}, Server((), "OPTIONAL_MUTUAL", ("a",), "a-cacert")),
    ],
)
def test_modes_follow_from_the_tls_context(context: dict[str, Any], server: Server) -> None:
    pages = recorded("ingress")
    names = {
        "tls_certificate_sds_secret_configs": [{"name": "kubernetes://a"}],
        "combined_validation_context": {"validation_context_sds_secret_config": {"name": "kubernetes://a-cacert"}},
    }
    found = {"@type": "type.googleapis.com/x.DownstreamTlsContext", "common_tls_context": names, **context}
    chains = [{"transport_socket": {"typed_config": found}}]
    section(pages, "ListenersConfigDump")["dynamic_listeners"][0]["active_state"]["listener"]["filter_chains"] = chains
    assert proxy_of(pages).listeners[0].servers == (server,)


def test_other_kinds_of_filter_chains() -> None:
    pages = recorded("ingress")
    own = {
        "tls_certificate_sds_secret_configs": [{"name": "default"}],
        "combined_validation_context": {"validation_context_sds_secret_config": {"name": "ROOTCA"}},
    }
    context = {"@type": "x.DownstreamTlsContext", "require_client_certificate": True, "common_tls_context": own}
    listener = section(pages, "ListenersConfigDump")["dynamic_listeners"][0]["active_state"]["listener"]
    listener["filter_chains"] = [
        {"filter_chain_match": {"server_names": ["pass.example.com"]}},
        {"transport_socket": {"typed_config": context}},
        {"transport_socket": {"typed_config": {"@type": "x.QuicDownstreamTransport", "downstream_tls_context": context}}},
        {"filters": []},  # no TLS
    ]
    listener["address"] = {"socket_address": {"address": "::", "port_value": 8443}}
    (found,) = proxy_of(pages).listeners
    assert found.address == "[::]:8443"
    mutual = Server((), "ISTIO_MUTUAL", ("default",), "ROOTCA")
    assert found.servers == (Server(("pass.example.com",), "PASSTHROUGH"), mutual, mutual)


def test_the_same_serial_number_of_another_issuer_is_not_in_use() -> None:
    pages = recorded("ingress")
    for context in pages["certs"]["certificates"]:
        for one in context["cert_chain"]:
            one["valid_from"] = "1999-01-01T00:00:00Z"
    assert not named(proxy_of(pages), "recorded-good").in_use


def test_unreadable_certificates_are_a_problem_of_that_secret_alone() -> None:
    pages = recorded("ingress")
    for one in section(pages, "SecretsConfigDump")["dynamic_active_secrets"]:
        if one["name"] == "kubernetes://recorded-good":
            one["secret"]["tls_certificate"]["certificate_chain"] = {"inline_bytes": "bm8gUEVN"}
    proxy = proxy_of(pages)
    assert named(proxy, "recorded-good").problem and not named(proxy, "recorded-good").in_use
    assert named(proxy, "recorded-mutual").in_use


@pytest.mark.parametrize(
    ("page", "content", "found"),
    [
        ("server_info", b"<html>hello</html>", "hello"),
        ("server_info", b"", "nothing"),
        ("config_dump", b'{"kind": "Status"}', "JSON of another program"),
        ("certs", b"[]", "[]"),
    ],
)
def test_what_is_not_envoy_is_said_so(page: str, content: bytes, found: str) -> None:
    pages = {name: json.dumps(one).encode() for name, one in recorded("ingress").items()} | {page: content}
    with pytest.raises(Rejected, match="administration") as rejected:
        read_proxy(pages, NOW, where="http://127.0.0.1:80")
    assert found in str(rejected.value) and "http://127.0.0.1:80" in str(rejected.value)


def test_a_proxy_that_holds_nothing_yet_can_be_read() -> None:
    pages = recorded("ingress")
    pages |= {"certs": {}, "config_dump": {"configs": []}, "stats": "", "server_info": {"state": "PRE_INITIALIZING"}}
    proxy = proxy_of(pages)
    assert (proxy.state, proxy.secrets, proxy.listeners, proxy.is_suspicious) == ("PRE_INITIALIZING", (), (), False)


# --- what is expected -------------------------------------------------------------------------------------------------


def fingerprint(proxy: Proxy, name: str) -> str:
    return str(named(proxy, name).certificates[0]["fingerprint_sha256"])


@pytest.mark.parametrize(
    ("expected", "lacks"),
    [
        (ExpectedCredential("recorded-good"), []),
        (ExpectedCredential("kubernetes://recorded-good"), []),
        (ExpectedCredential("recorded-mutual", ca=True), []),
        (ExpectedCredential("recorded-nope", present=False), []),
        (ExpectedCredential("recorded-missing", present=False), []),
        (ExpectedCredential("recorded-good", present=False), ["still holds credential recorded-good"]),
        (ExpectedCredential("recorded-nope"), ["does not ask for credential recorded-nope"]),
        (ExpectedCredential("recorded-missing"), ["has asked for credential recorded-missing and not got it"]),
        (ExpectedCredential("recorded-missing", ca=True), ["recorded-missing and not", "recorded-missing-cacert and not"]),
        (ExpectedCredential("recorded-bad"), ["got credential recorded-bad", "does not use it"]),
        (ExpectedCredential("recorded-good", ca=True), ["does not ask for credential recorded-good-cacert"]),
        (ExpectedCredential("recorded-good", ("ab" * 32,)), ["with fingerprint abab"]),
        (ExpectedCredential("recorded-mutual", ca_fingerprints=("ab" * 32,)), ["recorded-mutual-cacert with fingerprint abab"]),
    ],
    ids=str,
)
def test_credentials(ingress: Proxy, expected: ExpectedCredential, lacks: list[str]) -> None:
    found = judge(ingress, Expected(credentials=(expected,)))
    assert bool(found) == bool(lacks)
    for lack in lacks:
        assert any(lack in one for one in found), found


def test_what_only_listeners_on_their_way_out_have_is_not_there_any_more() -> None:
    pages = recorded("ingress")
    (listener,) = section(pages, "ListenersConfigDump")["dynamic_listeners"]
    listener["draining_state"] = listener.pop("active_state")
    proxy = proxy_of(pages)
    assert named(proxy, "recorded-good").in_use  # Envoy holds it until they have drained
    assert judge(proxy, Expected(credentials=(ExpectedCredential("recorded-good", present=False),))) == []
    assert judge(proxy, Expected(credentials=(ExpectedCredential("recorded-good"),))) != []
    assert judge(proxy, Expected(servers=(ExpectedServer("good.recorded.example.com"),))) != []
    listener["active_state"] = listener["draining_state"]  # changed, not removed
    proxy = proxy_of(pages)
    assert judge(proxy, Expected(credentials=(ExpectedCredential("recorded-good"),))) == []
    assert judge(proxy, Expected(credentials=(ExpectedCredential("recorded-good", present=False),))) != []


def test_fingerprints_in_any_spelling(ingress: Proxy) -> None:
    printed = fingerprint(ingress, "recorded-good")
    for spelled in (printed, printed.upper(), printed.replace(":", ""), f"sha256 Fingerprint={printed.upper()}"):
        assert check(expected := Expected(credentials=(ExpectedCredential("recorded-good", (spelled,)),))) == []
        assert judge(ingress, expected) == []
    ca = fingerprint(ingress, "recorded-mutual-cacert")
    assert judge(ingress, Expected(credentials=(ExpectedCredential("recorded-mutual", ca_fingerprints=("ab" * 32, ca)),))) == []
    assert judge(ingress, Expected(credentials=(ExpectedCredential("recorded-mutual-cacert", (ca,)),))) == []


def test_credentials_of_the_gateway_api_are_found_by_name() -> None:
    pages = recorded("ingress")
    text = json.dumps(pages).replace("kubernetes://recorded-good", "kubernetes-gateway://team/recorded-good")
    proxy = proxy_of(json.loads(text))
    for name in ("recorded-good", "kubernetes-gateway://team/recorded-good"):
        assert judge(proxy, Expected(credentials=(ExpectedCredential(name),))) == []
    assert judge(proxy, Expected(credentials=(ExpectedCredential("kubernetes-gateway://other/recorded-good"),))) != []


@pytest.mark.parametrize(
    ("expected", "lack"),
    [
        (ExpectedServer("good.recorded.example.com"), None),
        (ExpectedServer("good.recorded.example.com", "recorded-good", "SIMPLE"), None),
        (ExpectedServer("good.recorded.example.com", "other"), "to have credential other, found recorded-good, mode SIMPLE"),
        (ExpectedServer("good.recorded.example.com", None, "MUTUAL"), "to have mode MUTUAL, found recorded-good, mode SIMPLE"),
        (ExpectedServer("nope.example.com"), "has no TLS server for nope.example.com; it has those for bad.recorded.example.com, good"),
        (ExpectedServer("*"), "has no TLS server for *"),
    ],
    ids=str,
)
def test_servers(ingress: Proxy, expected: ExpectedServer, lack: str | None) -> None:
    found = judge(ingress, Expected(servers=(expected,)))
    assert (lack is None) == (found == [])
    assert lack is None or lack in found[0]


def test_refused_updates(ingress: Proxy) -> None:
    refused = proxy_of(recorded("refused"))
    assert judge(refused, Expected(rejected=None)) == []
    (lack,) = judge(refused, Expected(rejected=False))
    assert lack.startswith("refuses an update of listener bad: Failed to load private key")
    assert judge(ingress, Expected(rejected=False)) == []  # that was before, and has been got right


def test_suspicion_is_about_what_was_refused_or_has_not_come(ingress: Proxy, egress: Proxy) -> None:
    assert ingress.is_suspicious and proxy_of(recorded("refused")).is_suspicious
    assert not egress.is_suspicious
    assert replace(egress, rejections=(Rejection("listener", "no", None),)).is_suspicious


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        (ExpectedCredential("a", ("ab:cd",)), "64 hexadecimal digits, found 'ab:cd'"),
        (ExpectedCredential("a", ca_fingerprints=("x",)), "ca_fingerprint"),
        (ExpectedCredential("a", ("ab" * 32,), present=False), "must not be there"),
    ],
)
def test_expectations_that_make_no_sense(expected: ExpectedCredential, told: str) -> None:
    (problem,) = check(Expected(credentials=(expected,)))
    assert told in str(problem) and "expect.credentials[0] (a)" in problem.where


# --- the log ----------------------------------------------------------------------------------------------------------

ACCESS = '[2026-11-21T17:08:10.040Z] "GET /status/200 HTTP/1.1" 200 - via_upstream'
AGENT = "2026-11-21T16:52:32.726812Z\twarning\tenvoy config source/a.cc:160\t"
REFUSED = (
    f"{AGENT}gRPC config for type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret rejected: "
    "Failed to load private key from <inline>, Cause: error:0b000074:X.509 certificate routines:OPENSSL_internal:KEY_VALUES_MISMATCH\tthread=29795"
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (ACCESS, datetime(2026, 11, 21, 17, 8, 10, 40000, tzinfo=UTC)),
        (AGENT, datetime(2026, 11, 21, 16, 52, 32, 726812, tzinfo=UTC)),
        ('{"authority":"a","start_time":"2026-11-21T17:08:10.040Z"}', datetime(2026, 11, 21, 17, 8, 10, 40000, tzinfo=UTC)),
        ("2026-11-21T18:00:00+01:00 x", datetime(2026, 11, 21, 17, tzinfo=UTC)),
        ("no time", None),
        ("[2026-13-41T99:00:00Z] no date", None),
    ],
)
def test_times_of_lines(line: str, expected: datetime | None) -> None:
    assert line_time(line) == expected


def test_refusals_in_the_log_are_told_once_each() -> None:
    first, last = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    cluster = f"{AGENT}cds: cluster 'bad' config rejected: no"
    lines = [Line("p", first, REFUSED), Line("p", last, REFUSED), Line("p", last, ACCESS), Line("p", None, cluster)]
    assert [is_refusal(line.text) for line in lines] == [True, True, False, True]
    told = refusals(lines)
    assert [(one.what, one.at) for one in told] == [("secret", "2026-01-02T00:00:00Z"), ("configuration", None)]
    assert told[0].detail.endswith("KEY_VALUES_MISMATCH")
