# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A spare API server, a proxy before it, and a batch of credentials to write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Pair
from ..faultproxy import FaultProxy, fault_proxy
from ..spare import SpareApi, place, spare_api
from .judging import BATCH, Credentials

__all__ = ["place", "spare_api"]  # fixtures


@pytest.fixture(scope="session")
def pairs(issue: Callable[..., Pair]) -> list[Pair]:
    return [issue(f"host-{number}.example.com") for number in range(10)]


@pytest.fixture
def credentials(
    place: str,
    pairs: list[Pair],
) -> Credentials:
    """Arguments for so many credentials, each with one of ten pairs."""

    def make(login: dict[str, str], count: int = BATCH, **more: Any) -> dict[str, Any]:
        listed = [
            {"name": f"c{number:03}", "certificate": pair.certificate, "private_key": pair.private_key}
            for number, pair in ((number, pairs[number % len(pairs)]) for number in range(count))
        ]
        return {**login, "namespace": place, "credentials": listed, "details": "changed", **more}

    return make


@pytest.fixture
def proxy(
    spare_api: SpareApi,
    tmp_path: Path,
) -> Iterator[FaultProxy]:
    with fault_proxy(spare_api.host, spare_api.ca_path, tmp_path) as started:
        yield started
