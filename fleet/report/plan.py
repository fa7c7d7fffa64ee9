"""A plan for a person: per host the steps in order, why, and the bytes that will move."""

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.markup import escape

from fleet.report import findings
from fleet.report.hosts import fold
from fleet.report.units import size
from fleet.rollout.hostplan import HostPlan

LONG = 40  # characters of a reason that is not said twice for one host


def show(console: Console, plans: Iterable[HostPlan], *, verbose: bool, diff: bool = False) -> None:
    """Every step that changes something; the no-ops too when `verbose`, what keeps a host out always.

    `diff` shows each difference between a container and its specification on a line of its own.
    """
    for plan in plans:
        told: set[str] = set()
        moved = f", {size(plan.size)} to move" if plan.size else ""
        words = f"{plan.changed} steps{moved}" if plan.changed else "nothing to do"
        console.print(f"[bold]{escape(plan.host)}[/]  [dim]{words}[/]")
        for line in plan.lines:
            if line.changes or verbose:
                mark = "[yellow]+[/]" if line.changes else "[dim]=[/]"
                why = f"  [dim]({escape('as above' if line.why in told else line.why)})[/]" if line.why else ""
                told |= {line.why} if len(line.why) > LONG else set()
                moving = f"  [cyan]{size(line.size)} {escape(line.way)}[/]" if line.size else ""
                console.print(f"  {mark} {escape(line.what)}{moving}{why}", soft_wrap=True)
                for detail in line.details:
                    console.print(f"      [dim]{escape(detail)}[/]", soft_wrap=True)
        for difference in _differences(plan) if diff else ():
            console.print(f"  [magenta]~[/] {escape(difference)}", soft_wrap=True)
        for fix in plan.by_hand:
            lines = escape("; ".join(fix.lines))
            console.print(f"  [dim]note: {escape(fix.what)}, as root: {lines}[/]", soft_wrap=True)
        for note in (*plan.notes, *plan.serving.notes):
            console.print(f"  [dim]note: {escape(note)}[/]", soft_wrap=True)
        for problem in plan.problems:
            console.print(f"  [bold red]cannot:[/] {escape(problem)}", soft_wrap=True)
        if plan.blocked:
            findings.show(console, {plan.host: plan.blocked}, verbose=False)


def show_differences(console: Console, plans: Iterable[HostPlan]) -> None:
    """What `diff` adds to `show`, for a run that goes on to do it: hosts with the same difference share a line."""
    hosts: dict[str, list[str]] = {}
    for plan in plans:
        for difference in _differences(plan):
            hosts.setdefault(difference, []).append(plan.host)
    for difference, names in hosts.items():
        console.print(f"{escape(fold(names))}  [magenta]~[/] {escape(difference)}", soft_wrap=True)


def _differences(plan: HostPlan) -> Iterator[str]:
    for change in plan.serving.changes:
        for difference in change.why.split("; "):
            yield f"{change.name}: {difference}"


def document(plan: HostPlan) -> dict[str, object]:
    """One host's plan for machines."""
    return {
        "ready": plan.ready,
        "changed": plan.changed,
        "bytes": plan.size,
        "steps": [vars(line) for line in plan.lines],
        "by_hand": [{"what": fix.what, "lines": list(fix.lines)} for fix in plan.by_hand],
        "notes": [*plan.notes, *plan.serving.notes],
        "problems": list(plan.problems),
        "blocked": [finding.to_json() for finding in plan.blocked],
    }
