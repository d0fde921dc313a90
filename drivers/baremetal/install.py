"""First install: a blank disk of a host that was booted from a live system becomes the disk of an A/B host.

Rules (docs/host-protocol.md, *First install*)
- The live system is reached like any machine: with a pinned host key, its own. The installed system gets a new one, made there;
  its public half comes back, for a person to pin.
- The program (the helper with `layout` in it) and its orders go into the live system's memory, then the bundle goes to the
  program's standard input, by a child process of OpenSSH. The program refuses before it writes one byte, or begins.
- Only keys that are named here are let into the installed system: anew's own with nothing but the helper's verbs, people's plain.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final, Protocol

from drivers.baremetal import carried, protocol, words
from drivers.baremetal.births import bundle_of, path_of
from drivers.baremetal.child import OpenSsh
from drivers.baremetal.protocol import Frame
from drivers.identity import public_of
from drivers.refusals import Refusals, obstacle
from drivers.remotes import Answer, Remote
from fleet.core.desired import Machine, Pool
from fleet.core.errors import Permanent, Refused, Transient
from fleet.core.observed import Image
from fleet.core.printable import printable
from fleet.ports import Operation

LAST_LINE: Final = b'main "$@"; exit\n'
PREPARE: Final = 60.0
LOOKING: Final = 900.0
"""Seconds that the program may read a disk, to see that it is blank, before it takes a byte of the bundle."""
AUTHORIZED: Final = re.compile(r"(?:ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+(?: [ -~]*)?")
HOST_KEY: Final = re.compile(r"ssh-ed25519 [A-Za-z0-9+/=]{60,80}")
FINGERPRINT: Final = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


class Sessions(Protocol):
    """What is needed of `drivers.ssh.SshSessions`."""

    refusals: Refusals

    async def run(self, remote: Remote, command: str, deadline: float, cap: int = ..., input: bytes = b"") -> Answer: ...

    def key_of(self, remote: Remote) -> str: ...

    def pins_of(self, remote: Remote) -> tuple[str, ...]: ...


@cache
def program() -> bytes:
    """The helper with the verb `layout`, which the one in images only refuses."""
    helper = carried.program()
    if not helper.endswith(LAST_LINE):
        raise Permanent("anew's helper for hosts does not end as it should; this installation of anew is damaged", where="anew-host")
    return helper.removesuffix(LAST_LINE) + (Path(__file__).parent / "layout").read_bytes() + LAST_LINE


async def install(sessions: Sessions, state_dir: str, remote: Remote, machine: Machine, pool: Pool, image: Image, disk: str,
                  jumps: bool, born: float, op: Operation) -> str:
    """Write the layout and the image. `jumps`: whether other machines are reached through this one; `born`: engine time.

    Returns a sentence with the host key to pin. Raises Refused for a disk that is not the named, blank one: nothing was written.
    """
    if not disk or disk != machine.disk:
        raise Refused(f"the fleet file names disk {machine.disk or 'nowhere'}, not {printable(disk, 64) or 'that'}; nothing was written",
                      where=machine.name, code="wrong-disk")
    bundle, what = bundle_of(image), image.ref
    keys = _authorized(sessions.key_of(remote), pool, jumps)
    folder = f"/run/anew/install-{op.id}"
    line = words.layout(op, disk, bundle.sha256, bundle.size, what.digest, what.version, machine.name).arguments
    await _prepare(sessions, remote, folder, orders(born, keys))
    op.tell(f"looks whether disk {disk} is blank")
    child = OpenSsh(_own_folder(state_dir), sessions)
    ended = await child.send(remote, " ".join((*_sudo(remote.user), "sh", f"{folder}/program", "layout", *line)), path_of(image), 0, bundle.size,
                             lambda sent: op.tell(f"{sent // 2**20} of {bundle.size // 2**20} MiB brought"), LOOKING)
    frame = protocol.require(protocol.parse(ended.output, machine.name, words=ended.errors[:512].decode("utf-8", "replace")), machine.name)
    return _sentence(frame, machine, image, disk)


def orders(born: float, keys: Iterable[str]) -> bytes:
    """What lies beside the program: `born N`, then `key LINE` for each authorized key."""
    return "\n".join([f"born {int(born)}", *(f"key {key}" for key in keys), ""]).encode()


def _authorized(own: str, pool: Pool, jumps: bool) -> Sequence[str]:
    """Lines of authorized_keys. anew's own key may call the helper only, unless a health check of the pool runs commands."""
    lines = []
    if own:
        plain = any(check.kind == "ssh" for check in pool.health)
        limits = ["restrict", *(["port-forwarding"] if jumps else []), *([] if plain else ['command="anew-host"'])]
        lines.append(f"{','.join(limits)} {_one_line(public_of(own))}")
    lines += [_one_line(key) for key in pool.authorized_keys]
    if not lines:
        raise Refused(f"nobody could log in afterwards: the key is an agent's, and pools.{pool.name}.authorized_keys is empty; name keys there",
                      where=pool.name, code="no-key")
    return lines


def _one_line(key: str) -> str:
    key = key.strip()
    if not AUTHORIZED.fullmatch(key):
        raise Refused("this is no public key that sshd takes; it looks like 'ssh-ed25519 AAAA… name'", where=printable(key, 40), code="key")
    return key


def _sudo(user: str) -> tuple[str, ...]:
    return () if user == "root" else ("sudo", "-n")


async def _prepare(sessions: Sessions, remote: Remote, folder: str, text: bytes) -> None:
    """Program and orders into the live system's memory, readable by root alone."""
    script = f"umask 077 && mkdir -p {folder} && dd bs=1 count={len(text)} of={folder}/orders 2>/dev/null && cat >{folder}/program && wc -c <{folder}/program"
    answer = await sessions.run(remote, " ".join((*_sudo(remote.user), "sh", "-c", f"'{script}'")), PREPARE, input=text + program())
    if answer.status == 0 and answer.output.split()[-1:] == [str(len(program())).encode()]:
        return
    known = obstacle(remote, answer.status, answer.output, answer.errors)
    raise known or Permanent("it does not take the installer: it needs a shell, root rights (or sudo without a password), and room in /run",
                             where=str(remote), code="no-room")


def _own_folder(state_dir: str) -> str:
    folder = os.path.join(state_dir, "baremetal", "install")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as problem:
        raise Permanent(f"cannot be made ({problem.strerror}); make it writable for anew's user", where=folder) from None
    return folder


def _sentence(frame: Frame, machine: Machine, image: Image, disk: str) -> str:
    """What was done, with the one thing that a person must do now."""
    key, print_of = frame.value("host_key"), frame.value("fingerprint")
    if not HOST_KEY.fullmatch(key) or not FINGERPRINT.fullmatch(print_of):
        raise Transient("it says that all is written, and names no host key; run its installation again", where=machine.name)
    return (f"{image.ref} is on disk {disk} of {machine.name}. From its next boot on its host key is {print_of}: set host_key = \"{key}\" in "
            f"[machines.{machine.name}], `anew reload`, and restart it from that disk")


def reached_through(machines: Mapping[str, Machine], name: str) -> bool:
    """Whether another machine's way leads through this one."""
    return any(machine.jump == name for machine in machines.values())


__all__ = ["install", "orders", "program", "reached_through"]
