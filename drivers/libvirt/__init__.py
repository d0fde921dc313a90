"""libvirt: incarnations as QEMU/KVM domains on local and remote hypervisors."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fleet.core.errors import Permanent
from fleet.ports import Surroundings

if TYPE_CHECKING:
    from drivers.libvirt.driver import LibvirtDriver

MISSING = (
    "the Python binding of libvirt is not installed, and this fleet has hypervisors; install it with: "
    "apt install libvirt-dev pkg-config gcc && pip install 'anew[libvirt]'"
)


@contextlib.asynccontextmanager
async def make(around: Surroundings) -> AsyncIterator[LibvirtDriver]:
    """The `anew.drivers` entry point. Raises Permanent if libvirt-python is missing.

    Opens no connection yet.
    """
    if importlib.util.find_spec("libvirtmod") is None:
        raise Permanent(MISSING, where="driver libvirt")
    from drivers.libvirt.driver import LibvirtDriver  # here, since all below imports libvirt

    driver = LibvirtDriver(around)
    try:
        yield driver
    finally:
        await driver.close()
