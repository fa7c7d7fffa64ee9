"""Replacing the containers of hosts, side by side, as far as the services' availability allows."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fleet.awake import AWAKE
from fleet.errors import HostError
from fleet.inventory.model import Host
from fleet.rollout.audit import of_containers, of_replica
from fleet.rollout.availability import Budget, Counts, PutBackError, Standing
from fleet.rollout.claims import Claims
from fleet.rollout.reach import fresh, lost
from fleet.rollout.run import Outcome, Run, Say, going, note, site_of, unfit
from fleet.rollout.site import Site
from fleet.serving.context import Context
from fleet.serving.execute import carry_out
from fleet.serving.observe import running
from fleet.serving.steps import Change, Remember, Rename, Stop
from fleet.serving.verify import healthy
from fleet.transport import fan_out

PUT_BACK = 150.0  # seconds: a stop with its grace, and the start of the old container


@dataclass(frozen=True)
class _Work:
    """One host whose containers are being changed."""

    context: Context
    done: threading.Event = field(default_factory=threading.Event)


def cost(site: Site) -> Counts:
    """Replicas of each service that the host's plan takes away at the same time. Changes go one after the other.

    A NAME-new of an earlier run counts as well: it may be the one that serves.
    """
    found = {one.name: one for one in site.containers()}
    most: dict[str, int] = {}
    for change in site.plan.serving.changes:
        stopped = [found[step.name] for step in change.steps if isinstance(step, Stop) and step.name in found]
        here: dict[str, int] = {}
        for one in stopped:
            if one.owned and one.alive:
                here[one.service] = here.get(one.service, 0) + 1
        for service, count in here.items():
            most[service] = max(most.get(service, 0), count)
        for step in change.commit:  # what has its name now is stopped by it later
            if isinstance(step, Rename) and step.name in found:
                found[step.to] = found.pop(step.name)
    return most


def wanted(host: Host) -> Counts:
    return {name: service.replicas for name, service in host.settings.services.items()}


def pulse(site: Site) -> Counts:
    """How many replicas of each service answer /health on the host now; none where its engine does not answer.

    Raises HostError where the connection is gone: then nobody knows.
    """
    try:
        return _count(
            name for name, address, port in running(site.session, site.client) if _answers(site, address, port)
        )
    except HostError:
        if lost(site.session):
            raise
        return {}


def standing(outcome: Outcome, host: Host) -> Standing:
    """What the host should serve and does; unreachable counts as serving nothing."""
    site = outcome.site
    if site is None:
        return Standing(wanted(host), {})
    if site.prepared is None:  # only looked at
        return Standing(wanted(host), pulse(site))
    seen = site.containers()
    ours = (one for one in seen if one.owned and one.state == "running" and one.port)
    return Standing(wanted(host), _count(one.service for one in ours if _answers(site, one.address, one.port)))


def serve(
    run: Run,
    outcomes: Mapping[str, Outcome],
    budget: Budget,
    claims: Claims,
    on_failed: Callable[[Outcome], None] = lambda _outcome: None,
    on_deed: Callable[[Outcome], None] = lambda _outcome: None,
) -> None:
    """Carry out the containers' plans of these hosts. Every host waits until the budget lets it go.

    `on_failed` hears of each failed host at once, so that it can end the roll before the others begin; `on_deed` of each
    replica that has answered, while its change is not over yet. Any thread may call them.
    """
    chosen = [one for one in going(outcomes) if site_of(one).plan.serving.changes]
    begun: list[_Work] = []

    def change(host: Host) -> None:
        outcome = outcomes[host.name]
        try:
            note(outcome, _replace(run, outcome, budget, claims, begun, on_deed))
        except HostError as error:
            outcome.error = error
            on_failed(outcome)
            raise

    hosts = [site_of(one).host for one in sorted(chosen, key=lambda one: bool(cost(site_of(one))))]
    budget.expect(one.host for one in chosen if not cost(site_of(one)))
    try:
        for name, result in fan_out(hosts, change, forks=run.forks).items():
            if isinstance(result, HostError) and outcomes[name].error is None:
                note(outcomes[name], result)
                on_failed(outcomes[name])
    except KeyboardInterrupt:
        budget.end("interrupted")
        _put_back(begun, run.say)
        raise


def _replace(
    run: Run,
    outcome: Outcome,
    budget: Budget,
    claims: Claims,
    begun: list[_Work],
    on_deed: Callable[[Outcome], None],
) -> int:
    """One host: its turn, a fresh look (the plan may be hours old), the change, and what serves afterwards."""
    name = outcome.host
    taken = budget.begin(name, cost(site_of(outcome)))
    try:
        site = fresh(run, claims, outcome)
        if any(count > taken.get(service, 0) for service, count in cost(site).items()):
            budget.finish(name, pulse(site))  # more serves here than was known
            taken = budget.begin(name, cost(site))
        if not site.plan.ready:
            raise unfit(site)
        if not site.plan.serving.changes:
            return 0
        return _change(run, outcome, claims, begun, taken, on_deed)
    finally:
        budget.finish(name, _pulse_of(outcome) or {})


def _change(
    run: Run,
    outcome: Outcome,
    claims: Claims,
    begun: list[_Work],
    taken: Counts,
    on_deed: Callable[[Outcome], None],
) -> int:
    site = site_of(outcome)
    work = _Work(site.context(run.root, run.say, run.seam, claims.guard(site.session)))

    def remember(step: Remember) -> None:
        outcome.deeds.append(of_replica(step))
        on_deed(outcome)

    work.context.remember = remember
    begun.append(work)
    failed: HostError | None = None
    try:
        outcome.proofs = {**outcome.proofs, **carry_out(site.plan.serving, work.context)}
    except HostError as error:
        failed = error
        outcome.changed += _steps(work.context.finished)  # another service of this host, which stays
        now = _pulse_of(outcome)
        if now is None:
            outcome.unknown = tuple(taken)
        else:
            outcome.down = tuple(service for service, count in taken.items() if now.get(service, 0) < count)
        if work.context.cancelled.is_set() and not (work.context.finished or outcome.down or outcome.unknown):
            raise PutBackError(outcome.host, error.message) from error
        raise
    finally:
        outcome.findings += work.context.findings
        outcome.deeds += of_containers(site, len(work.context.finished), failed)
        work.done.set()
    return _steps(work.context.finished)


def _pulse_of(outcome: Outcome) -> Counts | None:
    """What answers on the host now, None where nobody can be asked."""
    try:
        return pulse(site_of(outcome))
    except HostError:
        return None


def _steps(changes: Iterable[Change]) -> int:
    return sum(len(change.steps) + len(change.commit) for change in changes)


def _answers(site: Site, its_address: str, its_port: int) -> bool:
    with site.session.forward_local(its_port, its_address) as (address, port):
        return healthy(address, port)


def _count(services: Iterable[str]) -> Counts:
    return Counter(services)


def _put_back(begun: Sequence[_Work], say: Say) -> None:
    """After Ctrl-C: let every begun host put back what served before. A second Ctrl-C does not wait for it."""
    waiting = [work for work in begun if not work.done.is_set()]
    for work in waiting:
        work.context.cancelled.set()
        say(work.context.name, "interrupted: putting back what served before")
    for work in waiting:
        until = time.monotonic() + PUT_BACK
        while not work.done.wait(AWAKE) and time.monotonic() < until:
            pass  # a second Ctrl-C is heeded between two waits
