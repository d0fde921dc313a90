"""Where the daemon of another machine listens, and why it cannot be reached there; looked at through SFTP, so that nothing is run there.

Rules
- A path that was given is taken; else /run/anew/anew.sock if it answers, then the places of that user: the runtime folder, the state folder.
- A socket must belong to the user who logged in, or to root: what is sent to a stranger's socket is a stranger's. Only below /run/anew, which root
  alone can make, the daemon's own user is as good.
- sshd says nothing but "failed" if it may not forward, if nobody listens, and if the socket is closed to this user. What can be seen of the socket
  decides which of these is told.
"""

from __future__ import annotations

import stat
from contextlib import suppress
from typing import Any

import asyncssh

from fleet.core.errors import AnewError, Refused, Transient

SYSTEM = "/run/anew/anew.sock"
UNREACHABLE = 6
"""The exit code for no daemon, as for one of this machine."""


class Found:
    """The daemon's socket over there."""

    def __init__(self, path: str) -> None:
        self.path = path

    def closed(self, where: str) -> AnewError:
        """It answered before, and does not now."""
        return _unreachable(f"no daemon answers at {self.path} there; it may have ended", where)


async def look(line: asyncssh.SSHClientConnection, given: str, where: str) -> Found:
    """The socket that a daemon answers on. Raises what keeps it from us."""
    if not given and await _answers(line, SYSTEM):
        return Found(SYSTEM)
    try:
        async with line.start_sftp_client() as sftp:
            return await _through(line, sftp, given, where)
    except (asyncssh.ChannelOpenError, asyncssh.SFTPError) as problem:
        if given:
            raise Refused(f"whose socket {given} is cannot be seen: sshd there offers no SFTP ({problem.reason[:80]!a}); only {SYSTEM} is used unseen",
                          where=where, code="socket-owner") from None
        raise _unreachable(f"nothing answers at {SYSTEM} there, or sshd does not forward to it; it offers no SFTP, by which to see which, or to find "
                           "another socket", where) from None


async def _through(line: asyncssh.SSHClientConnection, sftp: asyncssh.SFTPClient, given: str, where: str) -> Found:
    home = str(await sftp.realpath("."))
    uid = (await sftp.stat(".")).uid
    places = [given] if given else [SYSTEM, f"/run/user/{uid}/anew/anew.sock", f"{home.rstrip('/')}/.local/state/anew/anew.sock"]
    for path in places:
        seen = await _seen(sftp, path, where)
        if seen is None:
            continue
        if not stat.S_ISSOCK(seen.permissions or 0):
            raise Refused("this is no socket", where=f"{where}, {path}", code="socket-owner")
        if path != SYSTEM and seen.uid not in (uid, 0):
            raise Refused("the socket is owned by someone else, nothing was sent to it", where=f"{where}, {path}", code="socket-owner")
        if await _answers(line, path):
            return Found(path)
        raise _shut(path, seen, uid, where)
    looked = given or f"{', '.join(places[:-1])} or {places[-1]}"
    raise _unreachable(f"no daemon listens there: there is no socket at {looked}. Start one there (`anew daemon run`, or systemctl start anew), or name its "
                       "socket with --socket", where)


async def _seen(sftp: asyncssh.SFTPClient, path: str, where: str) -> Any:
    with suppress(asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
        try:
            return await sftp.stat(path)
        except asyncssh.SFTPPermissionDenied:
            if path.startswith("/run/user/"):
                return None  # another user's, so the home folder is not this user's own: go on
            raise Refused(f"you may not speak to this daemon: the way to {path} is closed to you there; ask to be in its group", where=where, code="role") from None
    return None


async def _answers(line: asyncssh.SSHClientConnection, path: str) -> bool:
    try:
        _, writer = await line.open_unix_connection(path)
    except asyncssh.ChannelOpenError:
        return False
    writer.close()
    return True


def _shut(path: str, seen: Any, uid: int | None, where: str) -> AnewError:
    if uid not in (0, seen.uid) and not (seen.permissions or 0) & 0o002:
        return Refused(f"{path} is there, and sshd cannot reach it for you: either you are not in the socket's group (number {seen.gid}), or sshd there may not "
                       "forward (AllowStreamLocalForwarding, DisableForwarding, or `restrict` before your key)", where=where, code="role")
    return _unreachable(f"{path} is there, and sshd does not forward to it: it may not (AllowStreamLocalForwarding or DisableForwarding in its sshd_config, or "
                        "`restrict` before your key in authorized_keys), or a killed daemon left the socket behind", where)


def _unreachable(message: str, where: str) -> Transient:
    error = Transient(message, where=where, code="daemon-unreachable")
    error.exit_code = UNREACHABLE
    return error


__all__ = ["Found", "look"]
