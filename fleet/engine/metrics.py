"""What a monitoring system is told of a daemon: Prometheus' text, made when it is asked for, from what is known then.

Every metric stands in FAMILIES, which docs/metrics.md is made from. Gauges are looked up now; counters come from the journal (tally.py) and
so go on where the daemon before left off.

Rule: how many lines there are is bounded by the fleet file. Versions are the only label that comes from elsewhere (a host may claim
any): each pool names its MAX_VERSIONS commonest, and the rest is counted as one. No server, rollout or person is ever a label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TypeVar

from fleet.core import approvals, estimate, timing
from fleet.core.lifecycle import ENDED, ROLLOUT_STATES, VERBS
from fleet.core.sight import Sight
from fleet.core.state import Rollout
from fleet.engine import present
from fleet.engine.exposition import Family, Page, label_value
from fleet.engine.loop import Engine
from fleet.engine.tally import KINDS, STEPS, Histogram, Tally
from fleet.engine.view import PoolView

T = TypeVar("T")
MAX_VERSIONS = 20
OTHERS = "(others)"
HOUR, DAY = 3600.0, 86_400.0
AGES = (HOUR, 6 * HOUR, DAY, 3 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 60 * DAY, 90 * DAY, 180 * DAY, 365 * DAY)
RUN_STEPS = ("waiting", *VERBS, "serving", "put-back", "failed", "quarantined", "skipped", "held")

FAMILIES = (
    Family("anew_build_info", "gauge", "1, with the version of anew that runs.", ("version",)),
    Family("anew_daemon_start_time_seconds", "gauge", "When this daemon started, in seconds since 1970."),
    Family("anew_daemon_read_only", "gauge", "1 if the daemon only looks, since its journal does not hold."),
    Family("anew_daemon_blind_seconds_total", "counter", "Seconds in which a daemon did not run though it should have: suspended, stopped or starved."),
    Family("anew_journal_events_total", "counter", "Rows of the journal."),
    Family("anew_commands_refused_total", "counter", "Commands of people that were refused."),
    Family("anew_warnings_total", "counter", "Warnings in the journal."),
    Family("anew_servers", "gauge", "Servers by the version in service and the state they are in; without a version: nothing serves.", ("pool", "version", "state")),
    Family("anew_servers_wanted", "gauge", "How many servers the fleet file wants.", ("pool",)),
    Family("anew_servers_available", "gauge", "Servers that are in service and answer their health checks.", ("pool",)),
    Family("anew_servers_held", "gauge", "Servers that a person holds.", ("pool",)),
    Family("anew_servers_tainted", "gauge", "Servers that were touched out of band and are due for replacement.", ("pool",)),
    Family("anew_servers_surplus", "gauge", "Servers that exist though the fleet file has no place for them any more.", ("pool",)),
    Family("anew_incarnations_retained", "gauge", "Stopped incarnations that a rollback could return to.", ("pool",)),
    Family("anew_server_age_seconds", "histogram", "Age of the incarnations in service, as they are now (not over time: no rate() over it); those of unknown age are left out.",
           ("pool",)),
    Family("anew_pool_max_age_seconds", "gauge", "The pool's max_age, where it has one.", ("pool",)),
    Family("anew_pool_places_unreachable", "gauge", "Hypervisors or machines of the pool that do not answer.", ("pool",)),
    Family("anew_pool_trouble", "gauge", "1 if the pool cannot be looked at or decided on; `anew status` says why.", ("pool",)),
    Family("anew_pool_due", "gauge", "1 if something is due: a newer image, or servers that came of age; `anew status` says what.", ("pool",)),
    Family("anew_pool_breaker_open", "gauge", "1 if too many servers were unwell and mode auto begins nothing.", ("pool",)),
    Family("anew_pool_plan_waiting", "gauge", "1 if a plan waits for approval.", ("pool",)),
    Family("anew_rollout_active", "gauge", "1 if a rollout of the pool is under way.", ("pool",)),
    Family("anew_rollout_state", "gauge", "1 for the state of the pool's latest rollout, 0 for all others.", ("pool", "state")),
    Family("anew_rollout_start_time_seconds", "gauge", "When the pool's latest rollout started, in seconds since 1970.", ("pool",)),
    Family("anew_rollout_servers", "gauge", "Servers of the rollout under way, by the step they are at.", ("pool", "step")),
    Family("anew_rollout_progress_ratio", "gauge", "Share of the servers of the rollout under way that are settled, from 0 to 1.", ("pool",)),
    Family("anew_rollout_eta_seconds", "gauge", "Seconds until the rollout under way has settled every server, as steps usually go; left out while it stands.", ("pool",)),
    Family("anew_rollout_failures", "gauge", "Servers that failed in the rollout under way since it was last resumed.", ("pool",)),
    Family("anew_rollouts_started_total", "counter", "Rollouts started, by kind.", ("pool", "kind")),
    Family("anew_rollouts_ended_total", "counter", "Rollouts ended, by kind and by how.", ("pool", "kind", "state")),
    Family("anew_step_duration_seconds", "histogram", "How long steps took that succeeded; time without a daemon does not count.", ("pool", "step")),
    Family("anew_step_failures_total", "counter", "Steps that failed.", ("pool", "step")),
    Family("anew_server_unhealthy_total", "counter", "How often an incarnation stopped answering its health checks.", ("pool",)),
)


def page(engine: Engine, tally: Tally, version: str, started_at: float, read_only: bool) -> str:
    """The whole text. `version` and `started_at` (seconds since 1970) are the daemon's."""
    out = Page(FAMILIES)
    out.add("anew_build_info", 1, label_value(version))
    out.add("anew_daemon_start_time_seconds", started_at)
    out.add("anew_daemon_read_only", read_only)
    out.add("anew_daemon_blind_seconds_total", tally.blind)
    out.add("anew_journal_events_total", engine.record.state.seq)
    out.add("anew_commands_refused_total", tally.refused)
    out.add("anew_warnings_total", tally.warnings)
    for view in engine.views.values():
        sight = engine.sight(view)
        _servers(out, sight)
        _pool(out, sight, view)
        _rollout(out, sight, engine.last_rollout(view.pool.name))
        _counted(out, tally, view.pool.name)
    return out.text()


def _servers(out: Page, sight: Sight) -> None:
    pool = sight.pool.name
    found: Counter[tuple[str, str]] = Counter()
    ages = Histogram(AGES)
    held = tainted = retained = 0
    for name in sight.pool.server_names:
        serving, known = sight.serving(name), sight.known(name)
        found[label_value(serving.version) if serving else "", present.server_state(sight, name)] += 1
        if serving and serving.born_at:
            ages.add(max(0.0, sight.now - serving.born_at))
        held += known.held is not None
        tainted += bool(known.tainted)
        retained += len(sight.retained(name))
    for (version, state), count in sorted(_bounded(found).items()):
        out.add("anew_servers", count, pool, version, state)
    out.add("anew_servers_wanted", sight.pool.servers, pool)
    out.add("anew_servers_available", sight.pool.servers - len(sight.missing), pool)
    out.add("anew_servers_held", held, pool)
    out.add("anew_servers_tainted", tainted, pool)
    out.add("anew_servers_surplus", len(sight.surplus), pool)
    out.add("anew_incarnations_retained", retained, pool)
    out.histogram("anew_server_age_seconds", ages, pool)


def _bounded(found: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """The same count with at most MAX_VERSIONS versions named."""
    sizes: Counter[str] = Counter()
    for (version, _), count in found.items():
        sizes[version] += count if version else 0
    kept = {version for version, _ in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:MAX_VERSIONS]} | {""}
    bounded: Counter[tuple[str, str]] = Counter()
    for (version, state), count in found.items():
        bounded[version if version in kept else OTHERS, state] += count
    return bounded


def _pool(out: Page, sight: Sight, view: PoolView) -> None:
    pool = sight.pool.name
    if sight.pool.max_age is not None:
        out.add("anew_pool_max_age_seconds", sight.pool.max_age, pool)
    out.add("anew_pool_places_unreachable", len(sight.observed.unreachable) if sight.observed else 0, pool)
    out.add("anew_pool_trouble", bool(view.trouble), pool)
    out.add("anew_pool_due", bool(view.auto.due), pool)
    out.add("anew_pool_breaker_open", bool(sight.pool_state.automatic.breaker), pool)
    out.add("anew_pool_plan_waiting", approvals.pending(sight.state, sight.pool, sight.now) is not None, pool)


def _rollout(out: Page, sight: Sight, latest: Rollout | None) -> None:
    pool, rollout = sight.pool.name, sight.rollout
    latest = rollout or latest
    out.add("anew_rollout_active", rollout is not None, pool)
    for state in ROLLOUT_STATES:
        out.add("anew_rollout_state", latest is not None and latest.state == state, pool, state)
    if latest is not None:
        out.add("anew_rollout_start_time_seconds", latest.started_at, pool)
    runs = list(rollout.runs.values()) if rollout else []
    steps = Counter(map(present.shown_step, runs))
    for step in RUN_STEPS:
        out.add("anew_rollout_servers", steps[step], pool, step)
    if rollout is None:
        return
    acting = [run for run in runs if run.action in ("replace", "birth")]
    out.add("anew_rollout_progress_ratio", sum(run.settled for run in acting) / len(acting) if acting else 1.0, pool)
    out.add("anew_rollout_failures", rollout.failures, pool)
    if rollout.state in ("canary", "rolling", "rolling-back") and not timing.standing(sight, rollout):
        out.add("anew_rollout_eta_seconds", estimate.remaining(rollout, sight.pool_state.durations, sight.now)[0], pool)


def _counted(out: Page, tally: Tally, pool: str) -> None:
    """Counters that are still 0 are told too: else the first of a kind would be no increase."""
    for kind in _words(KINDS, (kind for name, kind in tally.started if name == pool)):
        out.add("anew_rollouts_started_total", tally.started[pool, kind], pool, kind)
    ends = [(kind, state) for kind in KINDS for state in sorted(ENDED)]
    for kind, state in _words(ends, ((kind, state) for name, kind, state in tally.ended if name == pool)):
        out.add("anew_rollouts_ended_total", tally.ended[pool, kind, state], pool, kind, state)
    for step in _words(STEPS, (step for name, step in tally.steps if name == pool)):
        if (pool, step) in tally.steps:
            out.histogram("anew_step_duration_seconds", tally.steps[pool, step], pool, step)
    for step in _words(STEPS, (step for name, step in tally.step_failures if name == pool)):
        out.add("anew_step_failures_total", tally.step_failures[pool, step], pool, step)
    out.add("anew_server_unhealthy_total", tally.unhealthy[pool], pool)


def _words(known: Iterable[T], counted: Iterable[T]) -> Iterable[T]:
    """Those of the table, then others that were counted, each once."""
    return dict.fromkeys((*known, *counted))
