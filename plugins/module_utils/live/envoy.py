# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The administration pages of a proxy that is no Pod (a virtual machine's), read over HTTP, and log files of this host."""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from urllib.parse import urlsplit

from ..istio.proxy import Log, Look, Proxy, Source, Unread
from ..istio.proxy_dump import PAGES, SECRETS, read_proxy, read_secrets
from ..istio.proxy_log import Line, line_time
from ..problems import Problem, Rejected
from ..regular_file import regular_file
from .wire import Wire

PAGE_LIMIT = 256 * 1024 * 1024
"""Bytes."""
_LINES_TOGETHER = 4 * 1024 * 1024  # characters of lines that are looked at together
_LONGEST_LINE = 1024 * 1024  # characters of a line that are looked at: Envoy's are no longer than its limit of headers


def check_url(url: str) -> list[Problem]:
    """What is wrong with the URL of an administration interface."""
    problem = Problem(
        "invalid_admin_url",
        f"admin_urls: {url}",
        "expected http://address:port without a path",
        "Envoy's administration interface speaks plain HTTP, in Istio on port 15000 of the proxy's own loopback",
    )
    try:
        parts = urlsplit(url)
        fine = (
            parts.scheme == "http"
            and parts.hostname
            and parts.path in ("", "/")
            and not (parts.query or parts.username)
            and parts.port != 0
        )
    except ValueError:  # the port is no number
        fine = False
    return [] if fine else [problem]


def source_at(url: str, *, timeout: float) -> Source:
    return Source(
        url, lambda path: read_page(url, path, timeout=timeout), None, {"namespace": None, "pod": None, "admin_url": url, "troubles": []}
    )


def log_in(path: str) -> Log:
    """A log file. Lines without a time of their own belong to the one before them."""

    def lines(since: datetime | None) -> Iterator[tuple[datetime | None, str]]:
        written: datetime | None = None
        for text in read_lines(path):
            written = line_time(text) or written
            if since is None or written is None or written >= since:
                yield written, text

    return Log(path, lines)


def look_at(sources: Sequence[Source], now: datetime, known: Mapping[str, Proxy] | None = None) -> list[Look]:
    """Reads every proxy, several pages at once; of those that are known (by their source's name), only the secrets. Raises what no waiting makes
    good, such as a missing right."""
    known = known or {}
    with ThreadPoolExecutor(max_workers=8) as workers:
        under_way = {
            source.name: {name: workers.submit(source.page, path) for name, path in (SECRETS if source.name in known else PAGES).items()}
            for source in sources
            if not source.trouble
        }
        looks = []
        for source in sources:
            proxy, error = None, f"{source.name}: {source.trouble}" if source.trouble else ""
            try:
                if not error:
                    pages = {name: page.result() for name, page in under_way[source.name].items()}
                    before = known.get(source.name)
                    proxy = read_secrets(before, pages, now, where=source.name) if before else read_proxy(pages, now, where=source.name)
            except (Unread, Rejected) as unread:
                error = str(unread)
            looks.append(Look(source, proxy, error))
    return looks


def matching_lines(
    logs: Iterable[Log], since: datetime | None, wanted: Callable[[list[Line]], list[Line]], *, keep: int
) -> tuple[int, list[Line]]:
    """How many lines are wanted, and the last of them by time. `wanted` picks them out of some megabytes of lines at a time."""
    count = 0
    last: list[Line] = []
    for log in logs:
        newest: deque[Line] = deque(maxlen=keep)
        for some in _together(Line(log.name, written, text) for written, text in log.lines(since)):
            found = wanted(some)
            count += len(found)
            newest += found
        last += newest
    last.sort(key=lambda line: line.time.timestamp() if line.time else 0.0)
    return count, last[max(len(last) - keep, 0) :]


def _together(lines: Iterable[Line]) -> Iterator[list[Line]]:
    some: list[Line] = []
    size = 0
    for line in lines:
        some.append(line)
        size += len(line.text)
        if size > _LINES_TOGETHER:
            yield some
            some, size = [], 0
    if some:
        yield some


def read_page(url: str, path: str, *, timeout: float) -> bytes:
    """A page of Envoy's administration interface, whole within `timeout` seconds. Proxies of the environment are not used. Raises Unread."""
    parts = urlsplit(url)
    host, port, deadline = parts.hostname or "", parts.port or 80, time.monotonic() + timeout
    page = b""
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            client = http.client.HTTPConnection(host, port)
            client.sock = Wire(connection, deadline)
            client.request("GET", f"/{path}", headers={"Connection": "close"})
            response = client.getresponse()
            page = response.read(PAGE_LIMIT)
        found = f"HTTP status {response.status}" if response.status != 200 else ""
    except TimeoutError:
        found = f"no whole answer within {timeout:g} s"
    except (OSError, http.client.HTTPException) as error:
        found = str(getattr(error, "strerror", None) or error or type(error).__name__)
    if found:
        raise Unread(
            f"{url}: expected Envoy's administration interface to answer /{path.partition('?')[0]}, found: {found}; look whether the proxy runs "
            "there, and whether the host that the task runs on reaches it"
        )
    return page


def read_lines(path: str) -> Iterator[str]:
    """The lines of a log file, read as they are wanted. Rejected with `file_unreadable`."""
    try:
        with regular_file(path) as file, io.TextIOWrapper(file, encoding="utf-8", errors="replace") as lines:
            while line := lines.readline(_LONGEST_LINE):
                yield line.rstrip("\r\n")
    except OSError as error:
        raise Rejected(
            Problem(
                "file_unreadable",
                f"access_log.paths: {path}",
                f"expected a readable file, found: {error.strerror or error}",
                "Correct the path, or its permissions",
            )
        ) from None
