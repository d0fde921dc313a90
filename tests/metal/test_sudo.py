"""The least that lets anew in, as docs/metal.md has it typed: a user, a key, a rule for sudo. What is not the helper's is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from drivers.baremetal import protocol, words
from drivers.baremetal.bulk import Bulk
from drivers.baremetal.protocol import Frame
from drivers.baremetal.words import Words
from drivers.identity import IdentityStore
from drivers.remotes import Remote
from drivers.ssh import SshSessions
from fleet.ports import Operation
from tests.cli.running import Ended, run
from tests.metal.bringing import MIB, QuickClock, digest, noise
from tests.metal.sudohost import USER, SudoHost, commands, sudo_host

RULE = "anew ALL=(root) NOPASSWD: /usr/bin/anew-host"
LIMITS = 'restrict,command="anew-host" '


@dataclass
class Desk:
    """Where a person sits. `state`: of the daemon that commands start."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def key(self) -> Path:
        """anew's own, as somebody has it who stole it."""
        return self.state / "identities" / "client"

    def anew(self, *arguments: str) -> Ended:
        return run(None, *arguments, ANEW_FLEET=str(self.folder / "fleet.toml"), ANEW_STATE=str(self.state), HOME=str(self.folder))

    def steps(self) -> str:
        """What the page says, with anew's key in it as the command prints it."""
        line = self.anew("machine", "key", "--authorized-keys").out.strip()
        steps = commands().replace(f"{LIMITS}ssh-ed25519 AAAA… anew", line)
        assert line in steps and RULE in steps and "AAAA…" not in steps
        return steps

    def describe(self, host: SudoHost) -> None:
        (self.folder / "fleet.toml").write_text(
            f'[fleet]\nname = "one"\n[images.web]\npath = "images"\n[machines.rack1]\naddress = "127.0.0.1"\nport = {host.port}\nuser = "{USER}"\n'
            f'host_key = "{host.host_key}"\n[pools.web]\ndriver = "baremetal"\nmachines = ["rack1"]\nimage = "web"\nmode = "observe"\n'
            f"[[pools.web.health]]\ntcp = {{ port = {host.port} }}\n")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "images").mkdir()
    desk = Desk(tmp_path)
    yield desk
    if (desk.state / "anew.sock").exists():
        desk.anew("daemon", "stop")


def looked(desk: Desk, host: SudoHost) -> str:
    desk.describe(host)
    return desk.anew("machine", "check", "rack1").out


def test_what_the_page_says_lets_anew_in(desk: Desk) -> None:
    with sudo_host(desk.steps()) as host:
        assert "/etc/sudoers.d/anew: parsed OK" in host.log(), "visudo's word"
        said = looked(desk, host)
        assert said.startswith("rack1: it answers, and has no A/B slots"), said + host.log()
        assert f"Accepted publickey for {USER} " in host.log()


async def test_and_brings_it_a_bundle(desk: Desk) -> None:
    """Bytes on standard input go through sudo as they are, too."""
    image = noise(desk.folder / "bundle", 3 * MIB)
    with sudo_host(desk.steps()) as host:
        sessions = SshSessions(IdentityStore(str(desk.state / "identities")))
        said: list[str] = []
        to = Remote("rack1", "127.0.0.1", host.port, USER, pins=(host.host_key,))

        async def call(what: Words, deadline: float = 60.0) -> Frame:
            answer = await sessions.run(to, what.line, deadline, protocol.ANSWER_CAP)
            return protocol.require(protocol.parse(answer.output, "rack1", words=answer.errors.decode()), "rack1")

        bulk, op = Bulk(str(desk.folder / "bulk"), QuickClock(), sessions), Operation("0123456789abcdef", 7, "", 60.0)
        await bulk.bring(to, str(image), digest(image), image.stat().st_size, call, op, (), said.append)
        assert (await call(words.have(digest(image)))).value("state") == "complete", said
        await sessions.close()


FORCED = ("id", "sh", "sudo -n id", "anew-host; id", "anew-host observe; id", "anew-host $(id)", "/bin/sh -c id", "sudo -n /usr/bin/anew-host observe", "")
SHELL = ("sudo -n id", "sudo -n sh -c id", "sudo -n -u root id", "sudo -n cat /etc/shadow", "sudo -n /usr/bin/anew-host-2 observe", "sudo -n -s", "sudo -n -i",
         "sudo -n env id", "sudo -n /usr/bin/../bin/id", "sudo -n -e /etc/shadow", "cat /etc/shadow")


def test_the_key_alone_can_do_nothing_else(desk: Desk) -> None:
    with sudo_host(desk.steps()) as host:
        for line in FORCED:
            done = host.ssh(desk.key, line)
            assert done.returncode == 2 and "uid=" not in done.stdout + done.stderr, f"{line!r}: {done}"
            assert "error usage" in done.stdout, f"{line!r}: {done}"
        assert "anew-host 1" in host.ssh(desk.key, "anew-host observe").stdout
        terminal = host.ssh(desk.key, "", "-tt")
        assert terminal.returncode == 255 and "PTY allocation request failed" in terminal.stderr
        forwarded = host.ssh(desk.key, "anew-host observe", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1")
        assert forwarded.returncode == 255 and "remote port forwarding failed" in forwarded.stderr
        assert host.ssh(desk.key, "sftp", "-s").returncode == 2, "no files are copied"


def test_the_user_with_a_shell_is_root_for_the_helper_alone(desk: Desk) -> None:
    with sudo_host(desk.steps().replace(LIMITS, "restrict ")) as host:
        assert looked(desk, host).startswith("rack1: it answers, and has no A/B slots")
        assert "uid=0" not in host.ssh(desk.key, "id").stdout
        for line in SHELL:
            done = host.ssh(desk.key, line)
            assert done.returncode != 0 and "uid=0" not in done.stdout and "root:" not in done.stdout, f"{line!r}: {done}"
        sandbox = host.ssh(desk.key, f"sudo -n ANEW_HOST_ROOT={desk.folder} /usr/bin/anew-host observe")
        assert sandbox.returncode != 0 and "not allowed to set" in sandbox.stderr


@pytest.mark.parametrize(("rule", "sentence"), [
    (None, "sudo does not run /usr/bin/anew-host for it without a password"),
    ("anew ALL=(root) /usr/bin/anew-host", "sudo does not run /usr/bin/anew-host for it without a password"),
], ids=["no-rule", "asks-a-password"])
def test_without_the_rule_the_check_says_what_is_missing(desk: Desk, rule: str | None, sentence: str) -> None:
    steps = desk.steps()
    steps = "\n".join(line for line in steps.splitlines() if "sudoers" not in line) if rule is None else steps.replace(RULE, rule)
    with sudo_host(steps) as host:
        assert sentence in " ".join(looked(desk, host).split())
