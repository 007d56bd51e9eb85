# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The headers of a login: tokens, files that are read again, plugins that are asked again, and whom to act as."""

from __future__ import annotations

import base64
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
from typing import Any

from ..kubeconfig import Access, Plugin
from ..masking import blanked, logins_in
from ..regular_file import contents
from .access import Choice
from .errors import ConfigurationError

_TOKEN_KEPT = 1.0  # seconds until a file or the library is asked again
_PLUGIN_TIMEOUT = 60.0  # seconds
_LEGAL_IN_A_HEADERS_NAME = re.compile(r"[!#$&'*+.^_`|~0-9A-Za-z-]")

Headers = list[tuple[str, str]]


Pair = tuple[bytes, bytes]
"""(certificate, key) in PEM."""


@dataclass(frozen=True)
class Login:
    headers: Callable[[], Headers]
    """Asked for with every request, since a token may be refreshed meanwhile."""
    certificate: Callable[[], Pair | None]
    """What a plugin gave last."""
    renew: Callable[[float], bool]
    """Whether there is another login than the one that a request carried at that (monotonic) time, which the server did not accept."""


def login(choice: Choice) -> Login:
    """Finds out the login, and asks for it once. ConfigurationError: there is none, or none that a header can carry."""
    access = choice.access
    if access.has_token:
        source = _token(access)
    elif access.username:
        encoded = base64.b64encode(f"{access.username}:{access.password}".encode()).decode()
        source = _always(f"Basic {encoded}")
    elif access.plugin and not access.has_certificate:  # as for kubectl: a plugin is not asked beside another login
        source = _Source(_from_plugin(access.plugin, access))
    elif access.auth_provider:
        source = _Source(_from_library(choice))
    else:
        source = _always("")
    impersonated = impersonation(access)

    def headers() -> Headers:
        value = source.current().authorization
        return [*([("Authorization", value)] if value else []), *impersonated]

    for header, value in headers():
        if not value.isprintable() or not value.isascii():  # the value stays out of the message; http.client would quote it
            what = "the token or password" if header == "Authorization" else header
            raise ConfigurationError(f"{what} holds line ends or other characters that no HTTP header can carry; remove them")
        if value.startswith("Bearer Bearer "):
            raise ConfigurationError("the token begins with the word Bearer, which is the header's; give what stands behind it")
    return Login(headers, lambda: source.last().certificate, source.renew)


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


@dataclass(frozen=True)
class _Given:
    """A login, and until when it is good (monotonic)."""

    authorization: str = field(default="", repr=False)
    certificate: Pair | None = field(default=None, repr=False)
    until: float = float("inf")


class _Source:
    """Where a login comes from: asked again when what it gave is no longer good, and when the server does not accept it."""

    def __init__(self, ask: Callable[[], _Given]) -> None:
        self.ask = ask
        self.lock = threading.Lock()
        self.given: _Given | None = None
        self.asked_at = self.changed_at = float("-inf")

    def current(self) -> _Given:
        with self.lock:
            if self.given is None or time.monotonic() >= self.given.until:
                self._ask()
            return self.given or _Given()

    def last(self) -> _Given:
        return self.given or self.current()

    def renew(self, sent_at: float) -> bool:
        with self.lock:
            if self.asked_at <= sent_at:  # else another request has asked meanwhile
                self._ask()
            return self.changed_at > sent_at

    def _ask(self) -> None:
        given = self.ask()
        before, self.given, self.asked_at = self.given, given, time.monotonic()
        if before is None or (before.authorization, before.certificate) != (given.authorization, given.certificate):
            self.changed_at = self.asked_at


def _always(value: str) -> _Source:
    return _Source(lambda: _Given(value))


def _token(access: Access) -> _Source:
    """The file's token, which counts before the one beside it, as it is now; where it cannot be read (any more), the last one."""
    last = access.token
    if not access.token_path:
        return _always(f"Bearer {last}")

    def ask() -> _Given:
        nonlocal last
        reason = ""
        try:
            last = contents(access.token_path).decode("ascii").strip() or last
        except (OSError, ValueError) as error:
            reason = f" ({error.strerror if isinstance(error, OSError) else 'it is no text'})"
        if not last:
            raise ConfigurationError(
                f"tokenFile of {access.place}: found no token in {access.token_path}{reason}; name a readable file that holds one"
            )
        return _Given(f"Bearer {last}", until=time.monotonic() + _TOKEN_KEPT)

    return _Source(ask)


def _from_plugin(plugin: Plugin, access: Access) -> Callable[[], _Given]:
    def ask() -> _Given:
        status = _asked(plugin, access)
        expires = _moment(status.get("expirationTimestamp"))
        left = (expires - datetime.now(UTC)).total_seconds() if expires else float("inf")
        token, certificate = status.get("token"), status.get("clientCertificateData")
        return _Given(
            f"Bearer {token}" if token else "",
            (str(certificate).encode(), str(status["clientKeyData"]).encode()) if certificate else None,
            time.monotonic() + left,
        )

    return ask


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
    if plugin.wants_cluster:
        spec["cluster"] = _cluster(plugin, access)
    information = json.dumps({"kind": "ExecCredential", "apiVersion": plugin.api_version, "spec": spec})
    environment = {**os.environ, **dict(plugin.environment), "KUBERNETES_EXEC_INFO": information}
    try:
        # pylint: disable-next=ansible-bad-function  # run_command is AnsibleModule's, which is not known here
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
        raise ConfigurationError(
            f"{what} cannot be run ({getattr(error, 'strerror', None) or 'bad arguments'}); correct the user's exec in the kubeconfig"
        ) from None
    if done.returncode:
        said = _line(blanked(done.stderr.decode("utf-8", "replace"), _secrets_of(plugin))) or "nothing"
        raise ConfigurationError(
            f"the kubeconfig's login failed: {what} ended with status {done.returncode} and said: {said}; see whether `kubectl auth whoami` works with it"
        )
    return _status(done.stdout, plugin, what)


def _secrets_of(plugin: Plugin) -> set[str]:
    variables = [{"name": name, "value": value} for name, value in plugin.environment]
    return logins_in({"env": variables, "args": list(plugin.arguments)})


def _cluster(plugin: Plugin, access: Access) -> dict[str, Any]:
    """https://kubernetes.io/docs/reference/config-api/client-authentication.v1/#client-authentication-k8s-io-v1-Cluster"""
    authorities = b"" if access.insecure else access.ca_data or (_content(access.ca_path) if access.ca_path else b"")
    told = {
        "tls-server-name": access.tls_server_name,
        "insecure-skip-tls-verify": access.insecure,
        "certificate-authority-data": base64.b64encode(authorities).decode(),
        "proxy-url": access.proxy_url,
        "disable-compression": access.disable_compression,
    }
    return {"server": access.server, **{key: value for key, value in told.items() if value}, "config": plugin.cluster_config}


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
    for key in ("token", "clientCertificateData", "clientKeyData"):
        if not isinstance(status.get(key) or "", str):
            raise ConfigurationError(f"{what}: expected text as {key}, found something else; update the plugin")
    if bool(status.get("clientCertificateData")) != bool(status.get("clientKeyData")):
        raise ConfigurationError(f"{what} gave only one of certificate and key; update the plugin")
    return status


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


def _content(path: str) -> bytes:
    try:
        return contents(path)
    except OSError:
        return b""


def _from_library(choice: Choice) -> Callable[[], _Given]:
    """The login of an old auth-provider, which the `kubernetes` package refreshes."""
    if choice.access.key_data:  # the library would write it into a file that outlives a kill
        raise ConfigurationError(
            f"the login of {choice.access.place} has an auth-provider and client-key-data, which would be written into a temporary file; "
            "put the key into a file and name that as client-key"
        )
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
        complaints.said.append(str(error) or type(error).__name__)
    finally:
        logging.getLogger().removeHandler(complaints)
    if complaints.said:
        raise ConfigurationError(
            f"the kubeconfig's login failed: auth-provider {choice.access.auth_provider} of {choice.access.place}: "
            f"{_line(blanked(complaints.said[0], ()))}; see whether `kubectl auth whoami` works with it"
        )

    def ask() -> _Given:
        value = str(configuration.auth_settings().get("BearerToken", {}).get("value") or "")
        return _Given(value, until=time.monotonic() + _TOKEN_KEPT)

    return ask


class _Complaints(logging.Handler):
    """What is logged as an error, kept instead of printed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())
