"""Opens the terminal UI: finds it by entry point, and gives it what the user's own file and the environment say.

The user's file is `anew/terminal.toml` below XDG_CONFIG_HOME: `theme`, `ascii`, and a table `[keys]` of action = "key" or ["key", "another"].
ANEW_THEME and ANEW_ASCII come before it.
"""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING, Any

from fleet.api.client import terminal_name
from fleet.api.places import find_state, user_config
from fleet.cli.context import Context
from fleet.registry import load_tui

if TYPE_CHECKING:
    from fleet.engine.replay import Film, Reel

MAX_FILE = 64 * 1024


def open_tui(context: Context) -> int:
    """The terminal UI on the daemon of this context; its exit code."""
    client = context.client  # before the screen is drawn: what is in the way is told on the line
    options = {**_options(), "terminal": client.terminal}
    if context.far is None:
        return load_tui()(client.socket_path, options, reel=_reel)
    return load_tui()(client.socket_path, {**options, "on": context.far.name}, reel=_reel, trouble=context.far.trouble)


def open_view(socket: str, terminal: str) -> int:
    """The terminal UI behind a page in a browser (`anew web`): it looks on, under that name of a terminal; its exit code."""
    return load_tui()(socket, {**_options(), "terminal": terminal, "web": "yes"}, reel=_reel)


def open_replay(film: Film) -> int:
    """The terminal UI on a film, and on no daemon; its exit code."""
    return load_tui()("", _options(), film=film)


def _reel(rollout: str) -> Reel:
    """What the terminal UI reads a rollout's past with; imported when it is asked for."""
    from fleet.engine.replay import Reel

    return Reel(rollout)


def _options() -> dict[str, str]:
    options = {"terminal": terminal_name(), "state_dir": find_state()[0], "history": os.path.join(find_state()[0], "history"), **from_file(user_config("terminal.toml"))}
    if chosen := os.environ.get("ANEW_THEME"):
        options["theme"] = chosen
    if plain := os.environ.get("ANEW_ASCII"):
        options["ascii"] = "no" if plain.lower() in ("0", "no", "false") else "yes"
    return options


def from_file(path: str) -> dict[str, str]:
    """The file's options, flat; none if there is no file. What is wrong with it is told by the UI (`problems`, a line each) and keeps
    nobody from opening it: a rollout cannot wait for a comma.
    """
    try:
        with open(path, "rb") as file:
            found = tomllib.loads(file.read(MAX_FILE).decode())
    except FileNotFoundError:
        return {}
    except OSError as error:
        return {"problems": f"{path} cannot be read, so nothing of it holds: {error.strerror}."}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return {"problems": f"{path} is not TOML, so nothing of it holds: {error}."}
    options: dict[str, str] = {}
    problems: list[str] = []
    for key, value in found.items():
        if key == "theme" and isinstance(value, str):
            options[key] = value
        elif key == "ascii" and isinstance(value, bool):
            options[key] = "yes" if value else "no"
        elif key == "keys" and isinstance(value, dict):
            options.update(_keys(value, problems, path))
        else:
            problems.append(f'{path}: {key} must be theme = "NAME", ascii = true or false, or a table [keys].')
    return {**options, "problems": "\n".join(" ".join(words.split()) for words in problems)} if problems else options


def _keys(table: dict[str, Any], problems: list[str], path: str) -> dict[str, str]:
    """`[keys]`: action = "key", or several in a list."""
    options: dict[str, str] = {}
    for action, value in table.items():
        names = value if isinstance(value, list) else [value]
        if names and all(isinstance(name, str) and name.strip() for name in names):
            options[f"keys.{action}"] = " ".join(names)
        else:
            problems.append(f'{path}: keys.{action} must be the name of a key as a text, or a list of such.')
    return options
