"""Starts a daemon for this user when a client finds none, as tmux starts its server; it then outlives the client."""

from __future__ import annotations

import os
import sys

from fleet.api.client import Client, DaemonUnreachable
from fleet.core.errors import AnewError, Invalid, Refused

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    import subprocess

START_SECONDS = 60.0
OTHER_SECONDS = 8.0
"""A daemon that was refused may have met another one that is still starting: so long its socket is waited for."""
REFUSED = 5
LOOK_SECONDS = 0.05
MAX_LOG = 4 * 1024 * 1024
TAIL = 8 * 1024
TAIL_LINES = 40
_ENVIRONMENT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "SSH_AUTH_SOCK", "PYTHONPATH", "PYTHONHASHSEED")
_PREFIXES = ("ANEW_", "XDG_", "LC_", "LIBVIRT_")
_KEPT_BACK = ("ANEW_FAILPOINT",)
"""A daemon that is to fail on purpose is started by hand (`anew daemon run`), never by a command that only needs one."""


def is_up(socket_path: str) -> bool:
    """Whether a daemon that we would speak to takes connections there. Refused if someone else's does."""
    try:
        Client(socket_path).daemon_pid()
    except DaemonUnreachable:
        return False
    return True


def ensure_daemon(socket_path: str, fleet: str, state: str, *, no_start: bool = False) -> bool:
    """Have a daemon listening at `socket_path`; True if it was started now, on `fleet` with its state in `state`.

    DaemonUnreachable if there is none and `no_start`, or if it does not listen within START_SECONDS; Invalid with the
    daemon's own words if it would not take the fleet file.
    """
    if is_up(socket_path):
        return False
    if no_start:
        raise DaemonUnreachable("no daemon listens there, and --no-start says not to start one", where=socket_path)
    if not os.path.exists(fleet):
        raise Invalid("there is no fleet file; write one, or name it with --fleet or ANEW_FLEET", where=fleet, code="no-fleet")
    make_state_folder(state)
    log_path = os.path.join(state, "daemon.log")
    with open(_open_log(log_path), "ab") as log:
        began = log.tell()
        _start_and_wait(socket_path, daemon_command(fleet, socket_path, state), log.fileno(), log_path, began)
    return True


def daemon_command(fleet: str, socket_path: str, state: str) -> list[str]:
    """The argv of a daemon; -P keeps the current folder off the module path."""
    return [sys.executable, "-P", "-m", "fleet.daemon", "--fleet", fleet, "--socket", socket_path, "--state", state]


def daemon_environment() -> dict[str, str]:
    """What a daemon inherits: no secret of this shell goes with it, but the agent's socket, which qemu+ssh needs."""
    return {key: value for key, value in os.environ.items() if key not in _KEPT_BACK and (key in _ENVIRONMENT or key.startswith(_PREFIXES))}


def make_state_folder(state: str) -> None:
    """The state folder, for this user alone. Invalid if it cannot be made, Refused if it is somebody else's."""
    before = os.umask(0o077)  # makedirs gives its mode only to the last folder, and a parent may be a state folder too
    try:
        os.makedirs(state, mode=0o700, exist_ok=True)
        found = os.stat(state)
    except OSError as error:
        raise Invalid(f"the state folder cannot be made: {error.strerror}", where=state) from error
    finally:
        os.umask(before)
    if found.st_uid != os.getuid():
        raise Refused("the state folder belongs to someone else; choose another with ANEW_STATE", where=state)


def _open_log(path: str) -> int:
    """The daemon's log, begun anew past MAX_LOG: one old log is kept."""
    try:
        if os.path.exists(path) and os.path.getsize(path) > MAX_LOG:
            os.replace(path, path + ".1")
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Invalid(f"the daemon's log cannot be written: {error.strerror}", where=path) from error


def _start_and_wait(socket_path: str, command: list[str], log: int, log_path: str, began: int) -> None:
    import subprocess
    import time

    daemon = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/", umask=0o077,
        env=daemon_environment(),
    )
    limit = time.monotonic() + START_SECONDS
    other = 0.0
    while time.monotonic() < limit:
        if is_up(socket_path):
            return _only(daemon, socket_path)
        ended = daemon.poll()
        if ended is not None:
            if is_up(socket_path):
                return None  # another client was quicker, ours saw the socket taken
            other = other or time.monotonic() + OTHER_SECONDS
            if ended == REFUSED and time.monotonic() < other:
                time.sleep(LOOK_SECONDS)
                continue
            raise _would_not(ended, _tail(log_path, began), log_path)
        time.sleep(LOOK_SECONDS)
    raise DaemonUnreachable(
        f"the daemon did not listen within {START_SECONDS:.0f} s; its last words: "
        f"{(_tail(log_path, began) or ['none'])[-1]}", where=log_path,
    )


def _only(daemon: subprocess.Popen[bytes], socket_path: str) -> None:
    """Where another client's daemon was quicker, ours ends: still on its way, it would take that one's place when it is stopped."""
    try:
        if daemon.poll() is None and Client(socket_path).daemon_pid() != daemon.pid:
            daemon.terminate()
    except DaemonUnreachable:
        pass  # it has ended meanwhile; what comes up now is what was asked for


def _would_not(ended: int, words: list[str], log_path: str) -> AnewError:
    """The error for a daemon that ended at once: its exit code and what it said."""
    said = "\n".join(words) if words else "it said nothing"
    if ended == 2:
        return Invalid(f"the daemon would not start:\n{said}", where=log_path, code="configuration")
    error = DaemonUnreachable(f"the daemon ended with {ended} at its start:\n{said}", where=log_path)
    error.exit_code = ended if ended == 5 else 6
    return error


def _tail(path: str, began: int) -> list[str]:
    """The last lines written since `began`."""
    try:
        with open(path, "rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(began, size - TAIL))
            return log.read(TAIL).decode("utf-8", "replace").splitlines()[-TAIL_LINES:]
    except OSError:
        return []
