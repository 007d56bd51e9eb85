# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A few words over plain TCP: what an application says to a database, to which a gateway behind it speaks TLS."""

from __future__ import annotations

import socket
import time
from typing import Any

from .answers import decode
from .request import BODY_LIMIT, Failed, Request
from .wire import left

QUIET_SECONDS = 1.0
"""A server that says nothing (more) for so long is taken to have said all. A gateway that cannot connect to it ends the connection sooner."""


def converse(connection: socket.socket, request: Request, deadline: float) -> dict[str, Any]:
    """Sends the body, and returns what the server said until it fell silent or ended the connection. The answer to a body is waited for as long
    as the request may take; without a body, a server that waits for the client to speak first is silent at once."""
    said = b""
    try:
        if request.body:
            connection.settimeout(left(deadline))
            connection.sendall(request.body)
        while len(said) <= BODY_LIMIT:
            moment = deadline if request.body and not said else min(deadline, time.monotonic() + QUIET_SECONDS)
            connection.settimeout(left(moment))
            part = connection.recv(64 * 1024)
            if not part:
                break
            said += part
    except TimeoutError:
        return shown(said)
    except OSError as error:
        if not said:
            raise Failed("connection_reset", f"the connection ended before anything was said ({error.strerror or error})") from None
    if not said:
        raise Failed("connection_reset", "the server closed the connection before anything was said")
    return shown(said)


def shown(said: bytes) -> dict[str, Any]:
    """What was said, as a result has it."""
    return {"text": decode(said[:BODY_LIMIT], None), "text_truncated": len(said) > BODY_LIMIT}
