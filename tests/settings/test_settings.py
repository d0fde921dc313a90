"""What a valid fleet file becomes: defaults, paths, keys, overrides; and that no text at all gets a traceback."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.core.desired import Amount, Pool, RolloutSettings, SimSettings
from fleet.settings import SettingsInvalid, load, override, schema
from fleet.settings.lines import Lines

ROOT = Path(__file__).resolve().parents[2]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9xgq0XKfRX0vvrz6Hg8kQ9cXyJ0b9wA3d0A3d0A3d0 one@desk"
SMALL = """\
[fleet]
name = "small"
[images.app]
simulated = ["1"]
[pools.app]
driver = "sim"
servers = 2
image = "app"
"""
REAL = f"""\
[fleet]
name = "real"
authorized_keys = ["{KEY}"]
[images.web]
path = "images/web"
[images.db]
path = "/srv/images/db"
[hypervisors.hv1]
uri = "qemu+ssh://root@kvm1:2222/system?keyfile=/root/.ssh/id"
[hypervisors.hv2]
uri = "qemu:///session"
acceleration = "tcg"

[pools.web]
driver = "libvirt"
servers = 3
image = "web"
hypervisors = ["hv1", "hv2"]
network = {{ bridge = "br0" }}
authorized_keys = ["{KEY}"]
ssh_user = "admin"
max_age = "7d"
[[pools.web.health]]
http = {{ port = 8080, path = "/healthz" }}
deadline = "500ms"
interval = "1s"
[[pools.web.health]]
ssh = "true"
[[pools.web.health]]
ssh = {{ command = "uptime", user = "probe" }}
[[pools.web.health]]
command = ["./check", "{{name}}", "{{address}}"]
[[pools.web.health]]
agent = true
[pools.web.hooks]
drain = ["lb", "drain", "{{name}}"]

[pools.db]
driver = "libvirt"
servers = 1
image = "db"
hypervisors = ["hv1"]
network = {{ network = "default" }}
data = [{{ name = "state", size = "1GiB" }}, {{ name = "log", size = "64MiB" }}]
health = [{{ tcp = {{ port = 5432 }} }}]
"""


def pools(tmp_path: Path, text: str) -> dict[str, Pool]:
    """The pools of a file with this text."""
    file = tmp_path / "fleet.toml"
    file.write_text(text)
    return dict(load(str(file)).pools)


def test_every_default_is_the_contract_s(tmp_path: Path) -> None:
    pool = pools(tmp_path, SMALL)["app"]
    assert pool == dataclasses.replace(Pool("app", "sim", 2, "app"), health=pool.health, sim=SimSettings())
    assert pool.rollout == RolloutSettings()
    assert [check.kind for check in pool.health] == ["sim"]


def test_only_libvirt_pools_without_data_create_first_by_default(tmp_path: Path) -> None:
    made = pools(tmp_path, REAL)
    assert made["web"].rollout == dataclasses.replace(RolloutSettings(), max_surge=Amount(1))
    assert made["db"].rollout == RolloutSettings()


def test_everything_arrives(tmp_path: Path) -> None:
    made = pools(tmp_path, REAL)
    web, db = made["web"], made["db"]
    assert [(check.kind, dict(check.options)) for check in web.health] == [
        ("http", {"port": 8080, "path": "/healthz", "status": 200}),
        ("ssh", {"command": "true", "user": "admin"}),
        ("ssh", {"command": "uptime", "user": "probe"}),
        ("command", {"argv": (str(tmp_path / "check"), "{name}", "{address}")}),
        ("agent", {}),
    ]
    assert (web.health[0].deadline, web.health[0].interval, web.health[1].deadline) == (0.5, 1.0, 5.0)
    assert web.authorized_keys == (KEY,) and db.authorized_keys == (KEY,)
    assert (web.network.kind, web.network.name, db.network.kind, db.network.name) == ("bridge", "br0", "network", "default")
    assert web.hooks.drain == ("lb", "drain", "{name}") and web.max_age == 7 * 86_400
    assert [(disk.name, disk.size) for disk in db.data] == [("state", 2**30), ("log", 2**26)]
    desired = load(str(tmp_path / "fleet.toml"))
    assert desired.images["web"].path == str(tmp_path / "images/web") and desired.images["db"].path == "/srv/images/db"
    assert desired.hypervisors["hv2"].acceleration == "tcg" and len(desired.digest) == 64


def test_the_fleet_files_of_the_project_are_valid() -> None:
    demo = load(str(ROOT / "config/fleets/demo.toml"))
    assert len(demo.pools) == 4 and sum(pool.servers for pool in demo.pools.values()) == 60
    for path in (ROOT / "config/fleets").glob("*.toml"):
        assert load(str(path)).pools


def test_relative_paths_start_at_the_file_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fleets").mkdir()
    (tmp_path / "fleets/f.toml").write_text(REAL)
    monkeypatch.chdir(tmp_path)
    desired = load("fleets/f.toml")
    assert desired.images["web"].path == str(tmp_path / "fleets/images/web")
    assert desired.path == str(tmp_path / "fleets/f.toml")


def test_schema_and_page_are_fresh() -> None:
    assert (ROOT / schema.SCHEMA).read_text() == schema.schema_text(), schema.AGAIN
    assert (ROOT / schema.PAGE).read_text() == schema.page_text(), schema.AGAIN


def test_the_schema_names_every_setting_of_a_rollout() -> None:
    page, text = schema.page_text(), schema.schema_text()
    for name in RolloutSettings.__dataclass_fields__:
        assert f"`{name}`" in page and f'"{name}"' in text


def test_overrides_in_kebab_and_snake_case(tmp_path: Path) -> None:
    pool = pools(tmp_path, SMALL)["app"]
    changed = override(pool, {
        "max-surge": "1", "max_unavailable": "50%", "--min-healthy-time": "1m", "promotion": "auto", "canaries": "0",
        "max-failures": "2", "on-failure": "rollback", "retain": "0s", "order": "name"})
    assert changed.rollout == RolloutSettings(
        max_surge=Amount(1), max_unavailable=Amount(50, True), min_healthy_time=60.0, promotion="auto", canaries=Amount(0),
        max_failures=2, on_failure="rollback", retain=0.0, order="name")
    assert override(pool, {}) == pool


@pytest.mark.parametrize(("given", "points", "pause"), [
    ({"checkpoints": "25%,50%", "checkpoint-pause": "30m"}, (25, 50), 1800.0), ({"checkpoints": "25, 50"}, (25, 50), None),
    ({"checkpoints": "10%", "checkpoint-pause": "manual"}, (10,), None), ({"checkpoints": ""}, (), None)])
def test_checkpoints_are_overridden_in_percents(tmp_path: Path, given: dict[str, str], points: tuple[int, ...], pause: float | None) -> None:
    rollout = override(pools(tmp_path, SMALL)["app"], given).rollout
    assert (rollout.checkpoints, rollout.checkpoint_pause) == (points, pause)


@pytest.mark.parametrize("written", ["[25, 50]", '["25%", "50%"]', '[25, "50%"]'])
def test_checkpoints_of_the_file_may_be_written_in_percents(tmp_path: Path, written: str) -> None:
    assert pools(tmp_path, SMALL + f"[pools.app.rollout]\ncheckpoints = {written}\n")["app"].rollout.checkpoints == (25, 50)


def test_an_override_takes_a_pause_back_to_a_persons_hand(tmp_path: Path) -> None:
    pool = override(pools(tmp_path, SMALL)["app"], {"checkpoint_pause": "30m"})
    assert pool.rollout.checkpoint_pause == 1800.0
    assert override(pool, {"checkpoint_pause": "manual"}).rollout.checkpoint_pause is None


def test_a_bad_override_hides_no_limit_between_others(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        override(pools(tmp_path, SMALL)["app"], {"order": "youngest", "min-healthy-time": "2h", "healthy_deadline": "1h", "progress_deadline": "x", "canaries": "100"})
    assert [problem.key for problem in caught.value.problems] == ["order", "progress_deadline", "canaries", "min_healthy_time"]


def test_all_bad_overrides_are_told_at_once(tmp_path: Path) -> None:
    pool = pools(tmp_path, SMALL)["app"]
    with pytest.raises(SettingsInvalid) as caught:
        override(pool, {"max-surge": "-1", "canaries": "true", "min_healthy_time": "5", "max-failures": "1.5",
                        "promotion": "automatic", "max-serge": "1", "order": "name"})
    lines = str(caught.value).split("\n")
    assert lines[0] == 'max-surge: found "-1", allowed an integer or a percent like 25%'
    assert lines[1] == 'canaries: found "true", allowed an integer or a percent like 25%'
    assert lines[2].endswith('Write the unit: "5s" for seconds')
    assert lines[3] == 'max-failures: found "1.5", allowed an integer from 0'
    assert lines[4].startswith('promotion: found "automatic", allowed "manual" or "auto"')
    assert lines[5].startswith("max-serge: found an unknown setting") and lines[5].endswith('Did you mean "max_surge"?')
    assert len(lines) == 6


@pytest.mark.parametrize(("overrides", "words"), [
    ({"max-unavailable": "0"}, "at least one of max_unavailable and max_surge above 0"),
    ({"max-unavailable": "0%", "max-surge": "0"}, "at least one of max_unavailable and max_surge above 0"),
    ({"canaries": "3"}, "at most 2, the number of servers"),
    ({"min-healthy-time": "5m"}, "less than healthy_deadline, which is 5m"),
    ({"max-surge": "1", "max_surge": "2"}, "max_surge twice"),
    ({"retain": "9999d"}, "a duration from 0s to 3650d"),
    ({"checkpoints": "50%,25%"}, "each larger than the one before"),
    ({"checkpoints": "100%"}, "whole percents from 1 to 99"),
    ({"checkpoint-pause": "8d"}, '"manual" or a duration up to 7d'),
])
def test_overrides_keep_the_limits_of_the_file(tmp_path: Path, overrides: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsInvalid, match=words):
        override(pools(tmp_path, SMALL)["app"], overrides)


def test_a_pool_with_data_cannot_be_overridden_to_create_first(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="0 for a pool with data"):
        override(pools(tmp_path, REAL)["db"], {"max-surge": "10%"})


TRICKY = [
    '# a remark with "quotes" and [brackets]', "[a.b]", "c = 1 # x = 2", 'd."e f".\'g\' = [', "  1, # [", "  {h = 2, i = [3]},",
    "]", "[[a.list]]", 's = """', "[not.a.table]", 'x = 1 \\" """" ', "t = '''", "[nor.this]'''", "[[a.list]]", "k = {l.m = 1}",
    "[a.list.sub]", "z = 1979-05-27T07:32:00Z", '"quoted \\u0041" = 1', ""]


def test_lines_of_keys_in_every_form_of_toml() -> None:
    lines = Lines("\n".join(TRICKY))
    want: dict[tuple[str | int, ...], int] = {
        ("a", "b"): 2, ("a", "b", "c"): 3, ("a", "b", "d", "e f", "g"): 4, ("a", "b", "d", "e f", "g", 0): 5,
        ("a", "b", "d", "e f", "g", 1, "i", 0): 6, ("a", "list", 0): 8, ("a", "list", 0, "s"): 9, ("a", "list", 0, "t"): 12,
        ("a", "list", 1, "k", "l", "m"): 15, ("a", "list", 1, "sub", "z"): 17, ("a", "list", 1, "sub", "quoted A"): 18,
        ("a", "list", 1, "nothing", "here"): 14, ("nowhere",): 1}
    assert {key: lines.of(key) for key in want} == want


MUTATIONS = st.sampled_from([
    b"", b"true", b"0", b"-1", b"1.5", b"nan", b'""', b"[]", b"{}", b"[[", b"]]", b'"', b"\n", b"=", b".", b"'''", b"\x00", b"\xff",
    b"9" * 5000, b"1979-05-27", b'"10s"', b'"101%"', b"[pools.web]\n", b"{ a = [ { b = 1 } ] }", b"[" * 2000, "\u202e".encode()])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_mutation_is_a_fleet_or_a_list_of_sentences(tmp_path: Path, data: st.DataObject) -> None:
    text = bytearray((SMALL + REAL[REAL.index("[hyper"):]).encode() if data.draw(st.booleans()) else REAL.encode())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 30))] = data.draw(MUTATIONS | st.binary(max_size=3))
    file = tmp_path / "fleet.toml"
    file.write_bytes(bytes(text))
    judge(file)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_value_in_any_place_is_a_fleet_or_a_list_of_sentences(tmp_path: Path, data: st.DataObject) -> None:
    """Stays TOML far more often than the other: whole values are exchanged."""
    lines = REAL.split("\n")
    values = st.sampled_from(["true", "0", "-1", "1e999", "nan", '""', '"x"', '"5s"', '"5%"', '"64MiB"', "[]", "[1]", "{}",
                              "{ a = 1 }", "[{}]", "[[]]", "1979-05-27", "99999999999999999999", '"web"', '["hv1"]'])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.sampled_from([n for n, line in enumerate(lines) if " = " in line]))
        lines[at] = lines[at].split(" = ")[0] + " = " + data.draw(values)
    file = tmp_path / "fleet.toml"
    file.write_text("\n".join(lines))
    judge(file)


def judge(file: Path) -> None:
    """Loading ends in a fleet, or in sentences on printable lines that begin with the file's name."""
    try:
        load(str(file))
    except SettingsInvalid as wrong:
        assert wrong.problems
        for line in str(wrong).split("\n"):
            assert line.startswith((str(file), "... and ")) and line.isprintable()
