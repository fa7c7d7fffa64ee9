"""MANIFEST.json of a bundle: every file with size, SHA-256 and volume, who made it, when, from what. Read strictly.

A bundle comes from a disk that somebody carried, so nothing in it is believed: a path that leaves the directory, a size
that is no number, a file named twice are errors by name before any file is opened.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from fleet.errors import FleetError

SCHEMA = 1
NAME = "MANIFEST.json"
SIGNATURE = "MANIFEST.json.sig"
VOLUME = "VOLUME.json"
LAYOUT = "images"  # the OCI layout; MANIFEST.json and its manifest.json are one name on exFAT and NTFS
FOLDERS = (LAYOUT, "releases", "site", "models", "tool")
MAX_BYTES = 64 << 20  # of a MANIFEST.json
MAX_NAME, MAX_PATH = 250, 3000  # bytes of a file's name, and of a path: Linux takes 255 and 4095, and we append `.part`
MAX_VOLUMES = 999  # their directories count in three digits
MAX_NUMBER = (1 << 63) - 1  # a file's size in Linux
_HEX = frozenset("0123456789abcdef")

T = TypeVar("T")


@dataclass(frozen=True, order=True)
class Entry:
    """One file: `path` with slashes, relative to its volume; `size` in bytes; volumes count from 1."""

    path: str
    size: int
    sha256: str
    volume: int = 1


@dataclass(frozen=True, order=True)
class Absent:
    """A layer that a delta leaves out: who is known to hold it, `store` and hosts' names."""

    digest: str
    size: int
    diff_id: str
    held_by: tuple[str, ...]


@dataclass(frozen=True, order=True)
class AbsentFile:
    """A file of a model that a delta leaves out: `path` as it would be in the bundle, and the hosts that hold it."""

    path: str
    size: int
    sha256: str
    held_by: tuple[str, ...]


@dataclass(frozen=True, order=True)
class Want:
    """One service of one host, the fingerprint of the image that its inventory asks for, and the release that it got."""

    host: str
    service: str
    image: str
    release: str


@dataclass(frozen=True)
class Base:
    """What a delta builds on: the have file's checksum, who made it and when, and the layers and files that were left out."""

    sha256: str
    made: str
    by: str
    absent: tuple[Absent, ...]
    files: tuple[AbsentFile, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """`created` is RFC 3339, `inventory` the files it was made from. `volumes` = 1: the directory itself, unsplit."""

    created: str
    by: str
    fleet: str
    inventory: tuple[str, ...]
    files: tuple[Entry, ...]
    wants: tuple[Want, ...]
    volumes: int = 1
    models: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()  # Debian packages that the controller needs
    base: Base | None = None

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits over all that a manifest says."""
        return hashlib.sha256(json.dumps(_document(self), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def size(self) -> int:
        return sum(one.size for one in self.files)

    def of_volume(self, number: int) -> tuple[Entry, ...]:
        return tuple(one for one in self.files if one.volume == number)

    def entry(self, path: str) -> Entry | None:
        return next((one for one in self.files if one.path == path), None)

    def folder(self, number: int) -> str:
        """Where a volume lies below the bundle: "" for the only one."""
        return f"vol-{number:03d}" if self.volumes > 1 else ""

    def volume_text(self, number: int) -> bytes:
        """VOLUME.json, which tells volumes apart that were renamed or come from another bundle."""
        return (json.dumps({"bundle": self.id, "volume": number, "of": self.volumes}) + "\n").encode()


def blob_entry_path(digest: str) -> str:
    return f"{LAYOUT}/blobs/{digest.replace(':', '/')}"


def model_entry_path(model: str, inner: str) -> str:
    return f"models/{model}/{inner}"


def model_of(manifest: Manifest, path: str) -> str | None:
    """The model of a bundle that a path belongs to."""
    return next((one for one in manifest.models if path.startswith(model_entry_path(one, ""))), None)


def dumps(manifest: Manifest) -> bytes:
    document = {"schema": SCHEMA, "id": manifest.id, **_document(manifest)}
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _document(manifest: Manifest) -> dict[str, Any]:
    document = asdict(replace(manifest, files=tuple(sorted(manifest.files))))
    if manifest.base and not manifest.base.files:
        del document["base"]["files"]  # a delta from before there were any keeps its id
    return document


def loads(content: bytes, where: str) -> Manifest:
    """Raises FleetError naming the first thing that is wrong."""
    try:
        data = json.loads(content.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise FleetError(f"{where}: {NAME} is no JSON: {error}") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        said = data.get("schema") if isinstance(data, dict) else None
        raise FleetError(f"{where}: {NAME} has schema {said}, and this fleet reads {SCHEMA}")
    try:
        base = data["base"]
        manifest = Manifest(
            created=_text(data["created"]),
            by=_text(data["by"]),
            fleet=_text(data["fleet"]),
            inventory=_texts(data["inventory"]),
            files=tuple(_made(Entry, item) for item in data["files"]),
            wants=tuple(_made(Want, item) for item in data["wants"]),
            volumes=_number(data["volumes"]),
            models=_texts(data["models"]),
            packages=_texts(data["packages"]),
            base=None if base is None else _base(base),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FleetError(f"{where}: {NAME} is damaged: {error}") from error
    problem = next(iter(_problems(manifest)), "")
    if problem:
        raise FleetError(f"{where}: {NAME}: {problem}")
    if data.get("id") != manifest.id:
        raise FleetError(f"{where}: {NAME} is damaged: its id {data.get('id')} is not that of what it says")
    return manifest


def path_problem(path: str) -> str:
    """Why a path cannot be a bundle's, or "". Pure."""
    parts = path.split("/")
    if path.startswith("/") or ".." in parts:
        return f"path {path!r} leaves the bundle"
    if "\\" in path or not path.isprintable() or "" in parts or "." in parts:
        return f"path {path!r} is not a plain relative path"
    if any(len(part.encode()) > MAX_NAME for part in parts) or len(path.encode()) > MAX_PATH:
        return f"path {path[:40]!r}… is longer than file systems take"
    return "" if parts[0] in FOLDERS and len(parts) > 1 else f"path {path!r} is in no folder of a bundle"


def _problems(manifest: Manifest) -> list[str]:
    found = [problem for one in manifest.files if (problem := path_problem(one.path))]
    if not 1 <= manifest.volumes <= MAX_VOLUMES:
        found.append(f"{manifest.volumes} volumes cannot be, 1 to {MAX_VOLUMES} can")
    seen: set[str] = set()
    for one in manifest.files:
        if one.path in seen:
            found.append(f"{one.path} is named twice")
        seen.add(one.path)
        if len(one.sha256) != 64 or not set(one.sha256) <= _HEX:
            found.append(f"{one.path}: {one.sha256!r} is no SHA-256")
        if one.size < 0 or not 1 <= one.volume <= manifest.volumes:
            found.append(f"{one.path}: size {one.size} or volume {one.volume} of {manifest.volumes} cannot be")
        folder, _, name = one.path.rpartition("/")
        if folder == f"{LAYOUT}/blobs/sha256" and name != one.sha256:
            found.append(f"{one.path}: a blob whose SHA-256 is {one.sha256}")
    for out in manifest.base.files if manifest.base else ():
        found += [problem] if (problem := path_problem(out.path)) else []
        if out.path in seen:
            found.append(f"{out.path} is named twice")
        seen.add(out.path)
        if model_of(manifest, out.path) is None:
            found.append(f"{out.path} is left out, and of no model of the bundle")
        if len(out.sha256) != 64 or not set(out.sha256) <= _HEX or out.size < 0:
            found.append(f"{out.path}: size {out.size} or SHA-256 {out.sha256!r} cannot be")
    return found


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Readers differ in which of two values of one name they take, so there must not be two."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in found if names.count(name) > 1)[:80]!r} stands twice in one object")
    return found


def _base(data: Mapping[str, Any]) -> Base:
    absent = tuple(_made(Absent, {**item, "held_by": _texts(item["held_by"])}) for item in data["absent"])
    files = tuple(_made(AbsentFile, {**item, "held_by": _texts(item["held_by"])}) for item in data.get("files", ()))
    return Base(_text(data["sha256"]), _text(data["made"]), _text(data["by"]), absent, files)


def _made(kind: type[T], item: Mapping[str, Any]) -> T:
    numbers = {"size", "volume"}
    values: dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]  # only dataclasses come here
        value = item[one.name]
        values[one.name] = _number(value) if one.name in numbers else value
        if one.name == "path" and isinstance(value, str):
            continue  # path_problem says more about it
        if one.name not in numbers and one.name != "held_by":
            _text(value)
    return kind(**values)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():  # it comes to a terminal
        raise TypeError(f"{value!r} is no text of one line")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{value!r} is no list")
    return tuple(_text(item) for item in value)


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no number")
    if abs(value) > MAX_NUMBER:
        raise ValueError(f"a number of {value.bit_length()} bits is no size and no count")
    return value
