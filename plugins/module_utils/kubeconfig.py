# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubeconfigs as kubectl reads them: documents in, and how to reach the chosen context's API server out.

The rules are client-go's (tools/clientcmd: loader.go, client_config.go, validation.go): of several files the first that has a cluster, user or
context of a name has all of it, and the first that names a current-context names it; paths are relative to the file that holds them; what
kubectl refuses is refused. A user that says nothing is one without a login.
"""

from __future__ import annotations

import base64
import binascii
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from .problems import Problem, Rejected

_REMEDY = "check the file with `kubectl config view`, or pass host and api_key"
_EXEC = "client.authentication.k8s.io"
_EXEC_VERSIONS = (f"{_EXEC}/v1", f"{_EXEC}/v1beta1")
_EXTENSION = f"{_EXEC}/exec"  # of a cluster: what plugins are told of it


@dataclass(frozen=True)
class Document:
    """One kubeconfig, parsed."""

    content: Any
    path: str = ""
    """Absolute; empty for one that was given as a dictionary, whose relative paths are those of the process."""


@dataclass(frozen=True)
class Plugin:
    """A program that is asked for a login (`exec`)."""

    command: str
    arguments: tuple[str, ...] = field(repr=False)
    environment: tuple[tuple[str, str], ...] = field(repr=False)
    api_version: str
    interactive_mode: str
    """`Never`, `IfAvailable` or `Always`."""
    install_hint: str = ""
    wants_cluster: bool = False
    """Whether it is told of the cluster, and then this too, of the cluster's extensions:"""
    cluster_config: Any = field(default=None, repr=False)


@dataclass(frozen=True)
class Access:
    """How to reach an API server, and as whom. Secrets stay out of its repr."""

    server: str
    place: str = ""
    """What said so, for messages: `context 'prod' of /home/me/.kube/config`."""
    ca_data: bytes = b""
    ca_path: str = ""
    insecure: bool = False
    tls_server_name: str = ""
    disable_compression: bool = False
    """Of no use here, where nothing is compressed; plugins are told of it."""
    proxy_url: str = field(default="", repr=False)
    proxy_source: str = ""
    token: str = field(default="", repr=False)
    token_path: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    certificate_data: bytes = b""
    certificate_path: str = ""
    key_data: bytes = field(default=b"", repr=False)
    key_path: str = ""
    impersonate_user: str = ""
    impersonate_uid: str = ""
    impersonate_groups: tuple[str, ...] = ()
    impersonate_extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
    plugin: Plugin | None = None
    auth_provider: str = ""
    """The name of one of the old built-in providers (`oidc`)."""
    context: str = ""

    @property
    def is_tls(self) -> bool:
        return is_tls(self.server)

    @property
    def has_token(self) -> bool:
        return bool(self.token or self.token_path)

    @property
    def has_login(self) -> bool:
        return bool(self.has_token or self.username or self.has_certificate or self.plugin or self.auth_provider)

    @property
    def has_certificate(self) -> bool:
        return bool(self.certificate_data or self.certificate_path)


def is_tls(server: str) -> bool:
    return server.lower().startswith("https://")


def read(documents: Sequence[Document], context: str = "") -> Access:
    """The access that a context (else the current one) describes. Rejected where kubectl would refuse it, or would ask nobody's cluster."""
    entries = [_entries(document) for document in documents]
    chosen = context or next((current for __, current in entries if current), "")
    merged: dict[str, dict[str, tuple[Mapping[str, Any], str]]] = {"clusters": {}, "users": {}, "contexts": {}}
    for kinds, __ in entries:
        for kind, named in kinds.items():
            for name, entry in named.items():
                merged[kind].setdefault(name, entry)
    known = ", ".join(map(repr, sorted(merged["contexts"]))) or "none at all"
    if not chosen:
        _reject(
            "the kubeconfig",
            f"it names no current-context (its contexts: {known})",
            "name one with context, or `kubectl config use-context`",
        )
    if chosen not in merged["contexts"]:
        _reject(
            "the kubeconfig", f"it has no context {chosen!r} (its contexts: {known})", "correct the context, or current-context in the file"
        )
    pair, origin = merged["contexts"][chosen]
    where = f"context {chosen!r}{f' of {origin}' if origin else ''}"
    cluster_name, user_name = _text(pair, "cluster", where), _text(pair, "user", where)
    if cluster_name not in merged["clusters"]:
        _reject(where, f"its cluster {cluster_name!r} is in no kubeconfig", "correct the context's cluster, or add the cluster")
    cluster, cluster_origin = merged["clusters"][cluster_name]
    about_cluster = f"cluster {cluster_name!r}{f' in {cluster_origin}' if cluster_origin else ''}"
    access = {"place": where, "context": chosen, **_cluster(cluster, cluster_origin, about_cluster)}
    user, user_origin = merged["users"].get(user_name, ({}, ""))
    if user_name and user_name not in merged["users"] and is_tls(access["server"]):
        _reject(where, f"its user {user_name!r} is in no kubeconfig, so there is no login", "correct the context's user, or add the user")
    about_user = f"user {user_name!r}{f' in {user_origin}' if user_origin else ''}"
    found = Access(**access, **_user(user, user_origin, about_user, cluster))
    if found.is_tls and not found.has_login and (found.password or found.key_data or found.key_path):
        half = "a password and no username" if found.password else "a client-key and no client-certificate"
        _reject(about_user, f"it has {half}, which is no login", "add what is missing")
    return found


def _entries(document: Document) -> tuple[dict[str, dict[str, tuple[Mapping[str, Any], str]]], str]:
    """({clusters, users, contexts: {name: (entry, path)}}, current-context) of one document."""
    where, content = document.path or "the kubeconfig", document.content
    if content is None:  # an empty file
        return {}, ""
    if not isinstance(content, Mapping) or content.get("kind") not in (None, "", "Config"):
        _reject(where, "expected a kubeconfig (YAML with clusters, users and contexts), found something else")
    if content.get("apiVersion") not in (None, "", "v1"):
        _reject(
            where, f"expected apiVersion v1, found {str(content['apiVersion'])[:100]!r}", "write apiVersion: v1, the only one that there is"
        )
    kinds: dict[str, dict[str, tuple[Mapping[str, Any], str]]] = {}
    for kind, member in (("clusters", "cluster"), ("users", "user"), ("contexts", "context")):
        named: dict[str, tuple[Mapping[str, Any], str]] = {}
        listed = content.get(kind) or []
        if not isinstance(listed, list) or not all(isinstance(entry, Mapping) for entry in listed):
            _reject(where, f"expected a kubeconfig, whose {kind} are a list of dictionaries with name and {member}, found something else")
        for entry in listed:
            name = _text(entry, "name", f"{kind} of {where}")
            held = entry.get(member)
            if held is not None and not isinstance(held, Mapping):
                _reject(where, f"expected a dictionary as {member} of {name!r} in {kind}, found something else")
            if name in named:
                _reject(where, f"{name!r} stands twice in {kind}", "remove or rename one of them; kubectl refuses such a file too")
            named[name] = (held or {}, document.path)
        kinds[kind] = named
    return kinds, _text(content, "current-context", where)


def _cluster(cluster: Mapping[str, Any], origin: str, where: str) -> dict[str, Any]:
    server = _text(cluster, "server", where)
    if not server:
        _reject(where, "it has no server", "add the API server's URL (https://name:port) as server")
    ca_data, ca_path = _data(cluster, "certificate-authority-data", where), _path(cluster, "certificate-authority", where, origin)
    _not_both(where, "certificate-authority", ca_data, ca_path)
    insecure = cluster.get("insecure-skip-tls-verify") or False
    if not isinstance(insecure, bool):
        _reject(where, "expected true or false as insecure-skip-tls-verify, found something else", "write it without quotes")
    if insecure and (ca_data or ca_path) and is_tls(server):
        _reject(where, "it has a certificate-authority and insecure-skip-tls-verify, which exclude each other", "remove one of them")
    return {
        "server": server,
        "ca_data": ca_data,
        "ca_path": ca_path,
        "insecure": insecure,
        "disable_compression": cluster.get("disable-compression") is True,
        "tls_server_name": _text(cluster, "tls-server-name", where),
        "proxy_url": _text(cluster, "proxy-url", where),
        "proxy_source": f"proxy-url of {where}",
    }


def _user(user: Mapping[str, Any], origin: str, where: str, cluster: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "token": _text(user, "token", where),
        "token_path": _path(user, "tokenFile", where, origin),
        "username": _text(user, "username", where),
        "password": _text(user, "password", where),
        "certificate_data": _data(user, "client-certificate-data", where),
        "certificate_path": _path(user, "client-certificate", where, origin),
        "key_data": _data(user, "client-key-data", where),
        "key_path": _path(user, "client-key", where, origin),
        "impersonate_user": _text(user, "as", where),
        "impersonate_uid": _text(user, "as-uid", where),
        "impersonate_groups": _texts(user, "as-groups", where),
        "impersonate_extra": _extra(user, where),
        "plugin": _plugin(user.get("exec"), where, origin, cluster),
    }
    provider = user.get("auth-provider")
    if provider is not None and not isinstance(provider, Mapping):
        _reject(where, "expected a dictionary as auth-provider, found something else")
    found["auth_provider"] = _text(provider or {}, "name", f"auth-provider of {where}")
    if found["certificate_data"] or found["certificate_path"]:
        _not_both(where, "client-certificate", found["certificate_data"], found["certificate_path"])
        _not_both(where, "client-key", found["key_data"], found["key_path"])
        if not found["key_data"] and not found["key_path"]:
            _reject(where, "it has a client-certificate and no key", "add client-key or client-key-data")
    if (found["token"] and found["password"]) or ((found["token"] or found["token_path"]) and found["username"]):
        _reject(where, "it has a token and a username or password, of which kubectl allows one", "remove one of them")
    if found["plugin"] and found["auth_provider"]:
        _reject(where, "it has exec and auth-provider, which exclude each other", "remove one of them")
    if found["auth_provider"] in ("gcp", "azure"):
        instead = {"gcp": "gke-gcloud-auth-plugin", "azure": "kubelogin"}[found["auth_provider"]]
        _reject(where, f"kubectl no longer has the auth-provider {found['auth_provider']!r}", f"use exec with {instead}, or a token")
    if found["auth_provider"] not in ("", "oidc"):
        _reject(where, f"kubectl knows no auth-provider {found['auth_provider']!r}", "use exec with the provider's plugin, or a token")
    if not found["impersonate_user"] and (found["impersonate_uid"] or found["impersonate_groups"] or found["impersonate_extra"]):
        _reject(where, "it has as-uid, as-groups or as-user-extra and no `as`", "add `as`, or remove them")
    return found


def _extra(user: Mapping[str, Any], where: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    given = user.get("as-user-extra") or {}
    if not isinstance(given, Mapping):
        _reject(where, "expected a dictionary of lists as as-user-extra, found something else")
    return tuple((str(key), _texts(given, key, f"as-user-extra of {where}")) for key in given)


def _plugin(given: Any, where: str, origin: str, cluster: Mapping[str, Any]) -> Plugin | None:
    if given is None:
        return None
    where = f"exec of {where}"
    if not isinstance(given, Mapping):
        _reject(where, "expected a dictionary, found something else")
    command, version = _text(given, "command", where), _text(given, "apiVersion", where)
    if not command:
        _reject(where, "it has no command", "name the program")
    if version not in _EXEC_VERSIONS:
        _reject(
            where,
            f"expected an apiVersion of {' or '.join(_EXEC_VERSIONS)}, found {version or 'none'!r}",
            "update the plugin, and let it write the kubeconfig again",
        )
    mode = _text(given, "interactiveMode", where) or ("IfAvailable" if version.endswith("/v1beta1") else "")
    if mode not in ("Never", "IfAvailable", "Always"):
        _reject(
            where, f"expected Never, IfAvailable or Always as interactiveMode, found {mode or 'none'!r}", "write interactiveMode: Never"
        )
    variables = given.get("env") or []
    if not isinstance(variables, list) or not all(isinstance(one, Mapping) and one.get("name") for one in variables):
        _reject(where, "expected a list of dictionaries with name and value as env, found something else")
    told = cluster.get("extensions") if isinstance(cluster.get("extensions"), list) else []
    about = next((one.get("extension") for one in told or [] if isinstance(one, Mapping) and one.get("name") == _EXTENSION), None)
    return Plugin(
        command=_resolved(command, origin) if "/" in command else command,  # a bare name is looked for in PATH
        arguments=_texts(given, "args", where),
        environment=tuple((_text(one, "name", where), _text(one, "value", where)) for one in variables),
        api_version=version,
        interactive_mode=mode,
        install_hint=_text(given, "installHint", where),
        wants_cluster=bool(given.get("provideClusterInfo")),
        cluster_config=about,
    )


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if value is None:
        return ""
    if hasattr(value, "isoformat"):  # YAML 1.1 reads 2026-01-31 as a date
        return str(value.isoformat())
    if not isinstance(value, str):  # it may be a password, so it is not repeated
        _reject(where, f"expected text as {key}, found {_kind(value)}", f"put the value of {key} in quotes")
    return value


def _texts(entry: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    given = entry.get(key) or []
    if not isinstance(given, list) or not all(isinstance(value, str) for value in given):
        _reject(where, f"expected a list of texts as {key}, found something else", "write a list, its values in quotes")
    return tuple(given)


def _data(entry: Mapping[str, Any], key: str, where: str) -> bytes:
    try:
        return base64.b64decode("".join(_text(entry, key, where).split()), validate=True)
    except (binascii.Error, ValueError):
        _reject(where, f"{key} is no base64", f"put the file's base64 there (base64 -w0), or name the file as {key.removesuffix('-data')}")


def _path(entry: Mapping[str, Any], key: str, where: str, origin: str) -> str:
    path = _text(entry, key, where)
    return _resolved(path, origin) if path else ""


def _resolved(path: str, origin: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), path)) if origin and not path.startswith("/") else path


def _not_both(where: str, key: str, data: bytes, path: str) -> None:
    if data and path:
        _reject(where, f"it has both {key} and {key}-data, which kubectl refuses", "remove one of them")


def _kind(value: Any) -> str:
    return "true or false" if isinstance(value, bool) else "a number" if isinstance(value, int | float) else "something else"


def _reject(where: str, message: str, remedy: str = _REMEDY) -> NoReturn:
    raise Rejected(Problem("invalid_kubeconfig", where, message, remedy))
