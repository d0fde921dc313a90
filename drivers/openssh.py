"""What a person's OpenSSH would do for a destination: `ssh -G` is asked, so that configuration files mean here what they mean there.

Rules
- Nothing of a configuration file is parsed here but the flat answer of `ssh -G`: Host, Match, Include and canonical names are ssh's own.
- `StrictHostKeyChecking`, whatever it says, counts as `yes`: who answers with a key that no file knows is never spoken to. A file of known
  hosts that is not there knows nobody.
- A destination begins with no dash and has no character that means something to a shell, for ProxyCommand is one.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from dataclasses import dataclass

from fleet.core.errors import Invalid, Refused

ASK_SECONDS = 20.0
MOST = 256 * 1024
MOST_JUMPS = 4
PORT = 22
_DESTINATION = re.compile(r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,63})@)?"
                          r"(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?)\]|(?P<host>[A-Za-z0-9_][A-Za-z0-9._-]{0,252}))(?::(?P<port>[0-9]{1,5}))?")
_TOKEN = re.compile(r"%(.)|\$\{([A-Za-z0-9_]+)\}")


@dataclass(frozen=True, slots=True)
class Destination:
    """`[user@]host[:port]` as typed; "" and 0 for what was left out."""

    host: str
    user: str = ""
    port: int = 0

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{f'{self.user}@' if self.user else ''}{host}{f':{self.port}' if self.port else ''}"


@dataclass(frozen=True, slots=True)
class Settings:
    """How one hop is reached. `agent`: path of its socket, "" for none; `proxy`: a shell's line, "" for none; `patience`: seconds, 0 if not set."""

    typed: Destination
    host: str
    port: int
    user: str
    alias: str
    known_hosts: tuple[str, ...]
    revoked: str
    keys: tuple[str, ...]
    certificates: tuple[str, ...]
    only_these: bool
    agent: str
    jumps: tuple[Destination, ...]
    proxy: str
    compressed: bool
    alive: int
    patience: float

    def __str__(self) -> str:
        return f"{self.typed.host} ({self.user}@{self.host}:{self.port})" if self.typed.host != self.host else f"{self.user}@{self.host}:{self.port}"

    @property
    def looked_up(self) -> str:
        """The name that known_hosts has it by."""
        return self.alias or (self.host if self.port == PORT else f"[{self.host}]:{self.port}")


def destination(typed: str, where: str = "--on") -> Destination:
    """Of `[user@]host[:port]`; the host may be a name of ~/.ssh/config. Invalid if it is none."""
    found = _DESTINATION.fullmatch(typed)
    if found is None or not 0 <= (port := int(found["port"] or 0)) < 65536 or (found["port"] is not None and not port):
        raise Invalid(f"write it as [USER@]HOST[:PORT], an IPv6 address as [ADDRESS]; not {typed[:80]!a}", where=where, code="usage")
    return Destination(found["six"] or found["host"], found["user"] or "", port)


def settings_of(to: Destination) -> Settings:
    """What ssh would do for it. Invalid with ssh's words if it would not, Refused if there is no ssh."""
    command = ["ssh", "-G", *(["-l", to.user] if to.user else []), *(["-p", str(to.port)] if to.port else []), "--", to.host]
    try:
        asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ASK_SECONDS, check=False)
    except FileNotFoundError:
        raise Refused("OpenSSH's `ssh` reads the configuration for --on, and it is not here; install openssh-client", code="no-ssh") from None
    except subprocess.TimeoutExpired:
        raise Invalid(f"`ssh -G` did not end in {ASK_SECONDS:.0f} s; is there a `Match exec` in your configuration that hangs?", where=str(to), code="ssh-config") from None
    if asked.returncode:
        said = " ".join(asked.stderr[:2000].decode("utf-8", "replace").split())
        raise Invalid(f"ssh cannot use its configuration: {said[:300]!a}", where=str(to), code="ssh-config")
    return _settings(to, _answer(asked.stdout[:MOST].decode("utf-8", "replace")))


def way_of(to: Destination, depth: int = 0) -> tuple[Settings, ...]:
    """The hops to it, the nearest first. The first jump host may have one of its own, as with ssh. Refused if that does not end."""
    last = settings_of(to)
    if not last.jumps:
        return (last,)
    if depth > MOST_JUMPS:
        raise Invalid("its way over jump hosts does not end; look at ProxyJump in your SSH configuration", where=str(to), code="ssh-config")
    return (*way_of(last.jumps[0], depth + 1), *(settings_of(hop) for hop in last.jumps[1:]), last)


def _answer(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key, []).extend([] if value.strip().lower() == "none" else [value.strip()])
    return found


def _settings(to: Destination, said: dict[str, list[str]]) -> Settings:
    def one(key: str, otherwise: str = "") -> str:
        return next(iter(said.get(key, [otherwise])), "")

    host, user, port, home = one("hostname", to.host).lower(), one("user"), _number(one("port"), PORT), os.path.expanduser("~")
    local = socket.gethostname()
    tokens = {"%": "%", "d": home, "h": host, "n": to.host, "p": str(port), "r": user, "u": os.environ.get("USER", ""), "i": str(os.getuid()),
              "l": local, "L": local.partition(".")[0], "k": one("hostkeyalias", host)}

    def path(value: str) -> str:
        return os.path.expanduser(_expand(value, tokens, to))

    agent = one("identityagent", "SSH_AUTH_SOCK")
    hops = [hop.strip().removeprefix("ssh://") for hop in one("proxyjump").split(",") if hop.strip()]
    if len(hops) > MOST_JUMPS:
        raise Invalid(f"ProxyJump names {len(hops)} hosts; at most {MOST_JUMPS} are gone through", where=str(to), code="ssh-config")
    return Settings(
        to, host, port, user, one("hostkeyalias"),
        tuple(path(name) for key in ("userknownhostsfile", "globalknownhostsfile") for line in said.get(key, []) for name in line.split()),
        path(one("revokedhostkeys")),
        tuple(path(name) for name in said.get("identityfile", [])), tuple(path(name) for name in said.get("certificatefile", [])),
        one("identitiesonly") == "yes",
        os.environ.get("SSH_AUTH_SOCK", "") if agent == "SSH_AUTH_SOCK" else os.environ.get(agent[1:], "") if agent.startswith("$") and "{" not in agent else path(agent),
        tuple(destination(hop, "ProxyJump") for hop in hops), _expand(one("proxycommand"), tokens, to),
        one("compression") == "yes", _number(one("serveraliveinterval"), 0), float(_number(one("connecttimeout"), 0)),
    )


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else otherwise


def _expand(value: str, tokens: dict[str, str], to: Destination) -> str:
    """OpenSSH's %-tokens and ${VARIABLES}."""
    def of(found: re.Match[str]) -> str:
        try:
            return tokens[found[1]] if found[1] else os.environ[found[2]]
        except KeyError:
            raise Invalid(f"{value[:80]!a} in the SSH configuration has {found[0]}, which is not known here", where=str(to), code="ssh-config") from None
    return _TOKEN.sub(of, value)


__all__ = ["Destination", "Settings", "destination", "way_of"]
