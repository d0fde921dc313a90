"""What a BMC may do to anew, and what anew does with a BMC: a restart at most, and a sentence always."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import socket
import ssl
import sys
import threading
from pathlib import Path

import pytest

from drivers.baremetal import bmc as power
from fleet.core.desired import Bmc, Machine
from fleet.core.errors import AnewError, Permanent, Refused, Transient
from tests.metal.authority import Certified, certify
from tests.metal.fake_bmc import RESET, SYSTEM, Answer, FakeBmc, fake_bmc, good, ok, raw, status

SECRET = "swordfish-7c1"
"""The password in all tests; it must turn up nowhere."""


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    return file


def rack(url: str, secret: Path | None, ca: Path | None = None) -> Machine:
    return Machine("rack1", "127.0.0.1", bmc=Bmc(url, "admin", str(secret or ""), str(ca or "")))


async def told(machine: Machine, *, pxe: bool = False, deadline: float = 10.0) -> AnewError:
    """The error that a recovery ends with."""
    with pytest.raises(AnewError) as caught:
        await power.cycle(machine, pxe, deadline)
    assert caught.value.where == "rack1"
    assert SECRET not in str(caught.value)
    assert str(caught.value).isprintable()
    return caught.value


def context(certified: Certified) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certified.certificate, certified.key)
    return tls


# --- what it does


@pytest.mark.parametrize(("state", "offered", "asked"), [
    ("On", ("On", "ForceOff", "ForceRestart"), ["ForceRestart"]),
    ("On", ("On", "ForceOff", "ForceRestart", "PowerCycle"), ["PowerCycle"]),
    ("Off", ("On", "ForceOff", "ForceRestart"), ["On"]),
    ("Off", ("ForceOn", "ForceRestart"), ["ForceOn"]),
])
async def test_one_request_restarts_it_or_switches_it_on(secret: Path, state: str, offered: tuple[str, ...], asked: list[str]) -> None:
    async with fake_bmc(good(resets=offered, power=state)) as bmc:
        words = await power.cycle(rack(bmc.url, secret), False, 10.0)
    assert bmc.resets() == asked
    assert words.startswith("rack1")
    assert not [one for one in bmc.asked if one.method == "PATCH"], "its boot order is not touched"
    login = "Basic " + base64.b64encode(f"admin:{SECRET}".encode()).decode()
    assert {one.headers.get("authorization") for one in bmc.asked if one.path.startswith(SYSTEM)} == {login}


async def test_a_bmc_without_restart_switches_it_off_waits_and_on(secret: Path) -> None:
    answers = good(resets=("On", "ForceOff"))
    async with fake_bmc(answers) as bmc:
        async def off(writer: asyncio.StreamWriter) -> None:
            answers[f"GET {SYSTEM}"] = good(resets=("On", "ForceOff"), power="Off")[f"GET {SYSTEM}"]
            writer.write(status(204))

        answers[f"POST {RESET}"] = off
        words = await power.cycle(rack(bmc.url, secret), False, 10.0)
    assert bmc.resets() == ["ForceOff", "On"]
    assert "off and on again" in words


async def test_pxe_is_asked_for_once_and_before_the_restart(secret: Path) -> None:
    async with fake_bmc(good()) as bmc:
        words = await power.cycle(rack(bmc.url, secret), True, 10.0)
    changes = [(one.method, one.body) for one in bmc.asked if one.method != "GET"]
    assert [method for method, _ in changes] == ["PATCH", "POST"]
    assert b'"BootSourceOverrideTarget": "Pxe"' in changes[0][1]
    assert b'"BootSourceOverrideEnabled": "Once"' in changes[0][1]
    assert "once from the network" in words


async def test_a_bmc_that_cannot_boot_from_the_network_restarts_nothing(secret: Path) -> None:
    answers = good(Boot={"BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Hdd"]})
    async with fake_bmc(answers) as bmc:
        error = await told(rack(bmc.url, secret), pxe=True)
    assert (type(error), error.code, bmc.resets()) == (Permanent, "no-pxe", [])


async def test_a_service_below_a_path_is_found(secret: Path) -> None:
    answers = {key.replace("/redfish", "/bmc7/redfish", 1): value for key, value in good().items()}
    async with fake_bmc(answers) as bmc:
        bmc.answers[f"POST {RESET}"] = status(204)
        await power.cycle(rack(bmc.url.replace("/redfish", "/bmc7/redfish"), secret), False, 10.0)
    assert bmc.resets() == ["ForceRestart"]


# --- whom it trusts


async def test_tls_with_its_own_authority(secret: Path, tmp_path: Path) -> None:
    own = certify(tmp_path / "tls")
    async with fake_bmc(good(), context(own)) as bmc:
        await power.cycle(rack(bmc.url, secret, own.authority), False, 10.0)
    assert bmc.resets() == ["ForceRestart"]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.9"])
async def test_a_certificate_by_another_authority_or_for_another_address_stops_it(secret: Path, tmp_path: Path, address: str) -> None:
    shown = certify(tmp_path / "shown", address)
    trusted = shown if address != "127.0.0.1" else certify(tmp_path / "trusted")
    async with fake_bmc(good(), context(shown)) as bmc:
        error = await told(rack(bmc.url, secret, trusted.authority))
    assert (type(error), error.code) == (Permanent, "bmc-tls")
    assert "certificate" in str(error)
    assert bmc.asked == [], "the password did not leave"


async def test_without_an_authority_of_its_own_the_systems_decide(secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = certify(tmp_path / "tls")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(own.authority))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(own.authority))
    async with fake_bmc(good(), context(own)) as bmc:
        assert (await told(rack(bmc.url, secret))).code == "bmc-tls"
        monkeypatch.setenv("SSL_CERT_FILE", str(own.authority))  # OpenSSL's own way to say what the system trusts
        await power.cycle(rack(bmc.url, secret), False, 10.0)
    assert bmc.resets() == ["ForceRestart"]


async def test_proxies_and_netrc_of_the_environment_are_ignored(secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login evil password evil\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with fake_bmc(good()) as bmc:
        await power.cycle(rack(bmc.url, secret), False, 10.0)
    assert bmc.resets() == ["ForceRestart"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
async def test_a_password_that_others_can_read_is_not_used(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    async with fake_bmc(good()) as bmc:
        error = await told(rack(bmc.url, secret))
    assert (type(error), error.code) == (Refused, "bmc-password")
    assert "chmod 600" in str(error)
    assert bmc.asked == []


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b"\xff\xfe", b"x" * 2000, b"esc\x1b[2J"])
async def test_a_password_file_must_hold_a_password(secret: Path, content: bytes) -> None:
    secret.write_bytes(content)
    assert (await told(rack("http://127.0.0.1:9" + SYSTEM, secret))).code == "bmc-password"


async def test_a_password_file_that_is_missing_or_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "missing", tmp_path, tmp_path / "pipe"):
        assert (await told(rack("http://127.0.0.1:9" + SYSTEM, path))).code == "bmc-password"


# --- what the fleet file may say


@pytest.mark.parametrize("url", [
    "https://10.0.0.9", "https://10.0.0.9/", "https://10.0.0.9/redfish/v1/", "ftp://10.0.0.9" + SYSTEM, "10.0.0.9" + SYSTEM, "https://" + SYSTEM,
    f"https://admin:{SECRET}@10.0.0.9{SYSTEM}", "http://10.0.0.9" + SYSTEM, "http://bmc.example" + SYSTEM, "https://10.0.0.9:x" + SYSTEM,
    f"https://10.0.0.9{SYSTEM}?x=1", "https://[::1" + SYSTEM,
])
async def test_urls_that_cannot_be_right(secret: Path, url: str) -> None:
    error = await told(rack(url, secret))
    assert (type(error), error.code) == (Refused, "bmc-url")


async def test_a_machine_without_bmc_and_an_authority_that_is_none(secret: Path, tmp_path: Path) -> None:
    assert (await told(Machine("rack1", "127.0.0.1"))).code == "no-bmc"
    (tmp_path / "ca").write_text("no certificate")
    for path in (tmp_path / "ca", tmp_path / "missing"):
        assert (await told(rack("https://127.0.0.1:9" + SYSTEM, secret, path))).code == "bmc-ca"


async def test_a_missing_sushy_is_a_sentence_that_names_the_extra(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sushy", None)
    error = await told(rack("https://127.0.0.1:9" + SYSTEM, secret))
    assert (type(error), error.code) == (Refused, "no-sushy")
    assert "anew[bmc]" in str(error)


# --- what a BMC may do


async def test_nobody_there(secret: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        error = await told(rack(f"http://127.0.0.1:{probe.getsockname()[1]}{SYSTEM}", secret))
    assert isinstance(error, Transient)
    assert "cannot be reached" in str(error)


async def test_a_wrong_password_is_tried_once(secret: Path) -> None:
    async with fake_bmc({**good(), f"GET {SYSTEM}": status(401, 'WWW-Authenticate: Basic realm="x"\r\n')}) as bmc:
        error = await told(rack(bmc.url, secret))
    assert (type(error), error.code) == (Permanent, "bmc-login")
    assert sum("authorization" in one.headers and one.path == SYSTEM for one in bmc.asked) == 1, "no account is locked by repeating"


async def test_no_such_system(secret: Path) -> None:
    answers = good()
    del answers[f"GET {SYSTEM}"]
    async with fake_bmc(answers) as bmc:
        error = await told(rack(bmc.url, secret))
    assert (type(error), error.code) == (Permanent, "bmc-system")


GARBAGE: dict[str, bytes] = {
    "html": raw(b"<html>\x1b[2J</html>"), "list": raw(b"[1, 2]"), "string": raw(b'"on"'), "cut": raw(b'{"Id": "1", '), "bytes": raw(bytes(range(256))),
    "deep": raw(b"[" * 100_000 + b"]" * 100_000), "empty object": raw(b"{}"), "nothing": raw(b""),
    "actions are a number": ok({"Id": "1", "@odata.id": SYSTEM, "PowerState": "On", "Boot": {}, "Actions": 7}),
    "boot is a list": ok({"Id": "1", "@odata.id": SYSTEM, "PowerState": "On", "Boot": [1], "Actions": {"#ComputerSystem.Reset": {"target": RESET}}}),
    "target is a number": ok({"Id": "1", "@odata.id": SYSTEM, "PowerState": "On", "Boot": {}, "Actions": {"#ComputerSystem.Reset": {"target": 7}}}),
    "two megabytes": raw(b'{"Id": "' + b"x" * 2_000_000 + b'"}'),
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_garbage_is_a_sentence_and_restarts_nothing(secret: Path, what: str) -> None:
    async with fake_bmc({**good(), f"GET {SYSTEM}": GARBAGE[what]}) as bmc:
        error = await told(rack(bmc.url, secret))
    assert isinstance(error, Permanent)
    assert bmc.resets() == []


@pytest.mark.parametrize("where", ["GET /redfish/v1/", f"GET {SYSTEM}", f"POST {RESET}"])
async def test_redirects_are_not_followed(secret: Path, where: str) -> None:
    async with fake_bmc({}) as other, fake_bmc(good()) as bmc:
        bmc.answers[where] = status(307, f"Location: http://127.0.0.1:{other.port}/redfish/v1/\r\n")
        error = await told(rack(bmc.url, secret))
    assert (type(error), error.code) == (Permanent, "bmc-elsewhere")
    assert other.asked == [], "the password went nowhere else"


@pytest.mark.parametrize("link", ["http://127.0.0.1:{port}/steal", "//127.0.0.1:{port}/steal", "http://localhost:{port}/steal", "file:///etc/passwd"])
async def test_a_link_to_elsewhere_is_not_followed(secret: Path, link: str) -> None:
    async with fake_bmc({"POST /steal": status(204)}) as other, fake_bmc(good()) as bmc:
        reset = {"#ComputerSystem.Reset": {"target": link.format(port=other.port), "ResetType@Redfish.AllowableValues": ["ForceRestart"]}}
        bmc.answers[f"GET {SYSTEM}"] = good(Actions=reset)[f"GET {SYSTEM}"]
        error = await told(rack(bmc.url, secret))
    assert (type(error), error.code) == (Permanent, "bmc-elsewhere")
    assert other.asked == []


@pytest.mark.parametrize(("code", "kind"), [(400, Permanent), (403, Permanent), (409, Permanent), (500, Transient), (503, Transient)])
async def test_a_refused_restart_is_told_without_its_words(secret: Path, code: int, kind: type[AnewError]) -> None:
    async with fake_bmc(good()) as bmc:
        bmc.answers[f"POST {RESET}"] = raw(b'{"error": {"message": "\\u001b[2Jevil"}}', f"HTTP/1.1 {code} Evil")
        error = await told(rack(bmc.url, secret))
    assert isinstance(error, kind)
    assert "evil" not in str(error).lower()


# --- time


def stalling(release: asyncio.Event) -> Answer:
    async def stall(writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(good()[f"GET {SYSTEM}"])  # type: ignore[arg-type]
        await writer.drain()
    return stall


async def test_a_stall_ends_at_the_deadline_and_nothing_is_sent_after_it(secret: Path) -> None:
    release = asyncio.Event()
    async with fake_bmc(good()) as bmc:
        bmc.answers[f"GET {SYSTEM}"] = stalling(release)
        async with asyncio.timeout(30):
            error = await told(rack(bmc.url, secret), deadline=1.0)
        assert isinstance(error, Transient)
        release.set()
        await threads_end()
    assert bmc.resets() == [], "the answer came after the deadline"


async def test_a_bmc_that_trickles_holds_up_nobody(secret: Path) -> None:
    stop = asyncio.Event()

    async def trickle(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(10_000):
            writer.write(f"X-{number}: y\r\n".encode()[:1] if number else b"X")
            await writer.drain()
            try:
                async with asyncio.timeout(0.05):
                    await stop.wait()
                    return
            except TimeoutError:
                pass

    async with fake_bmc(good()) as bmc:
        bmc.answers[f"GET {SYSTEM}"] = trickle
        machine = rack(bmc.url, secret)
        assert isinstance(await told(machine, deadline=0.5), Transient)
        assert "has not come back" in str(await told(machine)), "one thread a BMC, so they cannot pile up"
        stop.set()
        await threads_end()
        bmc.answers.update(good())
        await power.cycle(machine, False, 10.0)
    assert bmc.resets() == ["ForceRestart"]


async def threads_end() -> None:
    """Until no thread speaks to a BMC any more."""
    async with asyncio.timeout(60):
        while any(thread.name.startswith("bmc-") for thread in threading.enumerate()):
            await asyncio.sleep(0.02)
    await asyncio.sleep(0)


async def test_the_password_is_in_no_log(secret: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with fake_bmc(good()) as bmc:
        await power.cycle(rack(bmc.url, secret), True, 10.0)
        bmc.answers[f"GET {SYSTEM}"] = status(401)
        await told(rack(bmc.url, secret))
    login = base64.b64encode(f"admin:{SECRET}".encode()).decode()
    assert SECRET not in caplog.text
    assert login not in caplog.text


def test_the_module_can_be_imported_without_sushy() -> None:
    assert "import sushy" not in Path(power.__file__).read_text().split("async def cycle")[0]


__all__ = ["FakeBmc"]
