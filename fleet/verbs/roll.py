"""`deploy`, `plan`, `play`, `sideload`, `serve`: a playbook over an inventory, from looking to a run's last word."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from fleet import playbook
from fleet.cli import Options
from fleet.errors import FleetError, HostError, UsageError
from fleet.inventory import load, select
from fleet.inventory.model import Inventory
from fleet.journal import (
    Journal,
    RunHeader,
    RunStory,
    latest,
    only_failed,
    outcome_of,
    read,
    redactor_for,
    remaining,
    unfinished_chain,
)
from fleet.locks import Owner
from fleet.report import errors, outcomes, terminal, timeline
from fleet.report import plan as plan_report
from fleet.report import roll as report
from fleet.report import runs as history
from fleet.report.hosts import fold
from fleet.rollout import audit, leftout
from fleet.rollout.assign import IMAGES, Programme, assign, peers, without
from fleet.rollout.availability import NotBegunError
from fleet.rollout.claims import Claimed, Claims
from fleet.rollout.goback import Back, arrange
from fleet.rollout.leftout import Quarantined
from fleet.rollout.looks import survey
from fleet.rollout.past import leave_served
from fleet.rollout.prepare import mendable
from fleet.rollout.releases import Stock, certificates, obtain
from fleet.rollout.roll import Scene, conduct
from fleet.rollout.run import Outcome, Run, failures, never_reached
from fleet.rollout.site import Wishes
from fleet.transport import Connector
from fleet.verbs import secrets
from fleet.verbs.common import ROOT, Narrator, close, connected, inventory_and_hosts, narrator


@dataclass(frozen=True)
class Order:
    """What a verb asks for. `stages` keeps only these of the playbook; `resume` is a run's id, `last`, or empty.

    `back` takes the releases from the hosts' own past instead of making them by the inventory.
    """

    verb: str = "deploy"
    playbook: str = "deploy"
    stages: frozenset[str] = frozenset()
    sideload: bool = False  # over SSH whatever the inventory says
    prune: bool = False
    take_over: frozenset[str] = frozenset()
    lock_wait: float = 0.0  # seconds
    include_quarantined: bool = False
    resume: str = ""
    only_failed: bool = False
    list_stages: bool = False
    list_hosts: bool = False
    back: Back | None = None


def roll(options: Options, order: Order) -> int:
    """The whole way, or a part of it. With `check` it is the same way stopped before the effects."""
    plays = playbook.load(order.playbook)
    options, order, continues = _again(options, order)
    inventory, chosen = inventory_and_hosts(options)
    programme = assign(plays, inventory, chosen, stages=order.stages)
    if order.sideload:
        moved = (replace(host, settings=replace(host.settings, delivery="sideload")) for host in programme.hosts)
        programme = replace(programme, hosts=tuple(moved))
    programme = replace(
        programme, prune=programme.prune or order.prune, take_over=programme.take_over | order.take_over
    )
    if order.list_stages or order.list_hosts:
        report.show_programme(programme, stages=order.list_stages, hosts=order.list_hosts)
        return 0
    taking = {host.name for host in programme.hosts}
    skipped = [host.name for host in chosen if host.name not in taking]
    secrets.require(programme.hosts, services=bool({"serve", "verify"} & programme.stages))
    with ExitStack() as stack:
        journal = None if options.check else stack.enter_context(_journal(options, order, programme, continues))
        say = _Teller(narrator(options), journal)
        connector = stack.enter_context(connected(options))
        return _run(options, order, inventory, programme, connector, journal, say, skipped)


def _run(
    options: Options,
    order: Order,
    inventory: Inventory,
    programme: Programme,
    connector: Connector,
    journal: Journal | None,
    say: "_Teller",
    skipped: list[str],
) -> int:
    refused: Mapping[str, str] = {}
    if order.back is None:
        stock = _stock(inventory, programme, connector, say, dry=options.check)
    else:
        everybody = tuple(inventory.hosts.values())
        road = arrange(order.back, programme.hosts, everybody, connector, ROOT, forks=options.forks, say=say.line)
        programme, stock, refused = replace(programme, hosts=road.hosts), road.stock, road.refused
    wishes = Wishes(
        stock.releases,
        certificates({host.name: host for host in programme.hosts}) if "distribute" in programme.stages else {},
        origins=stock.origins,
        prune=programme.prune,
        take_over=programme.take_over,
        serve="serve" in programme.stages or "verify" in programme.stages,
        tuning=programme.tuning,
        partial=order.back is not None,
        refused=refused,
    )
    run = Run(connector, wishes, ROOT, options.forks, say.host, moving=say.moving)
    with terminal.counting("looking", len(programme.hosts)) as done:
        found = survey(run, programme.hosts, done)
    programme, gone = _quarantine(order, programme, found)
    skipped += gone
    if "distribute" not in programme.stages and "serve" in programme.stages:
        _refuse_missing_images(found)
    if options.check or journal is None:
        return _show_plan(options, found, stock, skipped)
    journal.plan({name: plan_report.document(one.site.plan) for name, one in found.items() if one.site})
    outside = survey(replace(run, wishes=Wishes(reveal=False)), peers(programme, inventory))
    with Claims(Owner.here(journal.id)) as claims:
        run = replace(run, seam=Claimed(journal, claims))
        _claim(run, claims, found, wait=order.lock_wait)
        hosts = {host.name: host for host in (*programme.hosts, *peers(programme, inventory))}
        finish = _finisher(journal, run, programme)
        scene = Scene(run, found, outside, hosts, stock, claims, on_batch=say.batch, on_done=finish)
        ended = conduct(scene, programme.assignments)
    code = _close(options, journal, found, stock, skipped, ended, scene.serves)
    if order.back is not None and not options.json:
        report.show_gone_back(found)
    return code


def _again(options: Options, order: Order) -> tuple[Options, Order, str]:
    """--resume and --only-failed: which hosts of which earlier run, as a limit, and that run's flags unless given again.

    --resume takes the hosts that the run (and those it continues) was not through with; --only-failed the failed ones
    too. Raises UsageError when none is left.
    """
    if not order.resume and not order.only_failed:
        return options, order, ""
    story = _earlier(order)
    flags = story.header.flags
    pick = only_failed if order.only_failed else (lambda one: remaining(one).hosts)
    left = set(unfinished_chain(ROOT, story, pick))
    options = replace(options, inventory=options.inventory or story.header.inventory)
    inventory = load(options.inventory)
    for name in sorted(left - set(inventory.hosts)):
        terminal.event(name, "left out: it is not in the inventory any more")
    names = [host.name for host in select(inventory, options.limit) if host.name in left]
    if not names:
        raise UsageError(f"run {story.id} left no host to go on with", hint=f"invoke runs.show {story.id}")
    terminal.event("fleet", f"goes on from run {story.id} with {fold(names)}")
    order = replace(
        order,
        stages=order.stages or frozenset(flags.get("stages", ())),
        prune=order.prune or flags.get("prune") is True,
        take_over=order.take_over or frozenset(flags.get("take_over", ())),
        include_quarantined=order.include_quarantined or flags.get("include_quarantined") is True,
    )
    return replace(options, limit=",".join(names)), order, story.id


def _earlier(order: Order) -> RunStory:
    """The run to go on from: the named one, else the last of this verb and playbook. Raises UsageError."""

    def alike(header: RunHeader) -> bool:
        return header.verb == order.verb and header.flags.get("playbook", order.playbook) == order.playbook

    if order.resume and order.resume != "last":
        story: RunStory | None = read(ROOT, order.resume)
    else:
        story = latest(ROOT, alike)
    said = f"{order.verb} {order.playbook}" if order.verb == "play" else order.verb
    if story is None:
        raise UsageError(f"there is no earlier run of {said} to go on from", hint="invoke runs lists all")
    if not alike(story.header):
        raise UsageError(f"run {story.id} was no run of {said}", hint=f"invoke runs.show {story.id} says how to go on")
    if story.state == "running":
        raise UsageError(f"run {story.id} is still running", hint=f"invoke runs.show {story.id}")
    return story


def _journal(options: Options, order: Order, programme: Programme, continues: str) -> Journal:
    flags = {
        "playbook": order.playbook,
        "stages": sorted(order.stages),
        "prune": order.prune,
        "take_over": sorted(order.take_over),
        "include_quarantined": order.include_quarantined,
    }
    header = RunHeader(
        order.verb,
        tuple(sys.argv[1:]),
        tuple(host.name for host in programme.hosts),
        options.inventory,
        options.limit,
        flags,
        continues,
    )
    return Journal.open(ROOT, header, redact=redactor_for(programme.hosts))


def _stock(inventory: Inventory, programme: Programme, connector: Connector, say: "_Teller", *, dry: bool) -> Stock:
    """The releases, made where the stage `image` says so and found otherwise."""
    hosts = [host for host in programme.hosts if host.settings.services]
    if not hosts or not programme.stages & IMAGES:
        return Stock.empty()
    update = any(getattr(stage, "update", False) for one in programme.assignments for stage in one.play.stages)
    dry = dry or "image" not in programme.stages
    return obtain(inventory, hosts, connector, ROOT, say=say.line, update=update, dry=dry, moving=say.moving)


def _quarantine(order: Order, programme: Programme, found: dict[str, Outcome]) -> tuple[Programme, list[str]]:
    """Hosts that an earlier run could not reach and that do not answer now either are left out, with the reason."""
    known = leftout.read_quarantine(ROOT)
    silent = [
        name
        for name, outcome in found.items()
        if name in known and never_reached(outcome) and not order.include_quarantined
    ]
    for name in known.keys() & found.keys():
        if name in silent:
            terminal.event(name, f"left out: {known[name]}; --include-quarantined takes it in")
        elif not never_reached(found[name]):
            terminal.event(name, "was in quarantine, answers again and takes part")
    for name in silent:
        del found[name]
    return without(programme, silent), silent


def _claim(run: Run, claims: Claims, found: dict[str, Outcome], *, wait: float) -> None:
    """Take the locks of all hosts with something to do, before the first of them is touched."""
    wanted = {
        name: outcome.site.session
        for name, outcome in found.items()
        if outcome.site is not None and (outcome.error is None or outcome.site.plan.fixes) and outcome.site.plan.changed
    }
    for name, error in claims.take(wanted, forks=run.forks, wait=wait, say=run.say).items():
        found[name].error = error


def _refuse_missing_images(found: dict[str, Outcome]) -> None:
    for outcome in found.values():
        if outcome.error is None and outcome.site and any(step.changes for step in outcome.site.plan.images):
            outcome.error = HostError(outcome.host, "the image is not on the host", hint="invoke deploy brings it")


def _finisher(journal: Journal, run: Run, programme: Programme) -> Callable[[Outcome], None]:
    """After each play the host's audit; the journal's word on a host only after its last play, or --resume would
    take a host for done that has its image and not yet its service.
    """
    plays = Counter(name for one in programme.assignments for name in one.hosts)

    def done(outcome: Outcome) -> None:
        forgotten = leave_served(outcome, run.wishes.releases.get(outcome.host, {}))
        if forgotten:
            run.say(outcome.host, forgotten)
        missing = audit.write(outcome, journal.id, journal.header.verb, run.clock, journal.redact)
        if missing:
            run.say(outcome.host, missing)
        plays[outcome.host] -= 1
        if outcome.error is not None or plays[outcome.host] <= 0:
            say_done(journal, outcome)

    return done


def word_of(outcome: Outcome) -> str:
    """One of the journal's OUTCOMES."""
    if outcome.down:
        return "down"
    return "untouched" if isinstance(outcome.error, NotBegunError) else outcome_of(outcome.error, outcome.changed)


def say_done(journal: Journal, outcome: Outcome) -> None:
    error = outcome.error
    journal.host_done(
        outcome.host, word_of(outcome), message=error.message if error else "", hint=error.hint if error else ""
    )


def _close(
    options: Options,
    journal: Journal,
    found: dict[str, Outcome],
    stock: Stock,
    skipped: list[str],
    ended: str,
    serves: Mapping[str, tuple[int, int]],
) -> int:
    """Quarantine, the journal's end, and what a person reads."""
    known = leftout.read_quarantine(ROOT)
    today = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    for name, outcome in found.items():
        if never_reached(outcome) and outcome.error is not None:
            known[name] = Quarantined(name, outcome.error.message, today, journal.id)
        elif outcome.site is not None:
            known.pop(name, None)
        if journal.outcome(name) != word_of(outcome):
            say_done(journal, outcome)
    leftout.write_quarantine(ROOT, known)
    code = 1 if failures(found) else 0
    document = {"ended": ended, "serves": dict(serves), **outcomes.document(found, stock)}
    journal.finish(code, document)
    go_on = _go_on(journal)
    if options.json:
        terminal.show_json({"run": journal.id, **document})
    else:
        outcomes.show_stock(stock)
        outcomes.show_warnings(found)
        outcomes.show_proofs(found)
        report.show_end(found, ended, serves)
    if journal.broken:
        terminal.event("journal", f"is not complete: {journal.broken}")
    code = close(options, found, skipped)
    if code and not options.json:
        report.show_next(go_on)
    return code


def _go_on(journal: Journal) -> tuple[str, ...]:
    """Draw the run's timeline; what to type next, in the words of runs.show."""
    try:
        story = read(ROOT, journal.id)
        timeline.write(story)
        return history.next_commands(story)
    except (FleetError, OSError):  # a journal that could not be written is told on its own
        return ()


def _show_plan(options: Options, found: dict[str, Outcome], stock: Stock, skipped: list[str]) -> int:
    plans = {name: outcome.site.plan for name, outcome in found.items() if outcome.site is not None}
    for outcome in found.values():
        if mendable(outcome):  # whether the fixes suffice is seen after them
            outcome.error = None
    failed = failures(found)
    if options.json:
        hosts = {name: plan_report.document(plan) for name, plan in plans.items()}
        terminal.show_json(
            {
                "images": outcomes.stock_document(stock),
                "hosts": hosts,
                "warnings": outcomes.warnings_document(found),
                "failed": errors.document(failed),
            }
        )
        return 1 if failed else 0
    outcomes.show_stock(stock)
    plan_report.show(terminal.out(), plans.values(), verbose=options.verbose, diff=options.diff)
    outcomes.show_warnings(found)
    for outcome in found.values():
        outcome.changed = outcome.site.plan.changed if outcome.site and outcome.error is None else 0
    return close(options, found, skipped)


class _Teller:
    """Tells the terminal and the journal."""

    def __init__(self, narrator: Narrator, journal: Journal | None) -> None:
        self._narrator, self._journal = narrator, journal
        self.moving = narrator.moving

    def host(self, host: str, line: str) -> None:
        self._narrator.host(host or "fleet", line)
        if self._journal is not None:
            self._journal.event(host, line)

    def line(self, line: str) -> None:
        self._narrator.line(line)
        if self._journal is not None:
            self._journal.event("", line)

    def batch(self, batch: playbook.Batch, title: str) -> None:
        if self._journal is not None:
            self._journal.batch(batch.number, batch.hosts, title)
        self._narrator.host(title, ", ".join(batch.hosts))
