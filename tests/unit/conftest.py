# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible.module_utils.common import warnings


@pytest.fixture(autouse=True)
def a_process_of_its_own() -> None:
    """Ansible collects a module's warnings in its process; here the tests share one, and would find those of others in their results."""
    warnings._global_warnings.clear()
    warnings._global_deprecations.clear()
