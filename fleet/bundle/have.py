"""What a site holds, as a small file that somebody carries out: blobs of its store, layers on its nodes."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.delivery.holdings import HeldImage, Holdings
from fleet.errors import FleetError

SCHEMA = 1
MOST = 64 << 20  # bytes of a file of ours
STORE = "store"


@dataclass(frozen=True)
class Have:
    """`blobs` are digests in the site's store; `hosts` what each node holds; `failed` nodes that did not answer, why."""

    made: str
    by: str
    blobs: frozenset[str] = frozenset()
    hosts: Mapping[str, Holdings] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    def holders(self, digest: str, diff_ids: tuple[str, ...], index: int, hosts: Iterable[str]) -> tuple[str, ...]:
        """Who makes it needless to carry a layer: the store, or every one of `hosts`, else nobody.

        A containerd store may have a layer compressed otherwise, which does not help; so there only the whole image counts.
        """
        if digest in self.blobs:
            return (STORE,)
        names = tuple(sorted(set(hosts)))
        return names if names and all(self.holds(name, diff_ids, index) for name in names) else ()

    def holds(self, host: str, diff_ids: tuple[str, ...], index: int) -> bool:
        held = self.hosts.get(host)
        if held is None:
            return False
        missing = held.missing_layers(diff_ids)
        return not missing if held.containerd_store else index not in missing


def dumps(have: Have) -> bytes:
    hosts = {
        name: {
            "containerd_store": held.containerd_store,
            "images": [
                {"id": one.id, "names": one.names, "repo_digests": one.repo_digests, "diff_ids": one.diff_ids}
                for one in held.images
            ],
        }
        for name, held in sorted(have.hosts.items())
    }
    document = {
        "schema": SCHEMA,
        "made": have.made,
        "by": have.by,
        "blobs": sorted(have.blobs),
        "hosts": hosts,
        "failed": dict(have.failed),
    }
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def read(path: Path) -> tuple[Have, str]:
    """The file and its SHA-256. Raises FleetError."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST + 1)
    except OSError as error:
        raise FleetError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MOST:
        raise FleetError(f"{path} is no file of `bundle.have`: it is longer than {MOST >> 20} MiB")
    try:
        data = json.loads(content)
        if data["schema"] != SCHEMA:
            raise FleetError(f"{path}: has schema {data['schema']}, and this fleet reads {SCHEMA}")
        hosts = {str(name): _holdings(held) for name, held in data["hosts"].items()}
        have = Have(str(data["made"]), str(data["by"]), frozenset(data["blobs"]), hosts, dict(data["failed"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FleetError(
            f"{path} is no file of `bundle.have`: {error}", hint="make it again: bundle.have -o FILE"
        ) from error
    return have, hashlib.sha256(content).hexdigest()


def _holdings(data: Mapping[str, Any]) -> Holdings:
    images = tuple(
        HeldImage(str(one["id"]), tuple(one["names"]), tuple(one["repo_digests"]), tuple(one["diff_ids"]))
        for one in data["images"]
    )
    return Holdings(images, bool(data["containerd_store"]))
