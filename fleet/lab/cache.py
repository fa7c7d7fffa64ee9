"""What takes a lab minutes to make and lasts: made once for each recipe, in /var/cache/fleet-lab/KIND.KEY."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from fleet.lab.paths import CACHE


def key(recipe: Iterable[str]) -> str:
    """Twelve hex digits that follow from everything the thing is made of, in order."""
    return hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:12]


def cached(kind: str, recipe: Iterable[str], make: Callable[[Path], None], *, cache: Path = CACHE) -> Path:
    """The file or directory of this recipe, made now by `make(path)` if it is not there.

    A second caller waits for the first. What a killed one left is removed first, and what older recipes gave is removed
    last, unless a node stands on it.
    """
    cache.mkdir(parents=True, exist_ok=True)
    ready = cache / f"{kind}.{key(recipe)}"
    lock_file = cache / f"{kind}.lock"
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if ready.exists():
            return ready
        for left_over in cache.glob(f"{kind}.new.*"):
            _remove(left_over)
        building = cache / f"{kind}.new.{os.getpid()}"
        try:
            make(building)
            building.replace(ready)
        finally:
            _remove(building)
        for old in (cache / kind, *cache.glob(f"{kind}.*")):
            if old not in (ready, lock_file) and not in_use(old):
                _remove(old)
    return ready


def in_use(directory: Path, proc: Path = Path("/proc")) -> bool:
    """Whether an overlay of any mount namespace stands on this directory."""
    below = re.compile(rf"lowerdir={re.escape(str(directory))}[,:\s]")
    for table in proc.glob("[0-9]*/mountinfo"):
        with contextlib.suppress(OSError):  # the process went, or is not ours to look at
            if below.search(table.read_text()):
                return True
    return False


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
