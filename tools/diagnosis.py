# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the numbers in docs/diagnosis.md.

python tools/diagnosis.py faults   # judges every fault and correct set on the running sandbox, by our rules and by istioctl analyze
python tools/diagnosis.py          # writes the page's tables, from that and from what tests/benchmark/bench_diagnosis.py measured
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "diagnosis.md"
FAULTS = ROOT / ".bench" / "faults.json"
SIZES = ROOT / ".bench" / "diagnosis.json"
CORRECT = "correct"


def judge() -> None:
    """Needs the sandbox and its environment (`. .sandbox/env`)."""
    from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.table import BY_CODE
    from ansible_collections.meshops.istio.tests.integration.fault_table import judge_all
    from ansible_collections.meshops.istio.tests.integration.gateway_api_crds import installed
    from ansible_collections.meshops.istio.tests.unit.diagnosis.all_faults import GROUPS

    group_of = {name: group for group, faults in GROUPS.items() for name in faults}
    with installed(_kubectl):
        judged = judge_all(os.environ, istioctl=True)
    rows = [
        {
            "name": one.name,
            "group": group_of.get(one.name, CORRECT),
            "expected": [BY_CODE[code].id for code in one.expected],
            "found": [BY_CODE[code].id for code in one.codes],
            "refused": bool(one.refused),
            "explained": one.explained,
            "istioctl": list(one.istioctl),
        }
        for one in judged
    ]
    FAULTS.parent.mkdir(exist_ok=True)
    FAULTS.write_text(json.dumps(rows, indent=1))


def _kubectl(*arguments: str, stdin: str | None = None) -> str:
    return subprocess.run(["kubectl", *arguments], input=stdin, text=True, capture_output=True, check=True).stdout


# --- the page


def write() -> None:
    text = PAGE.read_text()
    for name, path, made in (("faults", FAULTS, faults), ("sizes", SIZES, sizes)):
        if path.is_file():
            begin, end = f"<!-- {name}: written by tools/diagnosis.py -->", f"<!-- end of {name} -->"
            before, __, rest = text.partition(begin)
            __, __, after = rest.partition(end)
            text = "\n".join([before + begin, "", *made(json.loads(path.read_text())), "", end + after])
    PAGE.write_text(text)


def faults(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    applied = [one for one in rows if not one["refused"]]
    faulty = [one for one in applied if one["group"] != CORRECT and one["expected"]]
    correct = [one for one in applied if not one["expected"]]
    usual = {said for one in correct for said in one["istioctl"]}
    groups = list(dict.fromkeys(one["group"] for one in faulty))
    yield "| faults | applied | named, and nothing else | explained | `istioctl analyze` says something |"
    yield "|---|---:|---:|---:|---:|"
    for name, some in [*((group, [one for one in faulty if one["group"] == group]) for group in groups), ("all", faulty)]:
        exact = sum(sorted(one["found"]) == sorted(one["expected"]) for one in some)
        explained, theirs = sum(one["explained"] for one in some), sum(bool(set(one["istioctl"]) - usual) for one in some)
        yield f"| {name} | {len(some)} | {exact} | {explained} | {theirs} |"
    yield ""
    ours, alarms = sum(bool(one["found"]) for one in correct), sum(bool(one["istioctl"]) for one in correct)
    yield f"Of {len(correct)} correct sets {ours} have a finding; `istioctl analyze` warns of {alarms}:"
    yield ""
    yield "| correct set | findings | `istioctl analyze` |"
    yield "|---|---|---|"
    for one in correct:
        yield f"| {one['name']} | {', '.join(one['found']) or 'none'} | {', '.join(_codes(one['istioctl'])) or 'none'} |"
    yield ""
    yield "<details><summary>Every fault</summary>"
    yield ""
    yield "| fault | found | explained | `istioctl analyze` |"
    yield "|---|---|---|---|"
    for one in rows:
        if one["group"] == CORRECT or not one["expected"]:
            continue
        if one["refused"]:
            yield f"| {one['name']} | {', '.join(one['expected'])}, in files | | the API server refuses it |"
            continue
        theirs = ", ".join(_codes(sorted(set(one["istioctl"]) - usual))) or "nothing"
        yield f"| {one['name']} | {', '.join(one['found'])} | {'yes' if one['explained'] else ''} | {theirs} |"
    yield ""
    yield "</details>"


def _codes(said: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(one.partition(" ")[0] for one in said))


def sizes(found: Mapping[str, Any]) -> Iterator[str]:
    machine = f"{found['cores']} cores, Python {found['python']}, the sandbox beside it on the same machine"
    if found["load"] > found["cores"]:
        machine += f", which was busy with other work (load {found['load']:.0f}): seconds are those of a machine that is not alone"
    yield f"{machine}; medians of {found['runs']} runs:"
    yield ""
    yield "| credentials / Gateways / egress services | with | seconds | of them processor time of its own | peak memory | said of a correct cluster |"
    yield "|---|---|---:|---:|---:|---|"
    for one in found["sizes"]:
        size = one["size"]
        what = f"{size:,} / {size * 3 // 10:,} / {size // 2:,}"
        cells = (what, one["subject"], f"{one['seconds']:.1f}", f"{one['processor']:.1f}", f"{one['megabytes']} MB", _said(one["told"]))
        yield f"| {' | '.join(cells)} |"
    if fleet := found.get("fleet"):
        yield ""
        yield (
            f"`playbooks/diagnose.yml` for {fleet['clusters']} clusters with `--forks {fleet['forks']}`, without handshakes: {fleet['seconds']:.0f} s, "
            f"of them {fleet['processor']:.0f} s of processor time; {fleet['megabytes']:.0f} MB for the largest process."
        )


def _said(count: int) -> str:
    return f"{count:,} warnings" if count else "nothing"


if __name__ == "__main__":
    if sys.argv[1:] == ["faults"]:
        judge()
    write()
