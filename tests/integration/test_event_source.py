# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event source on the sandbox's real API servers: what is told, and that nothing is told twice or missed over outages and restarts."""

from __future__ import annotations

import json
import socket
import ssl
import uuid
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from .conftest import Mesh
from .event_source import Source, relay, until
from .spare import SpareApi, place, spare_api
from .test_rights import apply, login, shipped

__all__ = ["place", "spare_api"]  # fixtures

DAY = timedelta(days=1)
OURS = "meshops.istio"
INGRESS = "http://127.0.0.1:15100"
Secret = dict[str, Any]


@dataclass
class Maker:
    """Secrets with certificates of one CA; all they hold is remembered."""

    namespace: str
    mark: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}")
    authority: trustme.CA = field(default_factory=trustme.CA)
    keys: list[str] = field(default_factory=list)

    def name(self, what: str) -> str:
        return f"{self.mark}-{what}"

    def host(self, what: str) -> str:
        return f"{what}.{self.mark}.example.com"

    def secret(self, what: str, *, age: timedelta = DAY, life: timedelta = 85 * DAY, **more: bytes) -> Secret:
        begin = datetime.now(UTC) - age
        made = self.authority.issue_cert(self.host(what), not_before=begin, not_after=begin + life)
        key = made.private_key_pem.bytes()
        self.keys.append(key.decode().splitlines()[2])
        data = {
            "tls.crt": made.cert_chain_pems[0].bytes(),
            "tls.key": key,
            **{name.replace("_", "."): value for name, value in more.items()},
        }
        metadata = {"name": self.name(what), "namespace": self.namespace}
        encoded = {name: b64encode(value).decode() for name, value in data.items()}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded}

    def crl(self) -> bytes:
        """One with a tenth of its time left."""
        ca = x509.load_pem_x509_certificate(self.authority.cert_pem.bytes())
        key: Any = load_pem_private_key(self.authority.private_key_pem.bytes(), None)
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(ca.subject).last_update(now - 9 * DAY).next_update(now + DAY)
        return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def gateway(maker: Maker, *served: str) -> dict[str, Any]:
    servers = [
        {
            "hosts": [maker.host(what)],
            "port": {"number": 443, "name": f"https-{what}", "protocol": "HTTPS"},
            "tls": {"mode": "SIMPLE", "credentialName": maker.name(what)},
        }
        for what in served
    ]
    metadata = {"name": maker.mark, "namespace": maker.namespace}
    spec = {"selector": {"istio": "ingressgateway"}, "servers": servers}
    return {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": metadata, "spec": spec}


@pytest.fixture(scope="module")
def kubeconfig(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The login of docs/rbac/events.yaml: nothing here needs more."""
    documents = shipped("events.yaml")
    apply(mesh, documents)
    yield login(mesh, "meshops-events", "istio-system", tmp_path_factory.mktemp("events"))
    mesh.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=yaml.safe_dump_all(documents))


@pytest.fixture
def maker(mesh: Mesh) -> Iterator[Maker]:
    made = Maker("istio-system")
    yield made
    names = mesh.kubectl("get", "secret,gateway.networking.istio.io", "-n", "istio-system", "-o", "name").split()
    if mine := [name for name in names if made.mark in name]:
        mesh.kubectl("delete", *mine, "-n", "istio-system")


def write(mesh: Mesh, *objects: Secret, manager: str = OURS) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    mesh.kubectl("apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "-f", "-", stdin=json.dumps(listed))


def patch(mesh: Mesh, secret: Secret, *keys: str) -> None:
    """As somebody does by hand."""
    data = {key: secret["data"][key] for key in keys}
    name = secret["metadata"]["name"]
    mesh.kubectl("patch", "secret", name, "-n", secret["metadata"]["namespace"], "-p", json.dumps({"data": data}))


def test_what_happens_to_credentials_is_told_once(mesh: Mesh, kubeconfig: str, maker: Maker) -> None:
    clients = {"ca_crt": maker.authority.cert_pem.bytes(), "ca_crl": maker.crl()}
    write(mesh, maker.secret("shop"), maker.secret("old", age=80 * DAY), maker.secret("clients", **clients), gateway(maker, "shop", "none"))
    mark = mesh.audit_mark()
    options = {"kubeconfig": kubeconfig, "credentials": [f"{maker.mark}-*"], "settle": "1s", "handshakes": False, "cluster": "sandbox"}
    with Source(**options) as source:
        expiring = source.wait("credential_expires", maker.name("old"))
        assert (expiring["part"], expiring["stage"], expiring["days_left"]) == ("certificate", "emergency", 4)
        assert source.wait("crl_expires", maker.name("clients"))["stage"] == "due"
        missing = source.wait("credential_missing", maker.name("none"))
        assert (missing["object"]["name"], missing["field"]) == (maker.mark, "spec.servers[1].tls.credentialName")

        patch(mesh, maker.secret("shop"), "tls.crt", "tls.key")
        changed = source.wait("credential_changed", maker.name("shop"))
        assert changed["by"] == ["kubectl-patch"] and changed["changed_keys"] == ["tls.crt", "tls.key"]
        assert changed["previous_fingerprint"] != changed["fingerprint"]
        write(mesh, maker.secret("shop"))  # ours is no news
        mesh.kubectl("delete", "secret", maker.name("shop"), "-n", "istio-system")
        deleted = source.wait("credential_deleted", maker.name("shop"))
        assert deleted["used_by"] == [f"Gateway istio-system/{maker.mark}"] and deleted["fingerprint"] != changed["fingerprint"]
        source.wait("credential_missing", maker.name("shop"))
        write(mesh, maker.secret("none"))
        patch(mesh, maker.secret("none"), "tls.crt", "tls.key")
        source.wait("credential_changed", maker.name("none"))
    assert len(source.told) == len(set(source.told)) == 7, source.told
    assert all(one["cluster"] == "sandbox" and one["namespace"] == "istio-system" and one["message"] for one in source.events)
    assert len({one["id"] for one in source.events}) == 7
    assert not any(key in source.text for key in maker.keys) and "PRIVATE KEY" not in source.text
    # one list and one watch of each kind, and the gateways' workloads once: what an hour costs are the watches
    asked = [f"{one['verb']} {one['requestURI'].partition('?')[0]}" for one in mesh.requests_since(mark, "meshops-events")]
    kinds = ("secrets", "gateways", "destinationrules", "listenersets", "pods", "workloadentries")
    assert sum(one.startswith("watch") for one in asked) <= 5 and len(asked) <= 14, asked
    assert all(
        (one.split()[0] in ("list", "watch") and one.endswith(kinds)) or one == "get /apis/gateway.networking.k8s.io" for one in asked
    )


def test_a_gateway_that_does_not_serve_what_the_secret_has_is_told(mesh: Mesh, kubeconfig: str, maker: Maker) -> None:
    """A certificate that somebody puts beside another's key: Envoy refuses the update, and goes on with the old pair."""
    written = maker.secret("shop")
    write(mesh, written, maker.secret("old", age=80 * DAY), gateway(maker, "shop", "old"))
    options = {
        "kubeconfig": kubeconfig,
        "credentials": [f"{maker.mark}-*"],
        "settle": "1s",
        "addresses": [mesh.environment["INGRESS_HOST"]],
    }
    options |= {"proxies": True, "admin_urls": [INGRESS], "proxy_interval": "1s", "events": ["credential_expires", "credential_not_served"]}
    with Source(**options) as source:
        source.wait("credential_expires", maker.name("old"))  # from now on all is known
        before, other = (x509.load_pem_x509_certificate(b64decode(one["data"]["tls.crt"])) for one in (written, maker.secret("shop")))
        served = before.public_bytes(Encoding.DER)
        until(lambda: presented(mesh.environment["INGRESS_HOST"], maker.host("shop")) == served, lambda: "the gateway did not serve it")
        patch(mesh, {**written, "data": {"tls.crt": b64encode(other.public_bytes(Encoding.PEM)).decode()}}, "tls.crt")
        source.wait("credential_not_served", maker.name("shop"), 2)
    told = {one["found_by"]: one for one in source.events if one["type"] == "credential_not_served"}
    assert told.keys() == {"handshake", "proxy"} and len(source.told) == 3, source.told
    wanted, shown = (one.fingerprint(hashes.SHA256()).hex(":") for one in (other, before))
    assert {one["expected_fingerprint"] for one in told.values()} == {wanted}
    assert told["handshake"]["served_fingerprint"] == shown and told["proxy"]["served_fingerprint"] in (shown, None)
    assert told["handshake"]["host"] == maker.host("shop") and told["proxy"]["proxy"] == INGRESS


def test_an_update_that_a_proxy_refuses_is_told(mesh: Mesh, kubeconfig: str, maker: Maker) -> None:
    """A filter without what it needs, by an EnvoyFilter: istiod passes it on, and Envoy keeps the listener that it had."""
    write(mesh, maker.secret("shop"), maker.secret("old", age=80 * DAY), gateway(maker, "shop", "old"))
    limit = {"@type": "type.googleapis.com/envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit", "stat_prefix": maker.mark}
    patch = {"operation": "INSERT_FIRST", "value": {"name": "envoy.filters.network.local_ratelimit", "typed_config": limit}}
    broken = {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": maker.mark, "namespace": "istio-system"},
        "spec": {
            "workloadSelector": {"labels": {"istio": "ingressgateway"}},
            "configPatches": [{"applyTo": "NETWORK_FILTER", "match": {"context": "GATEWAY"}, "patch": patch}],
        },
    }
    options = {"kubeconfig": kubeconfig, "credentials": [f"{maker.mark}-*"], "settle": "1s", "handshakes": False}
    options |= {"proxies": True, "admin_urls": [INGRESS], "proxy_interval": "1s", "events": ["credential_expires", "update_refused"]}
    with Source(**options) as source:
        source.wait("credential_expires", maker.name("old"))
        try:
            write(mesh, broken)
            refused = source.wait("update_refused", "")
        finally:
            mesh.kubectl("delete", "envoyfilter", maker.mark, "-n", "istio-system", "--ignore-not-found")
    assert refused["proxy"] == INGRESS and refused["what"].startswith("listener ") and "TokenBucket" in refused["detail"], refused
    assert [kind for kind, __ in source.told].count("update_refused") == 1, source.told


def presented(address: str, host: str) -> bytes:
    """The certificate in DER; empty where there is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((address, 443), 10) as plain, context.wrap_socket(plain, server_hostname=host) as secure:
            return secure.getpeercert(True) or b""
    except OSError:
        return b""


# --- outages, on an API server of one's own


@dataclass
class Spare:
    """Secrets on the spare API."""

    api: SpareApi
    maker: Maker

    def write(self, secret: Secret, manager: str = OURS) -> None:
        path = f"/api/v1/namespaces/{self.maker.namespace}/secrets/{secret['metadata']['name']}?fieldManager={manager}&force=true"
        self.api.ask("PATCH", path, secret, content_type="application/apply-patch+yaml")

    def delete(self, what: str) -> None:
        self.api.ask("DELETE", f"/api/v1/namespaces/{self.maker.namespace}/secrets/{self.maker.name(what)}")


def test_outages_and_restarts_neither_hide_nor_repeat_anything(spare_api: SpareApi, place: str, tmp_path: Path) -> None:
    spare = Spare(spare_api, Maker(place))
    maker = spare.maker
    for what in ("a", "b", "c", "d", "e", "f"):
        spare.write(maker.secret(what))
    spare.write(maker.secret("old", age=80 * DAY))
    state = tmp_path / "state.json"
    options = {
        **spare_api.login,
        "namespaces": [place],
        "handshakes": False,
        "state_file": str(state),
        "cluster": "spare",
        "min_remaining": "30d",
    }
    with relay(spare_api.port) as way:
        options["host"] = f"https://127.0.0.1:{way.port}"
        with Source(**options) as source:
            source.wait("credential_expires", maker.name("old"))
            way.cut()
            spare.write(maker.secret("a"), "somebody")
            spare.delete("b")
            spare.write(maker.secret("c"))
            way.mend()
            source.wait("credential_changed", maker.name("a"))
            source.wait("credential_deleted", maker.name("b"))
            spare_api.end("kube-apiserver")
            spare_api.start_api()
            spare_api.wait()
            spare.write(maker.secret("d"), "somebody")
            spare.delete("e")
            source.wait("credential_changed", maker.name("d"))
            source.wait("credential_deleted", maker.name("e"))
        first = [("credential_expires", "old"), ("credential_changed", "a"), ("credential_deleted", "b"), ("credential_changed", "d")]
        expected = {(kind, maker.name(what)) for kind, what in [*first, ("credential_deleted", "e")]}
        assert set(source.told) == expected and len(source.told) == 5, source.told
        # while no rulebook runs
        spare.write(maker.secret("f"), "somebody")
        spare.delete("a")
        with Source(**options) as again:
            again.wait("credential_changed", maker.name("f"))
            again.wait("credential_deleted", maker.name("a"))
            spare.write(maker.secret("c"), "somebody")
            again.wait("credential_changed", maker.name("c"))
        assert len(again.told) == 3, again.told
    assert state.stat().st_mode & 0o777 == 0o600
    assert not any(key in state.read_text() + source.text + again.text for key in maker.keys) and "PRIVATE" not in state.read_text()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"min_remaning": "30d"}, "min_remaning: expected an option of this event source"),
        ({"kubeconfig": "/nowhere/at/all"}, "kubeconfig: cannot read /nowhere/at/all"),
        ({"state_file": "/nowhere/at/all"}, "expected the directory /nowhere/at, found none"),
        ({"admin_urls": ["127.0.0.1"]}, "expected http://address:port without a path"),
    ],
)
def test_a_wrong_option_ends_it_with_a_sentence(wrong: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"host": "https://127.0.0.1:1", "api_key": "x"}
    run: Callable[[], Any] = Source(**({} if "kubeconfig" in wrong else given), **wrong).__enter__
    source = run()
    with pytest.raises(Exception, match=message):
        source.__exit__()
