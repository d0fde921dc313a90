"""What is committed names no machine of ours, no package index, and no host it has no business with."""

from __future__ import annotations

import re

from tests.house.tree import ROOT, all_files, name_of, text_of

HOST = re.compile(r"https?://([A-Za-z0-9][A-Za-z0-9.-]*\.[A-Za-z]{2,})")
KNOWN_HOSTS = {
    "json-schema.org": "the name of the schema's dialect",
    "www.apache.org": "the licence",
    "libvirt.org": "the name of libvirt's XML namespaces",
    "docs.pytest.org": "printed by pytest itself",
    "bford.info": "printed by a generator of test data",
    "127.0.0.1": "loopback",
    "www.w3.org": "the name of SVG's namespace, in pictures of the terminal",
}
ELSEWHERE = re.compile(r"(?<![\w.}/$])/(?:" + "|".join(("wo" + "rk", "op" + "t")) + r")/")


def test_the_lock_names_no_index_and_pins_every_byte() -> None:
    lock = text_of(ROOT / "requirements.lock")
    assert "://" not in lock
    assert not re.search(r"^\s*(-i|-f|--(index-url|extra-index-url|find-links|trusted-host))\b", lock, re.MULTILINE)
    pins = re.findall(r"^([A-Za-z0-9][\w.-]*)==\S+", lock, re.MULTILINE)
    assert len(pins) > 20
    for block in re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, f"{block.split()[0]} has no hash"


def test_the_lock_pins_all_that_the_project_asks_for() -> None:
    lock = {name.lower().replace("_", "-") for name in re.findall(r"^([A-Za-z0-9][\w.-]*)==", text_of(ROOT / "requirements.lock"), re.MULTILINE)}
    project = text_of(ROOT / "pyproject.toml")
    asked = re.findall(r'^  "([A-Za-z0-9_-]+)[><=]', project, re.MULTILINE)
    assert asked
    assert not {name.lower() for name in asked} - lock


def test_no_unknown_host_is_named() -> None:
    """Packages come from whatever the machine is configured for; a host in the tree would be a decision made for its owner."""
    found = {f"{name_of(path)}: {host}" for path in all_files() for host in HOST.findall(text_of(path)) if host not in KNOWN_HOSTS and path.suffix != ".svg"}
    found = {line for line in found if not line.endswith((".example", ".invalid", ".test", "example.com", "example.org", "example.net"))}
    assert not found


def test_no_path_of_the_machine_it_was_written_on() -> None:
    found = [f"{name_of(path)}:{number}" for path in all_files() for number, line in enumerate(text_of(path).splitlines(), 1)
             if ELSEWHERE.search(line)]
    assert not found


def test_no_secret_is_committed() -> None:
    """A private key in the tree would be everybody's key."""
    key = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}")
    assert not [name_of(path) for path in all_files() if key.search(text_of(path))]
