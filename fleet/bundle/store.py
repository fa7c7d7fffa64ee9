"""The site's one blob store: an OCI layout of every release that was ever loaded, with their records. skopeo opens it.

STORE/blobs/sha256/…, oci-layout, index.json     every blob once
STORE/releases/KEY.json                          records
STORE/.lock                                      who writes here holds it
"""

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fleet import whole
from fleet.errors import FleetError
from fleet.image.layout import Blob, blob_path, read_manifest
from fleet.image.release import Release, dumps

_INDEX = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}


@dataclass(frozen=True)
class SiteStore:
    root: Path

    def digests(self) -> frozenset[str]:
        """Every blob that lies here; blobs get their names only when they are whole."""
        folder = self.root / "blobs/sha256"
        try:
            return frozenset(f"sha256:{one.name}" for one in folder.iterdir() if len(one.name) == 64)
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise FleetError(f"store {self.root} cannot be read: {error.strerror}") from error

    def path(self, digest: str) -> Path:
        return blob_path(self.root, digest)

    def lacks(self, release: Release) -> tuple[str, ...]:
        """Digests of a release that are not here."""
        here = self.digests()
        wanted = (release.manifest_digest, release.config_digest, *release.layer_digests)
        return tuple(one for one in dict.fromkeys(wanted) if one not in here)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else writes here meanwhile, and what a killed writer left of blobs is gone. Raises FleetError.

        The kernel drops the lock with the process that holds it.
        """
        with self._lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                hint = "run the same again when that has ended"
                raise FleetError(f"store {self.root}: somebody is loading into it just now", hint=hint) from error
            for left in self.root.glob("blobs/sha256/*.part"):
                left.unlink()
            yield

    def keep(self, key: str, release: Release) -> None:
        """The record of a content key."""
        _replace(self.root / "releases" / f"{key}.json", dumps(release))

    def index(self, releases: Sequence[Release]) -> None:
        """Name complete releases in index.json, beside those that it names already."""
        path = self.root / "index.json"
        try:
            entries: list[dict[str, Any]] = json.loads(path.read_bytes())["manifests"] if path.exists() else []
        except (ValueError, KeyError, OSError) as error:
            raise FleetError(f"{path} is damaged: {error}", hint="remove it and load again") from error
        digests = {one.manifest_digest for one in releases}
        entries = [one for one in entries if one.get("digest") not in digests]
        for release in releases:
            content = self.path(release.manifest_digest).read_bytes()
            media = str(json.loads(content).get("mediaType") or "application/vnd.oci.image.manifest.v1+json")
            read_manifest(self.root, Blob(media, release.manifest_digest, len(content)))
            entries.append(
                {
                    "mediaType": media,
                    "digest": release.manifest_digest,
                    "size": len(content),
                    "annotations": {"org.opencontainers.image.ref.name": release.local_name},
                    "platform": {"os": "linux", "architecture": "amd64"},
                }
            )
        _replace(self.root / "oci-layout", '{"imageLayoutVersion":"1.0.0"}')
        _replace(path, json.dumps({**_INDEX, "manifests": entries}))

    def _lock(self) -> IO[str]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            return (self.root / ".lock").open("a", encoding="ascii")
        except OSError as error:
            raise FleetError(f"store {self.root} cannot be written: {error.strerror}") from error


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.write(path, text, mode=0o644)
