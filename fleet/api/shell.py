"""A person's shell on a server: the system's OpenSSH, told by files of our own where the server is and what proves it.

Rules
- All that the daemon says (a ShellWay) is judged here once more by its grammar; what does not fit is refused, never quoted.
- ssh reads one configuration, ours, from a folder of ours (0700) that goes away with it, and for each hop a known_hosts file of its pinned keys
  and nothing else. Another host key ends it before anybody logs in. Nothing is forwarded: no agent, no X11, no port.
- No word of the daemon's is an argument: argv is the same for every server, and no shell reads it. A jump host is ssh's own ProxyJump, which
  reads the same file; the one word that it puts into a line of its own, an address, is letters, digits, dots, dashes and colons.
- ctrl+c, ctrl+\\ and ctrl+z are ssh's while it runs; a stopped ssh is woken, for nobody could. A hang-up ends both. The terminal is put back as
  it was, and what was typed or answered meanwhile is thrown away: a server can make a terminal type.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
from contextlib import ExitStack, suppress

from fleet.core.errors import Refused
from fleet.core.printable import printable

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType
    from typing import Any, Self

FAILED = 255
"""How ssh itself ends if it did not come to a session, or lost it. A last command may have ended so, too."""
MOST_HOPS = 6
WORDS_CAP = 8 * 1024
_HOST = re.compile(r"[A-Za-z0-9:](?:[A-Za-z0-9.:-]{0,251}[A-Za-z0-9:])?")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_KEY = re.compile(r"(?:ssh|ecdsa|sk)-[a-z0-9@.-]{1,60} [A-Za-z0-9+/]{16,4000}={0,3}")
_PATH = re.compile(r"/[\w./@+,:=-]{1,1000}")
_OPTIONS = """\
  BatchMode no
  StrictHostKeyChecking yes
  GlobalKnownHostsFile none
  KnownHostsCommand none
  UpdateHostKeys no
  CheckHostIP no
  VerifyHostKeyDNS no
  ForwardAgent no
  ForwardX11 no
  ForwardX11Trusted no
  ClearAllForwardings yes
  GSSAPIDelegateCredentials no
  Tunnel no
  PermitLocalCommand no
  CanonicalizeHostname no
  ControlMaster no
  ControlPath none
  AddKeysToAgent no
  ConnectTimeout 25
  ServerAliveInterval 15
  ServerAliveCountMax 4
"""
_FAILURES = (
    (("Host key verification failed", "HOST IDENTIFICATION HAS CHANGED", "host key is known for", "Certificate invalid"),
     "showed another host key than the pinned one{jump}: nobody was logged in. Find out who answers there before you trust it"),
    (("Permission denied (", "Too many authentication failures"), "refused the login: none of your keys opens {way}{jump}. Put one into its authorized_keys, or into your agent"),
    (("refused",), "refused the connection at {way}{jump}"), (("timed out", "Timeout, server"), "did not answer at {way}{jump}"),
    (("No route", "unreachable"), "cannot be reached: there is no route to {way}{jump}"), (("Could not resolve",), "has a name that cannot be resolved, in {way}{jump}"),
    (("stdio forwarding failed",), "cannot be reached from its jump host"),
)
_STOPPED = (signal.SIGTTIN, signal.SIGTTOU)


class NoShell(Refused):
    """There is no ssh, or what the daemon said is nothing to log in by."""


def program() -> str:
    """The path of OpenSSH's client. NoShell if there is none."""
    found = shutil.which("ssh")
    if found is None:
        raise NoShell("there is no `ssh` program here; install OpenSSH's client (apt install openssh-client)", code="no-ssh")
    return os.path.abspath(found)


class Shell:
    """One session of a server, by a ShellWay: `with Shell(name, way) as shell: how = shell.wait()`. Entered and left on the main thread.

    `away`: the daemon is on another machine, and so is the key that it names; a file of that name here is another key.
    """

    def __init__(self, server: str, way: Mapping[str, Any], *, away: bool = False) -> None:
        self.server = server
        self._program = program()
        self._hops = _hops(server, way, away=away)
        self._folder = ""
        self._child: subprocess.Popen[bytes] | None = None
        self._terminal: list[Any] | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._said = b""
        self._tee: threading.Thread | None = None

    def __enter__(self) -> Self:
        try:
            self._begin()
        except OSError as problem:
            raise NoShell(f"ssh could not be started ({problem.strerror}); nobody was logged in", where=self.server, code="no-ssh") from None
        return self

    def _begin(self) -> None:
        with ExitStack() as undo:
            undo.callback(self._leave)
            self._folder = tempfile.mkdtemp(prefix="anew-shell-")
            for name, text in _files(self._hops).items():
                with open(os.path.join(self._folder, name), "w", encoding="utf-8", opener=_private) as file:
                    file.write(text)
            with suppress(termios.error, ValueError, OSError):
                self._terminal = termios.tcgetattr(sys.__stdin__.fileno())  # type: ignore[union-attr]
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):
                self._before[number] = signal.signal(number, _ignored)  # a function, not SIG_IGN, which ssh would inherit
            self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, nobody is told how a child ended
            for number in (signal.SIGHUP, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ended_by)
            self._child = subprocess.Popen([self._program, "-F", "config", "--", "anew-0"], cwd=self._folder, stderr=subprocess.PIPE)
            self._tee = threading.Thread(target=self._listen, daemon=True)
            self._tee.start()
            undo.pop_all()

    def __exit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        self._end()
        for number, before in self._before.items():
            signal.signal(number, before)
        if self._terminal is not None:
            with suppress(termios.error, ValueError, OSError):
                termios.tcsetattr(sys.__stdin__.fileno(), termios.TCSANOW, self._terminal)  # type: ignore[union-attr]
                termios.tcflush(sys.__stdin__.fileno(), termios.TCIFLUSH)  # type: ignore[union-attr]

    def wait(self) -> str:
        """Until ssh has ended: how, as a sentence. On any thread."""
        assert self._child is not None and self._tee is not None
        while True:
            _, status = os.waitpid(self._child.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                break
            if os.WSTOPSIG(status) in _STOPPED:
                self._child.send_signal(signal.SIGHUP)  # it is not at the terminal, and would stop for ever
            self._child.send_signal(signal.SIGCONT)
        self._child.returncode = os.waitstatus_to_exitcode(status)
        self._tee.join(1.0)
        return self._how(self._child.returncode)

    @property
    def failed(self) -> bool:
        """Whether there was no session, or it was cut off."""
        return self._child is None or self._child.returncode is None or self._child.returncode == FAILED or self._child.returncode < 0

    def _how(self, code: int) -> str:
        if code < 0:
            return f"The shell on {self.server} was ended by {signal.Signals(-code).name}."
        if code != FAILED:
            return f"The shell on {self.server} ended with exit status {code}."
        words = self._said.decode("utf-8", "replace")
        jump = ", or its jump host did" if len(self._hops) > 1 else ""
        why = next((said for marks, said in _FAILURES if any(mark in words for mark in marks)), "")
        if why:
            return f"{self.server} {why.format(way=self._hops[0].where, jump=jump)}."
        last = printable((words.strip().splitlines() or [""])[-1], 120)
        return f"The shell on {self.server} ended with exit status 255: the connection broke{f' ({last})' if last else ''}, or its last command ended so."

    def _listen(self) -> None:
        """What ssh says of itself is shown as it comes, and kept to tell why it failed. The session's own output does not come this way."""
        assert self._child is not None and self._child.stderr is not None
        stream = self._child.stderr.fileno()
        with suppress(OSError, ValueError):
            while data := os.read(stream, 4096):
                self._said = (self._said + data)[-WORDS_CAP:]
                os.write(2, data)

    def _end(self) -> None:
        if self._child is not None and self._child.returncode is None:
            with suppress(OSError):
                self._child.send_signal(signal.SIGHUP)
                self._child.send_signal(signal.SIGCONT)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    def _ended_by(self, number: int, _: FrameType | None) -> None:
        """The terminal hung up, or we are to end: so is ssh, and then we do as we would have done."""
        self._end()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


class _Hop:
    """A host on the way, its words judged."""

    def __init__(self, server: str, way: Mapping[str, Any], *, away: bool) -> None:
        self.host, self.user = _fitting(server, way, "host", _HOST), _fitting(server, way, "user", _USER)
        port, key = way.get("port"), way.get("key")
        if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
            raise _unfit(server, "port", port)
        self.port = port
        self.keys = [*_keys(server, way, "pins"), *(f"@{key}" for key in _keys(server, way, "authorities"))]
        if not self.keys:
            raise NoShell("no host key of it is pinned, so nobody is logged in to it; pin one with `anew machine pin`", where=server, code="not-pinned")
        readable = not away and isinstance(key, str) and _PATH.fullmatch(key) is not None and os.access(key, os.R_OK)
        self.identities = [str(key)] if readable else []
        self.sole = readable and way.get("sole") is True
        if readable and not self.sole:
            self.identities = [*(path for path in _own() if _PATH.fullmatch(path)), *self.identities]

    @property
    def where(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"

    def lines(self, number: int, last: bool) -> str:
        """Its part of the configuration."""
        lines = [f"Host anew-{number}", f"HostName {self.host}", f"HostKeyAlias {self.host}", f"Port {self.port}", f"User {self.user}",
                 f"UserKnownHostsFile known-{number}", *(f'IdentityFile "{path}"' for path in self.identities)]
        lines += ["IdentitiesOnly yes", "IdentityAgent none"] if self.sole else []
        lines += ["ProxyJump none" if last else f"ProxyJump anew-{number + 1}"]
        return "\n  ".join(lines) + "\n"

    def known(self) -> str:
        """Its known_hosts."""
        return "".join(f"@cert-authority * {key[1:]}\n" if key.startswith("@") else f"* {key}\n" for key in self.keys)


def _hops(server: str, way: Mapping[str, Any], *, away: bool) -> list[_Hop]:
    hops: list[_Hop] = []
    following: object = way
    while following is not None:
        if not isinstance(following, dict) or len(hops) == MOST_HOPS:
            raise _unfit(server, "jump", following)
        hops.append(_Hop(server, following, away=away))
        following = following.get("jump")
    return hops


def _files(hops: list[_Hop]) -> dict[str, str]:
    """Name -> text of what ssh reads."""
    last = len(hops) - 1
    config = "".join(hop.lines(number, number == last) for number, hop in enumerate(hops)) + "Host *\n" + _OPTIONS
    return {"config": config, **{f"known-{number}": hop.known() for number, hop in enumerate(hops)}}


def _own() -> list[str]:
    """The private keys that ssh would offer by itself; naming one more takes these away."""
    home = os.path.expanduser("~/.ssh")
    return [path for kind in ("ed25519", "ecdsa", "rsa", "ed25519_sk", "ecdsa_sk") if os.path.exists(path := f"{home}/id_{kind}")]


def _keys(server: str, way: Mapping[str, Any], name: str) -> list[str]:
    found = way.get(name)
    if not isinstance(found, list) or not all(isinstance(key, str) and _KEY.fullmatch(key) for key in found):
        raise _unfit(server, name, found)
    return list(found)


def _fitting(server: str, way: Mapping[str, Any], name: str, grammar: re.Pattern[str]) -> str:
    value = way.get(name)
    if not isinstance(value, str) or not grammar.fullmatch(value):
        raise _unfit(server, name, value)
    return value


def _unfit(server: str, name: str, value: object) -> NoShell:
    return NoShell(f"the daemon's {name} of it, {printable(repr(value), 80)}, is nothing that ssh could safely be told; nobody was logged in", where=server, code="bad-way")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def _ignored(_number: int, _frame: FrameType | None) -> None:
    """It is ssh's."""


__all__ = ["NoShell", "Shell", "program"]
