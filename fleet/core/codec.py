"""Core values as JSON for the journal, and back. A value that cannot be read back is a KeyError or TypeError of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fleet.core.desired import Amount, RolloutSettings
from fleet.core.observed import ImageRef
from fleet.core.state import Run, Target


def image_out(image: ImageRef | None) -> dict[str, str] | None:
    """{"family", "version", "digest"} or None."""
    return None if image is None else {"family": image.family, "version": image.version, "digest": image.digest}


def image_in(data: Mapping[str, Any] | None) -> ImageRef | None:
    """The reverse of image_out."""
    return None if data is None else ImageRef(data["family"], data["version"], data["digest"])


def target_out(target: Target | None) -> dict[str, Any] | None:
    """{"kind", "number", "image"} or None."""
    return None if target is None else {"kind": target.kind, "number": target.number, "image": image_out(target.image)}


def target_in(data: Mapping[str, Any] | None) -> Target | None:
    """The reverse of target_out."""
    if data is None:
        return None
    image = image_in(data["image"])
    assert image is not None
    return Target(data["kind"], data["number"], image)


def run_out(run: Run) -> dict[str, Any]:
    """A run as a plan pins it: nothing of its progress."""
    return {"server": run.server, "action": run.action, "path": run.planned, "place": run.place, "canary": run.canary,
            "source": run.source, "target": target_out(run.target), "home": image_out(run.home), "reason": run.reason}


def run_in(data: Mapping[str, Any], index: int) -> Run:
    """The reverse of run_out; servers that are skipped or held are settled from the start."""
    action = data["action"]
    step = "waiting" if action in ("replace", "birth") else "skipped"
    return Run(server=data["server"], action=action, planned=data["path"], path=data["path"], place=data["place"],
               canary=data["canary"], index=index, source=data["source"], target=target_in(data["target"]),
               home=image_in(data["home"]), reason=data["reason"], step=step)


def settings_out(settings: RolloutSettings) -> dict[str, Any]:
    """Every field; amounts as written ("25%", "1")."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return {name: str(value) if isinstance(value, Amount) else value for name, value in values.items()}


def settings_in(data: Mapping[str, Any]) -> RolloutSettings:
    """The reverse of settings_out; fields a newer journal may carry are left out, missing ones keep their default."""
    known = {field.name for field in fields(RolloutSettings)}
    values = {name: value for name, value in data.items() if name in known}
    if "checkpoints" in values:
        values["checkpoints"] = tuple(values["checkpoints"])
    for name in ("max_unavailable", "max_surge", "canaries"):
        if name in values:
            text = str(values[name])
            values[name] = Amount(int(text.rstrip("%")), text.endswith("%"))
    return RolloutSettings(**values)
