"""Reading a bundle that somebody carried: who signed it, is every file there and the same. Opens no link.

All problems are found and named before anything of a bundle is used.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fleet.bundle import sign
from fleet.bundle.manifest import FOLDERS, MAX_BYTES, NAME, VOLUME, Entry, Manifest, loads
from fleet.bundle.write import checksum, opened
from fleet.errors import FleetError


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk. `signer` is "" when no signature was asked for."""

    path: Path
    manifest: Manifest
    signer: str = ""

    def file(self, entry: Entry) -> Path:
        return self.path / self.manifest.folder(entry.volume) / entry.path


def open_bundle(path: Path, allowed_signers: str = "") -> Bundle:
    """Read the manifest of a bundle or of the first of its volumes that is here; with `allowed_signers`, only if one
    of them signed it. The very bytes that were checked are the ones that are read.
    """
    folder = next((one for one in _homes(path) if os.path.lexists(one / NAME)), None)
    if folder is None:
        raise FleetError(f"{path}: is no bundle, neither {NAME} nor vol-*/{NAME} is there")
    content = _read(folder / NAME)
    signer = sign.check(folder, content, allowed_signers) if allowed_signers else ""
    return Bundle(path, loads(content, str(folder)), signer)


def problems(bundle: Bundle, on_bytes: Callable[[int], None] = lambda _count: None) -> tuple[str, ...]:
    """Everything that is wrong, by name. Files are read only when volumes and directories are as they should be."""
    found = [problem for number in range(1, bundle.manifest.volumes + 1) for problem in _volume(bundle, number)]
    found += _strays(bundle) if not found else ()
    if found:
        return tuple(found)
    return tuple(problem for one in bundle.manifest.files if (problem := _file(bundle, one, on_bytes)))


def _homes(path: Path) -> Iterator[Path]:
    yield path
    yield from sorted(one for one in path.glob("vol-[0-9][0-9][0-9]") if not one.is_symlink())


def _volume(bundle: Bundle, number: int) -> Iterator[str]:
    """Is this volume the one that it should be?"""
    manifest, name = bundle.manifest, bundle.manifest.folder(number)
    if not name:
        return
    folder = bundle.path / name
    if folder.is_symlink():
        yield f"{folder} is a link"
        return
    if not folder.is_dir():
        yield f"volume {number} of {manifest.volumes} is missing: {folder}"
        return
    try:
        same = loads(_read(folder / NAME), str(folder)).id == manifest.id
        said = _read(folder / VOLUME)
    except FleetError as error:
        yield error.message
        return
    if not same:
        yield f"{folder} belongs to another bundle"
    elif said != manifest.volume_text(number):
        others = [other for other in range(1, manifest.volumes + 1) if said == manifest.volume_text(other)]
        yield f"{folder} is volume {others[0]} and not {number}" if others else f"{folder / VOLUME} is damaged"


def _strays(bundle: Bundle) -> Iterator[str]:
    """Links, devices and files that nobody signed, below the folders of a bundle: pip or docker might use them."""
    manifest = bundle.manifest
    for number in range(1, manifest.volumes + 1):
        root = bundle.path / manifest.folder(number)
        known = {one.path for one in manifest.of_volume(number)}
        for top in FOLDERS:
            yield from _below(root, top, known)


def _below(root: Path, relative: str, known: set[str]) -> Iterator[str]:
    path = root / relative
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        yield f"{path} is a link to {path.readlink()}"
    elif stat.S_ISDIR(mode):
        for inner in sorted(path.iterdir()):
            yield from _below(root, f"{relative}/{inner.name}", known)
    elif not stat.S_ISREG(mode):
        yield f"{path} is no regular file"
    elif relative not in known:
        yield f"{path} is not in {NAME}"


def _file(bundle: Bundle, entry: Entry, on_bytes: Callable[[int], None]) -> str:
    path = bundle.file(entry)
    try:
        there = path.lstat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return f"{path} is missing"
    if there != entry.size:
        how = "truncated" if there < entry.size else "too long"
        return f"{path} is {how}: {there} bytes of {entry.size}"
    try:
        same = checksum(path, on_bytes) == (entry.size, entry.sha256)
    except FleetError as error:
        return error.message
    return "" if same else f"{path} is damaged: its SHA-256 is not {entry.sha256}"


def _read(path: Path) -> bytes:
    """A small file of a bundle. Raises FleetError."""
    try:
        with opened(path) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_BYTES:
                raise FleetError(f"{path} is no file, or longer than {MAX_BYTES >> 20} MiB")
            return file.read(MAX_BYTES)
    except OSError as error:
        why = "it is a link" if path.is_symlink() else error.strerror
        raise FleetError(f"{path} cannot be read: {why}") from error
