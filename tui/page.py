"""Textual's driver for a page in a browser (tui/web.py), without the mouse: it turns that on whatever it is asked, and then a browser's own
selection and wheel do not work.
"""

from __future__ import annotations

from textual.drivers.web_driver import WebDriver

NO_MOUSE = "\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?1015l"


class PageDriver(WebDriver):
    """Named to Textual by TEXTUAL_DRIVER."""

    def start_application_mode(self) -> None:
        """Begin, and give the mouse back."""
        super().start_application_mode()
        self.write(NO_MOUSE)
