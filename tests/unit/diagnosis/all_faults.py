# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every fault, by name: what the unit tests judge as plain objects, and the integration tests on a real API server."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.meshops.istio.tests.unit.diagnosis.egress_faults import EGRESS_FAULTS
from ansible_collections.meshops.istio.tests.unit.diagnosis.faults import FAULTS
from ansible_collections.meshops.istio.tests.unit.diagnosis.gateway_api_faults import GATEWAY_API_FAULTS
from ansible_collections.meshops.istio.tests.unit.diagnosis.more_faults import MORE
from ansible_collections.meshops.istio.tests.unit.diagnosis.rotation_faults import ROTATION_FAULTS
from ansible_collections.meshops.istio.tests.unit.diagnosis.sets import Manifest

Fault = tuple[list[Manifest], list[str]]
"""The objects, and the codes of what is to be found: that and nothing else."""
GROUPS: Mapping[str, Mapping[str, Fault]] = {
    "failure modes": FAULTS,
    "rotations": ROTATION_FAULTS,
    "egress gateways": EGRESS_FAULTS,
    "Gateway API": GATEWAY_API_FAULTS,
    "further": MORE,
}
ALL: Mapping[str, Fault] = {name: fault for group in GROUPS.values() for name, fault in group.items()}
