"""A model's files on this controller: a plain directory or Hugging Face's cache, read and hashed; or those of a bundle.

In the cache a snapshot's files are links to blobs: `models--ORG--NAME/snapshots/REV/FILE -> ../../blobs/HASH`, where HASH
is the SHA-256 of large files. Source: huggingface_hub's docs, "Understand caching".
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import FleetError, UsageError
from fleet.models.content import Content, File
from fleet.models.hashes import Hashes
from fleet.models.names import cache_folder, of_cache, path_problem

_PIECE = 1 << 20  # bytes
_SHA256 = re.compile(r"[0-9a-f]{64}")

Told = Callable[[int], None]  # hears of bytes that were read
HERE = "from this controller"


@dataclass(frozen=True)
class Here:
    """A model's files and where they lie; `where` is for people."""

    content: Content
    paths: Mapping[str, Path]
    where: str
    way = HERE

    def path(self, file: File) -> Path:
        return self.paths[file.path]


@dataclass(frozen=True)
class Root:
    """The directory that holds a model's files. None of them lies outside `limit`, where there is one."""

    folder: Path
    limit: Path | None = None


def find(source: Path, name: str, revision: str = "") -> Root | None:
    """Where a model is below `source`: `NAME/`, a cache with it, or `source` itself. Raises UsageError for a cache without
    the `revision`, or, where none is asked for, with several snapshots of it and no `refs/main`.
    """
    plain = source / name
    if plain.is_dir():
        return Root(plain)
    if of_cache(source.name) and name in (of_cache(source.name), of_cache(source.name).rpartition("/")[2]):
        return _snapshot(source, revision)
    for cache in (source, source / "hub"):
        exact = cache / cache_folder(name)
        others = sorted(cache.glob(f"models--*--{name}")) if "/" not in name else []
        for folder in [exact] if exact.is_dir() else others:
            if len(others) > 1 and not exact.is_dir():
                names = ", ".join(of_cache(one.name) for one in others)
                raise UsageError(f"{cache} has several models called {name}: {names}", hint="say ORG/NAME")
            return _snapshot(folder, revision)
    whole = source.resolve()
    return Root(source) if whole.name == name.rpartition("/")[2] and (source / "config.json").is_file() else None


def _snapshot(repository: Path, revision: str) -> Root:
    known = [one.name for one in (repository / "snapshots").glob("*") if one.is_dir()]
    refs = repository / "refs"
    named = {
        one.relative_to(refs).as_posix(): one.read_text("utf-8").strip() for one in refs.rglob("*") if one.is_file()
    }
    return Root(repository / "snapshots" / snapshot(str(repository), revision, known, named), repository)


def snapshot(where: str, revision: str, known: Iterable[str], refs: Mapping[str, str]) -> str:
    """Of a cache's snapshots the one that is meant: by a branch, a tag, a commit or its beginning; without any of these
    what `refs/main` says, or the only one. Raises UsageError. Pure.
    """
    known = sorted(known)
    commit = refs.get(revision or "main", revision)
    found = [one for one in known if one == commit or (revision == commit and one.startswith(revision))]
    if not revision and not commit:
        found = known
    if len(found) == 1:
        return found[0]
    there = ", ".join(known) or "no snapshot"
    if revision:
        said = ", ".join(f"{name} ({commit[:12]})" for name, commit in sorted(refs.items())) or "none"
        raise UsageError(f"{where} has no snapshot of {revision}", hint=f"there are {there}; refs: {said}")
    told = f"refs/main says {commit}, and there is" if commit else "there is no refs/main, and there are"
    raise UsageError(f"{where}: {told} {there}", hint="say which: revision, a branch, a tag or a commit")


def measure(root: Root) -> dict[str, Path]:
    """Every file of a model by its path in it. Hidden files and caches of Python are left out.

    Raises FleetError that names what cannot travel: a link to nothing, one that leaves a cache, an odd name.
    """
    found: dict[str, Path] = {}
    problems: list[str] = []
    for path in _walk(root.folder):
        name = path.relative_to(root.folder).as_posix()
        if problem := path_problem(name) or _link_problem(path, root):
            problems.append(problem)
        found[name] = path
    if problems:
        raise UsageError("\n".join((f"{root.folder} cannot be brought to hosts:", *(f"  {one}" for one in problems))))
    if not found:
        raise UsageError(f"{root.folder} holds no files")
    return found


def size(paths: Mapping[str, Path]) -> int:
    return sum(path.stat().st_size for path in paths.values())


def read(name: str, root: Root, paths: Mapping[str, Path], hashes: Hashes, told: Told) -> Here:
    """Hash all files, but those that are as they were when they were hashed before. Raises FleetError."""
    files = []
    for inner, path in paths.items():
        try:
            real = path.resolve(strict=True)
            state = real.stat()
            known = hashes.known(real, state)
            hexed = known or _hash(real, told)
            if known:
                told(state.st_size)
            else:
                _unchanged(real, state)
                hashes.note(real, state, hexed)
        except OSError as error:
            raise FleetError(f"{path} could not be read: {error.strerror}") from error
        if root.limit and _SHA256.fullmatch(real.name) and real.name != hexed:
            hint = "remove the blob, download the model again"
            raise FleetError(f"{path} is damaged: its blob {real.name} has other bytes than its name says", hint=hint)
        files.append(File(inner, state.st_size, hexed))
    return Here(Content.of(name, files), paths, str(root.folder))


def _walk(folder: Path) -> Iterator[Path]:
    for inside, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith(".") and one != "__pycache__")
        linked = [one for one in folders if Path(inside, one).is_symlink()]
        yield from (Path(inside, one) for one in sorted([*names, *linked]) if not one.startswith("."))


def _link_problem(path: Path, root: Root) -> str:
    if not path.exists():
        return f"{path.name} is a link to nothing: its download did not end"
    if not path.is_file():
        return f"{path.name} is no file"
    if root.limit and not path.resolve().is_relative_to(root.limit.resolve()):
        return f"{path.name} leads out of the cache"
    return ""


def _hash(path: Path, told: Told) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_PIECE):
            digest.update(data)
            told(len(data))
    return digest.hexdigest()


def _unchanged(path: Path, before: os.stat_result) -> None:
    now = path.stat()
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise FleetError(f"{path} changed while it was read", hint="run the command again when its download has ended")
