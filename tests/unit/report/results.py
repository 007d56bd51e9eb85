# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of diagnoses to make reports of: real ones of sets with faults, and a made-up one with hostile names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.diagnose import Suppression, findings_in, view_of
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.explain import Explainer
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.inventory import inventory
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.observed import Handshake, Observed
from ansible_collections.meshops.istio.plugins.module_utils.gateway_diagnosis import told
from ansible_collections.meshops.istio.plugins.module_utils.istio.credential import decode
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import GATEWAY, SECRET
from ansible_collections.meshops.istio.plugins.module_utils.report.model import Report
from ansible_collections.meshops.istio.plugins.module_utils.report.reading import cluster_of, not_looked_at, report_of
from ansible_collections.meshops.istio.plugins.module_utils.tls.material import read_chain
from ansible_collections.meshops.istio.tests.unit.diagnosis.correct import EGRESS_SET, SERVER
from ansible_collections.meshops.istio.tests.unit.diagnosis.sets import INGRESS, NOW, Manifest, everything, objects, pki, secret
from ansible_collections.meshops.istio.tests.unit.tls.tls_pki import key_pem

HOSTILE = "<script>alert(1)</script>\"'&|]]>`*[x](javascript:1)\n# \u202e\x00;,\\"
RIGHT = [*EGRESS_SET, *objects(INGRESS), SERVER]
GATEWAY_OF = """
kind: Gateway
metadata: {name: NAME, namespace: default, creationTimestamp: "2026-01-01T00:00:00Z"}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: NAME}, hosts: [NAME.example.com]}]
---
kind: VirtualService
metadata: {name: NAME, namespace: default}
spec: {hosts: [NAME.example.com], gateways: [NAME], http: [{route: [{destination: {host: httpbin, port: {number: 8000}}}]}]}
"""


def host(name: str, *, days: tuple[float, float] = (-10, 90), dns: str = "", missing: bool = False) -> list[Manifest]:
    """A host with its Gateway, route and credential, whose chain has an intermediate and its root."""
    root, between = authorities()
    leaf = pki().issue(f"{name}.example.com", between, days=days, dns=(dns or f"{name}.example.com",), key="P-256#leaf")
    pair = {"tls_crt": leaf.pem + between.pem, "tls_key": key_pem(leaf.key), "ca_crt": root.pem}
    return [*objects(GATEWAY_OF.replace("NAME", name)), *([] if missing else [secret(name, **pair)])]


@cache
def authorities() -> tuple[Any, Any]:
    root = pki().issue("Root of a shop", ca=True, days=(-700, 2000))
    return root, pki().issue("Issuer of a shop", root, ca=True, days=(-300, 700))


def result(items: Sequence[Manifest], observed: Observed | None = None, *, content: bool = False, **more: Any) -> dict[str, Any]:
    """What gateway_diagnose returns, as JSON holds it."""
    view = view_of(everything(items), now=NOW, min_remaining_days=14, observed=observed)
    found = findings_in(view, **more)
    explainer = Explainer(view, found.findings)
    made = {**told(view, found, found.findings), "survey": inventory(view, explainer, found.findings, content=content)}
    return dict(json.loads(json.dumps(made)))


def shaken(items: Sequence[Manifest], *names: str) -> Observed:
    """A handshake with each of the hosts, which get what their Secrets hold."""
    secrets = {item["metadata"]["name"]: item for item in items if item["kind"] == "Secret"}

    def one(name: str) -> Handshake:
        ref, server = SECRET.ref("istio-system", name), GATEWAY.ref("default", name)
        served = read_chain(decode(secrets[name])["tls.crt"], where="")[0].fingerprint if name in secrets else None
        failure = "" if served else "connection_reset"
        return Handshake(server, "spec.servers[0]", f"{name}.example.com", "192.0.2.10:443", (ref,), served, failure)

    return Observed(tuple(map(one, names)))


@cache
def faulty() -> dict[str, Any]:
    items = [
        *RIGHT,
        *host("shop"),
        *host("login", days=(-80, 5)),
        *host("api", missing=True),
        *host("status", dns="other.example.com"),
        *host("old", days=(-90, -3)),
    ]
    return result(items, shaken(items, "shop", "login", "api", "status"), suppress=[Suppression("MIT0201", "known", "")])


def compared() -> dict[str, Any]:
    """A result beside an earlier one: that a credential is missing is new, and that another one was is gone."""
    found = json.loads(json.dumps(faulty()))
    new = [one for one in found["findings"] if one["code"] == "credential_missing"]
    gone = {**new[0], "objects": [{**new[0]["objects"][0], "name": "former"}], "evidence": ["the former one is missing"]}
    return {**found, "compared": {"new": new, "gone": [gone], "unchanged": len(found["findings"]) - 1}}


def from_files(found: dict[str, Any], file: str = "deploy/shop & co.yaml") -> dict[str, Any]:
    """A result as if its Gateways had been read from a file."""
    made = dict(json.loads(json.dumps(found)))
    for each in (ref for one in made["findings"] for ref in one["objects"] if ref["kind"] == "Gateway"):
        each.update(file=file, line=7)
    return made


@cache
def several() -> Report:
    """Three clusters: one with faults, one that is right, one that was not looked at."""
    return report_of(
        [
            cluster_of("west", faulty(), "west"),
            cluster_of("east", result([*RIGHT, *host("shop")], Observed()), "east"),
            not_looked_at("south", "no answer from the API server"),
        ]
    )


def hostile() -> Report:
    """Every text of a result is as bad as it can be."""

    def bad(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: bad(inner, key) for key, inner in value.items()}
        if isinstance(value, list):
            return [bad(inner, name) for inner in value]
        kept = (
            "state",
            "severity",
            "direction",
            "role",
            "looked_at",
            "not_before",
            "not_after",
            "fingerprint_sha256",
            "issued_by",
            "group",
        )
        return value if not isinstance(value, str) or name in (*kept, "id", "served", "explained_by", "kind") else f"{value}{HOSTILE}"

    return report_of([cluster_of(f"one{HOSTILE}", bad(faulty()), ""), not_looked_at(f"two{HOSTILE}", HOSTILE)])


def many(number: int) -> dict[str, Any]:
    """A result with so many credentials and hosts, made from a few."""
    made = json.loads(json.dumps(faulty()))
    hosts, certificates = made["survey"]["hosts"], made["survey"]["certificates"]
    leaf, way = next(one for one in certificates if not one["is_ca"]), next(one for one in hosts if one["state"] == "right")
    for index in range(number):
        name, fingerprint = f"host-{index:04}.example.com", ":".join(f"{byte:02x}" for byte in index.to_bytes(32, "big"))
        certificates.append({**leaf, "fingerprint_sha256": fingerprint, "names": [name], "subject": f"CN={name}", "hosts": [name]})
        hosts.append({**way, "host": name})
    return dict(made)
