"""The few exceptions of this project. Each carries its value, and none shows a traceback to a user.

Raise for what is broken; "this host is not fit" is a Finding, not an exception.
"""

from dataclasses import dataclass


class FleetError(Exception):
    """Something is broken, said in one sentence, with the next thing to do in `hint`."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake in what a person wrote. `line` and `col` count from 1; 0 means the whole file."""

    file: str
    line: int
    col: int
    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.col}" if self.line else self.file
        path = f" {self.path}:" if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}:{path} {self.message}{hint}"


class InputError(FleetError):
    """Bad input: every problem at once, found before anything was touched (exit 2)."""

    exit_code = 2

    def __init__(self, *problems: Problem) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UsageError(FleetError):
    """A flag or an argument that cannot be meant (exit 2)."""

    exit_code = 2


class HostError(FleetError):
    """An operation failed on one host. The others go on.

    Source of `tail`: the last lines that the host printed, if any.
    """

    def __init__(self, host: str, message: str, *, hint: str = "", tail: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.host = host
        self.tail = tail


class UnreachableError(HostError):
    """The host could not be connected to, or its identity or our credentials were refused."""


class RefusedError(UnreachableError):
    """The host answers, but its identity or our credentials were refused: somebody has to look at it."""


class LostError(HostError):
    """The connection to the host broke while it was used."""


def no_connection(error: Exception | None) -> bool:
    """Is it an outage? A refused key or password is another matter."""
    return isinstance(error, UnreachableError) and not isinstance(error, RefusedError)
