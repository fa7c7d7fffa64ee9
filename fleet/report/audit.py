"""`invoke audit`: the hosts' lines as one table, by time."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from fleet.journal.audit import AuditEntry
from fleet.journal.header import iso
from fleet.report import terminal
from fleet.report.recap import duration

SKEW = 30.0  # seconds between the host's clock and the controller's that are worth a word
_COLOURS = {"done": "green"}


def show(entries: Sequence[AuditEntry], *, left_out: int, verbose: bool) -> None:
    """The newest last. `left_out` older entries are only counted; `verbose` adds the hash and what was said."""
    titles = ["when (UTC)", "host", "what", "outcome", "release", "who", "from", "run"]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in titles + (["spec", "message"] if verbose else []):
        table.add_column(title, overflow="fold")
    for entry in entries:
        more = [entry.spec[:12], escape(entry.message)] if verbose else []
        what = " ".join(word for word in (entry.verb, entry.action, entry.replica or entry.service) if word)
        table.add_row(
            iso(entry.at)[:19].replace("T", " ") + _skew(entry),
            escape(entry.host),
            escape(what),
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


def _who(entry: AuditEntry) -> str:
    """`alice@desk as ops`: the person's own name and machine, and the login on the host."""
    return f"{entry.local_user}@{entry.controller} as {entry.ssh_user}"


def _skew(entry: AuditEntry) -> str:
    off = entry.host_at - entry.at if entry.host_at else 0.0
    return f" [yellow](host's clock {'+' if off > 0 else '-'}{duration(abs(off))})[/]" if abs(off) > SKEW else ""
