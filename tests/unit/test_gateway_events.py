# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the event source says of itself: ansible-rulebook logs it as it is, and hides nothing."""

from __future__ import annotations

import base64
import logging
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import ConfigurationError
from ansible_collections.meshops.istio.plugins.module_utils.events.occasions import CRL_EXPIRES, Occasion
from ansible_collections.meshops.istio.plugins.module_utils.gateway_events import lookout
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected

LOGIN: dict[str, Any] = {"host": "https://127.0.0.1:1", "api_key": "c4n4ry-of-a-token"}
KEY = base64.b64encode(b"-----BEGIN PRIVATE KEY-----\n" + b"MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ\n" * 4).decode()
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    # what is given -> what must not be told of it
    "host": ({"host": "https://u:c4n4ry@127.0.0.1:1"}, "c4n4ry"),
    "proxy": ({"proxy": "u:c4n4ry@127.0.0.1:9"}, "c4n4ry"),
    "admin_urls": ({"admin_urls": ["http://u:c4n4ry@127.0.0.1:15000"]}, "c4n4ry"),
    "a key where a path belongs": ({"client_cert": "/c.crt", "client_key": KEY}, KEY[24:48]),
    "a key where another path belongs": ({"ca_cert": KEY}, KEY[24:48]),
    "an option that is no option": ({"passphrase": "c4n4ry"}, "c4n4ry"),
    "a login as text": ({"proxy_headers": "proxy_basic_auth=u:c4n4ry"}, "c4n4ry"),
    "a login in a list": ({"api_key": ["c4n4ry"]}, "c4n4ry"),
    "a login in a dictionary": ({"api_key": None, "username": "u", "password": {"a": "c4n4ry"}}, "c4n4ry"),
    "a kubeconfig as text": ({"kubeconfig": "token: c4n4ry\n"}, "c4n4ry"),
    "what a terminal acts upon": ({"admin_urls": ["http://\x1b]0;OWNED\x07/x"]}, "\x1b"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_the_options_is_told_without_secrets(case: str) -> None:
    given, secret = WRONG[case]
    with pytest.raises((Rejected, ConfigurationError)) as caught:
        lookout({**LOGIN, **given}, {})
    assert secret not in str(caught.value) and ("expected" in str(caught.value) or "cannot read" in str(caught.value))
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_what_it_logs_is_without_secrets_and_is_text(caplog: pytest.LogCaptureFixture) -> None:
    watched = lookout({**LOGIN, "cluster": "a\x1b[31m"}, {})
    with caplog.at_level(logging.WARNING):
        watched._complain("no answer, \x1b]0;OWNED\x07 c4n4ry-of-a-token")
    assert caplog.messages == ["a\\x1b[31m: no answer, \\x1b]0;OWNED\\x07 ********"]


def test_an_event_holds_nothing_that_a_terminal_acts_upon(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = lookout(LOGIN, {})
    seen = Occasion(CRL_EXPIRES, "key", {"issuer": "CN=\x1b]0;OWNED\x07", "names": ["ä\u202e"]})
    monkeypatch.setattr(watched.world, "due", lambda __: [seen])
    [event] = watched.next()
    assert (event["issuer"], event["names"]) == ("CN=\\x1b]0;OWNED\\x07", ["ä\\u202e"])
