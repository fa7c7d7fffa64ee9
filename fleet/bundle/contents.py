"""What a bundle says about releases, and whether a site could be deployed from it."""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.bundle.check import Bundle
from fleet.bundle.have import STORE, Have
from fleet.bundle.images import disagreeing
from fleet.bundle.manifest import Manifest, blob_entry_path, model_entry_path, model_of
from fleet.bundle.site import models_of
from fleet.bundle.small import content
from fleet.errors import FleetError, InputError
from fleet.image import lock as locks
from fleet.image.lock import Lock
from fleet.image.release import Release, loads
from fleet.image.strategy import fingerprint
from fleet.inventory.model import Host
from fleet.models.content import File
from fleet.models.names import of_service
from fleet.report.units import size
from fleet.rollout.imageorders import image_of
from fleet.rollout.relays import registry_images

_KEY = re.compile(r"[0-9a-f]{8,64}")
_RECORD = re.compile(r"[0-9a-f]{8,64}\.json")
KEYS = "releases/keys.json"  # content keys that were worked out before, by the hash of the settings


@dataclass(frozen=True)
class Record:
    """A release with the content key under which a controller looks for it."""

    key: str
    release: Release


def records(bundle: Bundle) -> tuple[Record, ...]:
    """The releases of a bundle whose files were checked. Raises FleetError with every record that is damaged."""
    found, wrong = [], []
    for entry in sorted(bundle.manifest.files):
        folder, _, name = entry.path.rpartition("/")
        if folder != "releases" or entry.path == KEYS:
            continue
        try:
            if not _RECORD.fullmatch(name):
                raise FleetError(f"{bundle.file(entry)} has no content key for a name")
            release = loads(content(bundle, entry), str(bundle.file(entry)))
            found.append(Record(name.removesuffix(".json"), release))
        except FleetError as error:
            wrong.append(error.message)
    if wrong:
        raise FleetError("; ".join(wrong))
    return tuple(found)


def damaged(bundle: Bundle) -> tuple[str, ...]:
    """What is wrong, by name, with what a bundle says of its releases: nothing of it is used then."""
    try:
        found = records(bundle)
        memos(bundle)
        lock_of(bundle)
    except InputError as error:
        return tuple(str(problem) for problem in error.problems)
    except FleetError as error:
        return (error.message,)
    return disagreeing(bundle, [one.release for one in found])


def distinct(found: Sequence[Record]) -> tuple[Release, ...]:
    """Each release once: two content keys may have given the same image."""
    return tuple({one.release.manifest_digest: one.release for one in found}.values())


def memos(bundle: Bundle) -> dict[str, str]:
    """The content keys that were worked out before. Raises FleetError."""
    entry = bundle.manifest.entry(KEYS)
    if entry is None:
        return {}
    try:
        data = json.loads(content(bundle, entry))
        keys = {str(memo): str(key) for memo, key in data.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise FleetError(f"{bundle.file(entry)} is damaged: {error}") from error
    odd = next((word for pair in keys.items() for word in pair if not _KEY.fullmatch(word)), "")
    if odd:
        raise FleetError(f"{bundle.file(entry)} is damaged: {odd[:80]!r} is no content key")
    return keys


def carried(manifest: Manifest) -> frozenset[str]:
    """The digests of the blobs that are in a bundle."""
    named = ((f"sha256:{one.sha256}", one.path) for one in manifest.files)
    return frozenset(digest for digest, path in named if path == blob_entry_path(digest))


def left_out(manifest: Manifest, releases: Sequence[Release], store: Collection[str]) -> dict[str, frozenset[str]]:
    """By release id, the layers that neither a bundle nor `store` has: the hosts have to hold them. Pure."""
    here = {*carried(manifest), *store}
    found = {one.id: frozenset(one.layer_digests) - here for one in releases}
    return {name: digests for name, digests in found.items() if digests}


def lacking(manifest: Manifest, releases: Sequence[Release], store: Collection[str], *, nodes: bool) -> tuple[str, ...]:
    """By name, what neither the bundle nor `store` (digests) has of its releases. Pure.

    `nodes`: layers that the base says all nodes of a release hold count as there.
    """
    here = carried(manifest)
    absent = {one.digest: one for one in manifest.base.absent} if manifest.base else {}
    found = []
    for release in releases:
        sizes = dict(zip(release.layer_digests, release.layer_sizes, strict=True))
        blobs = {release.manifest_digest: "manifest", release.config_digest: "config"}
        blobs |= dict.fromkeys(release.layer_digests, "layer")
        for digest, kind in blobs.items():
            if digest in here or digest in store:
                continue
            out = absent.get(digest)
            if nodes and out is not None and STORE not in out.held_by:
                continue
            who = f", which {', '.join(out.held_by)} held when the base was written" if out else ""
            of = f" of {size(sizes[digest])}" if digest in sizes else ""
            found.append(f"{release.local_name}: {kind} {digest}{of} is missing{who}")
    return tuple(found)


def nodes_lack(manifest: Manifest, releases: Sequence[Release], store: Collection[str], have: Have) -> tuple[str, ...]:
    """By name, the nodes of a fresh `bundle.have` that lack a layer which a delta leaves out and no store has. Pure."""
    out = {one.digest for one in manifest.base.absent} - set(store) if manifest.base else set()
    found = []
    for release in releases:
        hosts = sorted({want.host for want in manifest.wants if want.release == release.id})
        for index, digest in enumerate(release.layer_digests):
            lacking_it = [host for host in hosts if digest in out and not have.holds(host, release.diff_ids, index)]
            found += [f"{release.local_name}: {host} lacks layer {digest}" for host in lacking_it]
    return tuple(found)


def models_lack(manifest: Manifest, hosts: Sequence[Host], have: Have | None) -> tuple[str, ...]:
    """By name, the hosts that lack a file of a model which a delta leaves out. Pure.

    By a fresh `have`, or else by the base's word: a host that serves the model now and was not asked then counts as lacking it.
    """
    found = []
    for out in manifest.base.files if manifest.base else ():
        model = model_of(manifest, out.path) or ""
        file = File(out.path.removeprefix(model_entry_path(model, "")), out.size, out.sha256)
        serves = [one.name for one in hosts if model in models_of([one])] if hosts else out.held_by
        lacking_it = [name for name in serves if not (have.keeps(name, model, file) if have else name in out.held_by)]
        found += [
            f"model {model}: {host} lacks {file.path} of {size(file.size)}, which is left out" for host in lacking_it
        ]
    return tuple(found)


def unserved(
    manifest: Manifest, releases: Sequence[Release], hosts: Sequence[Host], lock: Lock, made: Lock
) -> tuple[str, ...]:
    """By name, the services of an inventory whose image is not in the bundle, and locks that contradict it. Pure."""
    known = {release.id for release in releases}
    images = {want.image: want.release for want in manifest.wants}
    found = []
    for host in hosts:
        for service in host.settings.services.values():
            image = image_of(host.settings, service.image, host.name, service.name)
            if images.get(fingerprint(image)) not in known:
                found.append(f"{host.name}: the image of service {service.name} ({image.name}) is not in the bundle")
    for image, names in registry_images(hosts).items():
        if images.get(fingerprint(image)) not in known:
            found.append(f"{', '.join(names)}: the image of the relay's registry ({image.name}) is not in the bundle")
    pairs = (("commits", lock.commits, made.commits), ("images", lock.images, made.images))
    more = (("archives", lock.archives, made.archives), ("local", lock.local, made.local))
    late = (("models", lock.models, made.models), ("choices", lock.choices, made.choices))
    for part, ours, theirs in (*pairs, *more, *late):
        found += [
            f"the site's lock says {part}: {name}: {ours[name]}, the bundle was made with {theirs[name]}"
            for name in sorted(ours.keys() & theirs.keys())
            if ours[name] != theirs[name]
        ]
    return tuple(found)


def models_missing(manifest: Manifest, hosts: Sequence[Host]) -> tuple[str, ...]:
    """Models that the hosts serve and the bundle does not carry: they have to be on the hosts already."""
    there = {of_service(one) or one for one in manifest.models}
    return tuple(one for one in models_of(hosts) if one not in there)


def lock_of(bundle: Bundle) -> Lock:
    """The lock that the bundle was made with; an empty one where it carries none. Raises FleetError, InputError."""
    first = Path(next(iter(bundle.manifest.inventory), ""))
    names = [f"site/inventory/{name}.lock.yaml" for name in (first.stem, first.name)]
    for entry in filter(None, map(bundle.manifest.entry, dict.fromkeys(names))):
        try:
            return locks.parse(content(bundle, entry).decode(), str(bundle.file(entry)))
        except (UnicodeDecodeError, RecursionError) as error:
            raise FleetError(f"{bundle.file(entry)} cannot be read: {error}") from error
    return Lock()
