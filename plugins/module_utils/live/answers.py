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
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
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


class SearchFailed(Exception):
    """The regular expression was not done in time, or at all; `str()` is a sentence's end."""


_SEARCHER = """
import json, re, signal, sys, time
pattern, texts, seconds = json.load(sys.stdin)
signal.signal(signal.SIGPROF, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
signal.setitimer(signal.ITIMER_PROF, seconds)
began = time.process_time()
search = re.compile(pattern).search
found = [bool(search(text)) for text in texts]
json.dump([found, time.process_time() - began], sys.stdout)
"""


@dataclass
class Search:
    """A regular expression that is looked for in what others wrote, for so many seconds in all: some expressions take years for a short line.

    Python's engine looks for signals too rarely to be interrupted, so a process of its own does it, which the kernel ends when its time is over:
    even if nobody waits for it any more, and whatever threads, alarms and signal handlers this process has. Its time is the processor's, so that a
    busy machine makes no expression too slow.
    """

    pattern: str
    seconds: float
    _spent: float = field(default=0.0, init=False)

    def matches(self, texts: Sequence[str]) -> list[bool]:
        """In which of them it matches. Raises SearchFailed."""
        if not texts:
            return []
        asked = json.dumps([self.pattern, texts, max(self.seconds - self._spent, 0.001)])
        try:
            # pylint: disable-next=ansible-bad-function  # run_command is AnsibleModule's, which is not known here
            done = subprocess.run([sys.executable, "-I", "-S", "-c", _SEARCHER], input=asked.encode(), capture_output=True, check=False)
        except OSError as error:
            raise SearchFailed(f"that a process for it cannot be started ({error.strerror})") from None
        if done.returncode == -signal.SIGPROF:
            raise SearchFailed(f"that looking for it takes more than {self.seconds:g} s")
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:200]
            raise SearchFailed(f"that looking for it fails ({last or f'exit code {done.returncode}'})")
        found, spent = json.loads(done.stdout)
        self._spent += spent
        return [bool(each) for each in found]


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
