"""Which releases answered on a host, in which order, and to which of them a service goes back. Pure.

The audit's lines are replayed as a pile for each service. A release that has answered comes on top. A roll-back to one
below takes away all above it: what was rolled away from is no place to go back to, until it is deployed and answers
again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fleet.journal.audit import AuditEntry

ROLLBACK = "rollback"  # the verb, as audits name it


@dataclass(frozen=True)
class Served:
    """A release (twelve hexadecimal digits) that answered, the last time it was put there. `at`: seconds since the epoch."""

    release: str
    at: float
    run: str = ""


@dataclass(frozen=True)
class Lineage:
    """One service of one host: `standing` from the oldest to the newest, and `left` that were rolled away from."""

    standing: tuple[Served, ...] = ()
    left: tuple[Served, ...] = ()

    def before(self, running: Collection[str]) -> Served | None:
        """The one that answered last before those that run now. A release that never answered here counts as newest."""
        known = [one.release for one in self.standing]
        if not set(running) <= set(known):
            return self.standing[-1] if self.standing else None
        place = max((known.index(one) for one in running), default=len(known))
        return self.standing[place - 1] if place else None


@dataclass(frozen=True)
class Choice:
    """By host and service: where to go back to, and why a service stays. `refused`, by host, are left alone."""

    aims: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    stays: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """One host: its chosen services, what runs of each (releases), and what ran."""

    services: Sequence[str]
    running: Mapping[str, frozenset[str]]
    lineages: Mapping[str, Lineage]

    def before(self, service: str) -> Served | None:
        return self.lineages.get(service, Lineage()).before(self.running.get(service, frozenset()))


def lineages(entries: Iterable[AuditEntry]) -> dict[str, Lineage]:
    """One host's audit as the pile of each of its services."""
    piles: dict[str, list[Served]] = {}
    left: dict[str, dict[str, Served]] = {}
    for entry in sorted(entries, key=lambda one: one.at):
        if entry.action != "serve" or entry.outcome != "done" or not entry.release or not entry.service:
            continue
        pile, away = piles.setdefault(entry.service, []), left.setdefault(entry.service, {})
        there = [one.release for one in pile]
        if entry.release in there:
            place = there.index(entry.release)
            if entry.verb == ROLLBACK:
                away.update({one.release: one for one in pile[place + 1 :]})
                del pile[place:]
            else:
                del pile[place]
        away.pop(entry.release, None)
        pile.append(Served(entry.release, entry.at, entry.run))
    return {name: Lineage(tuple(pile), tuple(left[name].values())) for name, pile in piles.items()}


def go_back(hosts: Mapping[str, Standing]) -> Choice:
    """Every service to the release before the one that runs.

    A host that runs already what others go back to stays with it: it was never rolled forward, or is back already.
    """
    aims: dict[str, dict[str, str]] = {}
    stays: dict[str, dict[str, str]] = {}
    refused: dict[str, str] = {}
    common = _common(hosts)
    for name, host in hosts.items():
        for service in host.services:
            aim, running = host.before(service), host.running.get(service, frozenset())
            if len(running) == 1 and running <= common.get(service, frozenset()):
                stays.setdefault(name, {})[service] = f"runs {min(running)} already, to which other hosts go back"
            elif aim is not None:
                aims.setdefault(name, {})[service] = aim.release
            else:
                refused[name] = _nothing(service, running, host.lineages.get(service, Lineage()))
    return Choice(_without(aims, refused), _without(stays, refused), refused)


def go_to(hosts: Mapping[str, Standing], release: str) -> Choice:
    """Every service to one release, on every host that does not run it."""
    aims: dict[str, dict[str, str]] = {}
    stays: dict[str, dict[str, str]] = {}
    for name, host in hosts.items():
        for service in host.services:
            if host.running.get(service) == frozenset({release}):
                stays.setdefault(name, {})[service] = f"runs {release} already"
            else:
                aims.setdefault(name, {})[service] = release
    return Choice(aims, stays)


def _common(hosts: Mapping[str, Standing]) -> dict[str, frozenset[str]]:
    """By service, what some hosts go back to, unless every host runs such a release: then nobody would go anywhere."""
    found: dict[str, set[str]] = {}
    running: dict[str, list[frozenset[str]]] = {}
    for host in hosts.values():
        for service in host.services:
            running.setdefault(service, []).append(host.running.get(service, frozenset()))
            aim = host.before(service)
            if aim is not None:
                found.setdefault(service, set()).add(aim.release)
    return {
        service: frozenset(aims)
        for service, aims in found.items()
        if not all(len(one) == 1 and one <= aims for one in running[service])
    }


def _nothing(service: str, running: Collection[str], lineage: Lineage) -> str:
    now = f"{', '.join(sorted(running))} runs" if running else "nothing runs"
    away = f", and {', '.join(one.release for one in lineage.left)} was rolled away from" if lineage.left else ""
    return f"{service}: there is nothing to go back to: {now}, no earlier release answered here{away}"


def _without(found: Mapping[str, Mapping[str, str]], names: Collection[str]) -> dict[str, Mapping[str, str]]:
    """A host of which one service has nowhere to go is left alone as a whole."""
    return {name: one for name, one in found.items() if name not in names}
