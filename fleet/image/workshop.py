"""Where releases are made and found again: the cache, the builder, the registry, and how progress is told."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from fleet.errors import FleetError
from fleet.image import convert
from fleet.image.lock import Lock
from fleet.image.machine import Machine
from fleet.image.reference import Reference
from fleet.image.registry_api import RegistryClient
from fleet.image.release import Release, dumps, loads
from fleet.image.store import Store
from fleet.inventory.settings import Registry


@dataclass(frozen=True)
class Workshop:
    """`registry` is the fleet's own, None where there is none. `update` resolves floating refs and tags anew."""

    store: Store
    machine: Machine
    registry: Registry | None
    on_line: Callable[[str], None]
    update: bool = False

    def registry_for(self, domain: str) -> Registry:
        """The fleet's own registry with its credentials where `domain` is it, any other without."""
        return self.registry if self.registry and self.registry.host == domain else Registry(domain)


@dataclass(frozen=True)
class Produced:
    """A release, the lock after it, and whether anything had to be made."""

    release: Release
    key: str
    lock: Lock
    changes: bool
    why: str


@dataclass(frozen=True)
class Outlook:
    """What `produce` would find or do. `release` is None when it has yet to be made; `what` then says how."""

    release: Release | None
    key: str
    lock: Lock
    what: str
    why: str

    @property
    def changes(self) -> bool:
        return self.release is None


def record_tag(key: str) -> str:
    """The tag of a content key's record, beside the image in its repository."""
    return f"fleet-{key}"


def find(workshop: Workshop, name: str, key: str) -> Release | None:
    """The release that a content key gave before, from the cache or from the registry's record.

    A record whose image is neither in the store nor in the registry counts as none: the image has to be made again.
    """
    known = workshop.store.release(key)
    if known is not None and known.name != name:
        known = None
    if known is not None and workshop.store.layout(known) is not None:
        return known
    if workshop.registry is None:
        return None
    with RegistryClient(workshop.registry) as client:
        if known is not None and client.digest(name, known.manifest_digest):
            return known
        content = client.get_record(name, record_tag(key))
        if content is None:
            return None
        release = loads(content, f"{workshop.registry.host}/{name}:{record_tag(key)}")
        if not client.digest(name, release.manifest_digest):
            return None
    workshop.store.keep(key, release)
    return release


def publish(release: Release, key: str, registry: Registry) -> bool:
    """Put the record beside the pushed image; False when the registry has the same already."""
    content = dumps(release).encode()
    with RegistryClient(registry) as client:
        if client.get_record(release.name, record_tag(key)) == content:
            return False
        note = {"org.opencontainers.image.title": release.local_name}
        client.put_record(release.name, record_tag(key), content, note)
    return True


def ensure_layout(workshop: Workshop, release: Release) -> None:
    """See that the release lies in the store: it does, or the registry gives it by digest. Raises FleetError."""
    if workshop.store.layout(release) is not None:
        return
    if workshop.registry is None:
        raise FleetError(
            f"{release.local_name} is neither in {workshop.store.root} nor in a registry", hint="fleet build"
        )
    fresh = workshop.store.fresh_layout(release.id)
    source = f"docker://{release.in_registry(workshop.registry.host)}"
    converted = convert.to_layout(source, fresh, registry=workshop.registry, on_line=workshop.on_line)
    if converted.image.manifest.digest != release.manifest_digest:
        raise FleetError(f"{source} came as {converted.image.manifest.digest}", hint="skopeo changed it; report this")
    workshop.store.adopt(fresh, release)


def resolve_tag(workshop: Workshop, reference: Reference, lock: Lock) -> tuple[str, Lock]:
    """The digest that a reference means, locked; "" where its registry has no such image."""
    if reference.digest:
        return reference.digest, lock
    full = f"{reference.name}:{reference.tag_or_latest}"
    if not workshop.update and lock.image(full):
        return lock.image(full), lock
    with RegistryClient(workshop.registry_for(reference.domain)) as client:
        digest = client.digest(reference.path, reference.tag_or_latest)
    return digest, lock.with_image(full, digest) if digest else lock


def short_hash(*words: str) -> str:
    """Twenty hexadecimal digits for a list of words."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:20]
