# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records Envoy's administration pages for test_proxy.py: `. .sandbox/env && python tests/unit/istio/record_proxy.py`, against the sandbox.

`ingress`: a credential in use, one that was rotated to a key of another certificate, one that is missing, a pass-through.
`egress`: an origination with a credential. `refused`: an Envoy of its own, whose listener has a key of another certificate.
What the reader does not look at is left out; Envoy itself writes [redacted] for private keys.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import trustme
from ansible_collections.meshops.istio.plugins.module_utils.istio.proxy_dump import PAGES

DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).resolve().parents[3]
INGRESS, EGRESS, OWN = "http://127.0.0.1:15100", "http://127.0.0.1:15200", "http://127.0.0.1:19901"
NAMESPACE = "istio-system"
Pages = dict[str, str]


def kubectl(*words: str, stdin: Any = None) -> None:
    subprocess.run(["kubectl", *words], input=json.dumps(stdin) if stdin else None, text=True, check=True, stdout=subprocess.DEVNULL)


def apply(*manifests: dict[str, Any]) -> None:
    kubectl("apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "List", "items": list(manifests)})


def secret(name: str, pair: trustme.LeafCert, key: trustme.LeafCert | None = None, ca: trustme.CA | None = None) -> dict[str, Any]:
    data = {"tls.crt": pair.cert_chain_pems[0].bytes().decode(), "tls.key": (key or pair).private_key_pem.bytes().decode()}
    data |= {"ca.crt": ca.cert_pem.bytes().decode()} if ca else {}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}, "stringData": data}


def server(number: int, host: str, tls: dict[str, Any]) -> dict[str, Any]:
    protocol = "TLS" if tls["mode"] == "PASSTHROUGH" else "HTTPS"
    return {"port": {"number": 443, "name": f"tls-{number}", "protocol": protocol}, "hosts": [host], "tls": tls}


def gateway(*servers: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    spec = {"selector": {"istio": "ingressgateway"}, "servers": [server(number, host, tls) for number, (host, tls) in enumerate(servers)]}
    metadata = {"name": "recorded", "namespace": NAMESPACE}
    return {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": metadata, "spec": spec}


def read(url: str) -> Pages:
    pages = {}
    for name, path in PAGES.items():
        with urlopen(f"{url}/{path}", timeout=10) as response:  # noqa: S310
            pages[name] = response.read().decode()
    return pages


def until(ready: Callable[[Pages], bool], url: str) -> Pages:
    for __ in range(100):
        pages = read(url)
        if ready(pages):
            return pages
        time.sleep(0.2)
    sys.exit(f"{url} does not become what is to be recorded")


def stripped(pages: Pages) -> dict[str, Any]:
    """The pages with no more than is read of them, and without other people's objects."""
    info, dump = json.loads(pages["server_info"]), json.loads(pages["config_dump"])
    node = info.get("node") or {}
    metadata = {"ISTIO_VERSION": (node.get("metadata") or {}).get("ISTIO_VERSION")}
    info = {"version": info["version"], "state": info["state"], "node": {"id": node.get("id"), "metadata": metadata}}
    configs = [
        one
        for one in dump["configs"]
        if one["@type"].rpartition(".")[2] in ("SecretsConfigDump", "ListenersConfigDump", "ClustersConfigDump")
    ]
    for config in configs:
        for key in ("static_clusters",):
            config.pop(key, None)
        config.update(
            {
                key: [one for one in config[key] if "recorded" in json.dumps(one)]
                for key in ("dynamic_active_clusters", "dynamic_warming_clusters")
                if key in config
            }
        )
        for listener in config.get("dynamic_listeners") or []:
            for state in listener.values():
                if isinstance(state, dict):
                    strip_listener(state.get("listener") or state.get("failed_configuration") or {})
        config.pop("static_listeners", None)
    return {
        "server_info": info,
        "certs": json.loads(pages["certs"]),
        "config_dump": {"configs": configs},
        "stats": pages["stats"],
    }


def strip_listener(listener: dict[str, Any]) -> None:
    for key in set(listener) - {"@type", "name", "address", "filter_chains"}:
        listener.pop(key)
    for chain in listener.get("filter_chains") or []:
        chain.pop("filters", None)


def write(name: str, pages: Pages) -> None:
    DATA.mkdir(exist_ok=True)
    (DATA / f"proxy_{name}.json").write_text(json.dumps(stripped(pages), indent=1) + "\n")


def ingress(ca: trustme.CA) -> None:
    good, other, mutual = (ca.issue_cert(f"{name}.recorded.example.com") for name in ("good", "other", "mutual"))
    simple, bad = {"mode": "SIMPLE", "credentialName": "recorded-good"}, {"mode": "SIMPLE", "credentialName": "recorded-bad"}
    apply(secret("recorded-good", good), secret("recorded-bad", other), secret("recorded-mutual", mutual, ca=ca))
    apply(
        gateway(
            ("good.recorded.example.com", simple),
            ("bad.recorded.example.com", bad),
            ("mutual.recorded.example.com", {"mode": "MUTUAL", "credentialName": "recorded-mutual"}),
            ("pass.recorded.example.com", {"mode": "PASSTHROUGH"}),
            ("missing.recorded.example.com", {"mode": "MUTUAL", "credentialName": "recorded-missing"}),
        )
    )
    asked = ("recorded-mutual-cacert", "recorded-missing-cacert")
    until(lambda pages: all(name in pages["config_dump"] for name in asked) and "other.recorded" in pages["certs"], INGRESS)
    apply(secret("recorded-bad", ca.issue_cert("bad.recorded.example.com"), key=good))
    time.sleep(2)
    write("ingress", read(INGRESS))


def egress(ca: trustme.CA) -> None:
    apply(secret("recorded-client", ca.issue_cert("client.recorded.example.com"), ca=ca))
    selector = {"matchLabels": {"istio": "egressgateway"}}
    metadata = {"name": "recorded", "namespace": NAMESPACE}
    port = {"number": 8444, "name": "https", "protocol": "HTTPS"}
    hosts = {"hosts": ["partner.recorded.example.com"], "ports": [port], "resolution": "DNS"}
    tls = {
        "mode": "MUTUAL",
        "credentialName": "recorded-client",
        "sni": "partner.recorded.example.com",
        "subjectAltNames": ["partner.recorded.example.com"],
    }
    policy = {"host": "partner.recorded.example.com", "workloadSelector": selector, "trafficPolicy": {"tls": tls}}
    apply(
        {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": metadata, "spec": hosts},
        {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": metadata, "spec": policy},
    )
    write("egress", until(lambda pages: "client.recorded" in pages["certs"], EGRESS))


def refused(ca: trustme.CA, directory: Path) -> None:
    good, other = ca.issue_cert("good.recorded.example.com"), ca.issue_cert("bad.recorded.example.com")
    for name, pair, key in (("good", good, good), ("bad", other, good)):
        (directory / f"{name}.crt").write_bytes(pair.cert_chain_pems[0].bytes())
        (directory / f"{name}.key").write_bytes(key.private_key_pem.bytes())
    api = "type.googleapis.com/envoy"

    def listener(name: str, port: int) -> dict[str, Any]:
        files = {"certificate_chain": {"filename": f"{directory}/{name}.crt"}, "private_key": {"filename": f"{directory}/{name}.key"}}
        context = {
            "@type": f"{api}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificates": [files]},
        }
        proxy = {"@type": f"{api}.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "x", "cluster": "x"}
        chain = {
            "filter_chain_match": {"server_names": [f"{name}.recorded.example.com"]},
            "filters": [{"name": "tcp", "typed_config": proxy}],
            "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context},
        }
        address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        return {"@type": f"{api}.config.listener.v3.Listener", "name": name, "address": address, "filter_chains": [chain]}

    (directory / "lds.yaml").write_text(json.dumps({"resources": [listener("good", 19443), listener("bad", 19444)]}))
    bootstrap = {
        "node": {"id": "of-its-own", "cluster": "recorded"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 19901}}},
        "dynamic_resources": {"lds_config": {"path_config_source": {"path": f"{directory}/lds.yaml"}}},
    }
    (directory / "envoy.yaml").write_text(json.dumps(bootstrap))
    command = [ROOT / ".venv" / "bin" / "envoy", "-c", directory / "envoy.yaml", "--base-id", "77", "--log-level", "off"]
    with subprocess.Popen(command) as envoy:
        try:
            time.sleep(3)
            pages = read(OWN)
            write("refused", {name: page.replace(str(directory), "/etc/envoy") for name, page in pages.items()})
        finally:
            envoy.terminate()


def main() -> None:
    assert "KUBECONFIG" in os.environ, "the sandbox's environment is missing: . .sandbox/env"
    ca = trustme.CA(organization_name="recorded")
    try:
        ingress(ca)
        egress(ca)
    finally:
        kubectl("delete", "gateways.networking.istio.io,serviceentries,destinationrules", "recorded", "-n", NAMESPACE, "--ignore-not-found")
        names = [f"recorded-{name}" for name in ("good", "bad", "mutual", "client")]
        kubectl("delete", "secret", *names, "-n", NAMESPACE, "--ignore-not-found")
    with tempfile.TemporaryDirectory() as directory:
        refused(ca, Path(directory))


if __name__ == "__main__":
    main()
