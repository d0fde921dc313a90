"""The parts of the libvirt driver that need no hypervisor: what it writes, what it reads, and how it waits."""

from __future__ import annotations

import base64
import io
import json
import struct
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pycdlib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.identity import IdentityStore
from drivers.libvirt import domain_xml, facts, names, observing, place, ports, qcow2, seed
from drivers.libvirt import tag as tags
from drivers.libvirt.acceleration import proof_xml
from fleet.core.desired import Network
from fleet.core.errors import Invalid, Permanent, Transient
from tests.drivers.libvirt_world import small_image, user_pool

TAG = tags.Tag(
    fleet="lab",
    pool="web",
    server="web-1",
    number=2,
    uuid=names.incarnation_uuid("lab", "web-1", 2),
    digest="sha256:" + "a" * 64,
    version="2",
    born_at=1795303046.2746267,
    mark="live",
    operation="op-1",
    rollout="r-1",
    epoch=3,
    root="read-only",
    place="hv1",
    address="127.0.0.1:2201",
    guest_port=22,
    files=("anew-image-web-1", "anew-image-web-2"),
    seed="fwcfg",
)
PLAN = domain_xml.Blueprint(
    tag=TAG,
    name="web-1.2",
    title="anew",
    kind="qemu",
    memory=256 * 2**20,
    vcpus=2,
    root=domain_xml.Root("/pool/root", "raw"),
    kernel=domain_xml.Kernel("/pool/vmlinuz", "/pool/initrd", "console=ttyS0 quiet a=<b&c>"),
    data=(("state", "/pool/state.web-1"), ("logs", "/pool/logs.web-1")),
    network=Network("user", first_port=2201),
    mac="52:54:00:00:00:01",
    port=2203,
    console="/pool/console",
    seed=("fwcfg", "/pool/anew-seed-web-1.2.fwcfg"),
)


# -- the domain --------------------------------------------------------------------------------------------


def test_a_tag_comes_back_as_it_was() -> None:
    domain = ET.fromstring(domain_xml.build(PLAN))
    assert tags.read(domain) == TAG


@given(st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"), min_size=1, max_size=40))
def test_any_words_survive_the_xml(words: str) -> None:
    tag = replace(TAG, version=words, rollout=words)
    again = tags.read(ET.fromstring(domain_xml.build(replace(PLAN, tag=tag, title=words))))
    assert again is not None
    assert again.version == words


@pytest.mark.parametrize(
    ("field", "value"), [("mark", "x"), ("number", "-1"), ("number", "1e3"), ("born-at", "nan"), ("born-at", "x"), ("digest", "")]
)
def test_a_spoiled_tag_is_named_not_guessed(field: str, value: str) -> None:
    domain = ET.fromstring(domain_xml.build(PLAN))
    element = domain.find(f"metadata/{tags.ELEMENT}")
    assert element is not None
    element.set(field, value)
    with pytest.raises(ValueError, match=field):
        tags.read(domain)


def test_the_shared_root_cannot_be_written_and_every_format_is_told() -> None:
    disks = ET.fromstring(domain_xml.build(PLAN)).findall("devices/disk")
    root, state, logs = disks
    assert root.find("readonly") is not None and root.find("shareable") is not None
    assert state.find("readonly") is None and state.find("shareable") is None
    assert [disk.findtext("serial") for disk in disks] == [None, "state", "logs"]
    assert [target.get("dev") for disk in disks for target in disk.findall("target")] == ["vda", "vdb", "vdc"]
    assert {driver.get("type") for disk in disks for driver in disk.findall("driver")} == {"raw"}


def test_an_overlay_tells_its_whole_chain() -> None:
    root = domain_xml.Root("/pool/overlay", "qcow2", ("/pool/base", "raw"))
    disk = ET.fromstring(domain_xml.build(replace(PLAN, root=root, data=()))).find("devices/disk")
    assert disk is not None
    backing = disk.find("backingStore")
    assert backing is not None
    assert [element.tag for element in backing] == ["format", "source", "backingStore"], "an empty end: nothing is probed"
    assert domain_xml.disk_files(ET.fromstring(domain_xml.build(replace(PLAN, root=root)))) >= {"/pool/overlay", "/pool/base"}


def test_only_what_is_attached_for_writing_counts_as_held() -> None:
    domain = ET.fromstring(domain_xml.build(PLAN))
    assert domain_xml.disk_files(domain, writable=True) == {"/pool/state.web-1", "/pool/logs.web-1"}
    assert domain_xml.disk_files(domain) >= {"/pool/root", "/pool/vmlinuz", "/pool/initrd"}


@pytest.mark.parametrize("kind", ["fwcfg", "iso"])
def test_a_seed_goes_in_and_out_and_leaves_no_trace(kind: seed.SeedKind) -> None:
    plain = domain_xml.build(replace(PLAN, seed=None))
    domain = ET.fromstring(plain)
    for path in ("/pool/anew-seed-a", "/pool/anew-seed-b"):
        domain_xml.set_seed(domain, kind, path)
    text = ET.tostring(domain, encoding="unicode")
    assert "anew-seed-b" in text and "anew-seed-a" not in text
    domain_xml.drop_seed(domain)
    assert ET.tostring(domain, encoding="unicode") == plain


def test_a_port_moves_alone() -> None:
    domain = ET.fromstring(domain_xml.build(PLAN))
    assert domain_xml.forwards(domain) == (("127.0.0.1", 2203),)
    domain_xml.set_port(domain, 2203, 2207)
    assert domain_xml.forwards(domain) == (("127.0.0.1", 2207),)
    assert "-:22" in ET.tostring(domain, encoding="unicode")


def test_the_kvm_proof_writes_nothing_and_speaks() -> None:
    root = domain_xml.Root("/pool/overlay", "qcow2", ("/pool/base", "raw"))
    domain = ET.fromstring(proof_xml(replace(PLAN, root=root, data=(), seed=None, network=Network("none"))))
    assert domain.find("metadata") is None and domain.find("uuid") is None
    (disk,) = domain.findall("devices/disk")
    assert disk.find("readonly") is not None and domain_xml.disk_files(domain, writable=True) == frozenset()
    words = (domain.findtext("os/cmdline") or "").split()
    assert "quiet" not in words and "console=ttyS0" in words


# -- names and ports ---------------------------------------------------------------------------------------


def test_who_one_is_follows_from_fleet_server_and_number() -> None:
    assert names.incarnation_uuid("lab", "web-1", 1) == names.incarnation_uuid("lab", "web-1", 1)
    assert len({names.incarnation_uuid(f, s, n) for f in "ab" for s in ("x-1", "x-2") for n in (1, 2, 11)}) == 12
    macs = [names.mac("lab", "web-1", n) for n in (1, 2, 3)]
    assert macs[0] == macs[2] != macs[1]


@pytest.mark.parametrize("name", ["../x", "A", "", "a/b", "a\n", "x" * 64, "a b", "a.b"])
def test_no_name_leads_out_of_the_storage(name: str) -> None:
    with pytest.raises(Invalid):
        names.data(name, "web-1")
    with pytest.raises(Invalid):
        names.image_file(name, "0" * 64)
    with pytest.raises(Invalid):
        names.storage_pool(name)


def test_a_server_prefers_its_own_ports() -> None:
    pool = user_pool(2201, servers=3)
    assert ports.choose(pool, "web-2", frozenset()) == 2202
    assert ports.choose(pool, "web-2", {2202}) == 2205
    assert ports.choose(pool, "web-2", {2202, 2205}) == 2201
    assert ports.choose(pool, "web-9", {2201}) == 2202
    with pytest.raises(Transient):
        ports.choose(pool, "web-1", set(range(2201, 2207)))


@pytest.mark.parametrize(
    ("uri", "local"),
    [
        ("qemu:///system", True),
        ("qemu:///session", True),
        ("qemu+unix:///system?socket=/run/x", True),
        ("qemu+ssh://root@kvm1/system", False),
        ("qemu+ssh:///system", False),
        ("qemu://kvm1/system", False),
        ("qemu+tls://kvm1/system", False),
    ],
)
def test_which_hypervisor_is_this_machine(uri: str, local: bool) -> None:
    assert place.is_local(uri) is local


def test_ssh_never_asks_a_daemons_terminal() -> None:
    assert place.quiet_ssh("qemu+ssh://root@kvm1/system?keyfile=/k") == "qemu+ssh://root@kvm1/system?keyfile=%2Fk&no_tty=1"
    assert place.quiet_ssh("qemu:///system") == "qemu:///system"


# -- the seed ----------------------------------------------------------------------------------------------


def test_cloud_init_finds_its_files(tmp_path: Path) -> None:
    store = IdentityStore(str(tmp_path / "keys"))
    nasty = 'ssh-rsa AAAA "quoted": {yaml} # & \\ me'
    made = seed.make(store, "iso", "web-1", 2, (nasty,), "52:54:00:00:00:01")
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(made.content))
    assert iso.pvd.volume_identifier.strip() == b"cidata"

    def read(name: str) -> str:
        for where in ("joliet_path", "rr_path"):
            out = io.BytesIO()
            iso.get_file_from_iso_fp(out, **{where: f"/{name}"})
        return out.getvalue().decode()

    head, _, body = read("user-data").partition("\n")
    data: dict[str, Any] = json.loads(body)
    assert head == "#cloud-config"
    assert data["ssh_authorized_keys"] == [store.client_public(), nasty]
    assert data["ssh_keys"]["ed25519_private"] == store.host_private("web-1")
    assert json.loads(read("meta-data")) == {"instance-id": "web-1.2", "local-hostname": "web-1"}
    (interface,) = json.loads(read("network-config"))["ethernets"].values()
    assert interface["match"] == {"macaddress": "52:54:00:00:00:01"} and interface["dhcp4"] is True
    iso.close()


def test_a_seed_does_not_show_its_key(tmp_path: Path) -> None:
    made = seed.make(IdentityStore(str(tmp_path)), "fwcfg", "web-1", 1, (), "")
    assert repr(made) == "Seed(anew-seed-web-1.1.fwcfg)"


def test_who_gets_which_seed(tmp_path: Path) -> None:
    direct = small_image(tmp_path)
    assert seed.kind_for(direct) == "fwcfg"
    assert seed.kind_for(replace(direct, kind="raw")) == "iso"
    assert seed.kind_for(replace(direct, boot=None)) == "iso"


# -- facts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mounts", "mode"),
    [
        ("/dev/root / squashfs ro,relatime 0 0\n", "read-only"),
        ("/dev/root / ext4 ro,relatime 0 0\n", "read-only"),
        ("overlay / overlay rw,lowerdir=/ro 0 0\n", "overlay"),
        ("/dev/vda / ext4 rw,errors=remount-ro 0 0\n", "writable"),
        ("rootfs / rootfs rw 0 0\n/dev/vda / squashfs ro 0 0\n", "read-only"),
        ("/dev/vda / squashfs ro 0 0\ntmpfs / tmpfs rw 0 0\n", "writable"),
        ("tmpfs /run tmpfs ro 0 0\n", "unknown"),
        ("", "unknown"),
        ("/ / /\n", "unknown"),
    ],
)
def test_how_the_root_is_mounted(mounts: str, mode: str) -> None:
    assert facts.root_mode(mounts) == mode


def agent(files: dict[str, str]) -> facts.Ask:
    """An agent that has these files and nothing else."""
    opened: list[str] = []

    def ask(command: str, arguments: dict[str, Any]) -> Any:
        if command == "guest-file-open":
            if arguments["path"] not in files:
                raise facts.AgentTrouble("no such file")
            opened.append(arguments["path"])
            return len(opened)
        if command == "guest-file-read":
            return {"buf-b64": base64.b64encode(files[opened[arguments["handle"] - 1]].encode()).decode(), "eof": True}
        return {}

    return ask


def test_facts_of_an_honest_agent() -> None:
    boot = "1e9de08b-46b0-46b6-a845-e17478fb0941"
    found = facts.gather(
        agent(
            {
                "/proc/mounts": "x / squashfs ro 0 0\n",
                "/etc/os-release": 'PRETTY_NAME="lab 2"\nIMAGE_VERSION=2\nVERSION_ID=9\n',
                "/proc/sys/kernel/random/boot_id": boot + "\n",
            }
        )
    )
    assert (found.root, found.version, found.os, found.boot_id, found.note) == ("read-only", "2", "lab 2", boot, "")


def test_a_lying_agent_puts_nothing_unprintable_or_long_anywhere() -> None:
    found = facts.gather(
        agent(
            {
                "/proc/mounts": "x / ext4 rw 0 0\n",
                "/etc/os-release": "PRETTY_NAME='\x1b]0;gotcha\x07" + "A" * 10_000 + "'\nIMAGE_VERSION=\u202e2\n",
                "/proc/sys/kernel/random/boot_id": "1; rm -rf /",
            }
        )
    )
    assert found.os.isprintable() and len(found.os) <= facts.LONGEST_WORD
    assert found.version.isprintable()
    assert found.boot_id == ""


@given(st.one_of(st.text(), st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)).map(json.dumps)))
def test_whatever_an_agent_replies_is_an_answer_or_trouble(reply: str) -> None:
    try:
        facts.gather(lambda command, arguments: facts.parse_reply(reply))
    except facts.AgentTrouble as err:
        assert str(err)


def test_endless_and_deep_replies_are_cut() -> None:
    for reply in ('{"return": "' + "x" * facts.LARGEST_REPLY + '"}', "[" * 50_000):
        with pytest.raises(facts.AgentTrouble):
            facts.parse_reply(reply)


@pytest.mark.parametrize(
    ("told", "address"),
    [
        ({"lo": {"addrs": [{"addr": "127.0.0.1"}]}, "eth0": {"addrs": [{"addr": "192.168.122.7"}]}}, "192.168.122.7"),
        ({"eth0": {"addrs": [{"addr": "fe80::1"}, {"addr": "10.0.0.9"}]}}, "10.0.0.9"),
        ({"eth0": {"addrs": None}, "eth1": None}, ""),
        ({"eth0": {"addrs": [{"addr": "evil.example; x"}, {"addr": "169.254.1.1"}, {}]}}, ""),
        (None, ""),
    ],
)
def test_the_address_is_an_address(told: object, address: str) -> None:
    assert observing.first_address(told) == address


# -- qcow2 -------------------------------------------------------------------------------------------------


def head(version: int = 3, backing: int = 0, crypt: int = 0, features: int = 0, magic: bytes = b"QFI\xfb") -> bytes:
    return struct.pack(">4sIQIIQI", magic, version, backing, 9, 16, 5 << 30, crypt) + bytes(36) + struct.pack(">Q", features)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (head(backing=100), "backing file"),
        (head(version=2, backing=100), "backing file"),
        (head(crypt=2), "encrypted"),
        (head(features=4), "external data file"),
        (head(version=4), "version 4"),
        (head(magic=b"ABCD"), "no qcow2 file"),
        (b"QFI\xfb", "no qcow2 file"),
        (b"", "no qcow2 file"),
    ],
)
def test_a_qcow2_file_that_points_elsewhere_is_refused(content: bytes, why: str, tmp_path: Path) -> None:
    file = tmp_path / "disk.qcow2"
    file.write_bytes(content)
    with pytest.raises(Permanent, match=why):
        qcow2.virtual_size(str(file))


@pytest.mark.parametrize("content", [head(), head(version=2)])
def test_a_qcow2_file_that_stands_alone_tells_its_size(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "disk.qcow2"
    file.write_bytes(content)
    assert qcow2.virtual_size(str(file)) == 5 << 30
