"""How much of each service may be away at once, held over the whole fleet while hosts are replaced side by side."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from fleet.errors import HostError

Counts = Mapping[str, int]  # service -> replicas


class NotBegunError(HostError):
    """The roll came to its end before this host's turn: nothing on it was touched."""


@dataclass(frozen=True)
class Standing:
    """One host's replicas: how many are asked for, and how many answered when we looked last."""

    wanted: Counts
    serving: Counts


@dataclass(frozen=True)
class Floor:
    """The least number of replicas of a service that must serve; `text` is how the playbook says it."""

    service: str
    least: int
    total: int
    text: str

    def allows(self, serving: int, cost: int) -> bool:
        return serving - cost >= self.least


def total(standings: Mapping[str, Standing], service: str) -> int:
    """Replicas that the fleet is asked for, broken and unreachable hosts counted."""
    return sum(one.wanted.get(service, 0) for one in standings.values())


def serving(standings: Mapping[str, Standing], service: str) -> int:
    return sum(one.serving.get(service, 0) for one in standings.values())


class Budget:
    """Who may be taken out of service now. Thread-safe; hosts wait here for their turn.

    A service without a floor goes one host at a time, which needs no figure and suits a fleet of two. Replicas that
    do not serve cost nothing: replacing them takes nothing away.
    """

    def __init__(self, standings: Mapping[str, Standing], floors: Mapping[str, Floor]) -> None:
        self._serving = {host: dict(one.serving) for host, one in standings.items()}
        self._floors = dict(floors)
        self._away: dict[str, Counts] = {}
        self._ended = ""
        self._changed = threading.Condition()

    def begin(self, host: str, cost: Counts) -> None:
        """Return when `cost` replicas of each service may go from `host`.

        Raises NotBegunError when the roll ended meanwhile, HostError when the floor can never be kept.
        """
        cost = {service: min(count, self._serving.get(host, {}).get(service, 0)) for service, count in cost.items()}
        cost = {service: count for service, count in cost.items() if count}
        with self._changed:
            while True:
                if self._ended:
                    raise NotBegunError(host, f"not begun: {self._ended}")
                held = [service for service, count in cost.items() if not self._free(service, count)]
                if not held:
                    self._away[host] = cost
                    return
                if not any(service in away for away in self._away.values() for service in held):
                    raise self._never(host, held[0], cost[held[0]])
                self._changed.wait()

    def finish(self, host: str, serving: Counts) -> None:
        """The host is done, well or not; `serving` is what answers on it now."""
        with self._changed:
            self._away.pop(host, None)
            self._serving[host] = dict(serving)
            self._changed.notify_all()

    def note(self, host: str, serving: Counts) -> None:
        """A fresh look at a host that is not being replaced."""
        with self._changed:
            self._serving[host] = dict(serving)
            self._changed.notify_all()

    def end(self, why: str) -> None:
        """No host begins any more; those that have begun go on."""
        with self._changed:
            self._ended = self._ended or why
            self._changed.notify_all()

    def serving(self) -> dict[str, int]:
        """Replicas of each service that answer now, as far as we looked."""
        with self._changed:
            names = {service for counts in self._serving.values() for service in counts}
            return {service: self._count(service) for service in sorted(names)}

    @property
    def ended(self) -> str:
        return self._ended

    def _count(self, service: str) -> int:
        there = sum(counts.get(service, 0) for counts in self._serving.values())
        return there - sum(cost.get(service, 0) for cost in self._away.values())

    def _free(self, service: str, cost: int) -> bool:
        floor = self._floors.get(service)
        if floor is None:
            return not any(service in away for away in self._away.values())
        return floor.allows(self._count(service), cost)

    def _never(self, host: str, service: str, cost: int) -> HostError:
        floor = self._floors[service]
        return HostError(
            host,
            f"not replaced: {self._count(service)} of {floor.total} replicas of {service} serve, taking {cost} away "
            f"would leave fewer than min_available {floor.text} ({floor.least})",
            hint="mend what does not serve first (invoke status), or lower min_available",
        )
