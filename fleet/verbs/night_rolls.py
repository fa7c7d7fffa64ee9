"""The rolls of a night: its canaries, the rest of the fleet, and the way back."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fleet.cli import Options
from fleet.errors import FleetError
from fleet.inventory.model import Host
from fleet.journal import RunStory, latest
from fleet.nightly import plan
from fleet.nightly.nights import Book
from fleet.nightly.plan import Standing
from fleet.report import terminal
from fleet.report.hosts import fold
from fleet.rollout.goback import Back, pasts
from fleet.verbs.common import ROOT, connected
from fleet.verbs.order import Order
from fleet.verbs.roll import roll
from fleet.verbs.rollback import STAGES
from fleet.verbs.services import measured


class FailedError(FleetError):
    """Hosts did not take the new release. `blame`: it is the release's doing, as far as that can be told."""

    def __init__(self, message: str, *, blame: bool, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.blame = blame


def standing_of(options: Options, hosts: Sequence[Host]) -> dict[str, dict[str, str]]:
    """What runs: host -> service -> release id, of the hosts that answer."""
    with connected(options) as connector:
        found, failed = pasts(hosts, connector, ROOT, forks=options.forks)
    terminal.show_failures(failed)
    return {
        host.name: {
            service: min(running)
            for service in host.settings.services
            if (running := found[host.name].running(service))
        }
        for host in hosts
        if host.name in found
    }


def tried(
    options: Options,
    hosts: Sequence[Host],
    canaries: Sequence[str],
    book: Book,
    phase: dict[str, Any],
    now: Standing,
    carried: Mapping[str, Any],
) -> None:
    """The canaries, measured before and after. Raises FailedError with both figures for one that became too slow.

    `now` is what runs; a canary that an earlier night left on the new release has its figures in `carried`.
    """
    settings = next(host.settings.nightly for host in hosts)
    only = replace(options, limit=",".join(canaries))
    standing: Standing = book.document["before"]
    old = [name for name in canaries if now.get(name) and now[name] == standing.get(name)]
    before = {f"{host} {replica}": pace for (host, replica), pace in _paces(only, old, settings.load).items()}
    before = {**{str(key): float(value) for key, value in carried.items()}, **before}
    book.put(pace=before)
    story = _roll(only, book, phase)
    bad = _not_well(story)
    if bad:
        told = "; ".join(f"{name}: {story.hosts[name].message or 'was left out'}" for name in bad)
        blame = any(story.hosts[name].begun for name in bad)
        raise FailedError(f"the canary failed: {told}", blame=blame, hint=f"invoke runs.show {story.id}")
    known = {(host, replica): value for key, value in before.items() for host, _, replica in [key.partition(" ")]}
    found = plan.paces(known, _paces(only, canaries, settings.load))
    book.put(paces=[{**vars(one), "change": round(one.change, 1)} for one in found])
    slow = plan.too_slow(found, settings.regression)
    if slow:
        raise FailedError(f"the canary is {slow}", blame=True)


def promise(options: Options, hosts: Sequence[Host], book: Book, phase: dict[str, Any]) -> tuple[str, ...]:
    """The whole fleet; the hosts that are left behind, which could not be reached or are not fit. Raises FailedError."""
    story = _roll(replace(options, limit=",".join(host.name for host in hosts)), book, phase)
    bad = _not_well(story)
    broken = [name for name in bad if story.hosts[name].begun]
    skipped = story.with_outcome("untouched")  # the roll was ended before them; one in quarantine has no outcome at all
    if broken or skipped:
        told = "; ".join(f"{name}: {story.hosts[name].message or 'was not begun'}" for name in bad)
        hint = f"invoke runs.show {story.id}"
        raise FailedError(f"the rest of the fleet failed: {told}", blame=bool(broken), hint=hint)
    return bad


def put_back(options: Options, hosts: Sequence[Host], book: Book, before: Standing) -> None:
    """Every host back to what ran when the night began. Nothing is raised: what failed is said, and stands in the report."""
    left: list[str] = []
    try:
        groups = plan.groups(before, standing_of(options, hosts))
        for (service, release), names in groups.items():
            order = Order("rollback", stages=STAGES, back=Back(release, frozenset({service})), night=book.id)
            roll(replace(options, limit=",".join(names)), order)
        if groups:
            rest = plan.groups(before, standing_of(options, hosts))
            left = [f"{service} of {fold(names)} is not back on {one}" for (service, one), names in rest.items()]
    except FleetError as error:
        left = [f"the way back failed: {error.message}"]
    for line in left:
        terminal.event("nightly", line)
    book.put(not_back=left, settled=not left)


def _roll(options: Options, book: Book, phase: dict[str, Any]) -> RunStory:
    """A deploy with the night's own lock, and what its journal tells."""
    roll(options, Order("deploy", lock=str(book.lock), night=book.id))
    story = latest(ROOT, lambda header: header.flags.get("night") == book.id)
    if story is None:
        raise FleetError("the night's roll left no journal")
    phase["run"] = story.id
    phase["hosts"] = {name: {"outcome": host.outcome, "message": host.message} for name, host in story.hosts.items()}
    return story


def _not_well(story: RunStory) -> tuple[str, ...]:
    return tuple(name for name, host in story.hosts.items() if host.outcome not in ("ok", "changed", "skipped"))


def _paces(options: Options, names: Sequence[str], load: float) -> dict[tuple[str, str], float]:
    """Tokens/s by host and replica, of those that answer."""
    if not names:
        return {}
    found = measured(replace(options, limit=",".join(names)), load=load)
    return {
        (name, replica): proof.speed.total if proof.speed else proof.tokens_per_s
        for name, outcome in found.items()
        for replica, proof in outcome.proofs.items()
    }
