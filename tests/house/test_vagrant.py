"""The Vagrantfile holds: vagrant and its libvirt plugin take it, for KVM and for emulation, and it names what there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.house.tree import ROOT, text_of

FOLDER = ROOT / "vagrant"


def vagrant(home: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """vagrant on our Vagrantfile, with a home and a cache of its own: nothing of the user's is read, nothing is left in the project."""
    assert shutil.which("vagrant"), "vagrant is not installed; run vagrant/provision/setup.sh"
    (home / "vagrant").mkdir()
    (home / "vagrant/login").touch()  # vagrant wants the key that box.sh makes
    around = {**os.environ, "ANEW_CACHE": str(home), "VAGRANT_HOME": str(home), "VAGRANT_DOTFILE_PATH": str(home / "dot"), "VAGRANT_CHECKPOINT_DISABLE": "1", **settings}
    return subprocess.run(["vagrant", *words], cwd=FOLDER, env=around, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("driver", ["kvm", "qemu"])
def test_vagrant_takes_the_vagrantfile(driver: str, tmp_path: Path) -> None:
    done = vagrant(tmp_path, "validate", ANEW_VAGRANT_DRIVER=driver)
    assert done.returncode == 0 and "validated successfully" in done.stdout, done.stdout + done.stderr


def test_another_driver_is_refused_with_a_sentence(tmp_path: Path) -> None:
    done = vagrant(tmp_path, "validate", ANEW_VAGRANT_DRIVER="vbox")
    assert done.returncode and 'ANEW_VAGRANT_DRIVER is "vbox"; it is kvm, or qemu' in done.stderr


def test_the_vagrantfile_names_files_that_are_there_and_the_box_that_is_made() -> None:
    text = text_of(FOLDER / "Vagrantfile")
    for path in re.findall(r'path: "([^"]+)"', text):
        assert (FOLDER / path).is_file(), f"the Vagrantfile provisions with {path}, which is not there"
    made = re.search(r"box=\$cache/vagrant/(\S+)", text_of(FOLDER / "box.sh"))
    assert made and f'"vagrant", "{made[1]}"' in text, "vagrant/box.sh makes another box than the Vagrantfile takes"
