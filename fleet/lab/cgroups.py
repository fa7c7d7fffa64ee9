"""Control groups: every process of a node is below one directory per hierarchy, so that none is ever lost.

Version 1 (tried) and version 2 (written from the kernel's documentation, not tried: the machines at hand have v1).
"""

import contextlib
import os
import signal
import time
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
WAIT = 10.0  # seconds for killed processes to go


def hierarchies(mountinfo: str | None = None) -> tuple[tuple[Path, str, str], ...]:
    """(mount point, `cgroup` or `cgroup2`, mount options) of every hierarchy where it is mounted first, in mount order.

    Somebody's chroot on this machine may show the same hierarchies a second time.
    """
    found: dict[str, tuple[Path, str, str]] = {}
    for line in (MOUNTS.read_text() if mountinfo is None else mountinfo).splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            words = left.split(" ")
            found.setdefault(words[2], (Path(words[4]), kind, options))  # [2] is the device, one a hierarchy (proc(5))
    return tuple(found.values())


def join(group: str) -> None:
    """Move this process to `group` (relative to the root) in every hierarchy, making it where it is missing."""
    for root, _, _ in hierarchies():
        here = root
        for part in Path(group).parts:
            parent, here = here, here / part
            here.mkdir(exist_ok=True)
            _inherit(parent, here)
        (here / "cgroup.procs").write_text("0")  # 0 is whoever writes


def _inherit(parent: Path, child: Path) -> None:
    """Let `child` have what `parent` has: v1 begins with no processors and no memory nodes, v2 with no controllers."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = child / name
        if file.exists() and (parent / name).exists() and not file.read_text().strip():
            value = (parent / name).read_text().strip()
            if value:
                file.write_text(value)
    hand_down(parent)


def hand_down(group: Path) -> None:
    """Offer every controller of a v2 group to its children; nothing for a v1 group."""
    if (group / "cgroup.subtree_control").exists():
        available = (group / "cgroup.controllers").read_text().split()
        (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in available))


def processes(group: str) -> frozenset[int]:
    """The ids, as the machine sees them, of everything in `group` and below it."""
    found: set[int] = set()
    for root, _, _ in hierarchies():
        for file in (root / group).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):  # a group may go while we look
                found.update(int(word) for word in file.read_text().split())
    return frozenset(found - {0, os.getpid()})


def kill(group: str) -> None:
    """SIGKILL everything in `group` and wait until nothing is left in it."""
    deadline = time.monotonic() + WAIT
    while (left := processes(group)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)


def remove(group: str) -> None:
    """Remove the empty `group` and its children from every hierarchy, and its parents once they are empty."""
    for root, _, _ in hierarchies():
        top = root / group
        for directory, _, _ in os.walk(top, topdown=False):
            _rmdir(Path(directory))
        for parent in top.parents:
            if parent == root:
                break
            with contextlib.suppress(OSError):
                parent.rmdir()


def _rmdir(directory: Path) -> None:
    deadline = time.monotonic() + WAIT
    while True:
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            # The kernel frees a group a moment after its last process.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
