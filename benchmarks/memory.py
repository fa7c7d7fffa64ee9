"""The greatest resident size of a command and of everything that it starts."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

EVERY = 0.02  # seconds between two looks


def peak(argv: Sequence[str], folder: Path) -> float:
    """Run the command in `folder` to its end; MB of all its processes together at the worst moment."""
    most = 0
    with subprocess.Popen(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        while child.poll() is None:
            most = max(most, sum(map(_resident, _below(child.pid))))
            time.sleep(EVERY)
        if child.returncode and child.stderr:
            sys.exit(f"{' '.join(argv[1:3])} ended with {child.returncode}: {child.stderr.read().decode()[-2000:]}")
    return most / 1e6


def _below(root: int) -> list[int]:
    """The process and its descendants."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = status.read_text(encoding="utf-8", errors="replace").partition(" (")
        except OSError:
            continue
        children.setdefault(int(rest.rpartition(") ")[2].split()[1]), []).append(int(pid))
    found, waiting = [], [root]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def _resident(pid: int) -> int:
    """Bytes; none of a process that ended meanwhile."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * 4096
    except OSError:
        return 0
