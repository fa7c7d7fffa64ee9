"""What a prune took away and what it left, per host with its room before and after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rich.markup import escape

from fleet.prune.facts import Kept, PrunePlan, Room, Step
from fleet.report import terminal
from fleet.report.units import size


@dataclass
class HostPrune:
    """One host. `after` is None where nothing was done; `done` are the steps that were carried out."""

    plan: PrunePlan
    before: Room
    after: Room | None = None
    done: tuple[Step, ...] = ()


class Told(Protocol):
    """Any step of a prune."""

    @property
    def what(self) -> str: ...

    @property
    def why(self) -> str: ...

    @property
    def size(self) -> int: ...


@dataclass
class Place:
    """What is no host: the controller, a builder, a registry."""

    steps: tuple[Told, ...] = ()
    kept: tuple[Kept, ...] = ()
    done: list[Told] = field(default_factory=list)


def show(
    found: Mapping[str, HostPrune],
    places: Mapping[str, Place],
    notes: Sequence[str],
    *,
    check: bool,
    verbose: bool,
) -> None:
    """Each step with why, what stays (with `check` or `verbose`), and each host's room in one line."""
    console = terminal.out()
    for note in notes:
        terminal.event("prune", note)
    for host, one in found.items():
        _lines(host, one.plan.steps if check else one.done, one.plan.kept if verbose or check else (), check=check)
        console.print(f"{escape(host)}: {escape(room(one))}", soft_wrap=True)
    for name, place in places.items():
        _lines(name, place.steps if check else place.done, place.kept if verbose or check else (), check=check)


def _lines(name: str, steps: Sequence[Told], kept: Sequence[Kept], *, check: bool) -> None:
    console = terminal.out()
    for step in steps:
        most = f", {size(step.size)} at most" if step.size else ""
        line = f"{name}: {'would ' if check else ''}{step.what}{most}: {step.why}"
        console.print(escape(line), soft_wrap=True)
    for stays in kept:
        console.print(f"[dim]{escape(f'{name}: keep {stays.what}: {stays.why}')}[/]", soft_wrap=True)


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


def document(found: Mapping[str, HostPrune], places: Mapping[str, Place], *, check: bool) -> dict[str, object]:
    """`{check, hosts: {HOST: {before, after, planned, removed, kept, foreign}}, places: {NAME: …}}`; bytes."""
    return {
        "check": check,
        "hosts": {host: _host(one) for host, one in found.items()},
        "places": {name: _told(place.steps, place.done, place.kept) for name, place in places.items()},
    }


def _host(one: HostPrune) -> dict[str, object]:
    return {
        "before": vars(one.before),
        "after": vars(one.after) if one.after else None,
        **_told(one.plan.steps, one.done, one.plan.kept),
        "foreign": one.plan.foreign,
    }


def _told(steps: Sequence[Told], done: Sequence[Told], kept: Sequence[Kept]) -> dict[str, object]:
    return {"planned": list(map(_step, steps)), "removed": list(map(_step, done)), "kept": [vars(one) for one in kept]}


def _step(step: Told) -> dict[str, object]:
    return {"what": step.what, "why": step.why, "bytes": step.size}
