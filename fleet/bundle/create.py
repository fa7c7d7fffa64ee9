"""Making a bundle: everything is named and hashed first, then written, and signed last."""

import getpass
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from fleet.bundle import plan, sign
from fleet.bundle.contents import KEYS
from fleet.bundle.have import Have
from fleet.bundle.manifest import NAME, SIGNATURE, VOLUME, Base, Entry, Manifest, Want, blob_entry_path, dumps
from fleet.bundle.plan import Carried
from fleet.bundle.write import Piece, piece_of, put
from fleet.delivery.progress import Moving
from fleet.errors import FleetError, UsageError
from fleet.image.layout import read
from fleet.image.release import Release
from fleet.image.release import dumps as record_text
from fleet.image.store import Store

WHERE = "bundle"  # where a line about bytes names a host


@dataclass(frozen=True)
class Terms:
    """How a bundle is made. `since`: what the site has, with the file's SHA-256. `sign_key` "" = unsigned."""

    target: Path
    volume_size: int = 0
    sign_key: str = ""
    since: tuple[Have, str] | None = None


@dataclass(frozen=True)
class Made:
    """`written` counts the files that were not there before."""

    manifest: Manifest
    written: int


def carried(releases: Mapping[str, Mapping[str, Release]], store: Store) -> tuple[Carried, ...]:
    """Every release once, from its layout; `releases` go by host and service."""
    hosts: dict[str, set[str]] = {}
    by_id: dict[str, Release] = {}
    for host, of_host in releases.items():
        for release in of_host.values():
            by_id[release.id] = release
            hosts.setdefault(release.id, set()).add(host)
    return tuple(
        Carried(one.local_name, read(store.layout_path(one)), tuple(sorted(hosts[name])))
        for name, one in sorted(by_id.items())
    )


def with_relays(
    releases: Mapping[str, Mapping[str, Release]], relays: Mapping[str, Release]
) -> dict[str, dict[str, Release]]:
    """All releases by host and service, the registries of relays (by host) under the service ""."""
    extra = {host: {"": release} for host, release in relays.items()}
    return {host: {**releases.get(host, {}), **extra.get(host, {})} for host in {**releases, **extra}}


def record_files(releases: Sequence[Release], root: Path) -> dict[str, bytes]:
    """The releases' records under every content key that this controller knows them by, and the memos of these keys."""
    wanted = {one.manifest_digest: one for one in releases}
    store, found = Store(root), {}
    for path in sorted((root / "releases").glob("*.json")):
        known = store.release(path.stem)
        if known is not None and known.manifest_digest in wanted:
            found[path.stem] = known
    keys = {}
    for path in sorted((root / "keys").glob("*")):
        key = store.known_key(path.name) if path.is_file() else ""
        if key in found:
            keys[path.name] = key
    files = {f"releases/{key}.json": record_text(one).encode() for key, one in found.items()}
    return {**files, KEYS: (json.dumps(keys, indent=1, sort_keys=True) + "\n").encode()}


def create(
    images: Sequence[Carried],
    files: Mapping[str, Path | bytes],
    wants: Sequence[Want],
    terms: Terms,
    *,
    inventory: Sequence[str] = (),
    models: Mapping[str, Sequence[str]] = MappingProxyType({}),
    packages: Sequence[str] = (),
    moving: Moving,
) -> Made:
    """Write the bundle; what lies there already with the right size and hash stays. `models` go with the hosts that serve
    them. Raises FleetError.

    A directory that holds something else than this bundle's files is refused before anything is written.
    """
    have = terms.since[0] if terms.since else None
    trip = plan.travel(images, have)
    pieces = {path: piece_of(path, content) for path, content in {**plan.documents(images), **files}.items()}
    for blob, image in trip.blobs:
        path = blob_entry_path(blob.digest)
        pieces[path] = Piece(Entry(path, blob.size, blob.digest.removeprefix("sha256:")), image.blob_path(blob))
    stays = plan.kept_files((piece.entry for piece in pieces.values()), models, have)
    for out in stays:
        del pieces[out.path]
    entries = plan.split((piece.entry for piece in pieces.values()), terms.volume_size)
    manifest = Manifest(
        created=now(),
        by=whoami(),
        fleet=version("amd-fleet"),
        inventory=tuple(inventory),
        files=tuple(sorted(entries)),
        wants=tuple(sorted(wants)),
        volumes=max((one.volume for one in entries), default=1),
        models=tuple(models),
        packages=tuple(packages),
        base=Base(terms.since[1], terms.since[0].made, terms.since[0].by, trip.absent, stays) if terms.since else None,
    )
    _clear(terms.target, manifest)
    written = 0
    with moving(WHERE, f"write {terms.target}", manifest.size) as at:
        done = 0

        def on_bytes(count: int) -> None:
            nonlocal done
            done += count
            at(done)

        for entry in manifest.files:
            target = terms.target / manifest.folder(entry.volume) / entry.path
            written += put(Piece(entry, pieces[entry.path].source), target, on_bytes)
    _seal(terms, manifest)
    return Made(manifest, written)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def whoami() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _clear(target: Path, manifest: Manifest) -> None:
    """Unseal what is there: until all is written it is no bundle. Raises UsageError for foreign files, by name, before that."""
    known = {str(Path(manifest.folder(one.volume)) / one.path) for one in manifest.files}
    folders = {manifest.folder(number) for number in range(1, manifest.volumes + 1)}
    sealed = {str(Path(folder) / name) for folder in folders for name in (NAME, SIGNATURE, VOLUME)}
    parts = {f"{name}.part" for name in known | sealed}
    stale = []
    for path in sorted(target.rglob("*")) if target.exists() else ():
        name = path.relative_to(target).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        if name in sealed | parts:
            stale.append(path)
        elif name not in known:
            raise UsageError(
                f"{target} holds {name}, which is not of this bundle", hint="choose an empty directory, or remove it"
            )
    for path in stale:
        _remove(path)


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise FleetError(f"{path} cannot be removed: {error.strerror}", hint="what is there stays") from error


def _seal(terms: Terms, manifest: Manifest) -> None:
    """What makes the files a bundle, each whole or not there: the manifest of a directory comes last."""
    content = dumps(manifest)
    signature = sign.sign(content, terms.sign_key) if terms.sign_key else b""
    for number in range(1, manifest.volumes + 1):
        folder = terms.target / manifest.folder(number)
        if manifest.volumes > 1:
            _put(folder / VOLUME, manifest.volume_text(number))
        if signature:
            _put(folder / SIGNATURE, signature)
        _put(folder / NAME, content)


def _put(path: Path, content: bytes) -> None:
    put(piece_of(path.name, content), path)
