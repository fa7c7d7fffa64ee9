"""The end of a roll: each host's audit and the journal's word on it, and what a person reads, also of a plan."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime

from fleet import playbook
from fleet.errors import FleetError
from fleet.journal import Journal, outcome_of, read
from fleet.options import Options
from fleet.report import errors, outcomes, terminal, timeline
from fleet.report import plan as plan_report
from fleet.report import roll as report
from fleet.report import runs as history
from fleet.rollout import audit, leftout
from fleet.rollout.assign import Programme
from fleet.rollout.availability import NotBegunError
from fleet.rollout.leftout import Quarantined, QuarantinedError
from fleet.rollout.past import leave_served
from fleet.rollout.prepare import mendable
from fleet.rollout.run import Outcome, Run, failures, not_reached
from fleet.rollout.scene import Scene
from fleet.rollout.seen import remember
from fleet.rollout.stock import Stock
from fleet.verbs.common import ROOT, Narrator, show_recap
from fleet.verbs.common import close as close_hosts


class Teller:
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


def recorder(journal: Journal, run: Run) -> Callable[[Outcome], None]:
    """Write a host's deeds down there, since the last time. Where that fails the host is well all the same, and it is said."""

    def record(outcome: Outcome) -> None:
        forgotten = leave_served(outcome, run.wishes.releases.get(outcome.host, {}), journal)
        if forgotten:
            run.say(outcome.host, forgotten)
        missing = audit.write(outcome, journal, run.clock)
        if missing:
            run.say(outcome.host, missing)

    return record


def finisher(journal: Journal, run: Run, programme: Programme, through: Mapping[str, int]) -> Callable[[Outcome], None]:
    """After each play the host's audit; the journal's word on a host only after its last play, or --resume would
    take a host for done that has its image and not yet its service. `through` counts the plays that a host has behind it.
    """
    plays = Counter(name for one in programme.assignments for name in one.hosts)
    record = recorder(journal, run)

    def done(outcome: Outcome) -> None:
        record(outcome)
        if outcome.error is not None or through[outcome.host] >= plays[outcome.host]:
            say_done(journal, outcome)

    return done


def word_of(outcome: Outcome) -> str:
    """One of the journal's OUTCOMES."""
    if outcome.down:
        return "down"
    if isinstance(outcome.error, QuarantinedError):
        return "quarantined"
    return "untouched" if isinstance(outcome.error, NotBegunError) else outcome_of(outcome.error, outcome.changed)


def say_done(journal: Journal, outcome: Outcome) -> None:
    error = outcome.error
    journal.host_done(
        outcome.host, word_of(outcome), message=error.message if error else "", hint=error.hint if error else ""
    )


def close_roll(
    options: Options,
    journal: Journal,
    scene: Scene,
    left: Mapping[str, Outcome],
    skipped: list[str],
    ended: str,
    *,
    interrupted: bool = False,
) -> int:
    """Quarantine, the journal's end, and what a person reads. `left` are hosts that are in quarantine."""
    known = leftout.read_quarantine(ROOT)
    today = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    found = {**scene.found, **left}
    for name, outcome in found.items():
        if not_reached(outcome) and outcome.error is not None:
            known.setdefault(name, Quarantined(name, outcome.error.message, today, journal.id))
        elif outcome.site is not None:
            known.pop(name, None)
        done = outcome.error is not None or not interrupted  # else the run was cut off behind its container
        if done and journal.outcome(name) != word_of(outcome):
            say_done(journal, outcome)
    forgotten = ""
    try:
        leftout.write_quarantine(ROOT, known)
    except FleetError as error:  # a full disk: what follows is what somebody has to read
        forgotten = error.message
    # A night's rolls prove the new release; what its hosts run it on, nobody has looked at.
    answered = (
        []
        if "night" in journal.header.flags
        else [name for name, one in found.items() if one.error is None and one.proofs]
    )
    remember(ROOT, found.values(), time.time(), accept=answered)
    code = 130 if interrupted else 1 if failures(found) else 0
    document = {
        "ended": "interrupted" if interrupted else ended,
        "serves": {name: [one.count, one.total] for name, one in scene.serves.items()},
        "unknown": {name: list(one.unknown) for name, one in scene.serves.items() if one.unknown},
        **outcomes.document(found, scene.stock),
    }
    journal.finish(code, document)
    go_on = _go_on(journal)
    if options.json:
        terminal.show_json({"run": journal.id, **document})
    else:
        outcomes.show_stock(scene.stock)
        outcomes.show_warnings(found)
        outcomes.show_proofs(found)
        show_recap(options, found, skipped)
        report.show_end(found, ended, scene.serves)
    if journal.broken:
        terminal.event("journal", f"is not complete: {journal.broken}")
    if forgotten:
        terminal.event("quarantine", f"is not as this run found it: {forgotten}")
    if interrupted:
        errors.interrupted()
    if code and not options.json:
        report.show_next(go_on)
    return code


def _go_on(journal: Journal) -> tuple[str, ...]:
    """Draw the run's timeline; what to type next, in the words of runs.show."""
    try:
        story = read(ROOT, journal.id)
    except (FleetError, OSError):  # a journal that could not be written is told on its own
        return ()
    with suppress(FleetError, OSError):  # a full disk: what to type is needed all the same
        timeline.write(story)
    return history.next_commands(story)


def show_plan(options: Options, found: dict[str, Outcome], stock: Stock, skipped: list[str]) -> int:
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
    return close_hosts(options, found, skipped)
