"""From what the inventory asks for (source, prebuilt, archive) to a release in the store. Made once, found ever after."""

import hashlib
from pathlib import Path

from fleet.errors import FleetError
from fleet.image import archive, convert, reference
from fleet.image.describe import Made, release_of
from fleet.image.lock import Lock
from fleet.image.produce_source import from_source
from fleet.image.workshop import Produced, Workshop, find, resolve_tag, short_hash
from fleet.inventory.settings import Image

_CHUNK = 1 << 20


def produce(image: Image, workshop: Workshop, lock: Lock, *, gfx: tuple[str, ...]) -> Produced:
    """The release of an image spec. `gfx` are the targets of all GPUs that the whole inventory declares.

    The lock comes back with what was resolved; the caller writes it. Raises FleetError, with nothing half done.
    """
    if image.source is not None:
        return from_source(image, image.source, workshop, lock, gfx)
    if image.prebuilt:
        return _prebuilt(image, workshop, lock)
    if image.archive:
        return _archive(image, workshop, lock)
    raise FleetError(f"image {image.name} has no source, prebuilt or archive")


def _prebuilt(image: Image, workshop: Workshop, lock: Lock) -> Produced:
    wanted = reference.parse(image.prebuilt)
    digest, lock = resolve_tag(workshop, wanted, lock)
    if not digest:
        raise FleetError(
            f"registry {wanted.domain} has no image {wanted.path}:{wanted.tag_or_latest}",
            hint="check the name and the tag; private images of Docker Hub look missing too",
        )
    key = short_hash("prebuilt", wanted.name, digest, *image.gfx, image.rocm)
    known = find(workshop, image.name, key)
    if known is not None:
        return Produced(known, key, lock, False, f"{image.prebuilt} is still {digest[:19]}")
    source = f"docker://{wanted.pinned(digest)}"
    registry = workshop.registry_for(wanted.domain)
    fresh = workshop.store.fresh_layout(key)
    converted = convert.to_layout(source, fresh, registry=registry, on_line=workshop.on_line)
    made = Made("prebuilt", str(wanted), digest, image.gfx, image.rocm, converted.dropped)
    return _keep(image, workshop, lock, key, converted, made, f"{image.prebuilt} is {digest[:19]}, which is new here")


def _archive(image: Image, workshop: Workshop, lock: Lock) -> Produced:
    path = Path(image.archive).expanduser()
    checksum = _checksum(path, workshop)
    key = short_hash("archive", checksum, *image.gfx, image.rocm)
    known = find(workshop, image.name, key)
    if known is not None:
        return Produced(known, key, lock, False, f"{path.name} has not changed")
    fresh = workshop.store.fresh_layout(key)
    with archive.unpacked(archive.inspect(path), fresh.parent) as brought:
        converted = convert.to_layout(brought.transport, fresh, on_line=workshop.on_line)
    made = Made("archive", path.name, f"sha256:{checksum}", image.gfx, image.rocm, converted.dropped)
    return _keep(image, workshop, lock, key, converted, made, f"{path.name} is new here")


def _keep(
    image: Image, workshop: Workshop, lock: Lock, key: str, converted: convert.Converted, made: Made, why: str
) -> Produced:
    release = release_of(converted.image, image.name, made)
    workshop.store.adopt(converted.image.path, release)
    workshop.store.keep(key, release)
    return Produced(release, key, lock, True, why)


def _checksum(path: Path, workshop: Workshop) -> str:
    """SHA-256 of a file; one that has neither moved nor changed since last time is not read again."""
    try:
        stat = path.stat()
        memo = short_hash("archive", str(path.absolute()), str(stat.st_size), str(stat.st_mtime_ns), str(stat.st_ino))
        known = workshop.store.known_key(memo)
        if known:
            return known
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise FleetError(f"archive {path} cannot be read: {error.strerror}") from error
    workshop.store.know_key(memo, digest.hexdigest())
    return digest.hexdigest()
