# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kubeconfig comes to. tests/integration/test_like_kubectl.py asks kubectl the same."""

from __future__ import annotations

import base64
from datetime import date
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.kubeconfig import Access, Document, read
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected

CANARY = "c4n4ry"
DATA = base64.b64encode(b"content").decode()


def config(name: str = "a", user: Any = None, current: str | None = None, **cluster: Any) -> dict[str, Any]:
    return {
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}", **cluster}}],
        "users": [{"name": name, "user": {"token": f"t-{name}"} if user is None else user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name if current is None else current,
    }


def access(*contents: Any, context: str = "") -> Access:
    return read([Document(content, f"/{number}/config") for number, content in enumerate(contents)], context)


@pytest.mark.parametrize(
    ("contents", "context", "server", "token"),
    [
        ([config("a"), config("b")], "", "https://a", "t-a"),
        ([config("a"), config("b")], "b", "https://b", "t-b"),
        ([config("a", current=""), config("b")], "", "https://b", "t-b"),
        ([config("a"), config("b", current="")], "", "https://a", "t-a"),
        ([None, config("b")], "", "https://b", "t-b"),
        ([{}, config("b")], "", "https://b", "t-b"),
        ([config("a"), None], "", "https://a", "t-a"),
        ([config("a"), {**config("a"), "users": [{"name": "a", "user": {"token": "later"}}]}], "", "https://a", "t-a"),
        ([{"current-context": "b"}, config("a"), config("b")], "", "https://b", "t-b"),
        ([{"users": [{"name": "a", "user": {"token": "first"}}]}, config("a")], "", "https://a", "first"),
        # all of an entry is the first's: what only the later one says does not count
        ([{"users": [{"name": "a", "user": {}}]}, config("a")], "", "https://a", ""),
        ([{"users": [{"name": "a"}], "clusters": None}, config("a")], "", "https://a", ""),
    ],
)
def test_several_files(contents: list[Any], context: str, server: str, token: str) -> None:
    found = access(*contents, context=context)
    assert (found.server, found.token) == (server, token)


def test_paths_are_relative_to_the_file_that_holds_them() -> None:
    user = {"client-certificate": "c.pem", "client-key": "../k.pem", "tokenFile": "/abs/token"}
    first = {"users": [{"name": "b", "user": user}]}
    found = access(first, config("b", **{"certificate-authority": "sub/ca.pem"}))
    assert (found.certificate_path, found.key_path, found.token_path, found.ca_path) == (
        "/0/c.pem",
        "/k.pem",
        "/abs/token",
        "/1/sub/ca.pem",
    )
    assert read([Document(config("a", {"tokenFile": "token"}))]).token_path == "token"


def test_everything_that_a_cluster_and_a_user_say() -> None:
    cluster = {
        "certificate-authority-data": DATA,
        "tls-server-name": "kubernetes",
        "proxy-url": "socks5://p",
        "disable-compression": True,
        "extensions": [{"name": "other", "extension": {}}],
    }
    user = {
        "client-certificate-data": DATA,
        "client-key-data": f"{DATA[:4]}\n{DATA[4:]}",
        "as": "jane",
        "as-uid": "7",
        "as-groups": ["g", "h"],
        "as-user-extra": {"scopes": ["view", "list"]},
    }
    found = access(config("a", user, **cluster))
    assert (found.ca_data, found.tls_server_name, found.proxy_url, found.insecure) == (b"content", "kubernetes", "socks5://p", False)
    assert (found.certificate_data, found.key_data) == (b"content", b"content")
    assert (found.impersonate_user, found.impersonate_uid, found.impersonate_groups) == ("jane", "7", ("g", "h"))
    assert found.impersonate_extra == (("scopes", ("view", "list")),)
    assert found.proxy_source == "proxy-url of cluster 'a' in /0/config" and found.place == "context 'a' of /0/config"


def test_a_plugin() -> None:
    told = {"extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}], "tls-server-name": "n"}
    given = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "./bin/login",
        "args": ["--cluster", "a"],
        "env": [{"name": "PROFILE", "value": "prod"}, {"name": "EMPTY"}],
        "interactiveMode": "Never",
        "provideClusterInfo": True,
        "installHint": "get it",
    }
    plugin = access(config("a", {"exec": given}, **told)).plugin
    assert plugin is not None
    assert (plugin.command, plugin.arguments) == ("/0/bin/login", ("--cluster", "a"))
    assert plugin.environment == (("PROFILE", "prod"), ("EMPTY", ""))
    assert (plugin.wants_cluster, plugin.cluster_config) == (True, {"audience": "x"})
    old = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "login", "env": None, "args": None}
    plugin = access(config("a", {"exec": old})).plugin
    assert plugin is not None and (plugin.command, plugin.interactive_mode, plugin.wants_cluster) == ("login", "IfAvailable", False)


@pytest.mark.parametrize(
    "user",
    [
        {},
        {"username": "u", "password": "p"},
        {"token": "t", "tokenFile": "f"},
        {"tokenFile": "f", "password": "p"},
        {"token": "t", "client-key": "k"},
        {"auth-provider": {"name": "oidc"}},
    ],
)
def test_users_that_are_fine(user: dict[str, Any]) -> None:
    access(config("a", user))


def test_a_user_that_is_missing_matters_where_a_login_would_be_used() -> None:
    plain = {**config("a", **{"server": "http://127.0.0.1:8001"}), "users": []}
    assert access(plain).token == ""
    nobody = {**config("a"), "users": [], "contexts": [{"name": "a", "context": {"cluster": "a"}}]}
    assert access(nobody).token == ""
    with pytest.raises(Rejected, match="its user 'a' is in no kubeconfig"):
        access({**config("a"), "users": []})


def test_dates_are_texts_where_texts_belong() -> None:
    given = {**config("2026-01-31"), "current-context": date(2026, 1, 31)}
    assert access(given).server == "https://2026-01-31"


def exec_(**changes: Any) -> dict[str, Any]:
    given = {"apiVersion": "client.authentication.k8s.io/v1", "command": "login", "interactiveMode": "Never", **changes}
    return config("a", {"exec": {key: value for key, value in given.items() if value is not None}})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (config("a", current=""), "it names no current-context (its contexts: 'a')"),
        (config("a", current="b"), "it has no context 'b' (its contexts: 'a')"),
        ({"current-context": "a"}, "it has no context 'a' (its contexts: none at all)"),
        ({**config("a"), "clusters": []}, "context 'a' of /0/config: its cluster 'a' is in no kubeconfig"),
        (config("a", server=""), "cluster 'a' in /0/config: it has no server"),
        (config("a", server=5), "expected text as server, found a number"),
        (config("a", {"token": 123456}), "user 'a' in /0/config: expected text as token, found a number"),
        (config("a", {"password": True, "username": "u"}), "expected text as password, found true or false"),
        ([1], "expected a kubeconfig"),
        ("text", "expected a kubeconfig"),
        ({"kind": "Secret"}, "expected a kubeconfig"),
        ({"apiVersion": "v2"}, "expected apiVersion v1, found 'v2'"),
        (config("a", {"password": CANARY}), "it has a password and no username, which is no login"),
        (config("a", {"client-key": "k"}), "it has a client-key and no client-certificate, which is no login"),
        (config("a", {"tokenFile": "t", "username": "u"}), "a token and a username or password"),
        ({"clusters": {"a": {}}}, "whose clusters are a list"),
        ({"users": ["a"]}, "whose users are a list"),
        ({"contexts": [{"name": "a", "context": "b"}]}, "expected a dictionary as context of 'a' in contexts"),
        ({"users": [{"name": "a"}, {"name": "a"}]}, "'a' stands twice in users"),
        (config("a", **{"certificate-authority": "x", "certificate-authority-data": DATA}), "both certificate-authority and"),
        (config("a", **{"certificate-authority-data": "?" + CANARY}), "certificate-authority-data is no base64"),
        (config("a", **{"certificate-authority": "x", "insecure-skip-tls-verify": True}), "which exclude each other"),
        (config("a", **{"insecure-skip-tls-verify": "true"}), "expected true or false as insecure-skip-tls-verify"),
        (config("a", {"client-certificate": "x", "client-certificate-data": DATA, "client-key": "k"}), "both client-certificate and"),
        (config("a", {"client-certificate": "x", "client-key": "k", "client-key-data": DATA}), "both client-key and"),
        (config("a", {"client-certificate": "x"}), "a client-certificate and no key"),
        (config("a", {"token": CANARY, "username": "u"}), "a token and a username or password"),
        (config("a", {"as-groups": ["g"]}), "as-groups or as-user-extra and no `as`"),
        (config("a", {"as": "j", "as-groups": "g"}), "expected a list of texts as as-groups"),
        (config("a", {"as": "j", "as-user-extra": ["g"]}), "a dictionary of lists as as-user-extra"),
        (config("a", {"auth-provider": {"name": "gcp"}}), "kubectl no longer has the auth-provider 'gcp'"),
        (config("a", {"auth-provider": {"name": "openstack"}}), "kubectl knows no auth-provider 'openstack'"),
        (exec_(command=None), "exec of user 'a' in /0/config: it has no command"),
        (exec_(apiVersion="client.authentication.k8s.io/v1alpha1"), "found 'client.authentication.k8s.io/v1alpha1'"),
        (exec_(interactiveMode=None), "as interactiveMode, found 'none'"),
        (exec_(env=[{"value": "x"}]), "name and value as env"),
        (exec_(args="x"), "a list of texts as args"),
    ],
)
def test_what_is_refused(content: Any, says: str) -> None:
    with pytest.raises(Rejected) as caught:
        access(content)
    assert says in str(caught.value) and CANARY not in str(caught.value) and "123456" not in str(caught.value)


def test_nothing_secret_is_in_a_repr() -> None:
    user = {
        "password": CANARY,
        "username": "u",
        "client-certificate-data": DATA,
        "client-key-data": base64.b64encode(CANARY.encode()).decode(),
    }
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "c", "args": [CANARY], "interactiveMode": "Never"}
    plugin["env"] = [{"name": "A", "value": CANARY}]  # type: ignore[assignment]
    found = [access(config("a", given, **{"proxy-url": f"http://u:{CANARY}@p"})) for given in (user, {"token": CANARY}, {"exec": plugin})]
    assert CANARY not in repr(found)
