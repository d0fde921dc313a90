"""`acceleration = "auto"`: KVM is used only where a guest was seen to boot under it.

/dev/kvm proves nothing (on some machines guests hang under it), so a throw-away domain boots the image at
hand, with its root read-only and no network, and a line of a Linux kernel on its serial console within the
deadline is the proof. What was found is kept per hypervisor: a proof until libvirt or QEMU change, a failure
for a day.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from drivers.libvirt import api, domain_xml
from drivers.libvirt.domain_xml import Blueprint
from drivers.libvirt.link import Link
from drivers.libvirt.store import Store
from fleet.core.errors import AnewError
from fleet.ports import Clock

PROOF_SECONDS: Final = 15.0
RETRY_SECONDS: Final = 86_400.0
PROOF_CONSOLE: Final = "anew-console-proof.0.log"

_KERNEL = re.compile(rb"Linux version|\[ +\d+\.\d{6}\] |Run /\S+ as init|login:|anew: ")


@dataclass(frozen=True, slots=True)
class Host:
    """What a hypervisor says of itself. `owners`: it gives a guest's files to the guest's user (the DAC model)."""

    versions: str
    kvm: bool
    owners: bool


def ask_host(connection: api.Connection) -> Host:
    """On a worker thread."""
    capabilities = ET.fromstring(connection.getCapabilities())
    kvm = capabilities.find("guest/arch[@name='x86_64']/domain[@type='kvm']") is not None
    models = {model.text for model in capabilities.findall("host/secmodel/model")}
    return Host(f"{connection.getLibVersion()}/{connection.getVersion()}", kvm, "dac" in models)


@dataclass(slots=True)
class Acceleration:
    """What one hypervisor can do: the domain type to use, found once."""

    main: Link
    store: Store
    clock: Clock
    wish: str
    memory: Path
    _kind: str = ""
    _host: Host | None = None

    async def host(self) -> Host:
        """What the hypervisor offers, asked once."""
        if self._host is None:
            self._host = await self.main.call("asking what the hypervisor offers", 30.0, ask_host)
        return self._host

    async def kind(self, sample: Blueprint) -> str:
        """kvm, qemu or test.

        `sample` is the domain about to be made: the proof boots a copy without what is its own.
        """
        if not self._kind:
            self._kind = await self._find(sample)
        return self._kind

    async def _find(self, sample: Blueprint) -> str:
        if self.main.uri.startswith("test:"):
            return "test"
        if self.wish != "auto":
            return {"kvm": "kvm", "tcg": "qemu"}[self.wish]
        host = await self.host()
        if not host.kvm:
            return "qemu"
        key = f"{self.main.place} {self.main.uri} {host.versions}"
        known = self._remembered().get(key)
        if known is not None and (known[0] == "kvm" or self.clock.now() - known[1] < RETRY_SECONDS):
            return known[0]
        found = "kvm" if await self._proved(sample) else "qemu"
        self._remember(key, found)
        return found

    async def _proved(self, sample: Blueprint) -> bool:
        directory = await self.store.directory()
        trial = replace(
            sample,
            kind="kvm",
            name=f"anew-proof-{sample.tag.fleet}",
            title="anew finds out whether KVM works here; it goes away by itself",
            tag=replace(sample.tag, uuid="", mark="making"),
            data=(),
            network=replace(sample.network, kind="none"),
            console=f"{directory}/{PROOF_CONSOLE}",
            seed=None,
            agent=False,
        )
        xml = proof_xml(trial)
        await self.store.remove(PROOF_CONSOLE)
        domain: api.Domain | None = None
        try:
            domain = await self.main.call(
                "booting a guest under KVM", 60.0, lambda c: c.createXML(xml, api.START_AUTODESTROY)
            )
            return await self._speaks()
        except AnewError:
            return False  # whatever keeps KVM from starting, TCG is there
        finally:
            if domain is not None:
                await self._end(domain)
            await self.store.remove(PROOF_CONSOLE)

    async def _speaks(self) -> bool:
        end = self.clock.now() + PROOF_SECONDS
        while self.clock.now() < end:
            text, _ = await self.store.read(PROOF_CONSOLE, -65_536, 65_536)
            if _KERNEL.search(text):
                return True
            await self.clock.sleep(0.25)
        return False

    async def _end(self, domain: api.Domain) -> None:
        try:
            await self.main.call("ending the guest of the KVM proof", 30.0, lambda _: domain.destroy())
        except AnewError:
            return  # autodestroy ends it with the connection

    def _remembered(self) -> dict[str, tuple[str, float]]:
        try:
            raw = json.loads(self.memory.read_bytes())
            return {
                str(key): (str(kind), float(at)) for key, (kind, at) in raw.items() if kind in ("kvm", "qemu")
            }
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _remember(self, key: str, kind: str) -> None:
        known = {**self._remembered(), key: (kind, self.clock.now())}
        aside = self.memory.with_suffix(".new")
        try:
            self.memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            aside.write_text(json.dumps(known))
            aside.replace(self.memory)
        except OSError:
            return  # then it is proved again next time


def proof_xml(trial: Blueprint) -> str:
    """The throw-away domain: nobody's tag, a root that it cannot write, the kernel told to speak."""
    root = trial.root if trial.root.backing is None else domain_xml.Root(*trial.root.backing)
    kernel = trial.kernel
    if kernel is not None:
        words = [word for word in kernel.cmdline.split() if word != "quiet"]
        kernel = replace(kernel, cmdline=" ".join([*words, "console=ttyS0", "earlyprintk=ttyS0"]))
    domain = ET.fromstring(domain_xml.build(replace(trial, root=root, kernel=kernel)))
    for name in ("uuid", "metadata"):
        for element in domain.findall(name):
            domain.remove(element)
    return ET.tostring(domain, encoding="unicode")
