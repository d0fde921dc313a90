"""What can be wrong with a journal for good. Both are `Permanent`: no retry helps, a person must look."""

from __future__ import annotations

from fleet.core.errors import Permanent


class JournalBroken(Permanent):
    """The disk did not take a commit. Whether the rows are there is unknown until the journal is opened again.

    After a failed fsync the kernel may drop the pages and call the next fsync a success, so nothing is ever retried:
    the daemon ends, and the next one looks at what is really there.
    """

    code = "journal-broken"


class JournalCorrupt(Permanent):
    """The journal is not what was written. `seq` is the first bad row, 0 if the file as a whole cannot be read.

    `opens`: rows can be read, so that a daemon can run on it and only look; else none can run on it at all.
    """

    code = "journal-corrupt"
    exit_code = 6

    def __init__(self, what: str, *, seq: int = 0, where: str = "", opens: bool = True) -> None:
        super().__init__(f"{what}. {WHAT_TO_DO if opens else WITHOUT_IT}", where=where)
        self.what = what
        self.seq = seq


WHAT_TO_DO = (
    "anew stays in read-only mode and changes no server: save what can be read with `anew journal export`, "
    "then restore the journal from a backup and start the daemon again"
)

WITHOUT_IT = (
    "No daemon can run on it and no server was touched: move it aside and keep it, then put a backup in its place, or start "
    "without one: servers and their images are found again by what they carry, pointers, holds and rollouts are not"
)
