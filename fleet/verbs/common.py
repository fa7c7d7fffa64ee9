"""What the verbs share: which hosts, one connector, how failures and the recap are shown."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from fleet.errors import UnreachableError
from fleet.inventory import load, select
from fleet.inventory.model import Host, Inventory
from fleet.options import Options
from fleet.report import terminal, transfers
from fleet.report.hosts import fold
from fleet.report.recap import HostRecap
from fleet.rollout.availability import NotBegunError
from fleet.rollout.leftout import read_maintenance
from fleet.rollout.run import Outcome, failures
from fleet.transport import Connector

ROOT = Path(".fleet")  # cache and logs of this controller


def inventory_and_hosts(options: Options) -> tuple[Inventory, tuple[Host, ...]]:
    """The inventory, and the selected hosts but those in maintenance, which are said."""
    loaded = load(options.inventory)
    chosen = select(loaded, options.limit)
    out = in_maintenance(loaded, chosen)
    reasons: dict[str, list[str]] = {}
    for name, why in out.items():
        reasons.setdefault(why, []).append(name)
    for why, names in reasons.items():
        terminal.event(fold(names), f"left out: {why}")
    return loaded, tuple(host for host in chosen if host.name not in out)


def in_maintenance(inventory: Inventory, hosts: Iterable[Host]) -> dict[str, str]:
    """Hosts that somebody has taken out for now, and how it is said."""
    now = datetime.now(UTC)
    known = read_maintenance(inventory.maintenance_path)
    return {host.name: str(one) for host in hosts if (one := known.get(host.name)) and one.holds(now)}


def selected(options: Options) -> tuple[Host, ...]:
    return inventory_and_hosts(options)[1]


def _takes_part(host: Host) -> bool:
    """Does `fleet:` give this host anything to do: GPUs to have, services to run, or images to build?"""
    settings = host.settings
    return bool(settings.gpus.model or settings.gpus.count or settings.services or settings.builder == host.name)


def serving(hosts: Iterable[Host]) -> tuple[Host, ...]:
    return tuple(host for host in hosts if host.settings.services)


def active(hosts: Iterable[Host]) -> tuple[Host, ...]:
    return tuple(host for host in hosts if _takes_part(host))


def some(hosts: tuple[Host, ...]) -> tuple[Host, ...]:
    """The same hosts. That there are none is said, so that an empty answer is understood."""
    if not hosts:
        terminal.note("no host has a part in this: what it has to serve stands in its `fleet: {services: …}`")
    return hosts


@contextmanager
def connected(options: Options) -> Iterator[Connector]:
    with Connector(accept_new=options.accept_new, on_event=terminal.event) as connector:
        yield connector


def narrator(options: Options, *, loud: bool = False) -> "Narrator":
    return Narrator(speaks=not options.json, loud=loud or options.verbose)


class Narrator:
    """Says on standard error what happens: per host always, a build's own lines only when asked or on a terminal.

    `moving` shows bytes under way.
    """

    def __init__(self, *, speaks: bool, loud: bool) -> None:
        self._speaks, self._loud = speaks, loud
        self.moving = transfers.shown(speaks=speaks)

    def host(self, host: str, line: str) -> None:
        if self._speaks:
            terminal.event(host, line)

    def line(self, line: str) -> None:
        if self._speaks and self._loud:
            terminal.progress_line(line)


def close(options: Options, outcomes: Mapping[str, Outcome], skipped: Iterable[str] = ()) -> int:
    """The recap, then the failures; the exit code."""
    failed = failures(outcomes)
    if not options.json:
        show_recap(options, outcomes, skipped)
        terminal.show_failures({name: one for name, one in failed.items() if not isinstance(one, NotBegunError)})
    return 1 if failed else 0


def show_recap(options: Options, outcomes: Mapping[str, Outcome], skipped: Iterable[str]) -> None:
    rows = [*(recap(outcome) for outcome in outcomes.values()), *(HostRecap(name, skipped=1) for name in skipped)]
    terminal.show_recap(rows, options.started)


def recap(outcome: Outcome) -> HostRecap:
    error = outcome.error
    unreachable = isinstance(error, UnreachableError)
    untouched = isinstance(error, NotBegunError)  # the roll ended before its turn
    return HostRecap(
        outcome.host,
        ok=outcome.kept + outcome.changed + (error is None),
        changed=outcome.changed,
        unreachable=int(unreachable),
        failed=int(error is not None and not unreachable and not untouched),
        skipped=int(untouched),
    )
