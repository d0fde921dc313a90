"""A machine's power, through its management controller (BMC): Redfish, by the optional package sushy.

Rules
- Only redfish.py beside this module imports sushy and requests, and only when a machine with a BMC is recovered.
- What a BMC says is hostile: at most 1 MiB an answer, JSON objects only, no redirects, and no request leaves for
  another origin than that of the machine's `bmc.url`, whatever links the BMC shows: the password goes with each.
- TLS is verified with the machine's `bmc.ca`, or the system's authorities; there is no way to switch that off. Plain
  http is spoken to loopback only (an SSH tunnel, the emulator of the tests).
- The password is read from its file at each use, and refused if anybody but its owner may read that file. It is
  tried once: no repeated logins, so that no account is locked.
- Proxies, netrc and certificates named by the environment are ignored.
- sushy waits and cannot be cancelled, so it runs in a thread of its own, one a BMC at a time. Nothing is sent any more
  once the deadline is over, even if the thread is still held up by a BMC that trickles.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import ssl
import stat
import threading
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from drivers.baremetal.redfish import PATIENCE, PORTS, Target, ask
from fleet.core.desired import Bmc, Machine
from fleet.core.errors import AnewError, Permanent, Refused, Transient

LARGEST_PASSWORD: Final = 1024
ROOT: Final = "/redfish/v1/"

_under_way: set[str] = set()
"""URLs of BMCs that a thread of this process is speaking to. Only the event loop's thread changes it."""


async def cycle(machine: Machine, pxe: bool, deadline: float) -> str:
    """Restart a machine hard, or switch it on if it is off; with `pxe` its next boot, and only that, is from the network.

    Returns a sentence of what was done when the BMC took it; `deadline` in seconds. Raises Refused where the fleet file does
    not name a usable BMC, Transient if it cannot be reached or does not answer in time, Permanent for what waiting does not mend.
    """
    bmc = machine.bmc
    if bmc is None:
        raise Refused(f"it has no BMC in the fleet file; add [machines.{machine.name}.bmc], or go there and press its button",
                      where=machine.name, code="no-bmc")
    _need_sushy(machine.name)
    target = _target(machine.name, bmc)
    password = await asyncio.to_thread(_password, machine.name, bmc)
    if bmc.url in _under_way:
        raise Transient("an earlier request to its BMC has not come back yet; wait for it", where=machine.name, retry_after=PATIENCE)
    end = time.monotonic() + deadline
    _under_way.add(bmc.url)
    return await _in_thread(lambda: ask(target, bmc.user, password, pxe, end), deadline, target, lambda: _under_way.discard(bmc.url))


def _need_sushy(name: str) -> None:
    """A sentence naming the extra instead of an ImportError. The libraries log what BMCs say, so they are kept quiet."""
    try:
        import sushy  # noqa: F401
    except ImportError:
        raise Refused("speaking to its BMC needs the package sushy; install anew with its extra: pip install 'anew[bmc]'",
                      where=name, code="no-sushy") from None
    for library in ("sushy", "urllib3", "requests"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


# --- what the fleet file says


def _target(name: str, bmc: Bmc) -> Target:
    try:
        url = urlsplit(bmc.url)
        port = url.port or PORTS.get(url.scheme, 0)
    except ValueError:
        raise _bad_url(name, "it is no URL") from None
    if url.scheme not in PORTS or not url.hostname or not port:
        raise _bad_url(name, "it must begin with https:// and a host")
    if url.username is not None or url.password is not None:
        raise _bad_url(name, "a user and a password do not belong into a URL; use user and password_file")
    if url.scheme == "http" and not _loopback(url.hostname):
        raise _bad_url(name, "plain http would show the password to everybody on the way; use https")
    before, found, after = url.path.partition(ROOT)
    if not found or not after.strip("/") or url.query or url.fragment:
        raise _bad_url(name, "it must name one system, as in https://10.0.0.9/redfish/v1/Systems/1")
    return Target(name, url, f"{url.scheme}://{url.netloc}", before + ROOT, url.path.rstrip("/"), _authorities(name, bmc))


def _bad_url(name: str, why: str) -> Refused:
    return Refused(f"machines.{name}.bmc.url cannot be used: {why}", where=name, code="bmc-url")


def _loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _authorities(name: str, bmc: Bmc) -> str:
    """A path for TLS to trust. requests would take its own list of authorities instead of the system's."""
    paths = ssl.get_default_verify_paths()
    found = bmc.ca or paths.cafile or paths.capath or ""
    try:
        if bmc.ca:
            ssl.create_default_context(cafile=bmc.ca)
    except (OSError, ssl.SSLError):
        raise Refused(f"the certificate authority {bmc.ca} (machines.{name}.bmc.ca) cannot be read, or is not a PEM file",
                      where=name, code="bmc-ca") from None
    if not found:
        raise Refused(f"this system has no list of certificate authorities; name one as machines.{name}.bmc.ca", where=name, code="bmc-ca")
    return found


def _password(name: str, bmc: Bmc) -> str:
    """Read at each use; never kept, never said."""
    if not bmc.password_file:
        return ""
    try:
        handle = os.open(bmc.password_file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            about = os.fstat(file.fileno())
            raw = file.read(LARGEST_PASSWORD + 1) if stat.S_ISREG(about.st_mode) else b""
    except OSError as problem:
        raise Refused(f"its BMC's password file {bmc.password_file} cannot be read ({problem.strerror})", where=name, code="bmc-password") from None
    if about.st_mode & 0o077:
        raise Refused(f"others may read its BMC's password file {bmc.password_file}; do: chmod 600 {bmc.password_file}, and change the password",
                      where=name, code="bmc-password")
    password = raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "replace")
    if not password or len(raw) > LARGEST_PASSWORD or not password.isprintable() or "\ufffd" in password:
        raise Refused(f"its BMC's password file {bmc.password_file} must hold the password and nothing else", where=name, code="bmc-password")
    return password


# --- a thread with a deadline


async def _in_thread(work: Callable[[], str | AnewError], deadline: float, target: Target, done: Callable[[], None]) -> str:
    """A thread that nobody waits for at exit: one that a BMC holds up must not keep the daemon from ending."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str | AnewError] = loop.create_future()

    def deliver(outcome: str | AnewError) -> None:
        done()
        if not answer.done():
            answer.set_result(outcome)

    def run() -> None:
        outcome: str | AnewError = Permanent("speaking to its BMC failed in a way that anew does not know; its log has the details", where=target.name)
        try:
            outcome = work()
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(deliver, outcome)

    threading.Thread(target=run, name=f"bmc-{target.name}", daemon=True).start()
    try:
        async with asyncio.timeout(deadline):
            outcome = await answer
    except TimeoutError:
        raise _too_late(target, deadline) from None
    if isinstance(outcome, AnewError):
        raise outcome
    return outcome


def _too_late(target: Target, deadline: float) -> Transient:
    return Transient(f"its BMC at {target.url.netloc} did not answer within {deadline:g} s; whether it was restarted is not known: "
                     "look at it, and try again", where=target.name, retry_after=PATIENCE)
