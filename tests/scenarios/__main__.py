"""`python -m tests.scenarios [--update] [NAME…]`: play stories, show how their traces differ, or accept the new ones."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.scenarios.rules import PAGE, page
from tests.scenarios.story import TRACES, Story, golden, stories


def difference(path: Path, trace: str) -> str:
    """A unified diff of the golden trace and this one, "" if they are the same."""
    kept = golden(path).read_text(encoding="utf-8") if golden(path).exists() else ""
    return "\n".join(difflib.unified_diff(kept.splitlines(), trace.splitlines(), f"{path.stem}, as it was", "now", lineterm=""))


def main(arguments: Sequence[str]) -> int:
    """0 if all traces are as they were, or were accepted."""
    update = "--update" in arguments
    wanted = {name for name in arguments if not name.startswith("-")}
    changed = 0
    for path in stories():
        if wanted and path.stem not in wanted:
            continue
        trace = Story(path).trace()
        words = difference(path, trace)
        if words:
            changed += 1
            print(words)
        if words and update:
            golden(path).write_text(trace, encoding="utf-8")
    if update:
        PAGE.write_text(page(), encoding="utf-8")
        for kept in TRACES.glob("*.txt"):
            if not any(golden(path) == kept for path in stories()):
                kept.unlink()
    print(f"{changed} of {len(stories())} stories {'rewritten' if update else 'changed'}")
    return 1 if changed and not update else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
