"""One pretended bare-metal machine: power, boots, trials, the dead-man, and who may come in.

Rules
- A boot takes `Pace.boot` seconds in which nobody listens. What then happens is up to the version that boots (`Pace.images`):
  it serves, panics, hangs, has no sshd, is never healthy, or serves for a while and then hangs.
- A trial that hangs is ended by its dead-man after `Pace.hang` seconds; one that nobody blesses after `Pace.dead_man`.
  An image that was kept has no dead-man: if it hangs it stays down until somebody cuts its power.
- A power cut loses all but `disk`; a reboot is a power cut with an announcement, since both go through firmware.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncssh

from tests.metal.disk import Content, Disk, Slot
from tests.metal.evil import Evil
from tests.metal.listening import Door, Service

if TYPE_CHECKING:
    from tests.metal.hosts import World

PANIC = "[    1.872341] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n[    1.873002] Rebooting in 1 seconds..\n"
HANG = "[    2.114077] anew: trial boot, dead-man armed\n[   32.114200] softdog: Initiating system reboot\n"


@dataclass(slots=True)
class Pace:
    """How long things take, in seconds, and how versions behave: `{"3": "panics", "4": "dies-after 0.5"}`.

    `late`: so long after a boot RAUC's service does not answer yet. Behaviours: `panics`, `hangs`, `no-sshd`, `unwell` (SSH answers, the service never), `dies-after S`.
    """

    boot: float = 0.1
    hang: float = 0.2
    dead_man: float = 30.0
    install: float = 0.0
    late: float = 0.0
    lock: float = 0.2
    images: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """A verb that reached the host. `boot_id` is the boot in which it did."""

    verb: str
    arguments: tuple[str, ...]
    boot_id: str


class Host:
    """A machine. `serving`: its service answers. `access`: "forced" (only the verbs), "sudo" or "root". `plain`: it runs no A/B
    layout.
    """

    def __init__(self, world: World, name: str, address: str, service_port: int) -> None:
        self.world, self.name, self.address = world, name, address
        self.disk = Disk.installed(str(uuid.uuid5(uuid.NAMESPACE_DNS, name)))
        self.evil = Evil()
        self.pace = world.pace
        self.backend = "rauc"
        self.plain = False
        self.access = "root"
        self.user = "root"
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.calls: list[Call] = []
        self.strange: list[str] = []
        self.lock = asyncio.Lock()
        self.held_by = ""
        self.boots = 0
        self.boot_id = self._shown = ""
        self.booted: Slot | None = None
        self.trial = False
        self.started = 0.0
        self.door = Door(address, lambda: self.evil, self._may, self._serve)
        self.service = Service(address, service_port)
        self.serving = False
        self._gone = asyncio.Event()
        self._life: asyncio.Task[None] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # -- what it is ------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """Where its sshd listens, whenever it does."""
        return self.door.port

    @property
    def host_key(self) -> str:
        """ "ssh-ed25519 AAAA…", as a person would pin it."""
        return self.key.export_public_key().decode().strip()

    @property
    def content(self) -> Content | None:
        """The image that runs."""
        return self.disk.contents[self.booted] if self.booted else None

    @property
    def version(self) -> str:
        """The version that runs, "" while none does."""
        return self.content.version if self.content and self.boot_id else ""

    async def spend(self, seconds: float) -> None:
        """Work on something for so long. Raises BrokenPipeError if the power goes meanwhile: nothing may be done after it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._gone.wait()
                raise BrokenPipeError

    def be_plain(self) -> None:
        """An ordinary system without A/B layout."""
        self.plain, self.disk.layout = True, False

    def rauc_answers(self) -> bool:
        """False for a while after each boot: its service starts later than sshd."""
        return asyncio.get_running_loop().time() >= self.started + self.pace.late

    def verbs(self) -> list[str]:
        """The verbs that reached it, in order, without the looking."""
        return [call.verb for call in self.calls if call.verb not in ("observe", "have")]

    def _may(self, user: str, key: asyncssh.SSHKey) -> bool:
        return user == self.user and key.public_data in self.world.welcome

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        await self.world.program(self, process)

    # -- power -----------------------------------------------------------------------------------------------

    async def power_on(self) -> None:
        """Boot, and return when the first boot has come to what it comes to. Raises OSError where a port of its is taken."""
        up = asyncio.Event()
        self._life = life = asyncio.create_task(self._live(up), name=f"host {self.name}")
        waiting = asyncio.ensure_future(up.wait())
        try:
            await asyncio.wait((waiting, life), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if life.done() and not life.cancelled():
            life.result()

    def power_cut(self) -> None:
        """Everything but the disk is gone, at once."""
        if self._life is not None:
            self._life.cancel()
            self._life = None
        self._down()
        self.boot_id, self.booted = "", None

    def restart(self) -> None:
        """Reboot through firmware. May be called from one of its own connections."""
        self.power_cut()
        self._life = asyncio.create_task(self._live(asyncio.Event()), name=f"host {self.name}")

    def reboot_soon(self) -> None:
        """Reboot once the answer is out."""
        self._after("reboot", 0.02, self.restart)

    async def be(self, evil: Evil) -> None:
        """Turn its knobs; who is connected is cut off, as the port is opened anew."""
        self.evil = evil
        if self.boot_id and self.door.port:
            self.door.close()
            await self.door.open(self.key)

    async def change_key(self) -> None:
        """Somebody else answers at its address from now on."""
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        await self.be(self.evil)

    def bless(self) -> None:
        """The dead-man stops."""
        self.trial = False
        self._stop("dead-man")

    # -- a life ----------------------------------------------------------------------------------------------

    async def _live(self, up: asyncio.Event) -> None:
        """Boot until something stays up. Every round takes time, so that this never spins."""
        while True:
            if self.boots:
                await _passing(self.pace.boot)
            if await self._boot(up):
                return
            up.set()

    async def _boot(self, up: asyncio.Event) -> bool:
        """One boot. False if it ended in another reboot."""
        self.boots += 1
        slot = self.disk.boot()
        content = self.disk.contents[slot]
        manner = self.pace.images.get(content.version, "") if content else "panics"
        self.trial = self.disk.booted(slot)
        if manner == "panics":
            self.disk.last_words = PANIC
            return False
        self._start(slot)
        if manner in ("hangs", "no-sshd"):
            await self._without_ssh(manner)
            self.disk.last_words = HANG
            self._down()
            if not self.trial:
                up.set()
                await asyncio.get_running_loop().create_future()
            return False
        await self.door.open(self.key)
        if manner != "unwell":
            await self._serve_as(content)
        self._watch(manner)
        up.set()
        return True

    def _start(self, slot: Slot) -> None:
        self.booted, self.plain = slot, not self.disk.layout
        self.boot_id = str(uuid.uuid4())
        if self.evil.lie != "same-boot-id" or not self._shown:
            self._shown = self.boot_id
        self.started = asyncio.get_running_loop().time()

    async def _without_ssh(self, manner: str) -> None:
        if manner == "no-sshd":
            await self._serve_as(self.content)
        await _passing(self.pace.hang)

    async def _serve_as(self, content: Content | None) -> None:
        await self.service.open(f"anew-service {content.version if content else '-'}\n".encode())
        self._now_serving(True)

    def _watch(self, manner: str) -> None:
        """The dead-man, and the end of an image that does not last."""
        if manner.startswith("dies-after "):
            self._after("end", float(manner.split()[1]), self._die)
        if self.trial:
            self._after("dead-man", self.pace.dead_man, self._dead_man)

    def _dead_man(self) -> None:
        self.disk.last_words = HANG
        self.restart()

    def _die(self) -> None:
        self._down()
        if self.trial:
            self._after("dead-man", self.pace.hang, self._dead_man)

    # -- small things ----------------------------------------------------------------------------------------

    def shown_boot_id(self) -> str:
        """What it says its boot id is."""
        return str(uuid.uuid4()) if self.evil.lie == "wrong-boot-id" else self._shown

    def _after(self, what: str, seconds: float, then: Callable[[], None]) -> None:
        self._stop(what)
        self._timers[what] = asyncio.get_running_loop().call_later(seconds, then)

    def _stop(self, what: str) -> None:
        timer = self._timers.pop(what, None)
        if timer is not None:
            timer.cancel()

    def _down(self) -> None:
        for what in list(self._timers):
            self._stop(what)
        self._gone.set()
        self._gone = asyncio.Event()
        self.door.close()
        self.service.close()
        self.held_by = ""
        self.lock = asyncio.Lock()
        self._now_serving(False)

    def _now_serving(self, serving: bool) -> None:
        if serving != self.serving:
            self.serving = serving
            self.world.changed(self)


async def _passing(seconds: float) -> None:
    """What a machine's own time is made of: ended early by a power cut, which cancels its life."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().create_future()
