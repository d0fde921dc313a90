"""The readers of RAUC, systemd-boot and bootc, on recorded answers of the real tools and on anything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.baremetal.backends import READERS, Reading, read

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> bytes:
    return (RECORDED / name).read_bytes()


@pytest.mark.parametrize(("name", "wanted"), [
    ("steady", Reading("A", "booted", True, False)),
    ("kept", Reading("A", "booted", True, True)),
    ("trial", Reading("B", "idle", False, True)),
    ("empty", Reading("A", "unknown", False, False)),
    ("missing", Reading("A", "unknown", False, False)),
    ("just-started", Reading("A", "booted", True, False)),
])
def test_rauc(name: str, wanted: Reading) -> None:
    """On trial the booted slot is "bad" and the other is next; without a boot environment nothing is next."""
    assert read("rauc", recorded(f"rauc-{name}.json")) == wanted


@pytest.mark.parametrize(("raw", "says"), [
    (b"", "no JSON"),
    (b"Error: could not connect: service not running\n", "no JSON"),
    (b"[]", "no JSON"),
    (b"{}", "0 bootable slots"),
    (b'{"slots": {"a": 1}}', "0 bootable slots"),
    (b'{"slots": [[1], {"rootfs.0": null}, {"x": {"bootname": "A", "state": "booted"}}]}', "1 bootable slots"),
    (b'{"slots": [{"a": {"bootname": "A", "state": "booted"}}, {"b": {"bootname": "B", "state": "booted"}}]}', "2 of them booted"),
    (b'{"slots": [{"a": {"bootname": "A"}}, {"b": {"bootname": "B"}}, {"c": {"bootname": "C"}}]}', "0 of them booted"),
])
def test_rauc_that_cannot_be_rolled_says_why(raw: bytes, says: str) -> None:
    reading = read("rauc", raw)
    assert says in reading.problem and (reading.next, reading.booted_good) == ("unknown", None)


@pytest.mark.parametrize(("text", "wanted"), [
    ("anew-A.conf\nselected anew-A\ndefault anew-A", Reading("A", "booted", True, None)),
    ("anew-A.conf\nanew-B+1.conf\nselected anew-A\ndefault anew-B", Reading("A", "idle", True, False)),
    ("anew-A.conf\nanew-B+1.conf\nselected anew-A\ndefault anew-A", Reading("A", "booted", True, False)),
    ("anew-A.conf\nanew-B+0-1.conf\nselected anew-B\ndefault anew-B", Reading("B", "idle", False, True)),
    ("anew-A.conf\nanew-B+0-1.conf\nselected anew-A\ndefault anew-B", Reading("A", "booted", True, False)),
    ("anew-A.conf\nanew-B.conf\nselected anew-B\ndefault anew-B.conf", Reading("B", "booted", True, True)),
    ("anew-A.conf\nanew-B.conf\nselected anew-B", Reading("B", "unknown", True, True)),
])
def test_systemd_boot(text: str, wanted: Reading) -> None:
    """A counted entry has no blessing; one without tries left gives way to the other."""
    assert read("sdboot", text.encode()) == wanted


@pytest.mark.parametrize(("text", "says"), [
    ("", "no entries"),
    ("debian-6.1.conf\nwindows.conf\nselected debian-6.1.conf", "no entries"),
    ("anew-A.conf\nanew-B.conf\ndefault anew-A", "does not say which"),
])
def test_systemd_boot_that_cannot_be_rolled_says_why(text: str, says: str) -> None:
    assert says in read("sdboot", text.encode()).problem


@pytest.mark.parametrize(("name", "wanted"), [
    ("steady", Reading("", "booted", True, True)),
    ("switched", Reading("", "idle", True, True)),
    ("rolled-back", Reading("", "idle", True, True)),
])
def test_bootc(name: str, wanted: Reading) -> None:
    """From recorded answers; a staged deployment or a queued rollback is what boots next."""
    assert read("bootc", recorded(f"bootc-{name}.json")) == wanted


@pytest.mark.parametrize("name", ["no-booted", "not-bootc"])
def test_bootc_that_did_not_boot_the_host_says_so(name: str) -> None:
    assert "did not boot it" in read("bootc", recorded(f"bootc-{name}.json")).problem


def test_a_host_without_a_way_to_boot_two_images_says_so() -> None:
    for backend in ("none", "", "grub2", "../rauc"):
        assert "no way to boot two images" in read(backend, b"{}").problem


@given(backend=st.sampled_from(sorted(READERS)), raw=st.binary(max_size=4000))
def test_no_bytes_make_a_reader_raise(backend: str, raw: bytes) -> None:
    assert len(read(backend, raw).problem) < 400


@pytest.mark.parametrize("raw", [b"[" * 200_000, b'{"a":' * 100_000, b'{"slots": ' + b"9" * 200_000 + b"}", b"\xff" * 262_144])
@pytest.mark.parametrize("backend", sorted(READERS))
def test_deep_and_endless_json_is_a_problem_and_nothing_worse(backend: str, raw: bytes) -> None:
    assert read(backend, raw).problem


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
                        ["slots", "bootname", "state", "boot_status", "boot_primary", "status", "booted", "staged", "rollback", "kind", "x"]), inner, max_size=5),
                    max_leaves=30)


@given(backend=st.sampled_from(["rauc", "bootc"]), value=JSON)
def test_no_json_makes_a_reader_raise(backend: str, value: object) -> None:
    import json

    assert isinstance(read(backend, json.dumps(value).encode()), Reading)
