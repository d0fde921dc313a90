"""A reader of HTTP/1.1 answers, small on purpose.

`http.client` costs three starts of Python (it brings ssl and the email parser, 49 ms against 14 ms measured) before a
command has said a word; over a Unix socket to our own daemon none of that is needed. What is needed is read strictly:
a status line, at most MAX_FIELDS header lines of at most MAX_LINE bytes, then a body by Content-Length or in chunks.
Anything else is `Garbled`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from io import BufferedReader

MAX_LINE = 8192
MAX_FIELDS = 64
MAX_BODY = 64 * 1024 * 1024
PIECE = 64 * 1024


class Garbled(Exception):
    """What came back is not an answer of an anew daemon."""


def request_bytes(method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A whole request; header values must hold no line breaks (Garbled)."""
    lines = [f"{method} {path} HTTP/1.1", "Host: anew", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    for line in lines:
        if not line.isprintable() or not line.isascii() or " " in path:
            raise Garbled("a request cannot be made of this")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


class Reply:
    """An answer whose head was read: `status`, and the body to be read once, whole or piece by piece."""

    def __init__(self, stream: BufferedReader) -> None:
        self._stream = stream
        self.status, self._headers = _head(stream)

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives."""
        if self._headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunks()
            return
        try:
            left = int(self._headers["content-length"])
        except (KeyError, ValueError) as error:
            raise Garbled("the answer does not say how long it is") from error
        while left > 0:
            piece = self._stream.read1(min(left, PIECE))
            if not piece:
                raise Garbled("the answer was cut off")
            left -= len(piece)
            yield piece

    def close(self) -> None:
        """Let go of the connection."""
        self._stream.close()

    def whole(self) -> bytes:
        """The whole body, at most MAX_BODY bytes."""
        body = bytearray()
        for piece in self.pieces():
            body += piece
            if len(body) > MAX_BODY:
                raise Garbled("the answer is absurdly long")
        return bytes(body)

    def _chunks(self) -> Iterator[bytes]:
        while True:
            size = _hex(_line(self._stream).partition(b";")[0])
            left = size
            while left > 0:
                piece = self._stream.read1(min(left, PIECE))
                if not piece:
                    raise Garbled("the answer was cut off")
                left -= len(piece)
                yield piece
            if _line(self._stream):
                raise Garbled("a chunk is longer than it said")
            if size == 0:
                return


def _line(stream: BufferedReader) -> bytes:
    line = stream.readline(MAX_LINE)
    if not line.endswith(b"\r\n"):
        raise Garbled("the answer was cut off" if len(line) < MAX_LINE else "a line of the answer is too long")
    return line[:-2]


def _hex(text: bytes) -> int:
    try:
        return int(text, 16)
    except ValueError as error:
        raise Garbled("a chunk has no size") from error


def _head(stream: BufferedReader) -> tuple[int, dict[str, str]]:
    parts = _line(stream).split(b" ", 2)
    if len(parts) < 2 or parts[0] not in (b"HTTP/1.1", b"HTTP/1.0") or not parts[1].isdigit() or len(parts[1]) != 3:
        raise Garbled("the answer is not HTTP")
    headers: dict[str, str] = {}
    for _ in range(MAX_FIELDS):
        line = _line(stream)
        if not line:
            return int(parts[1]), headers
        name, colon, value = line.partition(b":")
        if not colon:
            raise Garbled("a header of the answer cannot be read")
        headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
    raise Garbled("the answer has too many headers")
