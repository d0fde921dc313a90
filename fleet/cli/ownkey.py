"""`anew machine key`: the public half of anew's own SSH key, for `authorized_keys` on hosts. Needs no daemon, and starts none.

Rules
- It is the key of the daemon that runs, else of the one that this command's like would start; it is made here if there is none.
- Only the user whose state folder it is asks for it: root's key in another user's folder could not be read by that user's daemon.
"""

from __future__ import annotations

import os
import pwd

from fleet.api.places import find_state
from fleet.api.start import is_up, make_state_folder
from fleet.cli.context import Context
from fleet.core.errors import Refused
from fleet.registry import load_connector

RESTRICTED = 'restrict,command="anew-host"'
"""What sshd lets this key do on a machine: call the helper, and nothing else."""


def show(context: Context) -> int:
    """Print it, in one line."""
    folder = os.path.join(_state(context), "identities")
    had = os.path.exists(os.path.join(folder, "client"))
    connector = load_connector()
    key = connector.own_key(folder)
    if not had:
        context.note(f"anew had no key yet; it is now in {folder}")
    line = f"{RESTRICTED} {key}"
    if context.as_json:
        context.data({"key": key, "fingerprint": connector.fingerprint(key), "authorized_keys": line})
    else:
        context.say(line if context.options.authorized_keys else key)
    return 0


def _state(context: Context) -> str:
    """The state folder of the daemon, as it makes it."""
    state = str(context.running().get("/v1/info")["paths"]["state"]) if is_up(context.socket) else find_state()[0]
    try:
        owner = os.stat(state).st_uid
    except OSError:
        make_state_folder(state)
        return state
    if owner != os.geteuid():
        name = _name(owner)
        raise Refused(f"this state folder is of user {name}, and so is the key in it; as root: sudo -u {name} anew machine key",
                      where=state, code="not-yours")
    return state


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
