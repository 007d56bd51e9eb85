# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's figures as a table, and the names of what others are compared with."""

from __future__ import annotations

from typing import Any

CORE = "kubernetes.core.k8s"
LIMIT = "no-op module and raw HTTP"
SHELL = "kubectl apply, openssl s_client"
THREADS = "Python threads"


def table(figures: list[dict[str, Any]]) -> str:
    """Markdown: a row a measurement, with its ratio to the rival (kubernetes.core.k8s; for rotations the shell, for hosts Python threads), and ours with
    that to the limit, in the same scenario."""
    seconds = {(figure["scenario"], figure["subject"]): figure["seconds"] for figure in figures if "seconds" in figure}
    lines = [
        "| scenario | with | seconds | beside the rival | beside the limit | API requests |",
        "|---|---|---:|---:|---:|---|",
    ]
    for figure in figures:
        scenario, subject = figure["scenario"], figure["subject"]
        if "seconds" not in figure:
            lines.append(f"| {scenario} | {subject} | {figure['megabytes']} MB | | | |")
            continue
        form = subject.removeprefix("istio_tls_credential, ")
        rival = seconds.get((scenario, CORE)) or seconds.get((scenario, SHELL)) or seconds.get((scenario, THREADS))
        beside = [rival, seconds.get((scenario, f"{LIMIT}, {form}"))]
        ratios = [f"{figure['seconds'] / other:.2f}" if other else "" for other in beside]
        requests = ", ".join(f"{number} {verb}" for verb, number in (figure.get("requests") or {}).items())
        if "p99" in figure:
            subject += f" (p50; p99 {figure['p99']:.2f}, max {figure['max']:.2f})"
        if "load" in figure:
            subject += " ({per_second} new connections a second, {failed} of {connections} failed)".format(**figure["load"])
        lines.append(f"| {scenario} | {subject} | {figure['seconds']:.2f} | {' | '.join(ratios)} | {requests} |")
    return "\n".join(lines)
