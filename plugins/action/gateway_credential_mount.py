# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.meshops.istio.plugins.modules import gateway_credential_mount
from ansible_collections.meshops.istio.plugins.plugin_utils.in_process import InProcess


class ActionModule(InProcess):
    module = gateway_credential_mount
