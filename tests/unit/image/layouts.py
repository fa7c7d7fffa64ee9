"""A maker of small OCI layouts for tests: real tars, real gzip, real digests."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet.image import docker_archive
from fleet.image.layout import OCI_INDEX, OCI_MANIFEST, Blob, LayoutImage

GZIP_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
PLAIN_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"


def tar_of(files: Mapping[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content.encode())
            tar.addfile(member, io.BytesIO(content.encode()))
    return out.getvalue()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def put(layout: Path, content: bytes) -> dict[str, Any]:
    digest = digest_of(content)
    path = layout / "blobs" / digest.replace(":", "/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {"digest": digest, "size": len(content)}


def add_image(
    layout: Path,
    layers: Sequence[Mapping[str, str]],
    config: Mapping[str, Any] | None = None,
    *,
    plain: bool = False,
    architecture: str = "amd64",
) -> dict[str, Any]:
    """Put one image into `layout` and return its descriptor with its platform."""
    tars = [tar_of(files) for files in layers]
    packed = [tar if plain else gzip.compress(tar, mtime=0) for tar in tars]
    document = {
        "architecture": architecture,
        "os": "linux",
        "created": "2026-11-23T00:00:00Z",
        "config": dict(config or {}),
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
    }
    media = PLAIN_LAYER if plain else GZIP_LAYER
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, **put(layout, json.dumps(document).encode())},
        "layers": [{"mediaType": media, **put(layout, content)} for content in packed],
    }
    platform = {"os": "linux", "architecture": architecture}
    return {"mediaType": OCI_MANIFEST, **put(layout, json.dumps(manifest).encode()), "platform": platform}


def write_index(layout: Path, manifests: Sequence[Mapping[str, Any]]) -> Path:
    layout.mkdir(parents=True, exist_ok=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(manifests)}
    (layout / "index.json").write_text(json.dumps(index))
    return layout


def make(
    layout: Path,
    layers: Sequence[Mapping[str, str]] = ({"a": "one"}, {"b": "two"}),
    config: Mapping[str, Any] | None = None,
    *,
    plain: bool = False,
) -> Path:
    """A layout with one linux/amd64 image."""
    return write_index(layout, [add_image(layout, layers, config, plain=plain)])


def archive(image: LayoutImage, name: str, layers: Sequence[Blob] | None = None) -> bytes:
    """The tar that an engine is given, put together as a host does; `layers` that travel, all of them if not given."""
    chosen = tuple(dict.fromkeys(image.layers if layers is None else layers))
    around = docker_archive.frame(image, name, chosen)
    parts = [around.front]
    for head, layer in zip(around.heads, chosen, strict=True):
        content = image.blob_path(layer).read_bytes()
        parts += [head, content, bytes(-len(content) % docker_archive.BLOCK)]
    return b"".join((*parts, bytes(2 * docker_archive.BLOCK)))
