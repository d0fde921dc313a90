"""Six themes, and what a tone looks like in each. No state is told by colour alone: glyph and word come first.

`dark`, `light` and `colourblind` bring their own background; `ansi-*` use the sixteen colours and the background of the
terminal; `mono` uses bold, dim and reverse only, for NO_COLOR. `colourblind` has good in blue, warnings in yellow and bad in
orange, which differ in lightness too: the three are told apart by eyes that see no red or no green.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from rich.style import Style

THEMES = ("dark", "light", "ansi-dark", "ansi-light", "mono", "colourblind")

_DARK = {
    "": "#c5cdd9 on #121417", "dim": "#7f8b9a", "faint": "#3f4750", "head": "#8b97a7", "title": "bold #e6ebf2",
    "good": "#8ec98a", "warn": "#e3b566", "bad": "bold #ee7a76", "accent": "#79b4ea", "bar": "#6fa8dc",
    "key": "bold #dfe6ef", "cursor": "on #2b313a", "mark": "#e3b566", "armed": "bold #121417 on #e3b566",
    "stale": "bold #121417 on #ee7a76", "band": "on #1c1f23", "ask": "bold #f2d08a",
}
_LIGHT = {
    "": "#2b323b on #fafaf8", "dim": "#68717d", "faint": "#c9ced4", "head": "#5d6672", "title": "bold #11161c",
    "good": "#2f7d36", "warn": "#92600a", "bad": "bold #b3261e", "accent": "#1f5fa8", "bar": "#3a79bf",
    "key": "bold #11161c", "cursor": "on #dde8f5", "mark": "#92600a", "armed": "bold #ffffff on #92600a",
    "stale": "bold #ffffff on #b3261e", "band": "on #efefec", "ask": "bold #7a4f06",
}
_ANSI = {
    "": "default on default", "dim": "bright_black", "faint": "bright_black", "head": "bright_black",
    "title": "bold", "good": "green", "warn": "yellow", "bad": "bold red", "accent": "cyan", "bar": "cyan",
    "key": "bold", "cursor": "reverse", "mark": "yellow", "armed": "bold black on yellow",
    "stale": "bold white on red", "band": "", "ask": "bold yellow",
}
_ANSI_LIGHT = {**_ANSI, "warn": "magenta", "accent": "blue", "bar": "blue", "mark": "magenta", "ask": "bold magenta"}
_MONO = {
    "": "", "dim": "", "faint": "", "head": "dim", "title": "bold", "good": "", "warn": "bold", "bad": "bold",
    "accent": "", "bar": "", "key": "bold", "cursor": "reverse", "mark": "bold", "armed": "bold reverse",
    "stale": "bold reverse", "band": "", "ask": "bold",
}
_COLOURBLIND = {
    **_DARK, "good": "#56b4e9", "warn": "#f0e442", "bad": "bold #e06c1a", "accent": "#b9a7e8", "bar": "#b9a7e8", "mark": "#f0e442",
    "armed": "bold #121417 on #f0e442", "stale": "bold #121417 on #e06c1a", "ask": "bold #f0e442",
}
PALETTES: Mapping[str, Mapping[str, str]] = {
    "dark": _DARK, "light": _LIGHT, "ansi-dark": _ANSI, "ansi-light": _ANSI_LIGHT, "mono": _MONO, "colourblind": _COLOURBLIND,
}


@lru_cache(maxsize=2048)
def style(theme: str, tone: str) -> Style:
    """The Rich style of a tone (`warn+cursor` adds up) in a theme."""
    palette = PALETTES[theme]
    found = Style.parse(palette[""]) if palette[""] else Style()
    for part in tone.split("+"):
        if words := palette.get(part, ""):
            found += Style.parse(words)
    return found


def choose(environment: Mapping[str, str], wanted: str = "") -> str:
    """The theme to start with. NO_COLOR, if it is not empty, beats a wish; a poor terminal gets its own sixteen colours."""
    if environment.get("NO_COLOR"):
        return "mono"
    if wanted in THEMES:
        return wanted
    term = environment.get("TERM", "")
    light = _light_background(environment.get("COLORFGBG", ""))
    rich = environment.get("COLORTERM") in ("truecolor", "24bit") or "256color" in term or "direct" in term
    if term in ("", "dumb", "vt100", "vt220"):
        return "mono"
    if rich:
        return "light" if light else "dark"
    return "ansi-light" if light else "ansi-dark"


def problem(wanted: str) -> str:
    """"" or what is wrong with the name of a theme that somebody wrote."""
    return "" if not wanted or wanted in THEMES else f"There is no theme {wanted!r}: there are {', '.join(THEMES)}."


def _light_background(value: str) -> bool:
    """COLORFGBG is `fg;bg`; 7 and 15 are light backgrounds."""
    return value.rsplit(";", 1)[-1] in ("7", "15") if ";" in value else False


def first_environment() -> Mapping[str, str]:
    """The environment as the user gave it: Python itself sets LC_CTYPE to UTF-8 when it starts in the C locale."""
    try:
        raw = Path("/proc/self/environ").read_bytes()
    except OSError:
        return os.environ
    pairs = (item.partition("=") for item in raw.decode("utf-8", "replace").split("\0") if "=" in item)
    return {name: value for name, _, value in pairs}


def needs_ascii(environment: Mapping[str, str]) -> bool:
    """Is the terminal not UTF-8? The first locale variable that is set decides, as the C library does it.

    The console of Linux has a font of 256 or 512 glyphs, and most lack the arrows and lines used here.
    """
    if environment.get("TERM") == "linux":
        return True
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        if value := environment.get(name):
            return "utf" not in value.lower()
    return True
