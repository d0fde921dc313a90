"""Replacing a fleet file by a changed one: whole or not at all, never by one that is worse than what was there.

Written aside in the same folder, synced, loaded as it would be used, and only then renamed over the old one; the folder is
synced, too. Owner and mode stay. A symbolic link, a file with other names, or one that somebody changes meanwhile is refused.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from fleet.core.errors import Refused
from fleet.settings.load import LARGEST_FILE, load
from fleet.settings.problems import Problem, SettingsInvalid


def rewrite(path: str, change: Callable[[str], str]) -> tuple[Problem, ...]:
    """Replace the text of a fleet file by `change(text)`; what was wrong with the file before and still is.

    A change that makes anything wrong that was right is refused with SettingsInvalid; whatever is raised, the file is as before.
    """
    path = os.path.abspath(path)
    with _held(path) as descriptor:
        found = os.fstat(descriptor)
        data = _read(descriptor, path)
        try:
            fresh = change(data.decode("utf-8")).encode("utf-8")
        except UnicodeDecodeError:
            raise Refused("this is not UTF-8 text", where=path) from None
        before = _problems(path, path)
        aside, left = _write_aside(path, fresh, found), True
        try:
            after = _problems(aside, path)
            known = {(problem.key, problem.found) for problem in before}
            if worse := [problem for problem in after if (problem.key, problem.found) not in known]:
                raise SettingsInvalid(worse)
            _unchanged(path, descriptor, found, data)
            os.rename(aside, path)
            left = False
        except OSError as wrong:
            raise Refused(f"the file could not be replaced ({wrong.strerror}); nothing was changed", where=path) from None
        finally:
            if left:
                _drop(aside)
        _sync_folder(path)
    return after


def read_text(path: str) -> str:
    """The text of a fleet file that `rewrite` would take."""
    with _held(os.path.abspath(path)) as descriptor:
        try:
            return _read(descriptor, path).decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("this is not UTF-8 text", where=path) from None


@contextmanager
def _held(path: str) -> Iterator[int]:
    """The file, open and locked against others who change it by this module."""
    if os.path.islink(path):
        raise Refused(f"this is a symbolic link, and replacing it would cut it off from {os.path.realpath(path)}; name that file with --fleet",
                      where=path, code="link")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as wrong:
        raise Refused(f"the fleet file cannot be read ({wrong.strerror}); name one with --fleet FILE or ANEW_FLEET", where=path) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Refused("this is no file", where=path)
        if found.st_nlink > 1:
            raise Refused("this file has another name (a hard link), from which a changed one would be cut off; remove one of the two",
                          where=path, code="link")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused("another command is changing this file; try again", where=path, code="busy") from None
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int, path: str) -> bytes:
    data = os.pread(descriptor, LARGEST_FILE + 1, 0)
    if len(data) > LARGEST_FILE:
        raise Refused("this file is larger than 1 MiB, as no fleet file is", where=path)
    return data


def _problems(path: str, name: str) -> tuple[Problem, ...]:
    """What is wrong with the file at `path`, told as of `name`."""
    try:
        load(path)
    except SettingsInvalid as wrong:
        return tuple(replace(problem, file=name) for problem in wrong.problems)
    return ()


def _write_aside(path: str, data: bytes, like: os.stat_result) -> str:
    aside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{secrets.token_hex(8)}.new")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as wrong:
        raise Refused(f"nothing can be written beside this file ({wrong.strerror}); do this as its owner", where=path) from None
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, like.st_uid, like.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
            os.fsync(descriptor)
    except OSError as wrong:
        _drop(aside)
        raise Refused(f"the changed file could not be written ({wrong.strerror}); nothing was changed", where=path) from None
    return aside


def _drop(aside: str) -> None:
    with suppress(OSError):
        os.unlink(aside)


def _unchanged(path: str, descriptor: int, found: os.stat_result, data: bytes) -> None:
    """The name still means the file that was read, and it still says the same."""
    now = os.stat(path, follow_symlinks=False)
    if (now.st_dev, now.st_ino) != (found.st_dev, found.st_ino) or _read(descriptor, path) != data:
        raise Refused("somebody changed this file meanwhile; nothing was written, try again", where=path, code="busy")


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
