# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments of the event source."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.events.occasions import TYPES
from ansible_collections.meshops.istio.plugins.module_utils.events.options import settings_of
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected


def test_defaults_are_those_of_the_role() -> None:
    found = settings_of({})
    assert found.events == set(TYPES) and found.namespaces == ("istio-system",) and found.handshakes and not found.proxies
    assert (found.rules.policy.min_remaining, found.rules.policy.spread, found.rules.policy.emergency_remaining) == (0.33, 0.05, 0.1)
    assert found.remind_after is None and found.settle == timedelta(seconds=20)


def test_texts_of_a_rulebooks_variables_are_read() -> None:
    found = settings_of(
        {
            "namespaces": "a, b",
            "handshakes": "no",
            "verify_ssl": "False",
            "kubeconfig": "",
            "min_remaining": 30,
            "remind_after": "1d",
            "context": None,
        }
    )
    assert found.namespaces == ("a", "b") and not found.handshakes
    assert found.login["validate_certs"] is False and found.login["kubeconfig"] is None
    assert found.rules.policy.min_remaining == timedelta(days=30) and found.remind_after == timedelta(days=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kubconfig": "x"}, "kubconfig: expected an option of this event source"),
        ({"min_remaining": "soon"}, "expected a duration such as 30d"),
        ({"settle": "0s"}, "settle: expected at least 1s"),
        ({"events": ["expiry"]}, "expected types of events, found 'expiry'"),
        ({"namespaces": {"a": 1}}, "namespaces: expected a list of texts"),
        ({"handshakes": "maybe"}, "handshakes: expected true or false, found 'maybe'"),
        ({"request_timeout": -1}, "expected more than 0 seconds, found -1"),
        ({"ports": [1]}, "ports: expected a dictionary"),
        ({"renewal_credentials": ["a"]}, "renewal_credentials: expected a list of credentials"),
        ({"renewal_credentials": [{"name": "a", "spread": "x"}]}, r"renewal_credentials\[0\].spread"),
        ({"crl_remaining": "120%"}, "crl_remaining: expected less than 100%"),
    ],
)
def test_what_is_wrong_is_one_sentence(given: dict[str, Any], message: str) -> None:
    with pytest.raises(Rejected, match=message):
        settings_of(given)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(Rejected) as caught:
        settings_of({"a": 1, "settle": "x", "events": ["y"]})
    assert [one.where for one in caught.value.problems] == ["a", "events", "settle"]
