"""Reading what runs have left below `.fleet/runs`. Changes nothing."""

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from fleet.errors import FleetError, UsageError
from fleet.journal.header import RunHeader, check_schema
from fleet.journal.story import RunStory, RunSummary, only_failed, summary, tell


def runs(root: Path) -> tuple[RunSummary, ...]:
    """All runs below `root` (`.fleet`), the oldest first. One that was killed before its first line is left out.

    Raises FleetError when one of them was written by a newer fleet.
    """
    stories = (_story(path) for path in _paths(root))
    return tuple(summary(story) for story in stories if story is not None)


def read(root: Path, wanted: str = "last") -> RunStory:
    """One run, by its id, the beginning of it, or `last`. Raises UsageError for an unknown or ambiguous one."""
    path = find(root, wanted)
    story = _story(path)
    if story is None:
        raise FleetError(f"run {path.name} was killed before it wrote anything")
    return story


def find(root: Path, wanted: str) -> Path:
    """The directory of the run that `wanted` names; the same rules as `read`."""
    paths = _paths(root)
    if not paths:
        raise UsageError(f"there are no runs below {root}", hint="a command that changes hosts makes one")
    found = paths[-1:] if wanted in {"", "last"} else [path for path in paths if path.name.startswith(wanted)]
    exact = [path for path in found if path.name == wanted]
    if len(exact or found) != 1:
        problem = f"{len(found)} runs begin with {wanted!r}" if found else f"there is no run {wanted!r}"
        raise UsageError(problem, hint="invoke runs lists them")
    return (exact or found)[0]


def latest(root: Path, wanted: Callable[[RunHeader], bool] = lambda _header: True) -> RunStory | None:
    """The last run whose header is `wanted`, None where there is none."""
    for path in reversed(_paths(root)):
        story = _story(path)
        if story is not None and wanted(story.header):
            return story
    return None


def unfinished_chain(
    root: Path, story: RunStory, pick: Callable[[RunStory], Iterable[str]] = only_failed
) -> tuple[str, ...]:
    """What `pick` takes of a run and of those that it continues, where the latest run that had a host has the word."""
    left: list[str] = []
    heard: set[str] = set()
    seen: set[str] = set()
    current: RunStory | None = story
    while current is not None and current.id not in seen:
        seen.add(current.id)
        left += [name for name in pick(current) if name not in heard]
        heard |= set(current.hosts)
        before = root / "runs" / current.header.continues if current.header.continues else None
        current = _story(before) if before is not None and before.is_dir() else None
    return tuple(left)


def _paths(root: Path) -> list[Path]:
    folder = root / "runs"
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _story(path: Path) -> RunStory | None:
    # The lock is asked before the files are read: a run that ends in between is told as finished, never as killed.
    alive = is_written(path / "journal.jsonl")
    try:
        text = (path / "journal.jsonl").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return tell(path, text.split("\n"), _result(path), alive=alive)


def _result(path: Path) -> Mapping[str, Any] | None:
    try:
        value = json.loads((path / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(value, dict):
        return None
    check_schema(value, f"the result of run {path.name}")
    return value


def is_written(path: Path) -> bool:
    """Does a living run still hold this journal? The kernel drops a run's lock with its process."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False
