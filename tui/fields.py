"""Fields of a frame, read by type. One that is missing or of a wrong type takes its default.

The daemon is a peer like any other: a frame that lacks a field must never end the screen that shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

Raw = Mapping[str, Any]


def text(row: Raw, key: str, default: str = "") -> str:
    value = row.get(key)
    return value if isinstance(value, str) else default


def number(row: Raw, key: str) -> float | None:
    value = row.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def whole(row: Raw, key: str, default: int = 0) -> int:
    value = row.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def rows(row: Raw, key: str) -> list[Raw]:
    value = row.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def words(row: Raw, key: str) -> tuple[str, ...]:
    value = row.get(key)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def mapping(row: Raw, key: str) -> Raw:
    value = row.get(key)
    return value if isinstance(value, dict) else {}


def moment(value: object) -> float | None:
    """Seconds since the epoch of an RFC 3339 time, None for anything else."""
    if not isinstance(value, str) or not value:
        return None
    try:
        return datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError):
        return None
