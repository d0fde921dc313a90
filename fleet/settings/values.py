"""The types of single settings: each reads one value by `core.grammar`, and tells editors its grammar as JSON schema.

A type is `Annotated[python type, reader, schema]`. A reader raises `PydanticCustomError("setting", ...)` with `allowed`
and `hint`, so that every refusal reaches the operator in the same words as one on the command line.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import string
import zoneinfo
from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from fleet.core import grammar
from fleet.core.desired import Amount, Breaker

VERSION_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"
FAULT_PATTERN = r"never-healthy|never-boots|writable-root|dies-after .+"
USER_PATTERN = r"[a-z_][a-z0-9_-]{0,31}\$?"
LONGEST_POOL_NAME = 57
"""63 characters less `-10000`, so that every server of the largest pool still has a name by the grammar."""

_FAULT = re.compile(r"never-healthy|never-boots|writable-root|dies-after ([0-9a-z]{1,40})")
_KEY_TYPE = re.compile(r"ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com")
_URI_QUERY = {"keyfile", "known_hosts", "mode", "socket"}
"""What a libvirt URI may carry. `no_verify` turns the host key check off, `command` and `netcat`
run programs: they stay out."""


def refuse(allowed: str, hint: str = "") -> PydanticCustomError:
    """The error of every reader here; pydantic puts it in its list beside the others."""
    return PydanticCustomError("setting", "{allowed}", {"allowed": allowed, "hint": hint})


def _by_grammar(read: Callable[[object], Any]) -> PlainValidator:
    def reader(value: object) -> Any:
        try:
            return read(value)
        except grammar.BadValue as wrong:
            raise refuse(wrong.allowed, wrong.hint) from None

    return PlainValidator(reader)


def _duration_between(least: str, most: str) -> PlainValidator:
    low, high = grammar.parse_duration(least), grammar.parse_duration(most)

    def reader(value: object) -> float:
        try:
            seconds = grammar.parse_duration(value)
        except grammar.BadValue as wrong:
            raise refuse(wrong.allowed, wrong.hint) from None
        if not low <= seconds <= high:
            raise refuse(f"a duration from {least} to {most}")
        return seconds

    return PlainValidator(reader)


def _size_between(least: str, most: str) -> PlainValidator:
    low, high = grammar.parse_size(least), grammar.parse_size(most)

    def reader(value: object) -> int:
        try:
            size = grammar.parse_size(value)
        except grammar.BadValue as wrong:
            raise refuse(wrong.allowed, wrong.hint) from None
        if not low <= size <= high:
            raise refuse(f"a size from {least} to {most}")
        return size

    return PlainValidator(reader)


def parse_zone(value: object) -> str:
    """The name of a time zone that this machine's database has. Raises BadValue."""
    names = zoneinfo.available_timezones()
    if isinstance(value, str) and value in names:
        return value
    near = get_close_matches(value, names, 1) if isinstance(value, str) else []
    raise grammar.BadValue(grammar.describe(value), "an IANA time zone such as Europe/Berlin", f"Did you mean {near[0]}?" if near else "")


def _pause() -> PlainValidator:
    def reader(value: object) -> float | None:
        try:
            return grammar.parse_pause(value)
        except grammar.BadValue as wrong:
            raise refuse(wrong.allowed, wrong.hint) from None

    return PlainValidator(reader)


def _whole_between(least: int, most: int) -> PlainValidator:
    def reader(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise refuse(f"an integer from {least} to {most}")
        return value

    return PlainValidator(reader)


def _read_share(value: object) -> float:
    """A number from 0 to 1; also refuses nan, which compares false with everything."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise refuse("a number from 0 to 1")
    return float(value)


def matching(pattern: str, allowed: str) -> PlainValidator:
    """A reader of text that the whole pattern fits."""
    compiled = re.compile(pattern)

    def reader(value: object) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise refuse(allowed)
        return value

    return PlainValidator(reader)


def read_text(value: object, allowed: str, longest: int = 4096) -> str:
    """A printable, non-empty line; anything else could not be shown or passed on as an argument."""
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
        raise refuse(allowed)
    return value


def _read_path(value: object) -> str:
    return read_text(value, "the path of a folder, relative to this file or absolute")


def _read_line(value: object) -> str:
    return read_text(value, "a line of printable text")


def _read_argument(value: object) -> str:
    text = read_text(value, "an argument: printable text with {name}, {address} or {version} where wanted")
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    except ValueError:
        raise refuse("an argument whose braces are in pairs") from None
    if not fields <= {"name", "address", "version"}:
        raise refuse("{name}, {address} and {version} as the only words in braces")
    return text


def _read_address(value: object) -> str:
    try:
        return str(ipaddress.ip_address(read_text(value, "an IP address", 64)))
    except ValueError:
        raise refuse("an IP address") from None


def _read_uri(value: object) -> str:
    allowed = "a libvirt URI such as qemu:///system or qemu+ssh://root@kvm1/system"
    text = read_text(value, allowed, 1024)
    try:
        uri = urlsplit(text)
        port, query = uri.port, parse_qs(uri.query, keep_blank_values=True)
    except ValueError:
        raise refuse(allowed) from None
    if uri.scheme not in ("qemu", "qemu+ssh", "test") or "://" not in text or uri.fragment or " " in text:
        raise refuse(allowed, "Schemes: qemu, qemu+ssh, test")
    if uri.password is not None:
        raise refuse(allowed, "A password has no place in a fleet file; use an SSH key")
    if (uri.scheme == "qemu+ssh") != bool(uri.hostname) or port == 0:
        raise refuse(allowed, "qemu+ssh names a machine, the others do not")
    if uri.scheme != "test" and uri.path not in ("/system", "/session"):
        raise refuse(allowed, "The path is /system or /session")
    if not set(query) <= _URI_QUERY:
        raise refuse(allowed, f"Allowed after the question mark: {', '.join(sorted(_URI_QUERY))}")
    return text


def _read_fault(value: object) -> str:
    match = _FAULT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise refuse('"never-healthy", "never-boots", "writable-root" or "dies-after 3s"')
    if match[1] is not None:
        try:
            grammar.parse_duration(match[1])
        except grammar.BadValue as wrong:
            raise refuse(f"dies-after with {wrong.allowed}", wrong.hint) from None
    return match[0]


def _read_public_key(value: object) -> str:
    return read_public_key(value, "a public key in OpenSSH form, such as the line of a file id_ed25519.pub")


def read_public_key(value: object, allowed: str) -> str:
    """"TYPE BASE64 REMARK" whose base64 part begins with the type it names; a remark may be missing."""
    if isinstance(value, str) and "PRIVATE KEY" in value:
        # The value is not repeated by the caller either: see validate.found_of.
        raise refuse(allowed, "This is a private key: take it out of this file, and think of it as known to others")
    words = read_text(value, allowed, 16_384).split()
    if len(words) < 2 or not _KEY_TYPE.fullmatch(words[0]):
        raise refuse(allowed)
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        raise refuse(allowed) from None
    name = words[0].encode()
    if blob[: 4 + len(name)] != len(name).to_bytes(4, "big") + name:
        raise refuse(allowed, "Its base64 part does not hold a key of the type it names")
    return " ".join(words)


_WHOLE_DURATION = WithJsonSchema({
    "type": "string", "pattern": f"^(?=.){grammar.DURATION_PATTERN}$", "examples": ["10s", "5m", "1h30m"]})
_SIZE_SCHEMA = WithJsonSchema({"type": "string", "pattern": f"^{grammar.SIZE_PATTERN}$", "examples": ["64MiB", "1GiB"]})


def pattern_schema(pattern: str) -> WithJsonSchema:
    """For editors: text that the whole pattern fits."""
    return WithJsonSchema({"type": "string", "pattern": f"^({pattern})$"})


def _whole(least: int, most: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "integer", "minimum": least, "maximum": most})


STRING = WithJsonSchema({"type": "string", "minLength": 1})

AmountValue = Annotated[Amount, _by_grammar(grammar.parse_amount), WithJsonSchema({"anyOf": [
    {"type": "integer", "minimum": 0, "maximum": grammar.LARGEST_AMOUNT},
    {"type": "string", "pattern": f"^{grammar.PERCENT_PATTERN}$", "examples": ["25%"]}]})]
Port = Annotated[int, _whole_between(1, 65535), _whole(1, 65535)]
Servers = Annotated[int, _whole_between(1, 10_000), _whole(1, 10_000)]
Failures = Annotated[int, _whole_between(0, 10_000), _whole(0, 10_000)]
Approvals = Annotated[int, _whole_between(0, 20), _whole(0, 20)]
Vcpus = Annotated[int, _whole_between(1, 1024), _whole(1, 1024)]
Seed = Annotated[int, _whole_between(0, 2**63 - 1), _whole(0, 2**63 - 1)]
SimPlaces = Annotated[int, _whole_between(1, 1000), _whole(1, 1000)]
HttpStatus = Annotated[int, _whole_between(100, 599), _whole(100, 599)]
Checkpoint = Annotated[int, _by_grammar(grammar.parse_checkpoint), WithJsonSchema({"anyOf": [
    {"type": "integer", "minimum": 1, "maximum": 99}, {"type": "string", "pattern": "^[1-9][0-9]?%$", "examples": ["25%"]}]})]
Share = Annotated[float, PlainValidator(_read_share), WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1})]
ShortDuration = Annotated[float, _duration_between("100ms", "1h"), _WHOLE_DURATION]
AnyDuration = Annotated[float, _duration_between("0s", "24h"), _WHOLE_DURATION]
Deadline = Annotated[float, _duration_between("1s", "7d"), _WHOLE_DURATION]
LongDuration = Annotated[float, _duration_between("0s", "3650d"), _WHOLE_DURATION]
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
ClockTime = Annotated[int, _by_grammar(grammar.parse_clock), pattern_schema(grammar.CLOCK_PATTERN)]
WindowLength = Annotated[float, _duration_between("1m", "7d"), _WHOLE_DURATION]
ZoneName = Annotated[str, _by_grammar(parse_zone), STRING]
PauseValue = Annotated[float | None, _pause(), WithJsonSchema({"anyOf": [{"const": "manual"}, {"type": "string", "pattern": grammar.DURATION_PATTERN}]})]
BreakerValue = Annotated[Breaker | None, _by_grammar(grammar.parse_breaker), WithJsonSchema({"anyOf": [
    {"const": "off"}, {"type": "string", "pattern": f"^{grammar.BREAKER_PATTERN}$"}]})]
Age = Annotated[float, _duration_between("1s", "3650d"), _WHOLE_DURATION]
Memory = Annotated[int, _size_between("16MiB", "64TiB"), _SIZE_SCHEMA]
DiskSize = Annotated[int, _size_between("1MiB", "1024TiB"), _SIZE_SCHEMA]
NameValue = Annotated[str, _by_grammar(grammar.parse_name), pattern_schema(grammar.NAME_PATTERN)]
DiskName = Annotated[
    str, _by_grammar(lambda value: grammar.parse_name(value, longest=20)), pattern_schema(r"[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?")]
"""At most 20 characters: a virtio disk's serial number, by which a guest finds it, holds no more."""
VersionValue = Annotated[
    str, matching(VERSION_PATTERN, "a version of letters, digits and . _ + -, such as 1 or 2024.06"), pattern_schema(VERSION_PATTERN)]
DeviceName = Annotated[
    str, matching(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", "the name of a network or bridge"), pattern_schema(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")]
UserName = Annotated[str, matching(USER_PATTERN, "a user name such as root"), pattern_schema(USER_PATTERN)]
Member = Annotated[
    str, matching(rf"(user|group):{USER_PATTERN}", '"user:NAME" or "group:NAME"'), pattern_schema(f"(user|group):{USER_PATTERN}")]
UrlPath = Annotated[
    str, matching(r"/[!-~]{0,1023}", "a path that begins with a slash, such as /healthz"), pattern_schema(r"/[!-~]{0,1023}")]
PathValue = Annotated[str, PlainValidator(_read_path), STRING]
Line = Annotated[str, PlainValidator(_read_line), STRING]
Argument = Annotated[str, PlainValidator(_read_argument), STRING]
Address = Annotated[str, PlainValidator(_read_address), STRING]
Uri = Annotated[str, PlainValidator(_read_uri), pattern_schema(r"(qemu|qemu\+ssh|test)://.*")]
Fault = Annotated[str, PlainValidator(_read_fault), pattern_schema(FAULT_PATTERN)]
PublicKey = Annotated[str, PlainValidator(_read_public_key), STRING]
