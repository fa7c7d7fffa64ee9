"""The controller's own old files: journals of runs, logs of builds and containers."""

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import HostError
from fleet.journal.read import is_written
from fleet.prune.facts import Room

NAME = "controller"
NEWEST = 10  # runs that stay however old they are: a fleet that is changed once a year has a history too


@dataclass(frozen=True)
class OldFile:
    """A run's directory or a log; `age` in seconds since it was last written, `size` in bytes. `busy`: somebody writes."""

    path: Path
    age: float
    size: int
    busy: bool = False


@dataclass(frozen=True)
class RemoveFile:
    path: Path
    size: int
    why: str

    @property
    def what(self) -> str:
        return f"remove {self.path}"


def plan_files(runs: Sequence[OldFile], logs: Sequence[OldFile], keep: float) -> tuple[RemoveFile, ...]:
    """What is older than `keep` seconds, but for the newest runs and what is being written. Pure. `runs` oldest first."""
    old = [one for one in (*runs[:-NEWEST], *logs) if one.age > keep and not one.busy]
    return tuple(RemoveFile(one.path, one.size, f"{one.age / 86400:.0f} days old") for one in old)


def plan_nights(nights: Sequence[Path], keep: int) -> tuple[RemoveFile, ...]:
    """All but the `keep` newest. `nights` oldest first. Every night does the same at its end."""
    return tuple(RemoveFile(one, extent(one)[1], f"fleet.nightly.keep is {keep}") for one in nights[:-keep])


def read_room(root: Path) -> Room:
    """Of the file system that `root` lies on."""
    found = shutil.disk_usage(root if root.exists() else root.parent)
    return Room(found.used, found.free)


def read(root: Path, now: float) -> tuple[tuple[OldFile, ...], tuple[OldFile, ...]]:
    """The runs and the logs below `.fleet`. Changes nothing."""
    runs = sorted(path for path in (root / "runs").glob("*") if path.is_dir())
    logs = sorted(path for path in (root / "logs").rglob("*") if path.is_file())
    return tuple(_file(path, now) for path in runs), tuple(_file(path, now) for path in logs)


def remove(step: RemoveFile) -> None:
    """Raises HostError. What is gone already is no error."""
    try:
        if step.path.is_dir():
            shutil.rmtree(step.path)
        else:
            step.path.unlink(missing_ok=True)
    except OSError as error:
        raise HostError(NAME, f"could not {step.what}: {error.strerror}") from error


def _file(path: Path, now: float) -> OldFile:
    newest, size = extent(path)
    return OldFile(path, max(now - (newest or now), 0.0), size, is_written(path / "journal.jsonl"))


def extent(path: Path) -> tuple[float, int]:
    """When something below it was last written (0: it is gone), and its bytes. What goes meanwhile counts as nothing."""
    seen = []
    for one in (path, *path.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            seen.append(one.lstat())
    return max((one.st_mtime for one in seen), default=0.0), sum(one.st_size for one in seen)
