"""Processes by id and start time, so that a reused id is never taken for ours."""

import os
import signal
import time
from pathlib import Path

WAIT = 10.0  # seconds for a process to go


def start_time(pid: int, proc: Path = Path("/proc")) -> str:
    """Field 22 of /proc/PID/stat (proc_pid_stat(5)), empty for a process that is gone or only a zombie."""
    try:
        text = (proc / str(pid) / "stat").read_text()
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def remember(file: Path, pid: int) -> None:
    """Write `pid` and its start time to `file`, at once or not at all."""
    temporary = file.with_name(file.name + ".new")
    temporary.write_text(f"{pid} {start_time(pid)}\n")
    temporary.replace(file)


def recall(file: Path) -> int:
    """The process that `file` remembers, 0 when it no longer runs."""
    try:
        pid, started = file.read_text().split()
    except (OSError, ValueError):
        return 0
    return int(pid) if start_time(int(pid)) == started else 0


def end(file: Path, *, grace: float = 0.0) -> None:
    """End the remembered process: SIGTERM with `grace` seconds, then SIGKILL; wait, and forget it."""
    pid = recall(file)
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, WAIT)):
        if not pid or (number is signal.SIGTERM and not grace):
            continue
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + seconds
        while recall(file) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not recall(file):
            break
    file.unlink(missing_ok=True)
