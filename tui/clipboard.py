"""Copying: OSC 52 for the clipboard, and a file, since not every terminal lets a program write to the clipboard."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path

LIMIT = 60_000
"""Characters: more is refused by most terminals."""


def copy(text: str, write: Callable[[str], object], folder: str) -> str:
    """Copy `text` through `write` (the terminal) and into `folder`; a sentence that says where it is."""
    text = text[:LIMIT]
    if not text:
        return "There is nothing to copy here."
    write(f"\x1b]52;c;{base64.b64encode(text.encode('utf-8', 'replace')).decode()}\x07")
    path = Path(folder or os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "anew" / "copied.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(text + "\n", encoding="utf-8", errors="replace")
    except OSError as error:
        return f"Copied to the clipboard; {path} could not be written: {error.strerror}."
    return f"Copied to the clipboard and to {path}."
