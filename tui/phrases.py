"""How numbers, times and states are said. Pure; one way to say each thing, everywhere.

Ages are coarse on purpose (minutes, then hours, then days): a word that need not change is not sent again, and an idle
screen stays silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo

from tui.ink import Line, Span, clip, width_of
from tui.shapes import Event, Pool, Rollout, Run, Server, Waiting

STEP_WORDS: Mapping[str, str] = {
    "serving": "serving", "absent": "absent", "waiting": "waits", "draining": "draining", "stopping": "stopping",
    "preparing": "preparing", "booting": "booting", "proving": "proving", "admitting": "admitting",
    "retiring": "retiring", "failed": "failed", "put-back": "put back", "quarantined": "quarantined",
    "skipped": "skipped", "held": "held",
}
ROLLOUT_WORDS: Mapping[str, str] = {
    "planned": "planned", "awaiting-approval": "waits for approval", "canary": "trying canaries",
    "awaiting-promotion": "waits for you", "rolling": "rolling", "checkpoint": "at a checkpoint",
    "paused": "paused", "rolling-back": "rolling back", "done": "done", "rolled-back": "rolled back",
    "failed": "failed", "aborted": "aborted",
}
ROLLOUT_TONES: Mapping[str, str] = {
    "awaiting-approval": "warn", "awaiting-promotion": "warn", "checkpoint": "warn", "paused": "warn",
    "rolling-back": "warn", "done": "good", "rolled-back": "warn", "failed": "bad", "aborted": "bad",
}
CELL_WORDS: Mapping[str, str] = {
    "+": "done", "!": "failed", "<": "put back", "h": "proving", "b": "booting", "s": "stopping", "d": "draining",
    ".": "waiting", "=": "skipped",
}
CELL_TONES: Mapping[str, str] = {
    "+": "good", "h": "accent", "b": "accent", "s": "accent", "d": "accent", ".": "dim", "!": "bad", "<": "warn",
    "=": "faint",
}
ROOT_SHORT: Mapping[str, str] = {
    "read-only": "ro", "overlay": "ephem", "writable": "rw", "unknown": "?", "ephemeral": "ephem",
}
MINUTE, HOUR, DAY = 60, 3600, 86400
FAREWELL = "The daemon goes on; a rollout is not touched; `anew` shows it again.\n"


def farewell(driven: tuple[str, ...], on: str = "") -> str:
    """The last words; `driven`: pools whose rollout pauses because this terminal goes; `on`: the machine of the daemon, if it is another."""
    anew = f"anew --on {on}" if on else "anew"
    return "".join(f"The rollout of {pool} pauses in some seconds (on_disconnect); `{anew} rollout wait {pool} --drive` before that lets it go on.\n"
                   for pool in driven) or FAREWELL.replace("`anew`", f"`{anew}`")


def age(seconds: float | None) -> str:
    """`<1m`, `12m`, `5h`, `6d 4h`, `120d`; `-` when there is none."""
    if seconds is None:
        return "-"
    if seconds < MINUTE:
        return "<1m"
    if seconds < HOUR:
        return f"{int(seconds // MINUTE)}m"
    if seconds < DAY:
        return f"{int(seconds // HOUR)}h"
    days = int(seconds // DAY)
    if days >= 100:
        return f"{days}d"
    return f"{days}d {int(seconds % DAY // HOUR)}h"


def span(seconds: float) -> str:
    """A short duration in the words of a clock: `7s`, `2m 05s`, `1h 10m`."""
    whole = max(0, int(seconds))
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m {whole % MINUTE:02d}s"
    return f"{whole // HOUR}h {whole % HOUR // MINUTE:02d}m"


def about(seconds: float) -> str:
    """A forecast, said as one: `about 9 minutes`."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} seconds"
    if seconds < 90 * MINUTE:
        return f"about {round(seconds / MINUTE)} minutes"
    return f"about {round(seconds / HOUR)} hours"


def size(count: int) -> str:
    """Bytes in binary units, one decimal below ten."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.1f} {unit}" if value < 10 and unit != "B" else f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def plural(count: int, one: str, many: str = "") -> str:
    """`1 server`, `3 servers`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def clock(when: float | None, zone: tzinfo | None, seconds: bool = False) -> str:
    """Local time of day; `-` for none or for a time no calendar has."""
    if when is None:
        return "-"
    try:
        return datetime.fromtimestamp(when, zone).strftime("%H:%M:%S" if seconds else "%H:%M")
    except (ValueError, OverflowError, OSError):
        return "-"


def when(moment: float | None, now: float, zone: tzinfo | None) -> str:
    """`14:02` today, `Fri 14:02` within a week, `2 Nov 14:02` else."""
    if moment is None:
        return "-"
    try:
        local, today = datetime.fromtimestamp(moment, zone), datetime.fromtimestamp(now, zone)
    except (ValueError, OverflowError, OSError):
        return "-"
    days = abs((today.date() - local.date()).days)
    if days == 0:
        return local.strftime("%H:%M")
    return local.strftime("%a %H:%M" if days < 7 else "%-d %b %H:%M")


def approved(waits: Waiting) -> str:
    """`1 of 2 approvals (eve)`."""
    by = f" ({', '.join(who(actor) for actor in waits.given)})" if waits.given else ""
    return f"{waits.needed - waits.left} of {plural(waits.needed, 'approval')}{by}"


def who(actor: str) -> str:
    """The person of `user@terminal`; the engine is itself."""
    return actor.split("@", 1)[0] or "engine"


def movement(rollout: Rollout) -> str:
    """`1→2`, or where it goes to when it comes from nowhere or from several."""
    if rollout.origin and rollout.to and rollout.origin != rollout.to:
        return f"{rollout.origin}→{rollout.to}"
    return f"→{rollout.to}" if rollout.to else rollout.origin


def progress(rollout: Rollout) -> tuple[int, int]:
    """Servers done, and servers that it is about (skipped ones are not)."""
    return rollout.cells.get("+", 0), len(rollout.runs) - rollout.cells.get("=", 0)


def eta(rollout: Rollout, zone: tzinfo | None, ranged: bool = False) -> str:
    """`eta 14:09`, with its range where one is given; "" when nothing can be said."""
    if rollout.eta is None or not rollout.active:
        return ""
    said = f"eta {clock(rollout.at + rollout.eta, zone)}"
    if not ranged or rollout.eta_low is None or rollout.eta_high is None:
        return said
    low, high = clock(rollout.at + rollout.eta_low, zone), clock(rollout.at + rollout.eta_high, zone)
    return said if low == high else f"{said}, between {low} and {high}"


def rollout_state(rollout: Rollout) -> str:
    """The state in words; what follows the pool's name everywhere."""
    return ROLLOUT_WORDS.get(rollout.state, rollout.state)


def rollout_phrase(rollout: Rollout, zone: tzinfo | None) -> Line:
    """`web 1→2 rolling 5/12, eta 14:09`."""
    done, total = progress(rollout)
    tone = ROLLOUT_TONES.get(rollout.state, "accent")
    spans = [Span(f"{rollout.pool} {movement(rollout)} "), Span(rollout_state(rollout), tone)]
    if rollout.active:
        forecast = rollout.waits or eta(rollout, zone) if rollout.state not in ("paused", "awaiting-promotion") else ""
        spans.append(Span(f" {done}/{total}" + (f", {forecast}" if forecast else "")))
    return tuple(spans)


def elapsed(run: Run, now: float) -> str:
    """How long a server has been in its step."""
    return "" if run.since is None else span(now - run.since)


def deadline(run: Run, now: float) -> str:
    """What is left of a step's deadline: minutes, and seconds in the last one: a countdown, but a calm one."""
    if run.deadline is None:
        return ""
    left = run.deadline - now
    if left <= 0:
        return "past its deadline"
    return f"deadline in {int(left // MINUTE) + 1}m" if left >= MINUTE else f"deadline in {span(left)}"


def run_reason(rollout: Rollout, run: Run) -> str:
    """Why a server is where it is; "" once it is settled: what was said on the way there is not so any more."""
    settled = run.cell in "+<!" or (not rollout.active and run.cell != "=")
    return "" if settled else run.reason


def health(pool: Pool, born: bool = True) -> Line:
    """`12 ok`, `5 ok 1 down`; servers of a pool that is still being born are not down, they are to come."""
    if pool.size == 0 and pool.healthy == 0:
        return (Span("no servers", "dim"),)
    down = pool.size - pool.healthy
    good = Span(f"{pool.healthy:>3} ok", "good" if pool.healthy else "dim")
    if down <= 0:
        return (good,)
    return (good, Span(f" {down} down", "bad") if born else Span(f" {down} to come", "dim"))


def heat(seconds: float | None, limit: float | None) -> tuple[str, str]:
    """A mark and a tone for an age against `max_age`: over it `!`, half as much again `!!`."""
    if seconds is None or limit is None or seconds <= limit:
        return "", "plain"
    return ("!!", "bad") if seconds > limit * 1.5 else ("!", "warn")


BREAKER = "stopped by the breaker"
"""How the daemon's word of an open breaker begins."""


def auto_words(pool: Pool) -> str:
    """What mode auto does; of an open breaker so that a narrow column keeps what matters."""
    return f"breaker open{pool.auto.removeprefix(BREAKER)}" if pool.auto.startswith(BREAKER) else f"auto {pool.auto}"


def auto_tone(pool: Pool) -> str:
    """An open breaker needs a person, a window only time."""
    return "bad" if pool.auto.startswith(BREAKER) else "warn" if "not again" in pool.auto else "dim"


def server_trouble(server: Server) -> str:
    """Why a server needs a look, "" if it does not."""
    if server.state in ("failed", "quarantined", "put-back"):
        return server.reason or STEP_WORDS[server.state]
    if server.tainted:
        return f"tainted: {', '.join(server.tainted)}"
    if server.state == "absent":
        return server.reason or "absent"
    if server.root == "writable":
        return "root is writable"
    if server.state == "serving" and not server.healthy:
        return server.reason or server.health_words or "not healthy"
    return ""


def server_words(server: Server) -> str:
    """The one sentence of a server's row: the reason, a hold, or what the probe said."""
    if server.held:
        return f'held: "{server.held}"'
    return server_trouble(server) or server.reason or ""


def server_tone(server: Server) -> str:
    if server.state in ("failed", "quarantined"):
        return "bad"
    if server.state in ("put-back", "absent") or (server.state == "serving" and not server.healthy):
        return "warn" if server.state == "put-back" else "bad"
    return "good" if server.state == "serving" else "accent"


def event_tone(event: Event) -> str:
    """Colour only underlines what the words of an event say."""
    if event.type in ("step-failed", "server-unhealthy", "server-tainted", "root-unlocked", "image-rejected"):
        return "bad"
    if event.type in ("warning", "command-refused", "server-redirected"):
        return "warn"
    if event.type == "remark" or event.type.startswith("seat-"):
        return "accent"
    return "good" if event.type == "server-healthy" else "plain"


def bare(event: Event) -> bool:
    """An outcome that says no more than that its intent was carried out: the next step says so too."""
    return event.type == "step-done" and event.text.endswith(" done")


def milestone(event: Event) -> bool:
    """What somebody who was away wants to read first; single steps are for the rollout's own screen."""
    return event.type not in ("step-begun", "step-done", "incarnation-retained", "incarnation-buried")


def lead_version(pool: Pool) -> str:
    """The version a pool's bar begins with: where it goes, else its stable one, else any that runs."""
    shares = [version for version, count in pool.versions.items() if count > 0]
    for version in (pool.target, pool.stable):
        if version in shares:
            return version
    return shares[0] if shares else "-"


def mixed(pool: Pool) -> str:
    """What is wrong with a pool whose servers run several images though nothing moves them; "" when all are equal."""
    shares = sorted(((count, version) for version, count in pool.versions.items() if count > 0), reverse=True)
    if len(shares) < 2:
        return ""
    said = ", ".join(f"{count} on {version}" for count, version in shares[:3])
    return f"several images and no rollout under way: {said}"


def offered(pool: Pool) -> str:
    """The version that could be rolled out next: newer than the stable one and not rejected here; "" for none."""
    rejected = {version for version, _ in pool.rejected}
    return pool.newest if pool.newest and pool.newest != pool.stable and pool.newest not in rejected else ""


def root_mode(pool: Pool, roots: Mapping[str, int]) -> str:
    """The pool's root mode, short. `mixed` only when two known modes differ: one not seen yet is no difference."""
    known = {mode for mode, count in roots.items() if count and mode not in ("", "unknown")}
    if pool.root == "mixed" and len(known) < 2:
        return ROOT_SHORT.get(next(iter(known), "unknown"), next(iter(known), ""))
    return ROOT_SHORT.get(pool.root, pool.root)


def version_bar(pool: Pool, width: int, column: int = 0) -> Line:
    """Share of servers on each image: the newest first, a name at either end.

    `2 ━━━━━─────── 1` while two are there, `14 ━━━━━━━━` when all are equal. Any version with a server has a cell;
    the bar is full only when all are on it. `column`: cells of the first name, so that bars of a list line up.
    """
    shares = {version: count for version, count in pool.versions.items() if count > 0}
    if not shares:
        return (Span("-", "dim"),)
    lead = lead_version(pool)
    name = clip(lead, 6).rjust(column)
    others = [version for version in shares if version != lead]
    if not others:
        return (Span(f"{name} "), Span("━" * max(1, width - width_of(name) - 1), "bar"))
    tail = clip(others[0], 4) if len(others) == 1 else f"{clip(others[0], 3)}+{len(others) - 1}"
    room = max(2, width - width_of(name) - width_of(tail) - 2)
    filled = min(room - 1, max(1, round(room * shares[lead] / sum(shares.values()))))
    return (
        Span(f"{name} "), Span("━" * filled, "bar"), Span("─" * (room - filled), "faint"), Span(f" {tail}", "dim"),
    )
