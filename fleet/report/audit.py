"""`invoke audit`: the hosts' lines as one table, by time."""

import re
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from fleet.journal.audit import AuditEntry
from fleet.journal.header import iso
from fleet.report import terminal
from fleet.report.recap import duration

SKEW = 30.0  # seconds between the host's clock and the controller's that are worth a word
_DIGEST = re.compile(r"(sha256:[0-9a-f]{8})[0-9a-f]+")
_COLOURS = {"done": "green"}


def show(entries: Sequence[AuditEntry], *, left_out: int, verbose: bool) -> None:
    """The newest last. `left_out` older entries are only counted; `verbose` adds hashes and all reasons.

    Otherwise only failures give theirs.
    """
    titles = ["when (UTC)", "host", "what", "outcome", "release", "who", "from", "run"]
    failures = any(entry.outcome == "failed" for entry in entries)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in titles + (["spec", "why"] if verbose else ["why"] if failures else []):
        table.add_column(title, overflow="fold")
    for entry in entries:
        first = re.split(r"\. |\n", entry.message)[0] if entry.outcome == "failed" else ""
        more = [entry.spec[:12], escape(entry.message)] if verbose else [escape(first)] if failures else []
        table.add_row(
            iso(entry.at)[:19].replace("T", " ") + _skew(entry),
            escape(entry.host),
            escape(_what(entry)),
            f"[{_COLOURS.get(entry.outcome, 'yellow')}]{escape(entry.outcome)}[/]",
            escape(entry.release),
            escape(_who(entry)),
            escape(entry.address),
            entry.run,
            *more,
        )
    console = terminal.out()
    if left_out:
        console.print(f"[dim]{left_out} older ones are left out; --last 0 shows all[/]")
    if table.row_count:
        console.print(table)
    else:
        console.print("no change was written down on these hosts")


def _what(entry: AuditEntry) -> str:
    """`deploy: serve chat-0`; what has no replica, such as an image that was brought, is told by its step."""
    replica = entry.replica or entry.service
    step = _DIGEST.sub(r"\1…", entry.message) if entry.outcome == "done" and not replica else ""
    return f"{entry.verb}: {step or f'{entry.action} {replica}'.strip()}"


def _who(entry: AuditEntry) -> str:
    """`alice@desk as ops`: the person's own name and machine, and the login on the host."""
    return f"{entry.local_user}@{entry.controller} as {entry.ssh_user}"


def _skew(entry: AuditEntry) -> str:
    off = entry.host_at - entry.at if entry.host_at else 0.0
    return f" [yellow](host's clock {'+' if off > 0 else '-'}{duration(abs(off))})[/]" if abs(off) > SKEW else ""
