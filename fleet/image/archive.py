"""A tarball that somebody brought: docker-archive or OCI, plain or compressed, told apart by content alone."""

import bz2
import gzip
import json
import lzma
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fleet.errors import FleetError
from fleet.image.scratch import scratch

_ZSTD = b"\x28\xb5\x2f\xfd"
_SMALL = 4 << 20  # bytes; the JSON documents of an archive are far below


@dataclass(frozen=True)
class Archive:
    """`kind` is skopeo's transport: `oci-archive` or `docker-archive`. `names` are the image names in it."""

    path: Path
    kind: str
    names: tuple[str, ...]

    @property
    def transport(self) -> str:
        """The argument for skopeo."""
        return f"{self.kind}:{self.path}"


def inspect(path: Path) -> Archive:
    """Read the whole archive once, which also shows whether it is complete.

    Raises FleetError for a missing, damaged or foreign file, and for one that holds several images.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) == _ZSTD:
                raise FleetError(f"archive {path} is compressed by zstd", hint="zstd -d, or gzip instead")
        documents, members = _scan(path)
    except FileNotFoundError as error:
        raise FleetError(f"archive {path} is not there") from error
    except IsADirectoryError as error:
        raise FleetError(f"archive {path} is a directory", hint="a tar of it is wanted") from error
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise FleetError(
            f"archive {path} is damaged or no tar: {error}", hint="bring it again; compare checksums"
        ) from error
    except OSError as error:
        raise FleetError(f"archive {path} cannot be read: {error.strerror or error}") from error
    return judge(path, documents, members)


@contextmanager
def unpacked(archive: Archive, folder: Path) -> Iterator[Archive]:
    """The archive as a plain tar, in `folder` for as long as it is needed.

    Measured: skopeo 1.9.3 reads no docker-archive that is compressed as a whole ("unexpected EOF").
    """
    with archive.path.open("rb") as file:
        head = file.read(6)
    packed = _open(archive.path, head)
    if packed is None:
        yield archive
        return
    with scratch(folder) as own:
        plain = own / "plain.tar"
        with packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
        yield replace(archive, path=plain)


def _open(path: Path, head: bytes) -> gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile | None:
    """The unpacked stream of a file whose first bytes are `head`; None for a plain one."""
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(path)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(path)
    return lzma.LZMAFile(path) if head.startswith(b"\xfd7zXZ\x00") else None


def judge(path: Path, documents: dict[str, bytes], members: frozenset[str]) -> Archive:
    """Which kind of archive has these members. Pure.

    An OCI layout comes first: our own archives are both, and only as OCI do their digests hold. What `docker save`
    since 25 writes is both as well, but may name a manifest that it does not carry.
    """
    if "oci-layout" in documents and "index.json" in documents:
        index = _json(path, "index.json", documents["index.json"])
        found = [entry for entry in _list(index, "manifests") if _blob(entry) in members]
        if len(found) == 1:
            annotations = found[0].get("annotations") or {}
            name = annotations.get("io.containerd.image.name") or annotations.get("org.opencontainers.image.ref.name")
            return Archive(path, "oci-archive", (str(name),) if name else ())
        if found and "manifest.json" not in documents:
            raise FleetError(f"archive {path} holds {len(found)} images", hint="bring one image an archive")
    if "manifest.json" not in documents:
        raise FleetError(
            f"archive {path} is neither a docker-archive nor an OCI layout",
            hint="made by `docker save` or `skopeo copy … oci-archive:FILE`",
        )
    images = _json(path, "manifest.json", documents["manifest.json"])
    if not isinstance(images, list) or not images:
        raise FleetError(f"archive {path} is damaged: its manifest.json lists no image")
    if len(images) > 1:
        tags = [tag for image in images for tag in image.get("RepoTags") or ()]
        raise FleetError(
            f"archive {path} holds {len(images)} images: {', '.join(tags)}", hint="docker save one of them"
        )
    for wanted in (str(images[0].get("Config")), *map(str, images[0].get("Layers") or ())):
        if wanted not in members:
            raise FleetError(f"archive {path} is damaged: {wanted} is missing in it", hint="bring it again")
    return Archive(path, "docker-archive", tuple(images[0].get("RepoTags") or ()))


def _scan(path: Path) -> tuple[dict[str, bytes], frozenset[str]]:
    """The JSON documents at the archive's top, and the names of all its members."""
    documents: dict[str, bytes] = {}
    members: set[str] = set()
    with path.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|*") as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            members.add(name)
            if name in {"oci-layout", "index.json", "manifest.json"} and member.isfile() and member.size <= _SMALL:
                file = tar.extractfile(member)
                documents[name] = file.read() if file else b""
    return documents, frozenset(members)


def _blob(entry: dict[str, Any]) -> str:
    return f"blobs/{str(entry.get('digest', '')).replace(':', '/')}"


def _list(index: Any, key: str) -> list[dict[str, Any]]:
    entries = index.get(key) if isinstance(index, dict) else None
    return [entry for entry in entries or () if isinstance(entry, dict)]


def _json(path: Path, name: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise FleetError(f"archive {path} is damaged: its {name} is no JSON") from error
