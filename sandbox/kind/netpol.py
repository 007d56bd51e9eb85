# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enforces NetworkPolicy on the node that we build: a unit of it, which keeps one nftables table as the policies of the cluster say.

The stock node image has kube-network-policies for that, which needs the kernel's nft queue; this needs nothing but nftables. All traffic from
and to Pods is routed through the node and therefore passes the hook `forward`, after Services were resolved to Pods. What the node itself sends
to its Pods and receives from them is always allowed, as Kubernetes has it. IPv4 only, as the node's Pod network is.

The node runs it by itself, so it uses Python's standard library alone.
"""

from __future__ import annotations

import http.client
import json
import queue
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Object = dict[str, Any]
TABLE = "netpol"
KUBECONFIG = Path("/etc/kubernetes/kubelet.conf")
CREDENTIAL = "/var/lib/kubelet/pki/kubelet-client-current.pem"
AUTHORITY = "/etc/kubernetes/pki/ca.crt"
RESOURCES = {
    "pods": "/api/v1/pods",
    "namespaces": "/api/v1/namespaces",
    "policies": "/apis/networking.k8s.io/v1/networkpolicies",
}


@dataclass(frozen=True)
class Pod:
    namespace: str
    labels: dict[str, str]
    address: str
    ports: tuple[tuple[str, str, int], ...] = ()
    """Name, protocol in small letters, number of every named port."""


@dataclass(frozen=True)
class Cluster:
    pods: Sequence[Pod] = ()
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    policies: Sequence[Object] = ()


def pod_of(found: Object) -> Pod | None:
    """None when it has no address of its own (yet, any more, or because it shares the node's)."""
    spec, status = found["spec"], found.get("status", {})
    if spec.get("hostNetwork") or status.get("phase") in ("Succeeded", "Failed") or not re.fullmatch(r"[\d.]+", status.get("podIP", "")):
        return None
    containers = [*spec.get("containers", []), *spec.get("initContainers", [])]
    ports = [port for container in containers for port in container.get("ports", []) if port.get("name")]
    named = tuple((port["name"], port.get("protocol", "TCP").lower(), port["containerPort"]) for port in ports)
    return Pod(found["metadata"]["namespace"], found["metadata"].get("labels", {}), status["podIP"], named)


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """An empty selector selects everything. https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/label-selector/"""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for wanted in selector.get("matchExpressions", []):
        value, values = labels.get(wanted["key"]), wanted.get("values", [])
        held = {"In": value in values, "NotIn": value not in values, "Exists": value is not None, "DoesNotExist": value is None}
        if not held[wanted["operator"]]:
            return False
    return True


def addresses(values: Iterable[str]) -> str:
    return "{ " + ", ".join(sorted(set(values))) + " }"


def peer_matches(cluster: Cluster, namespace: str, peers: Sequence[Object], side: str) -> list[str]:
    """nftables matches, of which one must hold; `side` is saddr or daddr."""
    if not peers:
        return [""]
    found, pods = [], []
    for peer in peers:
        if block := peer.get("ipBlock"):
            besides = f" ip {side} != {addresses(block['except'])}" if block.get("except") else ""
            if ":" not in block["cidr"]:
                found.append(f"ip {side} {block['cidr']}{besides} ")
            continue
        of_pods, of_namespaces = peer.get("podSelector"), peer.get("namespaceSelector")
        for pod in cluster.pods:
            near = (
                pod.namespace == namespace if of_namespaces is None else selects(of_namespaces, cluster.namespaces.get(pod.namespace, {}))
            )
            if near and selects(of_pods or {}, pod.labels):
                pods.append(pod.address)
    return [*found, *([f"ip {side} {addresses(pods)} "] if pods else [])]


def port_matches(cluster: Cluster, ports: Sequence[Object]) -> list[str]:
    """A named port means another number in every Pod, so that it is matched together with the Pod's address."""
    if not ports:
        return [""]
    found = []
    for wanted in ports:
        protocol, port = wanted.get("protocol", "TCP").lower(), wanted.get("port")
        if port is None:
            found.append(f"meta l4proto {protocol} ")
        elif isinstance(port, int):
            last = f"-{wanted['endPort']}" if "endPort" in wanted else ""
            found.append(f"{protocol} dport {port}{last} ")
        else:
            places = {
                f"{pod.address} . {number}" for pod in cluster.pods for name, kind, number in pod.ports if (name, kind) == (port, protocol)
            }
            if places:
                found.append(f"ip daddr . {protocol} dport {addresses(places)} ")
    return found


def applies(policy: Object, direction: str) -> bool:
    spec = policy["spec"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    return direction in types


def ruleset(cluster: Cluster) -> str:
    """The whole table as nft reads it. What is allowed returns; a chain ends in a drop."""
    lines: list[str] = []
    chains: dict[tuple[str, tuple[int, ...]], str] = {}
    jumps: dict[str, dict[str, str]] = {"saddr": {}, "daddr": {}}
    for direction, key, peers, own, other in (
        ("Egress", "egress", "to", "saddr", "daddr"),
        ("Ingress", "ingress", "from", "daddr", "saddr"),
    ):
        for pod in cluster.pods:
            isolating = tuple(
                number
                for number, policy in enumerate(cluster.policies)
                if policy["metadata"]["namespace"] == pod.namespace
                and applies(policy, direction)
                and selects(policy["spec"].get("podSelector", {}), pod.labels)
            )
            if not isolating:
                continue
            if (key, isolating) not in chains:
                chains[key, isolating] = name = f"{key}-{len(chains)}"
                lines.append(f"  chain {name} {{")
                for number in isolating:
                    policy = cluster.policies[number]
                    lines.append(f"    # {policy['metadata']['namespace']}/{policy['metadata']['name']}")
                    for rule in policy["spec"].get(key, []):
                        peer = peer_matches(cluster, pod.namespace, rule.get(peers, []), other)
                        lines += [f"    {one}{two}return" for one in peer for two in port_matches(cluster, rule.get("ports", []))]
                lines += ["    counter drop", "  }"]
            jumps[own][pod.address] = chains[key, isolating]
    lines += [
        "  chain forward {",
        "    type filter hook forward priority filter; policy accept;",
        "    ct state established,related accept",
    ]
    for own, targets in jumps.items():
        if targets:
            pairs = ", ".join(f"{address} : jump {chain}" for address, chain in sorted(targets.items()))
            lines.append(f"    ip {own} vmap {{ {pairs} }}")
    # declared, deleted and made anew in one transaction: there is no moment without rules
    return "\n".join([f"table inet {TABLE} {{}}", f"delete table inet {TABLE}", f"table inet {TABLE} {{", *lines, "  }", "}", ""])


class Server:
    """The API server, with the kubelet's credential."""

    def __init__(self) -> None:
        text = KUBECONFIG.read_text()
        match = re.search(r"server: https://(\S+):(\d+)", text)
        if not match:
            raise SystemExit(f"{KUBECONFIG} names no server")
        self.host, self.port = match[1], int(match[2])
        self.tls = ssl.create_default_context(cafile=AUTHORITY)
        self.tls.load_cert_chain(CREDENTIAL)

    def get(self, path: str, timeout: float | None = 20) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection(self.host, self.port, context=self.tls, timeout=timeout)
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"GET {path}: {answer.status} {answer.read().decode(errors='replace')[:300]}")
        return answer


Event = tuple[str, str, Object]


def watch(server: Server, resource: str, version: str, events: queue.Queue[Event | None]) -> None:
    """Every change as ("pods", "MODIFIED", object), and None when the watch ends."""
    try:
        for line in server.get(f"{RESOURCES[resource]}?watch=true&resourceVersion={version}", timeout=None):
            change = json.loads(line)
            if change["type"] not in ("ADDED", "MODIFIED", "DELETED"):
                break
            events.put((resource, change["type"], change["object"]))
    finally:
        events.put(None)


def name_of(found: Object) -> tuple[str, str]:
    return found["metadata"].get("namespace", ""), found["metadata"]["name"]


def cluster_of(found: dict[str, dict[tuple[str, str], Object]]) -> Cluster:
    pods = [pod for one in found["pods"].values() if (pod := pod_of(one))]
    namespaces = {one["metadata"]["name"]: one["metadata"].get("labels", {}) for one in found["namespaces"].values()}
    return Cluster(pods, namespaces, [policy for __, policy in sorted(found["policies"].items())])


def main() -> None:
    server, found = Server(), {}
    events: queue.Queue[Event | None] = queue.Queue()
    for resource, path in RESOURCES.items():
        listed = json.load(server.get(path))
        found[resource] = {name_of(one): one for one in listed["items"]}
        arguments = (server, resource, listed["metadata"]["resourceVersion"], events)
        threading.Thread(target=watch, args=arguments, daemon=True).start()
    applied = ""
    while True:
        wanted = ruleset(cluster_of(found))
        if wanted != applied:
            subprocess.run(["/usr/sbin/nft", "-f", "-"], input=wanted, text=True, check=True)
            applied = wanted
        changes = [events.get()]
        while not events.empty():
            changes.append(events.get())
        for change in changes:
            if change is None:  # the unit starts again with whole lists; the rules stay in force meanwhile
                sys.exit("a watch has ended")
            resource, kind, changed = change
            if kind == "DELETED":
                found[resource].pop(name_of(changed), None)
            else:
                found[resource][name_of(changed)] = changed


if __name__ == "__main__":
    main()
