"""The daemon's Unix socket: made so that nobody else can take its place, removed only by the one who made it.

Rules:
- One daemon a socket: an exclusive `flock` on `PATH.lock` is held from before the socket exists until after it is gone.
  Looking whether a socket is alive and then removing it is a race between two starting daemons without it.
- A socket nobody answers on is a leftover of a killed daemon and is removed, if it is ours. Anything else at the path,
  or a path owned by someone else, is left alone and refused with a sentence.
- User mode: folder 0700, socket 0600. System mode (a group is given): socket 0660 of that group; a folder that is made for it is
  0750 of that group. A folder that is there already is somebody's decision: if it keeps the group out, that is said in the log.
"""

from __future__ import annotations

import fcntl
import grp
import logging
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from fleet.core.errors import Invalid, Refused

log = logging.getLogger(__name__)
MAX_PATH = 107
BACKLOG = 1024


@contextmanager
def listening(path: str, *, group: str | None = None) -> Iterator[socket.socket]:
    """A bound, listening, non-blocking socket at the absolute `path`; it and its file are gone afterwards."""
    if len(os.fsencode(path)) > MAX_PATH:
        raise Invalid(f"a socket's path has at most {MAX_PATH} bytes; set ANEW_SOCKET to a shorter one", where=path)
    _check_folder(os.path.dirname(path), group)
    lock = _lock(path)
    try:
        _clear(path)
        bound = _bind(path, group)
        made = os.lstat(path)
        try:
            yield bound
        finally:
            bound.close()
            _remove_if(path, made)
    finally:
        os.close(lock)


def _check_folder(folder: str, group: str | None) -> None:
    before = os.umask(0o077)
    try:
        if not os.path.isdir(folder):
            _make_folder(folder, group)
        found = os.stat(folder)
    except OSError as error:
        raise Invalid(f"the socket's folder cannot be made: {error.strerror}", where=folder) from error
    finally:
        os.umask(before)
    if found.st_uid not in (os.getuid(), 0):
        raise Refused("the socket's folder belongs to someone else; choose another with ANEW_SOCKET", where=folder)
    if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
        raise Refused("the socket's folder can be written by others; chmod 700 it, or set ANEW_SOCKET", where=folder)


def _make_folder(folder: str, group: str | None) -> None:
    os.makedirs(folder, mode=0o700, exist_ok=True)
    number = _number(group) if group is not None else None
    if number is not None:
        os.chown(folder, -1, number)
        os.chmod(folder, 0o750)  # noqa: S103 - the group that may reach the socket


def _number(group: str) -> int | None:
    """The group's number; None for one that does not exist, which is refused once the socket is made."""
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None


def _warn_if_closed(path: str, group: str) -> None:
    """Say so if a folder on the way to the socket keeps the group out, for its members only see that no daemon answers."""
    number, folder = _number(group), os.path.dirname(path)
    while folder != os.path.dirname(folder):
        found = os.stat(folder)
        bit = stat.S_IXGRP if found.st_gid == number else stat.S_IXOTH
        if not found.st_mode & bit:
            log.warning("group %s cannot reach the socket %s: the folder %s is closed to it; give the socket a place that is not, with ANEW_SOCKET", group, path, folder)
            return
        folder = os.path.dirname(folder)


def _lock(path: str) -> int:
    try:
        lock = os.open(path + ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Refused(f"the socket's lock cannot be opened: {error.strerror}", where=path + ".lock") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise Refused("a daemon already listens here; `anew daemon status` shows it", where=path, code="taken") from error
    return lock


def _clear(path: str) -> None:
    """Remove a dead socket of ours; refuse everything else that is in the way."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise Refused("there is a file that is no socket; move it away or set ANEW_SOCKET", where=path)
    if found.st_uid != os.getuid():
        raise Refused("the socket is owned by someone else; set ANEW_SOCKET to another path", where=path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            _remove_if(path, found)
            return
        except OSError as error:
            raise Refused(f"the socket cannot be looked at: {error.strerror or error}", where=path) from error
    raise Refused("a daemon already listens here; `anew daemon status` shows it", where=path, code="taken")


def _bind(path: str, group: str | None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise Refused(f"the socket cannot be made: {error.strerror}", where=path) from error
    finally:
        os.umask(before)
    try:
        if group is not None:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
            os.chmod(path, 0o660)
            _warn_if_closed(path, group)
        sock.listen(BACKLOG)
    except (KeyError, OSError) as error:
        sock.close()
        os.unlink(path)
        raise Invalid(f"the socket cannot be given to the group {group!r}: {error}", where=path) from error
    return sock


def _remove_if(path: str, made: os.stat_result) -> None:
    """Unlink the path if it still is that very file."""
    try:
        now = os.lstat(path)
        if (now.st_dev, now.st_ino) == (made.st_dev, made.st_ino):
            os.unlink(path)
    except FileNotFoundError:
        pass
