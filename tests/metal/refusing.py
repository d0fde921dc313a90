"""How the pretended helper program says no: a code of docs/host-protocol.md, and the exit status that goes with it."""

from __future__ import annotations

EXITS = {
    "usage": 2,
    "stale-epoch": 3, "not-ours": 3, "wrong-state": 3, "wrong-disk": 3, "not-blank": 3, "no-helper": 3,
    "busy": 4, "not-ready": 4,
    "bad-bytes": 5, "no-space": 5, "read-only-data": 5, "no-backend": 5, "failed": 5,
}


class Fail(Exception):
    """The last line of an answer that is not ok."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence, self.exit = code, sentence, EXITS[code]
