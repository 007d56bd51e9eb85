# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments of the event source as values; everything that is wrong is told at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from ..arguments import AUTH_OPTIONS, duration
from ..problems import Problem, Rejected
from ..renewal.due import Policy, Span
from ..renewal.options import SPANS, policy_of, span
from .occasions import TYPES, Rules

T = TypeVar("T")

_SETTINGS: dict[str, Any] = {
    # as the role renewal has them, so that what is told is what the role then finds due
    "min_remaining": "33%",
    "spread": "5%",
    "emergency_remaining": "10%",
    "windows": [],
    "freezes": [],
    "renewal_credentials": [],
    "crl_remaining": "20%",
    "cluster": "",
    "inventory_hosts": [],
    "namespaces": ["istio-system"],
    "gateway_namespaces": [],
    "credentials": ["*"],
    "events": list(TYPES),
    "own_managers": [],
    "handshakes": True,
    "proxies": False,
    "addresses": [],
    "ports": {},
    "admin_urls": [],
    "request_timeout": 10,
    "proxy_interval": "15m",
    "settle": "20s",
    "remind_after": "",
    "state_file": "",
}
"""Every option beside those of the login, with its default."""
SPEC: dict[str, dict[str, Any]] = {**{name: {} for name in _SETTINGS}, **AUTH_OPTIONS}
"""Every option, as a module has them: which of them take a secret."""
_SHORTEST = timedelta(seconds=1)
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True)
class Settings:
    login: Mapping[str, Any]
    """As `connect` takes it."""
    cluster: str
    """How events name it; empty: as its API server is reached."""
    inventory_hosts: tuple[str, ...]
    namespaces: tuple[str, ...]
    gateway_namespaces: tuple[str, ...]
    """Empty: all."""
    credentials: tuple[str, ...]
    events: frozenset[str]
    rules: Rules
    handshakes: bool
    proxies: bool
    ways: Mapping[str, Any]
    """addresses, ports, admin_urls and request_timeout, as `surroundings_of` takes them."""
    proxy_interval: timedelta
    settle: timedelta
    remind_after: timedelta | None
    state_file: str


def settings_of(given: Mapping[str, Any]) -> Settings:
    """Raises Rejected."""
    problems: list[Problem] = []

    def attempt(make: Callable[[], T], otherwise: T) -> T:
        try:
            return make()
        except Rejected as rejected:
            problems.extend(rejected.problems)
            return otherwise

    problems += _unknown(given)
    options = {**_SETTINGS, **{name: value for name, value in given.items() if value not in (None, "") and name in _SETTINGS}}

    def texts(name: str) -> tuple[str, ...]:
        return attempt(lambda: _texts(options[name], name), ())

    def period(name: str) -> timedelta:
        found = attempt(lambda: duration(str(options[name]), where=name), _SHORTEST)
        if found < _SHORTEST:
            problems.append(Problem("invalid_duration", name, f"expected at least 1s, found {options[name]!r}", "give a longer time"))
        return found

    wanted = texts("events")
    for name in wanted:
        if name not in TYPES:
            problems.append(Problem("unknown_event", "events", f"expected types of events, found {name!r}", f"take of {', '.join(TYPES)}"))
    settings = Settings(
        login=attempt(lambda: _login(given), {}),
        cluster=str(options["cluster"]),
        inventory_hosts=texts("inventory_hosts"),
        namespaces=texts("namespaces"),
        gateway_namespaces=texts("gateway_namespaces"),
        credentials=texts("credentials"),
        events=frozenset(wanted),
        rules=attempt(lambda: _rules(options, texts("own_managers")), Rules()),
        handshakes=attempt(lambda: _boolean(options["handshakes"], "handshakes"), False),
        proxies=attempt(lambda: _boolean(options["proxies"], "proxies"), False),
        ways=attempt(lambda: _ways(options), {}),
        proxy_interval=period("proxy_interval"),
        settle=period("settle"),
        remind_after=period("remind_after") if options["remind_after"] else None,
        state_file=str(options["state_file"]),
    )
    if problems:
        raise Rejected(problems)
    return settings


def _unknown(given: Mapping[str, Any]) -> list[Problem]:
    known = {*_SETTINGS, *AUTH_OPTIONS, *(alias for option in AUTH_OPTIONS.values() for alias in option.get("aliases", ()))}
    message, remedy = "expected an option of this event source", "see its DOCUMENTATION for those there are"
    return [Problem("unknown_option", name, message, remedy) for name in sorted(given.keys() - known)]


def _login(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the login by their first names."""
    found: dict[str, Any] = {}
    for name, option in AUTH_OPTIONS.items():
        value = next((given[each] for each in (name, *option.get("aliases", ())) if given.get(each) not in (None, "")), None)
        found[name] = value if value is None else _of_type(value, option["type"], name)
    if isinstance(found["impersonate_groups"], str):
        found["impersonate_groups"] = _texts(found["impersonate_groups"], "impersonate_groups")
    return found


def _of_type(value: Any, kind: str, where: str) -> Any:
    """What is not repeated may be a token or a password."""
    if kind == "bool":
        return _boolean(value, where)
    if kind == "dict" and not isinstance(value, Mapping):
        raise Rejected(Problem("invalid_request", where, "expected a dictionary, found something else", "write it as one"))
    if kind not in ("str", "path"):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Rejected(Problem("invalid_request", where, "expected a text, found something else", "write it in quotes"))
    return str(value)


def _rules(options: Mapping[str, Any], own_managers: tuple[str, ...]) -> Rules:
    own: dict[str, Policy] = {}
    listed = options["renewal_credentials"]
    if not isinstance(listed, list) or not all(isinstance(one, Mapping) and one.get("name") for one in listed):
        message = "expected a list of credentials, each with a name, as the role renewal takes it"
        raise Rejected(Problem("invalid_request", "renewal_credentials", message, "give the variable of the role, or leave it out"))
    for number, one in enumerate(listed):
        mine = {name: one[name] for name in (*SPANS, "windows", "freezes") if name in one}
        own[f"{one.get('namespace') or 'istio-system'}/{one['name']}"] = policy_of({**options, **mine}, f"renewal_credentials[{number}].")
    crl: Span = span(str(options["crl_remaining"]), "crl_remaining")
    return Rules(policy_of(options, ""), own, crl, ("meshops.istio", *own_managers))


def _ways(options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        timeout = float(options["request_timeout"])
    except (TypeError, ValueError):
        timeout = 0.0
    ports = options["ports"] or {}
    if not 0 < timeout < 1e6 or not isinstance(ports, Mapping):
        where, wanted = ("ports", "a dictionary") if 0 < timeout < 1e6 else ("request_timeout", "more than 0 seconds")
        raise Rejected(Problem("invalid_request", where, f"expected {wanted}, found {options[where]!r}", "correct it"))
    lists = {name: list(_texts(options[name], name)) for name in ("addresses", "admin_urls")}
    return {**lists, "ports": ports, "request_timeout": timeout}


def _texts(value: Any, where: str) -> tuple[str, ...]:
    """A list, or texts with commas between them, as a variable of a rulebook may be."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if not isinstance(value, list | tuple) or not all(isinstance(one, str | int | float) for one in value):
        raise Rejected(Problem("invalid_request", where, "expected a list of texts, found something else", "write it as a list"))
    return tuple(str(one) for one in value)


def _boolean(value: Any, where: str) -> bool:
    text = str(value).strip().lower()
    if text not in (*_TRUE, *_FALSE):
        raise Rejected(Problem("invalid_request", where, f"expected true or false, found {value!r}", "write one of them"))
    return text in _TRUE
