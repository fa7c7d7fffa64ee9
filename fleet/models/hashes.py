"""What was hashed on this controller before: a file that has not changed since is not read again."""

import json
import os
from pathlib import Path
from typing import Any

from fleet import whole
from fleet.errors import FleetError


class Hashes:
    """SHA-256 by path, size, mtime and inode, kept in a JSON file. A file that cannot be understood counts as empty."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fresh = False
        try:
            loaded: Any = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            loaded = {}
        self._known: dict[str, Any] = loaded if isinstance(loaded, dict) else {}

    def known(self, path: Path, state: os.stat_result) -> str:
        """The checksum in hex, or ""."""
        entry = self._known.get(str(path))
        return str(entry[-1]) if isinstance(entry, list) and entry[:-1] == _marks(state) else ""

    def note(self, path: Path, state: os.stat_result, sha256: str) -> None:
        self._known[str(path)] = [*_marks(state), sha256]
        self._fresh = True

    def save(self) -> None:
        """Files that are gone are forgotten. Raises FleetError."""
        if not self._fresh:
            return
        kept = {path: entry for path, entry in self._known.items() if Path(path).exists()}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            whole.write(self._path, json.dumps(kept, indent=0))
        except OSError as error:
            raise FleetError(f"{self._path} could not be written: {error.strerror}") from error


def _marks(state: os.stat_result) -> list[int]:
    return [state.st_size, state.st_mtime_ns, state.st_ino]
