"""The stage prepare over hosts: the safe fixes of each, then a fresh look that says whether the host is fit now."""

from collections.abc import Mapping

from fleet.errors import HostError
from fleet.inventory.model import Host
from fleet.prepare import make_ready
from fleet.rollout.claims import Claims
from fleet.rollout.run import Outcome, Run, site_of, unfit
from fleet.rollout.site import look
from fleet.transport import fan_out


def mendable(outcome: Outcome) -> bool:
    """Is the host unfit only as far as a fix may change that? Whether it does is seen afterwards."""
    return outcome.site is not None and outcome.error is not None and bool(outcome.site.plan.fixes)


def prepare(run: Run, outcomes: Mapping[str, Outcome], claims: Claims, *, only: tuple[str, ...]) -> None:
    """Carry the fixes out where there are any; hosts that they made fit go on."""

    def mend(host: Host) -> None:
        outcome = outcomes[host.name]
        session = site_of(outcome).session
        claims.guard(session).check()
        outcome.changed += make_ready(session, run.seam, only=only, say=lambda line: run.say(host.name, line))
        outcome.site = look(session, run.wishes, run.clock)
        outcome.error = None if outcome.site.plan.ready else unfit(outcome.site)

    chosen = [one for one in outcomes.values() if one.site is not None and one.site.plan.fixes]
    chosen = [one for one in chosen if one.error is None or mendable(one)]
    for name, result in fan_out([site_of(one).host for one in chosen], mend, forks=run.forks).items():
        if isinstance(result, HostError):
            outcomes[name].error = result
