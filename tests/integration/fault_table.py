# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every fault and every correct set of the unit tests on the sandbox's API server, judged by our rules and by istioctl analyze in one run."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import Cluster, connect
from ansible_collections.meshops.istio.plugins.module_utils.cluster.collect import collect
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.diagnose import Finding, findings_in, view_of
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.explain import Explainer
from ansible_collections.meshops.istio.tests.unit.diagnosis.all_faults import ALL, Fault
from ansible_collections.meshops.istio.tests.unit.diagnosis.correct import CORRECT
from ansible_collections.meshops.istio.tests.unit.diagnosis.sets import NOW

from .stage import PREFIX, Manifest, Stage, moved

_CONDITIONS_SECONDS = 3.0
INSTANCES: Mapping[str, Fault] = {**{name: (items, []) for name, items in CORRECT.items()}, **ALL}


@dataclass(frozen=True)
class Judged:
    """What was said of one instance."""

    name: str
    expected: tuple[str, ...]
    refused: str = ""
    """The API server's own words, where it does not take the objects: these faults are found in files alone."""
    found: tuple[Finding, ...] = ()
    explained: bool = False
    """Whether `explain` says of one of its hosts at which stage something is wrong."""
    istioctl: tuple[str, ...] = ()
    """Code and resource of istioctl's warnings and errors."""

    @property
    def codes(self) -> list[str]:
        """Of what is no hint, or an expected one."""
        return [one.code for one in self.found if one.severity != "hint" or one.code in self.expected]


def judge_all(environment: Mapping[str, str], *, istioctl: bool = False, only: str = "") -> list[Judged]:
    """Every instance, one after the other; with `istioctl` beside what istioctl analyze says of it."""
    cluster = connect({"kubeconfig": environment["KUBECONFIG"]})
    cluster.clock = count(step=100).__next__  # what the API server does not take is tried once more, and not for half a minute
    stage = Stage(cluster, partial(_apply, environment))
    stage.wait_until_empty()
    try:
        return [_judge(cluster, stage, name, fault, environment if istioctl else None) for name, fault in INSTANCES.items() if only in name]
    finally:
        stage.clear()


def _apply(environment: Mapping[str, str], manager: str, item: Manifest) -> None:
    command = ["kubectl", "apply", "--server-side", "--force-conflicts", manager, "-f", "-"]
    subprocess.run(command, input=json.dumps(item), text=True, env=dict(environment), capture_output=True, check=True)


def _judge(cluster: Cluster, stage: Stage, name: str, fault: Fault, environment: Mapping[str, str] | None) -> Judged:
    items, expected = fault
    made = Judged(name, tuple(expected), refused=stage.show(items))
    if made.refused:
        return made
    view = view_of(collect(cluster, None, []), now=NOW)
    found = findings_in(view).findings
    ours = tuple(one for one in found if any((ref.namespace or ref.name).startswith(PREFIX) for ref in one.objects))
    explainer = Explainer(view, found)
    stages = [stage for host in _hosts(moved(items)) for stage in explainer.explain(host)["stages"]]
    broken = any(stage["findings"] or stage["state"] == "broken" for stage in stages)
    return replace(made, found=ours, explained=broken, istioctl=tuple(_analyze(environment, items)) if environment else ())


def _hosts(items: list[Manifest]) -> list[str]:
    """Whose way can be told: hosts of servers and of external services."""
    found: dict[str, None] = {}
    for item in items:
        spec = item.get("spec") or {}
        servers = [*(spec.get("servers") or ()), *({"hosts": [one.get("hostname")]} for one in spec.get("listeners") or ())]
        hosts = [host for server in servers for host in server.get("hosts") or ()] if item["kind"] == "Gateway" else ()
        hosts = spec.get("hosts") or () if item["kind"] == "ServiceEntry" else hosts
        found.update(dict.fromkeys(str(host).rpartition("/")[2] for host in hosts if host))
    return [host for host in found if "*" not in host]


def _analyze(environment: Mapping[str, str], items: list[Manifest]) -> Iterator[str]:
    """What istioctl analyze warns of in our namespaces; it reads conditions that istiod takes a moment to write."""
    if any(item["apiVersion"].startswith("gateway.networking") for item in items):
        time.sleep(_CONDITIONS_SECONDS)
    command = [environment["ISTIOCTL"], "analyze", "--all-namespaces", "--output", "json", "--ignore-unknown"]
    done = subprocess.run(command, env=dict(environment), text=True, capture_output=True, check=False)
    messages: list[dict[str, Any]] = json.loads(done.stdout or "[]") or []
    for one in messages:
        if one["level"] in ("Warning", "Error") and PREFIX in one.get("origin", ""):
            yield f"{one['code']} {one['origin']}"
