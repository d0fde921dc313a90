"""Of a console's end, the one line that is put into the sentence."""

from __future__ import annotations

import pytest

from drivers.baremetal.console import telling_line

NEXT_BOOT = "\x1b[H\x1b[J\x1b[1;1Hanew: slot A, order B A, environment first"


@pytest.mark.parametrize(("text", "line"), [
    ("", ""),
    ("one\ntwo", "two"),
    (f"up\n[ 9.1] Kernel panic - not syncing: Attempted to kill init!\n[ 9.2] CPU: 0\n{NEXT_BOOT}", "[ 9.1] Kernel panic - not syncing: Attempted to kill init!"),
    (f"anew: hangs\n[ 97.0] softdog: Initiating system reboot\n[ 105.4] sysrq: Emergency Sync\n{NEXT_BOOT}", "[ 97.0] softdog: Initiating system reboot"),
])
def test_the_line_that_tells_most(text: str, line: str) -> None:
    assert telling_line(text) == line
