"""The one grammar of the values people write: durations, sizes, amounts, ages, names.

The fleet file, the overrides of a plan and the command line all come through here, so that `5m` means the same
everywhere. Rules: a duration and a size always carry their unit (a bare `10` was read as seconds by one tool and as
minutes by the next); an amount is a whole number or a whole percent; true and false are no numbers; nothing has a sign
or a fraction. Every function raises `BadValue`, whose message is a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from fleet.core.desired import Amount, Breaker
from fleet.core.errors import Invalid

DURATION = 'a duration with its unit such as "10s", "5m", "2h", "7d" or "1h30m"'
SIZE = 'a size with its unit such as "64MiB" or "1GiB"'
AMOUNT = "an integer or a percent like 25%"
BREAKER = '"off" or words like "20% of at least 5 in 10m"'
NAME = "a name of a-z, 0-9 and inner dashes, at most 63 characters"

NAME_PATTERN = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
DURATION_PATTERN = r"([0-9]{1,6}d)?([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?([0-9]{1,9}ms)?"
SIZE_PATTERN = r"([0-9]{1,12})(KiB|MiB|GiB|TiB)"
CLOCK_PATTERN = r"([01][0-9]|2[0-3]):[0-5][0-9]"
PERCENT_PATTERN = r"(0|[1-9][0-9]?|100)%"
BREAKER_PATTERN = r"([1-9][0-9]?|100)% of at least ([1-9][0-9]{0,4}) in ([0-9a-z]{1,40})"

_NAME = re.compile(NAME_PATTERN)
_DURATION = re.compile(DURATION_PATTERN)
_SIZE = re.compile(SIZE_PATTERN)
_PERCENT = re.compile(PERCENT_PATTERN)
_BREAKER = re.compile(BREAKER_PATTERN)
_WHOLE = re.compile(r"0|[1-9][0-9]{0,8}")

DURATION_UNITS: Mapping[str, float] = MappingProxyType({"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001})
SIZE_UNITS: Mapping[str, int] = MappingProxyType({"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40})
LARGEST_AMOUNT = 10_000
"""As many servers as a pool may have."""


class BadValue(Invalid):
    """A value that its grammar does not allow. `hint` is "" or one more sentence."""

    def __init__(self, found: str, allowed: str, hint: str = "", *, where: str = "") -> None:
        super().__init__(f"found {found}, allowed {allowed}{'. ' + hint if hint else ''}", where=where)
        self.found = found
        self.allowed = allowed
        self.hint = hint


def describe(value: object) -> str:
    """A value as an error message names it: one line, at most about 60 characters, printable, never recursive."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 128 else "an enormous number"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, (list, tuple)):
        return "an empty list" if not value else "a list"
    return f"the {type(value).__name__} {_quoted(str(value)[:40])[1:-1]}"


def _quoted(text: str) -> str:
    cut = text if len(text) <= 60 else text[:57] + "..."
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in cut) + '"'


def parse_duration(value: object, *, where: str = "") -> float:
    """Seconds of "10s", "5m", "2h", "7d", "1h30m", "500ms"."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise BadValue(describe(value), DURATION, where=where)
    if not isinstance(value, str):
        hint = f'Write the unit: "{value}s" for seconds' if isinstance(value, int) and 0 <= value < 10**8 else ""
        raise BadValue(describe(value), DURATION, hint, where=where)
    match = _DURATION.fullmatch(value)
    if match is None or not value:
        raise BadValue(describe(value), DURATION, _duration_hint(value), where=where)
    total = 0.0
    for part, unit in zip(match.groups(), DURATION_UNITS, strict=True):
        if part is not None:
            total += int(part[: -len(unit)]) * DURATION_UNITS[unit]
    return total


def _duration_hint(text: str) -> str:
    if _WHOLE.fullmatch(text):
        return f'Write the unit: "{text}s" for seconds'
    if "." in text or "," in text:
        return 'Fractions are not taken: "1h30m" instead of "1.5h"'
    return ""


def parse_age(value: object, *, where: str = "") -> float:
    """Seconds of an age selector (`--older-than 7d`); as a duration, but not zero."""
    seconds = parse_duration(value, where=where)
    if seconds <= 0:
        raise BadValue(describe(value), "an age above zero such as 7d", where=where)
    return seconds


def parse_size(value: object, *, where: str = "") -> int:
    """Bytes of "64MiB", "1GiB". Decimal units are refused, so that nobody wonders which of the two was meant."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise BadValue(describe(value), SIZE, _size_hint(value), where=where)
    return int(match[1]) * SIZE_UNITS[match[2]]


def _size_hint(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return ""
    text = value.strip() if isinstance(value, str) else describe(value)
    if re.fullmatch("[0-9]{1,12}", text):
        return f'Write the unit: "{text}MiB"'
    loose = re.fullmatch("([0-9]{1,12}) ?([KMGTkmgt])(i?[Bb])?", text)
    return f'Did you mean "{loose[1]}{loose[2].upper()}iB"?' if loose else ""


def parse_amount(value: object, *, where: str = "") -> Amount:
    """An `Amount` of an integer from 0 or of a whole percent in quotes, "0%" to "100%"."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= LARGEST_AMOUNT:
            raise BadValue(describe(value), f"an integer from 0 to {LARGEST_AMOUNT} or a percent like 25%", where=where)
        return Amount(value)
    if isinstance(value, str):
        if _PERCENT.fullmatch(value):
            return Amount(int(value[:-1]), percent=True)
        raise BadValue(describe(value), AMOUNT, _amount_hint(value), where=where)
    raise BadValue(describe(value), AMOUNT, where=where)


def _amount_hint(text: str) -> str:
    if _WHOLE.fullmatch(text):
        return f"Write it without quotes: {text}"
    return "Percents are whole, from 0% to 100%" if "%" in text else ""


def read_amount(text: str, *, where: str = "") -> Amount:
    """An `Amount` as typed on a command line, where numbers have no quotes to lose: `2` or `25%`."""
    return parse_amount(int(text) if _WHOLE.fullmatch(text) else text, where=where)


def read_whole(text: str, *, where: str = "") -> int:
    """A whole number from 0 as typed on a command line."""
    if not _WHOLE.fullmatch(text):
        raise BadValue(describe(text), "an integer from 0", where=where)
    return int(text)


def parse_name(value: object, *, longest: int = 63, where: str = "") -> str:
    """A name by the grammar that libvirt domains, host names and file names all bear."""
    if not isinstance(value, str) or not _NAME.fullmatch(value) or len(value) > longest:
        allowed = NAME if longest == 63 else NAME.replace("63", str(longest))
        raise BadValue(describe(value), allowed, where=where)
    return value


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back to the same (to the millisecond)."""
    left = round(max(seconds, 0.0) * 1000)
    parts: list[str] = []
    for unit, milliseconds in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, milliseconds)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def format_size(size: int) -> str:
    """The shortest text that `parse_size` reads back; sizes that are no whole KiB are given in bytes."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % SIZE_UNITS[unit] == 0:
            return f"{size // SIZE_UNITS[unit]}{unit}"
    return f"{size} bytes"


def parse_pause(value: object) -> float | None:
    """"manual" (None: a person) or a duration in seconds, up to a week. Raises BadValue."""
    if value == "manual":
        return None
    try:
        seconds = parse_duration(value)
    except BadValue as wrong:
        raise BadValue(wrong.found, '"manual" or ' + wrong.allowed, wrong.hint) from None
    if seconds > parse_duration("7d"):
        raise BadValue(describe(value), '"manual" or a duration up to 7d')
    return seconds


def parse_checkpoints(value: object) -> tuple[int, ...]:
    """Whole percents, written "25,50" (an override). Raises BadValue."""
    points = tuple(read_whole(part.strip().removesuffix("%")) for part in str(value).split(",")) if str(value).strip() else ()
    if not all(0 < point < 100 for point in points) or list(points) != sorted(set(points)):
        raise BadValue(describe(value), "whole percents from 1 to 99, each larger than the one before, such as 25,50")
    return points


def parse_checkpoint(value: object) -> int:
    """One of the settings file: 25 or "25%". Raises BadValue."""
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    point = int(value[:-1]) if match is not None and isinstance(value, str) else value
    if isinstance(point, bool) or not isinstance(point, int) or not 1 <= point <= 99:
        raise BadValue(describe(value), 'an integer from 1 to 99, or as much in percent, such as "25%"')
    return point


def parse_clock(value: object) -> int:
    """A time of day, "HH:MM", as seconds after midnight. Raises BadValue."""
    if not isinstance(value, str) or not re.fullmatch(CLOCK_PATTERN, value):
        raise BadValue(describe(value), 'a time of day such as "22:00"')
    return 3600 * int(value[:2]) + 60 * int(value[3:])


def parse_breaker(value: object) -> Breaker | None:
    """"20% of at least 5 in 10m"; None for "off". The share is from 1% to 100%, the time from 10s to 7d. Raises BadValue."""
    if value == "off":
        return None
    match = _BREAKER.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise BadValue(describe(value), BREAKER, _breaker_hint(value))
    at_least = int(match[2])
    if at_least > LARGEST_AMOUNT:
        raise BadValue(describe(value), f"at least 1 to {LARGEST_AMOUNT} servers")
    try:
        seconds = parse_duration(match[3])
    except BadValue as wrong:
        raise BadValue(describe(value), f"after \"in\" {wrong.allowed}", wrong.hint) from None
    if not parse_duration("10s") <= seconds <= parse_duration("7d"):
        raise BadValue(describe(value), 'after "in" a duration from 10s to 7d')
    return Breaker(int(match[1]), at_least, seconds)


def _breaker_hint(value: object) -> str:
    if value is False or value == "none":
        return 'Write "off" to go without one'
    return f'Did you mean "{value} of at least 5 in 10m"?' if isinstance(value, str) and _PERCENT.fullmatch(value) and value != "0%" else ""


def format_breaker(breaker: Breaker | None) -> str:
    """The text that `parse_breaker` reads back to the same."""
    if breaker is None:
        return "off"
    return f"{breaker.percent}% of at least {breaker.at_least} in {format_duration(breaker.seconds)}"
