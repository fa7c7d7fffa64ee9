"""Writing a bundle's files: streamed, hashed on the way, and left alone where they are there already."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fleet.bundle.manifest import Entry
from fleet.errors import FleetError

CHUNK = 1 << 20
OnBytes = Callable[[int], None]


@dataclass(frozen=True)
class Piece:
    """One file to write: its entry, and its source, a file or the content itself."""

    entry: Entry
    source: Path | bytes


def piece_of(path: str, source: Path | bytes) -> Piece:
    """A piece whose size and hash are taken from what is there now."""
    if isinstance(source, bytes):
        return Piece(Entry(path, len(source), hashlib.sha256(source).hexdigest()), source)
    size, digest = checksum(source)
    return Piece(Entry(path, size, digest), source)


def checksum(path: Path, on_bytes: OnBytes = lambda _count: None) -> tuple[int, str]:
    """Size and SHA-256 of a regular file. A link is not followed. Raises FleetError."""
    digest, size = hashlib.sha256(), 0
    try:
        with opened(path) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                on_bytes(len(chunk))
    except OSError as error:
        raise FleetError(f"{path} cannot be read: {error.strerror}") from error
    return size, digest.hexdigest()


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file to read, never through a link and never one that would block. Raises OSError."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0) as file:
        yield file


def put(piece: Piece, target: Path, on_bytes: OnBytes = lambda _count: None) -> bool:
    """Write one file whole, by way of a `.part` beside it; False when it is there already with this size and hash.

    Raises FleetError when the source is not what the entry says, and then leaves nothing under the name.
    """
    entry = piece.entry
    part = target.with_name(f"{target.name}.part")
    try:
        if _there(target, entry):
            on_bytes(entry.size)
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with part.open("wb", buffering=0) as out:
            for chunk in _chunks(piece.source):
                out.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                on_bytes(len(chunk))
            os.fsync(out.fileno())
        if (size, digest.hexdigest()) != (entry.size, entry.sha256):
            raise FleetError(f"{piece.source if isinstance(piece.source, Path) else entry.path} is damaged or changed")
        part.replace(target)
    except OSError as error:
        raise FleetError(
            f"{target} cannot be written: {error.strerror}", hint="what is there stays; run the same again"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return True


def _there(target: Path, entry: Entry) -> bool:
    if target.is_symlink() or not target.is_file() or target.stat().st_size != entry.size:
        return False
    return checksum(target) == (entry.size, entry.sha256)


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with opened(source) as file:
        while chunk := file.read(CHUNK):
            yield chunk
