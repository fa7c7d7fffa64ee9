"""A host whose connection broke while nothing was being done to it: connected and claimed anew, and looked at again."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from fleet.errors import HostError, RefusedError, UnreachableError
from fleet.inventory.model import Host
from fleet.locks import LockedError
from fleet.rollout.claims import Claims
from fleet.rollout.looks import outcome_of_look
from fleet.rollout.run import Outcome, Run, going, site_of, unfit
from fleet.rollout.site import Site, look
from fleet.transport import Session, fan_out

SETTLED = 0.2  # seconds: a channel may end this much before its connection is known to be gone


def lost(session: Session) -> bool:
    """Is the connection gone? To be asked after something failed on it."""
    if session.alive:
        time.sleep(SETTLED)
    return not session.alive


def fresh(run: Run, claims: Claims, outcome: Outcome) -> Site:
    """A fresh look, over a new connection where the old one has broken. The outcome has it.

    Raises UnreachableError when the host cannot be reached any more, LockedError when another run has it meanwhile.
    """
    site = site_of(outcome)
    if site.session.alive:
        try:
            outcome.site = _again(site, site.session, run)
        except HostError:
            if not lost(site.session):
                raise
        else:
            return outcome.site
    site.session.close()
    run.say(outcome.host, "the connection was lost; connecting again")
    try:
        session = run.connector.connect(site.host, anew=True)
        claims.again(session)
        outcome.site = _again(site, session, run)
    except RefusedError:
        raise
    except UnreachableError as error:
        raise _gone(outcome, error.message, error.hint) from error
    except HostError as error:
        if not lost(session):
            raise
        raise _gone(outcome, error.message) from error
    return outcome.site


def look_anew(run: Run, claims: Claims, outcomes: dict[str, Outcome]) -> None:
    """After others were waited for: what they left on these hosts is what counts, so every host is planned again."""

    def again(host: Host) -> Outcome:
        before = outcomes[host.name]
        after = outcome_of_look(host.name, fresh(run, claims, before))
        after.deeds, after.findings, after.warnings = before.deeds, before.findings, before.warnings
        return after

    seen = [
        one.site.host for one in outcomes.values() if one.site is not None and not isinstance(one.error, LockedError)
    ]
    for name, result in fan_out(seen, again, forks=run.forks).items():
        if isinstance(result, HostError):
            outcomes[name].error = result
        else:
            outcomes[name] = result


def reach_again(run: Run, claims: Claims, outcomes: Mapping[str, Outcome]) -> None:
    """Before these hosts' next stage: whose connection broke is connected anew, or has failed."""

    def again(name: str) -> None:
        site = fresh(run, claims, outcomes[name])
        if not site.plan.ready:
            raise unfit(site)

    broken = [site_of(one).host for one in going(outcomes) if not site_of(one).session.alive]
    for name, result in fan_out(broken, lambda host: again(host.name), forks=run.forks).items():
        if isinstance(result, HostError):
            outcomes[name].error = result


def not_touched(outcomes: Iterable[Outcome]) -> None:
    """Failures of stages that can be begun again: where only the connection broke, the host was not reached."""
    failed = [one for one in outcomes if one.error is not None and not isinstance(one.error, UnreachableError)]
    if any(site_of(one).session.alive for one in failed):
        time.sleep(SETTLED)
    for one in failed:
        if one.error is not None and not site_of(one).session.alive:
            one.error = _gone(one, one.error.message, one.error.hint)


def _gone(outcome: Outcome, why: str, hint: str = "") -> UnreachableError:
    when = "" if outcome.changed or outcome.proofs else " before anything was done there"
    return UnreachableError(outcome.host, f"was lost{when}: {why}", hint=hint or "is the host up?")


def _again(before: Site, session: Session, run: Run) -> Site:
    """The look. Where an image is still to come, the way it comes was settled for the whole run."""
    site = look(session, run.wishes, run.clock)
    if not any(step.changes for step in site.plan.images):
        return site
    return replace(site, plan=replace(site.plan, relayed=before.plan.relayed, notes=before.plan.notes))
