# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.doc_fragments.auth import ModuleDocFragment as AuthFragment
from ansible_collections.meshops.istio.plugins.doc_fragments.objects import ModuleDocFragment as ObjectsFragment
from ansible_collections.meshops.istio.plugins.module_utils.arguments import (
    AUTH_OPTIONS,
    OBJECT_OPTIONS,
    content_or_path,
    duration,
    system_roots,
)
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected
from ansible_collections.meshops.istio.plugins.module_utils.tls.pem import LARGEST
from yaml import safe_load


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("90m", timedelta(minutes=90)),
        ("45s", timedelta(seconds=45)),
        ("1w2d", timedelta(days=9)),
        ("1w2d3h4m5s", timedelta(days=9, hours=3, minutes=4, seconds=5)),
        ("+30d", timedelta(days=30)),
        ("+1d12h", timedelta(days=1, hours=12)),
        ("30", timedelta(days=30)),
        ("0", timedelta()),
        ("0d", timedelta()),
        (" 7d ", timedelta(days=7)),
    ],
)
def test_durations(text: str, expected: timedelta) -> None:
    assert duration(text, where="min_remaining") == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "d", "30x", "30 d", "-30d", "1.5d", "30D", "tomorrow", "1d foo", "d1", "²", "٣d", "9" * 20, "9" * 20 + "w", "9" * 5000],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        duration(text, where="credentials[1]: min_remaining")
    [problem] = caught.value.problems
    assert (problem.code, problem.where) == ("invalid_duration", "credentials[1]: min_remaining") and len(str(problem)) < 300


def given(**options: Any) -> tuple[bytes | None, str]:
    return content_or_path(options, "private_key", where="credentials[0] (x): ")


def test_content_or_path(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"\x00\xffkey")
    assert given(private_key="text é") == ("text é".encode(), "credentials[0] (x): private_key")
    assert given(private_key_path=str(path)) == (b"\x00\xffkey", f"credentials[0] (x): private_key_path {path}")
    assert given() == (None, "credentials[0] (x): private_key")
    assert given(private_key=None, private_key_path=None) == (None, "credentials[0] (x): private_key")
    assert given(private_key="")[0] == b"", "empty is given, and judged as such"
    assert given(private_key="\udcff\ud800")[0] == b"\\udcff\\ud800", "what is no text is judged too"


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ({"private_key": "a", "private_key_path": "b"}, "given_twice", "expected one of private_key and private_key_path, found both"),
        ({"private_key_path": "/no/such/key"}, "file_unreadable", "found: no such file"),
        ({"private_key_path": "/tmp"}, "file_unreadable", "found: a directory"),
        ({"private_key_path": "/etc/hostname/x"}, "file_unreadable", "found: Not a directory"),
        ({"private_key_path": "a\0b"}, "file_unreadable", "found: a null byte in its name"),
        ({"private_key_path": "/dev/zero"}, "file_unreadable", "found: a device"),
        ({"private_key_path": "/no/such/Rather-Long-Name-Of-A-Key-Of-The-Year-2026-And-More-Words.pem"}, "file_unreadable", "no such file"),
        ({"private_key_path": "x" * 5000}, "file_unreadable", "File name too long"),
    ],
)
def test_what_cannot_be_read(options: dict[str, str], code: str, says: str) -> None:
    with pytest.raises(Rejected) as caught:
        given(**options)
    [problem] = caught.value.problems
    assert problem.code == code and says in problem.message and problem.where.startswith("credentials[0] (x): ")
    assert len(problem.where) < 400


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Rejected, match="found: a pipe"):
        given(private_key_path=str(tmp_path / "pipe"))


def test_no_more_is_read_than_is_looked_at(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)  # sparse
    data, __ = given(private_key_path=str(tmp_path / "large"))
    assert data is not None and len(data) == LARGEST + 1


_PKCS8 = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgc4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ryShRANCAAR"


@pytest.mark.parametrize(
    "content",
    [
        base64.b64encode(b"-----BEGIN PRIVATE KEY-----\n" + _PKCS8.encode()).decode(),
        base64.b64encode(b"-----BEGIN CERTIFICATE-----\n" + _PKCS8.encode()).decode()[:80],
        _PKCS8,
        _PKCS8.replace("+", "/"),
        _PKCS8[30:],
        "x/" + _PKCS8[30:],
        "/".join(_PKCS8[at : at + 40] for at in range(0, len(_PKCS8), 40)),
        base64.b64encode(_PKCS8.encode()).decode()[:120] + ".",
    ],
)
def test_base64_where_a_path_belongs_is_not_repeated(content: str) -> None:
    with pytest.raises(Rejected) as caught:
        given(private_key_path=content)
    [problem] = caught.value.problems
    assert problem.code == "path_is_content"
    assert not any(content[at : at + 12] in str(problem) for at in range(len(content) - 12))


@pytest.mark.parametrize(
    "content", ["-----BEGIN PRIVATE KEY-----\nc4n4ry\n-----END PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----\\nc4n4ry", "c4n4ry\n"]
)
def test_content_where_a_path_belongs_is_not_repeated(content: str) -> None:
    with pytest.raises(Rejected) as caught:
        given(private_key_path=content)
    [problem] = caught.value.problems
    assert problem.code == "path_is_content" and problem.remedy == "give content as private_key"
    assert "c4n4ry" not in str(caught.value)


@pytest.mark.parametrize(("fragment", "options"), [(AuthFragment, AUTH_OPTIONS), (ObjectsFragment, OBJECT_OPTIONS)])
def test_the_documentation_is_that_of_the_options(fragment: Any, options: dict[str, dict[str, Any]]) -> None:
    documented = safe_load(fragment.DOCUMENTATION)["options"]
    kept = ("type", "elements", "aliases", "choices", "default")
    assert {name: {key: value for key, value in option.items() if key in kept} for name, option in documented.items()} == {
        name: {key: value for key, value in option.items() if key in kept} for name, option in options.items()
    }


def test_options_are_those_of_kubernetes_core() -> None:
    """Names, types and aliases, so that `module_defaults` and habits carry over."""
    core = pytest.importorskip("ansible_collections.kubernetes.core.plugins.module_utils.args_common").AUTH_ARG_SPEC
    for name, option in core.items():
        ours = AUTH_OPTIONS.get(name)
        assert ours is not None, name
        assert ours.get("type", "str") == option.get("type", "str"), name
        assert set(option.get("aliases", ())) <= set(ours.get("aliases", ())), name
    assert AUTH_OPTIONS.keys() == core.keys()


@pytest.mark.parametrize("name", ["api_key", "password"])
def test_logins_are_never_logged(name: str) -> None:
    assert AUTH_OPTIONS[name]["no_log"] is True


def test_system_roots_are_those_of_browsers_and_of_the_machine() -> None:
    public, system = system_roots()
    assert public.count(b"BEGIN CERTIFICATE") > 50
    assert system == b"" or b"BEGIN CERTIFICATE" in system
