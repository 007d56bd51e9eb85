# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which API server is meant, how it is reached and as whom: options, variables, kubeconfig files, the pod's service account."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .. import kubeconfig as kubeconfigs
from .. import proxy_choice
from ..kubeconfig import Access, Document
from ..problems import Problem, Rejected
from ..proxy_choice import Proxy
from ..regular_file import contents
from .errors import ConfigurationError

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_ENVIRONMENT = {
    # option -> its environment variables, as kubernetes.core names them
    "kubeconfig": ("K8S_AUTH_KUBECONFIG",),
    "context": ("K8S_AUTH_CONTEXT",),
    "host": ("K8S_AUTH_HOST",),
    "api_key": ("K8S_AUTH_API_KEY",),
    "username": ("K8S_AUTH_USERNAME",),
    "password": ("K8S_AUTH_PASSWORD",),
    "validate_certs": ("K8S_AUTH_VALIDATE_CERTS", "K8S_AUTH_VERIFY_SSL"),
    "ca_cert": ("K8S_AUTH_CA_CERT", "K8S_AUTH_SSL_CA_CERT"),
    "client_cert": ("K8S_AUTH_CLIENT_CERT", "K8S_AUTH_CERT_FILE"),
    "client_key": ("K8S_AUTH_CLIENT_KEY", "K8S_AUTH_KEY_FILE"),
    "proxy": ("K8S_AUTH_PROXY",),
    "no_proxy": ("K8S_AUTH_NO_PROXY",),
    "persist_config": ("K8S_AUTH_PERSIST_CONFIG",),
    "impersonate_user": ("K8S_AUTH_IMPERSONATE_USER",),
    "impersonate_groups": ("K8S_AUTH_IMPERSONATE_GROUPS",),
}
_LOGINS = ("api_key", "username", "client_cert")
_FILES = ("ca_cert", "client_cert", "client_key")
_SERVER_AND_LOGIN = ("host", "api_key", "username", "password", "client_cert", "client_key", "ca_cert", "validate_certs")
_PROXY_HEADERS = ("proxy_basic_auth", "basic_auth", "user_agent")
_BOOLEANS = ("validate_certs", "persist_config")
_NO_LOGIN = replace(Access(""), server="")


@dataclass(frozen=True)
class Choice:
    """What the options come to."""

    access: Access
    proxy: Proxy | None = None
    proxy_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    kubeconfig: Any = field(default=None, repr=False)
    """The paths (joined as KUBECONFIG is) or the dictionary that were read."""
    persist: bool = False
    notes: tuple[str, ...] = ()
    """What was chosen where nothing said it."""
    doubts: tuple[Problem, ...] = ()


def choose(options: Mapping[str, Any], environment: Mapping[str, str]) -> Choice:
    """Explicit options beat `K8S_AUTH_*`, which beat `KUBECONFIG`; without any of them: the pod's own service account, then ~/.kube/config."""
    chosen = _authentication(options, environment)
    if chosen.get("host"):
        _check_server(chosen["host"], "host")
    access, kubeconfig, notes = _base(chosen, environment)
    access = _overridden(access, chosen)
    for option in _FILES:
        given = (chosen.get(option) or "").strip()
        if "-----BEGIN" in given or "\n" in given:  # it may be a key, so it is not repeated
            raise ConfigurationError(f"{option}: expected a path, found content; write it to a file and name that, or use a kubeconfig")
    for option in _FILES:
        if chosen.get(option) and not _is_readable(chosen[option]):
            raise ConfigurationError(f"{option}: cannot read {chosen[option]}; name a readable file in PEM format")
    _check_server(access.server, "kubeconfig")
    access = replace(access, server=_in_ascii(access.server).rstrip("/"))
    if access.impersonate_groups and not access.impersonate_user:
        raise ConfigurationError("impersonate_groups: there is no user to act as; give impersonate_user too")
    return Choice(
        access,
        _proxy(access, chosen, environment),
        chosen["proxy_headers"],
        kubeconfig,
        bool(chosen["persist_config"]),
        notes,
        tuple(_in_plaintext(access)),
    )


def _base(chosen: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[Access, Any, tuple[str, ...]]:
    """(access, kubeconfig, notes) before the options that override parts of it."""
    kubeconfig, context = chosen["kubeconfig"], chosen["context"]
    if not kubeconfig and not context:
        if _says_everything(chosen):
            return Access(chosen["host"], "host"), None, ()
        home = _home(environment)
        if pod := _service_account(environment):
            is_silent = _is_readable(str(home)) and not any(chosen.get(option) for option in ("host", *_LOGINS))
            note = f"the API server was reached as the pod's own service account; {home} is there too and was not used: name it as kubeconfig for that"
            return pod, None, (note,) if is_silent else ()
    if isinstance(kubeconfig, Mapping):
        return _read([Document(kubeconfig)], context, "the kubeconfig given as a dictionary"), kubeconfig, ()
    if kubeconfig and ("\n" in str(kubeconfig) or str(kubeconfig).lstrip().startswith("{")):
        raise ConfigurationError(  # the text may hold a login, so it is not repeated
            "kubeconfig: expected a path or a dictionary, found a kubeconfig's text; parse it with the filter from_yaml"
        )
    listed = (
        [str(Path(part).expanduser()) for part in str(kubeconfig).split(os.pathsep) if part] if kubeconfig else [str(_home(environment))]
    )
    paths = list(dict.fromkeys(str(Path.cwd() / path) for path in listed))
    place = os.pathsep.join(paths)
    if not any(_exists(path) for path in paths):
        if kubeconfig:
            raise ConfigurationError(f"kubeconfig: cannot read {place}; name an existing, readable file")
        place = "~/.kube/config (no kubeconfig, KUBECONFIG or host is set)"
        raise ConfigurationError(f"cannot load {place}: there is no such file; pass kubeconfig, or pass host and api_key")
    documents = [Document(_parsed(path), path) for path in paths if _exists(path)]
    return _read(documents, context, place), place, ()


def _read(documents: list[Document], context: str | None, place: str) -> Access:
    where = f"context {context!r} of {place}" if context else place
    try:
        return kubeconfigs.read(documents, context or "")
    except Rejected as error:
        problem = error.problems[0]
        about = "" if problem.where in ("the kubeconfig", place) else f"{problem.where}: "
        raise ConfigurationError(f"cannot load {where}: {about}{problem.message}; {problem.remedy}") from None
    except RecursionError:
        raise ConfigurationError(f"cannot load {where}: it is nested too deeply; check the file with `kubectl config view`") from None


@cache
def _loader() -> Any:
    """Builds plain values only, and texts of what only Python's YAML takes for times and (12:30:45) for numbers."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader: Any = type("Loader", (base,), {})
    loader.add_constructor("tag:yaml.org,2002:timestamp", lambda __, node: node.value)
    for kind in ("int", "float"):
        number = getattr(base, f"construct_yaml_{kind}")
        loader.add_constructor(
            f"tag:yaml.org,2002:{kind}", lambda made, node, number=number: node.value if ":" in node.value else number(made, node)
        )
    return loader


def _parsed(path: str) -> Any:
    import yaml

    try:
        return next(iter(yaml.load_all(contents(path), _loader())), None)  # of several documents kubectl reads the first
    except OSError as error:
        raise ConfigurationError(f"kubeconfig: cannot read {path} ({error.strerror}); name an existing, readable file") from None
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        if mark is None:
            raise ConfigurationError(
                f"cannot load {path}: expected a kubeconfig (YAML with clusters, users and contexts), found something else; "
                "check the file with `kubectl config view`"
            ) from None
        found = f"{getattr(error, 'problem', None) or 'something else'} in line {mark.line + 1}"
        raise ConfigurationError(
            f"cannot load {path}: expected a kubeconfig in YAML, found {found}; check the file with `kubectl config view`"
        ) from None


def _service_account(environment: Mapping[str, str]) -> Access | None:
    """What every pod has; None outside of pods."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
    token, ca = _SERVICE_ACCOUNT / "token", _SERVICE_ACCOUNT / "ca.crt"
    if not host or not port or not _is_readable(str(token)):
        return None
    server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    return Access(server, "the pod's service account", ca_path=str(ca) if _is_readable(str(ca)) else "", token_path=str(token))


def _overridden(access: Access, chosen: Mapping[str, Any]) -> Access:
    changes: dict[str, Any] = {}
    if chosen.get("host"):  # as for kubectl's --server: the name was that of the kubeconfig's server
        changes.update(server=chosen["host"], tls_server_name="")
    if any(chosen.get(option) for option in _LOGINS):  # replaces the kubeconfig's as a whole: the server would prefer a certificate
        login = ("token", "token_path", "username", "password", "certificate_data", "certificate_path", "key_data", "key_path")
        changes.update({name: getattr(_NO_LOGIN, name) for name in (*login, "plugin", "auth_provider")})
        changes.update(
            token=(chosen.get("api_key") or "").strip(),
            username=chosen.get("username") or "",
            password=chosen.get("password") or "",
            certificate_path=chosen.get("client_cert") or "",
        )
    elif not access.is_tls:  # as kubectl does: no login goes over a connection that everybody can read
        changes.update(token="", token_path="", username="", password="", plugin=None, auth_provider="")
    if chosen.get("client_key"):
        changes.update(key_path=chosen["client_key"], key_data=b"")
    if chosen.get("ca_cert"):
        changes.update(ca_path=chosen["ca_cert"], ca_data=b"", insecure=False)
    if chosen.get("validate_certs") is not None:
        changes["insecure"] = not chosen["validate_certs"]
    if chosen.get("proxy"):
        changes.update(proxy_url=chosen["proxy"], proxy_source="the option proxy")
    if chosen.get("impersonate_user"):
        changes["impersonate_user"] = chosen["impersonate_user"]
    if chosen.get("impersonate_groups"):
        changes["impersonate_groups"] = tuple(chosen["impersonate_groups"])
    return replace(access, **changes)


def _proxy(access: Access, chosen: Mapping[str, Any], environment: Mapping[str, str]) -> Proxy | None:
    """The option's, else the kubeconfig's, else that of the variables."""
    no_proxy = chosen.get("no_proxy")
    try:
        if chosen.get("proxy"):
            proxy = proxy_choice.parse(chosen["proxy"], "the option proxy", scheme_needed=True)
            return None if no_proxy and proxy_choice.is_exempt(access.server, no_proxy) else proxy
        if access.proxy_url:
            return proxy_choice.parse(access.proxy_url, access.proxy_source, scheme_needed=True)
        given = {**environment, **({"NO_PROXY": no_proxy} if no_proxy else {})}
        return proxy_choice.from_environment(access.server, given)
    except Rejected as error:
        problem = error.problems[0]
        where = "proxy" if problem.where == "the option proxy" else problem.where
        raise ConfigurationError(f"{where}: {problem.message}; {problem.remedy}") from None


def _in_plaintext(access: Access) -> Iterator[Problem]:
    """A kubeconfig's login is not sent in plaintext; one that was given as an option is what its user wants to be sent."""
    if not access.is_tls and (access.has_token or access.username or access.password) and not proxy_choice.is_loopback(access.server):
        message = f"the login is sent unencrypted to {access.server}, and whoever sees the connection can use it"
        yield Problem("login_in_plaintext", access.place, message, "write https:// in the server's URL", severity="warning")


def _in_ascii(server: str) -> str:
    """The URL with its host as it is looked up and asked for."""
    found = urlsplit(server)
    name, __, port = found.netloc.partition(":")
    if name.isascii():
        return server
    looked_up = proxy_choice.ascii_host(name)
    if not looked_up.isascii():
        raise ConfigurationError(
            f"the API server's URL: expected a host name, found {name!r}, which no international name may be; write the name as DNS has it (xn--...)"
        )
    return found._replace(netloc=f"{looked_up}:{port}" if port else looked_up).geturl()


def _authentication(options: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    ignored: tuple[str, ...] = ()
    if options.get("kubeconfig") or options.get("context"):
        ignored = _SERVER_AND_LOGIN
    elif _says_everything(options):
        ignored = ("kubeconfig", "context")
    for option, variables in _ENVIRONMENT.items():
        if option in ignored:
            variables = ()
        found = next((environment[variable] for variable in variables if environment.get(variable)), None)
        if options.get(option) is not None or found is None:
            chosen[option] = options.get(option)
        elif option in _BOOLEANS:
            chosen[option] = found.strip().lower() not in ("0", "false", "no", "off")
        elif option == "impersonate_groups":
            chosen[option] = [group.strip() for group in found.split(",") if group.strip()]
        else:
            chosen[option] = found
    proxy_headers = options.get("proxy_headers") or {
        name: environment[f"K8S_AUTH_PROXY_HEADERS_{name.upper()}"]
        for name in _PROXY_HEADERS
        if environment.get(f"K8S_AUTH_PROXY_HEADERS_{name.upper()}")
    }
    chosen["proxy_headers"] = {name: value for name, value in proxy_headers.items() if value is not None}
    if not chosen["kubeconfig"] and environment.get("KUBECONFIG") and not _says_everything(chosen):
        chosen["kubeconfig"] = environment["KUBECONFIG"]
    return chosen


def _says_everything(chosen: Mapping[str, Any]) -> bool:
    """Whether the options alone name a server and a login, as kubernetes.core decides it."""
    has_login = chosen.get("api_key") or chosen.get("username") or (chosen.get("client_cert") and chosen.get("client_key"))
    return bool(chosen.get("host") and has_login)


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("HOME") or Path.home(), ".kube", "config")


def _exists(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a null byte
        return False


def _is_readable(path: str) -> bool:
    try:
        return os.access(path, os.R_OK)
    except ValueError:  # a null byte
        return False


def _check_server(text: str, option: str) -> None:
    """Refuses what is no URL of an API server; one with a login in it is not repeated."""
    what = f"{option}: expected the API server's URL"
    if "@" in text:
        raise ConfigurationError(f"{what} without a login, found one in it; use username and password")
    try:
        found = urlsplit(text)
        is_url = found.scheme in ("http", "https") and bool(found.hostname) and (found.port or 1) > 0
    except ValueError:
        is_url = False
    if not is_url or re.search(r"[\x00-\x20\x7f]", text):
        raise ConfigurationError(f"{what} (https://name:port), found {text!r}; write the URL in that form")
