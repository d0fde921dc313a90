"""A terminal that is gone ends the UI, also where no SIGHUP comes of it: under nohup, or with a terminal that is not its own.

Textual would read end of file for ever, and burn a core for it. Nothing of worth lives in the UI, so nothing is saved.
"""

from __future__ import annotations

import os
import select
import signal
import threading

ENDED = 128 + signal.SIGHUP


def end_with(terminal: int) -> None:
    """Watch a terminal, by its descriptor, from a thread that costs nothing while it is there."""

    def watch() -> None:
        poll = select.poll()
        poll.register(terminal, 0)  # no event is asked for: what is told in any case is that it hung up
        poll.poll()
        os._exit(ENDED)

    threading.Thread(target=watch, name="hangup", daemon=True).start()


__all__ = ["ENDED", "end_with"]
