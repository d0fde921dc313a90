"""What every command is given: its options, the daemon, and the three ways to speak (data, words, notes)."""

from __future__ import annotations

import os
import sys

from fleet.api.client import Client, terminal_name
from fleet.api.places import find_fleet, find_socket, find_state
from fleet.cli.text import Palette, columns, printable, table
from fleet.core.errors import AnewError, Invalid, Refused

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence
    from typing import Any

    from fleet.registry import Forward


class Context:
    """One run of one command. stdout is for data, stderr for everything else; all words pass printable()."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.as_json: bool = getattr(options, "json", False)
        self.no_start: bool = getattr(options, "no_start", False)
        self.palette = Palette(getattr(options, "color", "auto"))
        self.on: str = getattr(options, "on", "")
        self.far: Forward | None = None
        self.socket = self.on or find_socket(getattr(options, "socket", None))[0]
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The daemon, started if there is none (unless --no-start); Refused if it keeps another fleet than the one named."""
        if self._client is None and self.on:
            self._client = self._far_client()
        if self._client is None:
            self._client = self.attach(find_fleet(getattr(self.options, "fleet", None)), self.socket, find_state()[0])
        return self._client

    def attach(self, fleet: tuple[str, str], socket: str, state: str) -> Client:
        """A client of the daemon at `socket`, which must keep the fleet file if that was named on purpose."""
        from fleet.api.start import ensure_daemon, is_up

        client = Client(socket, terminal_name())
        if not is_up(socket):
            ensure_daemon(socket, fleet[0], state, no_start=self.no_start)
        elif fleet[1] in ("--fleet", "ANEW_FLEET", "packaged"):
            check_fleet(client, fleet)
        self._client, self.socket = client, socket
        return client

    def running(self) -> Client:
        """The daemon that is there; never starts one."""
        return self.client if self.on else Client(self.socket, terminal_name())

    def _far_client(self) -> Client:
        """The daemon of another machine: it starts none there, and keeps the fleet file that it has."""
        from fleet.cli.far import away
        from fleet.registry import load_forward

        self.far = load_forward()(self.on, getattr(self.options, "socket", None) or "")
        return Client(self.far.socket, away(terminal_name()), self.far.name, self.far.trouble)

    def data(self, value: Any, *, one_line: bool = False) -> None:
        """A JSON document on stdout; JSON escapes every control character."""
        import json

        print(json.dumps(value) if one_line else json.dumps(value, indent=2), flush=one_line)

    def say(self, text: str = "", colour: str = "") -> None:
        """A line of words on stdout."""
        print(self.palette(colour, printable(text)) if colour else printable(text))

    def rows(self, heads: Sequence[str], rows: Iterable[Sequence[Any]], right: Iterable[int] = ()) -> None:
        """A table on stdout, cut to the terminal's width."""
        for line in table(heads, rows, self.palette, right=right, most=columns()):
            print(line)

    def note(self, text: str) -> None:
        """A line for the person, on stderr."""
        print(printable(text), file=sys.stderr, flush=True)

    def answer(self, answer: Any) -> None:
        """A CommandAnswer: as data, or its message."""
        if self.as_json:
            self.data(answer)
        else:
            for line in str(answer.get("message") or "done").splitlines():
                self.say(line)

    def confirm(self, question: str, expected: str, *, shown: bool = True, instead: str = "--yes answers it") -> None:
        """Have the question answered with exactly `expected`; --yes answers it, where the command has it (`instead` names what does).

        Invalid without a terminal, Refused for any other answer. `shown` puts the expected word into the prompt.
        """
        if getattr(self.options, "yes", False):
            return
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise Invalid(f"this asks a question and there is no terminal to ask on; {instead}", code="no-terminal")
        prompt = f"{printable(question)} type {expected}: " if shown else f"{printable(question)} "
        print(prompt, end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip() != expected:
            raise Refused("not confirmed, nothing was changed", code="not-confirmed")


def check_fleet(client: Client, fleet: tuple[str, str]) -> None:
    """Refuse to speak to a daemon that keeps another fleet file than the one that was named."""
    kept = client.get("/v1/info").get("paths", {}).get("fleet", "")
    if isinstance(kept, dict):
        kept = kept.get("value", "")
    if kept and os.path.realpath(kept) != os.path.realpath(fleet[0]):
        raise Refused(
            f"the daemon there keeps another fleet, {kept}; name another socket with --socket or state with ANEW_STATE, "
            "or stop that daemon with `anew daemon stop`", where=client.socket_path, code="other-fleet",
        )


def report(error: AnewError, *, as_json: bool) -> int:
    """Tell an error the way it was asked for; its exit code."""
    lines = error.message.splitlines() or [""]
    print("anew: " + (f"{printable(error.where)}: " if error.where else "") + printable(lines[0]), file=sys.stderr)
    for line in lines[1:]:
        print(f"  {printable(line)}", file=sys.stderr)
    difference = getattr(error, "difference", ())
    for line in (line for line in difference if line not in error.message):  # told once is enough
        print(f"  {printable(line)}", file=sys.stderr)
    if as_json:
        import json

        body = {"code": error.code, "message": error.message, "where": error.where, "exit_code": error.exit_code}
        if difference:
            body["difference"] = list(difference)
        print(json.dumps({"error": body}))
    return error.exit_code
