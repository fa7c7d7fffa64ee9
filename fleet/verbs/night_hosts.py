"""The hosts of a night are held for it, so that a night of another controller stops before it touches anything."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fleet.errors import FleetError, HostError
from fleet.inventory.model import Host
from fleet.locks import LockedError, Owner
from fleet.options import Options
from fleet.report import terminal
from fleet.rollout.claims import Claims
from fleet.transport import Connector, Session, fan_out
from fleet.verbs.common import connected

PLACE = "/run/lock"  # of every host, as /run is, whose lock the night's own rolls take one after the other


@dataclass
class Held:
    """The night's hold on its hosts, which ends with this process or its connections."""

    hosts: Sequence[Host]
    connector: Connector
    claims: Claims
    forks: int

    def take(self, hosts: Sequence[Host], *, anew: bool = False) -> None:
        """Raises FleetError where another night has one of them. One that cannot be reached or locked is left to the rolls."""
        found = fan_out(hosts, lambda host: self.connector.connect(host, anew=anew), forks=self.forks)
        sessions = {name: one for name, one in found.items() if isinstance(one, Session)}
        missing = self.claims.take(sessions, forks=self.forks, wait=0, say=terminal.event)
        for name, error in missing.items():
            if isinstance(error, LockedError):
                raise FleetError(
                    f"another night has {name}: {error.holder}; this one touches nothing",
                    hint="it gives the hosts back when it ends; invoke nightly.status there",
                )
            terminal.event(name, f"is not held for the night: {error.message}")

    def check(self) -> None:
        """Before hosts are changed: those whose connection was lost are taken again. Raises FleetError as `take` does."""
        lost = []
        for host in self.hosts:
            try:
                self.claims.check(host.name)
            except HostError:
                lost.append(host)
        if lost:
            self.claims.release([host.name for host in lost])
            self.take(lost, anew=True)


@contextmanager
def held(options: Options, hosts: Sequence[Host], night: str) -> Iterator[Held]:
    """Raises FleetError where another night has one of the hosts."""
    with connected(options) as connector, Claims(Owner.here(f"night {night}"), place=PLACE) as claims:
        found = Held(hosts, connector, claims, options.forks)
        found.take(hosts)
        yield found
