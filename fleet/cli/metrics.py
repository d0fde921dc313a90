"""`anew metrics`: what /metrics of the daemon's socket says, on stdout or in a file for a collector that reads files."""

from __future__ import annotations

import os

from fleet.core.errors import Invalid

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from fleet.cli.context import Context


def metrics(context: Context) -> None:
    """The daemon's metrics. Starts none: a monitoring job must not be what keeps a daemon alive."""
    text = context.running().text("/metrics")
    path = context.options.write
    if path:
        _write(os.path.abspath(path), text.encode())
    if context.as_json:
        context.data({"written": os.path.abspath(path), "bytes": len(text.encode())} if path else {"text": text})
    elif not path:
        print(text, end="")


def _write(path: str, text: bytes) -> None:
    """The file at once or not at all: whoever reads it sees the old text or the new one, never a part, and no leftover is taken for a file of his."""
    part = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.part")
    try:
        _fill(part, text)
        try:
            os.replace(part, path)
        except OSError:
            os.unlink(part)
            raise
    except OSError as error:
        raise Invalid(f"the metrics cannot be written: {error.strerror}; the file is as it was", where=path, code="not-written") from error


def _fill(part: str, text: bytes) -> None:
    """0644: the collector is another user."""
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(file, 0o644)
        left = memoryview(text)
        while left:
            left = left[os.write(file, left):]
    except OSError:
        os.unlink(part)
        raise
    finally:
        os.close(file)
