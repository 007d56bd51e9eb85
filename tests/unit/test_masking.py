# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the arguments is left out of the result, what is blanked out of every sentence, and what neither touches."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.arguments import AUTH_OPTIONS
from ansible_collections.meshops.istio.plugins.module_utils.masking import (
    MASK,
    beginnings,
    inert,
    keys_in_metadata,
    printable,
    secrets_in,
    told,
)

KEY = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ\n" * 4 + "-----END PRIVATE KEY-----\n"
BASE64 = base64.b64encode(KEY.encode()).decode()
SPEC: dict[str, Any] = {
    **AUTH_OPTIONS,
    "name": {"type": "str", "aliases": ["called"]},
    "annotations": {"type": "dict"},
    "secret_headers": {"type": "dict", "no_log": True},
    "certificate": {"type": "str"},
    "items": {
        "type": "list",
        "elements": "dict",
        "options": {"name": {"type": "str"}, "key": {"type": "str", "no_log": True}, "annotations": {"type": "dict"}},
    },
}


def user(**login: Any) -> dict[str, Any]:
    return {"kubeconfig": {"users": [{"name": "u", "user": login}]}}


def plugin(*arguments: str, **environment: str) -> dict[str, Any]:
    variables = [{"name": name, "value": value} for name, value in environment.items()]
    return user(exec={"command": "aws", "args": list(arguments), "env": variables})


SECRET: dict[str, tuple[dict[str, Any], str]] = {
    # what is given -> the secret in it
    "proxy": ({"proxy": "http://u:c4n4ry@127.0.0.1:9"}, "c4n4ry"),
    "proxy, a slash in the password": ({"proxy": "http://u:c4n/4ry@127.0.0.1:9"}, "c4n/4ry"),
    "proxy, an @ in the password": ({"proxy": "http://u:c4n@4ry@127.0.0.1:9"}, "c4n@4ry"),
    "proxy, quoted": ({"proxy": "http://u:c4n%404ry@127.0.0.1:9"}, "c4n@4ry"),
    "proxy without a scheme": ({"proxy": "u:c4n4ry@127.0.0.1:9"}, "c4n4ry"),
    "host": ({"host": "https://u:c4n4ry@127.0.0.1:9"}, "c4n4ry"),
    "any URL": ({"name": "https://u:c4n4ry@127.0.0.1:9/x"}, "c4n4ry"),
    "a token as user": ({"name": "https://c4n4ry@127.0.0.1:9/x"}, "c4n4ry"),
    "kubeconfig, proxy-url": ({"kubeconfig": {"clusters": [{"cluster": {"proxy-url": "http://u:c4n4ry@h:1"}}]}}, "c4n4ry"),
    "kubeconfig, server": ({"kubeconfig": {"clusters": [{"cluster": {"server": "https://u:c4n4ry@h:1"}}]}}, "c4n4ry"),
    "kubeconfig, a number": (user(password=47114711), "47114711"),
    "kubeconfig, exec.args": (plugin("--token", "c4n4ry"), "c4n4ry"),
    "kubeconfig, exec.args with =": (plugin("--client-secret=c4n4ry"), "c4n4ry"),
    "kubeconfig, exec.env": (plugin(SOMETHING="c4n4ry"), "c4n4ry"),
    "kubeconfig, key": (user(**{"client-key-data": BASE64}), BASE64),
    "kubeconfig as text": ({"kubeconfig": '{"users": "c4n4ry"}'}, '{"users": "c4n4ry"}'),
    "unknown option": ({"passphrase": "c4n4ry"}, "c4n4ry"),
    "unknown option, a number": ({"passphrase": 47114711}, "47114711"),
    "unknown option, nested": ({"token": {"a": [{"b": "c4n4ry"}]}}, "c4n4ry"),
    "unknown option of an item": ({"items": [{"passphrase": "c4n4ry"}]}, "c4n4ry"),
    "unknown option of a list in a list": ({"items": [[{"passphrase": "c4n4ry"}]]}, "c4n4ry"),
    "key of a list in a list": ({"items": [[{"key": "c4n4ry"}]]}, "c4n4ry"),
    "key of an item that is text": ({"items": ["name=a key=c4n4ry"]}, "c4n4ry"),
    "key of an item that is JSON": ({"items": ['{"name": "a", "key": "c4n4ry"}']}, "c4n4ry"),
    "proxy_headers, unknown": ({"proxy_headers": {"proxy_auth": "c4n4ry"}}, "c4n4ry"),
    "proxy_headers as text": ({"proxy_headers": "proxy_auth=c4n4ry"}, "c4n4ry"),
    "secret_headers as text": ({"secret_headers": "Authorization=Bearer c4n4ry-c4n4ry"}, "c4n4ry-c4n4ry"),
    "secret_headers, a word": ({"secret_headers": {"Authorization": "Bearer c4n4ry-c4n4ry"}}, "c4n4ry-c4n4ry"),
    "secret_headers, a name": ({"secret_headers": {"Bearer c4n4ry": "y"}}, "Bearer c4n4ry"),
    "key of an item that is text, after a list": ({"items": ["name=a,b, key=c4n4ry"]}, "c4n4ry"),
    "proxy, an @ before the scheme": ({"proxy": "u:c4n4ry@h://x"}, "c4n4ry"),
    "kubeconfig, a key in the place of a path": (plugin(GOOGLE_ACCOUNT=KEY), KEY.splitlines()[1]),
    "key where a certificate belongs": ({"certificate": BASE64}, BASE64),
    "body of a key": ({"certificate": KEY.partition("\n")[2].rpartition("-----END")[0]}, KEY.splitlines()[1]),
    "key as annotation": ({"annotations": {"a": BASE64}}, BASE64),
    "key as annotation of an item": ({"items": [{"annotations": {"a": BASE64}}]}, BASE64),
}


@pytest.mark.parametrize("place", SECRET)
def test_a_secret_is_neither_told_nor_left_in_a_sentence(place: str) -> None:
    given, secret = SECRET[place]
    assert secret not in str(told(given, SPEC))
    assert any(found in f"{secret}@" for found in secrets_in(given, SPEC)), (
        "or a sentence with it would keep it; a URL's user with its @ alone"
    )


PLAIN: dict[str, dict[str, Any]] = {
    "names and paths": {"name": "shop", "ca_cert": "/etc/ca.crt", "client_key": "/etc/k", "kubeconfig": "/home/me/.kube/config"},
    "alias": {"called": "shop-with-a-long-name"},
    "host": {"host": "https://api.example.com:6443", "proxy": "http://proxy.example.com:3128"},
    "kubeconfig": {"kubeconfig": {"current-context": "production", "clusters": [{"cluster": {"server": "https://h:1"}}]}},
    "numbers": {"items": [{"name": 7}], "persist_config": True},
    "annotation": {"annotations": {"contact": "tls-team@example.com", "site": "https://example.com/@tls"}},
}


@pytest.mark.parametrize("kind", PLAIN)
def test_what_is_no_secret_stays(kind: str) -> None:
    assert told(PLAIN[kind], SPEC) == PLAIN[kind] and secrets_in(PLAIN[kind], SPEC) == set()


UNTOUCHED: dict[str, dict[str, Any]] = {
    # left out of the arguments, but too short or too common to be blanked out of every sentence
    "short": {"passphrase": "true", "number": 443, "flag": False},
    "common": {"profile": "default", "where": "istio-system", "secret_headers": {"Authorization": "Bearer"}},
    "an option's name": {"kind": "annotations"},
    "a region of an exec plugin": plugin("eks", "get-token", "--region", "eu-central-1", AWS_PROFILE="production"),
}


@pytest.mark.parametrize("kind", UNTOUCHED)
def test_sentences_stay_readable(kind: str) -> None:
    assert secrets_in(UNTOUCHED[kind], SPEC) == set()


LONG = ("a", "a=", "://", "://u@", "@", " ", ",", "MI ", "-----BEGIN PRIVATE KEY-----", "A" * 47 + "!", "{", "\x1b")


@pytest.mark.parametrize("piece", LONG)
def test_a_long_text_takes_time_that_grows_with_its_length_only(piece: str) -> None:
    """With a pattern that begins anew at every character, these are quarters of an hour."""
    text = piece * (2**17 // len(piece))
    for given in (
        {"items": text},
        {"items": [text]},
        {"proxy": text},
        {"certificate": text},
        {"secret_headers": text},
        {"kubeconfig": text},
    ):
        assert len(str(told(given, SPEC))) < 2**22
        secrets_in(given, SPEC)
    assert len(printable(text)) >= len(str(inert(text)))


def test_what_is_left_out_says_so() -> None:
    given = {
        "unknown": "x",
        "items": [{"name": "a", "key": "k", "other": 1}, "name=b"],
        "secret_headers": {"A": "b"},
        "host": "https://u:p@h",
        "annotations": "Authorization=c4n4ry",
    }
    assert told(given, SPEC) == {
        "unknown": MASK,
        "items": [{"name": "a", "key": MASK, "other": MASK}, MASK],
        "secret_headers": MASK,
        "host": "https://********@h",
        "annotations": MASK,
    }


@pytest.mark.parametrize(
    "sentence", [f"found {BASE64[:60]}...", f"found {KEY!r}", f"found {KEY[:90]!r}", f"found {KEY.splitlines()[1][:30]}"]
)
def test_a_key_that_a_sentence_cuts_short_or_quotes_is_blanked_out(sentence: str) -> None:
    shown = beginnings(secrets_in({"certificate": BASE64, "name": KEY}, SPEC)).sub("********", sentence)
    assert shown.startswith("found ") and BASE64[:32] not in shown and "MIIEvQIBADAN" not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b]0;OWNED\x07b", "a\\x1b]0;OWNED\\x07b"),
        ("\u202etxt.exe\u2066\u2028\x9b31m\r", "\\u202etxt.exe\\u2066\\u2028\\x9b31m\\r"),
        ("two\nlines, Zürich, 東京", "two\nlines, Zürich, 東京"),
    ],
)
def test_what_a_terminal_acts_upon_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_data_stays_what_it_is_but_for_what_a_terminal_acts_upon() -> None:
    text = "two\r\n\tlines, Zürich, 東京, \U0001f469\u200d\U0001f4bb, \u05d0\u200f\u00a0"
    data = {"a": [text, 1, None, True, (text,)], text: {"b": "\x1b[31m\x07\x00\x7f\x9b31m\u202e\u2066"}}
    assert inert(data) == {"a": [text, 1, None, True, [text]], text: {"b": "\\x1b[31m\\x07\\x00\\x7f\\x9b31m\\u202e\\u2066"}}


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"annotations": {"a": BASE64}}, "annotations.a"),
        ({"labels": {"a": KEY}}, "labels.a"),
        ({"items": [{}, {"annotations": {BASE64: "x"}}]}, "items[1].annotations"),
    ],
)
def test_a_key_as_label_or_annotation_is_refused(given: dict[str, Any], where: str) -> None:
    [problem] = keys_in_metadata(given)
    assert (problem.code, problem.where) == ("key_in_metadata", where) and BASE64[:20] not in str(problem)


def test_other_labels_and_annotations_are_not() -> None:
    assert not list(keys_in_metadata({"annotations": {"a": "b", "c": None, "d": 1}, "labels": None, "certificate": BASE64, "items": ["x"]}))
