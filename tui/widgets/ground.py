"""The ground that Textual paints by itself, in the colours of a palette."""

from __future__ import annotations

from textual.theme import BUILTIN_THEMES, Theme

from tui import theme


def textual_theme(name: str) -> Theme:
    """Textual's own colours for a palette: only the ground, all else is painted by the papers."""
    ground = theme.style(name, "plain")
    ansi = name not in ("dark", "light")
    back = "ansi_default" if ansi or ground.bgcolor is None else ground.bgcolor.name
    fore = "ansi_default" if ansi or ground.color is None else ground.color.name
    return Theme(name=f"anew-{name}", primary="ansi_blue" if ansi else "#79b4ea", background=back, surface=back,
                 panel=back, foreground=fore, dark=name in ("dark", "ansi-dark", "mono"), ansi=ansi,
                 variables=BUILTIN_THEMES["ansi-dark"].variables if ansi else {})
