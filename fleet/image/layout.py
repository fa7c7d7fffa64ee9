"""An OCI image layout on disk: one linux/amd64 image, read and verified. (OCI image-spec 1.1, image-layout.md)"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from fleet.errors import FleetError
from fleet.image.unpacked import PROBLEMS, Unpacked, most

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEXES = (OCI_INDEX, DOCKER_INDEX)
PLATFORM = ("linux", "amd64")
MOST = 8 << 20  # bytes of an index, a manifest or a config
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Blob:
    """An OCI descriptor: `digest` is `sha256:…`, `size` bytes as they lie on disk."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True)
class LayoutImage:
    """The one image of a layout. `document` is its config as JSON; layers and diffIDs go from the bottom up."""

    path: Path
    manifest: Blob
    config: Blob
    layers: tuple[Blob, ...]
    diff_ids: tuple[str, ...]
    document: Mapping[str, Any] = field(repr=False)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        return (self.manifest, self.config, *self.layers)

    @property
    def size(self) -> int:
        """Bytes of everything that has to move when a host has nothing; a layer that occurs twice moves once."""
        return sum({blob.digest: blob.size for blob in self.blobs}.values())

    def blob_path(self, blob: Blob) -> Path:
        return blob_path(self.path, blob.digest)

    def absent(self, layers: Sequence[Blob]) -> tuple[str, ...]:
        """The digests of these layers that are not in the layout: a bundle may have left them out."""
        return tuple(one.digest for one in layers if not self.blob_path(one).is_file())


def blob_path(layout: Path, digest: str) -> Path:
    """Where a blob lies. Raises FleetError for anything but sha256, so that no digest can name another path."""
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise FleetError(f"{layout}: {digest!r} is no sha256 digest")
    return layout / "blobs" / algorithm / value


def read(layout: Path) -> LayoutImage:
    """The linux/amd64 image of a layout. Raises FleetError when there is none, several, or the layout is damaged."""
    index = _json(layout, layout / "index.json")
    return read_manifest(layout, _single(layout, index))


def read_manifest(layout: Path, manifest: Blob) -> LayoutImage:
    """The image of one manifest in a layout."""
    data = _json(layout, blob_path(layout, manifest.digest), manifest)
    try:
        config = _blob(data["config"])
        layers = tuple(_blob(layer) for layer in data["layers"])
        document = _json(layout, blob_path(layout, config.digest), config)
        diff_ids = tuple(document["rootfs"]["diff_ids"])
        wrong = _wrong_in(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FleetError(f"{layout}: manifest {manifest.digest} is damaged: {error}") from error
    if wrong:
        raise FleetError(f"{layout}: config {config.digest} is damaged: {wrong} is not what it must be")
    if len(diff_ids) != len(layers):
        raise FleetError(f"{layout}: {len(layers)} layers but {len(diff_ids)} diffIDs in config {config.digest}")
    return LayoutImage(layout, manifest, config, layers, diff_ids, document)


def _wrong_in(document: Mapping[str, Any]) -> str:
    """The first word of an image's config that has another type than it must have; "" where there is none."""
    config = document.get("config") or {}
    if not isinstance(config, Mapping):
        return "config"
    words: dict[str, tuple[Any, ...]] = {"rootfs.diff_ids": tuple(document["rootfs"]["diff_ids"])}
    for name, value in ((name, config.get(name) or []) for name in ("Env", "Entrypoint", "Cmd")):
        words[name] = tuple(value) if isinstance(value, list) else (None,)
    labels = config.get("Labels") or {}
    words["Labels"] = tuple(labels.values()) if isinstance(labels, Mapping) else (None,)
    words["architecture"] = (document.get("architecture") or "", document.get("os") or "")
    return next((name for name, told in words.items() if not all(isinstance(one, str) for one in told)), "")


def verify(image: LayoutImage, *, on_bytes: Callable[[int], None] | None = None) -> None:
    """Read every blob and compare size, sha256 and, for layers, the diffID. Raises FleetError naming the bad one."""
    for blob in (image.manifest, image.config):
        _check(image, blob, None, on_bytes)
    for layer, diff_id in zip(image.layers, image.diff_ids, strict=True):
        _check(image, layer, diff_id, on_bytes)


@contextmanager
def open_layer(image: LayoutImage, layer: Blob) -> Iterator[Unpacked]:
    """A layer's tar stream, unpacked within bounds. Raises FleetError for compressions that Docker 20.10 could not load."""
    if "zstd" in layer.media_type:
        raise FleetError(f"layer {layer.digest} is compressed by zstd, which Docker 20.10 does not load")
    path = image.blob_path(layer)
    with path.open("rb") as file:
        yield Unpacked(file, most(path.stat().st_size))


def pick_platform(manifests: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The entries of an index that are linux/amd64; one without a platform counts, an attestation does not."""

    def platform(entry: Mapping[str, Any]) -> tuple[str, str]:
        said = entry.get("platform")
        told = said if isinstance(said, Mapping) else {}
        return told.get("os") or PLATFORM[0], told.get("architecture") or PLATFORM[1]

    return [entry for entry in manifests if platform(entry) == PLATFORM]


def _single(layout: Path, index: Mapping[str, Any]) -> Blob:
    manifests = index.get("manifests")
    entries = manifests if isinstance(manifests, list) else []
    fitting = pick_platform([entry for entry in entries if isinstance(entry, Mapping)])
    if not fitting:
        raise FleetError(f"{layout}: holds no linux/amd64 image")
    if len(fitting) > 1:
        raise FleetError(f"{layout}: holds {len(fitting)} linux/amd64 images, and one is expected")
    try:
        blob = _blob(fitting[0])
    except (KeyError, TypeError, ValueError) as error:
        raise FleetError(f"{layout}: index.json is damaged: {error}") from error
    if blob.media_type in INDEXES:
        return _single(layout, _json(layout, blob_path(layout, blob.digest), blob))
    return blob


def _blob(data: Mapping[str, Any]) -> Blob:
    return Blob(str(data.get("mediaType", OCI_MANIFEST)), str(data["digest"]), int(data["size"]))


def _json(layout: Path, path: Path, blob: Blob | None = None) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MOST + 1)
    except OSError as error:
        raise FleetError(f"{layout}: {path.relative_to(layout)} cannot be read: {error.strerror}") from error
    if len(content) > MOST:
        raise FleetError(f"{layout}: {path.relative_to(layout)} is longer than {MOST >> 20} MiB, which no document is")
    if blob and f"sha256:{hashlib.sha256(content).hexdigest()}" != blob.digest:
        raise FleetError(f"{layout}: blob {blob.digest} is damaged")
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FleetError(f"{layout}: {path.relative_to(layout)} is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise FleetError(f"{layout}: {path.relative_to(layout)} is no JSON object")
    return data


def _check(image: LayoutImage, blob: Blob, diff_id: str | None, on_bytes: Callable[[int], None] | None) -> None:
    path = image.blob_path(blob)
    unpacked = hashlib.sha256()
    try:
        with path.open("rb") as file:
            packed = _Hashed(file, on_bytes or (lambda _count: None))
            if diff_id:
                content = Unpacked(packed, most(path.stat().st_size))
                while chunk := content.read(_CHUNK):
                    unpacked.update(chunk)
            while packed.read(_CHUNK):
                pass
    except (OSError, *PROBLEMS) as error:
        raise FleetError(f"{image.path}: blob {blob.digest} is damaged: {error}") from error
    if packed.size != blob.size or packed.digest != blob.digest:
        raise FleetError(f"{image.path}: blob {blob.digest} is damaged ({packed.size} bytes of {blob.size})")
    if diff_id and f"sha256:{unpacked.hexdigest()}" != diff_id:
        raise FleetError(f"{image.path}: layer {blob.digest} does not unpack to {diff_id}")


class _Hashed:
    """A file whose bytes are counted and hashed as they are read."""

    def __init__(self, file: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        self._file, self._on_bytes, self._sum = file, on_bytes, hashlib.sha256()
        self.size = 0

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self._sum.update(data)
        self.size += len(data)
        self._on_bytes(len(data))
        return data

    @property
    def digest(self) -> str:
        return f"sha256:{self._sum.hexdigest()}"
