# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes as AWX has them: machines with a network and processes of their own, from which ways lead out that the test can slow down or hold.

A node is a network namespace and a process namespace that nothing names and no address leads to: several tests may have some at once. A way is a
listening socket inside, served by this process, which opens the other end in the test's own network.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

ADDRESS = "127.0.0.1"
INIT = "ip link set lo up && echo up && exec cat"
"""Ends with its standard input, so that no node outlives this process, however that ends."""
LISTEN = """
import array, socket, sys
channel = socket.socket(fileno=int(sys.argv[1]))
for port in sys.argv[2:]:
    listening = socket.create_server(("127.0.0.1", int(port)), backlog=128)
    channel.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listening.fileno()]))])
"""


@dataclass
class Way:
    """One port of a node's loopback, and where it leads."""

    port: int
    to: tuple[str, int]
    latency: float = 0.0
    """Seconds that each piece takes longer, in either direction."""
    rate: float = 0.0
    """Bytes a second, in either direction; 0 for as fast as it goes."""
    hold: bool = False
    """Whether answers are held once TLS is agreed, until `let`."""
    held: threading.Event = field(default_factory=threading.Event)
    """Set when the first answer is held."""
    let: threading.Event = field(default_factory=threading.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there, out = await asyncio.open_connection(*self.to)
            sent: list[int] = []
            await asyncio.gather(self._pump(reader, out, sent, up=True), self._pump(there, writer, sent, up=False))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: list[int], *, up: bool) -> None:
        try:
            while piece := await reader.read(1400 if self.rate else 65536):
                if up:
                    sent.append(len(piece))
                # with TLS 1.3 a client's second piece ends the handshake, and waits for no answer
                while not up and self.hold and len(sent) > 1 and not self.let.is_set():
                    self.held.set()
                    await asyncio.sleep(0.02)
                if pause := self.latency + (len(piece) / self.rate if self.rate else 0):
                    await asyncio.sleep(pause)
                writer.write(piece)
                await writer.drain()
        except OSError:
            pass  # either end went away
        finally:
            with contextlib.suppress(OSError):
                writer.close()


class Node:
    def __init__(self, ways: Sequence[Way]) -> None:
        as_user = ["--map-root-user"] if os.geteuid() else []
        command = ["unshare", *as_user, "--net", "--pid", "--fork", "--kill-child", "--", "sh", "-c", INIT]
        self.init = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        assert self.init.stdout and self.init.stderr
        if self.init.stdout.readline() != "up\n":
            said = self.init.stderr.read()
            self.kill()
            raise OSError(said)
        self.ways = list(ways)
        listening = self._listen()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve(listening)), daemon=True)
        self.thread.start()
        assert self.ready.wait(60)

    def inside(self, *command: str) -> list[str]:
        """A command, to be run on this node."""
        place = f"/proc/{self.init.pid}/ns"
        as_user = [f"--user={place}/user", "--preserve-credentials"] if os.geteuid() else []
        return ["nsenter", *as_user, f"--net={place}/net", f"--pid={place}/pid_for_children", "--", *command]

    def _listen(self) -> list[socket.socket]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ports = [str(way.port) for way in self.ways]
            command = self.inside(sys.executable, "-c", LISTEN, str(theirs.fileno()), *ports)
            subprocess.run(command, pass_fds=[theirs.fileno()], check=True, timeout=60)
            found = []
            for __ in ports:
                __, ancillary, *__ = ours.recvmsg(1, socket.CMSG_SPACE(4))
                ((__, __, data),) = ancillary
                found.append(socket.socket(fileno=array.array("i", data)[0]))
        return found

    async def _serve(self, listening: Sequence[socket.socket]) -> None:
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        for way, sock in zip(self.ways, listening, strict=True):
            await asyncio.start_server(way.serve, sock=sock)
        self.ready.set()
        await self.over.wait()

    def kill(self) -> None:
        """As a machine that loses its power: every process of it is gone at once."""
        if self.init.poll() is None:
            self.init.send_signal(signal.SIGKILL)
        self.init.wait(30)
        for stream in (self.init.stdin, self.init.stdout, self.init.stderr):
            if stream:
                stream.close()

    def close(self) -> None:
        self.kill()
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(30)


def trouble() -> str:
    """Why this user can make no node; empty where one can be made."""
    if missing := [program for program in ("unshare", "nsenter", "ip") if not shutil.which(program)]:
        return f"no {', '.join(missing)} on PATH"
    try:
        Node([]).close()
    except OSError as error:
        return f"this user may not make a network (`unshare --net`): {error}"
    return ""


@contextlib.contextmanager
def nodes(*ways: Sequence[Way]) -> Iterator[list[Node]]:
    """One node for each list of ways."""
    made: list[Node] = []
    try:
        for each in ways:
            made.append(Node(each))
        yield made
    finally:
        for node in made:
            node.close()
