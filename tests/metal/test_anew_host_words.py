"""What reaches the helper from outside: words, bytes on standard input, epochs, other sessions, and disks that are full or fail."""

from __future__ import annotations

import hashlib
import http.server
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.baremetal.carried import before_input, built, program
from drivers.baremetal.facts import read
from drivers.baremetal.protocol import parse
from tests.metal.sandbox import BOOTS, HELPER, OP, OTHER_OP, SHELLS, Sandbox, missing, run, sandbox

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

DATA = hashlib.shake_256(b"a bundle").digest(400_000)
SHA = hashlib.sha256(DATA).hexdigest()
SIZE = str(len(DATA))
HOSTILE = ("; reboot", "$(touch made)", "`touch made`", "*", "/etc/*", "a\nb", "-", "--help", "", " ", "&& reboot", "|sh", "\x1b[31m", "é" * 40, "x" * 100_000,
           "../../etc/passwd", "7 8", "0x10", "-1", "1e3", "99999999999999999999", "%s%n", "${IFS}", "a" * 63 + "\n")
ACTING = {
    "upload": ("sha", "size", "offset"), "patch": ("sha", "sha", "size", "sha"), "pull": ("sha", "size", "url"), "install": ("sha", "digest", "version"),
    "arm": ("number", "digest", "number", "op"), "activate": ("number",), "bless": ("number",), "reject": ("number",), "forget": ("number",),
    "reboot": ("boot",), "repair": (), "lock": ("mode",), "layout": ("version", "sha", "size", "digest", "version", "version"),
}
FITS = {"sha": SHA, "size": "10", "offset": "0", "url": "http://127.0.0.1:1/x", "digest": f"sha256:{SHA}", "version": "2", "number": "3", "op": OP,
        "boot": BOOTS(1), "mode": "read-only"}


@pytest.fixture(scope="session")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("no-keys")


@pytest.fixture(params=SHELLS)
def host(request: pytest.FixtureRequest, nothing: Path) -> Iterator[Sandbox]:
    """A host whose RAUC does not run: most words do not reach it."""
    with sandbox(request.param, nothing) as made:
        yield made


def uploads(host: Sandbox, data: bytes, name: str = "") -> str:
    found = name or hashlib.sha256(data).hexdigest()
    assert host.does("upload", found, str(len(data)), "0", data=data) == ""
    return found


def part(host: Sandbox, name: str = SHA) -> Path:
    return host.root / f"data/anew/bundles/{name}.part"


def whole(host: Sandbox, name: str = SHA) -> Path:
    return host.root / f"data/anew/bundles/{name}.bundle"


# --- the program itself


def test_it_is_put_together_from_its_parts() -> None:
    assert program() == built(), "drivers/baremetal/anew-host is stale; run: python -m drivers.baremetal.carried"


@pytest.mark.parametrize("shell", SHELLS)
def test_it_parses(shell: str) -> None:
    run(*SHELLS[shell], "-n", HELPER)


def test_every_line_can_be_read_in_a_terminal() -> None:
    assert not [line for line in program().decode().splitlines() if len(line) > 140]


# --- words


@pytest.mark.parametrize("verb", ACTING)
def test_every_argument_outside_its_grammar_is_refused(host: Sandbox, verb: str) -> None:
    """Each place takes each hostile word once over all verbs; nothing is made, nothing is run."""
    kinds = ("number", "op", *ACTING[verb])
    good = ["7", OP, *(FITS[kind] for kind in ACTING[verb])]
    for at in range(len(kinds)):
        for word in HOSTILE[at::3]:
            if word == "-" and verb in ("arm", "patch") and kinds[at] in ("op", "sha"):
                continue
            if kinds[at] == "version" and word.isalnum() and word.isascii() and len(word) < 64:
                continue
            said = [*good]
            said[at] = word
            frame = host.ask(verb, *said)
            assert frame.code == "usage", (verb, at, word[:40])
            assert len(frame.sentence) < 300
    assert host.ask(verb, *good[:-1]).code == "usage", "one too few"
    assert host.ask(verb, *good, "1").code == "usage", "one too many"
    assert not (host.root / "data/anew").exists()
    assert not Path("made").exists()


@pytest.mark.parametrize("line", ["", "sh", "anew-host", "anew-host ", "anew-host sh", "anew-host observe; reboot", "anew-host observe x", "anew-host have *",
                                  "anew-host have $(id)", "ls anew-host observe", "anew-host observe\nreboot", "anew-host\tobserve", "scp -t /", "x" * 100_000,
                                  "anew-host " + "observe " * 10_000, "sh -s -- observe", "/bin/anew-host observe"], ids=lambda line: repr(line[:24]))
def test_a_forced_command_takes_verbs_only(host: Sandbox, line: str) -> None:
    status, output = host.say(env={"SSH_ORIGINAL_COMMAND": line})
    assert (status, parse(output, "test").code) == (2, "usage")


def test_a_forced_command_takes_a_verb(host: Sandbox) -> None:
    status, output = host.say(env={"SSH_ORIGINAL_COMMAND": f"anew-host   have {SHA} "})
    assert (status, parse(output, "test").value("state")) == (0, "none")


def test_the_sandbox_is_for_nobody_from_outside(host: Sandbox) -> None:
    """Over SSH the root is the machine's own, whatever the environment says. /run is a memory of this test's own there."""
    real = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    argv = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh", *host.argv("observe")]
    for name in ("SSH_CONNECTION", "SUDO_UID"):
        output = host.say(argv=argv, env={name: "127.0.0.1 1 127.0.0.1 22"})[1]
        assert f"boot_id {real}\n".encode() in output


def test_who_is_not_root_is_told_about_sudo(host: Sandbox, tmp_path: Path) -> None:
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *SHELLS[host.shell], "-c", program().decode(), "/usr/bin/anew-host", "observe"]
    done = subprocess.run(argv, env={"PATH": os.environ["PATH"]}, capture_output=True, timeout=60, check=False)
    frame = parse(done.stdout, "test")
    assert (done.returncode, frame.code) == (5, "failed")
    assert "without a password" in frame.sentence


# --- carried


def test_carried_on_standard_input(host: Sandbox) -> None:
    argv = [*SHELLS[host.shell], "-s", "--"]
    assert parse(host.say(argv=[*argv, "observe"], data=program())[1], "test").value("booted") == "A"
    status, output = host.say(argv=[*argv, "repair", "7", OP], data=program())
    assert (status, parse(output, "test").code) == (3, "no-helper")


def test_carried_with_input_of_its_own(host: Sandbox) -> None:
    """Not a byte of what follows the program is lost, however it arrives."""
    line = f"{before_input('root')} have {SHA}; sha256sum"
    status, output = host.say(argv=["sh", "-c", line], data=program() + DATA)
    assert status == 0
    assert parse(output, "test").value("state") == "none"
    assert output.endswith(f"ok\n{SHA}  -\n".encode())
    assert before_input("admin").startswith("sudo -n sh ")


# --- who may act


def test_a_lower_epoch_is_refused_by_every_verb(host: Sandbox) -> None:
    assert host.does("forget", "1", epoch=8) == ""
    for verb, kinds in ACTING.items():
        if verb != "layout":
            frame = host.ask(verb, "7", OP, *(FITS[kind] for kind in kinds))
            assert frame.code == "stale-epoch", verb
            assert "epoch 8" in frame.sentence
    assert read_epoch(host) == "8\n"


def read_epoch(host: Sandbox) -> str:
    return (host.root / "data/anew/epoch").read_text()


def test_two_controllers_at_once(host: Sandbox) -> None:
    """Whoever comes in which order: the higher one wins, and the lower one never acts after it."""
    for _ in range(5):
        running = [host.popen("forget", str(epoch), OP, "1") for epoch in (20, 21, 20, 21, 22, 20)]
        answers = [parse(verb.communicate(timeout=60)[0], "test").code for verb in running]
        assert set(answers) <= {"", "stale-epoch"}
        assert answers[4] == ""
    log = [line.split()[1] for line in (host.root / "data/anew/log").read_text().splitlines()]
    assert log == sorted(log)
    assert read_epoch(host) == "22\n"


@pytest.mark.parametrize("torn", ["", "8", "8x\n", "-1\n", "\n"])
def test_a_torn_epoch_lets_nobody_act(host: Sandbox, torn: str) -> None:
    host.write("data/anew/epoch", torn)
    assert host.does("forget", "1", epoch=9) == "wrong-state"


def test_the_log_keeps_its_end(host: Sandbox) -> None:
    host.write("data/anew/log", "".join(f"{at} 1 {OP} old\n" for at in range(450)))
    assert host.does("forget", "1") == ""
    lines = (host.root / "data/anew/log").read_text().splitlines()
    assert (len(lines), lines[0].split()[0], lines[-1].split()[3]) == (200, "251", "forget")


def test_a_held_host_is_busy_and_says_by_whom(host: Sandbox) -> None:
    (host.root / "run/anew").mkdir(parents=True)
    (host.root / "run/anew/lock").write_text(f"{OTHER_OP}\n")
    with subprocess.Popen(["flock", host.root / "run/anew/lock", "cat"], stdin=subprocess.PIPE) as holder:
        host.until(lambda: host.ask("observe").value("lock") == OTHER_OP)
        frame = host.ask("forget", "7", OP, "1")
        assert (frame.code, OTHER_OP in frame.sentence) == ("busy", True)
        assert holder.stdin is not None
        holder.stdin.close()
    assert host.does("forget", "1") == ""


# --- bytes


@pytest.mark.parametrize("cut", [0, 1, 4096, 65_537, 399_999])
def test_an_upload_cut_at_any_byte_goes_on(host: Sandbox, cut: int) -> None:
    assert host.does("upload", SHA, SIZE, "0", data=DATA[:cut]) == "not-ready"
    frame = host.ask("have", SHA)
    assert frame.value("size") == str(cut)
    if cut:
        assert frame.value("sha_so_far") == hashlib.sha256(DATA[:cut]).hexdigest()
        assert host.does("upload", SHA, SIZE, "0", data=DATA) == "not-ready", "it is told where it goes on"
    assert host.does("upload", SHA, SIZE, str(cut), data=DATA[cut:] + b"more than was announced") == ""
    assert whole(host).read_bytes() == DATA


def test_an_upload_killed_in_the_middle(host: Sandbox) -> None:
    verb = host.popen("upload", "7", OP, SHA, SIZE, "0")
    assert verb.stdin is not None
    verb.stdin.write(DATA[:200_000])
    verb.stdin.flush()
    host.until(lambda: part(host).exists() and part(host).stat().st_size > 100_000)
    os.killpg(verb.pid, signal.SIGKILL)
    verb.communicate()
    there = int(host.ask("have", SHA).value("size"))
    assert 100_000 < there <= 200_000
    assert host.does("upload", SHA, SIZE, str(there), data=DATA[there:]) == ""
    assert whole(host).read_bytes() == DATA


def test_who_sends_last_takes_a_stuck_upload_over(host: Sandbox) -> None:
    """A controller that died leaves a session that waits for hours; its successor does not."""
    verb = host.popen("upload", "7", OP, SHA, SIZE, "0")
    assert verb.stdin is not None
    verb.stdin.write(DATA[:100_000])
    verb.stdin.flush()
    host.until(lambda: part(host).exists() and part(host).stat().st_size >= 65_536)
    there = int(host.ask("have", SHA).value("size"))
    assert host.does("upload", SHA, SIZE, str(there), epoch=8, data=DATA[there:]) in ("", "not-ready")
    there = int(host.ask("have", SHA).value("size"))
    if not whole(host).exists():
        assert host.does("upload", SHA, SIZE, str(there), epoch=8, data=DATA[there:]) == ""
    assert parse(verb.communicate(timeout=30)[0], "test").code == "busy"
    assert whole(host).read_bytes() == DATA


def test_wrong_bytes_are_removed(host: Sandbox) -> None:
    assert host.does("upload", SHA, SIZE, "0", data=b"x" * len(DATA)) == "bad-bytes"
    assert (host.ask("have", SHA).value("state"), part(host).exists()) == ("none", False)


def test_a_part_that_is_longer_than_the_bundle_is_removed(host: Sandbox) -> None:
    assert host.does("upload", SHA, SIZE, "0", data=DATA[:1000]) == "not-ready"
    assert host.does("upload", SHA, "999", "1000") == "bad-bytes"
    assert host.ask("have", SHA).value("state") == "none"


@pytest.fixture
def small(host: Sandbox) -> Iterator[Sandbox]:
    """Its data partition has 1 MiB."""
    data = host.root / "data"
    run("mount", "-t", "tmpfs", "-o", "size=1m", "none", data)
    yield host
    run("umount", data)


def test_no_space_is_seen_before_anything_is_sent(small: Sandbox) -> None:
    assert small.does("upload", SHA, "1000000", "0", data=b"x") == "no-space"
    assert not part(small).exists()
    assert small.does("patch", "-", SHA, "1000000", uploads(small, b"x")) == "no-space"


def test_a_disk_that_fills_up_meanwhile(small: Sandbox) -> None:
    verb = small.popen("upload", "7", OP, SHA, SIZE, "0")
    small.until(lambda: part(small).exists())
    (small.root / "data/filler").write_bytes(b"x" * int(small.ask("observe").value("data_free")))
    assert parse(verb.communicate(DATA, timeout=30)[0], "test").code == "no-space"
    assert small.does("forget", "1", epoch=9) == "no-space", "an epoch that cannot be kept is not acted under"
    assert read_epoch(small) == "7\n"
    (small.root / "data/filler").unlink()
    there = part(small).stat().st_size
    assert small.does("upload", SHA, SIZE, str(there), epoch=9, data=DATA[there:]) == ""


def test_read_only_data_is_said_and_nothing_is_tried(small: Sandbox) -> None:
    run("mount", "-o", "remount,ro", small.root / "data")
    assert read(small.ask("observe"), "test").data == "read-only" if small.ask("observe").value("boot_id") else True
    for verb in ("forget", "bless", "reject"):
        assert small.does(verb, "1") == "read-only-data"


# --- deltas and pulls


def test_a_delta_and_plain_compression(host: Sandbox, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(DATA)
    new.write_bytes(DATA[:200_000] + b"changed" + DATA[200_000:])
    target = hashlib.sha256(new.read_bytes()).hexdigest()
    run("zstd", "-q", "--long=31", f"--patch-from={old}", new, "-o", tmp_path / "delta")
    run("zstd", "-q", new, "-o", tmp_path / "packed")
    for way, base in (("delta", SHA), ("packed", "-")):
        sent = (tmp_path / way).read_bytes()
        name = uploads(host, sent)
        if base != "-":
            assert host.does("patch", base, target, str(new.stat().st_size), name) == "wrong-state", "the old one is not here"
            uploads(host, DATA)
        for _ in range(2):
            assert host.does("patch", base, target, str(new.stat().st_size), name) == ""
        assert whole(host, target).read_bytes() == new.read_bytes()
        assert not whole(host, name).exists()
        whole(host, target).unlink()
    assert host.does("patch", "-", target, "10", "d" * 64) == "wrong-state"


@pytest.mark.parametrize("why", ["no-space", "failed"])
def test_a_delta_that_is_no_help_leaves_its_room_to_the_plain_form(small: Sandbox, tmp_path: Path, why: str) -> None:
    """400 KB made from 390 KB on a disk of 1 MiB, or on a host without zstd: the delta goes, and the bundle can be sent whole."""
    (tmp_path / "new").write_bytes(DATA)
    run("zstd", "-q", tmp_path / "new", "-o", tmp_path / "packed")
    packed = uploads(small, (tmp_path / "packed").read_bytes())
    if why == "no-space":
        free = int(small.ask("observe").value("data_free"))
        (small.root / "data/filler").write_bytes(b"x" * (free - 300_000))
    else:
        small.lacks("zstd")
    frame = small.ask("patch", "7", OP, "-", SHA, SIZE, packed)
    assert (frame.code, whole(small, packed).exists()) == (why, False), frame.sentence
    assert "removed" in frame.sentence
    assert uploads(small, DATA) == SHA


def test_a_delta_that_unpacks_without_end_is_cut_off(host: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(50_000_000))
    run("zstd", "-q", tmp_path / "zeros", "-o", tmp_path / "bomb")
    bomb = uploads(host, (tmp_path / "bomb").read_bytes())
    assert host.does("patch", "-", SHA, SIZE, bomb) == "bad-bytes"
    assert not part(host).exists()


class Ranges(http.server.BaseHTTPRequestHandler):
    """A mirror that can go on in the middle. /short breaks off, /long sends too much."""

    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Range", ""))
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        body = DATA[start:150_000] if self.path == "/short" else DATA[start:] + (b"x" * 2_000_000 if self.path == "/long" else b"")
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Ranges.asked.clear()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("tool", ["curl", "wget"])
def test_a_pull_goes_on_where_it_was_cut(host: Sandbox, mirror: str, tool: str) -> None:
    if tool == "wget":
        host.lacks("curl")
    assert host.does("pull", SHA, SIZE, "http://127.0.0.1:1/nobody") == "not-ready"
    assert host.does("pull", SHA, SIZE, f"{mirror}/short") == "not-ready"
    assert part(host).stat().st_size == 150_000
    for _ in range(2):
        assert host.does("pull", SHA, SIZE, f"{mirror}/good") == ""
    assert whole(host).read_bytes() == DATA
    assert [asked for asked in Ranges.asked if asked not in ("", "bytes=0-")][-1] == "bytes=150000-"


def test_a_mirror_that_sends_without_end_is_cut_off(host: Sandbox, mirror: str) -> None:
    assert host.does("pull", SHA, SIZE, f"{mirror}/long") == "bad-bytes"
    assert not part(host).exists()
