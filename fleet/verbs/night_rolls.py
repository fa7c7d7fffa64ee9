"""The rolls of a night: its canaries, the rest of the fleet, who was left behind, and the way back."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fleet import playbook
from fleet.errors import FleetError, UnreachableError, UsageError
from fleet.inventory.model import Host
from fleet.journal import RunStory, latest
from fleet.nightly import plan
from fleet.nightly.nights import Book
from fleet.nightly.plan import Standing
from fleet.options import Options
from fleet.playbook import Playbook
from fleet.report import terminal
from fleet.report.hosts import fold
from fleet.rollout.goback import Back, pasts
from fleet.rollout.run import Outcome
from fleet.verbs.common import ROOT, connected
from fleet.verbs.night_logs import tail_of
from fleet.verbs.order import Order
from fleet.verbs.roll import roll
from fleet.verbs.rollback import STAGES
from fleet.verbs.services import measured

INTERRUPTED = 130  # what a roll ends with after Ctrl-C or SIGTERM
PLAYBOOK, CANARY = "nightly", "canary"  # the file, and its play for the hosts that go first; the others are for all


class FailedError(FleetError):
    """Hosts did not take the new release. `blame` are the content keys whose doing it is, as far as that can be told."""

    def __init__(self, message: str, *, blame: Collection[str] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.blame = tuple(blame)


def plays(*, canary: bool) -> Playbook:
    """The plays of `playbooks/nightly.yaml` for the canaries, or all the others. Raises UsageError where there are none."""
    whole = playbook.load(PLAYBOOK)
    chosen = tuple(play for play in whole.plays if (play.name == CANARY) == canary)
    if not chosen:
        wanted = f"play named {CANARY}" if canary else f"play beside {CANARY}"
        raise UsageError(f"{whole.path} has no {wanted}", hint="docs/nightly.md says what a night takes from it")
    return replace(whole, plays=chosen)


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
    good: Mapping[str, tuple[float, str]],
) -> None:
    """The canaries, measured before and after. Raises FailedError for one that is not well, that gives no figure under the
    load, or that became too slow, with both figures.

    `now` is what runs; a canary that an earlier night left on the new release has its figures in `carried`. `good` are those
    of the last good nights, with the night's id, where a replica gives none before.
    """
    settings = next(host.settings.nightly for host in hosts)
    only = replace(options, limit=",".join(canaries))
    standing: Standing = book.document["before"]
    old = [name for name in canaries if now.get(name) and now[name] == standing.get(name)]
    before = {str(key): float(value) for key, value in carried.items()}
    before |= _paces(_measured(only, old, settings.load))
    wanted = [one for host in hosts if host.name in canaries for one in _replicas(host)]
    source = {one: good[one][1] for one in wanted if one not in before and one in good}
    before |= {one: good[one][0] for one in source}
    book.put(pace=before, regression=settings.regression)
    story = _roll(only, Order("deploy", PLAYBOOK, plays=plays(canary=True), lock=str(book.lock), night=book.id), phase)
    away = [name for name in canaries if not _took_part(story, name)]
    bad = [name for name in _not_well(story) if name not in away]
    if bad:
        raise _failed(f"the canary failed: {_told(story, bad)}", story, bad, book)
    if len(away) == len(canaries):
        raise FailedError(f"no canary could be tried: {_told(story, away)}", hint=f"invoke runs.show {story.id}")
    after = _measured(only, [name for name in canaries if name not in away], settings.load)
    figures = _paces(after)
    known = {where(key): value for key, value in before.items()}
    found = plan.paces(known, {where(key): value for key, value in figures.items()})
    rows = [
        {**vars(one), "change": round(one.change, 1), "from": source.get(f"{one.host} {one.replica}", "")}
        for one in found
    ]
    first = [
        f"{one} gave no figure with an earlier release: {value:.1f} tokens/s now"
        for one, value in figures.items()
        if one not in before
    ]
    book.put(paces=rows, first_paces=first)
    silent = [one for one in wanted if where(one)[0] not in away and one not in figures]
    if silent:
        causes = {where(one)[0]: after[where(one)[0]].error if where(one)[0] in after else None for one in silent}
        told = "; ".join(f"{host}: {error.message if error else 'gave no answer'}" for host, error in causes.items())
        guilty = {
            host: f"{' '.join(one for one in silent if where(one)[0] == host)} {error.message if error else ''}"
            for host, error in causes.items()
            if not isinstance(error, UnreachableError)
        }
        raise FailedError(f"the canary gave no figure under the load: {told}", blame=_blamed(guilty, book))
    slow = plan.slow_ones(found, settings.regression)
    if slow:
        guilty = {
            host: " ".join(one.replica for one in slow if one.host == host) for host in {one.host for one in slow}
        }
        raise FailedError(f"the canary is {plan.too_slow(slow, settings.regression)}", blame=_blamed(guilty, book))


def promise(options: Options, hosts: Sequence[Host], book: Book, phase: dict[str, Any]) -> tuple[str, ...]:
    """The whole fleet; the hosts that are left behind, which could not be reached or are not fit. Raises FailedError."""
    limit = ",".join(host.name for host in hosts)
    order = Order("deploy", PLAYBOOK, plays=plays(canary=False), lock=str(book.lock), night=book.id)
    story = _roll(replace(options, limit=limit), order, phase)
    bad = _not_well(story)
    broken = [name for name in bad if story.hosts[name].begun]
    skipped = story.with_outcome("untouched")  # the roll was ended before them; one in quarantine has no outcome at all
    if broken or skipped:
        raise _failed(f"the rest of the fleet failed: {_told(story, bad)}", story, bad, book)
    return bad


def catch_up(options: Options, names: Sequence[str], lock: str, book: Book, phase: dict[str, Any]) -> tuple[str, ...]:
    """Hosts that were away when the last good release came get it now; those that still lack it."""
    order = Order("deploy", PLAYBOOK, plays=plays(canary=False), lock=lock, night=book.id)
    bad = _not_well(_roll(replace(options, limit=",".join(names)), order, phase))
    phase["ok"] = not bad
    return bad


def put_back(options: Options, hosts: Sequence[Host], book: Book, before: Standing, phase: dict[str, Any]) -> None:
    """What this night, or one that it continues, brought goes back to what ran before. What failed is said, stands in the
    report, and makes the phase a failed one; an interruption alone is raised.
    """
    left: list[str] = []
    others: tuple[str, ...] = ()
    brought = frozenset(book.document.get("brought") or ())
    try:
        now = standing_of(options, hosts)
        others = plan.strangers(before, now, brought)
        groups = plan.groups(before, now, brought)
        for (service, release), names in groups.items():
            order = Order("rollback", stages=STAGES, back=Back(release, frozenset({service})), night=book.id)
            if roll(replace(options, limit=",".join(names)), order) == INTERRUPTED:
                raise KeyboardInterrupt
        if groups:
            rest = plan.groups(before, standing_of(options, hosts), brought)
            left = [f"{service} of {fold(names)} is not back on {one}" for (service, one), names in rest.items()]
    except FleetError as error:
        left = [f"the way back failed: {error.message}"]
    except KeyboardInterrupt:
        book.put(not_back=["the way back was interrupted, and the next night goes on with it"], settled=False)
        raise
    for line in (*left, *others):
        terminal.event("nightly", line)
    phase["ok"] = not left
    book.put(not_back=left, strangers=list(others), settled=not left)


def where(key: str) -> tuple[str, str]:
    """Host and replica of `HOST REPLICA`."""
    host, _, replica = key.partition(" ")
    return host, replica


def _roll(options: Options, order: Order, phase: dict[str, Any]) -> RunStory:
    """What its journal tells. Raises KeyboardInterrupt where it was interrupted: no host has failed then, and no key is to blame."""
    if roll(options, order) == INTERRUPTED:
        raise KeyboardInterrupt
    story = latest(ROOT, lambda header: header.flags.get("night") == order.night)
    if story is None:
        raise FleetError("the night's roll left no journal")
    phase["run"] = story.id
    phase["hosts"] = {name: {"outcome": host.outcome, "message": host.message} for name, host in story.hosts.items()}
    return story


def _failed(message: str, story: RunStory, bad: Sequence[str], book: Book) -> FailedError:
    """With the last lines of what its containers said; to blame is only what had been begun."""
    broken = {name: story.hosts[name] for name in bad if story.hosts[name].begun}
    told = {
        name: " ".join((host.message, host.hint, *((host.broke.what, host.broke.error) if host.broke else ())))
        for name, host in broken.items()
    }
    logs = [one for text in told.values() if (one := tail_of(text))]
    book.put(logs=[*book.document.get("logs", []), *logs])
    return FailedError(message, blame=_blamed(told, book), hint=f"invoke runs.show {story.id}")


def _blamed(told: Mapping[str, str], book: Book) -> tuple[str, ...]:
    names = {str(one["key"]): str(one["release"]) for one in book.document.get("images", ())}
    return plan.to_blame(told, book.document.get("asked", {}), names, book.fresh)


def _told(story: RunStory, names: Sequence[str]) -> str:
    return "; ".join(f"{name}: {story.hosts[name].message or 'was left out'}" for name in names if name in story.hosts)


def _took_part(story: RunStory, name: str) -> bool:
    """One in quarantine that does not answer is left out of the roll, without an outcome."""
    return name in story.hosts and bool(story.hosts[name].outcome or story.hosts[name].begun)


def _not_well(story: RunStory) -> tuple[str, ...]:
    return tuple(name for name, host in story.hosts.items() if host.outcome not in ("ok", "changed", "skipped"))


def _replicas(host: Host) -> list[str]:
    services = host.settings.services.values()
    return [f"{host.name} {service.name}-{number}" for service in services for number in range(service.replicas)]


def _measured(options: Options, names: Sequence[str], load: float) -> dict[str, Outcome]:
    return measured(replace(options, limit=",".join(names)), load=load) if names else {}


def _paces(found: Mapping[str, Outcome]) -> dict[str, float]:
    """Tokens/s by `HOST REPLICA`, of those that answer."""
    return {
        f"{name} {replica}": proof.speed.total if proof.speed else proof.tokens_per_s
        for name, outcome in found.items()
        for replica, proof in outcome.proofs.items()
    }
