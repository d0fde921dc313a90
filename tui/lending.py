"""The terminal lent to a shell, and taken back.

Rules
- The loop goes on meanwhile: the line to the daemon lives, and with it the seat and what this terminal drives. Nothing is drawn.
- What a server may have left switched on (mouse reports, another screen, a part of the screen, pasting in brackets, a hidden cursor) is switched off again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from fleet.api.shell import NoShell

if TYPE_CHECKING:
    from fleet.api.shell import Shell
    from tui.app import AnewApp

Lender = Callable[["Shell"], Awaitable[str]]
"""Gives the terminal to a shell until it ends: how, as a sentence."""
TIDY = b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[?1049l\x1b[?1l\x1b>\x1b(B\x0f\x1b[0m\x1b[?25h"

WHOLE = "\x1b[?6l\x1b[?69l\x1b[r\x1b[4l\x1b[20l\x1b[?5l\x1b[?2026l"
"""The whole screen again, as a program on the server may have left only a part of it. Some of these move the cursor, so they come once the UI has it."""


def lender(app: AnewApp) -> Lender | None:
    """None if the app is not at a terminal that another program can have for a while."""
    driver = app._driver
    if driver is None or not driver.can_suspend:
        return None

    async def lend(shell: Shell) -> str:
        with app.batch_update():  # all painting is held back: nobody takes what is written to a driver that is suspended
            with app.suspend():
                how = await _run(shell)
            driver.write(WHOLE)
            for paper in app.papers.values():
                paper.repaint_all()
        app.refresh(repaint=True, layout=True)
        if isinstance(how, NoShell):
            raise how
        return how

    return lend


async def _run(shell: Shell) -> str | NoShell:
    """An error is returned: raised in here, it would leave the app without its terminal."""
    try:
        with shell:
            how = await asyncio.to_thread(shell.wait)
    except NoShell as error:
        return error
    with suppress(OSError):
        os.write(1, TIDY)
    return how


__all__ = ["Lender", "lender"]
