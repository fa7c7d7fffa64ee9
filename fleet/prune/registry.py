"""What goes from a registry: the images that this tool pushed and no host of the inventory needs, with their records.

Ours is what a release record beside it tells of, whose tag is `fleet-KEY`, if this inventory had it made. Deleting a
digest removes all its tags, so a digest with a tag that somebody else gave it stays, and so does one that an index of
somebody else's names.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fleet.errors import FleetError
from fleet.image.layout import INDEXES
from fleet.image.registry_shelf import ShelfClient
from fleet.image.registry_words import UnsupportedError
from fleet.image.release import Release, loads
from fleet.prune.facts import Kept
from fleet.prune.ownership import NOT_OURS, Leave, Owned
from fleet.prune.wanted import LAST_GOOD

RECORD_TAG = re.compile(r"fleet-[0-9a-f]+")
NIGHT_TAG = re.compile(r"\d{8}(-[0-9a-f]{9})?-(?P<key>[0-9a-f]+)")
TURN_ON = (
    "storage.delete.enabled: true in its configuration, or REGISTRY_STORAGE_DELETE_ENABLED=true in its environment"
)

# Without --delete-untagged: what somebody pulls by its digest alone is nobody's garbage.
COLLECT = (
    "what was deleted takes room until its garbage is collected; on the registry's host, while it is read-only: "
    "registry garbage-collect /etc/docker/registry/config.yml (Debian: docker-registry garbage-collect)"
)


@dataclass(frozen=True)
class Shelf:
    """One repository of one registry. `tags` tag -> digest, `records` tag -> the release that a record there tells of.

    `inside` are digests that an index names, `there` the images of records that are in the repository.
    """

    registry: str
    name: str
    tags: Mapping[str, str] = field(default_factory=dict)
    records: Mapping[str, Release] = field(default_factory=dict)
    inside: frozenset[str] = frozenset()
    there: frozenset[str] = frozenset()


@dataclass(frozen=True)
class DeleteManifest:
    """Delete a manifest by its digest; `tags` go with it. `size` in bytes, freed by a garbage collection alone."""

    registry: str
    name: str
    digest: str
    tags: tuple[str, ...]
    size: int
    why: str

    @property
    def what(self) -> str:
        told = f" ({', '.join(self.tags)})" if self.tags else ""
        return f"delete {self.registry}/{self.name}@{self.digest[:19]}{told}"


def plan_registry(
    shelf: Shelf, needed: Mapping[str, str], keep: int, owned: Owned
) -> tuple[tuple[DeleteManifest | Leave, ...], tuple[Kept, ...]]:
    """Pure. `needed` are releases (ids) with why; of the others of ours the `keep` newest by their making stay too.

    An image goes before its record: what is cut off in between can still be told as ours by the next prune.
    """
    releases = {one.id: one for one in shelf.records.values()}
    tags_of: dict[str, set[str]] = {}
    for tag, digest in shelf.tags.items():
        tags_of.setdefault(digest, set()).add(tag)
    by_age = sorted(
        releases.values(), key=lambda one: (born(one, tags_of.get(one.manifest_digest, ())), one.created, one.id)
    )
    ours = [one for one in by_age if owned.has(one.id, one.content_key)]
    newest = ours[::-1][:keep]
    stays = dict(needed)
    for one in newest:
        stays.setdefault(one.id, f"one of the {keep} newest of {shelf.name} in {shelf.registry}")
    steps: list[DeleteManifest | Leave] = []
    kept: list[Kept] = []
    for release in by_age:
        records = {tag for tag, one in shelf.records.items() if one.id == release.id}
        name = f"{shelf.registry}/{shelf.name}:{release.id}"
        why = (
            stays.get(release.id) or ("" if release in ours else NOT_OURS) or _foreign(shelf, release, records, tags_of)
        )
        if why:
            kept.append(Kept(name, why))
            continue
        tokens = (release.id, release.content_key)
        if owned.shares(*tokens):
            steps.append(Leave(name, tokens, "nothing here needs it"))
            continue
        said = "no host of the inventory needs it"
        tags = tuple(sorted(tags_of.get(release.manifest_digest, ())))
        if release.manifest_digest in shelf.there:
            steps.append(DeleteManifest(shelf.registry, shelf.name, release.manifest_digest, tags, release.size, said))
        for digest in sorted({shelf.tags[tag] for tag in records}):
            of_record = tuple(sorted(tags_of[digest]))
            if set(of_record) <= records:
                steps.append(
                    DeleteManifest(shelf.registry, shelf.name, digest, of_record, 0, f"the record of {release.id}")
                )
    return tuple(steps), tuple(kept)


def needed_bases(shelf: Shelf, keys: Mapping[str, str]) -> dict[str, str]:
    """Ids of the bases in their own repository whose content keys are needed, with why. Pure."""
    pairs = ((tag.removeprefix("fleet-"), one.id) for tag, one in shelf.records.items())
    return {name: keys[key] for key, name in pairs if key in keys}


def born(release: Release, tags: Iterable[str]) -> str:
    """The day that it was made, as `20261129`: by its night's tag, else as the image itself says."""
    nights = [tag[:8] for tag in tags if NIGHT_TAG.fullmatch(tag)]
    return max(nights, default="") or release.created[:10].replace("-", "")


def _foreign(shelf: Shelf, release: Release, records: set[str], tags_of: Mapping[str, set[str]]) -> str:
    """Why somebody else needs it, or ""."""
    keys = {tag.removeprefix("fleet-") for tag in records}
    for tag in sorted(tags_of.get(release.manifest_digest, ())):
        night = NIGHT_TAG.fullmatch(tag)
        if tag == LAST_GOOD or not (tag == release.id or (night and night["key"] in keys)):
            return f"it is tagged {tag} too, and deleting it would take that tag away"
    return "an index names it" if release.manifest_digest in shelf.inside else ""


def read(client: ShelfClient, registry: str, name: str) -> Shelf:
    """One repository as it is. Changes nothing. Raises FleetError, also where a record cannot be understood."""
    tags: dict[str, str] = {}
    records: dict[str, Release] = {}
    inside: set[str] = set()
    for tag in client.tags(name):
        found = client.manifest(name, tag)
        if found is None:
            continue
        kind, content = found
        tags[tag] = client.digest(name, tag)
        if kind in INDEXES:
            inside |= {str(one.get("digest")) for one in json.loads(content).get("manifests") or ()}
        elif RECORD_TAG.fullmatch(tag) and (record := client.get_record(name, tag)) is not None:
            release = loads(record, f"{registry}/{name}:{tag}")
            if release.name == name:
                records[tag] = release
    digests = {one.manifest_digest for one in records.values()}
    there = frozenset(one for one in digests if client.digest(name, one))
    return Shelf(registry, name, tags, records, frozenset(inside), there)


def delete(step: DeleteManifest, client: ShelfClient) -> None:
    """By digest, once its tags have been looked at again. Raises FleetError, with the way to turn deleting on."""
    now = {tag for tag in client.tags(step.name) if client.digest(step.name, tag) == step.digest}
    if not now <= set(step.tags):
        raise FleetError(f"{step.what}: it has got the tag {min(now - set(step.tags))} since it was looked at")
    try:
        client.delete(step.name, step.digest)
    except UnsupportedError as error:
        raise UnsupportedError(error.message, hint=f"to have old images deleted there: {TURN_ON}") from error
