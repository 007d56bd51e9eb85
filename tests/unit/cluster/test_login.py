# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logins that are asked for again: real plugins (shell scripts), files and servers on loopback."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.cluster.access import Choice
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import ConfigurationError
from ansible_collections.meshops.istio.plugins.module_utils.cluster.login import Login, login
from ansible_collections.meshops.istio.plugins.module_utils.kubeconfig import Access, Plugin

VERSION = "client.authentication.k8s.io/v1"
LONG_AGO, FAR = "2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z"


class Script:
    """A plugin whose runs are counted; `says` are its answers, the last one for ever."""

    def __init__(self, directory: Path, *says: Any) -> None:
        self.directory = directory
        for number, said in enumerate(says, 1):
            answer = {"kind": "ExecCredential", "apiVersion": VERSION, "status": said}
            (directory / f"answer-{number}").write_text(json.dumps(answer) if said is not None else "")
        path = directory / "plugin"
        path.write_text(
            f'#!/bin/sh\ncd "{directory}" || exit 9\necho run >> runs\nn=$(wc -l < runs); n=$((n < {len(says)} ? n : {len(says)}))\n'
            '[ -s "answer-$n" ] || { echo "session expired, log in again" >&2; exit 3; }\ncat "answer-$n"\n'
        )
        path.chmod(0o755)
        self.plugin = Plugin(str(path), (), (), VERSION, "Never")

    @property
    def runs(self) -> int:
        return len((self.directory / "runs").read_text().split())

    def login(self) -> Login:
        return login(Choice(Access("https://h", "context 'a'", plugin=self.plugin)))


def bearer(found: Login) -> str:
    return dict(found.headers())["Authorization"]


def test_a_plugin_is_asked_once_and_again_when_its_login_is_refused(tmp_path: Path) -> None:
    script = Script(tmp_path, {"token": "one"}, {"token": "two"})
    found = script.login()
    assert [bearer(found), bearer(found), script.runs] == ["Bearer one", "Bearer one", 1]
    sent_at = time.monotonic()
    assert found.renew(sent_at) and bearer(found) == "Bearer two" and script.runs == 2
    assert found.renew(sent_at) and script.runs == 2, "another request was refused the same login, which is renewed already"
    assert not found.renew(time.monotonic()) and script.runs == 3, "the same again is no other login"


def test_many_requests_that_are_refused_at_once_run_it_once(tmp_path: Path) -> None:
    script = Script(tmp_path, {"token": "one"}, {"token": "two"})
    found = script.login()
    sent_at = time.monotonic()
    outcomes: list[bool] = []
    threads = [threading.Thread(target=lambda: outcomes.append(found.renew(sent_at))) for __ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [True] * 8 and script.runs == 2


@pytest.mark.parametrize(("expires", "runs"), [(LONG_AGO, 3), (FAR, 1), (None, 1), ("no time", 1)])
def test_what_has_expired_is_asked_for_again(tmp_path: Path, expires: str | None, runs: int) -> None:
    script = Script(tmp_path, {"token": "one", "expirationTimestamp": expires})
    found = script.login()
    assert [bearer(found), bearer(found), found.certificate(), script.runs] == ["Bearer one", "Bearer one", None, runs]


def test_a_certificate_from_a_plugin_is_renewed_too(tmp_path: Path) -> None:
    script = Script(tmp_path, *({"clientCertificateData": f"c{n}", "clientKeyData": f"k{n}"} for n in (1, 2)))
    found = script.login()
    assert found.headers() == [] and found.certificate() == (b"c1", b"k1")
    assert found.renew(time.monotonic()) and found.certificate() == (b"c2", b"k2")


def test_a_plugin_that_fails_the_second_time_says_why(tmp_path: Path) -> None:
    found = Script(tmp_path, {"token": "one"}, None).login()
    with pytest.raises(ConfigurationError, match=r"status 3 and said: session expired, log in again"):
        found.renew(time.monotonic())


SAID = {
    # what a plugin prints when it fails, and what is told of it
    "login as c4n4ry-password refused": "login as ******** refused",
    "got Authorization: Bearer c4n4ry.other": "got Authorization: Bearer ********",
    "eyJc4n4ry.eyJc4n4ry.c4n4ry has expired": "******** has expired",
    "POST https://me:c4n4ry@sso.example.com/token": "POST https://********@sso.example.com/token",
    "token c4n4ry-token is bad": "token ******** is bad",
    "x" * 290 + " c4n4ry-password" + "y" * 5000: "x" * 290 + " ********",
    "region eu-west-1, cluster shop": "region eu-west-1, cluster shop",
    "-----BEGIN EC PRIVATE KEY-----\nc4n4ry": "********",
}


@pytest.mark.parametrize("said", SAID, ids=range(len(SAID)))
def test_what_a_plugin_says_is_told_without_secrets_and_cut(tmp_path: Path, said: str) -> None:
    (tmp_path / "said").write_text(said)
    variables = (("PASSWORD", "c4n4ry-password"), ("AWS_REGION", "eu-west-1"))
    arguments = ("-c", f"cat {tmp_path / 'said'} >&2; exit 1", "--cluster", "shop", "--token=c4n4ry-token")
    plugin = Plugin("/bin/sh", arguments, variables, VERSION, "Never")
    with pytest.raises(ConfigurationError) as raised:
        login(Choice(Access("https://h", "context 'a'", plugin=plugin)))
    assert f"said: {SAID[said]}" in str(raised.value) and "c4n4ry" not in str(raised.value) and len(str(raised.value)) < 700


def test_a_key_is_not_handed_to_the_library_that_would_write_it_into_a_file() -> None:
    with pytest.raises(ConfigurationError, match="name that as client-key"):
        login(Choice(Access("https://h", "context 'a'", auth_provider="oidc", key_data=b"k", certificate_data=b"c")))


def test_a_token_file_is_read_at_once_when_its_token_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one")
    found = login(Choice(Access("https://h", token_path=str(path))))
    path.write_text("two")
    assert bearer(found) == "Bearer one"
    assert found.renew(time.monotonic()) and bearer(found) == "Bearer two"
    assert not found.renew(time.monotonic())


@pytest.mark.parametrize("access", [Access("https://h"), Access("https://h", token="t"), Access("https://h", username="u", password="p")])
def test_what_cannot_change_is_no_other_login(access: Access) -> None:
    found = login(Choice(access))
    found.headers()
    assert not found.renew(time.monotonic())
