"""The driver's seat and one-shot commands, a dead driver, and a reload of the fleet file: against a real daemon, by different users."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.engine.daemons import FLEET, shared, until
from tests.engine.test_consent import Office
from tests.engine.test_roles import ACCESS, USERS, Person

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several people")

ANA, BEN = USERS["driver"], USERS["colleague"]
START = ("rollout", "start", "web", "--to", "1", "--yes")


@pytest.fixture
def office() -> Iterator[Office]:
    with shared(Office, FLEET + ACCESS) as made:
        yield made


@pytest.fixture
def ana(office: Office) -> Iterator[Person]:
    """At her terminal, in the seat."""
    person = Person(office, "driver")
    person.sit_down()
    assert person.ask("POST", "/v1/commands", {"command": "seat.take", "request": "sit"}, {"Anew-Terminal": "pts/1"})[0] == 200
    yield person
    person.close()


def test_one_shot_commands_of_others_are_told_who_drives_and_those_of_the_driver_work(office: Office, ana: Person) -> None:
    refused = office.by(BEN, *START)
    assert refused.code == 5
    assert "daemon has the driver's seat, and only the driver starts things or lets them go on; open `anew` and ask for it with T" in refused.err, refused.err
    assert not office.client.get("/v1/rollouts")["rollouts"]
    listed = office.by(BEN, "status").out.splitlines()
    assert any(line.split()[:2] == ["daemon", "driver"] for line in listed), listed
    assert json.loads(office.by(BEN, "status", "--json").out)["people"][0]["role"] == "driver"

    started = office.by(ANA, *START)
    assert started.code == 0, started.err
    assert office.by(BEN, "rollout", "pause", "web").code == 0, "anybody stops it"
    assert office.by(BEN, "rollout", "resume", "web").code == 5
    assert office.by(ANA, "rollout", "resume", "web").code == 0
    until(lambda: office.ended() == "done", "the birth ends")


def test_a_dead_driver_drives_nothing(office: Office, ana: Person) -> None:
    assert office.by(BEN, *START).code == 5
    ana.close()
    until(lambda: office.by(BEN, *START).code == 0, "the seat is free")
    assert [event["data"] for event in office.told("seat-left")] == [{"why": "the terminal of daemon went away"}]


def test_a_reload_costs_nobody_the_seat(office: Office, ana: Person) -> None:
    office.fleet.write_text(office.fleet.read_text(encoding="utf-8").replace("servers = 3", "servers = 2", 1), encoding="utf-8")
    assert office.by(BEN, "reload").code == 0, "a reload needs no seat"
    assert office.by(BEN, *START).code == 5, "although every stream has ended"
    ana.sit_down()
    assert [row["role"] for row in office.client.get("/v1/status")["people"]] == ["driver"]
    assert not office.told("seat-left")
    assert ana.ask("POST", "/v1/commands", {"command": "seat.give", "request": "up"})[0] == 200


def test_a_daemon_begins_with_an_empty_seat(office: Office, ana: Person) -> None:
    office.kill()
    office.start()
    until(lambda: office.by(BEN, *START).code == 0, "nobody has it")
    assert office.client.get("/v1/status")["people"] == []
