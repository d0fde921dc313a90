"""What a host answers, read as a stranger's: docs/host-protocol.md, *What it prints*.

Rules
- A whole answer is at most 1 MiB, a value 512 bytes, a raw section 256 KiB, and there are at most 4,000 lines; what goes
  beyond is no answer.
- An answer without its last line was not given: Transient, and what was done is found by looking.
- What a person's shell prints before the helper's first line is skipped, up to 64 lines. After it nothing is.
- Values are printable when they leave here; what they mean is the reader's business (facts.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fleet.core.errors import AnewError, Permanent, Refused, Transient
from fleet.core.printable import printable

BANNER: Final = b"anew-host 1"
ANSWER_CAP: Final = 1024 * 1024
VALUE_CAP: Final = 512
LINE_CAP: Final = VALUE_CAP + 33
SECTION_CAP: Final = 256 * 1024
LINES_CAP: Final = 4000
PREAMBLE: Final = 64

_PAIR: Final = re.compile(rb"([a-z_.A-Z]{1,32})(?: (.*))?", re.DOTALL)
_SECTION: Final = re.compile(rb"--- ([a-z]{1,16}) ([0-9]{1,9})")
_ERROR: Final = re.compile(rb"error ([a-z-]{1,32})(?: (.*))?", re.DOTALL)
_OTHER: Final = re.compile(rb"anew-host ([0-9]{1,9})")
_EPOCH: Final = re.compile(r"epoch\D{0,12}(\d{1,15})|\b(\d{1,15})\b")

TRANSIENT: Final = ("busy", "not-ready")
REMEDIES: Final[Mapping[str, str]] = {
    "not-ours": "another controller's mark is on it; look at it before anything is changed",
    "wrong-state": "it is not in the state this step begins from; look at it with `anew machine check`",
    "wrong-disk": "compare the disk's serial number with the fleet file",
    "not-blank": "choose another disk, or empty it by hand if you are sure",
    "no-helper": "install /usr/bin/anew-host there, or let a user in who may run sh",
    "bad-bytes": "the bytes are not the catalogued ones or the signature does not hold; stage again, and check the image",
    "no-space": "free some space on its data partition",
    "read-only-data": "its data partition is read-only: look at the disk and its file system",
    "no-backend": "it has no way to boot two images in turn; its image must fit docs/host-protocol.md, or it can only be looked at",
    "failed": "its own log, STATE/log on the data partition, says more",
    "usage": "its anew-host and this daemon are not of one release: give it an image with the newer helper",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """An answer that came whole. `code` is "" for ok. `pairs` in the order said, a key may come more than once."""

    pairs: tuple[tuple[str, str], ...] = ()
    sections: Mapping[str, bytes] | None = None
    code: str = ""
    sentence: str = ""

    def value(self, key: str) -> str:
        """The first value of a key, "" if it was not said."""
        return next((value for name, value in self.pairs if name == key), "")

    def values(self) -> dict[str, str]:
        """The first value of every key, for those who want more than a few."""
        return dict(reversed(self.pairs))

    def section(self, name: str) -> bytes:
        """A raw section, b"" if there is none."""
        return (self.sections or {}).get(name, b"")


class Unanswered(Transient):
    """The answer is none of anew-host's: it is not there, or not to be had."""


def parse(output: bytes, where: str, *, words: str = "") -> Frame:
    """The frame of an answer.

    Transient if the last line is missing, Unanswered if there is no first line, Permanent if the host speaks otherwise than
    the protocol. `words`: what came on standard error, for the sentence.
    """
    if len(output) > ANSWER_CAP:
        raise Permanent("it answers with more than 1 MiB; whatever answers there is not anew-host", where=where)
    at = _after_banner(output, where, words)
    pairs: list[tuple[str, str]] = []
    sections: dict[str, bytes] = {}
    for _ in range(LINES_CAP):
        end = output.find(b"\n", at)
        if end < 0:
            raise Transient("its answer breaks off before its last line, so it was not given; it is asked again", where=where)
        line, at = output[at:end].rstrip(b"\r"), end + 1
        if len(line) > LINE_CAP:
            raise Permanent(f"it answers with a line of {len(line)} bytes, and values may have 512; see docs/host-protocol.md", where=where)
        if line == b"ok":
            return Frame(tuple(pairs), sections)
        if line.startswith(b"error ") and (error := _ERROR.fullmatch(line)):
            return Frame(tuple(pairs), sections, _text(error[1]), _text(error[2] or b""))
        if line.startswith(b"--- ") and (section := _SECTION.fullmatch(line)):
            name, size = _text(section[1]), int(section[2])
            if size > SECTION_CAP:
                raise Permanent(f"it answers with a section of {size} bytes, and 256 KiB are allowed", where=where)
            if len(output) < at + size + 1:
                raise Transient(f"its answer breaks off within the section {name}; it is asked again", where=where)
            sections[name], at = output[at : at + size], at + size
            at += output[at : at + 1] == b"\n"
        elif pair := _PAIR.fullmatch(line):
            pairs.append((pair[1].decode("ascii"), _text(pair[2] or b"")))
        else:
            raise Permanent(f"it answers with a line that is none of the protocol: {_text(line)[:80]!a}", where=where)
    raise Permanent(f"it answers with more than {LINES_CAP} lines; whatever answers there is not anew-host", where=where)


def _after_banner(output: bytes, where: str, words: str) -> int:
    at = 0
    for _ in range(PREAMBLE):
        end = output.find(b"\n", at)
        if end < 0:
            break
        line = output[at:end].rstrip(b"\r")
        if line == BANNER:
            return end + 1
        if other := _OTHER.fullmatch(line):
            raise Permanent(f"it speaks protocol {_text(other[1])} and this daemon speaks 1: give it an image of this release", where=where)
        at = end + 1
    raise Unanswered(_silence(output, words), retry_after=5.0, where=where)


def _silence(output: bytes, words: str) -> str:
    """A sentence for what came instead of an answer."""
    said = printable(_text(words.encode()) or _text(output[:LINE_CAP]), 120)
    if "password is required" in said or "a terminal is required" in said:
        return "sudo asks for a password there; allow /usr/bin/anew-host with NOPASSWD in sudoers"
    if "not found" in said or "No such file" in said:
        return "it has no anew-host; install /usr/bin/anew-host there"
    if "not allowed" in said or "ermission denied" in said:
        return f"its user may not run anew-host ({said}); see docs/host-protocol.md for the three ways to let it in"
    return f"anew-host gave no answer there{': ' + said if said else ''}"


def require(frame: Frame, where: str, *, epoch: int = 0) -> Frame:
    """The frame if it says ok; else raises what its code means. `epoch`: the newest that the host is known to have seen."""
    if not frame.code:
        return frame
    raise _meaning(frame, where, epoch)


def _meaning(frame: Frame, where: str, epoch: int) -> AnewError:
    code, said = frame.code, printable(frame.sentence, 200)
    if code == "stale-epoch":
        found = _EPOCH.search(said)
        newer = next((number for number in found.groups() if number), "") if found else ""
        return Refused(
            f"another controller (epoch {newer or epoch or 'unknown'}) has this host; end this daemon or that one, two must not act",
            where=where, code=code,
        )
    if code in TRANSIENT:
        return Transient(said or "it is busy; it is asked again", retry_after=3.0, where=where, code=code)
    remedy = REMEDIES.get(code, "see docs/host-protocol.md")
    sentence = f"{said or code}; {remedy}"
    if code in ("not-ours", "wrong-state", "wrong-disk", "not-blank", "no-helper"):
        return Refused(sentence, where=where, code=code)
    return Permanent(sentence, where=where, code=code)


def _text(raw: bytes) -> str:
    """One line, every character of which can be shown."""
    if raw.isascii() and len(raw) <= VALUE_CAP and (plain := raw.decode("ascii")).isprintable():
        return plain.strip()  # nearly all that a fleet says
    text = printable(raw.decode("utf-8", "replace"), VALUE_CAP)
    return text if text.isprintable() else "".join(char for char in text if char.isprintable())


__all__ = ["ANSWER_CAP", "Frame", "Unanswered", "parse", "require"]
