"""Where releases are made and found again: the cache, the builder, the registry, and how progress is told."""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fleet.errors import FleetError
from fleet.image import archive, convert
from fleet.image.describe import Made
from fleet.image.lock import Lock
from fleet.image.machine import Machine
from fleet.image.reference import Reference
from fleet.image.registry_api import RegistryClient
from fleet.image.registry_words import DeniedError
from fleet.image.release import Release, dumps, loads
from fleet.image.scratch import scratch
from fleet.image.store import Store
from fleet.inventory.settings import Registry


class Hosts(Protocol):
    """The hosts that an image is for, as a place where releases are found again."""

    def find(self, name: str, key: str, known: Release | None) -> Release | None:
        """The release of a content key that some host really holds; `known` is what our own cache says of it."""

    def saved(self, release: Release, folder: Path) -> Iterator[AbstractContextManager[Path]]:
        """Each holder's `docker save` of the release, in `folder` for as long as it is needed."""


def _nothing(*_tokens: str) -> None:
    """Nobody keeps a ledger."""


@dataclass(frozen=True)
class Workshop:
    """`registry` is the fleet's own, None where there is none. `update` resolves floating refs and tags anew.

    `straight(tag, name, made)` brings what was just built from the builder into the registry without the controller, or
    keeps it there for hosts; None where it could not. The store then has the release's record and no layout. `kept` tells
    whether the builder keeps a release so.

    `hosts` are asked where neither the store nor the registry knows a content key. `again(release)` brings a lost layout
    back from where the image came from; it may raise FleetError. `prove(tag)` judges what the builder built, or what was
    brought to it, before it goes on; it may raise FleetError. `registries`, by host, are further ones that images come from.
    `pulled`: some host pulls the image from `registry`.
    `claim(TOKEN, …)` writes down what the inventory had made: content keys, image IDs.
    """

    store: Store
    machine: Machine
    registry: Registry | None
    on_line: Callable[[str], None]
    update: bool = False
    straight: Callable[[str, str, Made], Release | None] | None = None
    kept: Callable[[Release], bool] = lambda _release: False
    hosts: Hosts | None = None
    again: Callable[[Release], object] | None = None
    prove: Callable[[str], None] | None = None
    registries: Mapping[str, Registry] = field(default_factory=dict)
    pulled: bool = False
    claim: Callable[..., None] = _nothing

    def registry_for(self, domain: str) -> Registry:
        """How the registry of an image is talked to: as the fleet's own, as the inventory says of it, else like anybody."""
        if self.registry and self.registry.host == domain:
            return self.registry
        return self.registries.get(domain) or Registry(domain)


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


def find(workshop: Workshop, name: str, key: str, *, lenient: bool = False) -> Release | None:
    """The release that a content key gave before: from the cache, the builder, the registry's record, or a host's.

    A record whose image is nowhere counts as none: the image has to be made again. `lenient`: a registry that lets us
    pull no such name has no record of it either.
    """
    known = workshop.store.release(key)
    if known is not None and known.name != name:
        known = None
    if known is not None and (workshop.store.partial(known) is not None or workshop.kept(known)):
        return known
    found = None
    if workshop.registry is not None:
        try:
            found = _in_registry(workshop.registry, name, key, known)
        except DeniedError:
            if not lenient:
                raise
    if found is None and workshop.hosts is not None:
        found = workshop.hosts.find(name, key, known)
    if found is not None and found != known:
        workshop.store.keep(key, found)
    return found


def recorded(registry: Registry, name: str, key: str) -> Release | None:
    """The release of a content key whose record and image the registry has."""
    return _in_registry(registry, name, key, None)


def _in_registry(registry: Registry, name: str, key: str, known: Release | None) -> Release | None:
    with RegistryClient(registry) as client:
        if known is not None and lies_in(client, known):
            return known
        content = client.get_record(name, record_tag(key))
        if content is None:
            return None
        release = loads(content, f"{registry.host}/{name}:{record_tag(key)}")
        return release if lies_in(client, release) else None


def lies_in(client: RegistryClient, release: Release) -> bool:
    """Whether the registry has the image, where hosts pull it from."""
    return bool(client.digest(release.in_registry(client.host).path, release.manifest_digest))


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
    """See that the release lies in the store, by its very digest, wherever it has to be brought from.

    Asked in turn: the registry, where the image came from, the hosts that run it. Raises FleetError with every reason.
    """
    if workshop.store.layout(release) is not None:
        return
    reasons: list[str] = []
    for bring in (_from_registry, _from_source, _from_hosts):
        try:
            bring(workshop, release)
        except FleetError as error:
            reasons.append(error.message)
        if workshop.store.layout(release) is not None:
            return
    why = f": {'; '.join(reasons)}" if reasons else " nor in a registry"
    raise FleetError(
        f"the layout of {release.local_name} is not in {workshop.store.root}{why}",
        hint=f"copy layouts/{release.id} from the `.fleet` of the controller that made it",
    )


def _from_registry(workshop: Workshop, release: Release) -> None:
    if workshop.registry is None:
        return
    with RegistryClient(workshop.registry) as client:
        if not lies_in(client, release):
            raise FleetError(f"registry {workshop.registry.host} does not have it")
    source = f"docker://{release.in_registry(workshop.registry.host)}"
    with workshop.store.fresh_layout(release.id) as fresh:
        converted = convert.to_layout(source, fresh, registry=workshop.registry, on_line=workshop.on_line)
        take(workshop.store, converted, release, workshop.registry.host)


def _from_source(workshop: Workshop, release: Release) -> None:
    if workshop.again is not None:
        workshop.again(release)


def _from_hosts(workshop: Workshop, release: Release) -> None:
    """`docker save` of a containerd store gives the image as it came; of a classic one its layers unpacked.

    Packed again by the same skopeo they have the digests they had when they were first packed so, as images from builds
    and docker-archives were. Others come back with the same config and diffIDs and other digests, and are refused.
    """
    if workshop.hosts is None:
        return
    reasons: dict[str, None] = {}
    with workshop.store.fresh_layout(release.id) as fresh, scratch(fresh.parent) as folder:
        for saved in workshop.hosts.saved(release, folder):
            with saved as path:
                for brought in archive.readings(path):
                    with archive.opened(brought, folder) as source:
                        converted = convert.to_layout(source, fresh, on_line=workshop.on_line)
                    try:
                        take(workshop.store, converted, release, "a host")
                    except FleetError as error:
                        reasons[error.message] = None
                    else:
                        return
    if reasons:
        raise FleetError(f"it came back packed otherwise: {', '.join(reasons)}")


def take(store: Store, converted: convert.Converted, release: Release, whence: str) -> None:
    """A layout that was brought back, into its place. Raises FleetError when it is another image; it is gone then."""
    image = converted.image
    if image.manifest.digest != release.manifest_digest:
        shutil.rmtree(image.path)
        raise FleetError(f"from {whence} it came as {image.manifest.digest}")
    store.adopt(image.path, release)


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


def had(workshop: Workshop, reference: Reference, digest: str) -> bool:
    """Whether the registry has the manifest of this digest."""
    with RegistryClient(workshop.registry_for(reference.domain)) as client:
        return client.digest(reference.path, digest) == digest


def short_hash(*words: str) -> str:
    """Twenty hexadecimal digits for a list of words."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:20]
