"""libvirt's errors as anew's: one table from error code to what the engine shall do about it."""

from __future__ import annotations

from typing import Final

from drivers.libvirt import api
from fleet.core.errors import AnewError, Permanent, Refused, Transient

LATER: Final = "later"  # Transient: the same call may work after a while
NEVER: Final = "never"  # Permanent: the call is wrong or the hypervisor cannot do it
DENIED: Final = "denied"  # Refused: anew is not let in

# Codes that are missing here are NEVER: an unknown fault must stop a rollout, not be repeated until its
# deadline.
TABLE: Final[dict[str, str]] = {
    "VIR_ERR_INTERNAL_ERROR": LATER,  # libvirt's catch-all: QEMU that ended at once, a busy pool, a full disk
    "VIR_ERR_NO_MEMORY": LATER,
    "VIR_ERR_NO_CONNECT": LATER,
    "VIR_ERR_INVALID_CONN": LATER,
    "VIR_ERR_SYSTEM_ERROR": LATER,  # libvirtd is down, or its socket is gone
    "VIR_ERR_RPC": LATER,
    "VIR_ERR_GNUTLS_ERROR": LATER,
    "VIR_ERR_OPERATION_FAILED": LATER,
    "VIR_ERR_OPERATION_ABORTED": LATER,
    "VIR_ERR_OPERATION_TIMEOUT": LATER,
    "VIR_ERR_OPERATION_INVALID": LATER,  # the object's state changed between the look and the act
    "VIR_ERR_RESOURCE_BUSY": LATER,
    "VIR_ERR_NO_DOMAIN": LATER,  # vanished between the look and the act: look again
    "VIR_ERR_NO_STORAGE_VOL": LATER,
    "VIR_ERR_NO_STORAGE_POOL": LATER,
    "VIR_ERR_AGENT_UNRESPONSIVE": LATER,
    "VIR_ERR_AGENT_UNSYNCED": LATER,
    "VIR_ERR_AUTH_FAILED": DENIED,
    "VIR_ERR_AUTH_CANCELLED": DENIED,
    "VIR_ERR_AUTH_UNAVAILABLE": DENIED,
    "VIR_ERR_ACCESS_DENIED": DENIED,
    "VIR_ERR_OPERATION_DENIED": DENIED,
    "VIR_ERR_XML_ERROR": NEVER,
    "VIR_ERR_XML_DETAIL": NEVER,
    "VIR_ERR_XML_INVALID_SCHEMA": NEVER,
    "VIR_ERR_INVALID_ARG": NEVER,
    "VIR_ERR_CONFIG_UNSUPPORTED": NEVER,
    "VIR_ERR_NO_SUPPORT": NEVER,
    "VIR_ERR_ARGUMENT_UNSUPPORTED": NEVER,
    "VIR_ERR_OPERATION_UNSUPPORTED": NEVER,
    "VIR_ERR_DOM_EXIST": NEVER,
    "VIR_ERR_STORAGE_VOL_EXIST": LATER,  # two of us made it at once: the next look finds it
    "VIR_ERR_NO_NETWORK": NEVER,
}
_BY_CODE: Final = {code: kind for name, kind in TABLE.items() if (code := api.constant(name)) >= 0}

WORDS = 400
"""Characters of libvirt's own text that are kept: QEMU's last lines can be long."""


def translate(error: Exception, what: str, place: str) -> AnewError:
    """The AnewError for a LibvirtError met while doing `what` ("starting web-1.2") at the hypervisor `place`.
    """
    words = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())[:WORDS]
    where = f"hypervisor {place}"
    kind = _BY_CODE.get(api.code_of(error), NEVER)
    if kind == LATER:
        return Transient(f"{what} did not work: {words}", retry_after=2.0, where=where)
    if kind == DENIED:
        return Refused(
            f"{what} was not allowed: {words}; add anew's user to the group libvirt there, or run the daemon as root",
            where=where,
        )
    return Permanent(f"{what} cannot work: {words}", where=where)
