"""`anew machine add · pin`: a host's key is shown, a person says that it is the right one, and the fleet file gets it.

Rules
- Nothing is trusted on first use by itself: a person types the machine's name, or gives the fingerprint as it is known from
  elsewhere. There is no --yes for trust.
- Only the key exchange happens with the host; nothing is authenticated to it, and nothing is sent.
- The fleet file keeps every other byte; see fleet/settings/rewrite.py.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable

from fleet.api.places import find_fleet, find_state
from fleet.api.start import is_up, make_state_folder
from fleet.cli.context import Context
from fleet.cli.text import count
from fleet.core.desired import Desired
from fleet.core.errors import AnewError, Invalid, Refused
from fleet.registry import Connector, load_connector
from fleet.settings import Problem, load
from fleet.settings.edit import check_machine, raw_of, with_machine, with_pin
from fleet.settings.rewrite import read_text, rewrite

LOOK_SECONDS = 20.0
_FINGERPRINT = re.compile(r"(?:\S+ )?(SHA256:[A-Za-z0-9+/]{43})=?")


def add(context: Context) -> int:
    """Show the key at an address, have it trusted, and write the machine into the fleet file."""
    options, path = context.options, _file(context)
    name, wanted = options.machine, _wanted(options.fingerprint)
    values: dict[str, str | int] = {"address": options.address}
    given = {"port": options.port, "user": options.user, "jump": options.jump, "key": _beside_here(options.key), "disk": options.disk,
             "console": _beside_here(options.console)}
    values |= {key: value for key, value in given.items() if value is not None}
    check_machine(name, values)
    with_machine(read_text(path), name, values)  # a name that is taken, or a file that cannot be changed, is told before anybody is asked
    connector = load_connector()
    key = _shown(connector, str(options.address), int(options.port or 22), options.jump, path)
    _trust(context, connector, name, f"{options.address}, port {options.port or 22},", key, wanted)
    left = rewrite(path, lambda text: with_machine(text, name, {**values, "host_key": key}))
    return _tell(context, path, name, connector.fingerprint(key), f"{name} is in {path}", left)


def pin(context: Context) -> int:
    """The same for a machine that the fleet file has: its table gets the key, in the place of an older one."""
    path, name, wanted = _file(context), context.options.machine, _wanted(context.options.fingerprint)
    machine = _desired(path).machines.get(name)
    if machine is None:
        raise Invalid(f"there is no machine {name} in this file; `anew machine add {name} ADDRESS` writes one", where=path, code="unknown-machine")
    connector = load_connector()
    key = _shown(connector, machine.address, machine.port, machine.jump, path)
    if key == machine.host_key:
        if wanted:
            _compare(connector.fingerprint(key), wanted, name)
        return _tell(context, path, name, connector.fingerprint(key), f"{name} shows the key that is pinned; nothing was changed", None)
    if machine.host_key:
        context.note(f"pinned until now: {connector.fingerprint(machine.host_key)}")
        context.note("The host shows ANOTHER key. Either it was installed anew, or something else answers in its place.")
    _trust(context, connector, name, f"{machine.address}, port {machine.port},", key, wanted)
    left = rewrite(path, lambda text: with_pin(text, name, key))
    return _tell(context, path, name, connector.fingerprint(key), f"the key of {name} is pinned in {path}", left)


def _file(context: Context) -> str:
    path = find_fleet(getattr(context.options, "fleet", None))[0]
    raw_of(read_text(path))
    return path


def _desired(path: str) -> Desired:
    return load(path)


def _beside_here(path: str | None) -> str | None:
    """A path typed at a shell is relative to where one stands, not to the fleet file."""
    return None if path is None else os.path.abspath(os.path.expanduser(path))


def _wanted(given: str | None) -> str:
    if given is None:
        return ""
    match = _FINGERPRINT.fullmatch(given.strip())
    if match is None:
        raise Invalid("write it as `ssh-keygen -lf` prints it: SHA256: and 43 characters", where="--fingerprint", code="usage")
    return match[1]


def _shown(connector: Connector, address: str, port: int, jump: str | None, path: str) -> str:
    if not jump:
        return asyncio.run(connector.shown(address, port, LOOK_SECONDS))
    state = find_state()[0]
    make_state_folder(state)  # anew's own key may be made here, and the daemon takes no folder that others can read
    return asyncio.run(connector.shown(address, port, LOOK_SECONDS, connector.remote_of(jump, _desired(path)), os.path.join(state, "identities")))


def _trust(context: Context, connector: Connector, name: str, where: str, key: str, wanted: str) -> None:
    """Compare with what is known from elsewhere, else have a person say that it is the right one. Refused otherwise."""
    shown = connector.fingerprint(key)
    if wanted:
        _compare(shown, wanted, name)
        return
    context.note(f"{where} shows this host key:")
    context.note(f"  {shown}")
    context.note("Compare it with what the machine says of itself, at its console: ssh-keygen -lf /etc/ssh/"
                 f"ssh_host_{_file_word(shown.split()[0])}_key.pub")
    context.confirm(f"Is this {name}?", name, instead="--fingerprint SHA256:… compares with what you know from elsewhere")


def _compare(shown: str, wanted: str, name: str) -> None:
    kind, _, found = shown.partition(" ")
    if found != wanted:
        raise Refused(f"the host shows its {kind} key with {found}, not {wanted}; nothing was written. If the fingerprint you have is of "
                      "another of its keys, get that of this one", where=name, code="fingerprint")


def _file_word(kind: str) -> str:
    return "ecdsa" if kind.startswith("ecdsa") else kind.removeprefix("ssh-")


def _tell(context: Context, path: str, name: str, fingerprint: str, words: str, left: tuple[Problem, ...] | None) -> int:
    """Say what was done, and have a daemon that keeps this file read it. `left`: what is still wrong with it; None: not changed."""
    say: Callable[[str], None] = context.note if context.as_json else context.say
    say(words)
    if left:
        say(f"the file cannot be used yet, {count(len(left), 'problem')} stood there before: {left[0]}")
    elif left is not None:
        say(_in_force(context, path))
    if context.as_json:
        context.data({"machine": name, "fingerprint": fingerprint, "file": path, "changed": left is not None})
    return 0


def _in_force(context: Context, path: str) -> str:
    if not is_up(context.socket):
        return "no daemon runs; the next one reads it"
    client = context.running()
    try:
        kept = str(client.get("/v1/info").get("paths", {}).get("fleet", ""))
        if os.path.realpath(kept) != os.path.realpath(path):
            return f"the daemon that runs keeps another fleet file, {kept}"
        return str(client.command("settings.reload")["message"])
    except AnewError as error:
        return f"not in force yet ({error}); `anew reload` tries again"
