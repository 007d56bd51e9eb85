# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The formats of a report, by name: how a file of it is called, and what makes it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .calendar_file import as_calendar
from .data import as_json
from .junit import as_junit
from .markdown_page import as_markdown
from .metrics import as_metrics
from .page import as_html
from .sarif import as_sarif

FORMATS: Mapping[str, tuple[str, Callable[..., str]]] = {
    "html": (".html", as_html),
    "markdown": (".md", as_markdown),
    "json": (".json", as_json),
    "junit": (".junit.xml", as_junit),
    "sarif": (".sarif", as_sarif),
    "ics": (".ics", as_calendar),
    "metrics": (".prom", as_metrics),
}
"""Format -> (suffix, from a report and its digest to the text). The digest stands in the text as it is. Metrics also take a limit."""
