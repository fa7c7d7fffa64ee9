"""Bytes under way: a bar for each move on a terminal, a plain line now and then where nobody watches.

On standard error, as everything that happens on the way.
"""

import atexit
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from fleet.delivery.progress import At, Moving, silent
from fleet.report import terminal
from fleet.report.recap import duration
from fleet.report.units import size

STEP = 0.1  # of the whole: a plain line for each
LONGEST = 30.0  # seconds without a plain line while bytes move
SHORTEST = 1.0  # seconds between two of them


def shown(*, speaks: bool) -> Moving:
    """Shows every move while it lasts; silent unless `speaks`. For many threads at once."""
    if not speaks:
        return silent
    console = terminal.err()
    return Bars(console).moving if console.is_terminal else Lines(terminal.event, time.monotonic).moving


class Lines:
    """A line when a move begins, at each tenth or every half minute, and when it has ended. A failed one ends unsaid."""

    def __init__(self, say: Callable[[str, str], None], clock: Callable[[], float]) -> None:
        self._say, self._clock = say, clock

    @contextmanager
    def moving(self, host: str, what: str, total: int) -> Iterator[At]:
        start = said_at = self._clock()
        said, done = 0, 0
        self._say(host, f"{what}: {size(total)} at most" if total else what)

        def at(now: int) -> None:
            nonlocal said, said_at, done
            done = now
            moment = self._clock()
            tenth = bool(total) and now - said >= total * STEP and moment - said_at >= SHORTEST
            if now > said and (tenth or moment - said_at >= LONGEST):
                part = f" of {size(total)} ({min(now * 100 // total, 100)} %)" if total else ""
                self._say(host, f"{what}: {size(now)}{part}, {rate(now, moment - start)}")
                said, said_at = now, moment

        yield at
        took = self._clock() - start
        self._say(host, f"{what}: done, {size(done)} in {duration(took)}, {rate(done, took)}")


class Bars:
    """One bar a move: host, what, bytes, rate, time left. The display is up only while something moves."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._open = 0
        self._progress = Progress(
            TextColumn("[bold]{task.fields[host]}[/] {task.description}"),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )

    @contextmanager
    def moving(self, host: str, what: str, total: int) -> Iterator[At]:
        start = time.monotonic()
        done = 0
        self._begin()
        task = self._progress.add_task(escape(what), total=total or None, host=escape(host))

        def at(now: int) -> None:
            nonlocal done
            done = now
            self._progress.update(task, completed=min(now, total) if total else now)

        try:
            yield at
        finally:
            self._progress.remove_task(task)
            self._end()
        took = time.monotonic() - start
        terminal.event(host, f"{what}: {size(done)} in {duration(took)}, {rate(done, took)}")

    def _begin(self) -> None:
        with self._lock:
            self._open += 1
            if self._open == 1:
                atexit.register(self._progress.stop)  # Ctrl-C leaves the threads behind, but not the cursor hidden
                terminal.through(self._console)
                self._progress.start()

    def _end(self) -> None:
        with self._lock:
            self._open -= 1
            if not self._open:
                self._progress.stop()
                terminal.through(None)
                atexit.unregister(self._progress.stop)


def rate(count: int, seconds: float) -> str:
    """`34 MB/s`."""
    return f"{size(count / seconds if seconds > 0 else 0)}/s"
