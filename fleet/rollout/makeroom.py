"""A host with little room is pruned before an image is brought to it, and that is said."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from fleet.delivery.plan import Load, Pull
from fleet.errors import HostError
from fleet.image.release import Release
from fleet.inventory.model import Host
from fleet.journal.audit import AuditEntry
from fleet.prune.facts import RemoveImage
from fleet.prune.hosts import PartlyError, carry_out, policy_of, read
from fleet.prune.plan import plan_prune
from fleet.report.units import bytes_of, size
from fleet.rollout.claims import Claims
from fleet.rollout.looks import outcome_of_look
from fleet.rollout.run import Outcome, Run, site_of
from fleet.rollout.site import Site, look
from fleet.transport import fan_out

ROOM = ("space_image", "space_engine")  # the findings that a prune may mend


def tight(site: Site) -> str:
    """Why the host has too little room for what is to be brought, or "". Pure."""
    if not any(isinstance(step, Pull | Load) for step in site.plan.images):
        return ""
    found = [one.evidence for one in site.plan.blocked if one.id in ROOM]
    if found:
        return found[0]
    least, space = bytes_of(site.host.settings.retention.free), site.facts.space.get("root")
    if space is None or space.free_bytes >= least:
        return ""
    return f"{space.path}: {size(space.free_bytes)} free, and fleet.retention.free is {size(least)}"


def tell(found: Mapping[str, Outcome], say: Callable[[str, str], None]) -> None:
    """What `make_room` would do."""
    for name, outcome in found.items():
        if outcome.site is not None and (why := tight(outcome.site)):
            say(name, f"would be pruned first: {why}")


def make_room(
    run: Run,
    found: dict[str, Outcome],
    claims: Claims,
    known: Mapping[str, Release],
    wanted: Callable[[], Mapping[str, str]],
    *,
    wait: float,
) -> None:
    """Prune the hosts with little room, each under its lock, and look at them anew: `found` has what came of it.

    `known` are releases of which others tell, `wanted` those (ids) that somebody elsewhere needs, with why; it is asked
    only where there is something to prune.
    """
    reasons = {name: why for name, one in found.items() if one.site is not None and (why := tight(one.site))}
    if not reasons:
        return
    sessions = {name: site_of(found[name]).session for name in reasons}
    for name, error in claims.take(sessions, forks=run.forks, wait=wait, say=run.say).items():
        found[name].error = error
        del reasons[name]
    elsewhere = wanted()

    def prune(host: Host) -> Outcome:
        session, ours = sessions[host.name], run.wishes.releases.get(host.name, {})
        needed = {**elsewhere, **{one.id: "it is being brought" for one in ours.values()}}
        run.say(host.name, f"is pruned first: {reasons[host.name]}")
        facts = read(session, known)
        plan = plan_prune(facts, facts.past.releases, policy_of(host, 0, needed))
        failure = ""
        try:
            done = carry_out(plan, session, run.seam, lambda line: run.say(host.name, line))
        except PartlyError as error:
            done, failure = error.done, error.message
            run.say(host.name, f"not all could be removed: {failure}")
        site, before = look(session, run.wishes, run.clock), site_of(found[host.name]).plan
        site = replace(
            site,
            plan=replace(site.plan, relayed=before.relayed, relayed_models=before.relayed_models, notes=before.notes),
        )
        outcome = outcome_of_look(host.name, site)
        outcome.deeds += [
            AuditEntry(
                "", "", "prune", "done", release=one.release if isinstance(one, RemoveImage) else "", message=one.what
            )
            for one in done
        ]
        outcome.deeds += [AuditEntry("", "", "prune", "failed", message=failure)] if failure else []
        return outcome

    hosts = [site_of(found[name]).host for name in reasons]
    for name, result in fan_out(hosts, prune, forks=run.forks).items():
        found[name] = Outcome(name, error=result) if isinstance(result, HostError) else result
