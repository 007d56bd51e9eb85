# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every fault that the unit tests judge as plain objects, and every correct set, on the real API server: the same findings and no others."""

from __future__ import annotations

import pytest
from ansible_collections.meshops.istio.tests.unit.diagnosis.correct import CORRECT

from .conftest import Mesh
from .fault_table import INSTANCES, Judged, judge_all

REFUSED = {"malformed_object": "expected list", "what the webhook refuses": 'invalid protocol "SPDY"'}
"""What no API server takes is found in files only."""


@pytest.fixture(scope="module")
def judged(mesh: Mesh, gateway_api: None) -> dict[str, Judged]:
    return {one.name: one for one in judge_all(mesh.environment)}


@pytest.mark.parametrize("name", INSTANCES)
def test_what_is_expected_is_found_and_nothing_else(judged: dict[str, Judged], name: str) -> None:
    one = judged[name]
    if name in REFUSED:
        assert REFUSED[name] in one.refused
    else:
        assert one.refused == ""
        assert one.codes == list(one.expected), [found.evidence for found in one.found]
        assert not (one.explained and name in CORRECT), "explain says that a way of a correct set breaks"
