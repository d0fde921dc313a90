"""The commands as a table: words, help, options, and where each is done. Parsers, completion and docs are made from it.

Only the parser of the command that was typed gets its options: building all of them is felt at start-up.
"""

from __future__ import annotations

import argparse
import os
import sys

from fleet.core.errors import Invalid

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, NoReturn


class Option:
    """One argument: its names and argparse's settings for it."""

    def __init__(self, *names: str, **settings: Any) -> None:
        self.names = names
        self.settings = settings

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Declare it on a parser."""
        parser.add_argument(*self.names, **self.settings)


class Word:
    """A command, or a group of commands, or both: then the word typed after it decides. `run` is "module:function" below fleet.cli,
    called with a Context. `here`: it is about this machine, and refused with --on.
    """

    def __init__(self, name: str, says: str, run: str = "", options: Iterable[Option] = (), words: Iterable[Word] = (), *, here: bool = False) -> None:
        self.name = name
        self.says = says
        self.run = run
        self.options = tuple(options)
        self.words = tuple(words)
        self.here = here


OVERRIDES = (
    ("max_unavailable", "how many servers may be missing: 1, 25%%"),
    ("max_surge", "how many extra incarnations may exist: 1, 25%%"),
    ("canaries", "how many go first: 1, 10%%"),
    ("promotion", "after the canaries: manual or auto"),
    ("min_healthy_time", "healthy without a gap for so long: 10s"),
    ("healthy_deadline", "from boot to healthy: 5m"),
    ("progress_deadline", "no newly healthy server for so long stops it: 10m"),
    ("drain_deadline", "how long a server may drain: 2m"),
    ("max_failures", "failed servers tolerated: 0"),
    ("on_failure", "pause or rollback"),
    ("retain", "how long the old incarnations stay startable: 24h"),
    ("order", "oldest, newest or name"),
    ("checkpoints", "stop to look after so many of the servers: 25%%,50%%"),
    ("checkpoint_pause", "how long to stop there: 30m, or manual"),
    ("on_disconnect", "if the terminal that drives it goes away: continue or pause"),
)
"""The settings of [pools.NAME.rollout] that a plan may override, with help."""

SHARED = (
    Option("--fleet", metavar="FILE", default=argparse.SUPPRESS, help="the fleet file (or ANEW_FLEET)"),
    Option("--socket", metavar="PATH", default=argparse.SUPPRESS, help="the daemon's socket (or ANEW_SOCKET)"),
    Option("--on", metavar="HOST", default=argparse.SUPPRESS,
           help="the daemon of another machine, over SSH: [USER@]HOST[:PORT], or a name of ~/.ssh/config; --socket is then a path there"),
    Option("--json", action="store_true", default=argparse.SUPPRESS, help="JSON on stdout, errors too"),
    Option("--color", choices=("auto", "always", "never"), default=argparse.SUPPRESS, help="colours (NO_COLOR is honoured)"),
    Option("--no-start", action="store_true", default=argparse.SUPPRESS, help="do not start a daemon if there is none"),
)
_SHARED_NAMES = {name for option in SHARED for name in option.names}
_POOL = Option("pool", metavar="POOL", help="a pool's name")
_SERVER = Option("server", metavar="SERVER", help="a server's name")
_ROLLOUT = Option("rollout", metavar="ID", help="a rollout's id or its beginning, or a pool that is being rolled")
_IMAGE = Option("image", metavar="FAMILY/VERSION", help="an image")
_YES = Option("--yes", action="store_true", help="answer the question with yes")
_WATCH = Option("--watch", action="store_true", help="then open the terminal UI on it, if there is a terminal")
_WAIT = Option("--wait", action="store_true", help="wait for the end; the exit code says how it ended")
_WHY = Option("--why", metavar="TEXT", default="", help="the reason, for the journal and for the others")
_PLAN = Option("plan", metavar="HASH|POOL", help="the plan's hash or its beginning, or the pool")
_MACHINE = Option("machine", metavar="NAME", help="a machine's name")
_TRUST = Option("--fingerprint", metavar="SHA256:…",
                help="the key's fingerprint as you know it from elsewhere: compared, instead of the question")
_OUTSIDE = Option("--outside-windows", metavar="WHY", dest="outside", help="go on although the pool's windows are closed; the reason is kept")
_SETTINGS = tuple(Option("--" + name.replace("_", "-"), metavar="VALUE", dest="set_" + name, help=says) for name, says in OVERRIDES)
_SELECT = (
    Option("--to", metavar="VERSION", help="the version to go to; left out: the channel's newest"),
    Option("--servers", metavar="A,B", help="only these servers"),
    Option("--older-than", metavar="AGE", help="only servers whose incarnation is older: 7d"),
    *_SETTINGS,
)
_SOME = (
    Option("--pool", metavar="POOL", dest="of_pool", help="only events of this pool"),
    Option("--server", metavar="SERVER", dest="of_server", help="only events of this server"),
    Option("--rollout", metavar="ID", dest="of_rollout", help="only events of this rollout"),
)
KINDS = ("pools", "servers", "roots", "rollouts", "images", "versions", "machines", "plans")
"""What `anew completion --names` lists; `roots` are pools and servers."""

COMMANDS = (
    Word("status", "pools, servers, versions, ages, health, rollout", "status:status",
         [Option("pool", metavar="POOL", nargs="?", help="only this pool, with all its servers")]),
    Word("plan", "what a rollout would do: to whom, in what order, why", "plan:plan", [_POOL, *_SELECT], [
        Word("list", "plans that wait for other people's approval", "approve:list_all"),
        Word("approve", "show a plan that waits, ask, and say yes to it; its author's yes does not count", "approve:approve", [_PLAN, _YES]),
        Word("withdraw", "a plan that waits is taken back, with its approvals", "approve:withdraw", [_PLAN, _WHY]),
    ]),
    Word("rollout", "start a rollout, watch it, steer it", words=[
        Word("start", "show the plan, ask, and start", "rollout:start",
             [_POOL, *_SELECT, Option("--plan", metavar="HASH", help="only if the plan still has this hash"), _OUTSIDE, _WAIT, _YES]),
        Word("list", "all rollouts, newest first", "rollout:list_all"),
        Word("show", "one rollout: servers, budget, reasons", "rollout:show", [_ROLLOUT]),
        Word("wait", "wait for a rollout's end; the exit code says how it ended", "rollout:wait", [
            _ROLLOUT, Option("--drive", action="store_true", help='and drive it: with on_disconnect = "pause" it pauses if this terminal goes away')]),
        Word("pause", "no new step starts; a step in flight ends", "rollout:pause", [_ROLLOUT, _WHY]),
        Word("resume", "go on after a pause", "rollout:resume", [_ROLLOUT, _OUTSIDE, _WAIT]),
        Word("set", "change settings of a rollout under way; counts from the next decision on", "rollout:set_settings", [_ROLLOUT, *_SETTINGS, _OUTSIDE]),
        Word("promote", "the canaries are good: go on with the rest", "rollout:promote", [_ROLLOUT, _WAIT]),
        Word("abort", "stop, and leave what is done", "rollout:abort", [_ROLLOUT, _WHY]),
    ]),
    Word("rollback", "back to the previous image, from retained incarnations where there are some", "rollout:rollback",
         [_POOL, Option("--server", metavar="SERVER", help="only this server"), _WHY, _WAIT, _YES]),
    Word("hold", "skip a server in everything but explicit commands", "servers:hold",
         [_SERVER, Option("--why", metavar="TEXT", required=True, help="the reason, for the others")]),
    Word("release", "end a hold", "servers:release", [_SERVER]),
    Word("adopt", "make a domain that anew did not make a server of a pool", "servers:adopt",
         [Option("domain", metavar="DOMAIN", help="the domain's name or UUID"), _POOL,
          Option("--as", metavar="NAME", dest="name", help="the server it becomes"),
          Option("--hypervisor", metavar="NAME", help="where the domain is, if several have one of this name"), _YES]),
    Word("root", "how root is mounted, as seen inside; or set the mode", "servers:root",
         [Option("name", metavar="POOL|SERVER", help="a pool or a server"),
          Option("mode", metavar="MODE", nargs="?", choices=("read-only", "ephemeral", "writable"),
                 help="read-only, ephemeral or writable (break glass); left out: only look"),
          Option("--dry-run", action="store_true", help="say what writes there and what would be done, and change nothing"),
          Option("--for", metavar="DURATION", dest="lasts", default="", help="how long a writable root may stay so, before the daemon locks it again: 1h"),
          _WHY, Option("--wait", action="store_true", help="if servers are replaced: wait for the end; the exit code says how it ended"), _YES]),
    Word("shell", "log in to a server over SSH with its pinned host key; taints it, and says so first", "shell:shell", [_SERVER, _YES]),
    Word("machine", "machines that are only reached over SSH", words=[
        Word("list", "the machines of the fleet file: pinned key, pool, what was seen last", "machine:list_all"),
        Word("check", "look at them now; ends with 1 if one is not reachable or not ready", "machine:check",
             [Option("machines", metavar="NAME", nargs="*", help="only these machines")]),
        Word("key", "the public half of anew's own key, for authorized_keys on machines; made if there is none", "ownkey:show",
             [Option("--authorized-keys", action="store_true", help="as a line that lets it call anew-host there and nothing else")], here=True),
        Word("add", "show a host's key, ask whether to trust it, and write the machine into the fleet file", "pins:add",
             [_MACHINE, Option("address", metavar="ADDRESS", help="host name or IP address"),
              Option("--port", metavar="PORT", type=int, help="where its SSH server listens: 22"),
              Option("--user", metavar="USER", help="who logs in: root"),
              Option("--key", metavar="FILE", help="private key to log in with; left out: anew's own"),
              Option("--jump", metavar="NAME", help="another machine through which it is reached"),
              Option("--disk", metavar="SERIAL", help="serial number of the disk that a first install may write"),
              Option("--console", metavar="FILE", help="file to which its serial console is written by something else"), _TRUST], here=True),
        Word("pin", "the same for a machine of the fleet file: shows the old key and the new one", "pins:pin", [_MACHINE, _TRUST], here=True),
        Word("install", "first install onto a blank disk, of a machine booted from a live system", "machine:install",
             [_MACHINE, Option("--to", metavar="VERSION", help="the version; left out: the pool's"),
              Option("--disk", metavar="SERIAL", help="the disk's serial number, typed here instead of at the question")]),
        Word("recover", "have a management controller cycle a machine's power", "machine:recover",
             [_MACHINE, Option("--pxe", action="store_true", help="and boot once from the network"), _YES]),
    ]),
    Word("image", "the catalogue of images", words=[
        Word("list", "all images", "image:list_all"),
        Word("add", "catalogue an image folder", "image:add", [Option("path", metavar="PATH", help="the folder with image.toml")]),
        Word("show", "one image: files, packages, where it is used", "image:show", [_IMAGE]),
        Word("diff", "packages added, removed and changed", "image:diff",
             [Option("a", metavar="FAMILY/A", help="the older one"), Option("b", metavar="[FAMILY/]B", help="the newer one")]),
        Word("verify", "hash every byte again", "image:verify",
             [Option("image", metavar="FAMILY/VERSION", nargs="?", help="only this image")]),
        Word("reject", "never choose it again for a pool", "image:reject",
             [_IMAGE, Option("--pool", metavar="POOL", help="the pool, if several use the family"),
              Option("--why", metavar="TEXT", required=True, help="the reason, for the others")]),
        Word("unreject", "it may be chosen again", "image:unreject",
             [_IMAGE, Option("--pool", metavar="POOL", help="the pool, if several use the family")]),
    ]),
    Word("journal", "the record of everything intended, done and commanded", words=[
        Word("show", "the last events", "journal:show",
             [Option("--since", metavar="SEQ", type=int, help="events after this number"),
              Option("--limit", metavar="N", type=int, default=50, help="how many at most: 50"), *_SOME]),
        Word("follow", "events as they happen", "journal:follow",
             [Option("--since", metavar="SEQ", type=int, help="begin after this number"), *_SOME]),
        Word("verify", "check the hash chain", "journal:verify"),
        Word("export", "all events as JSON lines, or only what the replay of one rollout needs", "journal:export",
             [Option("what", metavar="ID|FILE", nargs="?", help="a rollout's id or its beginning, or a new file; left out: all, to stdout"),
              Option("file", metavar="FILE", nargs="?", help="after an id: a new file instead of stdout")]),
    ]),
    Word("replay", "a rollout of the past, as the screen showed it; line by line where there is no terminal", "replay:replay",
         [Option("rollout", metavar="ID|POOL|-", help="a rollout's id or its beginning, a pool's latest, or - for what `anew journal export` wrote, on stdin"),
          Option("--rollout", metavar="ID", dest="of_rollout", help="which one of those on stdin; left out: the last")]),
    Word("doctor", "leftovers, foreign objects, unknown states: lists them, offers to mend", "doctor:doctor",
         [Option("--fix", action="store_true", help="ask, then do what was listed"), _YES]),
    Word("daemon", "the engine", words=[
        Word("run", "in the foreground", "daemon:run",
             [Option("--state", metavar="DIR", help="the state folder (or ANEW_STATE)"),
              Option("--group", metavar="GROUP", help="system mode: the socket is open to this group")], here=True),
        Word("stop", "stop the one of this user", "daemon:stop", here=True),
        Word("status", "whether one runs, and where", "daemon:status"),
        Word("reload", "read the fleet file again; a broken one changes nothing", "daemon:reload"),
    ]),
    Word("reload", "read the fleet file again; a broken one changes nothing", "daemon:reload"),
    Word("info", "every path and version, and where each came from", "info:info"),
    Word("metrics", "the daemon's figures as Prometheus reads them; starts no daemon", "metrics:metrics",
         [Option("--write", metavar="FILE", help="into a file, at once or not at all, for a collector that reads files; left out: stdout")]),
    Word("web", "the terminal UI in a browser, for a colleague without SSH; an observer's, whatever is pressed there", "web:web",
         [Option("--port", metavar="PORT", type=int, default=8017, help="where to listen: 8017; 0 for any that is free"),
          Option("--address", metavar="ADDRESS", default="127.0.0.1", help="a loopback address: 127.0.0.1"),
          Option("--public-url", metavar="URL", default="", help="how a reverse proxy before it is called: https://NAME")], here=True),
    Word("demo", "60 simulated servers and the terminal UI, without a hypervisor", "demo:demo", here=True),
    Word("lab", "a pool of small real virtual machines", words=[
        Word("up", "boot the pool at version 1", "lab:up", [_WATCH], here=True),
        Word("down", "remove the lab's servers and leftovers, and nothing else", "lab:down", [_YES], here=True),
        Word("status", "the lab's servers", "lab:status", here=True),
    ]),
    Word("completion", "completion for a shell", "completion:completion",
         [Option("shell", choices=("bash", "zsh", "fish"), nargs="?", help="bash, zsh or fish"),
          Option("--names", choices=KINDS, metavar="KIND", help=f"instead: names that the daemon knows, one a line, as completion asks for them: {', '.join(KINDS)}")], here=True),
)

NOTHING = "without a command: the terminal UI"


class Help(argparse.HelpFormatter):
    """Help at the terminal's width. argparse would import shutil to learn it."""

    def __init__(self, prog: str, **options: Any) -> None:
        try:
            wide = min(os.get_terminal_size(sys.stdout.fileno()).columns, 100) - 2
        except (OSError, ValueError):
            wide = 78
        super().__init__(prog, width=max(wide, 40), max_help_position=28, **options)


class Parser(argparse.ArgumentParser):
    """Raises Invalid instead of leaving, so that usage errors obey --json like all others."""

    def error(self, message: str) -> NoReturn:
        """A usage error."""
        if "invalid choice: '" in message and "COMMAND" in message:
            typed = message.partition("invalid choice: '")[2].partition("'")[0]
            message = f"there is no command {typed!r}{_nearest(typed, self)}"
        raise Invalid(f"{message} (`{self.prog} --help` lists what there is)", code="usage")


def _nearest(typed: str, parser: argparse.ArgumentParser) -> str:
    import difflib

    known = [word for action in parser._actions for word in (action.choices or ()) if action.metavar == "COMMAND"]
    close = difflib.get_close_matches(typed, known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def typed_words(arguments: Sequence[str]) -> tuple[str, str]:
    """The command that was typed, and the word after it: "" if there is none, or if an option of the command stands before it."""
    words: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in ("--fleet", "--socket", "--on", "--color"):
            skip = True
        elif not argument.startswith("-"):
            words.append(argument)
        elif words and argument.partition("=")[0] not in _SHARED_NAMES:
            break
        if len(words) == 2:
            break
    return (*words, "", "")[0], (*words, "", "")[1]


def build(only: str | None = None, then: str | None = None) -> argparse.ArgumentParser:
    """The parser: of all commands, or with the options of `only` that one and the bare names of the others. `then`: the word after it."""
    shared = argparse.ArgumentParser(add_help=False, formatter_class=Help)
    for option in SHARED:
        option.add_to(shared)
    parser = Parser(prog="anew", formatter_class=Help, allow_abbrev=False, parents=[shared], epilog=NOTHING,
                    description="Rolling phoenix replacements of servers on your own metal.")
    parser.add_argument("--version", action="store_true", default=argparse.SUPPRESS, help="print the version")
    below = parser.add_subparsers(prog="anew", metavar="COMMAND", parser_class=Parser)
    for word in COMMANDS:
        _add(below, word, "anew", shared, full=only in (None, word.name), then=then)
    return parser


def _add(below: Any, word: Word, path: str, shared: argparse.ArgumentParser, *, full: bool, then: str | None = None) -> None:
    names = [inner.name for inner in word.words]
    both = f"also: {', '.join(f'{path} {word.name} {name}' for name in names)}" if word.run and names else None
    parser = below.add_parser(word.name, help=word.says, description=word.says, formatter_class=Help, allow_abbrev=False,
                              parents=[shared] if full else [], add_help=full, epilog=both)
    if not full:
        return
    if names and (not word.run or then is None or then in names):
        deeper = parser.add_subparsers(prog=f"{path} {word.name}", metavar="COMMAND", required=not word.run, parser_class=Parser)
        for inner in word.words:
            _add(deeper, inner, f"{path} {word.name}", shared, full=True)
        if then is not None:
            return
    for option in word.options:
        option.add_to(parser)
    if word.run:
        parser.set_defaults(run=word.run, here=path + " " + word.name if word.here else "")
