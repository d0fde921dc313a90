"""The fleet file: read, validated as a whole, and turned into the frozen `Desired`. The only place that knows pydantic.

`load(path)` -> Desired, or `SettingsInvalid` with every problem. `override(pool, {...})` -> the pool as one plan wants it.
"""

from fleet.settings.load import load
from fleet.settings.overrides import override
from fleet.settings.problems import Problem, SettingsInvalid

__all__ = ["Problem", "SettingsInvalid", "load", "override"]
