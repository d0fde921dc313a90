"""The lasting SSH identity of each server, and anew's own client key.

Rules: a server's ed25519 host key is made once and is the same in every incarnation, so that nobody learns
to ignore a changed key; the directory is 0700 and every file 0600; a key that exists is never replaced; files
appear whole or not at all (written aside, fsynced, then linked to their name, so that of two makers one wins
and both use the winner's key).
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from fleet.core.errors import Permanent, Refused

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
"""The grammar of server names (reliability.md): what may become a part of a file name here."""

LARGEST_KEY = 16 * 1024


class IdentityStore:
    """Keys below one directory: `NAME.host` per server, `client` for anew itself. Made on first use."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    def host_private(self, server: str) -> str:
        """The server's private host key, the text of an OpenSSH key file. Refused for a name not ours."""
        return self._private(f"{_checked(server)}.host")

    def host_public(self, server: str) -> str:
        """ "ssh-ed25519 AAAA…" of the server's host key: what an SSH session pins."""
        return _public(self.host_private(server), self._directory / f"{server}.host")

    def client_private_path(self) -> str:
        """The path of anew's own client key (0600), made on first use."""
        self._private("client")
        return str(self._directory / "client")

    def client_public(self) -> str:
        """ "ssh-ed25519 AAAA… anew" of anew's own client key: it goes into every server's authorized keys."""
        return _public(self._private("client"), self._directory / "client") + " anew"

    def authorized_keys(self, more: Iterable[str] = ()) -> tuple[str, ...]:
        """anew's client key, then `more`, a line each, no duplicates. A key with a line break is Refused."""
        lines = dict.fromkeys([self.client_public(), *(line.strip() for line in more)])
        for line in lines:
            if not line.isprintable():
                raise Refused(
                    "an authorized key holds a line break or a control character; write each key as one line",
                    where=line[:40],
                )
        return tuple(line for line in lines if line)

    def seed_lines(self, server: str, instance: str, more: Iterable[str] = ()) -> str:
        """fw_cfg blob `opt/org.anew/identity`: KEY=VALUE lines, keys as base64; `instance` is "web-1.2"."""
        keys = "\n".join(self.authorized_keys(more)) + "\n"
        return (
            f"hostname={_checked(server)}\ninstance-id={instance}\nauthorized-keys={_base64(keys)}\n"
            f"host-key={_base64(self.host_private(server))}\n"
        )

    def _private(self, name: str) -> str:
        path = self._directory / name
        try:
            if not path.exists():
                self._make(path)
            with path.open("rb") as file:
                raw = file.read(LARGEST_KEY)
        except OSError as err:
            raise Permanent(
                f"cannot keep an SSH key there ({err.strerror}); make the folder writable for anew's user",
                where=str(path),
            ) from err
        return raw.decode("ascii", "replace")

    def _make(self, path: Path) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        text = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        handle, aside = tempfile.mkstemp(prefix=".new-", dir=self._directory)  # mkstemp makes it 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(aside, path)
            except FileExistsError:
                return  # somebody was quicker: theirs is the key
        finally:
            os.unlink(aside)
        folder = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _checked(server: str) -> str:
    if not NAME.match(server):
        raise Refused(
            "this is no server name: small letters, digits and inner dashes, at most 63", where=server[:80]
        )
    return server


def _public(private: str, path: Path) -> str:
    try:
        key = load_ssh_private_key(private.encode(), password=None)
    except (ValueError, TypeError, binascii.Error, UnsupportedAlgorithm) as err:
        raise Permanent(
            "this file is not an OpenSSH private key any more; put it back from a backup, or remove it and "
            "let every server of that name be re-born",
            where=str(path),
        ) from err
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")


def public_of(path: str) -> str:
    """ "TYPE BASE64" of the private key in this file."""
    try:
        with open(path, "rb") as file:
            raw = file.read(LARGEST_KEY)
    except OSError as err:
        raise Permanent(f"this SSH key cannot be read ({err.strerror})", where=path) from None
    return _public(raw.decode("ascii", "replace"), Path(path))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


__all__ = ["IdentityStore", "public_of"]
