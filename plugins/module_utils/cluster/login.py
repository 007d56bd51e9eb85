# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The headers of a login: tokens, files that are read again, plugins that are asked again, and whom to act as."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..kubeconfig import Access, Plugin
from .access import Choice
from .errors import ConfigurationError

_TOKEN_KEPT = 1.0  # seconds until a file or the library is asked again
_PLUGIN_TIMEOUT = 60.0  # seconds
_LEGAL_IN_A_HEADERS_NAME = re.compile(r"[!#$&'*+.^_`|~0-9A-Za-z-]")

Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Login:
    headers: Callable[[], Headers]
    """Asked for with every request, since a token may be refreshed meanwhile."""
    certificate: tuple[bytes, bytes] | None = field(default=None, repr=False)
    """(certificate, key) in PEM that a plugin gave."""


def login(choice: Choice) -> Login:
    """Finds out the login, and asks for it once. ConfigurationError: there is none, or none that a header can carry."""
    access = choice.access
    certificate = None
    if access.has_token:
        authorization = _token(access)
    elif access.username or access.password:
        encoded = base64.b64encode(f"{access.username}:{access.password}".encode()).decode()
        authorization = _always(f"Basic {encoded}")
    elif access.plugin and not access.has_certificate:  # as for kubectl: a plugin is not asked beside another login
        asked = _Asked(access.plugin, access)
        authorization, certificate = asked.authorization, asked.first()
    elif access.auth_provider:
        authorization = _from_library(choice)
    else:
        authorization = _always("")
    impersonated = impersonation(access)

    def headers() -> Headers:
        value = authorization()
        return [*([("Authorization", value)] if value else []), *impersonated]

    for header, value in headers():
        if not value.isprintable() or not value.isascii():  # the value stays out of the message; http.client would quote it
            what = "the token or password" if header == "Authorization" else header
            raise ConfigurationError(f"{what} holds line ends or other characters that no HTTP header can carry; correct it")
    return Login(headers, certificate)


def impersonation(access: Access) -> Headers:
    """One header a value, as https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation wants them."""
    if not access.impersonate_user:
        return []
    uid = [("Impersonate-Uid", access.impersonate_uid)] if access.impersonate_uid else []
    groups = [("Impersonate-Group", group) for group in access.impersonate_groups]
    extra = [(f"Impersonate-Extra-{_escaped(key)}", value) for key, values in access.impersonate_extra for value in values]
    return [("Impersonate-User", access.impersonate_user), *uid, *groups, *extra]


def _escaped(key: str) -> str:
    return "".join(chr(byte) if _LEGAL_IN_A_HEADERS_NAME.fullmatch(chr(byte)) else f"%{byte:02X}" for byte in key.encode())


def _always(value: str) -> Callable[[], str]:
    return lambda: value


def _kept(ask: Callable[[], str]) -> Callable[[], str]:
    """Asks again when a second has passed."""
    kept, fresh_until = "", float("-inf")

    def value() -> str:
        nonlocal kept, fresh_until
        now = time.monotonic()
        if now >= fresh_until:
            kept, fresh_until = ask(), now + _TOKEN_KEPT
        return kept

    return value


def _token(access: Access) -> Callable[[], str]:
    """The file's token, which counts before the one beside it, as it is now; where it cannot be read (any more), the last one."""
    last = access.token
    if not access.token_path:
        return _always(f"Bearer {last}")

    def ask() -> str:
        nonlocal last
        with contextlib.suppress(OSError, ValueError):
            last = Path(access.token_path).read_text("ascii").strip() or last
        if not last:
            raise ConfigurationError(
                f"tokenFile of {access.place}: found no token in {access.token_path}; name a readable file that holds one"
            )
        return f"Bearer {last}"

    return _kept(ask)


class _Asked:
    """A plugin's login, asked for anew when it has expired."""

    def __init__(self, plugin: Plugin, access: Access) -> None:
        self.plugin = plugin
        self.access = access
        self.lock = threading.Lock()
        self.given: Mapping[str, Any] | None = None
        self.expires: datetime | None = None

    def authorization(self) -> str:
        with self.lock:
            if self.given is None or (self.expires and datetime.now(UTC) >= self.expires):
                self.given = _asked(self.plugin, self.access)
                self.expires = _moment(self.given.get("expirationTimestamp"))
            token = self.given.get("token")
        return f"Bearer {token}" if token else ""

    def first(self) -> tuple[bytes, bytes] | None:
        self.authorization()
        given = self.given or {}
        if not given.get("clientCertificateData"):
            return None
        return str(given["clientCertificateData"]).encode(), str(given["clientKeyData"]).encode()


def _moment(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _asked(plugin: Plugin, access: Access) -> Mapping[str, Any]:
    """The `status` that a plugin prints."""
    what = f"the login of {access.place} (exec: {plugin.command})"
    if plugin.interactive_mode == "Always":
        raise ConfigurationError(
            f"{what} wants to ask somebody at a terminal (interactiveMode: Always), which a task has not; use a plugin that does not ask, or api_key"
        )
    spec: dict[str, Any] = {"interactive": False}
    if plugin.cluster is not None:
        spec["cluster"] = dict(plugin.cluster)
        if access.ca_path and not access.ca_data:
            spec["cluster"]["certificate-authority-data"] = base64.b64encode(_content(access.ca_path)).decode()
    information = json.dumps({"kind": "ExecCredential", "apiVersion": plugin.api_version, "spec": spec})
    environment = {**os.environ, **dict(plugin.environment), "KUBERNETES_EXEC_INFO": information}
    try:
        done = subprocess.run(
            [plugin.command, *plugin.arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PLUGIN_TIMEOUT,
            check=False,
        )
    except FileNotFoundError:
        hint = f": {_line(plugin.install_hint)}" if plugin.install_hint else ""
        raise ConfigurationError(
            f"the kubeconfig's login failed: {what} cannot be asked, because there is no such program here; install it{hint}, "
            "and see whether `kubectl auth whoami` works with it"
        ) from None
    except subprocess.TimeoutExpired:
        raise ConfigurationError(f"{what} said nothing within {_PLUGIN_TIMEOUT:.0f} s; see whether it waits for an answer") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{what} cannot be run ({getattr(error, 'strerror', None) or 'bad arguments'}); correct it") from None
    if done.returncode:
        said = _line(done.stderr.decode("utf-8", "replace")) or "nothing"
        raise ConfigurationError(
            f"the kubeconfig's login failed: {what} ended with status {done.returncode} and said: {said}; see whether `kubectl auth whoami` works with it"
        )
    return _status(done.stdout, plugin, what)


def _status(printed: bytes, plugin: Plugin, what: str) -> Mapping[str, Any]:
    try:
        answer = json.loads(printed)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or answer.get("kind") != "ExecCredential":
        raise ConfigurationError(f"{what}: expected an ExecCredential in JSON, found something else; see what the program prints")
    if answer.get("apiVersion") != plugin.api_version:
        raise ConfigurationError(
            f"{what}: expected an answer of {plugin.api_version}, found {str(answer.get('apiVersion'))[:100]!r}; "
            "write that as apiVersion into the kubeconfig, or update the plugin"
        )
    status = answer.get("status")
    if not isinstance(status, dict) or not any(status.get(key) for key in ("token", "clientCertificateData", "clientKeyData")):
        raise ConfigurationError(f"{what} gave neither a token nor a certificate; log in with its own command first")
    if bool(status.get("clientCertificateData")) != bool(status.get("clientKeyData")):
        raise ConfigurationError(f"{what} gave only one of certificate and key; update the plugin")
    return status


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _from_library(choice: Choice) -> Callable[[], str]:
    """The login of an old auth-provider, which the `kubernetes` package refreshes."""
    from kubernetes import config
    from kubernetes.client.configuration import Configuration

    configuration = Configuration()
    complaints = _Complaints()
    logging.getLogger().addHandler(complaints)  # where the loader tells that a login failed, and goes on without a login
    options = {"context": choice.access.context, "client_configuration": configuration, "persist_config": choice.persist}
    try:
        if isinstance(choice.kubeconfig, Mapping):
            config.load_kube_config_from_dict(dict(choice.kubeconfig), **options)
        else:
            config.load_kube_config(config_file=choice.kubeconfig, **options)
    except Exception as error:  # the loader lets YAML, base64, OS and type errors through as they are
        complaints.said.append(_line(str(error)) or type(error).__name__)
    finally:
        logging.getLogger().removeHandler(complaints)
    if complaints.said:
        raise ConfigurationError(
            f"the kubeconfig's login failed: auth-provider {choice.access.auth_provider} of {choice.access.place}: "
            f"{_line(complaints.said[0])}; see whether `kubectl auth whoami` works with it"
        )
    return _kept(lambda: str(configuration.auth_settings().get("BearerToken", {}).get("value") or ""))


class _Complaints(logging.Handler):
    """What is logged as an error, kept instead of printed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())
