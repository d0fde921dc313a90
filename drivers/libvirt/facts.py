"""Facts from inside a guest, through its agent.

Everything it says is a stranger's: capped, parsed, or unknown.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import Any, Final

from drivers.libvirt import api
from fleet.core.observed import Facts, ObservedRoot

PATIENCE: Final = 3
"""Seconds that libvirt waits for one reply of an agent."""

LARGEST_FILE: Final = 16 * 1024
LARGEST_REPLY: Final = 64 * 1024
LONGEST_WORD: Final = 120

Ask = Callable[[str, dict[str, Any]], Any]

_BOOT_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


class AgentTrouble(Exception):
    """The agent did not answer as it should; the text says how."""


def learn(domain: api.Domain) -> Facts:
    """Ask the agent of a running domain. Blocks for some seconds at most.

    Never raises for what a guest does.
    """

    def ask(command: str, arguments: dict[str, Any]) -> Any:
        text = json.dumps({"execute": command, "arguments": arguments} if arguments else {"execute": command})
        try:
            reply = api.agent_command(domain, text, PATIENCE)
        except api.LibvirtError as err:
            raise AgentTrouble("the guest agent does not answer") from err
        return parse_reply(reply)

    try:
        return gather(ask)
    except AgentTrouble as err:
        return Facts(note=str(err))


def gather(ask: Ask) -> Facts:
    """The facts, from three files of the guest. Raises AgentTrouble if not even the mounts are to be had."""
    root = root_mode(read_file(ask, "/proc/mounts"))
    note = ""
    try:
        release = os_release(read_file(ask, "/etc/os-release"))
        boot = read_file(ask, "/proc/sys/kernel/random/boot_id").strip()
    except AgentTrouble as err:
        release, boot, note = {}, "", str(err)
    return Facts(
        root=root,
        version=release.get("IMAGE_VERSION", ""),
        boot_id=boot if _BOOT_ID.match(boot) else "",
        os=release.get("PRETTY_NAME", ""),
        note=note,
    )


def parse_reply(reply: str) -> Any:
    """The `return` of an agent's JSON. Raises AgentTrouble for anything else."""
    if len(reply) > LARGEST_REPLY:
        raise AgentTrouble("the guest agent says more than it was asked for")
    try:
        value = json.loads(reply)
    except (ValueError, RecursionError) as err:
        raise AgentTrouble("the guest agent does not speak JSON") from err
    if not isinstance(value, dict) or "return" not in value:
        raise AgentTrouble("the guest agent's reply holds no answer")
    return value["return"]


def read_file(ask: Ask, path: str) -> str:
    """The first 16 KiB of a file in the guest, decoded with replacement."""
    handle = ask("guest-file-open", {"path": path, "mode": "r"})
    if not isinstance(handle, int) or isinstance(handle, bool):
        raise AgentTrouble(f"the guest agent does not open {path}")
    reply = ask("guest-file-read", {"handle": handle, "count": LARGEST_FILE})
    ask("guest-file-close", {"handle": handle})
    text = reply.get("buf-b64") if isinstance(reply, dict) else None
    if not isinstance(text, str):
        raise AgentTrouble(f"the guest agent does not read {path}")
    try:
        return base64.b64decode(text, validate=True)[:LARGEST_FILE].decode("utf-8", "replace")
    except (binascii.Error, ValueError) as err:
        raise AgentTrouble(f"the guest agent garbles {path}") from err


def root_mode(mounts: str) -> ObservedRoot:
    """How / is mounted by /proc/mounts (proc(5)): the last line for / is the one that is seen."""
    found: ObservedRoot = "unknown"
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) >= 4 and fields[1] == "/":
            kind, options = fields[2], fields[3].split(",")
            if kind in ("squashfs", "erofs") or "ro" in options:
                found = "read-only"
            else:
                found = "overlay" if kind == "overlay" else "writable"
    return found


def os_release(text: str) -> dict[str, str]:
    """KEY=VALUE lines of os-release(5), values unquoted, printable, cut to LONGEST_WORD characters."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.isascii() and key.isidentifier():
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
                value = value[1:-1]
            found[key] = "".join(c for c in value if c.isprintable())[:LONGEST_WORD]
    return found
