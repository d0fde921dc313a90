"""A view as a file for other tools: CSV for a spreadsheet, JSON for programs. What is exported is what is shown, in its order.

What servers and people wrote is hostile until it is parsed, and a spreadsheet runs a cell that begins like a formula: in CSV such a text gets an
apostrophe before it. A file that exists is left alone.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KINDS = ("csv", "json")
SCHEMA_VERSION = 1
Record = dict[str, Any]


def text(kind: str, records: Sequence[Record], **about: str) -> str:
    """The whole file. `about` (fleet, view, at) goes into JSON; a CSV is a heading and rows."""
    if kind == "json":
        return json.dumps({"schema_version": SCHEMA_VERSION, **about, "rows": list(records)}, ensure_ascii=False, indent=1) + "\n"
    out = io.StringIO()
    names = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(record.get(name)) for name in names] for record in records)
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return _cell(", ".join(map(str, value)))
    if isinstance(value, str):
        return f"'{value}" if value.lstrip()[:1] in ("=", "+", "-", "@") and value != "-" else value
    return str(value)


def save(wanted: str, default: str, kind: str, made: str) -> str:
    """Write `made` to the path somebody typed (a folder gets a file named `default`.`kind` in it); the path, or ValueError with a sentence."""
    path = Path(wanted or ".")
    try:
        path = path.expanduser().absolute()
        if path.is_dir():
            path = path / f"{default}.{kind}"
        with path.open("x", encoding="utf-8", errors="replace", newline="") as file:
            file.write(made)
    except FileExistsError:
        raise ValueError(f"{path} exists already and was left alone: choose another name.") from None
    except (OSError, ValueError, RuntimeError) as error:  # the last: a ~user of whom there is no home
        raise ValueError(f"{path} could not be written: {getattr(error, 'strerror', None) or error}.") from error
    return str(path)
