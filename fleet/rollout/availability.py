"""How much of each service may be away at once, held over the whole fleet while hosts are replaced side by side."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from fleet.errors import HostError

Counts = Mapping[str, int]  # service -> replicas
FRESH = 3.0  # seconds that a look at the fleet is believed; a host that died since is not seen
SHARE = (
    10.0  # a look that took long is believed this many times as long, so that looking stays a small part of the work
)


class NotBegunError(HostError):
    """The roll came to its end before this host's turn: nothing on it was touched."""


class PutBackError(NotBegunError):
    """The roll was interrupted in the middle of this host, and what served before serves again."""


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
    do not serve cost nothing: replacing them takes nothing away. `look` tells what answers on every host that could be
    asked; under a floor nobody is taken, or refused, by figures that are older than FRESH seconds.
    """

    def __init__(
        self,
        standings: Mapping[str, Standing],
        floors: Mapping[str, Floor],
        look: Callable[[], Mapping[str, Counts]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wanted = {host: one.wanted for host, one in standings.items()}
        self._serving = {host: dict(one.serving) for host, one in standings.items()}
        self._floors = dict(floors)
        self._away: dict[str, Counts] = {}
        self._ended = ""
        self._changed = threading.Condition()
        self._look, self._clock = look, clock
        self._looking = False
        self._fresh_until = clock() + FRESH

    def expect(self, hosts: Iterable[str]) -> None:
        """These are about to begin and take nothing away: others wait for what they may add."""
        with self._changed:
            self._away.update({host: {} for host in hosts})

    def begin(self, host: str, cost: Counts) -> Counts:
        """Return when `cost` replicas of each service may go from `host`, less those that do not serve: what is taken.

        Raises NotBegunError when the roll ended meanwhile, HostError when the floor can never be kept.
        """
        with self._changed:
            while True:
                if self._ended:
                    raise NotBegunError(host, f"not begun: {self._ended}")
                if self._looking:
                    self._changed.wait()
                    continue
                there = self._serving.get(host, {})
                taken = {
                    service: least for service, count in cost.items() if (least := min(count, there.get(service, 0)))
                }
                held = [service for service, count in taken.items() if not self._free(service, count)]
                others = any(
                    service in away or self._adds(one, service) for one, away in self._away.items() for service in held
                )
                if held and others:
                    self._changed.wait()
                elif self._stale(cost):
                    self._refresh()
                elif held:
                    raise self._never(host, held[0], taken[held[0]])
                else:
                    self._away[host] = taken
                    return taken

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

    def _adds(self, host: str, service: str) -> bool:
        """May the work on this host bring a replica that does not serve now?"""
        return self._wanted.get(host, {}).get(service, 0) > self._serving.get(host, {}).get(service, 0)

    def _stale(self, cost: Counts) -> bool:
        return (
            self._look is not None and any(name in self._floors for name in cost) and self._clock() > self._fresh_until
        )

    def _refresh(self) -> None:
        """Look, with the guard given up meanwhile: hosts may finish, and none begins."""
        assert self._look is not None  # noqa: S101  _stale has asked
        untouched = self._serving.keys() - self._away.keys()
        self._looking = True
        self._changed.release()
        began, found = self._clock(), dict[str, Counts]()
        try:
            found = dict(self._look())
        finally:
            self._changed.acquire()
            self._looking = False
            ended = self._clock()
            self._fresh_until = ended + max(FRESH, SHARE * (ended - began))
            self._serving.update({host: dict(counts) for host, counts in found.items() if host in untouched})
            self._changed.notify_all()

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
