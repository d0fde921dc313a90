"""The journal's folder: who may read it, who holds it, and the reserve of space for the last words.

Rules
- the folder is 0700 and ours, or the journal is not opened. A folder that others may enter is never tightened by us:
  it may be one that the system shares.
- one daemon a journal: flock on a file of its own. Never on the database: closing any descriptor of a file drops all
  POSIX locks that SQLite holds on it.
- the reserve is 8 MiB that nobody else can take; it is given up when the disk is full, made again at the next start.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from fleet.core.errors import AnewError, Refused
from fleet.store.faults import JournalCorrupt

RESERVE_BYTES = 8 * 1024 * 1024
_MAGIC = b"SQLite format 3\x00"


class Lock:
    """Held from `take` to `release`, or until the process ends, however it ends."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def take(self) -> None:
        """Raises Refused naming the process that holds the journal."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(fd, 20).decode("ascii", "replace").strip()
            os.close(fd)
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise Refused(f"{who} already has this journal open: a fleet has one daemon; attach to that one, or end it",
                          where=self._path.removesuffix(".lock"), code="journal-locked") from error
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self._fd = fd

    def release(self) -> None:
        """Let go. The file stays: removing it would let two daemons lock two different files."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def make_folder(path: str) -> None:
    """Make the journal's folder 0700, or check that it is. Raises Refused with what to do."""
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        seen = os.stat(folder)
    except OSError as error:
        raise refusal(error, folder) from error
    if seen.st_uid != os.geteuid():
        raise Refused(f"the folder of the journal belongs to user id {seen.st_uid}, not to {os.geteuid()}: "
                      "run the daemon as its owner", where=folder)
    if seen.st_mode & 0o077:
        raise Refused(f"others may look into the folder of the journal (mode {stat.S_IMODE(seen.st_mode):04o}): "
                      f"run `chmod 700 {folder}`", where=folder)


def make_file(path: str) -> None:
    """Make an empty database file 0600, or check that what is there can be a journal. Raises as open_journal."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            raise Refused("the journal is not an ordinary file: move it away", where=path)
        if seen.st_uid != os.geteuid():
            raise Refused(f"the journal belongs to user id {seen.st_uid}, not to {os.geteuid()}: "
                          "run the daemon as its owner", where=path)
        if seen.st_mode & 0o077:
            os.fchmod(fd, 0o600)  # a backup restored with looser rights
        if seen.st_size and os.read(fd, len(_MAGIC)) != _MAGIC:
            raise JournalCorrupt("this file is not a journal, or its beginning was overwritten", where=path, opens=False)
    finally:
        os.close(fd)
    if not seen.st_size and _size(path + "-wal"):
        # SQLite would take the log for a leftover of an older database and remove it, with rows in it.
        raise JournalCorrupt("the journal is empty but rows of it are in its write-ahead log", where=path, opens=False)
    sync_folder(path)


def make_reserve(path: str) -> bool:
    """Set 8 MiB aside if they are not yet. False if the disk has no room for them."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, RESERVE_BYTES)
        os.fchmod(fd, 0o600)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        os.unlink(path)
        return False
    finally:
        os.close(fd)
    return True


def free_reserve(path: str) -> bool:
    """Give the reserve back to the disk. False if there was none."""
    try:
        os.truncate(path, 0)
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def sync_folder(path: str) -> None:
    """Make the names in the journal's folder durable."""
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def refusal(error: OSError, where: str) -> AnewError:
    """The sentence for a file system that says no while the journal is opened."""
    if error.errno == errno.ELOOP:
        return Refused("is a symbolic link, which the journal does not follow: put the file itself there", where=where)
    return Refused(f"the journal cannot be opened: {(error.strerror or 'unknown error').lower()}", where=where)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
