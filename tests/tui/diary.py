"""A night's rollout as a journal has it: two canaries, ten minutes until somebody promotes, a failure, two hours until somebody comes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fleet.core.codec import image_out, run_out, settings_out
from fleet.core.desired import Amount, RolloutSettings
from fleet.core.events import Event
from fleet.core.observed import ImageRef
from fleet.core.state import Run, Target
from fleet.engine.tell import whole_row

BEGAN = datetime(2026, 11, 20, 23, 0, 0, tzinfo=UTC).timestamp()
ID = "5f3a9c51"
OLD, NEW = (ImageRef("web", version, "sha256:" + version * 64) for version in "12")
STEPS = (("preparing", "stage", 1.0), ("booting", "birth", 6.0), ("proving", "", 10.0), ("admitting", "commit", 0.5), ("retiring", "retire", 2.0))
SETTINGS = RolloutSettings(max_surge=Amount(1), max_unavailable=Amount(0), canaries=Amount(2))
Row = dict[str, Any]


class Diary:
    """Rows, one after the other; `at` is the time of the next."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.at = BEGAN
        self.ops = 0

    def wrote(self, what: str, /, server: str = "", actor: str = "engine", rollout: str = ID, **data: Any) -> None:
        event = Event(len(self.rows) + 1, self.at, what, actor, "web" if rollout else "", server, rollout, data, "", "")
        self.rows.append(whole_row(event))

    def moved(self, cause: str, state: str, reason: str = "", actor: str = "engine") -> None:
        self.wrote("rollout-moved", actor=actor, cause=cause, state=state, reason=reason)

    def step(self, server: str, step: str, verb: str, seconds: float, path: str = "create-first", number: int = 2, error: str = "") -> None:
        self.ops += 1
        op = f"op-{self.ops}"
        self.wrote("step-begun", server, op=op, step=step, verb=verb, number=number, path=path, reason=f"{step} incarnation {number}, image 2")
        self.at += seconds
        if error:
            self.wrote("step-failed", server, op=op, step=step, error=error, last_words="[    4.2] Kernel panic - not syncing", number=number)
            return
        if step == "proving":
            self.at -= seconds / 2
            self.wrote("server-healthy", server, number=number, words="tcp 22: SSH-2.0 in 3 ms")
            self.at += seconds / 2
        self.wrote("step-done", server, op=op, step=step, facts={"words": "tcp 22: SSH-2.0 in 3 ms", "root": "read-only"} if step == "proving" else {})

    def replaced(self, server: str, number: int = 2) -> None:
        for step, verb, seconds in STEPS:
            self.step(server, step, verb, seconds, number=number)
        self.wrote("incarnation-retained", server, number=1, digest=OLD.digest, version="1", until=self.at + 86_400)


def night() -> list[Row]:
    """The whole journal of it, from the daemon's start."""
    diary = Diary()
    diary.at -= 60
    diary.wrote("daemon-started", rollout="", epoch=1, version="0.1.0")
    diary.at += 60
    names = ["web-3", "web-1", "web-2", "web-4", "web-5", "web-6", "web-7", "web-8"]
    runs = [Run(name, "replace", "create-first", "create-first", f"hv{1 + n % 2}", canary=n < 2, source=1, target=Target("birth", 2, NEW), home=OLD,
                reason="oldest" if not n else "") for n, name in enumerate(names)]
    pinned: Row = {
        "kind": "rollout", "from": image_out(OLD), "to": image_out(NEW), "plan_hash": "7f3a9c51", "settings": settings_out(SETTINGS), "servers": 8,
        "whole": True, "driver": "libvirt", "runs": [run_out(run) for run in runs], "approvals": []}
    diary.wrote("rollout-started", actor="maria@pts/3", **pinned)
    diary.moved("begin-canary", "canary")
    for name in names[:2]:
        diary.replaced(name)
    diary.moved("canaries-proved", "awaiting-promotion", "canaries healthy; promote to go on")
    diary.at += 580
    diary.moved("promoted", "rolling", "promoted", "maria@pts/3")
    diary.replaced("web-2")
    failed(diary)
    diary.at += 7200
    diary.wrote("remark", actor="root@pts/1", text="the switch of rack 2 was rebooted")
    diary.moved("resume-rolling", "rolling", "", "root@pts/1")
    diary.replaced("web-4", 3)
    for name in names[4:]:
        diary.replaced(name)
    diary.wrote("rollout-ended", state="done", reason="8 of 8 on 2")
    return diary.rows


def failed(diary: Diary) -> None:
    """web-4 does not come up; its old incarnation never stopped."""
    for step, verb, seconds in STEPS[:2]:
        diary.step("web-4", step, verb, seconds)
    diary.step("web-4", "proving", "", 300.0, error="no answer on port 22 within 5m")
    diary.wrote("server-redirected", "web-4", path="keep-old", source=2, target={"kind": "revive", "number": 1, "image": image_out(OLD)},
                reason="no answer on port 22 within 5m")
    diary.moved("pause", "paused", "web-4 failed: no answer on port 22 within 5m")
    diary.step("web-4", "admitting", "commit", 0.5, "keep-old", 1)
    diary.step("web-4", "stopping", "retire", 2.0, "keep-old")
