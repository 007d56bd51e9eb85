# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where everything of the kind cluster is."""

from __future__ import annotations

from .. import layout

HERE = layout.ROOT / "sandbox" / "kind"
PROGRAMS = HERE / "programs"
NODE = HERE / "node"
INVENTORY = HERE / "inventory.yml"
PINS = HERE / "images.yml"

STATE = layout.BUILT / "kind"
BIN = STATE / "bin"
LOGS = STATE / "logs"
WORK = STATE / "work"
"""Scratch of an image build, removed afterwards."""
DOCKER = STATE / "docker"
"""Images and containers of the Docker that we start, where none runs."""
KUBECONFIG = STATE / "kubeconfig"
OPERATOR_KUBECONFIG = STATE / "operator.kubeconfig"
ENV = STATE / "env"

CLUSTER = "meshops"
CONTAINER = f"{CLUSTER}-control-plane"
