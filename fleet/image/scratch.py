"""Working directories that do not outlive their process: what a killed one left is swept by the next."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_PREFIX = ".scratch-"
_LOCK = ".fleet-lock"


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A fresh directory inside `parent`, gone afterwards. A lock in it, which the kernel drops, tells it is in use."""
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / f"{_PREFIX}lock").open("w", encoding="ascii") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        _sweep(parent)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        lock = (folder / "lock").open("w", encoding="ascii")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


@contextmanager
def temporary(prefix: str) -> Iterator[Path]:
    """A fresh directory for this user alone where temporary files belong ($TMPDIR), gone afterwards.

    What killed processes of this user left, which may hold credentials, goes as well. The name begins with `prefix`, `fleet-…`.
    """
    _sweep_temporary()
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        with (folder / f"{_LOCK}-new").open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / f"{_LOCK}-new").rename(folder / _LOCK)  # nobody sees it before it is locked
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(*parents: Path) -> None:
    """What processes that are gone left in these directories, and of this user's where temporary files belong, goes."""
    for parent in parents:
        with suppress(FileNotFoundError), (parent / f"{_PREFIX}lock").open("r", encoding="ascii") as door:
            fcntl.flock(door, fcntl.LOCK_EX)  # nobody is just making one
            _sweep(parent)
    _sweep_temporary()


def left(parent: Path) -> tuple[Path, ...]:
    """What processes that are gone left in `parent`. Changes nothing."""
    try:
        with (parent / f"{_PREFIX}lock").open("r", encoding="ascii") as door:
            fcntl.flock(door, fcntl.LOCK_EX)  # nobody is just making one
            return tuple(folder for folder in sorted(parent.glob(f"{_PREFIX}*/")) if _is_left(folder))
    except FileNotFoundError:
        return ()


def _is_left(folder: Path) -> bool:
    try:
        with (folder / "lock").open("r", encoding="ascii") as lock:
            return _is_free(lock)
    except FileNotFoundError:
        return True


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*/"):
        try:
            with (folder / "lock").open("a", encoding="ascii") as lock:
                if _is_free(lock):
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # another process took it away, or it is not ours to remove


def _sweep_temporary() -> None:
    for lock in Path(tempfile.gettempdir()).glob(f"fleet-*/{_LOCK}"):
        _clear(lock.parent)


def _clear(folder: Path) -> None:
    try:
        if folder.lstat().st_uid != os.getuid():
            return
        with (folder / _LOCK).open("r", encoding="ascii") as lock:
            if _is_free(lock):
                shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # another process took it away


def _is_free(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
