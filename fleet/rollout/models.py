"""The stage models over hosts: weights side by side, then a fresh look, because what serves depends on what lies there."""

import threading
from collections.abc import Iterable, Mapping

from fleet.delivery.throttle import Throttle, least
from fleet.errors import HostError
from fleet.inventory.model import Host
from fleet.journal.audit import AuditEntry
from fleet.models.execute import Work
from fleet.models.plan import Step
from fleet.models.starting import Starts
from fleet.rollout.claims import Claims
from fleet.rollout.distribute import Roads
from fleet.rollout.modelrelays import Weights
from fleet.rollout.modelrelays import bring as bring_to
from fleet.rollout.relaycircle import Standing
from fleet.rollout.relaying import Relays
from fleet.rollout.run import Outcome, Run, going, note, site_of, unfit
from fleet.rollout.site import look
from fleet.rollout.stock import Stock
from fleet.transport import fan_out


def bring_models(
    run: Run,
    outcomes: Mapping[str, Outcome],
    stock: Stock,
    claims: Claims,
    everybody: Mapping[str, Outcome],
    relaying: Standing,
    *,
    wait: float,
) -> None:
    """Bring what each host lacks. `wait` is in seconds, for services that are starting from a model.

    A host whose connection breaks is connected and claimed anew. One that is not fit with its models there has failed.
    Any of `everybody` may be a relay, and `relaying` goes on.
    """
    chosen = [one for one in going(outcomes) if any(step.changes for step in site_of(one).plan.models)]
    throttle = Throttle(least(site_of(one).host.settings.sideload.limit for one in chosen))
    roads = Roads(run, stock, claims, {}, throttle, threading.Lock())

    def bring(host: Host) -> int:
        outcome = outcomes[host.name]
        site = site_of(outcome)
        claims.guard(site.session).check()

        def settled(name: str) -> None:
            now = site_of(outcome)  # a broken connection may have been renewed
            Starts(now.session, now.client, wait, lambda line: run.say(host.name, line)).settle(name)

        work = Work(site.host.settings.models_dir, site.weighed.sources, settled=settled)
        for step in site.plan.models:
            if step.changes and not step.size:  # what has a size is told as its bytes move
                run.say(host.name, step.what)
        changed = bring_to(outcome, work, relays, roads.to)
        outcome.site = relaying.own(look(site_of(outcome).session, run.wishes, run.clock))
        if not outcome.site.plan.ready:
            outcome.error = unfit(outcome.site)
        return changed

    before = {one.host: site_of(one).plan.models for one in chosen}
    needy = [one.host for one in chosen]
    relays = Relays(run, everybody, needy, claims, roads.to, Weights(everybody), relaying)
    hosts = [site_of(outcomes[name]).host for name in relays.first(needy)]
    for name, result in fan_out(hosts, bring, forks=run.forks).items():
        outcomes[name].deeds += _deeds(before[name], result)
        note(outcomes[name], result)
    _look_again([everybody[name] for name in relaying.served if everybody[name].error is None], run, relaying)


def _look_again(served: Iterable[Outcome], run: Run, relaying: Standing) -> None:
    """A relay has now the registry's image, which its plan for the images does not know yet."""
    by_name = {one.host: one for one in served}

    def renew(host: Host) -> int:
        outcome = by_name[host.name]
        outcome.site = relaying.own(look(site_of(outcome).session, run.wishes, run.clock))
        return 0

    for name, result in fan_out([site_of(one).host for one in by_name.values()], renew, forks=run.forks).items():
        note(by_name[name], result)


def _deeds(steps: Iterable[Step], result: int | HostError) -> list[AuditEntry]:
    """For the host's audit: a line for each step that changed something; a failure is one line."""
    if isinstance(result, HostError):
        return [AuditEntry("", "", "models", "failed", message=result.message)]
    return [AuditEntry("", "", "models", "done", message=step.what) for step in steps if step.changes]
