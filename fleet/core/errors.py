"""Every error anew raises on purpose.

AnewError
├── Transient      may work later; carries retry_after
├── Permanent      will not work however often it is tried
└── Refused        anew will not do it: policy, stale plan, role, bad input
    ├── Invalid    a setting, image or argument that is wrong; carries where
    └── Stale      the fleet is no longer what the command was decided on

The type decides what happens: the engine retries `Transient` until the step's deadline, fails the server on
`Permanent`, and answers the operator with `Refused`. `code` is what JSON output and the wire call it.
"""

from __future__ import annotations


class AnewError(Exception):
    """The root. `message` is a sentence for the operator, `where` names the file, key, server or hypervisor."""

    code = "error"
    exit_code = 1

    def __init__(self, message: str, *, where: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message

    def beside(self, name: str) -> str:
        """The sentence for a place that names `name` already: said twice it only takes room. Another place, as a jump host, is named."""
        return self.message if self.where == name or self.where.startswith(f"{name} (") else str(self)


class Transient(AnewError):
    """May work later. `retry_after` is in seconds."""

    code = "transient"

    def __init__(self, message: str, *, retry_after: float = 1.0, where: str = "", code: str | None = None) -> None:
        super().__init__(message, where=where, code=code)
        self.retry_after = retry_after


class Permanent(AnewError):
    """Will not work however often it is tried."""

    code = "permanent"


class Refused(AnewError):
    """anew will not do it. Nothing was changed."""

    code = "refused"
    exit_code = 5


class Invalid(Refused):
    """A setting, image or argument is wrong."""

    code = "invalid"
    exit_code = 2


class Stale(Refused):
    """The fleet is no longer what the command was decided on; `difference` says what changed."""

    code = "stale-plan"

    def __init__(self, message: str, *, difference: tuple[str, ...] = (), where: str = "") -> None:
        super().__init__(message, where=where)
        self.difference = difference


class BrokenMachine(AssertionError):
    """A transition that no table allows: a fault of anew itself, never of a server or an operator."""
