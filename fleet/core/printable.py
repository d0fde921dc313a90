"""Text from servers, images, files and people, made fit for a terminal.

Dropped: C0 controls but newline and tab, DEL, C1 controls (a C1 CSI is as good as an escape to some terminals),
bidirectional overrides and isolates, zero-width characters, and lone surrogates.
"""

from __future__ import annotations

import re

_DROPPED = {
    *range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0),
    0x061C, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2060, 0xFEFF,
    *range(0x2028, 0x202F), *range(0x2066, 0x206A), *range(0xFFF9, 0xFFFC), *range(0xE0000, 0xE0080),
}
_TABLE = dict.fromkeys(_DROPPED)


def printable(text: str, cap: int = 200) -> str:
    """One line of at most `cap` characters; newlines and tabs become spaces."""
    cut = text[: cap * 4]
    if not (cut.isascii() and cut.isprintable()):  # nearly all is, and a fleet's answers have thousands of lines
        cut = cut.translate(_TABLE)
        cut = "".join(" " if char in "\n\t" else char for char in cut if not "\ud800" <= char <= "\udfff")
    cut = cut.strip()
    return cut if len(cut) <= cap else cut[: cap - 1] + "…"


_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]+[0-~]|[0-Z^-~])")
"""ECMA-48: what a boot loader sends to move the cursor or to clear the screen, and titles; the escape alone would leave `[1;1H`."""
WORDS_LINES = 20
WORDS_CAP = 2000
PANIC = "Kernel panic - not syncing"


def last_words(console: str) -> str:
    """What tells why a server died, from the end of its console: at most 20 printable lines, 2000 characters.

    After a panic they begin with its own line: the kernel's trace below it would push out the one line that matters.
    """
    lines = [line for line in (printable(raw) for raw in _SEQUENCE.sub("", console).splitlines()) if line]
    panics = [index for index, line in enumerate(lines) if PANIC in line]
    if panics:
        return "\n".join(lines[panics[-1]:][:WORDS_LINES])[:WORDS_CAP]
    return "\n".join(lines[-WORDS_LINES:])[-WORDS_CAP:]
