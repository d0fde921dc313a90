"""What anew negotiates over SSH, what it leaves alone, and which private keys it takes.

asyncssh's defaults are a person's: they read a configuration, ask an agent, look for X.509 and GSS. None of that is wanted of a
daemon, and each costs time for every connection.
"""

from __future__ import annotations

import os
from typing import Any, Final

from fleet.core.errors import Permanent

KEX = ["mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org"]
CIPHERS = ["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr"]
"""dropbear has no GCM; aes128-ctr is for builds without chacha20."""
MACS = ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-256"]
RSA = ("rsa-sha2-512", "rsa-sha2-256")
"""The signatures that are taken of a key of type ssh-rsa."""
NO_SSH = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, RuntimeError)
"""What asyncssh's parsers raise of a packet that is not as it should be; whoever waits for the connection is given it as it is."""

OPTIONS: Final[dict[str, Any]] = {
    "config": None,
    "agent_path": None, "agent_forwarding": False,
    "x509_trusted_certs": None, "x509_trusted_cert_paths": None,
    "gss_host": None, "gss_kex": False, "gss_auth": False,
    "preferred_auth": "publickey",
    "password_auth": False, "kbdint_auth": False, "host_based_auth": False,
    "kex_algs": KEX,
    "encryption_algs": CIPHERS,
    "mac_algs": MACS,
    "compression_algs": ["none"],
    "keepalive_interval": 15, "keepalive_count_max": 3,
    "known_hosts": b"",
    "send_env": None,
    "env": (),
    "login_timeout": 120,
}
"""Of `asyncssh.SSHClientConnectionOptions`, all but the keys."""


def private(path: str) -> tuple[int, int]:
    """(mtime, inode) of a private key that only its owner can read; OpenSSH takes no other."""
    try:
        found = os.stat(path)
    except OSError as problem:
        raise Permanent(f"the SSH key cannot be read: {why(problem)}; mend `key` in the fleet file", where=path, code="key") from None
    if found.st_mode & 0o077:
        raise Permanent(f"others may read this SSH key; run: chmod 600 {path}", where=path, code="key")
    return found.st_mtime_ns, found.st_ino


def why(problem: OSError) -> str:
    """The system's words: asyncio puts its own into strerror."""
    return os.strerror(problem.errno).lower() if problem.errno else "the connection was lost"


__all__ = ["CIPHERS", "KEX", "NO_SSH", "OPTIONS", "RSA", "private", "why"]
