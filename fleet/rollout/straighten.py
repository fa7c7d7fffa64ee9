"""Which of a host's images come from their builder itself: those that were built there, where the host reaches it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Self

from fleet.delivery.depot import Depot
from fleet.delivery.plan import Load, Step
from fleet.delivery.send import Sender
from fleet.delivery.throttle import least
from fleet.image.machine import There
from fleet.image.release import Release
from fleet.inventory.model import Host


class Depots:
    """The depots of a run, one for each builder. Use as a context manager: leaving ends their servers."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._of: dict[tuple[str, str], Depot] = {}

    def of(self, machine: There, builder: Host, staging: str, hosts: Iterable[Host]) -> Depot:
        """A builder's, with layouts below `staging`; the smallest limit of the run's hosts is its own."""
        if (builder.name, staging) not in self._of:
            own = builder.settings.sideload
            where = own.builder_address or builder.connection.address, own.builder_port
            rate = least(host.settings.sideload.limit for host in hosts)
            self._of[builder.name, staging] = Depot(machine, staging, where, rate, self._say)
        return self._of[builder.name, staging]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for depot in self._of.values():
            depot.close()


def depot_of(depots: Mapping[str, Depot], release: Release, host: Host) -> Depot | None:
    """Where the host is to get the release from, if it can. `depots` go by release id. Pure."""
    return depots.get(release.id) if host.settings.sideload.from_builder else None


def straight_way(depot: Depot) -> str:
    """How the bytes go, for people. Pure."""
    return f"straight from {depot.name}"


def straighten(
    steps: Sequence[Step], releases: Mapping[str, Release], depots: Mapping[str, Depot], host: Host, sender: Sender
) -> tuple[Step, ...]:
    """The same steps, with bytes straight from the builder where the host reaches it, and the reason where it does not.

    Nothing is asked where nothing has to come.
    """
    by_name = {one.local_name: one for one in releases.values()}

    def way(step: Step) -> Step:
        if not isinstance(step, Load):
            return step
        release = by_name[step.name]
        depot = depot_of(depots, release, host)
        if depot is None:
            return step
        if why := depot.reach(sender, release):
            return replace(step, why=f"{step.why}; {why}", detour=why)
        return replace(step, way=straight_way(depot), straight=True)

    return tuple(way(step) for step in steps)
