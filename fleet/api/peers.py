"""Who is at the other end of the socket. The kernel says it once, at accept; no field of a request ever does.

SO_PEERCRED gives a `struct ucred` of the process that called connect(): three C ints, pid, uid, gid. An answer that
cannot be read is no answer: the connection is refused. Names come from the user database, which may be slow (LDAP), so
they are looked up in a thread and kept for a minute.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import re
import socket
import struct
from dataclasses import dataclass

from fleet.api.office import Caller
from fleet.core.errors import Refused

_UCRED = struct.Struct("3i")
_TERMINAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9/._:-]{0,31}")
KEEP_SECONDS = 60.0
KEEP_AT_MOST = 256


@dataclass(frozen=True, slots=True)
class Peer:
    """The connecting process as the kernel named it."""

    uid: int
    gid: int
    pid: int


def read_peer(sock: socket.socket) -> Peer:
    """The peer of an accepted Unix socket; Refused if the kernel does not say, or names nobody (uid or pid negative)."""
    try:
        pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    except (OSError, struct.error) as error:
        raise Refused("the kernel does not say who is calling, so nothing is answered", code="role") from error
    if uid < 0 or pid <= 0:
        raise Refused("the kernel names no user for this connection, so nothing is answered", code="role")
    return Peer(uid, gid, pid)


def clean_terminal(said: str) -> str:
    """A terminal's name as a client gave it, or "" if it is not one."""
    return said if _TERMINAL.fullmatch(said) else ""


def look_up(peer: Peer) -> tuple[str, tuple[str, ...]]:
    """(user, groups) by name; an unknown uid is `#UID` and is in no group that has a name."""
    try:
        user = pwd.getpwuid(peer.uid).pw_name
        gids = os.getgrouplist(user, peer.gid)
    except KeyError:
        user, gids = f"#{peer.uid}", [peer.gid]
    return user, tuple(sorted({name for gid in gids if (name := _group_name(gid))}))


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""


class Names:
    """Turns peers into callers; remembers names for `KEEP_SECONDS`, of at most `KEEP_AT_MOST` users."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[float, str, tuple[str, ...]]] = {}

    async def caller(self, peer: Peer, terminal: str, *, observer: bool = False) -> Caller:
        """The caller behind a peer, with what it said of itself."""
        now = asyncio.get_running_loop().time()
        key = (peer.uid, peer.gid)
        kept = self._known.get(key)
        if kept is None or now - kept[0] > KEEP_SECONDS:
            user, groups = await asyncio.to_thread(look_up, peer)
            if len(self._known) >= KEEP_AT_MOST:
                self._known.clear()
            kept = self._known[key] = (now, user, groups)
        return Caller(peer.uid, peer.gid, peer.pid, kept[1], kept[2], clean_terminal(terminal), observer)
