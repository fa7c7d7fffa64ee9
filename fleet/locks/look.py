"""Ask who holds the lock of a host, and end it."""

import time
from collections.abc import Callable

from fleet.errors import HostError
from fleet.locks.lock import PLACE, complain, now
from fleet.locks.owner import MARK, Holder, read_look
from fleet.locks.program import PROGRAM
from fleet.transport import Session

PATIENCE = 180.0  # seconds for an ended holder to go: its switch may stop a container with a grace of 60 s


def holder_of(session: Session, *, place: str = PLACE) -> Holder | None:
    """Who holds the lock; None when nobody does. Raises HostError, also for a holder of a newer schema."""
    said = session.script(PROGRAM, args=("look", place), sudo=True, check=False, timeout=60).stdout
    look = read_look(session.host.name, said.splitlines())
    if look.state not in ("busy", "free"):
        raise complain(session.host.name, look, place)
    return look.holder if look.state == "busy" else None


def unlock(
    session: Session,
    *,
    place: str = PLACE,
    patience: float = PATIENCE,
    clock: Callable[[], float] = now,
    sleep: Callable[[float], None] = time.sleep,
) -> Holder | None:
    """End the holder and wait until it is gone: an armed switch runs first. Returns who it was, None if nobody.

    Raises HostError when it may not be ended, cannot be found, or still holds the lock after `patience` seconds.
    """
    host = session.host.name
    until = clock() + patience
    first = holder_of(session, place=place)
    if first is not None and first.pid is None:
        sleep(1)  # a holder that is just starting or going has no name for a moment
        first = holder_of(session, place=place)
    if first is None:
        return None
    if first.pid is None:
        hint = "log in as root or set ansible_become; `fuser -v /run` on the host may show who has it"
        raise HostError(host, f"the lock is held by {first}, so it cannot be ended", hint=hint)
    if not first.firing:
        _end(session, first)
    while clock() < until:
        sleep(1)
        found = holder_of(session, place=place)
        if found is None or found.pid not in (first.pid, None):  # free, or the next one has it already
            return first
    raise HostError(host, f"the lock is still held by {first}", hint="journalctl -t fleet on the host")


def _end(session: Session, holder: Holder) -> None:
    said = session.script(PROGRAM, args=("end", str(holder.pid)), sudo=True, check=False, timeout=60).stdout
    if f"{MARK} refused" in said.splitlines():
        message = f"the lock is held by {holder}, and {session.user} may not end it"
        raise HostError(session.host.name, message, hint="log in as that user or as root, or set ansible_become")
