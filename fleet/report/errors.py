"""How errors reach a person: on standard error, what and where first, then the next thing to do."""

import os
import sys
import traceback
from collections.abc import Mapping, Sequence

from fleet.errors import FleetError, HostError, InputError, UnreachableError
from fleet.report.units import visible


def show(error: FleetError) -> None:
    debug(error)
    if isinstance(error, InputError):
        for problem in error.problems:
            _say(f"error: {problem}")
        count = len(error.problems)
        _say(f"{count} problem{'s' if count != 1 else ''} in the input; nothing was touched")
        return
    where = f"{error.host}: " if isinstance(error, HostError) else ""
    _say(f"error: {where}{error.message}")
    for line in getattr(error, "tail", ()):
        _say(f"  | {line}")
    if error.hint:
        _say(f"  next: {error.hint}")


def document(failed: Mapping[str, HostError]) -> dict[str, dict[str, object]]:
    """Failed hosts for machines: `{host: {unreachable, message, hint, tail}}`."""
    return {
        host: {
            "unreachable": isinstance(error, UnreachableError),
            "message": error.message,
            "hint": error.hint,
            "tail": list(error.tail),
        }
        for host, error in failed.items()
    }


def interrupted(notes: Sequence[str] = ()) -> None:
    """`notes` are what was left, where it could not be ended."""
    _say("interrupted; the same command goes on from here")
    for note in notes:
        _say(f"  {note}")


def unexpected(error: Exception) -> None:
    debug(error)
    kind = type(error).__name__
    _say(f"error: unexpected {kind}: {error}")
    _say("  next: this is a mistake of ours; run again with FLEET_DEBUG=1 and send the traceback")


def debug(error: BaseException) -> None:
    """The traceback, only where FLEET_DEBUG is set."""
    if os.environ.get("FLEET_DEBUG"):
        traceback.print_exception(error, file=sys.stderr)


def _say(text: str) -> None:
    print(visible(text), file=sys.stderr, flush=True)
