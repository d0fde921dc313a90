"""systemd-boot with boot counting (Automatic Boot Assessment): its entries' names say all.

The raw section is one entry a line, then `selected NAME` and `default NAME`. An entry's file is `SLOT.conf` once it is blessed,
`SLOT+LEFT.conf` or `SLOT+LEFT-DONE.conf` while it is counted; SLOT ends in A or B. LEFT 0 is bad: tried only when no
other entry is left. `selected` is what booted this time (LoaderEntrySelected): the name without the counter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from drivers.baremetal.backends import Next, Reading

_ENTRY: Final = re.compile(r"([A-Za-z0-9._-]{0,63}?)([AB])(?:\+([0-9]{1,3})(?:-([0-9]{1,3}))?)?(?:\.conf|\.efi)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Entry:
    """`left`: tries left, None if it is not counted (good)."""

    slot: str
    left: int | None


def read(raw: bytes) -> Reading:
    """See Reading."""
    entries: dict[str, _Entry] = {}
    selected = default = ""
    for line in raw.decode("utf-8", "replace").splitlines()[:64]:
        name, _, rest = line.strip().partition(" ")
        if name in ("selected", "default") and rest:
            found = _entry(rest.strip())
            selected, default = (found.slot if found else "", default) if name == "selected" else (selected, found.slot if found else "")
        elif (entry := _entry(line.strip())) is not None:
            entries.setdefault(entry.slot, entry)
    if set(entries) != {"A", "B"} and not (selected and selected in entries):
        return Reading(problem="systemd-boot has no entries for two slots there; see /loader/entries on its boot partition")
    if not selected:
        return Reading(problem="systemd-boot does not say which entry it booted; are the EFI variables readable there?")
    idle = "B" if selected == "A" else "A"
    return Reading(
        booted=selected,
        next=_next(entries, selected, idle, default),
        booted_good=_good(entries.get(selected)),
        idle_good=_good(entries.get(idle)),
    )


def _entry(text: str) -> _Entry | None:
    match = _ENTRY.fullmatch(text)
    return None if match is None else _Entry(match[2], None if match[3] is None else int(match[3]))


def _good(entry: _Entry | None) -> bool | None:
    """True if it is blessed; one that is counted has still to prove itself, or failed."""
    return None if entry is None else entry.left is None


def _next(entries: Mapping[str, _Entry], booted: str, idle: str, default: str) -> Next:
    """The default entry, unless its tries are used up."""
    chosen = entries.get(default)
    if chosen is None:
        return "unknown"
    slot = chosen.slot if chosen.left != 0 else "A" if chosen.slot == "B" else "B"
    return "booted" if slot == booted else "idle"
