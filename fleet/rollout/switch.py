"""What a host does by itself when it loses us in the middle of a change: the change's undo, as docker commands. Pure.

Logs are not saved and the failed container is not removed there: both are the next run's, which finds NAME-new and
knows what it means.
"""

from collections.abc import Iterable
from typing import Protocol

from fleet.locks import WAIT_ENGINE, WAIT_GPUS_IDLE
from fleet.serving.steps import FreeVram, SetRestart, Start, Step, Stop

Command = tuple[str, ...]


class Lock(Protocol):
    """What of a host's lock is needed here."""

    def check(self) -> None: ...

    def arm(self, commands: tuple[Command, ...]) -> None: ...

    def disarm(self) -> None: ...

    def abandon(self) -> None: ...


def commands(undo: Iterable[Step]) -> tuple[Command, ...]:
    """The steps that put the old container back. Nothing where there is no old container to start."""
    steps = tuple(undo)
    starts = tuple(step.name for step in steps if isinstance(step, Start))
    if not starts:
        return ()
    return (WAIT_ENGINE, *(found for step in steps if (found := _command(step, starts))))


def _command(step: Step, starts: tuple[str, ...]) -> Command:
    match step:
        case Stop():
            return ("docker", "stop", "--time", str(step.grace), step.name)
        case FreeVram():
            return (*WAIT_GPUS_IDLE, *starts)
        case SetRestart():
            return ("docker", "update", "--restart", step.policy, step.name)
        case Start():
            return ("docker", "start", step.name)
        case _:
            return ()


class Switch:
    """A change's guard on one host: its lock, and what the lock's holder does when we vanish."""

    def __init__(self, lock: Lock) -> None:
        self._lock, self._armed = lock, False

    def check(self) -> None:
        self._lock.check()

    def arm(self, undo: Iterable[Step]) -> None:
        wanted = commands(undo)
        if wanted:
            self._lock.arm(wanted)
            self._armed = True

    def disarm(self) -> None:
        if self._armed:
            self._lock.disarm()
            self._armed = False

    def leave(self) -> None:
        """Have the host put back at once. A lock whose switch is not armed stays ours."""
        if self._armed:
            self._lock.abandon()
            self._armed = False
