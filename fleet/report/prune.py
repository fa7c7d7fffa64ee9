"""What a prune took away and what it left, per host with its room before and after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.markup import escape

from fleet.prune.controller import RemoveFile
from fleet.prune.facts import PrunePlan, Room, Step
from fleet.report import terminal
from fleet.report.units import size


@dataclass
class HostPrune:
    """One host. `after` is None where nothing was done; `done` are the steps that were carried out."""

    plan: PrunePlan
    before: Room
    after: Room | None = None
    done: tuple[Step, ...] = ()


def show(
    found: Mapping[str, HostPrune],
    files: Sequence[RemoveFile],
    notes: Sequence[str],
    *,
    check: bool,
    verbose: bool,
) -> None:
    """Each step with why, what stays (at length where `verbose`), and room in one line."""
    console = terminal.out()
    would = "would " if check else ""
    for note in notes:
        terminal.event("prune", note)
    for host, one in found.items():
        for step in one.plan.steps if check else one.done:
            bytes_at_most = f", {size(step.size)} at most" if step.size else ""
            console.print(
                f"{escape(host)}: {would}{escape(step.what)}{bytes_at_most}: {escape(step.why)}", soft_wrap=True
            )
        for stays in one.plan.kept if verbose or check else ():
            console.print(f"[dim]{escape(host)}: keep {escape(stays.what)}: {escape(stays.why)}[/]", soft_wrap=True)
        console.print(f"{escape(host)}: {escape(room(one))}", soft_wrap=True)
    if files:
        days = max(files, key=lambda step: step.size)
        total = size(sum(step.size for step in files))
        console.print(
            f"controller: {would}remove {len(files)} old runs and logs, {total}, such as {escape(str(days.path))}"
        )


def room(one: HostPrune) -> str:
    """`12 GB used, 30 GB free; now 8 GB used, 34 GB free; 5 foreign images and containers were left alone`."""
    words = f"{size(one.before.used)} used, {size(one.before.free)} free"
    if one.after is not None:
        words += f"; now {size(one.after.used)} used, {size(one.after.free)} free"
    elif not one.plan.steps:
        words += "; nothing to remove"
    if one.plan.foreign:
        words += f"; {one.plan.foreign} foreign images and containers are left alone"
    return words


def document(found: Mapping[str, HostPrune], files: Sequence[RemoveFile], *, check: bool) -> dict[str, object]:
    """`{check, hosts: {HOST: {before, after, planned, removed, kept, foreign}}, controller: {removed}}`; bytes."""
    return {
        "check": check,
        "hosts": {host: _host(one) for host, one in found.items()},
        "controller": {"planned" if check else "removed": [_step(step) for step in files]},
    }


def _host(one: HostPrune) -> dict[str, object]:
    return {
        "before": vars(one.before),
        "after": vars(one.after) if one.after else None,
        "planned": [_step(step) for step in one.plan.steps],
        "removed": [_step(step) for step in one.done],
        "kept": [vars(stays) for stays in one.plan.kept],
        "foreign": one.plan.foreign,
    }


def _step(step: Step | RemoveFile) -> dict[str, object]:
    return {"what": step.what, "why": step.why, "bytes": step.size}
