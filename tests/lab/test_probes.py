"""The probes and the SSH session on one real guest: a booting machine, dropbear, user networking."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from drivers.identity import IdentityStore
from drivers.probes.ssh import SshProbe
from drivers.probes.tcp import TcpProbe
from drivers.ssh import Remote, SshSessions
from fleet.core.desired import HealthCheck, Network, Pool
from fleet.core.errors import Permanent
from fleet.core.observed import Seen
from tests.clocks import VirtualClock
from tests.lab.guest import BOOT_DEADLINE, Guest, build

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

POOL = Pool("web", "libvirt", 1, "web", network=Network("user", guest_port=22))
BANNER = HealthCheck("tcp", {"port": 22, "expect": "SSH-2.0-"}, deadline=5.0)


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    return IdentityStore(str(tmp_path / "identities"))


async def test_from_power_on_to_a_command(tmp_path: Path, store: IdentityStore) -> None:
    done = build(tmp_path / "images", "1")
    assert done.returncode == 0, done.stderr
    blob = tmp_path / "blob"
    blob.write_text(store.seed_lines("web-1", "web-1.1"))
    blob.chmod(0o600)
    sessions, clock = SshSessions(store), VirtualClock()
    tcp, ssh = TcpProbe(clock), SshProbe(sessions, clock)
    with Guest(tmp_path / "images" / "1", tmp_path, blob=blob) as guest:
        seen = Seen("web-1", 1, "", "1", "running", 0.0, address=f"127.0.0.1:{guest.port}")
        said = await _until_up(tcp, guest, seen)
        assert said[-1].startswith("tcp 22: SSH-2.0-dropbear")
        assert any("accepted, then closed" in words or "no answer" in words for words in said), (
            "connected is not up"
        )

        check = HealthCheck("ssh", {"command": "grep -c ^processor /proc/cpuinfo"}, deadline=60.0)
        passed, words = await ssh.check(POOL, check, seen)
        assert passed, words
        assert words.startswith("ssh: exit 0: 1 in ")
        touch = await sessions.run(
            Remote("web-1", "127.0.0.1", guest.port), "touch /etc/x; cat /dev/zero", 60.0
        )
        assert touch.cut
        again = await sessions.run(Remote("web-1", "127.0.0.1", guest.port), "exit 3", 60.0)
        assert (again.status, again.cut) == (3, False)
        with pytest.raises(Permanent, match="is not the pinned one"):
            await sessions.run(Remote("web-2", "127.0.0.1", guest.port), "true", 60.0)
        await sessions.close()


async def _until_up(tcp: TcpProbe, guest: Guest, seen: Seen) -> list[str]:
    """Everything the probe said until it passed."""
    said = []
    async with asyncio.timeout(BOOT_DEADLINE):
        while True:
            assert guest.process.poll() is None, guest.console()[-2000:]
            passed, words = await tcp.check(POOL, BANNER, seen)
            said.append(words)
            if passed:
                return said
            await asyncio.sleep(0.5)
