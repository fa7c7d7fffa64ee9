"""A tar that is an OCI layout and a `docker save` archive at once, streamed from a layout.

Measured: Docker 20.10's classic store loads it with gzip layers as they are, and without layers that it already has
below; 26.1.5 with the containerd store loads it, as an OCI layout, without blobs that its content store has.
"""

import io
import json
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from fleet.image import reference
from fleet.image.layout import OCI_INDEX, Blob, LayoutImage

_BLOCK = 512


def write(image: LayoutImage, name: str, out: BinaryIO, *, leave_out: Collection[str] = ()) -> None:
    """Stream the tar of `image` as `name` (NAME:TAG) to `out`. `leave_out` are layer digests that stay away.

    The same input gives the same bytes. Raises OSError as `out` does.
    """
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        for path, content in _documents(image, name):
            tar.addfile(_member(path, len(content)), io.BytesIO(content))
        for blob in _travelling(image, leave_out):
            with image.blob_path(blob).open("rb") as file:
                tar.addfile(_member(_inside(blob), blob.size), file)


def size(image: LayoutImage, name: str, *, leave_out: Collection[str] = ()) -> int:
    """Bytes that `write` will write."""
    sizes = [len(content) for _, content in _documents(image, name)]
    sizes += [blob.size for blob in _travelling(image, leave_out)]
    total = sum(_BLOCK + -(-content // _BLOCK) * _BLOCK for content in sizes) + 2 * _BLOCK
    return -(-total // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


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


def _travelling(image: LayoutImage, leave_out: Collection[str]) -> tuple[Blob, ...]:
    whole = {blob.digest: blob for blob in image.blobs}
    return tuple(blob for digest, blob in whole.items() if digest not in set(leave_out))


def _inside(blob: Blob) -> str:
    return f"blobs/{blob.digest.replace(':', '/')}"


def _member(path: str, content: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.size = content
    member.mode = 0o644
    return member
