"""A root filesystem as an image: an OCI layout of one image with one layer, the same bytes for the same files."""

import hashlib
import json
import subprocess
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.errors import FleetError

EPOCH = "2025-01-01T00:00:00Z"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Runs:
    """What the image says of itself beside its files."""

    environment: Mapping[str, str]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    made_by: str = "debootstrap bookworm"

    def to_json(self) -> dict[str, Any]:
        words = {"Entrypoint": list(self.entrypoint), "Cmd": list(self.command)}
        said = {name: value for name, value in words.items() if value}
        return {"Env": [f"{name}={value}" for name, value in self.environment.items()]} | said


def write_layout(root: Path, layout: Path, tag: str, runs: Runs, *, level: int = 3) -> None:
    """Write `layout` with the image `tag` of all files below `root`; `level` is gzip's."""
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    diff_id, layer = _layer(root, blobs, level)
    config = {
        "created": EPOCH,
        "architecture": "amd64",
        "os": "linux",
        "config": runs.to_json(),
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": EPOCH, "created_by": runs.made_by}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _blob(blobs, config, CONFIG),
        "layers": [layer],
    }
    entry = _blob(blobs, manifest, MANIFEST) | {"annotations": {"org.opencontainers.image.ref.name": tag}}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def _layer(root: Path, blobs: Path, level: int) -> tuple[str, dict[str, Any]]:
    """Write the layer; returns its diffID and its descriptor."""
    command = ("tar", "--sort=name", "--numeric-owner", f"--mtime={EPOCH}", "-C", str(root), "-cf", "-", ".")
    plain, packed, size = hashlib.sha256(), hashlib.sha256(), 0
    packer = zlib.compressobj(level, zlib.DEFLATED, 31)  # 31: a gzip header, without a time in it
    new = blobs / "layer.new"
    with subprocess.Popen(command, stdout=subprocess.PIPE) as tar, new.open("wb") as out:
        if tar.stdout is None:
            raise FleetError("tar has no output")
        for piece in iter(lambda: tar.stdout.read(1 << 20) if tar.stdout else b"", b""):
            plain.update(piece)
            data = packer.compress(piece)
            packed.update(data)
            size += out.write(data)
        data = packer.flush()
        packed.update(data)
        size += out.write(data)
    if tar.returncode:
        raise FleetError(f"packing {root} into an image failed: tar ended with {tar.returncode}")
    new.rename(blobs / packed.hexdigest())
    return f"sha256:{plain.hexdigest()}", _descriptor(LAYER, packed.hexdigest(), size)


def _blob(blobs: Path, value: object, kind: str) -> dict[str, Any]:
    data = json.dumps(value, separators=(",", ":")).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return _descriptor(kind, digest, len(data))


def _descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": size}
