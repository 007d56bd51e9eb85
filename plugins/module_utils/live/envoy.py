# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The administration pages of a proxy that is no Pod (a virtual machine's), read over HTTP, and log files of this host."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from ..problems import Problem, Rejected

PAGE_LIMIT = 256 * 1024 * 1024
"""Bytes."""


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


def read_page(url: str, path: str, *, timeout: float = 30.0) -> bytes:
    """A page of Envoy's administration interface. Proxies of the environment are not used. Rejected with `admin_unreachable`."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    try:
        connection.request("GET", f"/{path}", headers={"Connection": "close"})
        response = connection.getresponse()
        page = response.read(PAGE_LIMIT)
        found = f"HTTP status {response.status}" if response.status != 200 else ""
    except TimeoutError:
        found = f"no answer within {timeout:g} s"
    except (OSError, http.client.HTTPException) as error:
        found = str(getattr(error, "strerror", None) or error or type(error).__name__)
    finally:
        connection.close()
    if found:
        remedy = (
            "Look whether the proxy runs there, and whether its administration interface can be reached from the host that the task runs on"
        )
        raise Rejected(Problem("admin_unreachable", f"{url}/{path.partition('?')[0]}", f"expected Envoy's answer, found: {found}", remedy))
    return page


def read_lines(path: str) -> Iterator[str]:
    """The lines of a log file, read as they are wanted. Rejected with `file_unreadable`."""
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
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
