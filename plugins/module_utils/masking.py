# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a module's arguments may be repeated, beyond Ansible's `no_log`.

Two answers, because they have to be of different width. `told` is the arguments as they may be shown: there anything can be left out. `secrets_in`
are the texts to blank out wherever they turn up, in messages too: only what is long and strange enough, or a word such as `default` would vanish
from every sentence. Both work before Ansible has judged the arguments, so nothing is sure to have its type.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from .problems import Problem
from .tls.secrets import holds_private_key

BLANK = "********"
"""In a sentence, in a secret's place."""
MASK = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"  # Ansible's own word for it

Spec = Mapping[str, Mapping[str, Any]]

_SHORTEST = 6  # characters of a text that is blanked out of sentences
_LINE = 16  # characters of a line of a key
_WORD = 8  # characters of a word of a header's value: `Bearer` is no secret
_COMMON = {"bearer", "cluster", "default", "istio-system", "kubernetes", "localhost", "password", "secret", "system", "username"}
_LOGIN_NAME = re.compile(r"(token|password|passphrase|secret|-data|value|args)$", re.IGNORECASE)
"""Names in a kubeconfig: `value` is a variable's of an exec plugin, `args` are its arguments."""
_LOGIN_OPTION = re.compile(r"--?[\w-]*(token|password|passphrase|secret|key)(=|$)", re.IGNORECASE)
_PLACE_NAME = re.compile(r"(PROFILE|REGION|ACCOUNT|DIR|PATH|HOME|FILE|CONFIG)$", re.IGNORECASE)
_URL_LOGIN = re.compile(r"(?<=://)[^\s/?#@]+(?:@[^\s/?#@]+)*@")
_PROXIES = ("proxy", "request_proxy", "host", "server", "proxy-url")
_KEY_BLOCK = r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
_PRIVATE_KEY = re.compile(r"PRIVATE KEY-----(.*?)(?:-----|\Z)", re.DOTALL)
_PAIR = re.compile(r"(?<![^\s,])([^\s=,]+)=")  # `a=b c=d`, as Ansible reads a dictionary from a text
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,32}")
_METADATA = ("labels", "annotations")


def told(given: Any, spec: Spec) -> Any:
    """The arguments as they may be shown: no value of an option that does not exist or takes a secret, no login, no key."""
    return _told(given, _by_name(spec))


def _told(given: Any, options: Mapping[str, Mapping[str, Any]]) -> Any:
    if isinstance(given, list):
        return [_told(inner, options) for inner in given]
    if not isinstance(given, Mapping):
        return MASK if isinstance(given, str) else given  # a text in a dictionary's place: whichever options are in it
    return {name: _told_option(str(name), value, options.get(name)) for name, value in given.items()}


def _told_option(name: str, value: Any, option: Mapping[str, Any] | None) -> Any:
    if value is None or name.startswith("_ansible"):
        return value
    if option is None or option.get("no_log"):
        return MASK
    if name == "kubeconfig":
        return _told_login(value, "")
    if "dict" in (option.get("type"), option.get("elements")):
        if option.get("options"):
            return told(value, option["options"])
        return MASK if isinstance(value, str) else _told_text(value, name)
    return _told_text(value, name)


def _told_text(value: Any, name: str = "") -> Any:
    if isinstance(value, Mapping):
        return {key: _told_text(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_told_text(inner, name) for inner in value]
    if not isinstance(value, str):
        return value
    if holds_private_key(value):
        return MASK
    if name not in _PROXIES:
        return _URL_LOGIN.sub(f"{BLANK}@", value)
    login = _proxy_login(value)
    return value.replace(login, f"{BLANK}@", 1) if login else value


def _proxy_login(text: str) -> str:
    """Everything up to the last @: a password with `/` in it is what people write, and what is refused then."""
    scheme, end = text.find("://"), text.rfind("@") + 1
    return text[scheme + 3 if 0 <= scheme < end else 0 : end]


def _told_login(value: Any, name: str) -> Any:
    """A kubeconfig, or a part of it under this name."""
    if isinstance(value, Mapping):
        return {key: _told_login(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_told_login(inner, name) for inner in value]
    if value is None or isinstance(value, bool):
        return value
    return MASK if _LOGIN_NAME.search(name) or (not name and _is_content(value)) else _told_text(value, name)


def _is_content(kubeconfig: Any) -> bool:
    """Whether a kubeconfig is given as text, which `connect` refuses, and not as a path."""
    return "\n" in str(kubeconfig) or str(kubeconfig).lstrip().startswith("{")


def secrets_in(given: Any, spec: Spec) -> set[str]:
    """What is blanked out of every message and result besides the values of `no_log` options."""
    names = " ".join(_names(spec))
    return {
        text
        for text in _found(given, spec)
        if "@" in text or (len(text) >= _SHORTEST and text.lower() not in _COMMON and text not in names)
    }


def _names(spec: Spec) -> Iterator[str]:
    for name, option in spec.items():
        yield name
        yield from _names(option.get("options") or {})


def _found(given: Any, spec: Spec) -> Iterator[str]:
    yield from _found_among(given, _by_name(spec))


def _found_among(given: Any, options: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if isinstance(given, list):
        for inner in given:
            yield from _found_among(inner, options)
    elif isinstance(given, str):
        yield from _misplaced(given)
        pairs = _pairs(given)
        yield from _found_among(pairs, options) if pairs else (given,)
    elif isinstance(given, Mapping):
        for name, value in given.items():
            if not str(name).startswith("_ansible"):
                yield from _found_in_option(str(name), value, options.get(name))


def _found_in_option(name: str, value: Any, option: Mapping[str, Any] | None) -> Iterator[str]:
    if option is None:
        yield from _texts(value)
        yield from _misplaced(value)
    elif option.get("no_log"):
        yield from _texts(value)
        if option.get("type") == "dict":
            yield from _headers(value)
    elif name == "kubeconfig":
        yield from _logins(value)
    elif option.get("options"):
        yield from _found(value, option["options"])
    else:
        yield from _misplaced(value, name)


def logins_in(kubeconfig: Any) -> set[str]:
    """Every token, password and key in a kubeconfig or a part of one, that is long and strange enough to be blanked out."""
    return {text for text in _logins(kubeconfig) if len(text) >= _SHORTEST and text.lower() not in _COMMON}


_TOKEN = re.compile(r"(?<![\w-])eyJ[\w-]{5,}(?:\.[\w-]*){1,4}|(?<=bearer )\S{8,}", re.IGNORECASE)
"""Tokens that tell themselves: JSON Web Tokens, and what stands behind `Bearer`."""


def blanked(text: str, secrets: Iterable[str]) -> str:
    """What another program said, without these secrets, keys, tokens and logins in URLs; to be cut only afterwards."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, BLANK)
    text = re.sub(_KEY_BLOCK, BLANK, text, flags=re.DOTALL)
    return _URL_LOGIN.sub(f"{BLANK}@", _TOKEN.sub(BLANK, text))


def _headers(value: Any) -> Iterator[str]:
    """Of a dictionary of secrets: its values word by word, since an echo may leave out `Bearer`, and what is no header's name."""
    if isinstance(value, str):
        value = _pairs(value)
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner)
            yield from (word for word in str(inner).split() if len(word) >= _WORD)
            if not _HEADER_NAME.fullmatch(str(name)):
                yield str(name)


def _logins(value: Any, name: str = "") -> Iterator[str]:
    """Every token, password and key in a kubeconfig; all of it where it is text."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "value" and _PLACE_NAME.search(str(value.get("name"))):
                yield from _misplaced(inner)
            else:
                yield from _logins(inner, str(key))
    elif isinstance(value, list) and name.endswith("args"):
        yield from _options_with_logins([str(inner) for inner in value])
    elif isinstance(value, list):
        for inner in value:
            yield from _logins(inner, name)
    elif _LOGIN_NAME.search(name) if name else _is_content(value):
        yield from _texts(value)
    else:
        yield from _misplaced(value, name)


def _options_with_logins(arguments: list[str]) -> Iterator[str]:
    """Values of a command's arguments that are called a token, password or key; a region or a cluster's name is to be told."""
    for number, argument in enumerate(arguments):
        if found := _LOGIN_OPTION.match(argument):
            yield argument[found.end() :] or "".join(arguments[number + 1 : number + 2])
        yield from _misplaced(argument)


def _misplaced(value: Any, name: str = "") -> Iterator[str]:
    """Private keys outside of the options that take one, as a whole and line by line (a message may quote it in another way), and logins in URLs."""
    for text in _texts(value):
        if holds_private_key(text):
            yield text
            blocks = _PRIVATE_KEY.findall(text) or [text]
            yield from (line for block in blocks for line in re.split(r"\s+|\\n", block) if len(line) >= _LINE)
        for login in filter(None, [_proxy_login(text)]) if name in _PROXIES else _URL_LOGIN.findall(text):
            password = login.rstrip("@").partition(":")[2]
            yield from (login, password, unquote(password))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _pairs(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, Mapping):
        return found
    names = list(_PAIR.finditer(text))
    ends = [*(following.start() for following in names[1:]), len(text)]
    return {name[1]: text[name.end() : end].rstrip(", \t\r\n") for name, end in zip(names, ends, strict=False)}


def _by_name(spec: Spec) -> dict[str, Mapping[str, Any]]:
    return {each: option for name, option in spec.items() for each in (name, *(option.get("aliases") or ()))}


def beginnings(secrets: Iterable[str]) -> re.Pattern[str]:
    """What finds private keys in a sentence however they are quoted there, and of these secrets the long ones where they are cut short."""
    starts = sorted({re.escape(secret[:_LINE]) for secret in secrets if len(secret) >= 2 * _LINE and "-----" not in secret[:_LINE]})
    return re.compile("|".join([_KEY_BLOCK, *(start + r"[\w+/=.~-]*" for start in starts)]), re.DOTALL)


def sentences(given: Any, spec: Spec) -> Callable[[str], str]:
    """What makes a sentence fit to be shown where no AnsibleModule does that: without the secrets of these arguments, and as `printable`."""
    secrets = secrets_in(given, spec)
    quoted = beginnings(secrets)
    return lambda text: printable(quoted.sub(BLANK, blanked(text, secrets)))


def printable(text: str) -> str:
    """A sentence without what a terminal acts upon (escape sequences, text from right to left), since a part of it may be others': the subject of
    a certificate, a server's header. A line break stays one, everything else is written as Python does: `\\x1b`, `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode() for each in text)


_ACTED_UPON = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def inert(value: Any) -> Any:
    """Data without what a terminal acts upon: Ansible prints a failure's whole result, and playbooks print what they registered. What is text in
    some language stays as it is, line ends and joiners too."""
    if isinstance(value, str):
        return value if value.isprintable() else _ACTED_UPON.sub(lambda found: found[0].encode("unicode_escape").decode(), value)
    if isinstance(value, Mapping):
        return {inert(name): inert(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [inert(inner) for inner in value]
    return value


def keys_in_metadata(given: Any, where: str = "") -> Iterator[Problem]:
    """Private keys in labels and annotations: who may read an object reads these, and a Secret's are shown where its data is not."""
    if isinstance(given, list):
        for number, inner in enumerate(given):
            yield from keys_in_metadata(inner, f"{where}[{number}]")
    elif isinstance(given, Mapping):
        for name, value in given.items():
            place = f"{where}.{name}" if where else str(name)
            if name not in _METADATA:
                if isinstance(value, list | Mapping):
                    yield from keys_in_metadata(value, place)
            elif isinstance(value, Mapping):
                for key, text in value.items():
                    if any(map(holds_private_key, (str(key), str(text)))):
                        told_key = "" if holds_private_key(str(key)) else f".{str(key)[:100]}"
                        yield Problem(
                            "key_in_metadata",
                            f"{place}{told_key}",
                            "expected a text that everybody may read, found a private key or a PKCS#12 file",
                            "give it as private_key or pkcs12 of istio_tls_credential; it is to be replaced if others have seen it",
                        )
