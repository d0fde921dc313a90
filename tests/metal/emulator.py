"""The Redfish emulator of sushy-tools in front of a real libvirt domain: a BMC whose machine really goes off and on."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import libvirt
import pytest

from tests.lab.guest import wait_until
from tests.lab.hypervisor import URI, Domain, Libvirt, connect
from tests.metal.authority import Certified
from tests.ports import free_port

EMULATOR = Path(sys.executable).with_name("sushy-emulator")
USER, PASSWORD = "operator", "correct horse"
DOMAIN = """<domain type='qemu'>
  <name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>48</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os>
  <devices>
    <interface type='user'><model type='virtio'/></interface>
  </devices>
</domain>"""


@dataclass
class Rack:
    """One domain without a disk: it runs and does nothing."""

    libvirt: Libvirt
    name: str
    uuid: str

    def domain(self) -> Domain:
        found = self.libvirt.named(self.name)
        assert found is not None, f"domain {self.name} is gone"
        return found

    def first_boot_device(self) -> str:
        """What the definition it starts from next boots first: the tag of a device, or what its <os> says."""
        xml = ET.fromstring(self.domain().kept)
        ordered = {int(boot.get("order", "0")): device.tag for device in xml.findall("devices/*") for boot in device.findall("boot")}
        listed = [boot.get("dev", "") for boot in xml.findall("os/boot")]
        return ordered[min(ordered)] if ordered else listed[0]

    def switch_off(self) -> None:
        connection = libvirt.open(URI)
        with contextlib.closing(connection):
            connection.lookupByName(self.name).destroy()


@contextlib.contextmanager
def rack() -> Iterator[Rack]:
    """A running domain for the block, removed afterwards."""
    hypervisor = connect()
    name, ident = f"anew-bmc-{os.getpid()}", str(uuid.uuid4())
    try:
        hypervisor.define(DOMAIN.format(name=name, uuid=ident), start=True)
        yield Rack(hypervisor, name, ident)
    finally:
        hypervisor.remove(name)
        hypervisor.close()


class Emulator:
    """The emulator's process, until `stop`."""

    def __init__(self, folder: Path, tls: Certified | None = None) -> None:
        if not EMULATOR.exists():
            pytest.skip("sushy-tools is not installed here, so there is no BMC to speak to; `make setup` installs it")
        self.port = free_port()
        self.scheme = "https" if tls else "http"
        (folder / "users").write_text(f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n")
        (folder / "emulator.conf").write_text(f"SUSHY_EMULATOR_AUTH_FILE = {str(folder / 'users')!r}\nSUSHY_EMULATOR_STATE_DIR = {str(folder)!r}\n")
        command = [str(EMULATOR), "--config", str(folder / "emulator.conf"), "--libvirt-uri", URI, "-i", "127.0.0.1", "-p", str(self.port)]
        if tls is not None:
            command += ["--ssl-certificate", str(tls.certificate), "--ssl-key", str(tls.key)]
        self.log = folder / "emulator.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: self._process.poll() is not None or "Running on" in self.said(), 120.0, "the emulator")
            assert self._process.poll() is None, self.said()
        except BaseException:
            self.stop()
            raise

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def url(self, machine: Rack) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/redfish/v1/Systems/{machine.uuid}"

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(timeout=30)
