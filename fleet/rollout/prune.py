"""The stage prune over hosts: a fresh look at what nobody needs, and taking it away. Behind serve and verify of its play."""

from collections.abc import Mapping

import docker

from fleet.errors import HostError
from fleet.inventory.model import Host
from fleet.journal.audit import AuditEntry
from fleet.rollout.claims import Claims
from fleet.rollout.run import Outcome, Run, going, note, site_of
from fleet.rollout.site import look
from fleet.rollout.surplus import RemoveImage, remove
from fleet.seam import Seam
from fleet.transport import fan_out


def prune(run: Run, outcomes: Mapping[str, Outcome], claims: Claims) -> None:
    """Remove images where there are any to remove. A host where this fails serves all the same, and has failed."""

    def clean(host: Host) -> int:
        outcome = outcomes[host.name]
        claims.guard(site_of(outcome).session).check()
        site = look(site_of(outcome).session, run.wishes, run.clock)
        outcome.site = site
        for step in site.plan.removals:
            run.say(host.name, step.what)
            _perform(run.seam, host.name, step, site.client)
            outcome.deeds.append(AuditEntry("", "", "prune", "done", release=_id(step), message=step.what))
        return len(site.plan.removals)

    chosen = [site_of(one).host for one in going(outcomes) if site_of(one).plan.removals or one.changed]
    for name, result in fan_out(chosen, clean, forks=run.forks).items():
        if isinstance(result, HostError):
            outcomes[name].deeds.append(AuditEntry("", "", "prune", "failed", message=result.message))
        note(outcomes[name], result)


def _perform(seam: Seam, host: str, step: RemoveImage, client: docker.DockerClient) -> None:
    seam.perform(host, step, lambda: remove(step, client, host))


def _id(step: RemoveImage) -> str:
    return step.name.rpartition(":")[2]
