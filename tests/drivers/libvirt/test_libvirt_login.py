"""How a person logs in to a guest: by the address it was seen at and the host key that anew gave it; where neither is known, a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.identity import IdentityStore
from drivers.libvirt.driver import LibvirtDriver
from fleet.core.errors import Refused
from fleet.core.observed import Seen
from tests.drivers.libvirt_world import surroundings, user_pool


def seen(number: int = 2, address: str = "127.0.0.1:2201") -> Seen:
    return Seen("web-1", number, "sha256:0", "1", "running", 1.0, "hv1", address)


def test_the_pinned_key_is_the_servers_own_whatever_incarnation_runs(tmp_path: Path) -> None:
    pool = user_pool(2201)
    driver = LibvirtDriver(surroundings("lab", pool, tmp_path, "test:///default"))
    way = driver.way_in(pool, "web-1", seen())
    store = IdentityStore(str(tmp_path / "identities"))
    assert (way.host, way.port, way.user, way.pins) == ("127.0.0.1", 2201, pool.ssh_user, (store.host_public("web-1"),))
    assert (way.key, way.sole, way.jump) == (store.client_private_path(), True, None)
    assert driver.way_in(pool, "web-1", seen(3, "[::1]:22")).pins == way.pins
    assert driver.way_in(pool, "web-2", seen()).pins != way.pins


@pytest.mark.parametrize(("found", "says"), [
    (None, "no incarnation in service"), (seen(0), "no host key of it is pinned; roll out an image"), (seen(address=""), "its address is not known yet"),
    (seen(address="-oProxyCommand=x"), "is no host:port"),
])
def test_without_what_proves_it_nobody_is_told_a_way(tmp_path: Path, found: Seen | None, says: str) -> None:
    pool = user_pool(2201)
    driver = LibvirtDriver(surroundings("lab", pool, tmp_path, "test:///default"))
    with pytest.raises(Refused, match=says):
        driver.way_in(pool, "web-1", found)
