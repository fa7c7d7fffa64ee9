"""Reading a bundle that somebody carried: who signed it, is every file there and the same. Opens no link.

All problems are found and named before anything of a bundle is used.
"""

import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from fleet.bundle import sign
from fleet.bundle.manifest import FOLDERS, MAX_BYTES, NAME, SIGNATURE, VOLUME, Entry, Manifest, loads
from fleet.bundle.write import checksum, opened
from fleet.errors import FleetError


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk. `signer` is "" when no signature was asked for.

    `content` and `signature` (None = there is none) are those of the volume that was read, and have to be those of all.
    """

    path: Path
    manifest: Manifest
    signer: str = ""
    content: bytes = b""
    signature: bytes | None = None

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
    return Bundle(path, loads(content, str(folder)), signer, content, _signature(folder))


def problems(bundle: Bundle, on_bytes: Callable[[int], None] = lambda _count: None) -> tuple[str, ...]:
    """Everything that is wrong, by name, each in one line. Files are read only when the volumes are as they should be, and
    never through a link.
    """
    return tuple(one.replace("\n", r"\n") for one in _problems(bundle, on_bytes))  # a stray's name may hold some


def _problems(bundle: Bundle, on_bytes: Callable[[int], None]) -> tuple[str, ...]:
    found = [problem for number in range(1, bundle.manifest.volumes + 1) for problem in _volume(bundle, number)]
    found += _foreign_volumes(bundle)
    if found:
        return tuple(found)
    strays = dict(_strays(bundle))
    files = (one for one in bundle.manifest.files if not _below_any(bundle.file(one), strays))
    return (*strays.values(), *(problem for one in files if (problem := _file(bundle, one, on_bytes))))


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
        content = _read(folder / NAME)
        same = loads(content, str(folder)).id == manifest.id
        said = _read(folder / VOLUME)
        signature = _signature(folder)
    except FleetError as error:
        yield error.message
        return
    if not same:
        yield f"{folder} belongs to another bundle"
    elif said != manifest.volume_text(number):
        others = [other for other in range(1, manifest.volumes + 1) if said == manifest.volume_text(other)]
        yield f"{folder} is volume {others[0]} and not {number}" if others else f"{folder / VOLUME} is damaged"
    elif content != bundle.content:
        yield f"{folder / NAME} is damaged: it is not the one of the other volumes"
    elif signature != bundle.signature:
        how = "missing" if signature is None else "damaged: it is not the one of the other volumes"
        yield f"{folder / SIGNATURE} is {how}"


def _foreign_volumes(bundle: Bundle) -> Iterator[str]:
    manifest = bundle.manifest
    known = {manifest.folder(number) for number in range(1, manifest.volumes + 1)}
    for path in sorted(bundle.path.glob("vol-*")):
        if path.name not in known:
            yield f"{path} is not of this bundle, which has {manifest.volumes} volume{'s' * (manifest.volumes > 1)}"


def _strays(bundle: Bundle) -> Iterator[tuple[Path, str]]:
    """Links, devices and files that nobody signed, below the folders of a bundle: pip or docker might use them."""
    manifest = bundle.manifest
    volume_of = {one.path: one.volume for one in manifest.files}
    for number in range(1, manifest.volumes + 1):
        root = bundle.path / manifest.folder(number)
        known = {path for path, volume in volume_of.items() if volume == number}
        folders = {path[:at] for path in known for at, letter in enumerate(path) if letter == "/"}
        for path, problem in _walk(root, known, folders):
            other = volume_of.get(path.relative_to(root).as_posix())
            yield path, f"{path} belongs into volume {other}" if other and not problem else problem or _unknown(path)


def _unknown(path: Path) -> str:
    return f"{path} is not in {NAME}"


def _walk(root: Path, known: Collection[str], folders: Collection[str]) -> Iterator[tuple[Path, str]]:
    """What should not be below `root`, and what is wrong with it; "" when only its name is. Foreign directories are not entered."""
    waiting = [root / top for top in reversed(FOLDERS)]
    while waiting:
        path = waiting.pop()
        relative = path.relative_to(root).as_posix()
        try:
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                yield path, f"{path} is a link to {path.readlink()}"
            elif stat.S_ISDIR(mode) and (relative in folders or relative in FOLDERS):
                waiting += sorted(path.iterdir(), reverse=True)
            elif relative not in known:
                yield path, "" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else f"{path} is no regular file"
            elif not stat.S_ISREG(mode):
                yield path, f"{path} is no regular file"
        except FileNotFoundError:
            continue
        except OSError as error:
            yield path, f"{path} cannot be read: {error.strerror}"


def _below_any(path: Path, others: Collection[Path]) -> bool:
    return path in others or any(parent in others for parent in path.parents)


def _file(bundle: Bundle, entry: Entry, on_bytes: Callable[[int], None]) -> str:
    path = bundle.file(entry)
    try:
        there = path.lstat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return f"{path} is missing"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    if there != entry.size:
        how = "truncated" if there < entry.size else "too long"
        return f"{path} is {how}: {there} bytes of {entry.size}"
    try:
        same = checksum(path, on_bytes) == (entry.size, entry.sha256)
    except FleetError as error:
        return error.message
    return "" if same else f"{path} is damaged: its SHA-256 is not {entry.sha256}"


def _signature(folder: Path) -> bytes | None:
    return _read(folder / SIGNATURE) if os.path.lexists(folder / SIGNATURE) else None


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
