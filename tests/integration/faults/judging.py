# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fault tests ask of a run: all there and written once, or told truly and finished by the next run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..faultproxy import FaultProxy
from ..process import Finished, run
from ..spare import ADMIN_TOKEN, SpareApi

MODULE = "istio_tls_credential"
IMPATIENT = {"cluster.client._PATIENCE": 1.5, "cluster.client._PATIENCE_AT_FIRST": 1.5}
BATCH = 200

Credentials = Callable[..., dict[str, Any]]


def through(proxy: FaultProxy) -> dict[str, str]:
    return {"host": proxy.url, "api_key": ADMIN_TOKEN, "ca_cert": str(proxy.ca_path)}


def names(arguments: dict[str, Any]) -> set[str]:
    return {item["name"] for item in arguments["credentials"]}


def assert_all_there(api: SpareApi, arguments: dict[str, Any]) -> None:
    """Every credential with its own pair, each written exactly once."""
    found = api.secrets(arguments["namespace"])
    wanted = {item["name"]: {"tls.crt": item["certificate"], "tls.key": item["private_key"]} for item in arguments["credentials"]}
    assert found.keys() == wanted.keys()
    for name, data in wanted.items():
        assert {key: text.split() for key, text in found[name].items()} == {key: text.split() for key, text in data.items()}
    assert api.writes(arguments["namespace"]) == dict.fromkeys(wanted, 1)


def assert_told(api: SpareApi, arguments: dict[str, Any], finished: Finished) -> set[str]:
    """What the failure says it applied is there, and what is there beyond was under way when the answer was lost. Returns what is there."""
    finished.fails()
    applied, failed, left = (finished.named(what) for what in ("applied", "failures", "not_tried"))
    assert applied | failed | left == names(arguments)
    assert not (applied & failed or applied & left or failed & left)
    there = set(api.secrets(arguments["namespace"]))
    assert applied <= there <= applied | failed
    assert finished.result["changed"] is bool(applied)
    assert "Running again continues" in finished.message
    assert f"{'Secret ' + arguments['namespace']}/" in finished.message
    return there


def assert_finishes(api: SpareApi, arguments: dict[str, Any], there: set[str]) -> None:
    """A second run makes what is missing, and leaves what is there alone."""
    done = run(MODULE, {**arguments, **api.login}).ok()
    assert {item["name"] for item in done.result["credentials"] if item["action"] == "created"} == names(arguments) - there
    assert_all_there(api, arguments)
