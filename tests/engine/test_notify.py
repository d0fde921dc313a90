"""The service manager's side of a daemon: ready, stopping, alive as long as the engine gets on, and no word more."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from fleet.api.notify import Notifier
from fleet.core.events import Draft
from fleet.engine.pulse import BEAT, STUCK
from tests.clocks import run_virtual
from tests.engine.daemons import FLEET, Home, until
from tests.scenarios.stage import Stage, staged

STAGED = """
[fleet]
name = "alive"
[images.web]
simulated = ["1", "2"]
[pools.web]
driver = "sim"
servers = 3
image = "web"
mode = "manual"
sim = { seed = 1, boot = "5s" }
[pools.web.rollout]
max_surge = 1
max_unavailable = 0
min_healthy_time = "5s"
"""


class Listener:
    """A service manager that only listens."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def lines(self) -> list[str]:
        """All lines heard so far, in order."""
        while True:
            try:
                self.heard += self._socket.recv(65536).decode().split("\n")
            except BlockingIOError:
                return self.heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[Listener]:
    with tempfile.TemporaryDirectory(prefix="anew-") as folder:
        listener = Listener(f"@anew-test-{os.getpid()}" if request.param == "abstract" else f"{folder}/notify")
        yield listener
        listener.close()


def environment(manager: Listener, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "4000000", "PATH": "/usr/bin", **more}


def test_what_is_told_and_that_nothing_the_daemon_starts_could_tell_it(manager: Listener) -> None:
    around = environment(manager, WATCHDOG_PID=str(os.getpid()))
    notifier = Notifier(around)
    assert around == {"PATH": "/usr/bin"}
    notifier.ready("fleet \x1b[31mlab\nREADY=0")
    assert manager.lines() == ["READY=1", "STATUS=fleet [31mlab READY=0"]
    for _ in range(3):
        notifier.beat("")
    assert manager.lines()[2:] == ["WATCHDOG=1"] * 3, "4 s of patience are fed every second"
    notifier.stopping()
    assert manager.lines()[5] == "STOPPING=1"


def test_a_patient_manager_is_not_told_every_second(manager: Listener) -> None:
    notifier = Notifier(environment(manager, WATCHDOG_USEC="120000000"))
    for _ in range(120):
        notifier.beat("")
    assert manager.lines() == ["WATCHDOG=1"] * 4


def test_a_stuck_engine_is_named_and_tells_no_life_until_it_gets_on(manager: Listener) -> None:
    notifier = Notifier(environment(manager))
    notifier.ready("fleet lab")
    del manager.lines()[:]
    for stuck in ("", "the journal hangs", "the journal hangs", "the journal hangs", "", ""):
        notifier.beat(stuck)
    assert manager.lines() == ["WATCHDOG=1", "STATUS=stuck: the journal hangs", "STATUS=fleet lab", "WATCHDOG=1", "WATCHDOG=1"]


@pytest.mark.parametrize("wrong", [{"WATCHDOG_USEC": ""}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "-4000000"}, {"WATCHDOG_USEC": "٣"}, {"WATCHDOG_PID": "1"}])
def test_life_is_told_only_to_who_asked_for_it(manager: Listener, wrong: dict[str, str]) -> None:
    notifier = Notifier(environment(manager, **wrong))
    notifier.ready("fleet lab")
    for _ in range(20):
        notifier.beat("")
    assert manager.lines() == ["READY=1", "STATUS=fleet lab"]


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@nobody-listens", "relative", "vsock:2:1", "/" + "x" * 300, "@"])
def test_a_manager_that_does_not_listen_harms_nobody(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "4000000"})
    notifier.ready("fleet lab")
    notifier.beat("")
    notifier.beat("stuck")
    notifier.stopping()


def test_the_log_names_a_stuck_engine_and_a_service_manager_only_if_there_is_one(manager: Listener, caplog: pytest.LogCaptureFixture) -> None:
    for around in (environment(manager), environment(manager, WATCHDOG_USEC=""), {}):
        Notifier(around).beat("the journal hangs")
    silent = "the engine is stuck: the journal hangs"
    assert caplog.messages == [f"{silent}; until it gets on, the service manager hears no sign of life and may end this daemon", silent, silent]


def test_a_manager_whose_queue_is_full_is_not_waited_for(manager: Listener) -> None:
    notifier = Notifier(environment(manager))
    for _ in range(5000):
        notifier.beat("")
    assert 0 < len(manager.lines()) < 5000


# --- the engine's side: what counts as getting on


def play(story: Callable[[Stage, list[str]], Awaitable[None]]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with staged(STAGED, folder) as stage:
                beats: list[str] = []
                stage.engine.on_beat = beats.append
                await stage.birth("1")
                await story(stage, beats)

    run_virtual(run())


def test_an_idle_fleet_and_one_that_rolls_are_alive_at_every_beat() -> None:
    async def story(stage: Stage, beats: list[str]) -> None:
        await stage.clock.sleep(6 * 3600.0)
        await stage.command("rollout.start", plan={"to": "2"})
        await stage.settle()
        assert len(beats) > 6 * 3600 / BEAT - 60
        assert set(beats) == {""}

    play(story)


def test_a_journal_that_takes_no_write_any_more_ends_the_signs_of_life() -> None:
    async def story(stage: Stage, beats: list[str]) -> None:
        never = asyncio.get_running_loop().create_future()

        async def append(drafts: object) -> object:
            return await never

        stage.journal.append = append  # type: ignore[method-assign, assignment]
        writing = asyncio.ensure_future(stage.engine.record.write(Draft("remark", actor="ana", data={"text": "hm"})))
        del beats[:]
        await stage.clock.sleep(3 * STUCK * BEAT)
        assert beats[:STUCK - 1] == [""] * (STUCK - 1), "a slow disk is none that hangs"
        assert set(beats[STUCK + 2:]) == {f"the journal has not taken a write for {STUCK} s"}
        writing.cancel()

    play(story)


def test_a_planner_that_hangs_ends_the_signs_of_life() -> None:
    async def story(stage: Stage, beats: list[str]) -> None:
        release = asyncio.Event()

        async def hangs(view: object, notes: object) -> list[Draft]:
            await release.wait()
            return []

        stage.engine._enriched = hangs  # type: ignore[method-assign]
        await stage.clock.sleep(10.0)
        del beats[:]
        await stage.clock.sleep(2 * STUCK * BEAT)
        assert beats[-1] == f"pool web has not been decided on for {STUCK} s"
        release.set()
        await stage.clock.sleep(3 * BEAT)
        assert beats[-1] == "", "it gets on again"

    play(story)


def test_a_planner_whose_task_is_gone_ends_the_signs_of_life() -> None:
    async def story(stage: Stage, beats: list[str]) -> None:
        for task in asyncio.all_tasks():
            if "guard" in repr(task.get_coro()):
                task.cancel()
        await stage.clock.sleep(2 * STUCK * BEAT)
        assert beats[-1] == f"pool web has not been decided on for {STUCK} s"

    play(story)


def test_a_command_that_has_the_pool_for_long_is_no_planner_that_hangs() -> None:
    async def story(stage: Stage, beats: list[str]) -> None:
        async with stage.engine.holding(stage.view):
            await stage.clock.sleep(20 * STUCK * BEAT)
        await stage.clock.sleep(10.0)
        assert set(beats) == {""}

    play(story)


def test_a_planner_that_fails_each_time_is_told_and_does_not_end_the_daemon() -> None:
    """A fault of anew's own would be there again after a restart; its pool is paused and named instead."""
    async def story(stage: Stage, beats: list[str]) -> None:
        def fails(view: object, notes: object) -> list[Draft]:
            raise ZeroDivisionError

        stage.engine._enriched = fails  # type: ignore[method-assign, assignment]
        await stage.clock.sleep(5 * STUCK * BEAT)
        assert "anew itself failed" in stage.view.trouble
        assert set(beats) == {""}

    play(story)


def test_a_driver_that_does_not_answer_is_no_engine_that_hangs() -> None:
    async def story(stage: Stage, beats: list[str]) -> None:
        async def silent(pool: object) -> object:
            return await asyncio.get_running_loop().create_future()

        stage.driver.observe = silent  # type: ignore[method-assign, assignment]
        await stage.clock.sleep(5 * STUCK * BEAT)
        assert "did not answer" in stage.view.trouble
        assert set(beats) == {""}

    play(story)


# --- real processes

HASTY = "import fleet.engine.loop as loop; loop.BEAT, loop.STUCK = 0.01, 20; from fleet.daemon import main; main()"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.close()


def test_a_daemon_tells_ready_when_it_answers_then_life_then_its_end(home: Home, manager: Listener) -> None:
    home.start(NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="4000000")
    until(lambda: manager.lines().count("WATCHDOG=1") >= 2, "signs of life")
    assert manager.lines().count("READY=1") == 1
    assert f"STATUS=fleet real on {home.folder / 's'}" in manager.lines()
    home.fleet.write_text(FLEET.replace("servers = 3", "servers = 4"), encoding="utf-8")
    home.client.command("settings.reload")
    told = manager.lines().count("WATCHDOG=1")
    until(lambda: manager.lines().count("WATCHDOG=1") > told, "signs of life of the engine of the new file")
    assert home.stop() == 0
    assert manager.lines().count("STOPPING=1") == 1
    assert manager.lines().index("READY=1") < manager.lines().index("STOPPING=1")


def test_a_daemon_whose_journal_hangs_falls_silent_and_says_where_it_stood_when_it_is_ended(tmp_path: Path, manager: Listener) -> None:
    home = Home(tmp_path, program=("-c", HASTY))
    try:
        home.start(NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="1000000", ANEW_FAILPOINT="before-remark:hang")
        until(lambda: "WATCHDOG=1" in manager.lines(), "signs of life")
        with socket.socket(socket.AF_UNIX) as sock:
            body = b'{"command": "remark", "request": "r1", "text": "hm"}'
            sock.connect(str(home.folder / "s"))
            sock.sendall(b"POST /v1/commands HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            until(lambda: any(line.startswith("STATUS=stuck: the journal has not taken a write") for line in manager.lines()), "it says what hangs")
            del manager.lines()[:]
            for _ in range(50):  # many beats: one of the answers takes longer than one
                assert home.client.get("/v1/status")["fleet"] == "real", "it still answers, which proves nothing"
            assert "WATCHDOG=1" not in manager.lines()
        assert home.process is not None
        home.process.send_signal(signal.SIGABRT)
        assert home.process.wait(60) == -signal.SIGABRT
        assert "Fatal Python error: Aborted" in home.log() and "most recent call first" in home.log()
        home.program = ("-m", "fleet.daemon")
        home.start()
        assert home.client.get("/v1/journal/verify")["ok"]
    finally:
        home.close()

