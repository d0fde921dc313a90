"""A recorded terminal as a picture that moves: an asciinema cast (version 2) in, one SVG out that any browser plays without a script.

Each row of the screen is a strip of all that it ever showed, side by side; CSS moves the strips behind a window of 80 columns. What shows a
picture but plays none sees the poster. Text is placed cell by cell and stretched to its cells, and rules are drawn as shapes, so that it looks the
same in every monospace font. Whatever was on the screen is escaped: no byte of it is markup here.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

CELL, LINE, FONT, BASE = 10, 22, 16.6, 16
EDGE, TOP, FOOT = 16, 34, 48
STILL = 1.8
"""Seconds that nothing on the screen may last longer: waiting is no film."""

TOGETHER = 0.45
"""Changes within so many seconds are one frame."""

FASTER = re.compile(r"\((\d+) times as fast\)$")
"""At the end of a caption: so the film goes while it stands."""

TAIL = 2.5
PAPER, INK = "#121417", "#c5cdd9"
SIXTEEN = ("#1c1f23", "#ee7a76", "#8ec98a", "#e3b566", "#6fa8dc", "#b9a7e8", "#56b4c9", "#c5cdd9",
           "#7f8b9a", "#ee7a76", "#8ec98a", "#e3b566", "#79b4ea", "#b9a7e8", "#56b4c9", "#e6ebf2")
RULES = {"─": (-5.5, 1), "━": (-6.5, 3)}
"""Top and thickness, from the base line."""

TOKEN = re.compile(
    r"\x1b\[(?P<args>[0-?]*)[ -/]*(?P<final>[@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1bP[^\x1b]*\x1b\\|\x1b[()][0-9A-B]|\x1b[^\[\]P()]"
    r"|(?P<text>[^\x00-\x1f\x7f]+)|(?P<control>[\x00-\x1a\x1c-\x1f\x7f])")


class Style(NamedTuple):
    fg: str = ""
    bg: str = ""
    bold: bool = False
    dim: bool = False
    reverse: bool = False

    @property
    def shown(self) -> tuple[str, str]:
        """(colour of the letters, colour of the ground or "")."""
        fg, bg = self.fg or INK, self.bg if self.bg != PAPER else ""
        return (bg or PAPER, fg) if self.reverse else (fg, bg)


PLAIN = Style()


class Run(NamedTuple):
    """Neighbouring cells of one style."""

    x: int
    text: str
    style: Style


Row = tuple[Run, ...]
Cells = list[list[tuple[str, Style]]]


@dataclass
class Screen:
    """A terminal as far as anew and a shell use one: text, colours, the cursor, and the alternate screen."""

    columns: int
    lines: int
    cells: Cells = field(default_factory=list)
    x: int = 0
    y: int = 0
    style: Style = PLAIN
    _held: str = ""
    _behind: tuple[Cells, int, int] | None = None

    def __post_init__(self) -> None:
        self.cells = self._blank()

    def _blank(self) -> Cells:
        return [[(" ", PLAIN)] * self.columns for _ in range(self.lines)]

    @property
    def text(self) -> str:
        return "\n".join("".join(char for char, _ in row).rstrip() for row in self.cells)

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(tuple(_runs(row)) for row in self.cells)

    def feed(self, text: str) -> None:
        """Take output; a sequence that is cut waits for its rest."""
        text = self._held + text
        last = text.rfind("\x1b")
        end = last if last >= 0 and not TOKEN.match(text, last) else len(text)
        text, self._held = text[:end], text[end:]
        for found in TOKEN.finditer(text):
            if found["text"]:
                self._write(found["text"])
            elif found["control"]:
                self._control(found["control"])
            elif found["final"]:
                self._sequence(found["args"], found["final"])

    def _control(self, control: str) -> None:
        if control == "\r":
            self.x = 0
        elif control == "\b":
            self.x = max(0, self.x - 1)
        elif control == "\n" and self.y < self.lines - 1:
            self.y += 1
        elif control == "\n":
            self.cells = [*self.cells[1:], [(" ", PLAIN)] * self.columns]

    def _sequence(self, args: str, final: str) -> None:
        if final == "H":
            row, _, column = args.partition(";")
            self.y, self.x = min(_number(row, 1), self.lines) - 1, min(_number(column, 1), self.columns) - 1
        elif final == "J":
            self.cells = self._blank()
        elif final == "K":
            self.cells[self.y][self.x:] = [(" ", PLAIN)] * (self.columns - self.x)
        elif final == "m":
            self.style = _styled(self.style, args)
        elif args == "?1049" and final == "h":
            self._behind, self.cells = (self.cells, self.x, self.y), self._blank()
        elif args == "?1049" and final == "l" and self._behind is not None:
            (self.cells, self.x, self.y), self._behind = self._behind, None

    def _write(self, text: str) -> None:
        for char in text:
            wide = unicodedata.east_asian_width(char) in "WF"
            for part in (char, "") if wide else (char,):
                if self.x < self.columns:
                    self.cells[self.y][self.x] = (part, self.style)
                self.x += 1


def _number(text: str, default: int) -> int:
    return max(1, int(text)) if text.isdigit() else default


def _styled(style: Style, args: str) -> Style:
    codes = iter([int(code) if code.isdigit() else 0 for code in args.split(";")])
    for code in codes:
        if code == 0:
            style = PLAIN
        elif code in (1, 22):
            style = style._replace(bold=code == 1, dim=code == 1 and style.dim)
        elif code == 2:
            style = style._replace(dim=True)
        elif code in (7, 27):
            style = style._replace(reverse=code == 7)
        elif code // 10 in (3, 4, 9, 10):
            colour = _colour(codes) if code in (38, 48) else "" if code in (39, 49) else SIXTEEN[code % 10 % 8 + (8 if code >= 90 else 0)]
            style = style._replace(fg=colour) if code // 10 in (3, 9) else style._replace(bg=colour)
    return style


def _colour(codes: Iterator[int]) -> str:
    """What follows 38 or 48: `2;r;g;b`, or `5;n` of 256."""
    if next(codes, 0) == 2:
        return "#" + "".join(f"{min(255, next(codes, 0)):02x}" for _ in range(3))
    code = min(255, next(codes, 0))
    if code < 16:
        return SIXTEEN[code]
    if code >= 232:
        return "#" + f"{8 + 10 * (code - 232):02x}" * 3
    steps = (0, 95, 135, 175, 215, 255)
    return "#" + "".join(f"{steps[(code - 16) // size % 6]:02x}" for size in (36, 6, 1))


def _runs(cells: Sequence[tuple[str, Style]]) -> Iterator[Run]:
    at = 0
    while at < len(cells):
        end = at + 1
        while end < len(cells) and cells[end][1] == cells[at][1]:
            end += 1
        text, style = "".join(char or "\x00" for char, _ in cells[at:end]), cells[at][1]
        if text.strip() or style.shown[1]:
            yield Run(at, text, style)
        at = end


@dataclass(frozen=True)
class Frame:
    """What was seen from `at` on (seconds of the film): the rows, and what the film says about them."""

    at: float
    rows: tuple[Row, ...]
    caption: str


def frames(cast: str) -> tuple[dict[str, Any], list[Frame], float]:
    """(header, frames, length in seconds) of a cast; long waits are cut to STILL, and hurried changes are one."""
    first, *lines = cast.splitlines()
    header: dict[str, Any] = json.loads(first)
    screen = Screen(int(header["width"]), int(header["height"]))
    found: list[Frame] = []
    caption, at, before, speed = "", 0.0, 0.0, 1.0
    for line in lines:
        moment, kind, data = json.loads(line)
        at, before = at + min(STILL, max(0.0, moment - before)) / speed, moment
        if kind == "m":
            caption, fast = data, FASTER.search(data)
            speed = max(1.0, float(fast[1])) if fast else 1.0
        elif kind == "o":
            screen.feed(data)
        shown = Frame(at, screen.rows, caption)
        if found and (shown.rows, caption) == (found[-1].rows, found[-1].caption):
            continue
        if found and at - found[-1].at < TOGETHER and caption == found[-1].caption:
            shown = Frame(found.pop().at, shown.rows, caption)
        found.append(shown)
    return header, found, round(at + TAIL, 2)


class Film:
    """Frames as one SVG. `poster`: the frame that is seen where nothing plays."""

    def __init__(self, header: dict[str, Any], found: Sequence[Frame], length: float, poster: int = 0) -> None:
        self.columns, self.lines, self.title = int(header["width"]), int(header["height"]), str(header.get("title", ""))
        self.frames, self.length, self.poster = found, length, poster
        self.classes: dict[str, str] = {}
        self.pieces: dict[str, str] = {}

    def svg(self) -> str:
        width, height = self.columns * CELL, self.lines * LINE
        strips = [self._strip(y, [self._row(frame.rows[y]) for frame in self.frames], y * LINE + BASE) for y in range(self.lines)]
        caption = self._strip(self.lines, [self._caption(frame.caption) for frame in self.frames], BASE + 6)
        rules = "".join(f".{name}{{{rule}}}" for rule, name in self.classes.items())
        moves = "".join(css for css, _ in (*strips, caption))
        defs = "".join(f'<g id="{name}">{drawn}</g>' for drawn, name in self.pieces.items() if drawn)
        return "".join((
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + 2 * EDGE} {height + TOP + FOOT}" role="img" aria-label={quoteattr(self.title)}>',
            f"<title>{escape(self.title)}</title><style>text{{font:{FONT}px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:{INK}}}.b{{font-weight:bold}}.d{{opacity:.7}}",
            f".s{{animation-duration:{self.length}s;animation-timing-function:steps(1,end);animation-iteration-count:infinite}}",
            f"@media (prefers-reduced-motion:reduce){{.s{{animation:none}}}}{rules}{moves}</style><defs>{defs}</defs>",
            f'<rect width="100%" height="100%" rx="10" fill="{PAPER}"/>',
            *(f'<circle cx="{EDGE + 6 + 18 * place}" cy="17" r="5" fill="#3f4750"/>' for place in range(3)),
            f'<svg x="{EDGE}" y="{TOP}" width="{width}" height="{height}">', *(drawn for _, drawn in strips), "</svg>",
            f'<svg x="{EDGE}" y="{TOP + height + 8}" width="{width}" height="{FOOT - 12}">', caption[1], "</svg></svg>\n"))

    def _strip(self, number: int, shown: Sequence[str], y: int) -> tuple[str, str]:
        """(CSS, markup) of one row: every content it has once, side by side, and when which is in the window."""
        places = {drawn: place for place, drawn in enumerate(dict.fromkeys(shown))}
        width = self.columns * CELL
        steps = [(frame.at, places[drawn]) for frame, drawn in zip(self.frames, shown, strict=True)]
        steps = [step for place, step in enumerate(steps) if not place or step[1] != steps[place - 1][1]]
        css = ""
        if len(steps) > 1:
            moves = "".join(f"{100 * at / self.length if place else 0:.2f}%{{transform:translate({-width * which}px)}}" for place, (at, which) in enumerate(steps))
            css = f".s{number}{{animation-name:k{number}}}@keyframes k{number}{{{moves}}}"
        uses = "".join(f'<use href="#{self._piece(drawn)}"' + (f' x="{width * place}"' if place else "") + "/>" for drawn, place in places.items() if drawn)
        start = -width * places[shown[self.poster]]
        return css, f'<g transform="translate(0 {y})"><g class="s s{number}" transform="translate({start})">{uses}</g></g>' if uses else ""

    def _piece(self, drawn: str) -> str:
        return self.pieces.setdefault(drawn, f"p{len(self.pieces)}")

    def _class(self, rule: str) -> str:
        return self.classes.setdefault(rule, f"c{len(self.classes)}")

    def _row(self, row: Row) -> str:
        return "".join(self._run(run) for run in row)

    def _run(self, run: Run) -> str:
        fg, bg = run.style.shown
        ground = f'<rect x="{run.x * CELL}" y="-{BASE}" width="{len(run.text) * CELL}" height="{LINE}" class="{self._class(f"fill:{bg}")}"/>' if bg else ""
        look = [self._class(f"fill:{fg}")] * (fg != INK) + ["b"] * run.style.bold + ["d"] * run.style.dim
        parts = re.finditer(r"─+|━+|│|(?:(?!  )[^─━│])+", run.text)
        dress = f' class="{" ".join(look)}"' if look else ""
        return ground + "".join(self._part(run.x + part.start(), part[0], dress) for part in parts)

    def _part(self, x: int, text: str, dress: str) -> str:
        """Words that stand together, or a rule as a shape."""
        if text[0] in RULES:
            top, thick = RULES[text[0]]
            return f'<rect x="{x * CELL}" y="{top}" width="{len(text) * CELL}" height="{thick}"{dress}/>'
        if text == "│":
            return f'<rect x="{x * CELL + 4.5}" y="-{BASE}" width="1" height="{LINE}"{dress}/>'
        inner = text.strip()
        if not inner:
            return ""
        x += len(text) - len(text.lstrip())
        stretch = f' textLength="{len(inner) * CELL}"' if len(inner) > 1 else ""
        return f'<text x="{x * CELL}"{stretch}{dress}>{escape(inner.replace(chr(0), ""))}</text>'

    def _caption(self, caption: str) -> str:
        """`P  pause`: a key cap, then words."""
        key, gap, words = caption.partition("  ")
        if not caption or not gap:
            return f'<text class="{self._class("fill:#7f8b9a")}">{escape(caption)}</text>' if caption else ""
        wide = len(key) * CELL + 2 * CELL
        return (f'<rect x="0.5" y="-19" width="{wide}" height="27" rx="5" class="{self._class("fill:#2b313a;stroke:#3f4750")}"/>'
                f'<text x="{CELL}" textLength="{len(key) * CELL}" class="{self._class("fill:#f2d08a")} b">{escape(key)}</text>'
                f'<text x="{wide + 12}" class="{self._class("fill:#e6ebf2")}">{escape(words)}</text>')


def film(cast: str, poster: str = "") -> str:
    """The SVG of a cast. `poster`: the caption whose last frame is seen where nothing plays."""
    header, found, length = frames(cast)
    return Film(header, found, length, max((place for place, frame in enumerate(found) if frame.caption == poster), default=0)).svg()
