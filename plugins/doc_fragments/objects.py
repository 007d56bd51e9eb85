# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of every module that writes objects; the argument spec is `OBJECT_OPTIONS` in module_utils/arguments.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  state:
    description:
      - Whether the objects should exist.
    type: str
    choices: [present, absent]
    default: present
  labels:
    description:
      - Labels for every object made.
      - V(app.kubernetes.io/managed-by) and V(meshops.istio/owner) are set by the module and cannot be given other values.
    type: dict
  annotations:
    description:
      - Annotations for every object made.
    type: dict
  force_conflicts:
    description:
      - Take over fields that another field manager has set to other values, and objects that something else made.
      - Without it such a conflict is an error that names the manager and the field.
    type: bool
    default: false
"""
