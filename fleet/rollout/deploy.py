"""A deploy: look at every host, plan, bring the images, replace the containers, look again. Each host ends by itself."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fleet.errors import HostError
from fleet.inventory.model import Host
from fleet.rollout.run import Outcome, Run, Say, going, note, site_of
from fleet.rollout.site import Site, look, visit
from fleet.serving.context import Context
from fleet.serving.execute import carry_out as carry_out_serving
from fleet.serving.execute import prove
from fleet.serving.steps import Change
from fleet.transport import fan_out

PUT_BACK = 150.0  # seconds: a stop with its grace, and the start of the old container


@dataclass(frozen=True)
class _Work:
    """One host whose containers are being changed."""

    context: Context
    done: threading.Event = field(default_factory=threading.Event)


def survey(run: Run, hosts: Sequence[Host], on_done: Callable[[str], None] = lambda _host: None) -> dict[str, Outcome]:
    """Look at every host and plan; nothing is changed."""
    found = fan_out(
        tuple(hosts),
        lambda host: visit(run.connector, host, run.wishes, run.clock),
        forks=run.forks,
        on_done=lambda host, _: on_done(host.name),
    )
    return {name: _outcome(name, result) for name, result in found.items()}


def serve(run: Run, outcomes: Mapping[str, Outcome]) -> None:
    """Carry out the containers' plans: first deploys side by side, hosts that serve already one at a time."""
    chosen = [one for one in going(outcomes) if site_of(one).plan.serving.changes]
    first = [site_of(one).host for one in chosen if not site_of(one).plan.replaces]
    later = [site_of(one).host for one in chosen if site_of(one).plan.replaces]

    begun: list[_Work] = []

    def change(host: Host) -> int:
        outcome = outcomes[host.name]
        site = site_of(outcome)
        work = _Work(site.context(run.root, run.say, run.seam))
        begun.append(work)
        try:
            outcome.proofs = carry_out_serving(site.plan.serving, work.context)
        except HostError:
            outcome.changed += _steps(work.context.finished)  # another service of this host, which stays
            raise
        finally:
            work.done.set()
        return _steps(work.context.finished)

    try:
        for hosts, forks in ((first, run.forks), (later, 1)):
            for name, result in fan_out(hosts, change, forks=forks).items():
                note(outcomes[name], result)
    except KeyboardInterrupt:
        _put_back(begun, run.say)
        raise


def answer(run: Run, outcomes: Mapping[str, Outcome]) -> None:
    """Ask the replicas that nothing was done to as well: running is not yet answering."""

    def ask(host: Host) -> None:
        outcome = outcomes[host.name]
        site = site_of(outcome)
        context = site.context(run.root, lambda _host, _line: None)
        for spec in site.prepared.desired.specs if site.prepared else ():
            if spec.name not in outcome.proofs:
                prove(spec.name, host.settings.services[spec.service], spec.port, context)
        outcome.proofs = {**context.proofs, **outcome.proofs}

    for name, result in fan_out([site_of(one).host for one in going(outcomes)], ask, forks=run.forks).items():
        if isinstance(result, HostError):
            outcomes[name].error = result


def confirm(run: Run, outcomes: Mapping[str, Outcome]) -> None:
    """Changed is said only where a fresh look finds nothing left to do."""

    def again(host: Host) -> None:
        site = look(site_of(outcomes[host.name]).session, run.wishes, run.clock)
        left = [line.what for line in site.plan.lines if line.changes]
        if left:
            raise HostError(
                host.name, f"after the run a fresh look still finds: {'; '.join(left)}", hint="run it again"
            )
        outcomes[host.name].site = site

    changed = [site_of(one).host for one in going(outcomes) if one.changed]
    for name, result in fan_out(changed, again, forks=run.forks).items():
        if isinstance(result, HostError):
            outcomes[name].error = result


def _put_back(begun: Sequence[_Work], say: Say) -> None:
    """After Ctrl-C: let every begun host put back what served before. A second Ctrl-C does not wait for it."""
    waiting = [work for work in begun if not work.done.is_set()]
    for work in waiting:
        work.context.cancelled.set()
        say(work.context.name, "interrupted: putting back what served before")
    for work in waiting:
        work.done.wait(PUT_BACK)


def _steps(changes: Sequence[Change]) -> int:
    return sum(len(change.steps) + len(change.commit) for change in changes)


def _outcome(name: str, result: Site | HostError) -> Outcome:
    if isinstance(result, HostError):
        return Outcome(name, error=result)
    kept = sum(not line.changes for line in result.plan.lines)
    if result.plan.ready:
        return Outcome(name, result, kept=kept)
    reasons = [*(f"{finding.id}: {finding.evidence}" for finding in result.plan.blocked), *result.plan.problems]
    hint = result.plan.blocked[0].fix if result.plan.blocked else ""
    error = HostError(name, f"is not fit, and was left alone: {'; '.join(reasons)}", hint=hint)
    return Outcome(name, result, kept=kept, error=error)
