"""Drivers, probes and the UI by entry point, and the sentence when one is missing."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from fleet import registry
from fleet.core.errors import Permanent


def test_what_comes_with_anew_is_found() -> None:
    assert {"libvirt", "sim"} <= set(registry.names(registry.DRIVERS))
    assert {"tcp", "http", "ssh", "agent", "command"} <= set(registry.names(registry.PROBES))
    assert callable(registry.load_driver("sim"))
    assert callable(registry.load_probe("tcp"))


def test_an_unknown_driver_names_what_there_is() -> None:
    with pytest.raises(Permanent, match="there is no driver named 'vmware'; installed: .*sim"):
        registry.load_driver("vmware")


@pytest.mark.parametrize(("name", "says"), [("libvirt", "install libvirt's Python binding: apt install libvirt-dev"), ("other", "install anew again")])
def test_a_driver_that_cannot_be_imported_says_what_to_install(monkeypatch: pytest.MonkeyPatch, name: str, says: str) -> None:
    def found(**_: str) -> EntryPoints:
        return EntryPoints([EntryPoint(name, "no_such_module_here:make", registry.DRIVERS)])

    monkeypatch.setattr(registry, "entry_points", found)
    with pytest.raises(Permanent, match=says) as caught:
        registry.load_driver(name)
    assert "no_such_module_here" in caught.value.message
