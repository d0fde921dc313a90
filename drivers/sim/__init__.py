"""Servers that exist only in a seeded world, behind the same port as real ones: for `anew demo`, tests and
benches.
"""

from drivers.sim.driver import SimDriver, make
from drivers.sim.faults import Faults
from drivers.sim.life import Life
from drivers.sim.probe import make_probe
from drivers.sim.world import World

__all__ = ["Faults", "Life", "SimDriver", "World", "make", "make_probe"]
