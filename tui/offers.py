"""What could be rolled out: images of the catalogue, and the plan of a rollout that has not begun."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tui.fields import Raw, mapping, moment, number, rows, text, whole, words


@dataclass(frozen=True, slots=True)
class Image:
    family: str
    version: str
    digest: str
    kind: str
    built: float | None
    size: int
    packages: int | None
    source: str
    used_by: tuple[str, ...]
    rejected: tuple[tuple[str, str], ...]
    problem: str

    @property
    def key(self) -> str:
        return f"{self.family}/{self.version}"


def image(row: Raw) -> Image:
    packages = row.get("packages")
    return Image(
        family=text(row, "family"), version=text(row, "version"), digest=text(row, "digest"), kind=text(row, "kind"),
        built=moment(row.get("built_at")), size=whole(row, "size"),
        packages=packages if isinstance(packages, int) else None, source=text(row, "source"),
        used_by=words(row, "used_by"),
        rejected=tuple((text(item, "pool"), text(item, "reason")) for item in rows(row, "rejected")),
        problem=text(row, "problem"),
    )


@dataclass(frozen=True, slots=True)
class PlanRow:
    name: str
    action: str
    reason: str
    origin: str
    to: str
    order: str
    canary: bool
    data_kept: tuple[str, ...]
    rollback: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a start would do. `request` is what it was asked with: the start sends it back with the hash."""

    pool: str
    origin: str
    to: str
    digest: str
    hash: str
    generation: int
    kind: str
    budget: Mapping[str, int]
    servers: tuple[PlanRow, ...]
    blast_servers: int
    blast_domains: int
    worst_loss: int
    needs: Raw
    seconds: float
    summary: tuple[str, ...]
    diff: Raw
    request: Raw

    @property
    def acting(self) -> int:
        """Servers that a start would touch: the number to type."""
        return sum(1 for row in self.servers if row.action in ("replace", "birth"))

    @property
    def rejects(self) -> str:
        """The version that starting this rejects for the pool: the rollback of a whole pool rejects what it leaves."""
        whole_pool = self.kind == "rollback" and not self.request.get("servers")
        return self.origin if whole_pool and self.origin != self.to else ""


def plan_row(row: Raw) -> PlanRow:
    return PlanRow(
        name=text(row, "name"), action=text(row, "action", "skip"), reason=text(row, "reason"),
        origin=text(row, "from"), to=text(row, "to"), order=text(row, "order"), canary=row.get("canary") is True,
        data_kept=words(row, "data_kept"), rollback=text(row, "rollback"),
        seconds=number(row, "estimate_seconds") or 0.0,
    )


def plan(row: Raw, request: Raw) -> Plan:
    blast = mapping(row, "blast")
    return Plan(
        pool=text(row, "pool"), origin=text(row, "from"), to=text(row, "to"), digest=text(row, "digest"),
        hash=text(row, "hash"), generation=whole(row, "generation"), kind=text(row, "kind", "rollout"),
        budget={key: value for key, value in mapping(row, "budget").items() if isinstance(value, int)},
        servers=tuple(plan_row(item) for item in rows(row, "servers")), blast_servers=whole(blast, "servers"),
        blast_domains=whole(blast, "domains"), worst_loss=whole(blast, "worst_loss"), needs=mapping(row, "needs"),
        seconds=number(row, "estimate_seconds") or 0.0, summary=words(row, "summary"), diff=mapping(row, "diff"),
        request=dict(request),
    )
