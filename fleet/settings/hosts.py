"""The types of the settings of machines: addresses, host keys, files, URLs. As in `values.py`, a reader reads one value."""

from __future__ import annotations

import base64
import ipaddress
import re
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import PlainValidator

from fleet.settings.values import STRING, matching, pattern_schema, read_public_key, read_text, refuse

_KEY_FIELDS = {"ssh-ed25519": 2, "ssh-rsa": 3, "ecdsa-sha2-nistp256": 3, "ecdsa-sha2-nistp384": 3, "ecdsa-sha2-nistp521": 3}
"""Types of keys that hosts have, and of how many length-prefixed fields each consists (RFC 4253 6.6, 5656 3.1, 8709 4)."""
_ED25519_BYTES = 4 + len("ssh-ed25519") + 4 + 32
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_SYSTEM = re.compile(r"/redfish/v1/Systems/[A-Za-z0-9._-]{1,100}/?")


def _read_host_key(value: object) -> str:
    """"TYPE BASE64", without a remark. Read to its last byte: half a pasted key would match no host."""
    allowed = 'a host\'s public key such as "ssh-ed25519 AAAA…", the line of its file ssh_host_ed25519_key.pub'
    kind, base = read_public_key(value, allowed).split()[:2]
    blob, fields = base64.b64decode(base), 0
    whole = kind != "ssh-ed25519" or len(blob) == _ED25519_BYTES
    while blob:
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + length:
            raise refuse(allowed, "Its base64 part is cut off")
        blob, fields = blob[4 + length:], fields + 1
    if kind not in _KEY_FIELDS:
        raise refuse(allowed, f"No host has a key of type {kind}")
    if fields != _KEY_FIELDS[kind] or not whole:
        raise refuse(allowed, f"Its base64 part holds no whole {kind} key")
    return f"{kind} {base}"


def _read_host(value: object) -> str:
    allowed = "a host name such as rack1.example.org, or an IP address"
    text = read_text(value, allowed, 253)
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    if ":" in text:
        raise refuse(allowed, "A port goes into the key port")
    labels = text.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdecimal():
        raise refuse(allowed, "The user goes into the key user" if "@" in text else "")
    return text.lower()


def _read_file(value: object) -> str:
    allowed = "the path of a file, relative to this file or absolute"
    text = read_text(value, allowed)
    if text.startswith("~"):
        raise refuse(allowed, "~ is not expanded: the daemon may run as another user")
    return text


def _web_address(value: object, allowed: str, schemes: tuple[str, ...]) -> SplitResult:
    text = read_text(value, allowed, 1024)
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise refuse(allowed) from None
    if not text.isascii() or " " in text or url.scheme not in schemes or not url.hostname or port == 0 or "?" in text or "#" in text:
        raise refuse(allowed)
    if "@" in url.netloc:
        raise refuse(allowed, "A user or password has no place in a URL of this file")
    return url


def _read_mirror(value: object) -> str:
    return _web_address(value, "a URL such as http://10.0.0.1/images/web", ("http",)).geturl().rstrip("/")


def _read_bmc_url(value: object) -> str:
    allowed = "a Redfish system such as https://10.0.0.9/redfish/v1/Systems/1"
    url = _web_address(value, allowed, ("http", "https"))
    if not _SYSTEM.fullmatch(url.path):
        raise refuse(allowed, "Its path is /redfish/v1/Systems/ and the system's name")
    if url.scheme == "http" and not _is_loopback(url.hostname or ""):
        raise refuse(allowed, "Without TLS the password could be read on the way: http only to this machine itself")
    return url.geturl().rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


HostAddress = Annotated[str, PlainValidator(_read_host), STRING]
HostKey = Annotated[str, PlainValidator(_read_host_key), STRING]
FilePath = Annotated[str, PlainValidator(_read_file), STRING]
MirrorUrl = Annotated[str, PlainValidator(_read_mirror), pattern_schema("http://.*")]
BmcUrl = Annotated[str, PlainValidator(_read_bmc_url), pattern_schema("https?://.*")]
BmcUser = Annotated[
    str, matching(r"[!-9;-~]{1,64}", "a user name of the controller"), pattern_schema(r"[!-9;-~]{1,64}")]
"""Without a colon, which ends the name in HTTP's basic authentication (RFC 7617 2)."""
Serial = Annotated[
    str, matching(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,63}", "a disk's serial number, as `lsblk -o NAME,SERIAL` shows it"),
    pattern_schema(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,63}")]
