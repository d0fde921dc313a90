"""Five hundred machines, one rollout, the real engine: most behave, and every way to misbehave that tests/metal/evil.py has is there.

The hosts are a process of their own (tests/metal/farm.py), so that memory, descriptors and tasks counted here are the
controller's. What the budget promised is asked of the hosts: they know best when they did not serve.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.metal.farm import Farm, TooFewDescriptors
from tests.metal.host import Pace
from tests.metal.rolling import Rolling, add_image, client_key, rolling

COUNT = 500
UNAVAILABLE = 60
CANARIES = ("rack1", "rack2", "rack3")
SETTINGS = {
    "max_unavailable": UNAVAILABLE, "canaries": len(CANARIES), "max_failures": COUNT, "healthy_deadline": "5m", "progress_deadline": "10m", "order": "name",
    "min_healthy_time": "200ms",
}
DEADLINE = 300.0
"""Seconds for what takes a quarter of a minute or two on an idle machine with two cores."""

SILENT_FROM_THE_START: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("be", {"evil": {"stall": "no-banner"}}, "has not answered|no answer"),
    ("be", {"evil": {"stall": "banner"}}, "has not answered|no answer"),
    ("be", {"evil": {"stall": "no-auth"}}, "has not answered|no answer"),
    ("be", {"evil": {"refuses_key": True}}, "does not accept anew's key"),
    ("change-key", {}, "host key is not the pinned one"),
    ("be", {"evil": {"flood": "huge-json"}}, "104857600 bytes|more than 1 MiB"),
    ("be", {"evil": {"cut_after": 900}}, "SSH session failed|breaks off|lost|broken pipe|has not answered|reset"),
    ("power-cut", {}, "refused"),
)
SPOILT_LATER: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("be", {"evil": {"stall": "no-answer"}}, "has not answered|no answer|bringing"),
    ("be", {"evil": {"stall": "half-answer"}}, "has not answered|no answer|bringing"),
    ("be", {"evil": {"stall": "no-answer", "verbs": ["arm"]}}, "no answer|booting|waits"),
    ("be", {"evil": {"flood": "endless"}}, "has not answered|no answer|1 MiB"),
    ("be", {"evil": {"flood": "million-lines"}}, "1 MiB|4000 lines"),
    ("be", {"evil": {"lie": "wrong-boot-id"}}, "not come back|booting|rebooted|prepar|waits|image"),
    ("be", {"evil": {"lie": "claims-done"}}, "do not agree|no change|booting"),
    ("be", {"evil": {"lie": "wrong-digest"}}, "."),
    ("be", {"evil": {"lie": "wrong-image"}}, "."),
    ("be", {"evil": {"disk_full": True}}, "MiB free"),
    ("be", {"evil": {"read_only_data": True}}, "read-only"),
    ("be", {"evil": {"locked_by": "00000000000000bb"}}, "00000000000000bb|bringing"),
    ("be", {"evil": {"no_helper": True}}, "no anew-host|no way to boot"),
    ("pace", {"pace": {"images": {"2": "panics"}}}, "came back to 0 by itself.*panic"),
    ("pace", {"pace": {"images": {"2": "hangs"}}}, "came back to 0 by itself"),
    ("pace", {"pace": {"images": {"2": "no-sshd"}}}, "came back to 0 by itself"),
    ("pace", {"pace": {"boot": 3600.0}}, "booting|refused|not answer|not come back"),
)


def placed(kinds: tuple[tuple[str, dict[str, Any], str], ...], first: int, twice: int) -> dict[str, tuple[str, dict[str, Any], str]]:
    """Each kind on `twice` machines, spread over the pool."""
    return {f"rack{first + 9 * index}": kind for index, kind in enumerate(kinds * twice)}


BAD_AT_ONCE = placed(SILENT_FROM_THE_START, 20, 2)
BAD_LATER = placed(SPOILT_LATER, 169, 2)
BAD = {**BAD_AT_ONCE, **BAD_LATER}


def memory() -> int:
    """Resident bytes of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def once(verbs: list[str]) -> list[str]:
    """Without what was said again at once: every verb may be, and a reboot names the boot that it ends."""
    return [verb for verb, before in zip(verbs, ["", *verbs], strict=False) if verb != before]


def others() -> set[str]:
    """The threads that run, without asyncio's own: its pool ends with the loop, and one waits for the hosts' process."""
    return {thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio")}


class Gauge:
    """The most that was seen of memory, descriptors and tasks while somebody else works."""

    def __init__(self) -> None:
        self.memory, self.descriptors, self.tasks = memory(), descriptors(), len(asyncio.all_tasks())

    async def read(self) -> None:
        """For ever, some times a second."""
        while True:
            self.memory, self.descriptors = max(self.memory, memory()), max(self.descriptors, descriptors())
            self.tasks = max(self.tasks, len(asyncio.all_tasks()))
            await asyncio.sleep(0.2)


@asynccontextmanager
async def pretended() -> AsyncIterator[Farm]:
    async with AsyncExitStack() as ends:
        try:
            farm = await ends.enter_async_context(Farm(COUNT, Pace(boot=0.1, hang=0.1, dead_man=600.0)))
        except TooFewDescriptors as wrong:
            pytest.skip(str(wrong))
        yield farm


@asynccontextmanager
async def five_hundred(folder: Path) -> AsyncIterator[tuple[Farm, Rolling]]:
    """The pool, looked at and probed, with the first bad ones in it."""
    add_image(folder, "2")
    async with pretended() as farm:
        await farm.order("welcome", key=client_key(folder))
        for name, (do, more, _) in BAD_AT_ONCE.items():
            await farm.order(do, [name], **more)
        async with rolling(folder, farm.machines, farm.service_port, SETTINGS) as made:
            seen = COUNT - len(BAD_AT_ONCE)
            await made.until(lambda: len(made.engine.views["web"].health) == seen, "all that answer are seen and probed", DEADLINE)
            yield farm, made


async def rolled(farm: Farm, made: Rolling, good: set[str]) -> dict[str, Any]:
    """The rollout until every good machine serves the new version and of every bad one it is said why not; what the hosts say of it.

    Those spoilt later are so before it begins: how far a machine would have come until then is a matter of speed.
    """
    for name, (do, more, _) in BAD_LATER.items():
        await farm.order(do, [name], **more)
    await farm.order("watch")
    await made.start("2")
    await made.until(lambda: all(made.rollout.runs[name].step == "serving" for name in good), "every good machine is on the new version", DEADLINE)
    await made.until(lambda: not without_their_sentence(made), "of every bad machine it is said why", DEADLINE)
    report: dict[str, Any] = await farm.order("report")
    return report


async def test_one_rollout_with_all_rules(tmp_path: Path) -> None:
    good = {f"rack{number}" for number in range(1, COUNT + 1)} - set(BAD)
    assert len(good) + len(BAD) == COUNT and not set(CANARIES) & set(BAD)
    files, tasks, threads = descriptors(), len(asyncio.all_tasks()), others()
    began = asyncio.get_running_loop().time()
    async with five_hundred(tmp_path) as (farm, made):
        gauge = Gauge()
        reading = asyncio.create_task(gauge.read())
        settled = memory()
        report = await rolled(farm, made, good)
        reading.cancel()
        print(f"memory {gauge.memory / settled:.2f} of {settled // 2**20} MiB, {gauge.descriptors} descriptors, {gauge.tasks} tasks")

        hosts = report["hosts"]
        assert {hosts[name]["version"] for name in good} == {"2"}
        assert all(hosts[name]["serving"] and hosts[name]["blessed"] and hosts[name]["boots"] == 2 for name in good)
        assert {tuple(once(hosts[name]["verbs"])) for name in good} == {("upload", "install", "arm", "reboot", "bless")}
        assert not [name for name in hosts if hosts[name]["strange"]]

        the_budget_held_as_the_hosts_saw_it(report)
        the_canaries_went_first(report)
        assert all(text.isprintable() and len(text) < 1000 for text in map(made.sentence, BAD))
        nobody_was_stormed(report, asyncio.get_running_loop().time() - began)

        assert gauge.memory < 1.5 * settled, f"{gauge.memory / settled:.2f} times what five hundred open sessions take"
        assert gauge.descriptors < files + 3 * COUNT
        assert gauge.tasks < 6 * COUNT
    await asyncio.sleep(0)
    assert descriptors() <= files + 2
    assert len(asyncio.all_tasks()) <= tasks
    assert others() <= threads


def the_budget_held_as_the_hosts_saw_it(report: dict[str, Any]) -> None:
    """At no moment did more machines not serve than may be missing, those that had no power from the beginning among them."""
    assert len(CANARIES) < report["most_missing"] <= UNAVAILABLE


def the_canaries_went_first(report: dict[str, Any]) -> None:
    """Nobody else ceased to serve before every canary served the new version."""
    back: set[str] = set()
    for name, serving, version in report["history"]:
        if set(CANARIES) <= back:
            return
        assert name in CANARIES, f"{name} went before the canaries had proved themselves"
        if serving and version == "2":
            back.add(name)
    raise AssertionError("the canaries never came back")


def without_their_sentence(made: Rolling) -> dict[str, str]:
    """The bad machines of which something else is said, and what."""
    said = {name: made.sentence(name) for name in BAD}
    return {name: text for name, text in said.items() if not re.search(BAD[name][2], text)}


def nobody_was_stormed(report: dict[str, Any], seconds: float) -> None:
    """A refused key is shown a few times at most, and a changed host key never gets one. Who fails is asked again now and then, however long all this takes."""
    for name, (do, more, _) in BAD_AT_ONCE.items():
        told = report["hosts"][name]
        if do == "change-key":
            assert told["keys_shown"] == 0
        if more.get("evil", {}).get("refuses_key"):
            assert told["keys_shown"] <= 4
        if do != "power-cut":
            assert told["opened"] < 20 + seconds / 2
