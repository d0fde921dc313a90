"""Words that are sent to hosts, and what of their answers is believed: docs/host-protocol.md, as tables."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.baremetal import facts, protocol, words
from drivers.baremetal.protocol import Unanswered
from fleet.core.errors import AnewError, Permanent, Refused, Transient
from fleet.ports import Operation

OP = Operation("00000000000000aa", 7, "", 60.0)
SHA, DIGEST, BOOT = "a" * 64, "sha256:" + "b" * 64, "7f0c0000-0000-4000-8000-00000000000a"


# -- what is sent --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "line"), [
    (words.observe(), "anew-host observe"),
    (words.have(SHA), f"anew-host have {SHA}"),
    (words.upload(OP, SHA, 10, 4), f"anew-host upload 7 {OP.id} {SHA} 10 4"),
    (words.install(OP, SHA, DIGEST, "2026.1+a"), f"anew-host install 7 {OP.id} {SHA} {DIGEST} 2026.1+a"),
    (words.arm(OP, 4, DIGEST, 1795311111.75, ""), f"anew-host arm 7 {OP.id} 4 {DIGEST} 1795311111 -"),
    (words.arm(OP, 4, DIGEST, 1.0, "f" * 16), f"anew-host arm 7 {OP.id} 4 {DIGEST} 1 {'f' * 16}"),
    (words.activate(OP, 3), f"anew-host activate 7 {OP.id} 3"),
    (words.reboot(OP, BOOT), f"anew-host reboot 7 {OP.id} {BOOT}"),
    (words.bless(OP, 3), f"anew-host bless 7 {OP.id} 3"),
    (words.reject(OP, 3), f"anew-host reject 7 {OP.id} 3"),
    (words.forget(OP, 3), f"anew-host forget 7 {OP.id} 3"),
    (words.repair(OP), f"anew-host repair 7 {OP.id}"),
    (words.lock(OP, "read-only"), f"anew-host lock 7 {OP.id} read-only"),
])
def test_each_verb_is_one_line(what: words.Words, line: str) -> None:
    assert what.line == line


def test_a_host_without_helper_is_given_it_on_standard_input() -> None:
    assert words.observe().carried("root") == "sh -s -- observe"
    assert words.lock(OP, "writable").carried("admin") == f"sudo -n sh -s -- lock 7 {OP.id} writable"


@pytest.mark.parametrize("bad", ["", "$(reboot)", "2; reboot", "2 3", "2\nreboot", "-2", "'", "a" * 65, "ä", "2\x00"])
def test_nothing_that_a_shell_would_read_is_sent(bad: str) -> None:
    tries: tuple[Callable[[], words.Words], ...] = (
        lambda: words.install(OP, SHA, DIGEST, bad), lambda: words.reboot(OP, bad), lambda: words.have(bad),
        lambda: words.install(OP, SHA, bad, "1"), lambda: words.bless(Operation(bad, 1, "", 1.0), 1),
    )
    for say in tries:
        with pytest.raises(Refused, match="nothing was sent"):
            say()
    with pytest.raises(Refused, match="nothing was sent"):
        words.bless(OP, -1)


# -- what comes back -----------------------------------------------------------------------------------------


def test_an_answer_is_pairs_sections_and_a_last_line() -> None:
    frame = protocol.parse(b"anew-host 1\nboot_id x\nos Debian GNU/Linux 12\n--- rauc 12\n{\nok\nerror}}\nlock free\nok\n", "rack1")
    assert frame.pairs == (("boot_id", "x"), ("os", "Debian GNU/Linux 12"), ("lock", "free"))
    assert frame.section("rauc") == b"{\nok\nerror}}"
    assert (frame.code, frame.value("lock"), frame.value("nothing")) == ("", "free", "")


def test_what_a_shell_prints_before_is_skipped() -> None:
    assert protocol.parse(b"Welcome!\n\nanew-host 1\nok\n", "rack1").code == ""


@pytest.mark.parametrize("cut", [b"anew-host 1\n", b"anew-host 1\nboot_id x\n", b"anew-host 1\nok", b"anew-host 1\n--- rauc 10\nabc",
                                 b"anew-host 1\n--- rauc 3\nabc\n", b"anew-host 1\n--- rauc 3\nabc"])
def test_an_answer_without_its_last_line_was_not_given(cut: bytes) -> None:
    with pytest.raises(Transient, match="breaks off"):
        protocol.parse(cut, "rack1")


@pytest.mark.parametrize(("said", "errors", "sentence"), [
    (b"", "", "gave no answer"),
    (b"", "sh: 1: anew-host: not found", "has no anew-host"),
    (b"", "sudo: a password is required", "sudo asks for a password"),
    (b"This account is currently not available.\n", "", "gave no answer there: This account"),
    (b"", "bash: /usr/bin/anew-host: Permission denied", "may not run anew-host"),
    (b"ok\n" * 100, "", "gave no answer"),
])
def test_no_answer_at_all_says_why(said: bytes, errors: str, sentence: str) -> None:
    with pytest.raises(Unanswered, match=sentence):
        protocol.parse(said, "rack1", words=errors)


@pytest.mark.parametrize(("said", "sentence"), [
    (b"anew-host 2\nok\n", "speaks protocol 2"),
    (b"anew-host 1\n" + b"k " + b"x" * 600 + b"\nok\n", "line of 602 bytes"),
    (b"anew-host 1\n--- rauc 999999999\n", "256 KiB"),
    (b"anew-host 1\n\x1b[2J\nok\n", "none of the protocol"),
    (b"anew-host 1\n" + b"a b\n" * 5000 + b"ok\n", "more than 4000 lines"),
    (b"anew-host 1\n" + b"x" * (1 << 20) + b"\nok\n", "more than 1 MiB"),
])
def test_what_is_no_answer_is_permanent(said: bytes, sentence: str) -> None:
    with pytest.raises(Permanent, match=sentence):
        protocol.parse(said, "rack1")


@pytest.mark.parametrize(("line", "kind", "sentence"), [
    ("stale-epoch epoch 9 has this host, and 7 was sent", Refused, r"another controller \(epoch 9\) has this host"),
    ("stale-epoch epoch 9 was seen here, this is 7", Refused, r"\(epoch 9\)"),
    ("stale-epoch", Refused, r"\(epoch 8\)"),
    ("not-ours there is another mark", Refused, "there is another mark"),
    ("wrong-state slot B is writing, not staged", Refused, "slot B is writing"),
    ("busy operation 00000000000000bb holds this host", Transient, "operation 00000000000000bb holds"),
    ("not-ready rauc does not answer yet", Transient, "does not answer yet"),
    ("bad-bytes what came is not it", Permanent, "signature"),
    ("no-space 1 bytes are needed", Permanent, "free some space"),
    ("read-only-data it is mounted so", Permanent, "read-only"),
    ("no-backend there is none", Permanent, "two images"),
    ("failed it did not work", Permanent, "did not work"),
    ("usage no such verb", Permanent, "newer helper"),
    ("a-new-code what is this", Permanent, "what is this"),
])
def test_every_code_is_one_of_three_errors(line: str, kind: type[AnewError], sentence: str) -> None:
    frame = protocol.parse(f"anew-host 1\nepoch 9\nerror {line}\n".encode(), "rack1")
    with pytest.raises(kind, match=sentence) as raised:
        protocol.require(frame, "rack1", epoch=8)
    assert raised.value.where == "rack1" and type(raised.value) is kind


@given(st.binary(max_size=3000))
def test_no_bytes_make_more_of_it_than_an_error_of_ours(raw: bytes) -> None:
    for said in (raw, b"anew-host 1\n" + raw, b"anew-host 1\n" + raw + b"\nok\n"):
        try:
            frame = protocol.parse(said, "rack1", words=raw[:80].decode("latin-1"))
            facts.read(protocol.require(frame, "rack1"), "rack1")
        except AnewError as problem:
            assert len(str(problem)) < 600 and str(problem).isprintable()


LINES = st.lists(st.sampled_from([
    b"backend rauc", b"backend bootc", b"backend \xff", f"boot_id {BOOT}".encode(), b"uptime -1", b"uptime 99999999999999999999", b"clock x",
    b"booted A", b"booted C", b"trial yes", b"deadman none", b"deadman 0", b"deadman 120", b"epoch 1e9", b"data_free 99999999999999999999999",
    b"slot.A number=99999999999 state=kept", b"slot.A number=1 state=kept digest=x", b"slot.B state=torn", b"slot.B", b"slot.B = = number==3",
    b"slot.B number=1 state=armed born=-", b"--- rauc 2\n[]", b"--- rauc 0\n", b"env torn", b"data writable", b"server -", b"bundle x y z",
    b"os \x1b[31mred\x1b[0m", b"version 1 2", b"image_id a b", b"lock free",
]), max_size=30)


@given(LINES)
def test_no_lines_make_facts_that_are_not_facts(lines: list[bytes]) -> None:
    from drivers.baremetal import sight
    from fleet.core.desired import Machine

    said = b"anew-host 1\n" + b"".join(line + b"\n" for line in [f"boot_id {BOOT}".encode(), *lines]) + b"ok\n"
    found = facts.read(protocol.parse(said, "rack1"), "rack1")
    seen = sight.incarnations(Machine("rack1", "127.0.0.1"), found, 1.0)
    assert [item.state for item in seen].count("running") == 1
    assert len({item.number for item in seen}) == len(seen)
    for item in seen:
        assert item.note.isprintable() and len(item.note) < 2000 and item.version.isprintable()


def test_a_host_that_tells_no_boot_id_tells_nothing() -> None:
    with pytest.raises(Permanent, match="no boot id"):
        facts.read(protocol.parse(b"anew-host 1\nbackend rauc\nok\n", "rack1"), "rack1")


def test_facts_are_what_the_protocol_lists() -> None:
    said = f"""anew-host 1
backend rauc
boot_id {BOOT}
uptime 81
clock 1795312345
image_id web-2-9f31c2ab
version 2
os Debian GNU/Linux 12 \x1b[1m
root read-only squashfs
trial yes
deadman 120
booted A
data_free 412000000
data writable
epoch 7
env ok
server 1f0e0000-0000-4000-8000-00000000000a
lock {OP.id}
slot.A number=3 digest={DIGEST} version=2 image_id=web-2-9f31c2ab state=armed born=1795311111 op={OP.id} rollout=- armed_boot={BOOT} bundle={SHA}
slot.B number=- digest={DIGEST} version=- image_id=- state=staged born=- op=- rollout=- armed_boot=- bundle=-
bundle {SHA} 41943040 complete
bundle {'c' * 64} 12 part
--- rauc 2
{{}}
ok
"""
    found = facts.read(protocol.parse(said.encode(), "rack1"), "rack1")
    assert (found.backend, found.uptime, found.version, found.os) == ("rauc", 81.0, "2", "Debian GNU/Linux 12 [1m")
    assert (found.root, found.trial, found.deadman, found.booted) == ("read-only", True, 120, "A")
    assert (found.data_free, found.data, found.epoch, found.env, found.lock) == (412_000_000, "writable", 7, "ok", OP.id)
    assert found.running is not None and (found.number, found.running.state, found.running.born) == (3, "armed", 1795311111.0)
    assert found.idle is not None and (found.idle.state, found.idle.number, found.idle.version) == ("staged", -1, "")
    assert found.bundles == {SHA: 41_943_040}
    assert "bootable slots" in found.reading.problem
