"""Changes to a fleet file's text: every other byte stays, in every way that TOML has to write a table."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.errors import Invalid, Refused
from fleet.settings import SettingsInvalid, rewrite
from fleet.settings.edit import check_machine, with_machine, with_pin

PIN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMOlqwZllFOfg32DSm2Vad3wyMnwiJIB8S4uT7+oWkeY"
LINE = f'host_key = "{PIN}"'

FORMS: list[tuple[str, str, str]] = [
    # how the table is written, before, after (PIN stands for the line)
    ("a table", '[machines.rack1]\naddress = "a" # the first\nport = 22\n[machines.rack2]\naddress = "b"\n',
     '[machines.rack1]\naddress = "a" # the first\nLINE\nport = 22\n[machines.rack2]\naddress = "b"\n'),
    ("an indented table", '[machines.rack1]\n\taddress = "a"\n', '[machines.rack1]\n\taddress = "a"\n\tLINE\n'),
    ("no last line end", '[machines.rack1]\naddress = "a"', '[machines.rack1]\naddress = "a"\nLINE\n'),
    ("line ends of another system", '[machines.rack1]\r\naddress = "a"\r\n', '[machines.rack1]\r\naddress = "a"\r\nLINE\r\n'),
    ("dotted keys", 'machines.rack1.address = "a"\nmachines.rack2.address = "b"\n',
     'machines.rack1.address = "a"\nmachines.rack1.LINE\nmachines.rack2.address = "b"\n'),
    ("dotted keys in a table", '[machines]\n"rack1"."address" = "a"\n', '[machines]\n"rack1"."address" = "a"\n"rack1".LINE\n'),
    ("braces", '[machines]\nrack1 = { address = "a", port = 22 } # } \n', '[machines]\nrack1 = { address = "a", LINE, port = 22 } # } \n'),
    ("an old key", "[machines.rack1]\naddress = 'a'\nhost_key='x' # of May\n", f"[machines.rack1]\naddress = 'a'\nhost_key=\"{PIN}\" # of May\n"),
    ("an old key in braces", 'machines = { rack1 = { host_key = "x", address = "a" } }', f'machines = {{ rack1 = {{ host_key = "{PIN}", address = "a" }} }}'),
    ("words that look like it", '[x]\ny = """\n[machines.rack1]\naddress = "a"\n"""\n[machines.rack1]\naddress = "a"\n',
     '[x]\ny = """\n[machines.rack1]\naddress = "a"\n"""\n[machines.rack1]\naddress = "a"\nLINE\n'),
]


@pytest.mark.parametrize(("before", "after"), [form[1:] for form in FORMS], ids=[form[0] for form in FORMS])
def test_a_pin_changes_one_line_of_one_table(before: str, after: str) -> None:
    assert with_pin(before, "rack1", PIN) == after.replace("LINE", LINE)


@pytest.mark.parametrize("before", ["", "# nothing\n", "a = 1", "[machines.rack2]\naddress = 'b'\n\n\n", "[a]\r\nb = 1\r\n"])
def test_a_machine_is_written_at_the_end(before: str) -> None:
    after = with_machine(before, "rack1", {"address": "rack1.example.org", "port": 2222, "host_key": PIN})
    assert after.startswith(before)
    found = tomllib.loads(after)
    assert found["machines"]["rack1"] == {"address": "rack1.example.org", "port": 2222, "host_key": PIN}
    assert after.count("\r\n") == (after.count("\n") if "\r" in before else 0)


def test_what_cannot_be_changed_is_refused_with_the_lines_to_write() -> None:
    with pytest.raises(Refused, match=r"write this yourself, then `anew reload`:\n\[machines.rack1\]\naddress = \"a\"$"):
        with_machine("machines = {}\n", "rack1", {"address": "a"})
    with pytest.raises(Refused, match="there is a machine rack1 in this file already"):
        with_machine('[machines.rack1]\naddress = "a"\n', "rack1", {"address": "b"})
    with pytest.raises(Refused, match="there is no machine rack2"):
        with_pin('[machines.rack1]\naddress = "a"\n', "rack2", PIN)
    with pytest.raises(Refused, match="write this yourself"):
        with_pin("[machines.rack1]\nport = 1\n", "rack1", PIN)
    with pytest.raises(Invalid, match="this is not TOML"):
        with_pin("[machines.rack1\n", "rack1", PIN)


@pytest.mark.parametrize(("name", "values", "words"), [
    ("Rack", {"address": "a"}, "allowed a name of a-z"), ("r", {"address": "-oProxyCommand=x"}, "address: found"),
    ("r", {"address": "a", "port": 0}, "port: found 0"), ("r", {"address": "a", "disk": "/dev/sda"}, "disk: found"),
    ("r", {"address": "a\x1b[2J"}, r"address: found \"a\\u001b\[2J\""), ("r", {"address": "a", "user": "Root"}, "user: found"),
])
def test_values_are_judged_before_anything_is_done_with_them(name: str, values: dict[str, str | int], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        check_machine(name, values)


@given(st.text(st.sampled_from('[]{}"\'=#.,\n\r\t abmachinesrk1_-'), max_size=60))
def test_any_text_is_changed_rightly_or_refused(noise: str) -> None:
    for text in (noise, f'[machines.rack1]\naddress = "a"\n{noise}', f'{noise}\n[machines.rack1]\naddress = "a"'):
        try:
            after = with_pin(text, "rack1", PIN)
        except Refused:
            continue
        want = tomllib.loads(text)
        want["machines"]["rack1"]["host_key"] = PIN
        assert tomllib.loads(after) == want


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


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.toml"
    path.write_text(SMALL)
    return path


def test_owner_and_mode_stay_and_nothing_is_left_aside(file: Path) -> None:
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 65534, 65534)
    before = file.stat()
    assert rewrite.rewrite(str(file), lambda text: text + "# more\n") == ()
    after = file.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert file.read_text() == SMALL + "# more\n" and os.listdir(file.parent) == ["fleet.toml"]


def test_what_makes_the_file_worse_is_not_written(file: Path) -> None:
    with pytest.raises(SettingsInvalid, match="fleet.toml:9: pool: found an unknown table"):
        rewrite.rewrite(str(file), lambda text: text + "[pool]\n")
    assert file.read_text() == SMALL and os.listdir(file.parent) == ["fleet.toml"]


def test_what_was_wrong_before_may_stay_and_is_told(file: Path) -> None:
    file.write_text(SMALL + '[pools.web]\ndriver = "baremetal"\nmachines = ["rack1", "rack2"]\nimage = "real"\n[images.real]\npath = "x"\n'
                    "[[pools.web.health]]\ntcp = { port = 22 }\n")
    left = rewrite.rewrite(str(file), lambda text: with_machine(text, "rack1", {"address": "a"}))
    assert [problem.key for problem in left] == ["pools.web.machines[1]"] and left[0].file == str(file)
    assert rewrite.rewrite(str(file), lambda text: with_machine(text, "rack2", {"address": "b"})) == ()


def test_links_and_changes_meanwhile_are_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = file.parent / "link.toml"
    link.symlink_to(file)
    with pytest.raises(Refused, match=f"replacing it would cut it off from {file}"):
        rewrite.rewrite(str(link), str.upper)
    link.unlink()
    os.link(file, link)
    with pytest.raises(Refused, match="a hard link"):
        rewrite.rewrite(str(file), str.upper)
    link.unlink()
    with pytest.raises(Refused, match="this is no file"):
        rewrite.rewrite(str(file.parent), str.upper)

    def changed(text: str) -> str:
        file.write_text(SMALL + "# by somebody else\n")
        return text + "# by us\n"

    with pytest.raises(Refused, match="somebody changed this file meanwhile"):
        rewrite.rewrite(str(file), changed)
    assert file.read_text() == SMALL + "# by somebody else\n" and os.listdir(file.parent) == ["fleet.toml"]

    def replaced(text: str) -> str:
        (file.parent / "other").write_text(text)
        os.rename(file.parent / "other", file)
        return text + "# by us\n"

    with pytest.raises(Refused, match="somebody changed this file meanwhile"):
        rewrite.rewrite(str(file), replaced)

    def again(text: str) -> str:
        with pytest.raises(Refused, match="another command is changing this file"):
            rewrite.rewrite(str(file), str.upper)
        return text + "# by us\n"

    rewrite.rewrite(str(file), again)
    assert file.read_text().endswith("# by us\n")
