"""A tar that is an OCI layout and a `docker save` archive at once, in parts: what a host puts around the layers.

Measured: Docker 20.10's classic store loads it with gzip layers as they are, and without layers that it already has
below; 26.1.5 with the containerd store loads it, as an OCI layout, without blobs that its content store has.
"""

import io
import json
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.image import reference
from fleet.image.layout import OCI_INDEX, Blob, LayoutImage

BLOCK = 512  # bytes, tar's
# Not USTAR, whose sizes end at 8 GiB: layers of ROCm images are larger. Go's and GNU's tar read it.
_FORMAT: Final = tarfile.GNU_FORMAT


@dataclass(frozen=True)
class Frame:
    """The tar without its layers: `front` are whole entries, `heads` one block for each layer, in their order.

    The tar is the front, then for each layer its head, its bytes and zeros up to a block, then two blocks of zeros.
    """

    front: bytes
    heads: tuple[bytes, ...]


def frame(image: LayoutImage, name: str, layers: Sequence[Blob]) -> Frame:
    """What is around these layers in the tar of `image` as `name` (NAME:TAG). The same input gives the same bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=_FORMAT) as tar:
        for path, content in _documents(image, name):
            tar.addfile(_member(path, len(content)), io.BytesIO(content))
        for blob in _small(image):
            with image.blob_path(blob).open("rb") as file:
                tar.addfile(_member(_inside(blob), blob.size), file)
        front = out.getvalue()
    return Frame(front, tuple(_member(_inside(one), one.size).tobuf(_FORMAT) for one in layers))


def write(image: LayoutImage, name: str, target: Path) -> None:
    """The whole tar of `image` as `name`, into a file."""
    layers = tuple(dict.fromkeys(image.layers))
    around = frame(image, name, layers)
    with target.open("wb") as out:
        out.write(around.front)
        for head, layer in zip(around.heads, layers, strict=True):
            out.write(head)
            with image.blob_path(layer).open("rb") as blob:
                shutil.copyfileobj(blob, out, 1 << 20)
            out.write(bytes(-layer.size % BLOCK))
        out.write(bytes(2 * BLOCK))


def manifest_json(image: LayoutImage, name: str) -> bytes:
    """The `manifest.json` of docker save, pointing at the blobs where the layout has them."""
    entry = {
        "Config": _inside(image.config),
        "RepoTags": [reference.parse(name).familiar],
        "Layers": [_inside(layer) for layer in image.layers],
    }
    return json.dumps([entry]).encode()


def beside(image: LayoutImage, name: str) -> Path:
    """Write `manifest.json` into the layout itself, so that a plain tar of the directory is loadable too."""
    path = image.path / "manifest.json"
    path.write_bytes(manifest_json(image, name))
    return path


def _documents(image: LayoutImage, name: str) -> Iterator[tuple[str, bytes]]:
    full = reference.parse(name)
    # The containerd store names an image by these annotations, the classic one by manifest.json.
    annotations = {
        "io.containerd.image.name": f"{full.name}:{full.tag_or_latest}",
        "org.opencontainers.image.ref.name": full.tag_or_latest,
    }
    manifest = {
        "mediaType": image.manifest.media_type,
        "digest": image.manifest.digest,
        "size": image.manifest.size,
        "annotations": annotations,
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    yield "oci-layout", b'{"imageLayoutVersion":"1.0.0"}'
    yield "index.json", json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [manifest]}).encode()
    yield "manifest.json", manifest_json(image, name)


def _small(image: LayoutImage) -> tuple[Blob, ...]:
    """Everything but the layers."""
    layers = {layer.digest for layer in image.layers}
    return tuple({blob.digest: blob for blob in image.blobs if blob.digest not in layers}.values())


def _inside(blob: Blob) -> str:
    return f"blobs/{blob.digest.replace(':', '/')}"


def _member(path: str, content: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.size = content
    member.mode = 0o644
    return member
