# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest
from ansible.module_utils.common import warnings


@pytest.fixture(autouse=True)
def a_process_of_its_own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ansible collects a module's warnings in its process; here the tests share one, and would find those of others in their results. After a
    test that loads what Ansible's own process has (a filter), warnings would go to its display instead. A module that has a result ignores
    signals until it ends, and what later tests start would inherit that."""
    warnings._global_warnings.clear()
    internal = sys.modules.get("ansible.module_utils._internal")
    if getattr(internal, "is_controller", False) and "plugin_utils" not in request.path.parts:
        monkeypatch.setattr(internal, "is_controller", False)
    warnings._global_deprecations.clear()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
