"""`invoke inventory` for a person: each host, how it is reached, its settings and where each came from."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from fleet.report import terminal


def show(document: Mapping[str, Any]) -> None:
    console = terminal.out()
    for name, host in document["hosts"].items():
        console.print(f"[bold]{escape(name)}[/]  [dim]in {escape(', '.join(host['groups']))}[/]")
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        table.add_column(style="dim", overflow="fold")
        settings = {"connection": host["connection"], "fleet": host["fleet"]}
        for path, value in flatten(settings):
            table.add_row(escape(path), escape(str(value)), escape(host["origins"].get(path, "default")))
        console.print(table)


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, object]]:
    """Leaves of nested mappings as (dotted path, value); what is not set is left out."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flatten(inner, f"{path}.{key}" if path else str(key))
    elif value not in (None, "", [], ()):
        yield path, value
