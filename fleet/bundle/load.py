"""Putting a bundle's releases into the site's store, and where `deploy` finds them. Only after everything was checked."""

import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fleet.bundle.check import Bundle
from fleet.bundle.contents import Record, distinct, memos
from fleet.bundle.manifest import LAYOUT, Entry
from fleet.bundle.store import SiteStore
from fleet.bundle.write import Piece, checksum, put
from fleet.delivery.progress import Moving
from fleet.errors import FleetError
from fleet.image import docker_archive
from fleet.image.layout import OCI_INDEX, Blob, blob_path, read
from fleet.image.release import Release
from fleet.image.store import Store
from fleet.report.units import size

_BLOBS = f"{LAYOUT}/blobs/sha256/"


@dataclass(frozen=True)
class Loaded:
    """`added` counts the blobs that were written. `partial` are releases that only nodes can complete."""

    added: int
    complete: tuple[Release, ...]
    partial: tuple[Release, ...]


def load(bundle: Bundle, found: Sequence[Record], store: SiteStore, cache: Store, moving: Moving) -> Loaded:
    """Copy the blobs that the store lacks, each checked again on its way, then name the releases that are whole there.

    What the store has of them already is read and checked too, and written again where the disk has spoilt it. Each
    release also becomes a layout of `cache` (hard links where they can be), with its record. Raises FleetError, also where
    somebody else is loading into the store.
    """
    with store.alone():
        return _load(bundle, found, store, cache, moving)


def _load(bundle: Bundle, found: Sequence[Record], store: SiteStore, cache: Store, moving: Moving) -> Loaded:
    known_keys, releases = memos(bundle), distinct(found)
    spoilt = spoilt_blobs(store, releases, moving)
    _only_here(bundle, store, spoilt)
    sound = store.digests() - spoilt
    new = tuple(one for one in _blobs(bundle) if f"sha256:{one.sha256}" not in sound)
    _room(store, new)
    with moving("store", f"load {bundle.path}", sum(one.size for one in new)) as at:
        done = 0

        def on_bytes(count: int) -> None:
            nonlocal done
            done += count
            at(done)

        for entry in new:
            put(Piece(entry, bundle.file(entry)), store.path(f"sha256:{entry.sha256}"), on_bytes)
    whole = tuple(one for one in releases if not store.lacks(one))
    store.index(whole)
    for record in found:
        store.keep(record.key, record.release)
    for release in releases:
        _adopt(store, cache, release)
    for record in found:
        cache.keep(record.key, record.release)
    for memo, key in known_keys.items():
        cache.know_key(memo, key)
    return Loaded(len(new), whole, tuple(one for one in releases if one not in whole))


def new_blobs(bundle: Bundle, store: SiteStore) -> tuple[Entry, ...]:
    """The blobs of a bundle that the store lacks."""
    here = store.digests()
    return tuple(one for one in _blobs(bundle) if f"sha256:{one.sha256}" not in here)


def spoilt_blobs(store: SiteStore, releases: Sequence[Release], moving: Moving) -> frozenset[str]:
    """The blobs of these releases whose bytes in the store are not what their names say. Reads them all."""
    here = store.digests() & {digest for one in releases for digest in _digests(one)}
    sizes = {digest: store.path(digest).stat().st_size for digest in sorted(here)}
    spoilt = set()
    with moving("store", f"read {store.root}", sum(sizes.values())) as at:
        done = 0
        for digest, size_there in sizes.items():
            if f"sha256:{checksum(store.path(digest))[1]}" != digest:
                spoilt.add(digest)
            done += size_there
            at(done)
    return frozenset(spoilt)


def _only_here(bundle: Bundle, store: SiteStore, spoilt: Collection[str]) -> None:
    carried = {f"sha256:{one.sha256}" for one in _blobs(bundle)}
    lost = [str(store.path(digest)) for digest in sorted(spoilt) if digest not in carried]
    if lost:
        raise FleetError(
            f"damaged in the store, and not in this bundle: {', '.join(lost)}; nothing was loaded",
            hint="remove these files, then load a bundle that has them: a full one, or one --since a fresh bundle.have",
        )


def _blobs(bundle: Bundle) -> tuple[Entry, ...]:
    return tuple(one for one in bundle.manifest.files if one.path.startswith(_BLOBS))


def _digests(release: Release) -> tuple[str, ...]:
    return tuple(dict.fromkeys((release.manifest_digest, release.config_digest, *release.layer_digests)))


def _room(store: SiteStore, new: Sequence[Entry]) -> None:
    wanted, free = sum(one.size for one in new), shutil.disk_usage(store.root).free
    if wanted > free:
        raise FleetError(f"store {store.root}: {size(wanted)} are to be loaded, and {size(free)} are free")


def _adopt(store: SiteStore, cache: Store, release: Release) -> None:
    """The release as a layout of its own, of the blobs that the store has; the layers that nodes hold are not in it."""
    here = store.digests()
    present = [digest for digest in _digests(release) if digest in here]
    if _as_in_store(store, cache, release, present):
        return
    with cache.fresh_layout(f"bundle-{release.id}") as fresh:
        for digest in present:
            target = blob_path(fresh, digest)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(store.path(digest), target)
            except OSError:  # another file system, or one without hard links
                shutil.copyfile(store.path(digest), target)
        manifest = Blob("application/vnd.oci.image.manifest.v1+json", release.manifest_digest, 0)
        index = _index(manifest, blob_path(fresh, release.manifest_digest).stat().st_size)
        (fresh / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
        (fresh / "index.json").write_bytes(index)
        image = read(fresh)
        docker_archive.beside(image, release.local_name)
        cache.put(fresh, release)


def _as_in_store(store: SiteStore, cache: Store, release: Release, present: Sequence[str]) -> bool:
    """Is a layout there that has these blobs, and none that was written anew in the store since?"""
    layout = cache.layout_path(release)
    if cache.partial(release) is None:
        return False
    for digest in present:
        try:
            ours, theirs = blob_path(layout, digest).stat(), store.path(digest).stat()
        except OSError:
            return False
        linked = ours.st_ino == theirs.st_ino and ours.st_dev == theirs.st_dev
        if not linked and f"sha256:{checksum(blob_path(layout, digest))[1]}" != digest:
            return False
    return True


def _index(manifest: Blob, length: int) -> bytes:
    entry = f'{{"mediaType":"{manifest.media_type}","digest":"{manifest.digest}","size":{length}}}'
    return f'{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{entry}]}}'.encode()
