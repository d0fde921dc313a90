"""The text of a manifest over given bytes, and the type of the fixture that makes image folders."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

MakeImage = Callable[..., Path]


def manifest_text(
    version: str, files: Mapping[str, bytes], *, family: str = "web", kind: str = "squashfs", root: str = "root.img",
    built_at: str = "2026-11-21T20:00:00Z", extra: str = "",
) -> str:
    """image.toml over these bytes."""
    lines = [f'family = "{family}"', f'version = "{version}"', f"built_at = {built_at}", f'kind = "{kind}"', f'root = "{root}"']
    if "packages.txt" in files:
        lines.append('packages = "packages.txt"')
    if "vmlinuz" in files:
        lines.append('boot = { kernel = "vmlinuz", cmdline = "console=ttyS0" }')
    lines += [extra, "[files]"]
    for name, data in files.items():
        lines.append(f'"{name}" = {{ sha256 = "{hashlib.sha256(data).hexdigest()}", size = {len(data)} }}')
    return "\n".join(lines) + "\n"
