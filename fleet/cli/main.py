"""`anew`: reads the command line, does one command, answers with its exit code. No traceback ever reaches a user."""

from __future__ import annotations

import os
import sys

from fleet.cli.context import Context, report
from fleet.cli.tree import build, typed_words
from fleet.core.errors import AnewError, Invalid

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from types import TracebackType

VERSION = "0.1.0"
INTERRUPTED = 130
PIPE_CLOSED = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code is that of rollout.md rule 18."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    report_faults()
    _fit_streams()
    try:
        code = _run(given)
        sys.stdout.flush()
        return code
    except AnewError as error:
        return report(error, as_json="--json" in given)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED


def report_faults() -> None:
    """From here on a fault of anew goes to a file, and its user gets a sentence."""
    sys.excepthook = _unexpected


def _fit_streams() -> None:
    """A closed stream becomes the null device; what a terminal's encoding lacks is written as an escape, never an error."""
    for name, mode, flag in (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_WRONLY), ("stderr", "w", os.O_WRONLY)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flag), mode, encoding="utf-8"))  # for the life of the process
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _run(given: list[str]) -> int:
    word, then = typed_words(given)
    parser = build(word or "-", then)
    options = parser.parse_args(given)
    if getattr(options, "version", False):
        print(f"anew {VERSION}")
        return 0
    context = Context(options)
    if hasattr(options, "on"):
        from fleet.cli.far import check

        check(context)
    if not hasattr(options, "run"):
        return _no_command(context, parser)
    module, _, function = options.run.partition(":")
    command = getattr(__import__(f"fleet.cli.{module}", fromlist=[function]), function)
    code = command(context)
    return code if isinstance(code, int) else 0


def _no_command(context: Context, parser: argparse.ArgumentParser) -> int:
    """The TUI, which needs a terminal; else help."""
    if context.as_json:
        raise Invalid("--json needs a command; `anew status --json` is the overview", code="usage")
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") == "dumb":
        parser.print_help(sys.stderr)
        return 2
    from fleet.cli.terminal import open_tui

    return open_tui(context)


def _unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A fault of anew: the traceback goes to a file with an id, the user gets a sentence."""
    import traceback

    from fleet.api.places import find_state

    fault = os.urandom(4).hex()
    text = f"fault {fault}\n{''.join(traceback.format_exception(kind, error, trace))}\n"
    try:
        folder = find_state()[0]
        os.makedirs(folder, mode=0o700, exist_ok=True)
        path = os.path.join(folder, "client.log")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600), "a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(text)
        where = f"{path} has the details"
    except (OSError, AnewError):
        where = "its log cannot be written"
    print(f"anew: anew itself failed ({kind.__name__}), fault {fault}: {where}", file=sys.stderr)
