# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters a minute through ansible-runner's streaming form, by workers and forks, and what one cluster costs: ours beside kubernetes.core.

    python tests/benchmark/bench_runner.py [--clusters 60] [--rival-clusters 60] [--workers 1,3] [--forks 5,20] [--results .bench/runner.json]

A cluster is a context of one kubeconfig, with a Secret of its own. Ours puts a certificate in place and looks at it; kubernetes.core.k8s writes the same
Secret, and k8s_info reads it, with the most workers and forks. Whole pipelines are measured (transmit, worker, process), all on this machine. What one
cluster costs is processor time beyond that of pipelines that do next to nothing. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
import yaml
from ansible_collections.meshops.istio.tests.integration.runner import job, sliced, stream
from sandbox_shell import sandbox_environment, say

ROOT = Path(__file__).resolve().parents[2]
CORE, OURS = "kubernetes.core", "meshops.istio"
LOGIN = {"kubeconfig": "{{ playbook_dir }}/kubeconfig", "context": "{{ inventory_hostname }}"}
NAME = "{{ inventory_hostname }}"


Shape = tuple[int, int]
"""Workers and forks."""


@dataclass(frozen=True)
class Bench:
    directory: Path
    env: dict[str, str]
    files: dict[str, str]
    starts: dict[Shape, float] = field(default_factory=dict)
    """Processor seconds of pipelines that do next to nothing."""

    def measure(self, name: str, tasks: list[dict[str, Any]], clusters: list[str], workers: int, forks: int) -> tuple[float, float]:
        """Seconds and processor seconds of all pipelines, side by side."""
        play = [{"hosts": "all", "gather_facts": False, "tasks": tasks}]
        play[0]["module_defaults"] = {"group/meshops.istio.istio": LOGIN, "group/kubernetes.core.k8s": LOGIN}
        jobs = []
        for number in range(workers):
            hosts: dict[str, Any] = {host: {"ansible_connection": "local"} for host in sliced(clusters, number, workers)}
            jobs.append(job(self.directory / name / str(number), {"all": {"hosts": hosts}}, play, files=self.files))
        before, begin = _processor(), time.monotonic()
        running = [stream(one, self.env, ["ansible-runner", "worker"], "--forks", str(forks)) for one in jobs]
        for one in running:
            one.wait(1800)
        seconds, processor = time.monotonic() - begin, _processor() - before
        ended = [host for one in jobs for host, count in one.statistics["ok"].items() if count == len(tasks)]
        if sorted(ended) != sorted(clusters):
            sys.exit(f"bench: {len(ended)} of {len(clusters)} clusters ended well\n{running[0].log.read_text()[-3000:]}")
        return seconds, processor

    def figure(self, scenario: str, subject: str, tasks: list[dict[str, Any]], clusters: list[str], shape: Shape) -> dict[str, Any]:
        workers, forks = shape
        name, count = f"{scenario}-{subject}-{workers}-{forks}", len(clusters)
        if shape not in self.starts:
            self.starts[shape] = self.measure(f"{name}-nothing", [{"ansible.builtin.debug": {}}], clusters[:workers], *shape)[1]
        seconds, processor = self.measure(name, tasks, clusters, *shape)
        found = {
            **{"scenario": scenario, "subject": subject, "workers": workers, "forks": forks, "clusters": count},
            "seconds": round(seconds, 1),
            "a_minute": round(count / seconds * 60),
            "processor_each": round((processor - self.starts[shape]) / count, 3),
        }
        say(f"bench: {found}")
        return found


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def subjects(namespace: Callable[[str], str]) -> dict[str, list[dict[str, Any]]]:
    """What each does in a cluster, in a namespace of its own."""
    paths = {name: f"{{{{ playbook_dir }}}}/tls.{name}" for name in ("crt", "key")}
    ours = {"name": NAME, "namespace": namespace(OURS), "certificate_path": paths["crt"], "private_key_path": paths["key"]}
    encoded = {
        f"tls.{name}": f"{{{{ lookup('ansible.builtin.file', playbook_dir ~ '/tls.{name}', rstrip=false) | b64encode }}}}" for name in paths
    }
    metadata = {"name": NAME, "namespace": namespace(CORE)}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls", "data": encoded}
    return {
        OURS: [
            {"meshops.istio.istio_tls_credential": ours},
            {"meshops.istio.istio_tls_credential_info": {"name": NAME, "namespace": namespace(OURS)}},
        ],
        CORE: [
            {"kubernetes.core.k8s": {"definition": secret}},
            {"kubernetes.core.k8s_info": {"kind": "Secret", **metadata}},
        ],
    }


def kubeconfig(env: Mapping[str, str], clusters: list[str]) -> str:
    config = yaml.safe_load(Path(env["KUBECONFIG"]).read_text())
    context = config["contexts"][0]["context"]
    config["contexts"] = [{"name": name, "context": context} for name in clusters]
    return yaml.safe_dump(config)


def table(figures: list[dict[str, Any]]) -> str:
    lines = [
        "| | workers | forks | with | clusters | seconds | clusters a minute | processor seconds a cluster |",
        "|---|---:|---:|---|---:|---:|---:|---:|",
    ]
    for one in figures:
        measured = f"{one['clusters']} | {one['seconds']:.1f} | {one['a_minute']} | {one['processor_each']:.2f}"
        lines.append(f"| {one['scenario']} | {one['workers']} | {one['forks']} | {one['subject']} | {measured} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", type=int, default=60)
    parser.add_argument("--rival-clusters", type=int, default=60)
    parser.add_argument("--workers", default="1,3")
    parser.add_argument("--forks", default="5,20")
    parser.add_argument("--results", type=Path, default=ROOT / ".bench" / "runner.json")
    options = parser.parse_args()
    env = sandbox_environment() | {"ANSIBLE_NOCOLOR": "1"}
    clusters = [f"cluster{number:03}" for number in range(max(options.clusters, options.rival_clusters))]
    pair = trustme.CA().issue_cert("fleet.example.com")
    files = {
        "kubeconfig": kubeconfig(env, clusters),
        "tls.crt": b"".join(part.bytes() for part in pair.cert_chain_pems).decode(),
        "tls.key": pair.private_key_pem.bytes().decode(),
        "ansible.cfg": "[defaults]\nstrategy = free\n",
    }
    namespaces = {OURS: "bench-runner-ours", CORE: "bench-runner-core"}
    shapes = [(workers, forks) for workers in map(int, options.workers.split(",")) for forks in map(int, options.forks.split(","))]
    figures: list[dict[str, Any]] = []
    for namespace in namespaces.values():
        subprocess.run(["kubectl", "create", "namespace", namespace], env=env, capture_output=True, check=False)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            bench = Bench(Path(directory), {**env, "TMPDIR": directory}, files)
            tasks = subjects(namespaces.__getitem__)
            for scenario, wanted in (("created", shapes[-1:]), ("unchanged", shapes)):
                figures += [bench.figure(scenario, OURS, tasks[OURS], clusters[: options.clusters], shape) for shape in wanted]
                figures.append(bench.figure(scenario, CORE, tasks[CORE], clusters[: options.rival_clusters], shapes[-1]))
    finally:
        names = list(namespaces.values())
        subprocess.run(["kubectl", "delete", "namespace", *names, "--wait=false"], env=env, capture_output=True, check=False)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "load": round(os.getloadavg()[0], 1)}
    options.results.parent.mkdir(exist_ok=True)
    options.results.write_text(json.dumps({"machine": machine, "figures": figures}, indent=2))
    print(table(figures))
    print(f"\n{machine['cores']} cores, Python {machine['python']}; the figures are in {options.results}")


if __name__ == "__main__":
    main()
