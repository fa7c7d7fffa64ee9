"""Which images on a host nobody needs any more, and taking them away: the stage prune.

Only releases that this tool brought or served there are looked at, by the host's own audit and records, and of their
names only those that it gave them. The engine is never forced: what any container still uses stays, whoever made it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import docker
import docker.errors
import requests

from fleet.errors import HostError
from fleet.image.release import Release
from fleet.rollout.census import Listed
from fleet.rollout.past import Past

KEEP = 2  # the newest releases of a service that stay, the one that serves counted


@dataclass(frozen=True)
class RemoveImage:
    """Take our names off an image; the engine deletes it with the last one. `size` is in bytes on the host's disk."""

    name: str
    references: tuple[str, ...]
    size: int
    why: str

    @property
    def what(self) -> str:
        return f"remove image {self.name}"


def surplus(
    past: Past, images: Sequence[Listed], used: Collection[str], wanted: Mapping[str, Release], keep: int
) -> tuple[RemoveImage, ...]:
    """The images to remove once `wanted` (by service) serves. `used` are the IDs of every container's image. Pure.

    Stays: what is wanted or pinned, what any container was made from, what a service would go back to, and the `keep` newest that
    answered as each service.
    """
    needed = _needed(past, wanted, keep)
    steps = []
    for release in sorted(past.releases.values(), key=lambda one: (one.created, one.id)):
        if release.id in needed or release.id not in past.touched:
            continue
        for image in images:
            names = tuple(one for one in image.references if _given_by_us(one, release, past))
            if names and image.id not in used:
                why = "no service runs it or would go back to it"
                steps.append(RemoveImage(release.local_name, names, image.size, why))
    return tuple(steps)


def remove(step: RemoveImage, client: docker.DockerClient, host: str) -> None:
    """Never by force. What is gone already is no error. Raises HostError."""
    try:
        for reference in step.references:
            try:
                client.api.remove_image(reference, force=False)
            except docker.errors.NotFound:
                continue
    except docker.errors.APIError as error:
        hint = "a container still uses it: docker ps -a"
        raise HostError(host, f"could not {step.what}: {error.explanation or error}", hint=hint) from error
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise HostError(host, f"could not {step.what}: {error}") from error


def _needed(past: Past, wanted: Mapping[str, Release], keep: int) -> set[str]:
    needed = {*past.pinned, *(release.id for release in wanted.values())}
    for service, lineage in past.lineages.items():
        release = wanted.get(service)
        running = {release.id} if release is not None else past.running(service)
        # By the time of the removal what is wanted has answered, and lies on top of all that answered before.
        pile = [one.release for one in lineage.standing if one.release not in running]
        needed |= set(pile[max(len(pile) - max(keep - 1, 1), 0) :])
    return needed


def _given_by_us(reference: str, release: Release, past: Past) -> bool:
    """A digest by the audit of pulls, or as the containerd store makes it up for the local name."""
    repository, _, digest = reference.partition("@")
    if digest:
        ours = repository == release.name or reference in past.pulled
        return digest == release.manifest_digest and ours
    return reference == release.local_name
