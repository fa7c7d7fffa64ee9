"""Small files of the controller that are replaced whole or not at all, also when we are killed or the power goes."""

import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO

_NEW = ".new"


def write(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace a file in one step; its directory is there. What a killed writer of the same file left goes. Raises OSError."""
    for left in path.parent.glob(f".{path.name}.*{_NEW}"):
        _clear(left)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8"
    ) as file:
        fresh = Path(file.name)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            fresh = fresh.rename(f"{fresh}{_NEW}")  # nobody sees it under this name before it is locked
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            fresh.chmod(mode)
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise


def _clear(left: Path) -> None:
    try:
        with left.open("r", encoding="utf-8") as file:
            if _is_free(file):
                left.unlink(missing_ok=True)
    except OSError:
        return  # its writer was quicker, or it is not ours to look at


def _is_free(file: IO[str]) -> bool:
    """The kernel drops a lock with the process that holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
