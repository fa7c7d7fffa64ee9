"""Services that are reading a model: while one starts, the files that it reads one after the other must be of one version."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import docker

from fleet import awake
from fleet.errors import HostError
from fleet.models.names import MOUNT
from fleet.serving.inspection import Inspection
from fleet.serving.observe import observe
from fleet.serving.verify import healthy
from fleet.transport import Session

PAUSE = 2.0  # seconds between two looks


def readers(containers: Iterable[Inspection], name: str) -> tuple[Inspection, ...]:
    """Replicas of ours that run, were never restarted and were told to serve this model. Pure.

    One that Docker had to start again has failed: what is there now may be what it fails on.
    """
    path = f"{MOUNT}{name}"
    return tuple(
        one
        for one in containers
        if one.owned and one.port and one.state == "running" and not one.restart_count
        if any(word.rstrip("/") == path for word in (*one.entrypoint, *one.arguments))
    )


@dataclass(frozen=True)
class Starts:
    """Waits for them on one host, at most `patience` seconds; 0 only looks."""

    session: Session
    client: docker.DockerClient
    patience: float
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = awake.sleep

    def settle(self, name: str) -> None:
        """Raises HostError with those that still start; what is staged stays for the next command."""
        until, told = self.clock() + self.patience, False
        while starting := self._starting(name):
            words = f"{', '.join(starting)} {'is' if len(starting) == 1 else 'are'} starting and may be reading {name}"
            if self.clock() >= until:
                hint = "the files are staged: the same command again when it answers, or after invoke stop"
                raise HostError(self.session.host.name, f"{words}, so it was not switched", hint=hint)
            if not told:
                told = True
                self.say(f"{words}; waiting up to {self.patience:.0f} s before it is switched")
            self.sleep(PAUSE)

    def _starting(self, name: str) -> list[str]:
        found = readers(observe(self.session, self.client).containers, name)
        return [one.name for one in found if not self._answers(one)]

    def _answers(self, one: Inspection) -> bool:
        with self.session.forward_local(one.port, one.address) as (address, port):
            return healthy(address, port)
