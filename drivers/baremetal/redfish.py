"""One conversation with a BMC in Redfish, in a thread: sushy speaks it, a narrow session keeps it honest (rules in bmc.py).

One reset request where the BMC has one (PowerCycle, else ForceRestart): switching off and on in two requests is the last
resort, since a cut between them leaves the machine off.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urljoin, urlsplit

from fleet.core.errors import AnewError, Permanent, Transient
from fleet.core.printable import printable

if TYPE_CHECKING:
    import requests

LARGEST_ANSWER: Final = 1024 * 1024
PATIENCE: Final = 10.0
"""Seconds that a BMC may be silent within one request; they are slow, but a silent one is no help."""
OFF_WITHIN: Final = 30.0
POLL: Final = 1.0
PORTS: Final[Mapping[str, int]] = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a BMC is spoken to: `base` without path, `root` the service's path, `system` the path of the machine in it."""

    name: str
    url: SplitResult
    base: str
    root: str
    system: str
    verify: str


def ask(target: Target, user: str, password: str, pxe: bool, end: float) -> str | AnewError:
    """Restart the machine, or switch it on; `end` by time.monotonic(). Never raises what the BMC can cause."""
    import sushy
    from sushy.auth import BasicAuth

    try:
        session = _narrow_session(target, end)
        connector = sushy.connector.Connector(target.base, verify=target.verify, server_side_retries=1, default_request_timeout=PATIENCE)
        connector._session = session
        service = sushy.Sushy(target.base, auth=BasicAuth(user, password), root_prefix=target.root, connector=connector)
        return _restart(service.get_system(target.system), target, pxe, end)
    except AnewError as error:
        return error
    except sushy.exceptions.AccessError:
        return Permanent(f"its BMC refuses the user {user!r} and the password in its file; it was tried once", where=target.name, code="bmc-login")
    except sushy.exceptions.ResourceNotFoundError:
        return Permanent(f"its BMC knows no system {target.system}; see machines.{target.name}.bmc.url", where=target.name, code="bmc-system")
    except sushy.exceptions.HTTPError as error:
        return _said_no(target, int(error.status_code))
    except (sushy.exceptions.SushyError, AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return _garbage(target)


def _said_no(target: Target, status: int) -> AnewError:
    """Its own words stay out: they are hostile, and long."""
    sentence = f"its BMC refused the request with HTTP status {status}"
    if status >= 500:
        return Transient(f"{sentence}; it may be busy or starting", where=target.name, retry_after=PATIENCE)
    return Permanent(sentence, where=target.name)


def _garbage(target: Target) -> Permanent:
    return Permanent(f"what answers at {target.url.netloc} does not speak Redfish as it should; see machines.{target.name}.bmc.url",
                     where=target.name, code="bmc-garbage")


def _restart(system: Any, target: Target, pxe: bool, end: float) -> str:
    import sushy

    if pxe:
        if sushy.BootSource.PXE not in system.get_allowed_system_boot_source_values():
            raise Permanent("its BMC offers no boot from the network", where=target.name, code="no-pxe")
        system.set_system_boot_options(target=sushy.BootSource.PXE, enabled=sushy.BootSourceOverrideEnabled.ONCE)
    then = ", to boot once from the network" if pxe else ""
    allowed = system.get_allowed_reset_system_values()
    if system.power_state == sushy.PowerState.OFF:
        how = sushy.ResetType.ON if sushy.ResetType.ON in allowed else sushy.ResetType.FORCE_ON
        system.reset_system(how)
        return f"{target.name} was off; its BMC was told to switch it on{then}"
    for how, did in ((sushy.ResetType.POWER_CYCLE, "cut its power and give it back"), (sushy.ResetType.FORCE_RESTART, "restart it hard")):
        if how in allowed:
            system.reset_system(how)
            return f"{target.name}'s BMC was told to {did}{then}"
    _off_and_on(system, target, end)
    return f"{target.name}'s BMC switched it off and on again{then}"


def _off_and_on(system: Any, target: Target, end: float) -> None:
    """In two requests; in between it is off, and the next recover switches it on."""
    import sushy

    system.reset_system(sushy.ResetType.FORCE_OFF)
    off_by = min(end, time.monotonic() + OFF_WITHIN)
    while time.monotonic() < off_by:
        system.refresh(force=True)
        if system.power_state == sushy.PowerState.OFF:
            system.reset_system(sushy.ResetType.ON)
            return
        threading.Event().wait(POLL)
    raise Transient(f"its BMC was told to switch it off, and it is still on after {OFF_WITHIN:g} s; look at it, and try again",
                    where=target.name, retry_after=PATIENCE)


def _narrow_session(target: Target, end: float) -> requests.Session:
    """A session that speaks to one origin, follows nothing, reads no more than it must, and sends nothing after the deadline."""
    import requests

    class Narrow(requests.Session):
        def request(self, method: str, url: str | bytes, *more: Any, **options: Any) -> requests.Response:
            left = end - time.monotonic()
            if left <= 0:
                raise Transient("the deadline is over; nothing more was sent to its BMC", where=target.name)
            text = _same_origin(target, str(url))
            try:
                return _read(super().request(method, text, *more, **{
                    **options, "verify": target.verify, "allow_redirects": False, "stream": True, "timeout": min(PATIENCE, left)}), target, end)
            except requests.exceptions.SSLError as problem:
                raise Permanent(f"the TLS certificate shown at {target.url.netloc} is not trusted: {_tls_reason(problem)}; nothing was sent to it. "
                                f"If it has an authority of its own, name that as machines.{target.name}.bmc.ca", where=target.name, code="bmc-tls") from None
            except requests.exceptions.Timeout:
                raise Transient(f"its BMC at {target.url.netloc} does not answer", where=target.name, retry_after=PATIENCE) from None
            except (requests.exceptions.RequestException, OSError):
                raise Transient(f"its BMC at {target.url.netloc} cannot be reached, or hung up; is it on, and is the address right?",
                                where=target.name, retry_after=PATIENCE) from None
            finally:
                self.close()  # a connection each: BMCs hang up without saying so, and one used again is then reset

    session = Narrow()
    session.trust_env = False
    session.headers["Connection"] = "close"
    return session


def _same_origin(target: Target, url: str) -> str:
    """The absolute URL if it is the BMC's own. Links in answers may name anything."""
    try:
        found = urlsplit(urljoin(target.base + "/", url))
        port = found.port or PORTS.get(found.scheme, 0)
    except ValueError:
        raise _garbage(target) from None
    own = (target.url.scheme, target.url.hostname, target.url.port or PORTS[target.url.scheme])
    if (found.scheme, found.hostname, port) != own or found.username is not None:
        raise Permanent("its BMC points to another address; it was not followed", where=target.name, code="bmc-elsewhere")
    return found.geturl()


def _read(response: requests.Response, target: Target, end: float) -> requests.Response:
    """The answer with its body, if that is short and JSON, or empty."""
    if response.is_redirect or response.status_code in range(300, 400):
        response.close()
        raise Permanent("its BMC points to another address; it was not followed", where=target.name, code="bmc-elsewhere")
    body = b""
    for chunk in response.iter_content(16 * 1024):
        body += chunk
        if len(body) > LARGEST_ANSWER:
            response.close()
            raise _garbage(target)
        if time.monotonic() > end:
            response.close()
            raise Transient(f"its BMC at {target.url.netloc} answers too slowly", where=target.name, retry_after=PATIENCE)
    response._content = body
    if response.ok and body.strip():
        try:
            parsed = json.loads(body)
        except (ValueError, RecursionError):
            raise _garbage(target) from None
        if not isinstance(parsed, dict):
            raise _garbage(target)
    return response


def _tls_reason(problem: BaseException) -> str:
    """The innermost reason of the several layers; OpenSSL's own words."""
    inner: BaseException | None = problem
    for _ in range(10):
        if isinstance(inner, ssl.SSLCertVerificationError):
            return printable(inner.verify_message, 120)
        if isinstance(inner, ssl.SSLError):
            return printable(str(inner.reason or "the handshake failed").lower().replace("_", " "), 120)
        reason = getattr(inner, "reason", None)
        cause = reason if isinstance(reason, BaseException) else (inner.args[0] if inner is not None and inner.args else None)
        inner = cause if isinstance(cause, BaseException) else None
    return "the handshake failed"
