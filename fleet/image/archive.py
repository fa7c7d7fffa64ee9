"""A tarball that somebody brought: docker-archive or OCI, plain or compressed, told apart by content alone."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.errors import FleetError
from fleet.image.archive_judge import SMALL, TOP, Archive, judge
from fleet.image.layout import OCI_INDEX
from fleet.image.scratch import scratch
from fleet.image.unpacked import PROBLEMS, Unpacked, members, most

_ZSTD = b"\x28\xb5\x2f\xfd"
_BLOB = re.compile(r"blobs/sha256/[0-9a-f]{64}")
_DOCUMENTS = 64 << 20  # bytes of JSON that are looked at in one archive
_MEMBERS = 100_000  # of one archive: a layer is one
_CHUNK = 1 << 20
_AGAIN = "bring it again; compare checksums"


def inspect(path: Path) -> Archive:
    """Read the whole archive once, which also shows whether it is complete.

    Raises FleetError for a missing, damaged or foreign file, and for one that holds several images for our hosts.
    """
    return readings(path)[0]


def readings(path: Path) -> tuple[Archive, ...]:
    """Every kind of archive that the file is, the better one first: what Docker saves since 25 is both."""
    documents: dict[str, bytes] = {}
    names: set[str] = set()
    room = _DOCUMENTS
    with _reading(path) as file:
        for tar, member in members(file):
            name = member.name.removeprefix("./")
            names.add(name)
            if len(names) > _MEMBERS:
                raise FleetError(f"archive {path} has more than {_MEMBERS} members, and no image has", hint=_AGAIN)
            opened = tar.extractfile(member) if member.isfile() and member.size <= min(SMALL, room) else None
            if opened is not None and ((start := opened.read(1)) in (b"{", b"[") or name in TOP):
                documents[name] = start + opened.read()
                room -= member.size
        while file.read(_CHUNK):
            pass  # what is compressed has its checksum at the end
    return judge(path, documents, frozenset(names))


@contextmanager
def opened(archive: Archive, folder: Path) -> Iterator[str]:
    """The argument that skopeo copies the image from, for as long as it is needed; what that takes lies in `folder`.

    An OCI archive is laid out with an index of this one image. Measured: skopeo 1.9.3 reads no docker-archive that is
    compressed as a whole ("unexpected EOF"), and takes what follows a colon in a path for an image's name.
    """
    with scratch(folder) as own:
        if archive.kind == "oci-archive":
            _lay_out(archive, own / "layout")
            yield f"oci:{own / 'layout'}"
            return
        plain = own / "plain.tar"
        plain.symlink_to(archive.path.absolute())
        with _reading(archive.path) as content:
            if content.packed:
                plain.unlink()
                with plain.open("wb") as file:
                    shutil.copyfileobj(content, file, _CHUNK)
        yield f"docker-archive:{plain}:{archive.chosen}"


def _lay_out(archive: Archive, layout: Path) -> None:
    """Nothing but blobs, by names that cannot lead elsewhere."""
    (layout / "blobs/sha256").mkdir(parents=True)
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [archive.descriptor]}
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}', encoding="ascii")
    (layout / "index.json").write_text(json.dumps(index), encoding="utf-8")
    with _reading(archive.path) as file:
        for tar, member in members(file):
            name = member.name.removeprefix("./")
            content = tar.extractfile(member) if member.isfile() and _BLOB.fullmatch(name) else None
            if content is not None:
                with (layout / name).open("wb") as blob:
                    shutil.copyfileobj(content, blob, _CHUNK)


@contextmanager
def _reading(path: Path) -> Iterator[Unpacked]:
    """The archive's tar, unpacked on the way and within bounds. Raises FleetError for whatever is wrong with the file."""
    try:
        with path.open("rb") as raw:
            if raw.read(len(_ZSTD)) == _ZSTD:
                raise FleetError(f"archive {path} is compressed by zstd", hint="zstd -d, or gzip instead")
            raw.seek(0)
            yield Unpacked(raw, most(path.stat().st_size))
    except FileNotFoundError as error:
        raise FleetError(f"archive {path} is not there") from error
    except IsADirectoryError as error:
        raise FleetError(f"archive {path} is a directory", hint="a tar of it is wanted") from error
    except PROBLEMS as error:
        raise _damaged(path, error) from error
    except OSError as error:
        if error.errno is None:  # bz2 has no error of its own
            raise _damaged(path, error) from error
        raise FleetError(f"archive {path} cannot be read or unpacked: {error.strerror}") from error


def _damaged(path: Path, error: Exception) -> FleetError:
    return FleetError(f"archive {path} is damaged or no tar: {error}", hint=_AGAIN)
