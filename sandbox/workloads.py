# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two applications behind the mesh, each on a loopback address of its own: httpbin (go-httpbin) and helloworld."""

from __future__ import annotations

import functools
import sys

from . import kube, layout
from .layout import at
from .processes import Component, Record, start, wait_for

THROUGH_THE_MESH = {
    "httpbin": (f"http://{at(layout.MESH_HTTPBIN)}/status/200", "httpbin.default.svc.cluster.local:8000"),
    "helloworld-v1": (f"http://{at(layout.MESH_HELLOWORLD)}/hello", "helloworld-v1.default.svc.cluster.local:5000"),
}


def httpbin() -> Component:
    host, port = layout.HTTPBIN_BACKEND
    return Component("httpbin", [str(layout.BIN / "go-httpbin"), "-host", host, "-port", str(port)], ports=layout.PORTS["httpbin"])


def helloworld() -> Component:
    host, port = layout.HELLOWORLD_BACKEND
    command = [sys.executable, str(layout.ROOT / "sandbox" / "helloworld.py"), host, str(port), "v1", "helloworld-v1-sandbox"]
    return Component("helloworld-v1", command, ports=layout.PORTS["helloworld-v1"])


def bring_up() -> list[Record]:
    return [start(httpbin()), start(helloworld())]


def answers_through_the_mesh(name: str) -> bool:
    url, host = THROUGH_THE_MESH[name]
    return kube.answers_http(url, host=host)


def wait(needs: list[Record]) -> None:
    for name in THROUGH_THE_MESH:
        wait_for(f"{name} to answer through the client's sidecar", functools.partial(answers_through_the_mesh, name), needs)
