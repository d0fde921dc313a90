"""Bad fleet files: exactly the lines an operator reads, with file, line, key, what was found and what is allowed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet.settings import SettingsInvalid, load

GOOD = """\
[fleet]
name = "lab"

[images.web]
path = "images/web"

[images.app]
simulated = ["1", "2", "3-bad"]

[hypervisors.hv1]
uri = "qemu:///system"

[pools.web]
driver = "libvirt"
servers = 3
image = "web"
hypervisors = ["hv1"]
network = { user = { first_port = 2201 } }

[[pools.web.health]]
tcp = { port = 22, expect = "SSH-" }

[pools.web.rollout]
max_surge = 1

[pools.app]
driver = "sim"
servers = 10
image = "app"
sim = { boot = "2s", faults = { "3-bad" = "never-healthy" } }
"""


def lines_of(tmp_path: Path, text: str | bytes) -> list[str]:
    """The message's lines for a file of this text, with the file's name cut to `FILE`."""
    file = tmp_path / "fleet.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SettingsInvalid) as caught:
        load(str(file))
    return str(caught.value).replace(str(file), "FILE").split("\n")


def test_the_good_file_is_good(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(GOOD)
    assert list(load(str(file)).pools) == ["web", "app"]


CASES: list[tuple[str, str, str, str]] = [
    # name, what is replaced in GOOD, by what, the one line that the operator reads
    ("bool is no amount", "max_surge = 1", "max_surge = true",
     "FILE:24: pools.web.rollout.max_surge: found true, allowed an integer or a percent like 25%"),
    ("a fraction is no amount", "max_surge = 1", "max_surge = 0.5",
     "FILE:24: pools.web.rollout.max_surge: found 0.5, allowed an integer or a percent like 25%"),
    ("a sign is no amount", "max_surge = 1", "max_surge = -1",
     "FILE:24: pools.web.rollout.max_surge: found -1, allowed an integer from 0 to 10000 or a percent like 25%"),
    ("more than all", "max_surge = 1", 'max_surge = "101%"',
     ('FILE:24: pools.web.rollout.max_surge: found "101%", allowed an integer or a percent like 25%. '
     "Percents are whole, from 0% to 100%")),
    ("quoted number", "max_surge = 1", 'max_surge = "2"',
     ('FILE:24: pools.web.rollout.max_surge: found "2", allowed an integer or a percent like 25%. '
     "Write it without quotes: 2")),
    ("bare duration", "max_surge = 1", "min_healthy_time = 10",
     ('FILE:24: pools.web.rollout.min_healthy_time: found 10, allowed a duration with its unit such as "10s", "5m", '
     '"2h", "7d" or "1h30m". Write the unit: "10s" for seconds')),
    ("duration out of range", "max_surge = 1", 'healthy_deadline = "8d"',
     'FILE:24: pools.web.rollout.healthy_deadline: found "8d", allowed a duration from 1s to 7d'),
    ("bool is no integer", "servers = 3", "servers = true",
     "FILE:15: pools.web.servers: found true, allowed an integer from 1 to 10000"),
    ("no servers", "servers = 3", "servers = 0", "FILE:15: pools.web.servers: found 0, allowed an integer from 1 to 10000"),
    ("bare size", "servers = 3", "servers = 3\nmemory = 256",
     ('FILE:16: pools.web.memory: found 256, allowed a size with its unit such as "64MiB" or "1GiB". '
     'Write the unit: "256MiB"')),
    ("decimal size", "servers = 3", 'servers = 3\nmemory = "256MB"',
     ('FILE:16: pools.web.memory: found "256MB", allowed a size with its unit such as "64MiB" or "1GiB". '
     'Did you mean "256MiB"?')),
    ("missing key", "servers = 3\n", "", "FILE:13: pools.web.servers: found nothing, allowed an integer from 1 to 10000"),
    ("misspelt mode", "servers = 3", 'servers = 3\nmode = "automatic"',
     'FILE:16: pools.web.mode: found "automatic", allowed "observe", "manual" or "auto". Did you mean "auto"?'),
    ("half a breaker", "servers = 3", 'servers = 3\nbreaker = "20%"',
     ('FILE:16: pools.web.breaker: found "20%", allowed "off" or words like "20% of at least 5 in 10m". '
      'Did you mean "20% of at least 5 in 10m"?')),
    ("a breaker of no time", "servers = 3", 'servers = 3\nbreaker = "20% of at least 5 in 10"',
     ('FILE:16: pools.web.breaker: found "20% of at least 5 in 10", allowed after "in" a duration with its unit such as "10s", "5m", "2h", '
      '"7d" or "1h30m". Write the unit: "10s" for seconds')),
    ("after a pool that is not there", "servers = 3", 'servers = 3\nafter = ["ap"]',
     'FILE:16: pools.web.after[0]: found "ap", allowed a pool of this file (app, web). Did you mean "app"?'),
    ("after itself", "servers = 3", 'servers = 3\nafter = ["app", "web"]',
     ("FILE:16: pools.web.after[1]: found web → web, allowed pools that do not come after this one. "
      "A pool cannot wait for itself; take one of them out")),
    ("another channel", "servers = 3", 'servers = 3\nchannel = "beta"',
     'FILE:16: pools.web.channel: found "beta", allowed "stable". Other channels come with a later release'),
    ("misspelt choice", "max_surge = 1", 'on_failure = "roll-back"',
     'FILE:24: pools.web.rollout.on_failure: found "roll-back", allowed "pause" or "rollback". Did you mean "rollback"?'),
    ("unknown family", 'image = "app"', 'image = "ap"',
     'FILE:29: pools.app.image: found "ap", allowed an image family of this file (app, web). Did you mean "app"?'),
    ("unknown hypervisor", '["hv1"]', '["hv1", "hv2"]',
     'FILE:17: pools.web.hypervisors[1]: found "hv2", allowed a hypervisor of this file (hv1). Did you mean "hv1"?'),
    ("libvirt without hypervisor", 'hypervisors = ["hv1"]\n', "",
     'FILE:13: pools.web.hypervisors: found none, allowed at least one for driver = "libvirt", such as ["hv1"]'),
    ("simulated family on libvirt", 'image = "web"', 'image = "app"',
     'FILE:16: pools.web.image: found the simulated family "app", allowed a family with a "path" for driver = "libvirt"'),
    ("both budgets 0", "max_surge = 1", "max_surge = 0\nmax_unavailable = 0",
     ("FILE:25: pools.web.rollout.max_unavailable: found 0, allowed at least one of max_unavailable and max_surge above "
     "0. With both at 0 no server could ever be replaced")),
    ("both budgets 0%", "max_surge = 1", 'max_surge = "0%"\nmax_unavailable = "0%"',
     ("FILE:25: pools.web.rollout.max_unavailable: found 0, allowed at least one of max_unavailable and max_surge above "
     "0. With both at 0 no server could ever be replaced")),
    ("surge with data", "servers = 3", 'servers = 3\ndata = [{ name = "state", size = "64MiB" }]',
     ("FILE:25: pools.web.rollout.max_surge: found 1, allowed 0 for a pool with data. A data disk is attached to one "
     "incarnation at a time, so no server can be created first")),
    ("too many canaries", "max_surge = 1", "canaries = 4",
     "FILE:24: pools.web.rollout.canaries: found 4, allowed at most 3, the number of servers"),
    ("deadline within min_healthy_time", "max_surge = 1", 'min_healthy_time = "5m"',
     "FILE:24: pools.web.rollout.min_healthy_time: found 5m, allowed less than healthy_deadline, which is 5m"),
    ("two kinds of check", "tcp = {", "agent = true\ntcp = {",
     "FILE:20: pools.web.health[0]: found tcp and agent, allowed exactly one of tcp, http, ssh, agent, command"),
    ("agent alone", 'tcp = { port = 22, expect = "SSH-" }', "agent = true",
     ('FILE:20: pools.web.health: found only the guest agent, allowed at least one of tcp, http, ssh, command, such as '
     'tcp = { port = 22, expect = "SSH-" }. A server passes only by a look from outside: an image that never answers '
     "would pass otherwise")),
    ("a port that is not forwarded", "port = 22,", "port = 80,",
     ("FILE:21: pools.web.health[0].tcp.port: found 80, allowed network.user.guest_port, which is 22. User networking "
     "forwards only that port of a server")),
    ("port 0", "port = 22,", "port = 0,", "FILE:21: pools.web.health[0].tcp.port: found 0, allowed an integer from 1 to 65535"),
    ("ports beyond the last", "first_port = 2201", "first_port = 65533",
     ("FILE:18: pools.web.network.user.first_port: found 65533, allowed at most 65530. The pool needs 6 ports from "
     "there, 2 for each server")),
    ("two kinds of network", "network = {", 'network = { bridge = "br0",',
     "FILE:18: pools.web.network: found bridge and user, allowed exactly one of user, network, bridge"),
    ("a network for sim", 'driver = "sim"', 'driver = "sim"\nnetwork = { bridge = "br0" }',
     'FILE:28: pools.app.network: found a value, allowed no network for driver = "sim". Take the key out'),
    ("fault of no version", '{ "3-bad" =', '{ "3-bat" =',
     ('FILE:30: pools.app.sim.faults.3-bat: found "3-bat", allowed a simulated version of "app" (1, 2, 3-bad). '
     'Did you mean "3-bad"?')),
    ("fault without unit", '"never-healthy"', '"dies-after 3"',
     ('FILE:30: pools.app.sim.faults.3-bad: found "dies-after 3", allowed dies-after with a duration with its unit such '
     'as "10s", "5m", "2h", "7d" or "1h30m". Write the unit: "3s" for seconds')),
    ("password in a URI", "qemu:///system", "qemu+ssh://root:secret@kvm1/system",
     ("FILE:11: hypervisors.hv1.uri: found a URI with a password, allowed a libvirt URI such as qemu:///system or "
     "qemu+ssh://root@kvm1/system. A password has no place in a fleet file; use an SSH key")),
    ("host keys unchecked", "qemu:///system", "qemu+ssh://kvm1/system?no_verify=1",
     ('FILE:11: hypervisors.hv1.uri: found "qemu+ssh://kvm1/system?no_verify=1", allowed a libvirt URI such as '
     "qemu:///system or qemu+ssh://root@kvm1/system. Allowed after the question mark: keyfile, known_hosts, mode, socket")),
    ("another hypervisor's scheme", "qemu:///system", "xen:///system",
     ('FILE:11: hypervisors.hv1.uri: found "xen:///system", allowed a libvirt URI such as qemu:///system or '
     "qemu+ssh://root@kvm1/system. Schemes: qemu, qemu+ssh, test")),
    ("both kinds of image", 'path = "images/web"', 'path = "images/web"\nsimulated = ["1"]',
     "FILE:4: images.web: found both, allowed exactly one of path, simulated"),
    ("same version twice", '"2", "3-bad"]', '"2", "2", "3-bad"]',
     'FILE:8: images.app.simulated[2]: found "2" twice, allowed each version once'),
    ("a private key", "servers = 3", 'servers = 3\nauthorized_keys = ["-----BEGIN OPENSSH PRIVATE KEY-----"]',
     ("FILE:16: pools.web.authorized_keys[0]: found a private key, allowed a public key in OpenSSH form, such as the "
     "line of a file id_ed25519.pub. This is a private key: take it out of this file, and think of it as known to others")),
    ("an unknown word in braces", "[pools.web.rollout]", '[pools.web.hooks]\ndrain = ["./lb", "{nme}"]\n[pools.web.rollout]',
     'FILE:24: pools.web.hooks.drain[1]: found "{nme}", allowed {name}, {address} and {version} as the only words in braces'),
    ("role without kind", "[fleet]", '[access]\noperators = ["root"]\n[fleet]',
     'FILE:2: access.operators[0]: found "root", allowed "user:NAME" or "group:NAME"'),
    ("bad pool name", "[pools.app]", "[pools.App]",
     'FILE:26: pools.App: found the name "App", allowed a name of a-z, 0-9 and inner dashes, at most 57 characters'),
    ("pool is no table", "[pools.app]", "[pools]\nsmall = 3\n[pools.app]",
     "FILE:27: pools.small: found 3, allowed a table"),
    ("unknown table", "[hypervisors.hv1]", "[access]\n[hypervisor.x]\n[hypervisors.hv1]",
     ("FILE:11: hypervisor: found an unknown table, allowed one of fleet, hypervisors, machines, images, pools, access. "
     'Did you mean "hypervisors"?')),
    ("breaker in the wrong table", "max_surge = 1", 'breaker = "20% of at least 5 in 10m"',
     ("FILE:24: pools.web.rollout.breaker: found an unknown key, allowed one of canaries, checkpoint_pause, checkpoints, drain_deadline, "
      "healthy_deadline, max_failures, max_surge, max_unavailable, min_healthy_time, on_disconnect, on_failure, order, progress_deadline, promotion, retain. "
      "It belongs in [pools.web]")),
]


@pytest.mark.parametrize(("old", "new", "line"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_one_mistake_is_told_once_in_these_words(tmp_path: Path, old: str, new: str, line: str) -> None:
    assert GOOD.count(old) >= 1
    assert lines_of(tmp_path, GOOD.replace(old, new, 1)) == [line]


def test_an_unknown_key_tells_what_there_is(tmp_path: Path) -> None:
    (line,) = lines_of(tmp_path, GOOD.replace("max_surge = 1", "max_serge = 1"))
    assert line.startswith("FILE:24: pools.web.rollout.max_serge: found an unknown key, allowed one of canaries, ")
    assert line.endswith('. Did you mean "max_surge"?')
    (line,) = lines_of(tmp_path, GOOD.replace("servers = 3", "servers = 3\nmax_surge = 1"))
    assert line.endswith(". It belongs in [pools.web.rollout]")


def test_circles_and_unknown_names_of_after_come_at_once(tmp_path: Path) -> None:
    pool = '[pools.{}]\ndriver = "sim"\nservers = 1\nimage = "web"\nafter = {}\n'
    text = '[fleet]\nname = "x"\n[images.web]\nsimulated = ["1"]\n' + "".join(pool.format(name, after) for name, after in (
        ("web", '["db", "dbb", "db"]'), ("db", '["cache"]'), ("cache", '["web"]'), ("edge", '["far"]'), ("far", '["edge"]'), ("last", '["web"]')))
    assert [line.split(". ")[0] for line in lines_of(tmp_path, text)] == [
        'FILE:9: pools.web.after[1]: found "dbb", allowed a pool of this file (cache, db, edge, far, last, web)',
        'FILE:9: pools.web.after[2]: found "db" twice, allowed each pool once',
        "FILE:9: pools.web.after[0]: found web → db → cache → web, allowed pools that do not come after this one",
        "FILE:24: pools.edge.after[0]: found edge → far → edge, allowed pools that do not come after this one"]


@pytest.mark.parametrize(("approvals", "access", "line"), [
    (1, "", ("FILE:16: pools.web.approvals: found 1, allowed 0. [access] names nobody as approver or operator, and the author of a plan "
             "does not count: name 2 or more, or a group")),
    (1, 'operators = ["user:ana"]', ("FILE:16: pools.web.approvals: found 1, allowed at most 0. [access] names one person as approver or "
                                     "operator, and the author of a plan does not count: name 2 or more, or a group")),
    (1, 'operators = ["user:ana"]\nobservers = ["user:bob", "group:adm"]', ("FILE:16: pools.web.approvals: found 1, allowed at most 0. [access] names one "
                                                                            "person as approver or operator, and the author of a plan does not count: name 2 or more, or a group")),
    (3, 'operators = ["user:ana", "user:bob"]\napprovers = ["user:bob", "user:eve"]', (
        "FILE:16: pools.web.approvals: found 3, allowed at most 2. [access] names 3 people as approver or operator, and the author of a plan "
        "does not count: name 4 or more, or a group")),
    (21, 'operators = ["group:anew"]', "FILE:16: pools.web.approvals: found 21, allowed an integer from 0 to 20"),
])
def test_approvals_that_nobody_could_give_are_refused(tmp_path: Path, approvals: int, access: str, line: str) -> None:
    text = GOOD.replace("servers = 3", f"servers = 3\napprovals = {approvals}")
    assert lines_of(tmp_path, f"{text}[access]\n{access}\n") == [line]


@pytest.mark.parametrize("access", ['operators = ["user:ana", "user:bob"]', 'operators = ["user:ana"]\napprovers = ["user:eve"]', 'approvers = ["group:ops"]'])
def test_enough_people_for_one_approval(tmp_path: Path, access: str) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(GOOD.replace("servers = 3", 'servers = 3\napprovals = 1\napproval_expiry = "90m"') + f"[access]\n{access}\n")
    web = load(str(file)).pools["web"]
    assert (web.approvals, web.approval_expiry) == (1, 5400.0)
    assert (load(str(file)).pools["app"].approvals, load(str(file)).pools["app"].approval_expiry) == (0, 86_400.0)


def test_approvals_are_not_counted_against_an_access_table_that_is_wrong_itself(tmp_path: Path) -> None:
    text = GOOD.replace("servers = 3", "servers = 3\napprovals = 1") + '[access]\noperators = ["ana"]\n'
    (line,) = lines_of(tmp_path, text)
    assert "access.operators[0]" in line


def test_all_problems_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    bad = GOOD.replace("servers = 3", "servers = true").replace("max_surge = 1", 'max_surge = "x"\nmin_healthy_time = 5')
    bad = bad.replace('image = "app"', 'image = "nope"').replace('"2s"', "2").replace('name = "lab"', 'name = "Lab"')
    told = [line.split(": found")[0] for line in lines_of(tmp_path, bad)]
    assert told == ["FILE:2: fleet.name", "FILE:15: pools.web.servers", "FILE:24: pools.web.rollout.max_surge",
                    "FILE:25: pools.web.rollout.min_healthy_time", "FILE:30: pools.app.image", "FILE:31: pools.app.sim.boot"]


def test_two_pools_may_not_share_ports_of_a_hypervisor(tmp_path: Path) -> None:
    web = GOOD[GOOD.index("[pools.web]"):GOOD.index("[pools.app]")]
    second = web.replace("pools.web", "pools.two").replace("2201", "2206")
    assert lines_of(tmp_path, GOOD + second) == [
        ("FILE:36: pools.two.network.user.first_port: found ports 2206 to 2211, allowed none of ports 2201 to 2206, which "
        "pool web has on the same hypervisor. A pool has 2 ports for each server")]
    file = tmp_path / "fleet.toml"
    file.write_text(GOOD + second.replace("2206", "2207"))
    assert load(str(file)).pools["two"].network.first_port == 2207


WHOLE_FILES: list[tuple[str, str | bytes, str]] = [
    ("empty", "", "FILE:1: found an empty file, allowed a fleet file. It begins with [fleet] and a name"),
    ("blank", " \n\n", "FILE:1: found an empty file, allowed a fleet file. It begins with [fleet] and a name"),
    ("not TOML", "[fleet]\nname = lab\n", "FILE:2: this is not TOML (column 8): Invalid value"),
    ("cut off", '[fleet]\nname = "la', "FILE:2: this is not TOML: Unterminated string, at the end of the file"),
    ("declared twice", '[fleet]\nname = "a"\n[fleet]\n', "FILE:3: this is not TOML (column 7): Cannot declare ('fleet',) twice"),
    ("not UTF-8", b"[fleet]\nname = \"\xff\"\n", "FILE:2: found bytes that are not UTF-8, allowed UTF-8 text"),
    ("mark", b"\xef\xbb\xbf[fleet]\n", "FILE:1: found a byte-order mark before the first line, allowed UTF-8 text without one"),
    ("huge", b"#" * (1 << 20) + b"\n", "FILE: found more than 1 MiB, allowed a fleet file of at most 1 MiB"),
    ("deep", "x = " + "[" * 50_000, "FILE: found tables or lists nested too deeply, allowed a fleet file with a few levels"),
    ("deep and whole", "x = " + "[" * 400 + "]" * 400, ""),
    ("deep keys", "x" + ".x" * 100_000 + " = 1", "FILE:1: found a line with more than 200 dots, allowed keys of a few parts"),
    ("huge number", "x = " + "9" * 10_000, "FILE: this is not TOML: a number or date is out of range"),
    ("sections of other types", "fleet = 1\nimages = []\npools = true\n", ""),
]


@pytest.mark.parametrize(("text", "line"), [case[1:] for case in WHOLE_FILES], ids=[case[0] for case in WHOLE_FILES])
def test_files_that_are_no_fleet_files_get_a_sentence(tmp_path: Path, text: str | bytes, line: str) -> None:
    told = lines_of(tmp_path, text)
    assert told == [line] if line else all(words.startswith("FILE") for words in told)


def test_wrong_types_of_whole_sections(tmp_path: Path) -> None:
    assert lines_of(tmp_path, "fleet = 1\nimages = []\npools = true\n") == [
        "FILE:1: fleet: found 1, allowed a table", "FILE:2: images: found an empty list, allowed a table",
        "FILE:3: pools: found true, allowed a table"]


def test_an_empty_fleet_says_what_is_missing(tmp_path: Path) -> None:
    assert lines_of(tmp_path, "# nothing yet\n") == [
        "FILE:1: fleet: found nothing, allowed a table [fleet] with a name",
        "FILE:1: images: found nothing, allowed a table [images.FAMILY]",
        "FILE:1: pools: found nothing, allowed a table [pools.NAME]"]


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, words in ((tmp_path, "a folder"), (tmp_path / "none.toml", "no such file"), (pipe, "something that is no file")):
        with pytest.raises(SettingsInvalid, match=words):
            load(str(path))
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        load("\0")
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        load(str(tmp_path / ("x" * 5000)))


def test_a_file_full_of_mistakes_gets_a_bounded_message(tmp_path: Path) -> None:
    told = lines_of(tmp_path, GOOD + "".join(f"key{number} = 1\n" for number in range(5000)))
    assert len(told) == 51 and told[-1] == "... and more problems after these"


def test_hostile_names_stay_on_one_printable_line(tmp_path: Path) -> None:
    for line in lines_of(tmp_path, '"\\u001b]0;x\\u0007\\n" = 1\n[fleet]\nname = "\\u001b[2J\\n"\n'):
        assert line.isprintable()


WINDOW = 'windows = [{ start = "22:00", length = "4h", time_zone = "Europe/Berlin" }]'


@pytest.mark.parametrize(("written", "key", "words"), [
    (WINDOW.replace("Europe/Berlin", "Europe/Berlni"), "time_zone", 'found "Europe/Berlni", allowed an IANA time zone such as Europe/Berlin. Did you mean Europe/Berlin?'),
    (WINDOW.replace("22:00", "25:00"), "start", 'found "25:00", allowed a time of day such as "22:00"'),
    (WINDOW.replace("4h", "8d"), "length", "allowed a duration from 1m to 7d"),
    (WINDOW.replace("start", 'days = ["mon", "tus"], start'), "days[1]", "tus"),
    (WINDOW.replace('start = "22:00", ', ""), "start", "nothing"),
])
def test_windows_that_cannot_be(tmp_path: Path, written: str, key: str, words: str) -> None:
    (line,) = lines_of(tmp_path, GOOD.replace("servers = 3", f"servers = 3\n{written}"))
    assert f"pools.web.windows[0].{key}" in line
    assert words in line


@pytest.mark.parametrize(("written", "key", "words"), [
    ("checkpoints = [50, 25]", "checkpoints[1]", "found 25, allowed more than 50, the checkpoint before it"),
    ("checkpoints = [25, 100]", "checkpoints[1]", "allowed an integer from 1 to 99"),
    ("checkpoints = [true]", "checkpoints[0]", "allowed an integer from 1 to 99"),
    ('checkpoints = ["0%"]', "checkpoints[0]", 'allowed an integer from 1 to 99, or as much in percent, such as "25%"'),
    ('checkpoints = ["50%", "25%"]', "checkpoints[1]", "allowed more than 50, the checkpoint before it"),
    ('checkpoint_pause = "by hand"', "checkpoint_pause", '"manual" or a duration'),
])
def test_checkpoints_that_cannot_be(tmp_path: Path, written: str, key: str, words: str) -> None:
    (line,) = lines_of(tmp_path, GOOD.replace("max_surge = 1", f"max_surge = 1\n{written}"))
    assert f"pools.web.rollout.{key}" in line
    assert words in line


ROLLOUT = "max_surge = 1"
TOGETHER = [
    ("checkpoints", ROLLOUT, "max_surge = 1\ncheckpoints = [50, 25, 130, 20]", ["rollout.checkpoints[1]: found 25, allowed more than 50", "rollout.checkpoints[2]: found 130",
                                                                                 "rollout.checkpoints[3]: found 20, allowed more than 25"]),
    ("a checkpoint that is none is no measure for the next", ROLLOUT, "max_surge = 1\ncheckpoints = [130, 50, 25]", ["checkpoints[0]: found 130", "checkpoints[2]: found 25, allowed more than 50"]),
    ("hypervisors", 'hypervisors = ["hv1"]', 'hypervisors = ["HV", "hv1", "hv2", "hv1"]', ["hypervisors[0]", 'hypervisors[2]: found "hv2"', 'hypervisors[3]: found "hv1" twice']),
    ("no network beside an unknown hypervisor", 'hypervisors = ["hv1"]\nnetwork = { user = { first_port = 2201 } }', 'hypervisors = ["hv2"]', [
        "pools.web.network: found nothing", 'hypervisors[0]: found "hv2"']),
    ("times", ROLLOUT, 'max_surge = 1\nmin_healthy_time = "10m"\nhealthy_deadline = "9m"\nprogress_deadline = 7', [
        "min_healthy_time: found 10m, allowed less than healthy_deadline", "progress_deadline: found 7"]),
    ("data disks", "servers = 3", 'servers = 3\ndata = [{ name = "a", size = 1 }, { name = "b", size = "1GiB" }, { name = "b", size = "1GiB" }]', [
        "data[0].size: found 1", 'data[2].name: found "b" twice', "rollout.max_surge: found 1, allowed 0 for a pool with data"]),
    ("health checks", 'tcp = { port = 22, expect = "SSH-" }', "tcp = { port = 0 }\n\n[[pools.web.health]]\ndeadline = \"1s\"", ["health[0].tcp.port", "health[1]: found none of them"]),
    ("simulated versions", 'simulated = ["1", "2", "3-bad"]', 'simulated = ["-", "2", "2"]', ["images.app.simulated[0]", 'images.app.simulated[2]: found "2" twice']),
    ("faults", '"3-bad" = "never-healthy"', '"9" = "never-healthy", "1" = "nonsense"', ['pools.app.sim.faults.9: found "9"', 'pools.app.sim.faults.1: found "nonsense"']),
    ("pools to come after", "servers = 3", 'servers = 3\nafter = ["APP", "nope", "web"]', ["after[0]", 'after[1]: found "nope"', "after[2]: found web → web"]),
    ("hypervisors of one machine", 'uri = "qemu:///system"', 'uri = "qemu:///system"\nacceleration = "fast"\n\n[hypervisors.hv2]\nuri = "qemu:///system"', [
        "hypervisors.hv1.acceleration", "hypervisors.hv2.uri: found the URI of hv1"]),
]


@pytest.mark.parametrize(("old", "new", "told"), [case[1:] for case in TOGETHER], ids=[case[0] for case in TOGETHER])
def test_one_mistake_hides_no_other_of_the_same_list_or_table(tmp_path: Path, old: str, new: str, told: list[str]) -> None:
    assert GOOD.count(old) >= 1
    lines = lines_of(tmp_path, GOOD.replace(old, new, 1))
    assert [any(words in line for line in lines) for words in told] == [True] * len(told), "\n".join(lines)
    assert len(lines) == len(told), "\n".join(lines)


def test_who_may_approve_is_counted_though_an_observer_is_written_wrong(tmp_path: Path) -> None:
    text = GOOD.replace("servers = 3", "servers = 3\napprovals = 1") + '[access]\noperators = ["user:ana"]\nobservers = ["bob"]\n'
    first, second = lines_of(tmp_path, text)
    assert "pools.web.approvals: found 1, allowed at most 0" in first and "access.observers[0]" in second
