"""What goes from a host and what stays, each with its reason. Pure.

Ours is what the host itself proves: a container by our labels, an image by its digest and the audit or a record that
tell of this release here, a cache volume by the hash in its name over such a release. A name alone proves nothing.
"""

from collections.abc import Iterable, Mapping

from fleet.image.release import Release
from fleet.prune.facts import (
    CACHE,
    Box,
    HostFacts,
    Kept,
    Policy,
    PrunePlan,
    RemoveContainer,
    RemoveImage,
    RemoveVolume,
    Step,
    SweepStaging,
)
from fleet.report.units import size
from fleet.rollout.census import Listed, repository, short
from fleet.rollout.past import Past
from fleet.serving.inspection import CANDIDATE
from fleet.serving.spec import cache_volume

GONE = "nothing runs it, and no service would go back to it"


def plan_prune(facts: HostFacts, releases: Mapping[str, Release], policy: Policy) -> PrunePlan:
    """Steps after which the host has what the policy says; planning again on the result gives none.

    `releases` are all that are known, by id.
    """
    identified = {image.id: found for image in facts.images if (found := identify(image, facts.past, releases))}
    needed = reasons(facts, releases, policy, identified)
    kept: list[Kept] = []
    boxes = _containers(facts, policy, needed, kept)
    going = {step.id for step in boxes}
    staying = [box for box in facts.boxes if box.id not in going]
    steps: list[Step] = [*boxes]
    steps += _images(facts, releases, policy, identified, needed, staying, kept)
    steps += _volumes(facts, policy, needed, staying, kept)
    steps += _staging(facts, policy, kept)
    foreign = sum(image.id not in identified for image in facts.images) + sum(not box.service for box in facts.boxes)
    return PrunePlan(tuple(steps), tuple(kept), foreign, needed)


def identify(image: Listed, past: Past, releases: Mapping[str, Release]) -> str:
    """The id of the release that an image is, where the host proves that this tool brought it or served it; else ""."""
    digests = {image.id, *(one.rpartition("@")[2] for one in image.repo_digests)}
    for name in sorted(past.touched | past.recorded):
        release = releases.get(name)
        if release is not None:
            if digests & {release.config_digest, release.manifest_digest}:
                return name
        elif len(name) == 12 and any(one.removeprefix("sha256:").startswith(name) for one in digests):
            return name  # an id is the beginning of the manifest digest
    return ""


def reasons(
    facts: HostFacts, releases: Mapping[str, Release], policy: Policy, identified: Mapping[str, str]
) -> dict[str, str]:
    """Why each release that is needed here is needed: release id -> words. The first reason counts."""
    past, found = facts.past, dict[str, str]()
    running: dict[str, set[str]] = {}
    for box in sorted(facts.boxes, key=lambda one: (one.state != "running", one.name)):
        if box.service and not box.kept:
            found.setdefault(box.release, f"{box.name} {'runs' if box.state == 'running' else 'was made from'} it")
            if not box.name.endswith(CANDIDATE):
                running.setdefault(box.service, set()).add(box.release)
    for name, why in policy.wanted.items():
        found.setdefault(name, why)
    for name, why in past.pinned.items():
        found.setdefault(name, f"pinned: {why}" if why else "pinned")
    for service, lineage in sorted(past.lineages.items()):
        if service not in policy.services and service not in running:
            continue
        before = lineage.before(running.get(service, frozenset()))
        if before is not None:
            found.setdefault(before.release, f"{service} would go back to it")
        for one in lineage.standing[-policy.keep :]:
            found.setdefault(one.release, f"one of the {policy.keep} newest that answered as {service}")
    for name, why in _newest(facts, releases, policy.keep, identified):
        found.setdefault(name, why)
    found.pop("", None)
    return found


def _newest(
    facts: HostFacts, releases: Mapping[str, Release], keep: int, identified: Mapping[str, str]
) -> Iterable[tuple[str, str]]:
    """Of those that lie on the host, by image, the last that came or answered."""
    came = facts.past.came
    held: dict[str, dict[str, float]] = {}
    for image in facts.images:
        if found := identified.get(image.id):
            name = releases[found].name if found in releases else _unrecorded(image, found).rpartition(":")[0]
            held.setdefault(name, {})[found] = came.get(found, 0.0)
    for name, ages in held.items():
        for found in sorted(ages, key=lambda one: (ages[one], one), reverse=True)[:keep]:
            yield found, f"one of the {keep} newest of {name} here"


def _containers(facts: HostFacts, policy: Policy, needed: Mapping[str, str], kept: list[Kept]) -> list[RemoveContainer]:
    alive = {*policy.services, *(box.service for box in facts.boxes if not box.kept)}
    steps = []
    for box in sorted(facts.boxes, key=lambda one: one.name):
        if not box.kept:
            continue
        if box.service not in alive:
            steps.append(RemoveContainer(box.id, box.name, f"service {box.service} is no more on this host"))
        elif box.release not in needed:
            steps.append(RemoveContainer(box.id, box.name, f"release {box.release}: {GONE}"))
        else:
            kept.append(Kept(f"container {box.name}", needed[box.release]))
    return steps


def _images(
    facts: HostFacts,
    releases: Mapping[str, Release],
    policy: Policy,
    identified: Mapping[str, str],
    needed: Mapping[str, str],
    staying: list[Box],
    kept: list[Kept],
) -> Iterable[RemoveImage]:
    users: dict[str, str] = {}
    for box in staying:
        users.setdefault(box.image, box.name)
    came = facts.past.came
    listed = [(found, image) for image in facts.images if (found := identified.get(image.id))]
    for found, image in sorted(listed, key=lambda one: (came.get(one[0], 0.0), one[0], one[1].id)):
        release = releases.get(found)
        references = _standing(image)
        ours = tuple(one for one in references if given(one, found, release, facts.past, policy))
        name = _name(image, found, release)
        if found in needed:
            kept.append(Kept(f"image {name}", needed[found]))
        elif image.id in users:
            kept.append(Kept(f"image {name}", f"container {users[image.id]} was made from it"))
        elif references and not ours:
            kept.append(Kept(f"image {name}", f"only others call it by a name: {', '.join(references)}"))
        else:
            whole = len(ours) == len(references)
            others = ", ".join(one for one in references if one not in ours)
            why = GONE if whole else f"{GONE}; it stays as {others}, which is not ours"
            why = f"{why}; no name points to it" if not ours else why
            yield RemoveImage(image.id, name, ours or (image.id,), image.size if whole else 0, why, whole)


def _standing(image: Listed) -> tuple[str, ...]:
    """What keeps an image by itself. A digest in the repository of a tag goes with that tag: the containerd store makes one
    up for every tag, and asked to remove it would take a tag of somebody else's.
    """
    tagged = {repository(one) for one in image.names}
    return (*image.names, *(one for one in image.repo_digests if repository(one) not in tagged))


def given(reference: str, found: str, release: Release | None, past: Past, policy: Policy) -> bool:
    """Is this one of the names that this tool gives the release?"""
    repository, _, digest = reference.partition("@")
    if digest:
        exact = digest == release.manifest_digest if release else digest.removeprefix("sha256:").startswith(found)
        return exact and (reference in past.pulled or _of_registry(repository, release, policy))
    return reference == release.local_name if release else reference.rpartition(":")[2] == found


def _of_registry(repository: str, release: Release | None, policy: Policy) -> bool:
    domain, _, name = repository.partition("/")
    return domain in policy.registries and (release is None or name == release.name)


def _name(image: Listed, found: str, release: Release | None) -> str:
    return release.local_name if release is not None else _unrecorded(image, found)


def _unrecorded(image: Listed, found: str) -> str:
    """What an image is called whose record is gone: by its local name, else by where it was pulled from."""
    pulled = (f"{repository(one).partition('/')[2]}:{found}" for one in image.repo_digests)
    names = (*(one for one in image.names if one.endswith(f":{found}")), *pulled)
    return next(iter(names), f"{short(image.id)}:{found}")


def _volumes(
    facts: HostFacts, policy: Policy, needed: Mapping[str, str], staying: list[Box], kept: list[Kept]
) -> Iterable[RemoveVolume]:
    """The compile caches of releases: those of releases that go, and over the limit those that were used longest ago."""
    used = {name: box.name for box in staying for name in box.volumes}
    caches, idle = dict[str, str](), list[tuple[float, str]]()
    models = {*policy.models, *(str(one.settings.get("model", "")) for one in facts.past.records.values())}
    for name in sorted(facts.volumes):
        match = CACHE.fullmatch(name)
        if match is None:
            continue
        release = match["release"]
        exact = any(cache_volume(release, match["gfx"], model) == name for model in (*models, match["model"]))
        ours = exact and release in facts.past.touched | facts.past.recorded
        if name in used:
            caches[name] = f"container {used[name]} mounts it"
        elif not ours:
            kept.append(Kept(f"volume {name}", needed.get(release, "nothing here proves that it is ours")))
        elif release in needed:
            caches[name] = needed[release]
            idle.append((facts.past.came.get(release, 0.0), name))
        else:
            yield RemoveVolume(name, f"the cache of release {release}: {GONE}", facts.sizes.get(name, 0))
    total = sum(facts.sizes.get(name, 0) for name in caches)
    for _, name in sorted(idle):
        if policy.caches and total > policy.caches and facts.sizes.get(name):
            why = f"cache volumes have {size(total)}, fleet.retention.cache_volumes is {size(policy.caches)}"
            yield RemoveVolume(name, f"{why}, and no container uses it", facts.sizes[name])
            total -= facts.sizes[name]
            del caches[name]
    kept += [Kept(f"volume {name}", why) for name, why in caches.items()]


def _staging(facts: HostFacts, policy: Policy, kept: list[Kept]) -> Iterable[SweepStaging]:
    staging = facts.staging
    there = {image.id for image in facts.images}
    going = [one for one in staging.images if one.age > policy.staging or one.config in there]
    staying = [one for one in staging.images if one not in going]
    for one in staying:
        why = f"a transfer may go on from it: last tried {one.age / 86400:.1f} days ago"
        kept.append(Kept(f"what is staged of {one.name}", why))
    wanted = {digest for one in staying for digest in one.needs}
    lost = [size for digest, size in (*staging.whole.items(), *staging.parts.items()) if digest not in wanted]
    if going or lost:
        why = "the host has it" if all(one.config in there for one in going) else "it was left long ago"
        names = tuple(one.name for one in going) or ("images that nobody asks for",)
        configs = tuple(one.config for one in going)
        yield SweepStaging(staging.directory, names, configs, sum(lost), why if going else "no image needs it")
