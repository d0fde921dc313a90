"""The systemd unit says only what the command line knows, and what systemd accepts."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.api.client import SYSTEM_SOCKET
from fleet.api.places import SYSTEM_FLEET
from fleet.cli.tree import build
from tests.house.tree import ROOT

UNIT = ROOT / "config/anew.service"


def unit() -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, strict=False)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read(UNIT)
    return found


def test_the_unit_starts_a_command_that_exists() -> None:
    program, *arguments = unit()["Service"]["ExecStart"].split()
    assert program.endswith("/anew")
    options = build().parse_args(arguments)
    assert options.run == "daemon:run"
    assert (options.fleet, options.socket) == (SYSTEM_FLEET, SYSTEM_SOCKET)


def test_folders_of_the_unit_are_those_of_the_command() -> None:
    service = unit()["Service"]
    options = build().parse_args(service["ExecStart"].split()[1:])
    assert options.state == f"/var/lib/{service['StateDirectory']}"
    assert service["StateDirectoryMode"] == "0700", "the journal refuses a folder that others may enter"
    assert options.socket.startswith(f"/run/{service['RuntimeDirectory']}/")
    assert options.group == service["Group"]


def test_the_unit_does_not_restart_what_waits_for_a_person() -> None:
    assert unit()["Service"]["RestartPreventExitStatus"].split() == ["2", "5"]


def test_the_user_of_the_unit_is_made() -> None:
    service = unit()["Service"]
    made = (ROOT / "config/anew.sysusers").read_text()
    assert re.search(rf"^u {service['User']} ", made, re.MULTILINE)
    assert re.search(rf"^m {service['User']} {service['SupplementaryGroups']}$", made, re.MULTILINE)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """systemd wants the program to exist, so this checkout's own stands in for the installed one."""
    ours = tmp_path / "anew.service"
    program = str(Path(sys.executable).with_name("anew"))
    ours.write_text(UNIT.read_text().replace("/usr/local/bin/anew", program))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(ours)], capture_output=True, text=True, timeout=60, check=False)
    about_us = [line for line in (done.stdout + done.stderr).splitlines() if "anew.service" in line]
    assert not about_us, about_us
