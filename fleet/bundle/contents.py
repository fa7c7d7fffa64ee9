"""What a bundle says about releases, and whether a site could be deployed from it."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.bundle.check import Bundle
from fleet.bundle.have import STORE, Have
from fleet.bundle.manifest import Entry, Manifest, blob_entry_path
from fleet.bundle.plan import fingerprint
from fleet.bundle.site import models_of
from fleet.errors import FleetError
from fleet.image import lock as locks
from fleet.image.lock import Lock
from fleet.image.release import Release, loads
from fleet.inventory.model import Host
from fleet.models.names import of_service
from fleet.report.units import size
from fleet.rollout.relays import registry_images
from fleet.rollout.releases import image_of

_SMALL = 8 << 20  # bytes of a record, manifest or config
KEYS = "releases/keys.json"  # content keys that were worked out before, by the hash of the settings


@dataclass(frozen=True)
class Record:
    """A release with the content key under which a controller looks for it."""

    key: str
    release: Release


def records(bundle: Bundle) -> tuple[Record, ...]:
    """The releases of a bundle whose files were checked. Raises FleetError."""
    found = []
    for entry in sorted(bundle.manifest.files):
        folder, _, name = entry.path.rpartition("/")
        if folder == "releases" and entry.path != KEYS and name.endswith(".json"):
            release = loads(_content(bundle, entry), str(bundle.file(entry)))
            found.append(Record(name.removesuffix(".json"), release))
    return tuple(found)


def distinct(found: Sequence[Record]) -> tuple[Release, ...]:
    """Each release once: two content keys may have given the same image."""
    return tuple({one.release.manifest_digest: one.release for one in found}.values())


def memos(bundle: Bundle) -> dict[str, str]:
    entry = bundle.manifest.entry(KEYS)
    if entry is None:
        return {}
    try:
        data = dict(json.loads(_content(bundle, entry)))
    except (ValueError, TypeError) as error:
        raise FleetError(f"{bundle.file(entry)} is damaged: {error}") from error
    return {str(memo): str(key) for memo, key in data.items() if str(memo).isalnum() and str(key).isalnum()}


def lacking(manifest: Manifest, releases: Sequence[Release], store: Collection[str], *, nodes: bool) -> tuple[str, ...]:
    """By name, what neither the bundle nor `store` (digests) has of its releases. Pure.

    `nodes`: layers that the base says all nodes of a release hold count as there.
    """
    here = {f"sha256:{one.sha256}" for one in manifest.files if one.path == blob_entry_path(f"sha256:{one.sha256}")}
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
    for part, ours, theirs in (*pairs, *more):
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
    """The lock that the bundle was made with; an empty one where it carries none."""
    for entry in bundle.manifest.files:
        if entry.path.startswith("site/inventory/") and entry.path.endswith(".lock.yaml"):
            return locks.read(bundle.file(entry))
    return Lock()


def disagreeing(bundle: Bundle, found: Sequence[Release]) -> tuple[str, ...]:
    """By name, releases whose record tells other layers than their manifest and config, or that lack one of the two."""
    wrong = []
    for release in found:
        try:
            manifest, config = _document(bundle, release.manifest_digest), _document(bundle, release.config_digest)
            told = (manifest["config"]["digest"], [one["digest"] for one in manifest["layers"]])
            diff_ids = config["rootfs"]["diff_ids"]
        except (KeyError, TypeError, ValueError) as error:
            wrong.append(f"{release.local_name}: its manifest or config cannot be read: {error}")
            continue
        if told != (release.config_digest, list(release.layer_digests)) or diff_ids != list(release.diff_ids):
            wrong.append(f"{release.local_name}: its record and its manifest {release.manifest_digest} differ")
    return tuple(wrong)


def _document(bundle: Bundle, digest: str) -> Any:
    entry = bundle.manifest.entry(blob_entry_path(digest))
    if entry is None:
        raise KeyError(f"{digest} is missing")
    return json.loads(_content(bundle, entry))


def _content(bundle: Bundle, entry: Entry) -> bytes:
    """A small file of a checked bundle. Raises FleetError for one that is not small."""
    path = bundle.file(entry)
    if entry.size > _SMALL:
        raise FleetError(
            f"{path} has {size(entry.size)}, and no record, manifest or config is longer than {size(_SMALL)}"
        )
    return path.read_bytes()
