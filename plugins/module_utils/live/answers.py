# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others wrote (a server's answer, lines of a log), read so that it can neither hold us up nor show what we sent in confidence."""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "********"

_CHARSETS = frozenset(
    {
        *("utf-8", "utf8", "us-ascii", "ascii", "utf-16", "utf-16le", "utf-16be", "utf-32", "latin-1", "latin1"),
        *("gbk", "gb2312", "gb18030", "big5", "shift_jis", "euc-jp", "euc-kr", "koi8-r", "koi8-u"),
        *(f"iso-8859-{number}" for number in (*range(1, 12), 13, 14, 15, 16)),
        *(f"windows-125{number}" for number in range(9)),
    }
)
"""Whose decoders are fast and do nothing else. Python has others, which fail for good, take hours for a megabyte, or decode no text."""


def decode(data: bytes, charset: str | None) -> str:
    """A body as text, by the charset that the server names where it is a usual one, by UTF-8 otherwise; what cannot be decoded is replaced."""
    name = (charset or "").strip().lower()
    return data.decode(name if name in _CHARSETS else "utf-8", "replace")


# --- regular expressions ----------------------------------------------------------------------------------------------


class TooSlow(Exception):
    """The regular expression was not done in time; `str()` is a sentence's end."""


class _Late(Exception):
    pass


@dataclass
class Search:
    """A regular expression that is looked for in what others wrote, for so many seconds in all: some expressions take years for a short line."""

    pattern: str
    seconds: float
    _spent: float = field(default=0.0, init=False)

    def matches(self, text: str) -> bool:
        """Raises TooSlow. Python notices the alarm while it searches, after a few seconds at the latest."""
        if threading.current_thread() is not threading.main_thread():
            return bool(re.search(self.pattern, text))  # only the main one hears signals, and modules have no other that comes here
        started = time.monotonic()
        before = signal.signal(signal.SIGALRM, _late)
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, max(self.seconds - self._spent, 0.001))
                return bool(re.search(self.pattern, text))
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except _Late:
            raise TooSlow(f"that looking for it takes more than {self.seconds:g} s") from None
        finally:
            signal.signal(signal.SIGALRM, before)
            self._spent += time.monotonic() - started


def _late(number: int, frame: Any) -> None:
    raise _Late


def pattern_fault(pattern: str) -> str | None:
    """Why a text is no regular expression; None where it is one."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return str(error)
    return None


# --- secrets ----------------------------------------------------------------------------------------------------------

_SHORTEST = 6
"""Characters of a word that is hidden: shorter ones stand in other words too."""
_BEGINNING = 16
"""Characters of a longer word that are hidden with what follows, should the server have cut its echo."""
_SCHEMES = frozenset({"bearer", "basic", "digest", "negotiate", "apikey", "api-key", "username", "signature", "credential", "response"})


def hider(headers: Mapping[str, Any]) -> Callable[[str], str]:
    """What hides the values of these headers in a text: whole, word by word, a Basic login decoded, and as URLs, JSON and HTML write them."""
    words: set[str] = set()
    for value in map(str, headers.values()):
        parts = {value, *value.split(), *re.split(r"[\s,;=\"'<>]+", value)}
        for part in value.split():
            login = _decoded(part)
            parts |= {login, *login.split(":", 1)}
        words |= {part for part in parts if len(part) >= _SHORTEST and part.lower() not in _SCHEMES}
    forms = {form for word in words for form in (word, quote(word, safe=""), quote_plus(word), json.dumps(word)[1:-1], html.escape(word))}
    if not forms:
        return lambda text: text
    ordered = sorted(forms, key=len, reverse=True)
    cut = sorted({form[:_BEGINNING] for form in forms if len(form) >= 2 * _BEGINNING and " " not in form[:_BEGINNING]})
    found = re.compile("|".join([*map(re.escape, ordered), *(re.escape(beginning) + r"[\w+/=.~%-]*" for beginning in cut)]), re.IGNORECASE)
    return lambda text: found.sub(MASK, text)


def _decoded(word: str) -> str:
    try:
        return base64.b64decode(word, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return ""
