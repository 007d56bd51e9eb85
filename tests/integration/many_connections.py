# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load by Fortio (https://fortio.org): more new connections a second than load.py makes, which in turn tells the certificates that were served."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.meshops.istio.sandbox import fortio

EACH = 100
"""New connections a second that one Fortio is asked for; it takes one host."""


@contextmanager
def many_connections(address: str, port: int, hosts: Sequence[str], *, ca_file: Path) -> Iterator[dict[str, Any]]:
    """New TLS connections by Fortio, 100 a second for each host, each with a handshake that is verified and one request. In the dict afterwards:
    `requests`, `per_second` and `statuses`, of which -1 is Fortio's for everything that failed before an answer."""
    fortio.make()
    fixed = ("-quiet", "-log-errors=false", "-allow-initial-errors", "-keepalive=false", "-c=4", f"-qps={EACH}", "-t=0", "-json=-")
    commands = [[fortio.FORTIO, "load", *fixed, f"-cacert={ca_file}", f"-resolve={address}", f"https://{host}:{port}/"] for host in hosts]
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        running = [stack.enter_context(subprocess.Popen(one, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)) for one in commands]
        try:
            yield found
            for one in running:
                one.send_signal(signal.SIGINT)  # it ends what it is at, and tells
            told = [json.loads(one.communicate(timeout=60)[0]) for one in running]
        finally:
            for one in running:
                one.kill()
    statuses: Counter[str] = Counter()
    for one in told:
        statuses.update({str(code): count for code, count in one["RetCodes"].items()})
    found.update(requests=sum(statuses.values()), per_second=round(sum(one["ActualQPS"] for one in told), 1), statuses=dict(statuses))
