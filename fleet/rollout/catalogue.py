"""Every release that anybody tells of: registries, hosts and this controller, joined by the digest. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fleet.image.release import Release
from fleet.prune.registry import Shelf, born
from fleet.prune.wanted import LAST_GOOD
from fleet.rollout.past import Past
from fleet.serving.spec import LABEL


@dataclass(frozen=True)
class Entry:
    """One release; `id` is all that is known of one whose record is gone. Places are names of hosts and registries.

    `verified`: where it answered, with when it did last (seconds since the epoch). `running`: services by host. `asked`: the
    inventory and its lock mean this one. `made`: the day of its night, or when the image says that it was made.
    """

    id: str
    release: Release | None
    made: str = ""
    registries: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    verified: Mapping[str, float] = field(default_factory=dict)
    running: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    last_good: tuple[str, ...] = ()  # registries
    asked: bool = False
    pinned: Mapping[str, str] = field(default_factory=dict)  # host -> why


def catalogue(
    shelves: Iterable[Shelf], pasts: Mapping[str, Past], cached: Mapping[str, Release], asked: Iterable[str]
) -> tuple[Entry, ...]:
    """The newest first, then those of which only the id is known. `asked` are ids.

    A registry's image without a record is none of ours, and of a record whose image is gone only the record is told.
    """
    shelves, asked = tuple(shelves), frozenset(asked)
    known = dict(cached)
    for one in shelves:
        known |= {release.id: release for release in one.records.values()}
    for past in pasts.values():
        known |= past.releases
    names = {*known, *(name for past in pasts.values() for name in (*_services(past), *_answers(past), *past.pinned))}
    found = [_entry(name, known.get(name), shelves, pasts, asked=name in asked) for name in names]
    by_id = sorted(found, key=lambda one: one.id)
    return tuple(sorted(by_id, key=lambda one: (one.made, one.release.created if one.release else ""), reverse=True))


def _entry(
    name: str, release: Release | None, shelves: Iterable[Shelf], pasts: Mapping[str, Past], *, asked: bool
) -> Entry:
    digest = release.manifest_digest if release else ""
    there = [one for one in shelves if digest in one.there]
    tags = {tag for one in there for tag, of in one.tags.items() if of == digest}
    answers = {host: at for host, past in pasts.items() if (at := _answers(past).get(name)) is not None}
    running = {host: of for host, past in pasts.items() if (of := _services(past).get(name))}
    return Entry(
        name,
        release,
        born(release, tags) if release else "",
        tuple(dict.fromkeys(one.registry for one in there)),
        tuple(sorted(tags)),
        tuple(host for host, past in pasts.items() if name in past.held),
        answers,
        running,
        tuple(dict.fromkeys(one.registry for one in there if one.tags.get(LAST_GOOD) == digest)),
        asked,
        {host: past.pinned[name] for host, past in pasts.items() if name in past.pinned},
    )


def _answers(past: Past) -> dict[str, float]:
    """When each release answered there last, as any service."""
    found: dict[str, float] = {}
    for lineage in past.lineages.values():
        for one in (*lineage.standing, *lineage.left):
            found[one.release] = max(found.get(one.release, 0.0), one.at)
    return found


def _services(past: Past) -> dict[str, tuple[str, ...]]:
    """Services of each release that runs there, as its containers' labels say. A stopped one does not run."""
    found: dict[str, set[str]] = {}
    for one in past.containers:
        if one.alive and not (one.candidate or one.kept) and (release := one.labels.get(f"{LABEL}release")):
            found.setdefault(release, set()).add(one.service)
    return {release: tuple(sorted(services)) for release, services in found.items()}
