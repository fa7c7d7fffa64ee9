"""What the lab's tasks show: nodes, faults, and how to go on."""

from rich.markup import escape
from rich.table import Table

from fleet.lab.faults import FAULTS, recorded
from fleet.lab.lab import Lab
from fleet.report import terminal


def show(lab: Lab, *, as_json: bool) -> int:
    """The lab's nodes. Exit code 0 when every daemon that should run answers."""
    statuses, broken = lab.status(), recorded(lab)
    if as_json:
        terminal.show_json(
            {
                "lab": lab.name,
                "inventory": str(lab.inventory),
                "seconds": lab.timings,
                "nodes": [
                    {**vars(status), "ok": status.ok, "faults": list(broken.get(status.name, ()))}
                    for status in statuses
                ],
            }
        )
    else:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for title in ("node", "address", "user", "GPUs", "engine", "daemons", "broken"):
            table.add_column(title)
        for status in statuses:
            daemons = " ".join(name if well else f"[red]{name}[/]" for name, well in status.services.items())
            engine = f"{status.engine} {status.store}".strip()
            faults = ", ".join(broken.get(status.name, ()))
            table.add_row(
                escape(status.name),
                status.address,
                status.user,
                status.profile,
                engine,
                daemons if status.running else "[red]down[/]",
                f"[yellow]{escape(faults)}[/]",
            )
        console = terminal.out()
        console.print(table)
        spent = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in lab.timings.items())
        console.print(f"inventory: {lab.inventory}{f'; {spent}' if spent else ''}", soft_wrap=True)
    return 0 if all(status.ok for status in statuses) else 1


def show_faults() -> None:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, fault in sorted(FAULTS.items()):
        table.add_row(name, escape(fault.help))
    terminal.out().print(table)
