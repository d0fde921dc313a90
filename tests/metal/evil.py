"""What a pretended host can do wrong. Everything is off unless named; each knob may be turned while the host runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ESCAPES = "\x1b]0;owned\x07\x1b[2J[bold red]{os} \u202etac\x00\x7f"
"""For `os`: escape sequences, markup, a direction override, control bytes."""

Stall = Literal["", "no-banner", "banner", "no-auth", "no-answer", "half-answer"]
Flood = Literal["", "endless", "huge-json", "million-lines"]
Lie = Literal["", "wrong-digest", "wrong-boot-id", "same-boot-id", "claims-done", "other-number", "wrong-image", "no-slot"]

STALLS: tuple[Stall, ...] = ("no-banner", "banner", "no-auth", "no-answer", "half-answer")
FLOODS: tuple[Flood, ...] = ("endless", "huge-json", "million-lines")
LIES: tuple[Lie, ...] = ("wrong-digest", "wrong-boot-id", "same-boot-id", "claims-done", "other-number", "wrong-image", "no-slot")


@dataclass(slots=True)
class Evil:
    """The knobs of one host.

    `stall`: where it falls silent. `flood`: what it never stops saying. `verbs`: the only verbs that these and
    `claims-done` apply to, () for all. `cut_after`: every connection dies after so many bytes from the host.
    `flip_at`: in every connection one bit of that byte from the host is another.
    `lie`: see `LIES`; `claims-done` answers `ok` to what changes something and does nothing. `refuses_key`: no key is
    good enough. `sudo_password`: sudo asks for one. `no_helper`: the program is not there. `clock_off` in seconds.
    `os`: what it says its system is. `locked_by`: an operation that holds its lock for ever. `answers`: this exact text
    instead of the answer to every verb.
    """

    stall: Stall = ""
    flood: Flood = ""
    lie: Lie = ""
    verbs: tuple[str, ...] = ()
    cut_after: int | None = None
    flip_at: int | None = None
    refuses_key: bool = False
    sudo_password: bool = False
    no_helper: bool = False
    no_backend: bool = False
    read_only_data: bool = False
    disk_full: bool = False
    clock_off: float = 0.0
    os: str = "Debian GNU/Linux 12 (bookworm)"
    locked_by: str = ""
    answers: bytes | None = None

    def on(self, verb: str) -> bool:
        """Whether stall, flood and false claims are for this verb."""
        return not self.verbs or verb in self.verbs
