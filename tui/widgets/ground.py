"""What Textual itself must know of a theme: the ground. All else is painted by the papers."""

from __future__ import annotations

from textual.theme import BUILTIN_THEMES, Theme

from tui import theme


def ground(name: str) -> Theme:
    """Textual's own colours for a palette: only the ground, all else is painted by the papers."""
    plain = theme.style(name, "plain")
    ansi = plain.bgcolor is None or plain.bgcolor.is_default
    back = "ansi_default" if ansi or plain.bgcolor is None else plain.bgcolor.name
    fore = "ansi_default" if ansi or plain.color is None else plain.color.name
    return Theme(name=f"anew-{name}", primary="ansi_blue" if ansi else "#79b4ea", background=back, surface=back,
                 panel=back, foreground=fore, dark=not name.endswith("light"), ansi=ansi,
                 variables=BUILTIN_THEMES["ansi-dark"].variables if ansi else {})
