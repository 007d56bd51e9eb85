# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds a TCP port: told from /proc, so that a clash is reported with the name of the other program."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterable
from pathlib import Path

from . import layout
from .progress import Failure

LISTEN = "0A"
UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def decode_address(text: str) -> tuple[str, int]:
    """`0100007F:1F90` as the kernel writes it (each 32-bit word in the host's byte order) -> (`127.0.0.1`, 8080)."""
    host, port = text.split(":")
    raw = b"".join(int(host[start : start + 8], 16).to_bytes(4, "little") for start in range(0, len(host), 8))
    if len(raw) == 16 and raw[:12] == b"\0" * 10 + b"\xff\xff":
        raw = raw[12:]
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw), int(port, 16)


def listeners(proc: Path = Path("/proc")) -> list[tuple[str, int, int, str]]:
    """Every listening TCP socket: address, port, owner's user id, inode."""
    found = []
    for table in ("net/tcp", "net/tcp6"):
        try:
            lines = (proc / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN:
                found.append((*decode_address(fields[1]), int(fields[7]), fields[9]))
    return found


def socket_owners(inodes: set[str], proc: Path = Path("/proc")) -> dict[str, int]:
    """Socket inode -> process id, as far as this user may look."""
    owners: dict[str, int] = {}
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            for descriptor in (entry / "fd").iterdir():
                match = re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink()))
                if match and match[1] in inodes:
                    owners.setdefault(match[1], int(entry.name))
        except OSError:
            continue
    return owners


def command_line(pid: int, proc: Path = Path("/proc")) -> str:
    try:
        words = (proc / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "(gone)"
    return " ".join(words.split())[:160]


def readable(place: tuple[str, int]) -> str:
    return f"[{place[0]}]:{place[1]}" if ":" in place[0] else f"{place[0]}:{place[1]}"


def holders(place: tuple[str, int]) -> list[str]:
    """Who listens where `place` would have to: `nginx -g daemon off; (pid 12)`."""
    clashing = [entry for entry in listeners() if entry[1] == place[1] and entry[0] in (place[0], "0.0.0.0", "::")]  # noqa: S104
    owners = socket_owners({entry[3] for entry in clashing})
    told = []
    for address, port, uid, inode in clashing:
        pid = owners.get(inode)
        who = f"pid {pid}: {command_line(pid)}" if pid else f"a process of user id {uid} (run as that user or as root to see which)"
        told.append(f"{readable((address, port))} is held by {who}")
    return told


def trouble_with(place: tuple[str, int]) -> str | None:
    """Why a server could not listen there, or None."""
    family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
            probe.listen(1)
            return None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                held = "; ".join(holders(place)) or f"{readable(place)} is in use, by a process that cannot be seen from here"
                return f"{held} (stop it first)"
            if error.errno == errno.EACCES:
                first = UNPRIVILEGED.read_text().strip() if UNPRIVILEGED.exists() else "1024"
                return (
                    f"this user may not bind ports below {first} (run as root, or allow it with "
                    f"`sudo sysctl -w net.ipv4.ip_unprivileged_port_start={min(place[1], 80)}`)"
                )
            return f"{readable(place)} cannot be bound: {error.strerror}"


def needed() -> list[tuple[tuple[str, int], str]]:
    """Every port of the sandbox, and what needs it."""
    places = [*((place, name) for name, places in layout.PORTS.items() for place in places), *layout.MESH_PORTS.items()]
    # where the machine has IPv6, the sidecar listens on its loopback too
    if Path("/proc/net/if_inet6").exists() and "lo" in Path("/proc/net/if_inet6").read_text().split():
        places += [(("::1", port), purpose) for (host, port), purpose in layout.MESH_PORTS.items() if host == layout.LOCAL]
    return places


def troubles(places: Iterable[tuple[tuple[str, int], str]]) -> list[str]:
    """Why servers could not listen there, each reason once with all that it stands in the way of."""
    found: dict[str, list[str]] = {}
    for place, purpose in places:
        if trouble := trouble_with(place):
            found.setdefault(trouble, []).append(purpose)
    return [f"{trouble}; needed for: {', '.join(dict.fromkeys(purposes))}" for trouble, purposes in found.items()]


def require_free(places: Iterable[tuple[tuple[str, int], str]]) -> None:
    """All that are not to be had are named at once."""
    if found := troubles(places):
        lines = [f"  {trouble}" for trouble in found]
        raise Failure("\n".join(["the sandbox cannot listen where it has to:", *lines, "Free the ports, then try again"]))
