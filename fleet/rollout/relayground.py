"""Looking at a host that has to do with relays: what it has of them, and how it would become one."""

import docker

from fleet.delivery import observe as images
from fleet.delivery.plan import Step, plan, sideload_way
from fleet.delivery.relay import Ground
from fleet.delivery.relay_effects import ground
from fleet.delivery.send import Sender
from fleet.engine import engine_errors
from fleet.facts import Facts
from fleet.image.release import Release
from fleet.inventory.settings import Relay
from fleet.rollout.images import delivered
from fleet.rollout.relays import leftovers
from fleet.transport import Session


def look_at_relays(
    session: Session, client: docker.DockerClient, facts: Facts, release: Release | None, fingerprint: str
) -> tuple[Ground | None, tuple[Step, ...], tuple[Step, ...]]:
    """What is there, what brings the registry's image `release`, and what removes leftovers. Changes nothing.

    `fingerprint` is that of the site's CA. Without a release the host has nothing to do with relays.
    """
    if release is None:
        return None, (), ()
    host = session.host
    sender = Sender.of(session)
    staging = sender.look(host.settings.staging_dir)
    with engine_errors(session, "looking for a relay"):
        found = ground(sender, client, staging)
    holdings = images.observe(
        client,
        host.name,
        {release.name},
        {release.config_digest, release.manifest_digest},
        containerd_store=facts.docker.image_store == "containerd",
    )
    image = plan(delivered(release), holdings, way=sideload_way(session.via), staging=staging)
    left = leftovers(found, host.settings.relay or Relay(), fingerprint, root=facts.user.uid == 0)
    return found, image, left
