# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records what a real API server does about server-side applies, for test_compare.py.

Against the sandbox: `. .sandbox/env && python tests/unit/objects/record_apply.py`. Each case says how the live object came to be (commands and
applies by several managers) and what is applied to it then, as a dry run; the live object and the server's answer are written down.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import ApiError, Cluster, connect
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import resource_of
from ansible_collections.meshops.istio.plugins.module_utils.objects.ownership import FIELD_MANAGER

RECORDED = Path(__file__).parent / "data" / "server_side_apply.json"
NAMESPACE = "recorded-applies"
Manifest = dict[str, Any]


def kubectl(*words: str, stdin: Any = None) -> None:
    subprocess.run(["kubectl", *words], input=json.dumps(stdin) if stdin else None, text=True, check=True, stdout=subprocess.DEVNULL)


def create(manifest: Manifest) -> None:
    kubectl("create", "-f", "-", stdin=manifest)


def applied_by(manager: str, *manifests: Manifest) -> None:
    for manifest in manifests:
        kubectl("apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "-f", "-", stdin=manifest)


def ours(*manifests: Manifest) -> None:
    applied_by(FIELD_MANAGER, *manifests)


def theirs(*manifests: Manifest) -> None:
    applied_by("other", *manifests)


def secret(data: dict[str, str], labels: dict[str, str] | None = None) -> Manifest:
    metadata = {"name": "a", "namespace": NAMESPACE, **({"labels": labels} if labels else {})}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": encoded}


def made(api_version: str, kind: str, spec: dict[str, Any]) -> Manifest:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "a", "namespace": NAMESPACE}, "spec": spec}


def entry(*ports: dict[str, Any], **spec: Any) -> Manifest:
    spec = {"hosts": ["x.example.com"], "resolution": "DNS", "location": "MESH_EXTERNAL", **spec}
    return made("networking.istio.io/v1", "ServiceEntry", {**spec, "ports": list(ports)})


def only_ports(*ports: dict[str, Any]) -> Manifest:
    return made("networking.istio.io/v1", "ServiceEntry", {"ports": list(ports)})


def policy(selector: dict[str, Any], **spec: Any) -> Manifest:
    return made("networking.k8s.io/v1", "NetworkPolicy", {"podSelector": selector, "policyTypes": ["Egress"], **spec})


def rule(**spec: Any) -> Manifest:
    return made("networking.istio.io/v1", "DestinationRule", {"host": "x.example.com", **spec})


def tls(**settings: str) -> dict[str, Any]:
    return {"tls": settings}


HTTP = {"name": "http", "number": 80, "protocol": "HTTP"}
HTTPS = {"name": "https", "number": 443, "protocol": "HTTPS"}
FOREIGN = {"name": "foreign", "number": 9, "protocol": "TCP"}
PAIR = {"tls.crt": "1", "tls.key": "2"}
WITH_CA = {**PAIR, "ca.crt": "3"}
MUTUAL = tls(mode="MUTUAL", credentialName="c")
EGRESS = [{"to": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": 80}]}]


def kubectl_secret(*words: str) -> None:
    kubectl("create", "secret", "generic", "-n", NAMESPACE, "a", *words)


def patched(kind: str, patch: Any) -> None:
    kubectl("patch", kind, "-n", NAMESPACE, "a", f"--type={'json' if isinstance(patch, list) else 'merge'}", f"-p={json.dumps(patch)}")


def unmanaged(*manifests: Manifest) -> None:
    ours(*manifests)
    patched("secret", [{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}])


def relabelled() -> None:
    ours(secret(PAIR, {"x": "1"}))
    kubectl("label", "secret", "-n", NAMESPACE, "a", "x=2", "--overwrite")


def repatched() -> None:
    ours(secret(WITH_CA))
    patched("secret", {"data": {"ca.crt": "NA=="}})


def shared(mine: Manifest, other: Manifest) -> None:
    ours(mine)
    theirs(other)


CASES: dict[str, tuple[Callable[[], None], dict[str, Manifest]]] = {
    "a Secret of ours": (
        lambda: ours(secret(PAIR, {"x": "1", "example.com/y": "2"})),
        {
            "the same": secret(PAIR, {"x": "1", "example.com/y": "2"}),
            "another certificate": secret({**PAIR, "tls.crt": "9"}, {"x": "1", "example.com/y": "2"}),
            "a key more": secret(WITH_CA, {"x": "1", "example.com/y": "2"}),
            "a key less": secret({"tls.crt": "1"}, {"x": "1", "example.com/y": "2"}),
            "a label less": secret(PAIR, {"x": "1"}),
            "a label more": secret(PAIR, {"x": "1", "example.com/y": "2", "z": "3"}),
            "no labels": secret(PAIR),
        },
    ),
    "a Secret that kubectl created": (
        lambda: kubectl_secret("--from-literal=cert=1", "--from-literal=key=2"),
        {
            "other keys": secret(PAIR),
            "the same": secret({"cert": "1", "key": "2"}),
            "another certificate": secret({"cert": "9", "key": "2"}),
        },
    ),
    "a Secret that kubectl created empty": (kubectl_secret, {"some keys": secret(PAIR)}),
    "a Secret of ours that somebody patched": (repatched, {"as it was": secret(WITH_CA), "without that key": secret(PAIR)}),
    "a Secret of ours that somebody labelled": (
        relabelled,
        {"as it was": secret(PAIR, {"x": "1"}), "without that label": secret(PAIR), "with the new label": secret(PAIR, {"x": "2"})},
    ),
    "a Secret that two apply": (
        lambda: shared(secret(WITH_CA), secret({"ca.crt": "3"})),
        {"the shared key changed": secret({**WITH_CA, "ca.crt": "9"}), "without the shared key": secret(PAIR), "the same": secret(WITH_CA)},
    ),
    "a Secret without managedFields": (
        lambda: unmanaged(secret(WITH_CA)),
        {
            "the same": secret(WITH_CA),
            "changed": secret({**WITH_CA, "tls.crt": "9"}),
            "a key more": secret({**WITH_CA, "ca.crl": "4"}),
            "a key less": secret(PAIR),
        },
    ),
    "a ServiceEntry of ours": (
        lambda: ours(entry(HTTP, HTTPS)),
        {
            "the same": entry(HTTP, HTTPS),
            "another order": entry(HTTPS, HTTP),
            "a port less": entry(HTTPS),
            "a port changed": entry(HTTP, {**HTTPS, "number": 8443}),
            "a port more": entry(HTTP, HTTPS, FOREIGN),
            "another host": entry(HTTP, HTTPS, hosts=["y.example.com"]),
        },
    ),
    "a ServiceEntry that two apply": (
        lambda: shared(entry(HTTP, HTTPS), only_ports(HTTP, FOREIGN)),
        {
            "ours as they were": entry(HTTP, HTTPS),
            "theirs changed": entry(HTTP, HTTPS, {**FOREIGN, "number": 10}),
            "the shared one less": entry(HTTPS),
            "the shared one changed": entry({**HTTP, "number": 81}, HTTPS),
        },
    ),
    "a ServiceEntry that kubectl created": (
        lambda: create(entry(HTTP, HTTPS)),
        {
            "the same": entry(HTTP, HTTPS),
            "a port changed": entry(HTTP, {**HTTPS, "number": 8443}),
            "a port less": entry(HTTP),
            "another host": entry(HTTP, HTTPS, hosts=["y.example.com"]),
        },
    ),
    "a NetworkPolicy of ours": (
        lambda: ours(policy({"matchLabels": {"a": "1"}}, egress=EGRESS)),
        {
            "the same": policy({"matchLabels": {"a": "1"}}, egress=EGRESS),
            "another selector": policy({"matchLabels": {"b": "1"}}, egress=EGRESS),
            "no selector": policy({}, egress=EGRESS),
            "no rules": policy({"matchLabels": {"a": "1"}}),
        },
    ),
    "a NetworkPolicy of ours for everything": (
        lambda: ours(policy({})),
        {"the same": policy({}), "an empty list": policy({}, egress=[]), "a selector": policy({"matchLabels": {"b": "1"}})},
    ),
    "a NetworkPolicy that kubectl created": (
        lambda: create(policy({"matchLabels": {"a": "1", "c": "2"}})),
        {
            "the same": policy({"matchLabels": {"a": "1", "c": "2"}}),
            "a label less": policy({"matchLabels": {"a": "1"}}),
            "no selector": policy({}),
        },
    ),
    "a DestinationRule of ours": (
        lambda: ours(rule(trafficPolicy=MUTUAL)),
        {
            "the same": rule(trafficPolicy=MUTUAL),
            "an empty map": rule(trafficPolicy=tls()),
            "nothing": rule(),
            "a field less": rule(trafficPolicy=tls(mode="SIMPLE")),
        },
    ),
    "a DestinationRule of ours with an empty map": (
        lambda: ours(rule(trafficPolicy=tls())),
        {"the same": rule(trafficPolicy=tls()), "fields in it": rule(trafficPolicy=MUTUAL), "nothing": rule()},
    ),
    "a DestinationRule in which another filled the map": (
        lambda: shared(rule(trafficPolicy=tls()), rule(trafficPolicy=MUTUAL)),
        {"the same": rule(trafficPolicy=tls()), "other fields": rule(trafficPolicy=tls(mode="SIMPLE"))},
    ),
    "a DestinationRule that kubectl created with an empty map": (
        lambda: create(rule(trafficPolicy=tls())),
        {"fields in it": rule(trafficPolicy=MUTUAL)},
    ),
    "a DestinationRule that kubectl created": (
        lambda: create(rule(trafficPolicy=MUTUAL, subsets=[{"name": "a"}])),
        {
            "the same": rule(trafficPolicy=MUTUAL, subsets=[{"name": "a"}]),
            "another list": rule(trafficPolicy=MUTUAL, subsets=[{"name": "b"}]),
            "less": rule(),
        },
    ),
}


def bare(item: Manifest) -> Manifest:
    """An object without what every write changes, and without the order of lists that merge by key: the server moves what it merges."""
    item = copy.deepcopy(item)
    if item["kind"] == "ServiceEntry":
        item["spec"]["ports"].sort(key=lambda port: port["name"])
    for name in ("managedFields", "resourceVersion", "generation"):
        item["metadata"].pop(name, None)
    return item


def answer(cluster: Cluster, live: Manifest, manifest: Manifest) -> dict[str, Any]:
    try:
        after = cluster.apply(resource_of(manifest), manifest, dry_run=True)
    except ApiError as error:
        if not error.is_apply_conflict:
            raise
        return {"changes": None, "conflicts": sorted({manager for __, manager in error.conflicts})}
    return {"changes": bare(after) != bare(live), "conflicts": []}


def record() -> Iterator[dict[str, Any]]:
    cluster = connect({"kubeconfig": os.environ["KUBECONFIG"]})
    for live_title, (prepare, applies) in CASES.items():
        prepare()
        first, *__ = applies.values()
        resource = resource_of(first)
        live = cluster.get(resource, NAMESPACE, "a")
        assert live is not None
        yield {
            "live": live_title,
            "object": live,
            "applies": {title: {"manifest": manifest, **answer(cluster, live, manifest)} for title, manifest in applies.items()},
        }
        cluster.delete(resource, NAMESPACE, "a")


if __name__ == "__main__":
    kubectl("create", "namespace", NAMESPACE)
    try:
        RECORDED.write_text("[\n" + ",\n".join(json.dumps(case, sort_keys=True) for case in record()) + "\n]\n")
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    sys.stdout.write(f"{RECORDED}\n")
