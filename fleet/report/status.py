"""`invoke status` for a person: a row for every replica, what is held, and what nobody asked for."""

from collections.abc import Iterable, Mapping

from rich.markup import escape
from rich.table import Table

from fleet.report import terminal
from fleet.report.recap import duration
from fleet.serving.status import Row

_STYLES = {"ok": "green", "no answer": "red"}


def show(rows_of: Mapping[str, Iterable[Row]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("host", "replica", "state", "health", "release", "model", "GPUs", "port", "age", "drift"):
        table.add_column(title, overflow="fold")
    for host, rows in rows_of.items():
        for row in rows:
            role = "" if row.role == "serving" else f" ({row.role})"
            table.add_row(
                escape(host),
                escape(row.name),
                f"{row.state}{role}",
                f"[{_STYLES.get(row.health, 'dim')}]{row.health}[/]",
                row.release,
                escape(row.model),
                row.gpus,
                str(row.port),
                duration(row.age_s) if row.age_s is not None else "-",
                escape("; ".join(row.drift)) or "-",
            )
    if table.row_count:
        terminal.out().print(table)
