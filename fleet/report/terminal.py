"""The terminal: one console for results, one for what happens on the way. Plain text when nobody watches.

Results go to standard output, progress and events to standard error, so `--json | jq` and `> file` stay clean.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fleet.errors import HostError, no_connection
from fleet.report import errors
from fleet.report import recap as recaps
from fleet.report.hosts import fold, of_all, of_any

_drawing: Console | None = None
PLAIN_WIDTH = 160  # columns of tables when the output is a file or a pipe


def out() -> Console:
    return _console(sys.stdout)


def err() -> Console:
    return _drawing or _console(sys.stderr)


def through(console: Console | None) -> None:
    """While `console` draws bars on standard error, every line there goes through it, above them. None: it has ended."""
    global _drawing  # noqa: PLW0603  there is one terminal
    _drawing = console


def _console(stream: Any) -> Console:
    return Console(file=stream, highlight=False, width=None if stream.isatty() else PLAIN_WIDTH)


def show_json(document: object) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=(sys.stdout.encoding or "").lower() not in ("utf-8", "utf8")))


def event(host: str, message: str) -> None:
    """Something worth a line while the work goes on, such as a host key that was written down."""
    err().print(f"[bold]{escape(host)}[/]: {escape(message)}", soft_wrap=True)


def note(text: str) -> None:
    """What is no failure, and what a person would ask about."""
    err().print(f"[yellow]note[/]: {escape(text)}", soft_wrap=True)


def progress_line(line: str) -> None:
    """A line of a tool that works for us, such as a build."""
    err().print(f"[dim]{escape(line)}[/]", soft_wrap=True)


def host_line(host: str, line: str) -> None:
    """A line that a host printed, on standard output. In one write: hosts print side by side."""
    print(f"{host}: {line}\n", end="", flush=True)


def show_failures(failed: Mapping[str, HostError]) -> None:
    """Each failed host: what, the last lines it printed, the next command. Equal messages are told once."""
    console = err()
    told: dict[tuple[str, str, str, tuple[str, ...]], list[str]] = {}
    for host, error in failed.items():
        errors.debug(error)
        word = "NOT REACHED" if no_connection(error) else "FAILED"
        told.setdefault((word, error.message, of_any(error.hint, host), error.tail), []).append(host)
    for (word, message, hint, tail), hosts in told.items():
        console.print(f"[bold red]{word}[/] {escape(fold(hosts))}: {escape(message)}", soft_wrap=True)
        for line in tail:
            console.print(f"  | {escape(line)}", soft_wrap=True)
        if hint:
            console.print(f"  next: {escape(of_all(hint, hosts))}", soft_wrap=True)


def show_recap(rows: Iterable[recaps.HostRecap], started: float) -> None:
    """The recap, failed hosts last, where the eye is; `started` is time.monotonic() at the start of the command."""
    rows = sorted(rows, key=lambda row: not row.well)
    console = out()
    text = recaps.lines(rows, time.monotonic() - started)
    for row, line in zip(recaps.folded(rows), text, strict=False):
        console.print(f"[{recaps.colour(row)}]{escape(line)}[/]", soft_wrap=True)
    console.print(text[-1])


@contextmanager
def counting(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar over hosts: call the yielded function with a host's name when it is done. Silent without a terminal."""
    console = err()
    if not console.is_terminal:
        yield lambda _host: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(title, total=total)

        def done(host: str) -> None:
            progress.update(bar, advance=1, description=f"{title}: {host}")

        yield done
