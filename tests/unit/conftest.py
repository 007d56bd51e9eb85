# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys

import pytest
from ansible.module_utils.common import warnings


@pytest.fixture(autouse=True)
def a_process_of_its_own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible collects a module's warnings in its process; here the tests share one, and would find those of others in their results. After a
    test that loads what Ansible's own process has (a filter), warnings would go to its display instead."""
    warnings._global_warnings.clear()
    internal = sys.modules.get("ansible.module_utils._internal")
    if getattr(internal, "is_controller", False) and "plugin_utils" not in request.path.parts:
        monkeypatch.setattr(internal, "is_controller", False)
    warnings._global_deprecations.clear()
