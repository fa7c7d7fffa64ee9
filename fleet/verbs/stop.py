"""`stop`: containers of services are stopped gracefully and stay, under the host's lock, with a journal and an audit."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from fleet import calendar
from fleet.errors import HostError
from fleet.inventory.model import Host
from fleet.journal import Journal, RunHeader, redactor_for
from fleet.journal.audit import AuditEntry
from fleet.locks import Owner
from fleet.options import Options
from fleet.report import outcomes, terminal
from fleet.rollout import audit
from fleet.rollout.claims import Claimed, Claims
from fleet.rollout.looks import survey
from fleet.rollout.reach import look_anew
from fleet.rollout.run import Outcome, Run, failures, note, site_of
from fleet.rollout.site import Wishes
from fleet.rollout.stock import Stock
from fleet.serving.draining import Drains
from fleet.serving.execute import carry_out
from fleet.serving.plan import plan_stop
from fleet.serving.spec import LABEL
from fleet.serving.steps import ServingPlan
from fleet.transport import fan_out
from fleet.verbs.closing import Teller, say_done
from fleet.verbs.common import ROOT, close, connected, inventory_and_hosts, narrator, serving, some


def stop(options: Options, services: Sequence[str], *, lock_wait: float = 0.0) -> int:
    """They stay, and the next deploy starts them again. With `check` it only says what it would do."""
    _, chosen = inventory_and_hosts(options)
    hosts = some(serving(chosen))
    skipped = [host.name for host in chosen if not host.settings.services]
    with ExitStack() as stack:
        journal = None if options.check else stack.enter_context(_journal(options, hosts, services))
        say = Teller(narrator(options), journal)
        connector = stack.enter_context(connected(options))
        run = Run(connector, Wishes(reveal=False), ROOT, options.forks, say.host, calendar.now)
        found = survey(run, hosts)
        plans = _plans(run, hosts, found, frozenset(services))
        if journal is None:
            for name, plan in plans.items():
                for step in (step for change in plan.changes for step in change.steps):
                    say.host(name, f"would {step.what}")
                found[name].changed = len(plan.changes)
        else:
            _carry_out(run, found, plans, frozenset(services), journal, lock_wait=lock_wait)
            for outcome in found.values():
                say_done(journal, outcome)
            journal.finish(1 if failures(found) else 0, outcomes.document(found, Stock.empty()))
    if options.json:
        terminal.show_json({"run": journal.id if journal else "", **outcomes.document(found, Stock.empty())})
    else:
        outcomes.show_findings(found)
    return close(options, found, skipped)


def _plans(
    run: Run, hosts: Sequence[Host], found: dict[str, Outcome], services: frozenset[str]
) -> dict[str, ServingPlan]:
    """What is to be stopped, by host. What keeps a new container out does not keep us from the one that runs."""

    def plan(host: Host) -> ServingPlan:
        return plan_stop(site_of(found[host.name]).containers(), services, Drains.of_settings(host.settings))

    reached = [host for host in hosts if found[host.name].site is not None]
    plans: dict[str, ServingPlan] = {}
    for name, result in fan_out(reached, plan, forks=run.forks).items():
        outcome = found[name]
        if isinstance(result, HostError):
            outcome.error = result
        else:
            outcome.error, outcome.kept, plans[name] = None, len(result.kept), result
    return plans


def _carry_out(
    run: Run,
    found: dict[str, Outcome],
    plans: dict[str, ServingPlan],
    services: frozenset[str],
    journal: Journal,
    *,
    lock_wait: float,
) -> None:
    todo = {name: site_of(found[name]).session for name, plan in plans.items() if plan.changes}
    with Claims(Owner.here(journal.id)) as claims:
        run = replace(run, seam=Claimed(journal, claims))
        for name, error in claims.take(todo, forks=run.forks, wait=lock_wait, say=run.say).items():
            found[name].error = error
        if claims.waited:
            had = {name: found[name] for name in todo if found[name].error is None}
            look_anew(run, claims, had)
            found |= had
            plans |= _plans(run, [site_of(one).host for one in had.values()], found, services)

        def work(host: Host) -> int:
            outcome, plan = found[host.name], plans[host.name]
            site = site_of(outcome)
            context = site.context(run.root, run.say, run.seam, claims.guard(site.session))
            failed: HostError | None = None
            try:
                carry_out(plan, context)
            except HostError as error:
                failed = error
                raise
            finally:
                outcome.findings += context.findings
                outcome.deeds += _deeds(outcome, plan, len(context.finished), failed)
                missing = audit.write(outcome, journal, run.clock)
                if missing:
                    run.say(host.name, missing)
            return len(plan.changes)

        chosen = [site_of(found[name]).host for name in todo if found[name].error is None and plans[name].changes]
        for name, result in fan_out(chosen, work, forks=run.forks).items():
            note(found[name], result)


def _deeds(outcome: Outcome, plan: ServingPlan, finished: int, error: HostError | None) -> list[AuditEntry]:
    """One entry for each container that was to be stopped and was begun."""
    containers = {one.name: one for one in site_of(outcome).containers()}
    entries = []
    for number, change in enumerate(plan.changes[: finished + (error is not None)]):
        one = containers.get(change.name)
        said = error.message if error is not None and number == finished else change.why
        entries.append(
            AuditEntry(
                "",
                "",
                "stop",
                "done" if number < finished else "failed",
                service=one.service if one else "",
                replica=change.name,
                release=one.labels.get(f"{LABEL}release", "") if one else "",
                message=said,
            )
        )
    return entries


def _journal(options: Options, hosts: Sequence[Host], services: Sequence[str]) -> Journal:
    names = tuple(host.name for host in hosts)
    flags = {"services": list(services)}
    header = RunHeader("stop", tuple(sys.argv[1:]), names, options.inventory, options.limit, flags, "")
    return Journal.open(ROOT, header, redact=redactor_for(hosts), clock=calendar.now)
