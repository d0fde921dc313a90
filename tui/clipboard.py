"""Copying: OSC 52 for the clipboard, and a file, since not every terminal lets a program write to the clipboard.

- xterm takes 100,000 bytes of such a sequence, which is 74,994 bytes of text, and drops a longer one whole; so the clipboard gets the
  beginning and the file all of it, and the sentence says so.
- tmux keeps the plain sequence to itself unless `set-clipboard on`, and hands on a wrapped one if `allow-passthrough on`: it gets both.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path

LIMIT = 74_994
"""Bytes of text that the clipboard gets."""


def copy(text: str, write: Callable[[str], object], folder: str | None) -> str:
    """Copy `text` through `write` (the terminal) and into `folder` (None: nowhere); a sentence that says where it is."""
    if not text:
        return "There is nothing to copy here."
    data = text.encode("utf-8", "replace")
    kept = data[:LIMIT].decode("utf-8", "ignore").encode()
    write(sequence(kept, tmux="TMUX" in os.environ))
    part = "" if len(kept) == len(data) else f"the first {len(kept):,} of {len(data):,} bytes "
    if not folder:
        return f"Copied {part}to the clipboard."
    path = Path(folder) / "copied.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_bytes(data + b"\n")
    except OSError as error:
        return f"Copied {part}to the clipboard; {path} could not be written: {error.strerror}."
    return f"Copied {part}to the clipboard{', all' if part else ' and'} to {path}."


def sequence(data: bytes, tmux: bool) -> str:
    """What puts `data` on the clipboard of the terminal."""
    plain = f"\x1b]52;c;{base64.b64encode(data).decode()}\x07"
    return plain + "\x1bPtmux;" + plain.replace("\x1b", "\x1b\x1b") + "\x1b\\" if tmux else plain
