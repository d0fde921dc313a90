"""Names of keys: one for each, whatever a terminal, a person or Textual calls it, and how it is printed on the keyboard."""

from __future__ import annotations

import string
import unicodedata

_UNUSUAL = {"solidus": "slash", "reverse_solidus": "backslash", "commercial_at": "at", "hyphen_minus": "minus",
            "plus_sign": "plus", "low_line": "underscore"}
_ALIASES = {"esc": "escape", "return": "enter", "pgup": "pageup", "pgdn": "pagedown", "page-up": "pageup", "page-down": "pagedown",
            "del": "delete", "ins": "insert", "ctrl+i": "tab", "ctrl+m": "enter", "ctrl+h": "backspace"}


def _named(char: str) -> str:
    """A sign by its name, as Textual tells it: `exclamation_mark`."""
    name = unicodedata.name(char, char).lower().replace("-", "_").replace(" ", "_")
    return _UNUSUAL.get(name, name)


_SIGNS = {_named(char): char for char in string.punctuation}
FIXED = frozenset({"enter", "escape", "tab", "up", "down", "left", "right", "home", "end", "pageup", "pagedown", "ctrl+c", "ctrl+f", "ctrl+b"})
"""Keys that go on doing what they do when their action is given another: nobody locks himself out."""
_OTHERS = frozenset({"space", "backspace", "delete", "insert", "shift+tab", *(f"f{number}" for number in range(1, 13)),
                     *(f"ctrl+{letter}" for letter in string.ascii_lowercase)})


def normal(name: str) -> str:
    """One name per key, whatever the terminal or a person calls it."""
    if name.startswith("upper_"):
        return name[-1].upper()
    if len(name) == 1:
        return name if name.isalnum() else _named(name)
    name = name.lower()
    return _ALIASES.get(name, name)


def known(name: str) -> bool:
    """Is there such a key? `name` is a normal one."""
    return (len(name) == 1 and name.isprintable()) or name in _SIGNS or name in FIXED or name in _OTHERS


def shown(name: str) -> str:
    """A key as it is printed on the keyboard."""
    if name == "escape":
        return "esc"
    return _SIGNS.get(name, name)
