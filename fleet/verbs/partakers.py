"""Which hosts take part in a roll: not those in quarantine, not without their image, and only with their lock."""

from fleet.errors import HostError
from fleet.report import terminal
from fleet.rollout import leftout
from fleet.rollout.assign import Programme, without
from fleet.rollout.claims import Claims, others
from fleet.rollout.modelrelays import arrange as arrange_models
from fleet.rollout.reach import look_anew
from fleet.rollout.relayplan import arrange as arrange_relays
from fleet.rollout.run import Outcome, Run, not_reached
from fleet.rollout.site import Wishes
from fleet.verbs.common import ROOT
from fleet.verbs.order import Order


def leave_out(order: Order, programme: Programme, found: dict[str, Outcome]) -> tuple[Programme, dict[str, Outcome]]:
    """Hosts that an earlier run could not reach and that do not answer now either are left out, with the reason: what
    is left of the programme, and these hosts. Nobody waits for them, and the run is not all well without them.
    """
    known = leftout.read_quarantine(ROOT)
    left: dict[str, Outcome] = {}
    for name in known.keys() & found.keys():
        if not not_reached(found[name]):
            terminal.event(name, "was in quarantine, answers again and takes part")
        elif not order.include_quarantined:
            terminal.event(name, f"left out: {known[name]}; --include-quarantined takes it in")
            left[name] = Outcome(name, error=leftout.QuarantinedError(known[name]))
            del found[name]
    return without(programme, left), left


def arrange_relayed(programme: Programme, found: dict[str, Outcome], wishes: Wishes) -> None:
    """What of the hosts' plans goes through relays."""
    if "models" in programme.stages:
        arrange_models(found, wishes)
    if "distribute" in programme.stages:
        arrange_relays(found, wishes)


def claim(run: Run, claims: Claims, found: dict[str, Outcome], programme: Programme, *, wait: float) -> None:
    """Take the locks of all hosts with something to do, before the first of them is touched.

    Whoever is ready to wait means what the others leave behind, also on hosts on which there is nothing to do yet.
    """
    wanted = {
        name: outcome.site.session
        for name, outcome in found.items()
        if outcome.site is not None
        and (outcome.error is None or outcome.site.plan.fixes)
        and (outcome.site.plan.changed or wait)
    }
    for name, error in claims.take(wanted, forks=run.forks, wait=wait, say=run.say).items():
        found[name].error = error
    # Where nothing is to be done another run may be about to change all of it.
    right = {
        name: outcome.site.session
        for name, outcome in found.items()
        if outcome.site is not None and outcome.error is None and not (name in wanted or claims.holds(name))
    }
    for name, holder in others(right, forks=run.forks).items():
        found[name].warnings.append(
            f"right as it was found, but locked by {holder}, which may change it; --lock-wait 5m waits and looks again"
        )
    if claims.waited:
        run.say("", "others were waited for, so every host is looked at again")
        look_anew(run, claims, found)
        arrange_relayed(programme, found, run.wishes)
    claims.release([name for name in wanted if not (site := found[name].site) or not site.plan.changed])


def refuse_missing_images(found: dict[str, Outcome]) -> None:
    """Hosts that are to serve an image that nothing in this run brings to them."""
    for outcome in found.values():
        if outcome.error is None and outcome.site and any(step.changes for step in outcome.site.plan.images):
            outcome.error = HostError(outcome.host, "the image is not on the host", hint="invoke deploy brings it")
