# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's own probes, before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ..arguments import AUTH_OPTIONS
from ..call import Call
from ..cluster.client import Cluster
from ..probes import PROBE_OPTIONS, Probe, carry_out, from_arguments
from ..problems import Problem, Rejected
from ..tls.facts import rfc3339

_AT_ONCE = 16


def read(listed: Sequence[Mapping[str, Any]] | None, where: str) -> tuple[Sequence[Probe], list[Problem]]:
    """The probes of one rotation, and what is wrong with them."""
    if not listed:
        return (), []
    try:
        return from_arguments(_params(listed)), []
    except Rejected as rejected:
        return (), [replace(problem, where=f"{where}{problem.where}") for problem in rejected.problems]


def made(call: Call, probes: Sequence[Probe], timeout: float) -> list[dict[str, Any]]:
    """The results of the probes, which are made side by side. One without a time of its own is tried for `timeout` seconds."""
    if not probes:
        return []
    timed = [
        replace(one, options={**one.options, "timeout": timeout}) if one.options["timeout"] is None or not timeout else one
        for one in probes
    ]

    def connect(server: str | None) -> Cluster:
        return call.clusters[0] if server is None and call.clusters else call.connect(host=server)

    return carry_out(timed, _params([one.options for one in probes]), connect=connect, check_mode=False)


def failures(results: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Name -> why it failed."""
    return {str(result["name"]): str(result["msg"]) for result in results if result["failed"]}


def shown(result: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    """One result as evidence: what was found, when, and after how many seconds."""
    found = {name: result[name] for name in ("status", "failure", "alert") if result.get(name) is not None}
    return {"name": result["name"], "holds": not result["failed"], "at": rfc3339(at), "seconds": result.get("elapsed"), **found}


def _params(listed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Arguments as `tls_probe` has them."""
    return {
        **dict.fromkeys((*AUTH_OPTIONS, *PROBE_OPTIONS)),
        "name": None,
        "api_server": None,
        "parallel": _AT_ONCE,
        "probes": list(listed),
    }
