"""Working directories that do not outlive their process: what a killed one left is swept by the next."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_PREFIX = ".scratch-"


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


def _is_free(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
