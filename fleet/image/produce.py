"""From what the inventory asks for (source, prebuilt, archive) to a release in the store. Made once, found ever after."""

import hashlib
from dataclasses import replace
from pathlib import Path

from fleet.errors import FleetError, UsageError
from fleet.image import archive, convert, reference
from fleet.image.describe import Made, release_of
from fleet.image.lock import Lock
from fleet.image.produce_source import export_again, from_source, known_source
from fleet.image.reference import Reference
from fleet.image.registry_api import RegistryClient
from fleet.image.release import Release
from fleet.image.smoke import SmokeError
from fleet.image.trial import prove
from fleet.image.workshop import Outlook, Produced, Workshop, find, had, resolve_tag, short_hash, take
from fleet.inventory.settings import Image

_CHUNK = 1 << 20


def look(image: Image, workshop: Workshop, lock: Lock, *, gfx: tuple[str, ...]) -> Outlook:
    """What `produce` would do, for `--check`: asks registries, git and the builder, and makes nothing but cache."""
    return _settle(image, workshop, lock, gfx, make=False)


def known(image: Image, workshop: Workshop, lock: Lock, *, gfx: tuple[str, ...]) -> Release | None:
    """The release where finding it costs no more than asking a registry: nothing is cloned, built or read through.

    None does not mean that there is none. Raises FleetError where the registry does not answer.
    """
    if image.source is not None:
        return known_source(image, image.source, workshop, lock, gfx)
    if image.archive and not _remembered(Path(image.archive).expanduser(), workshop):
        return None
    return look(image, workshop, lock, gfx=gfx).release


def produce(image: Image, workshop: Workshop, lock: Lock, *, gfx: tuple[str, ...]) -> Produced:
    """The release of an image spec. `gfx` are the targets of all GPUs that the whole inventory declares.

    The lock comes back with what was resolved; the caller writes it. Raises FleetError, with nothing half done.
    """
    before = _settle(image, workshop, lock, gfx, make=False)
    if before.release is not None:
        return Produced(before.release, before.key, before.lock, False, before.why)
    # With the lock that was just settled, so that both looks see the same.
    made = _settle(image, replace(workshop, update=False), before.lock, gfx, make=True)
    if made.release is None:
        raise FleetError(f"image {image.name} could not be made: {made.why}")
    return Produced(made.release, made.key, made.lock, True, made.why)


def bring_again(image: Image, workshop: Workshop, release: Release) -> None:
    """A release's layout once more from where the image came from, without building. Raises FleetError.

    A registry gives the same digest again, an archive the same file, and a builder the same image as long as it has it.
    """
    if release.source == "source":
        export_again(workshop, release)
        return
    with workshop.store.fresh_layout(release.id) as fresh:
        if release.source == "prebuilt":
            wanted = reference.parse(release.source_reference)
            source, registry = f"docker://{wanted.pinned(release.source_digest)}", workshop.registry_for(wanted.domain)
            converted = convert.to_layout(source, fresh, registry=registry, on_line=workshop.on_line)
        else:
            path = Path(image.archive).expanduser()
            if f"sha256:{_checksum(path, workshop)}" != release.source_digest:
                raise FleetError(f"archive {path} is another file now")
            converted = _import(path, fresh, workshop)
        take(workshop.store, converted, release, release.source_reference)


def _settle(image: Image, workshop: Workshop, lock: Lock, gfx: tuple[str, ...], *, make: bool) -> Outlook:
    if image.source is not None:
        return from_source(image, image.source, workshop, lock, gfx, make=make)
    if image.prebuilt:
        return _prebuilt(image, workshop, lock, make=make)
    if image.archive:
        return _archive(image, workshop, lock, make=make)
    raise FleetError(f"image {image.name} has no source, prebuilt or archive")


def _prebuilt(image: Image, workshop: Workshop, lock: Lock, *, make: bool) -> Outlook:
    wanted = reference.parse(image.prebuilt)
    digest, lock = resolve_tag(workshop, wanted, lock)
    if not digest:
        raise UsageError(
            f"registry {wanted.domain} has no image {wanted.path}:{wanted.tag_or_latest}",
            hint="check the name and the tag; private images of Docker Hub look missing too",
        )
    key = short_hash("prebuilt", wanted.name, digest, *image.gfx, image.rocm)
    what = f"fetch {wanted.pinned(digest)}"
    ours = workshop.registry is not None and workshop.registry.host == wanted.domain
    known = find(workshop, image.name, key, lenient=ours)
    if known is not None:
        return Outlook(known, key, lock, what, f"{image.prebuilt} is still {digest[:19]}")
    if not had(workshop, wanted, digest):
        raise UsageError(
            f"registry {wanted.domain} has no image {wanted.path}@{digest}",
            hint="check the digest; where it is one that was locked earlier, build --update asks for the tag anew",
        )
    why = f"{image.prebuilt} is {digest[:19]}, which is new here"
    if not make:
        return Outlook(None, key, lock, what, why)
    source = f"docker://{wanted.pinned(digest)}"
    registry = workshop.registry_for(wanted.domain)
    with workshop.store.fresh_layout(key) as fresh:
        converted = convert.to_layout(source, fresh, registry=registry, on_line=workshop.on_line)
        why += _tried(image, workshop, key, converted)
        brought = converted.image.manifest.digest
        same = had(workshop, wanted, brought)
        made = Made("prebuilt", str(wanted), brought if same else digest, image.gfx, image.rocm, converted.dropped)
        if not same and ours and workshop.pulled and (as_it_is := _as_it_is(image, workshop, wanted, digest)):
            manifest, config = as_it_is  # and no layout is kept: it holds the image as it is not
            release = release_of(converted.image, image.name, made)
            release = replace(
                release, manifest_digest=manifest, config_digest=config, source_digest=manifest, dropped=()
            )
            workshop.store.keep(key, release)
            why = f"{why}; hosts pull it as it is, because this account may not push to {wanted.domain}/{image.name}"
            return Outlook(release, key, lock, what, why)
        return Outlook(_keep(image, workshop, key, converted, made), key, lock, what, why)


def _as_it_is(image: Image, workshop: Workshop, wanted: Reference, digest: str) -> tuple[str, str] | None:
    """The manifest and config digests that an image in Docker's format has in the registry that hosts pull it from.

    None where we may push it there as OCI, which gives it the same digests on every way.
    """
    with RegistryClient(workshop.registry_for(wanted.domain)) as client:
        return None if client.may_push(image.name) else client.amd64(wanted.path, digest)


def _archive(image: Image, workshop: Workshop, lock: Lock, *, make: bool) -> Outlook:
    path = Path(image.archive).expanduser()
    locked = lock.archive(image.name, path.name)
    if locked and not path.exists():  # a second controller may lack the file, and need nothing of it
        checksum = locked.removeprefix("sha256:")
    else:
        checksum = _checksum(path, workshop)
        lock = lock.with_archive(image.name, path.name, f"sha256:{checksum}")
    key = short_hash("archive", checksum, *image.gfx, image.rocm)
    what = f"import {path.name}"
    known = find(workshop, image.name, key)
    if known is not None:
        return Outlook(known, key, lock, what, f"{path.name} has not changed")
    why = f"{path.name} is new here"
    if not make:
        return Outlook(None, key, lock, what, why)
    with workshop.store.fresh_layout(key) as fresh:
        converted = _import(path, fresh, workshop)
        why += _tried(image, workshop, key, converted)
        made = Made("archive", path.name, f"sha256:{checksum}", image.gfx, image.rocm, converted.dropped)
        return Outlook(_keep(image, workshop, key, converted, made), key, lock, what, why)


def _import(path: Path, layout: Path, workshop: Workshop) -> convert.Converted:
    with archive.opened(archive.inspect(path), layout.parent) as source:
        return convert.to_layout(source, layout, called=f"archive {path}", on_line=workshop.on_line)


def _tried(image: Image, workshop: Workshop, key: str, converted: convert.Converted) -> str:
    """Why what was brought was not tried, as the end of a sentence. Raises FleetError where it is not fit."""
    try:
        untried = prove(workshop, converted.image, image.name, key)
    except SmokeError as error:
        error.key = key
        raise
    return f"; {untried}" if untried else ""


def _keep(image: Image, workshop: Workshop, key: str, converted: convert.Converted, made: Made) -> Release:
    release = release_of(converted.image, image.name, made)
    workshop.store.adopt(converted.image.path, release)
    workshop.store.keep(key, release)
    return release


def _checksum(path: Path, workshop: Workshop) -> str:
    """SHA-256 of a file; one that has neither moved nor changed since last time is not read again."""
    try:
        memo = _memo(path)
        if not path.is_file():  # a pipe would be waited for without end
            raise UsageError(f"archive {path} is no file", hint="image.archive names a tarball")
        before = workshop.store.known_key(memo)
        if before:
            return before
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except FileNotFoundError as error:
        raise UsageError(
            f"archive {path} is not there", hint="image.archive names a file of this controller"
        ) from error
    except OSError as error:
        raise FleetError(f"archive {path} cannot be read: {error.strerror}") from error
    workshop.store.know_key(memo, digest.hexdigest())
    return digest.hexdigest()


def _remembered(path: Path, workshop: Workshop) -> bool:
    """Whether `_checksum` would answer at once."""
    try:
        return bool(workshop.store.known_key(_memo(path)))
    except OSError:
        return False


def _memo(path: Path) -> str:
    """A name for a file as it lies there now. Raises OSError."""
    stat = path.stat()
    return short_hash("archive", str(path.absolute()), str(stat.st_size), str(stat.st_mtime_ns), str(stat.st_ino))
