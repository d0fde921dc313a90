"""The line that asks: a text, a `y`, or a number to type. Pure; the footer draws it.

The safety ladder ends here. For `yes` only the key y says yes, any other key says no. For `number` exactly the number
must stand before Enter; Enter alone cancels. For `text` Enter alone takes `usual` where there is one, which is shown and never in the way
of what is typed. Nothing that is pressed within the dead time after the question appeared
counts, so that a key held down, or pasted text, confirms nothing.

What was typed is not lost: up and down bring back earlier lines that begin like this one, and a line that `accept` refuses with
ValueError stays to be mended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tui.ink import Line, Span, width_of
from tui.untrusted import one_line

DEAD_SECONDS = 0.3
MOST = 400
"""Characters that fit into an answer."""

Kind = Literal["text", "yes", "number"]
Outcome = Literal["open", "done", "cancelled"]


@dataclass
class Prompt:
    """`accept` gets the answer. `changed` sees every keystroke (a filter works as it is typed)."""

    label: str
    accept: Callable[[str], None]
    kind: Kind = "text"
    number: int = 0
    opened: float = 0.0
    typed: str = ""
    changed: Callable[[str], None] | None = None
    complete: Callable[[str], Sequence[str]] | None = None
    cancelled: Callable[[], None] | None = None
    history: Sequence[str] = ()
    hint: str = ""
    usual: str = ""
    at: int = field(default=-1)
    _back: int = field(default=0, init=False)
    _draft: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.at = len(self.typed) if self.at < 0 else self.at

    def key(self, name: str, char: str | None, ticks: float) -> Outcome:
        """Take a key pressed at `ticks` (monotonic seconds)."""
        if name in ("escape", "ctrl+c"):
            return self._cancel()
        if self.kind != "text" and ticks - self.opened < DEAD_SECONDS:
            return "open"
        if self.kind == "yes":
            if char == "y":
                self.accept("y")
                return "done"
            return self._cancel()
        if name == "enter":
            return self._enter()
        self._edit(name, char)
        return "open"

    def paste(self, text: str) -> None:
        """Pasted text is typed text for a text; a confirmation takes none."""
        if self.kind == "text":
            self._put(one_line(text, MOST))

    def _enter(self) -> Outcome:
        answer = self.typed.strip() or self.usual
        if self.kind == "number":
            if answer != str(self.number):
                return self._cancel()
        elif not answer and self.changed is None:
            return self._cancel()
        try:
            self.accept(answer)
        except ValueError:
            return "open"  # the sentence is on the flash line
        return "done"

    def _cancel(self) -> Outcome:
        if self.cancelled is not None:
            self.cancelled()
        return "cancelled"

    def _edit(self, name: str, char: str | None) -> None:
        if name == "backspace" and self.at:
            self._set(self.typed[: self.at - 1] + self.typed[self.at :], self.at - 1)
        elif name == "delete":
            self._set(self.typed[: self.at] + self.typed[self.at + 1 :], self.at)
        elif name == "ctrl+u":
            self._set("", 0)
        elif name == "ctrl+w":
            start = len(self.typed[: self.at].rstrip().rpartition(" ")[0])
            self._set(self.typed[:start] + self.typed[self.at :], start)
        elif name in ("left", "right"):
            self.at = max(0, min(len(self.typed), self.at + (1 if name == "right" else -1)))
        elif name in ("home", "ctrl+a", "end", "ctrl+e"):
            self.at = 0 if name in ("home", "ctrl+a") else len(self.typed)
        elif name == "tab" and self.complete is not None:
            self._finish()
        elif name in ("up", "down", "ctrl+p", "ctrl+n") and self.history:
            self._recall(1 if name in ("up", "ctrl+p") else -1)
        elif char is not None and char.isprintable() and len(char) == 1:
            self._put(char)

    def _put(self, text: str) -> None:
        text = text[: MOST - len(self.typed)]
        if self.kind == "number":
            text = "".join(char for char in text if char in "0123456789")
        self._set(self.typed[: self.at] + text + self.typed[self.at :], self.at + len(text))

    def _set(self, typed: str, at: int) -> None:
        self.typed, self.at, self.hint, self._back = typed, at, "", 0
        if self.changed is not None:
            self.changed(typed)

    def _recall(self, step: int) -> None:
        """An earlier line that begins with what was typed, or back to that."""
        if not self._back:
            self._draft = self.typed
        found = list(dict.fromkeys(line for line in reversed(self.history) if line.startswith(self._draft) and line != self._draft))
        back = max(0, min(len(found), self._back + step))
        line = found[back - 1] if back else self._draft
        self._set(line, len(line))
        self._back = back
        self.hint = f"{back} of {len(found)}" if found else "no earlier line begins like this"

    def _finish(self) -> None:
        """Complete as far as all candidates agree; show them when they do not."""
        assert self.complete is not None
        found = list(self.complete(self.typed))
        if not found:
            self.hint = "nothing to complete"
            return
        common = found[0]
        for other in found[1:]:
            while not other.startswith(common):
                common = common[:-1]
        if len(found) == 1 and not common.endswith(("=", ":")):  # after these the value follows at once
            common += " "
        self._set(common, len(common))
        if len(found) > 1:
            self.hint = "  ".join(item.rpartition(" ")[2] for item in found[:8])

    def line(self, width: int) -> Line:
        """The question, the answer so far with a block for the caret, and the way out."""
        label = Span(f" {self.label} ", "ask")
        way_out = "y does it · any other key cancels" if self.kind == "yes" else "esc cancels"
        if self.kind == "number":
            way_out = "enter alone cancels"
        elif self.usual and not self.typed:
            way_out = f"enter alone: {self.usual} · esc cancels"
        tail = self.hint or way_out
        room = max(8, width - width_of(label.text) - 2)
        start = max(0, self.at - room + 2)
        before, under = self.typed[start : self.at], self.typed[self.at : self.at + 1] or " "
        after = self.typed[self.at + 1 : start + room]
        caret = () if self.kind == "yes" else (Span(before), Span(under, "cursor+key"), Span(after))
        used = width_of(label.text) + sum(width_of(span.text) for span in caret)
        left = width - used - width_of(tail) - 1
        return (label, *caret, Span(" " * left), Span(tail, "dim")) if left > 0 else (label, *caret)
