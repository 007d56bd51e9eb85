# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a diagnosis takes on clusters of three sizes, beside istioctl analyze on the same cluster; and many clusters at once.

    python tests/benchmark/bench_diagnosis.py [--sizes 10,100,1000] [--clusters 200] [--forks 20] [--runs 3] [--results .bench/diagnosis.json]

A cluster of size 1,000 has 1,000 credentials, 300 Gateways and 500 services behind an egress gateway. tools/diagnosis.py writes the figures into
docs/diagnosis.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import trustme
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import Cluster, connect
from ansible_collections.meshops.istio.plugins.module_utils.istio import egress_arguments, egress_objects, ingress, ingress_arguments
from ansible_collections.meshops.istio.plugins.module_utils.objects import kinds
from sandbox_shell import sandbox_environment, say

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "plugins" / "modules" / "gateway_diagnose.py"
HOME = "bench-diagnosis"
AT_ONCE = 8
SETTLING_SECONDS = 10.0
_SERVICE_ACCOUNT = kinds.Resource("", "v1", "serviceaccounts", "ServiceAccount")
_RESOURCES = {one.key: one for one in (*vars(kinds).values(), _SERVICE_ACCOUNT) if isinstance(one, kinds.Resource)}
# a process of its own, so that RUSAGE_CHILDREN holds nothing else
_MEASURED = (
    "import json, resource, subprocess, sys, time; begin = time.monotonic(); "
    "done = subprocess.run(sys.argv[1:], stdin=sys.stdin, capture_output=True, text=True); "
    "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
    "print(json.dumps({'seconds': time.monotonic() - begin, 'processor': used.ru_utime + used.ru_stime, 'megabytes': used.ru_maxrss / 1024, "
    "'code': done.returncode, 'out': done.stdout, 'err': done.stderr[-2000:]}))"
)


# -- a cluster of some size -------------------------------------------------------------------------------------------------------------


def surroundings() -> Iterator[dict[str, Any]]:
    """Two gateways of their own, pods (which nothing starts) and Services, and a service behind the first."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}}
    for name in ("bench-ingress", "bench-egress"):
        labels = {"istio": name}
        place = {"name": name, "namespace": HOME}
        yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": place}
        pod = {"serviceAccountName": name, "containers": [{"name": "istio-proxy", "image": "none"}]}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": {**place, "labels": labels}, "spec": pod}
        ports = [{"name": "http2", "port": 80, "targetPort": 8080}, {"name": "https", "port": 443, "targetPort": 8443}]
        yield {"apiVersion": "v1", "kind": "Service", "metadata": place, "spec": {"selector": labels, "ports": ports}}
    app = {"selector": {"app": "app"}, "ports": [{"name": "http", "port": 8000}]}
    yield {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app", "namespace": HOME}, "spec": app}
    rbac = "rbac.authorization.k8s.io"
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "watch", "list"]}
    place = {"name": "gateways", "namespace": HOME}
    yield {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": place, "rules": [rule]}
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": HOME} for name in ("bench-ingress", "bench-egress")]
    role = {"apiGroup": rbac, "kind": "Role", "name": "gateways"}
    yield {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": place, "roleRef": role, "subjects": subjects}


def contents(size: int) -> Iterator[dict[str, Any]]:
    """`size` credentials, three tenths as many Gateways, and half as many services behind the egress gateway."""
    ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
    gateways, services = max(1, size * 3 // 10), size // 2
    clients = size // 5
    for number in range(size):
        host = f"client-{number}" if number < clients else f"host-{number}.bench.example.com"
        leaf = ca.issue_cert(host, key_type=trustme.KeyType.ECDSA)
        chain = b"".join(part.bytes() for part in leaf.cert_chain_pems).decode()
        data = {"tls.crt": chain, "tls.key": leaf.private_key_pem.bytes().decode(), "ca.crt": ca.cert_pem.bytes().decode()}
        yield {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"credential-{number}", "namespace": HOME}, "stringData": data}
    for number in range(gateways):
        yield from _gateway(number, range(clients + number, size, gateways))
    for number in range(services):
        service = {
            "name": f"partner-{number}",
            "host": f"api-{number}.partner.example.net",
            "namespace": HOME,
            "gateway": {"selector": {"istio": "bench-egress"}, "service": "bench-egress", "namespace": HOME},
            "credential_name": f"credential-{number % clients}",
            "subject_alt_names": [f"api-{number}.partner.example.net"],
        }
        for one in egress_arguments.from_arguments(service):
            yield from egress_objects.manifests(one)


def _gateway(number: int, credentials: range) -> Iterator[dict[str, Any]]:
    servers = [
        {
            "hosts": [f"host-{credential}.bench.example.com"],
            "credential_name": f"credential-{credential}",
            "routes": [{"destination": {"host": f"app.{HOME}.svc.cluster.local", "port": 8000}}],
        }
        for credential in credentials
    ]
    asked = {"name": f"shop-{number}", "namespace": HOME, "selector": {"istio": "bench-ingress"}, "servers": servers}
    yield from map(dict, ingress.manifests(ingress_arguments.from_arguments(asked)))


def fill(cluster: Cluster, size: int) -> int:
    for one in surroundings():
        apply(cluster, one)
    objects = list(contents(size))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(partial(apply, cluster), objects))
    return len(objects)


def apply(cluster: Cluster, one: Mapping[str, Any]) -> None:
    cluster.apply(_RESOURCES[one["apiVersion"].rpartition("/")[0], one["kind"]], one, force=True)


def empty(env: Mapping[str, str]) -> None:
    subprocess.run(
        ["kubectl", "delete", "namespace", HOME, "--ignore-not-found", "--timeout=300s"], env=dict(env), capture_output=True, check=True
    )


# -- measuring --------------------------------------------------------------------------------------------------------------------------------


def measured(env: Mapping[str, str], command: list[str], text: str = "") -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *command], input=text, env=dict(env), capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def diagnosis(env: Mapping[str, str]) -> dict[str, Any]:
    """The module as Ansible starts it, with its arguments on standard input."""
    given = json.dumps({"ANSIBLE_MODULE_ARGS": {"kubeconfig": env["KUBECONFIG"], "fail_on": "never"}})
    found = measured(env, [env["ANSIBLE_PYTHON_INTERPRETER"], str(MODULE)], given)
    result = json.loads(found["out"])
    if result.get("failed"):
        sys.exit(f"bench: {result['msg']}")
    told = [one for one in result["findings"] if one["severity"] != "hint" and any(ref["namespace"] == HOME for ref in one["objects"])]
    return {**found, "told": len(told), "objects": result["objects"], "first": told[:1]}


def analyze(env: Mapping[str, str]) -> dict[str, Any]:
    found = measured(env, [env["ISTIOCTL"], "analyze", "--all-namespaces", "--output", "json"])
    messages = [one for one in json.loads(found["out"] or "[]") if one["level"] in ("Warning", "Error") and HOME in one.get("origin", "")]
    return {**found, "told": len(messages), "first": messages[:1]}


def sizes(env: Mapping[str, str], wanted: list[int], runs: int) -> list[dict[str, Any]]:
    cluster = connect({"kubeconfig": env["KUBECONFIG"]})
    figures = []
    for size in wanted:
        empty(env)
        begin = time.monotonic()
        count = fill(cluster, size)
        say(f"bench: size {size}: {count} objects written in {time.monotonic() - begin:.0f} s")
        time.sleep(SETTLING_SECONDS)  # istiod and its proxies work off what was written
        subjects: dict[str, Callable[[Mapping[str, str]], dict[str, Any]]] = {"gateway_diagnose": diagnosis, "istioctl analyze": analyze}
        taken: dict[str, list[dict[str, Any]]] = {subject: [] for subject in subjects}
        for __ in range(runs):  # in turns, so that what slows the machine down slows both
            for subject, run in subjects.items():
                taken[subject].append(run(env))
        for subject, found in taken.items():
            figure = {
                "size": size,
                "subject": subject,
                "seconds": round(statistics.median(one["seconds"] for one in found), 2),
                "processor": round(statistics.median(one["processor"] for one in found), 2),
                "megabytes": round(max(one["megabytes"] for one in found)),
                "told": found[-1]["told"],
            }
            figures.append(figure)
            say(f"bench: {figure} {found[-1]['first']}")
    return figures


def fleet(env: Mapping[str, str], clusters: int, forks: int, directory: Path) -> dict[str, Any]:
    """One play for many inventory hosts: contexts of one kubeconfig, each of which leads to the sandbox's API server."""
    config = yaml.safe_load(Path(env["KUBECONFIG"]).read_text())
    context = config["contexts"][0]["context"]
    names = [f"cluster{number:03}" for number in range(clusters)]
    config["contexts"] = [{"name": name, "context": context} for name in names]
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    kubeconfig.chmod(0o600)
    login = {"kubeconfig": str(kubeconfig), "context": "{{ inventory_hostname }}"}
    inventory = directory / "inventory.yml"
    hosts: dict[str, Any] = {name: {} for name in names}
    inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": {"ansible_connection": "local", "meshops_login": login}}}))
    options = {"diagnose_fail_on": "never", "diagnose_handshakes": False, "diagnose_proxies": False}
    command = [
        "ansible-playbook",
        str(ROOT / "playbooks" / "diagnose.yml"),
        "-i",
        str(inventory),
        "--forks",
        str(forks),
        "-e",
        json.dumps(options),
    ]
    found = measured(env, command)
    ended = len(re.findall(r"^\S+\s+: ok=1 .*failed=0", found["out"], re.MULTILINE))
    if ended != clusters:
        sys.exit(f"bench: {ended} of {clusters} clusters were diagnosed\n{found['out'][-3000:]}{found['err']}")
    figure = {
        "clusters": clusters,
        "forks": forks,
        "seconds": round(found["seconds"], 1),
        "processor": round(found["processor"], 1),
        "megabytes": round(found["megabytes"]),
    }
    say(f"bench: {figure}")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10,100,1000")
    parser.add_argument("--clusters", type=int, default=200)
    parser.add_argument("--forks", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--results", type=Path, default=ROOT / ".bench" / "diagnosis.json")
    options = parser.parse_args()
    env = sandbox_environment()
    found: dict[str, Any] = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "runs": options.runs,
        "load": round(os.getloadavg()[0], 1),
    }
    try:
        found["sizes"] = sizes(env, [int(one) for one in options.sizes.split(",") if one], options.runs)
    finally:
        empty(env)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        if options.clusters:
            found["fleet"] = fleet(env, options.clusters, options.forks, Path(directory))
    options.results.parent.mkdir(exist_ok=True)
    options.results.write_text(json.dumps(found, indent=2))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
