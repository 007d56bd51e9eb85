# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection on which a whole answer has to come in time, where Python's own time-outs begin anew with every byte."""

from __future__ import annotations

import io
import socket
import time
from typing import Any


def left(deadline: float) -> float:
    """Seconds until the deadline (of `time.monotonic`); raises TimeoutError when there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("timed out")
    return seconds


class Wire(io.RawIOBase):
    """A connection as http.client wants it, that ends at the deadline and knows whether anything was received, and whether the peer ended it."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.connection, self.deadline = connection, deadline
        self.received = self.ended = False

    def sendall(self, data: bytes) -> None:
        self.connection.settimeout(left(self.deadline))
        self.connection.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        """Nothing: http.client closes when it has read the head, and the body is still to come."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.connection.settimeout(left(self.deadline))
        count = self.connection.recv_into(buffer)
        self.received = self.received or count > 0
        self.ended = count == 0
        return count
