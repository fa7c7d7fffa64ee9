"""What a site holds, as a small file that somebody carries out: blobs of its store, layers on its nodes."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.delivery.holdings import HeldImage, Holdings
from fleet.errors import FleetError
from fleet.models.content import File

SCHEMA = 1
MOST = 64 << 20  # bytes of a file of ours
STORE = "store"


@dataclass(frozen=True)
class Have:
    """`blobs` are digests in the site's store; `hosts` what each node holds of images; `failed` nodes that did not answer, why.

    `models` are the files of the models that each node serves, by host and model, as the lists beside them tell.
    """

    made: str
    by: str
    blobs: frozenset[str] = frozenset()
    hosts: Mapping[str, Holdings] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, frozenset[File]]] = field(default_factory=dict)

    def holders(self, digest: str, diff_ids: tuple[str, ...], index: int, hosts: Iterable[str]) -> tuple[str, ...]:
        """Who makes it needless to carry a layer: the store, or every one of `hosts`, else nobody.

        A containerd store may have a layer compressed otherwise, which does not help; so there only the whole image counts.
        """
        if digest in self.blobs:
            return (STORE,)
        names = tuple(sorted(set(hosts)))
        return names if names and all(self.holds(name, diff_ids, index) for name in names) else ()

    def keepers(self, model: str, file: File, hosts: Iterable[str]) -> tuple[str, ...]:
        """Who makes it needless to carry a file of a model: every one of `hosts`, else nobody."""
        names = tuple(sorted(set(hosts)))
        return names if names and all(self.keeps(name, model, file) for name in names) else ()

    def keeps(self, host: str, model: str, file: File) -> bool:
        return file in self.models.get(host, {}).get(model, ())

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
        "models": {
            host: {
                name: [[one.path, one.size, one.sha256] for one in sorted(files)] for name, files in sorted(of.items())
            }
            for host, of in sorted(have.models.items())
        },
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
        models = {str(name): _models(of) for name, of in data.get("models", {}).items()}  # an older fleet tells of none
        have = Have(
            _line(data["made"]), _line(data["by"]), frozenset(data["blobs"]), hosts, dict(data["failed"]), models
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise FleetError(
            f"{path} is no file of `bundle.have`: {error}", hint="make it again: bundle.have -o FILE"
        ) from error
    return have, hashlib.sha256(content).hexdigest()


def _line(value: object) -> str:
    """A text that the manifest of a delta repeats, and that has to be read there."""
    if not isinstance(value, str) or not value.isprintable():
        raise TypeError(f"{value!r} is no text of one line")
    return value


def _holdings(data: Mapping[str, Any]) -> Holdings:
    images = tuple(
        HeldImage(str(one["id"]), tuple(one["names"]), tuple(one["repo_digests"]), tuple(one["diff_ids"]))
        for one in data["images"]
    )
    return Holdings(images, bool(data["containerd_store"]))


def _models(data: Mapping[str, Any]) -> dict[str, frozenset[File]]:
    return {
        str(name): frozenset(File(str(path), int(size), str(sha256)) for path, size, sha256 in files)
        for name, files in data.items()
    }
