"""Writes docs/cli.md from the table of commands: `python -m fleet.cli.reference > docs/cli.md`. A test holds it fresh."""

from __future__ import annotations

from collections.abc import Iterator

from fleet.cli.tree import COMMANDS, OVERRIDES, SHARED, Option, Word
from fleet.cli.variables import READ, SET
from fleet.cli.wait import EXIT_BY_STATE

_HEAD = """\
# Commands

<!-- written by `python -m fleet.cli.reference`; edit fleet/cli/tree.py and fleet/cli/reference.py instead -->

`anew` alone opens the terminal UI, and needs a terminal: without one it prints help and ends with 2. Every view and verb
of the UI is also a command, for scripts. stdout is for data, stderr for everything else; text that came from servers,
images or people never brings a control byte to your terminal. Times are shown in your zone, ages as `6d 4h`.

A command that finds no daemon starts one for its user, which then outlives it; `--no-start` forbids that. Ending a
command, a terminal or an SSH session never touches a rollout: it lives in the daemon.

With `--on HOST` a command, or the terminal UI, speaks to the daemon of another machine, over SSH ([remote](remote.md)). Files that it
writes are written here. None is started there, and what is about this machine (`daemon run`, `machine add`, `lab` …) is refused.

## Options of all commands

They may stand before or after the command.
"""

_QUESTIONS = """\
## Questions

Commands that change more than one server show their plan and have its number typed; for one server `y` will do. `--yes`
skips the question. Without a terminal there is no question: the command is refused with 2 and names `--yes`. What the
plan was made for is checked again by the daemon when it starts: if the fleet has changed since, it is refused with 5.
`--plan HASH` refuses at once if the plan is not the one that was looked at.
"""

_JSON = """\
## JSON

`--json` prints one JSON document (`journal show`, `follow`, `export` and `replay`: one a line), with the shapes of [api.md](api.md).
Errors are `{"error": {"code", "message", "where", "exit_code"}}` on stdout, with the message on stderr as well.
`anew status --json` carries `schema_version` 1; fields are only ever added.
"""

_PLACES = """\
## Where things are

| what | first of |
| --- | --- |
| fleet file | `--fleet`, `ANEW_FLEET`, `$XDG_CONFIG_HOME/anew/fleet.toml` (`~/.config`), `/etc/anew/fleet.toml` |
| socket | `--socket`, `ANEW_SOCKET`, `$ANEW_STATE/anew.sock`, `$XDG_RUNTIME_DIR/anew/anew.sock`, `anew.sock` in the state folder; `/run/anew/anew.sock` if only that exists |
| socket, with `--on` | on the other machine: `--socket`, `/run/anew/anew.sock` if it answers, the user's |
| state | `ANEW_STATE`, `$XDG_STATE_HOME/anew` (`~/.local/state`): journal, daemon.log, identities |
| terminal UI | `ANEW_THEME`, `ANEW_ASCII`, `$XDG_CONFIG_HOME/anew/terminal.toml`: `theme`, `ascii`, `[keys]` with `action = "key"` |

`anew info` prints each of them and where it came from. The demo keeps its own state and socket in `demo` below the state
folder. A socket that belongs to neither you nor root (nor, at `/run/anew`, to the user `anew`) is refused. A daemon that
keeps another fleet file than the one named with `--fleet` or `ANEW_FLEET` is refused too.

Colours follow `--color`, then `NO_COLOR` and `TERM=dumb`, then whether stdout is a terminal.
"""

_SHELLS = """\
## Completion and man pages

Completion knows every command and option, and asks the daemon, if one runs, for the names of pools, servers, rollouts, images and machines.

| shell | once |
| --- | --- |
| bash | `anew completion bash > ~/.local/share/bash-completion/completions/anew` |
| zsh | `anew completion zsh > ~/.zfunc/_anew`, with `fpath+=~/.zfunc` before `compinit` in `~/.zshrc` |
| fish | `anew completion fish > ~/.config/fish/completions/anew.fish` |

The man pages `anew.1` and `anew.toml.5` lie in `docs/man` of the source; `config/README.md` there says where they go.
"""

_EXITS = """\
## Exit codes

| code | meaning |
| --- | --- |
| 0 | done |
| 1 | failed |
| 2 | usage or configuration: nothing was changed |
| 3 | rolled back: never reported as success |
| 4 | a person is needed |
| 5 | refused: policy, stale plan, role, not confirmed |
| 6 | no daemon can be reached |
| 130 | interrupted; a rollout goes on |
| 141 | who read its output went away, as head does |

`anew doctor` ends with 1 if something is left for a person, `anew image verify` and `anew journal verify` if something
does not hold.
"""


def _usage(option: Option) -> str:
    settings = option.settings
    if option.names[0].startswith("--"):
        value = "" if settings.get("action") == "store_true" else f" {_value(option)}"
        return f"{option.names[0]}{value}"
    return f"[{_value(option)}]" if settings.get("nargs") == "?" else _value(option)


def _value(option: Option) -> str:
    choices = option.settings.get("choices")
    return str(option.settings.get("metavar") or "|".join(choices or ()) or option.names[0].upper())


def _about(option: Option) -> str:
    says = str(option.settings.get("help", "")).replace("%%", "%")
    return f"- `{_usage(option)}`: {says}"


def _is_override(option: Option) -> bool:
    return str(option.settings.get("dest", "")).startswith("set_")


def _commands(words: tuple[Word, ...], path: str) -> Iterator[str]:
    for word in words:
        name = f"{path} {word.name}"
        if not word.run:
            yield from _commands(word.words, name)
            continue
        plain = [option for option in word.options if not _is_override(option)]
        places = [_usage(option) for option in plain if not option.names[0].startswith("--")]
        more = ["[options]"] if len(places) < len(word.options) else []
        yield f"### `{' '.join([name, *places, *more])}`\n\n{word.says[0].upper()}{word.says[1:]}.\n"
        lines = [_about(option) for option in plain]
        if len(plain) < len(word.options):
            lines.append("- overrides of the pool's settings, see below")
        if lines:
            yield "\n".join(lines) + "\n"
        yield from _commands(word.words, name)


def _overrides() -> str:
    rows = [f"- `--{name.replace('_', '-')} VALUE`: {says.replace('%%', '%')}" for name, says in OVERRIDES]
    return "## Overrides of a plan\n\nThe names and the grammar of `[pools.NAME.rollout]`, for this one plan.\n\n" + "\n".join(rows) + "\n"


def _environment() -> str:
    rows = [f"| `{name}` | {says} |" for name, says in READ.items()]
    given = [f"| `{name}` | {says} |" for name, says in SET.items()]
    return "\n".join(["## Environment\n", "| variable | what it is |", "| --- | --- |", *rows, "\nHooks and check commands get `PATH`, these, and nothing else:\n",
                      "| variable | what it is |", "| --- | --- |", *given]) + "\n"


def _states() -> str:
    rows = [f"| `{state}` | {code} |" for state, code in EXIT_BY_STATE.items()]
    return "\n".join(["`--wait` and `anew rollout wait` end when the rollout does, or when it needs a person (a checkpoint that opens by itself needs none):\n",
                      "| state | code |", "| --- | --- |", *rows]) + "\n"


def page() -> str:
    """The whole of docs/cli.md."""
    parts = [_HEAD, "\n".join(_about(option) for option in SHARED) + "\n", "## Commands\n", *_commands(COMMANDS, "anew"),
             _overrides(), _QUESTIONS, _EXITS, _states(), _JSON, _PLACES, _environment(), _SHELLS]
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
