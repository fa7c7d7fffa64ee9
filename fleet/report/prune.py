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
    """What is no host: the controller, a builder, a registry. Its room is None where nobody can see it."""

    steps: tuple[Told, ...] = ()
    kept: tuple[Kept, ...] = ()
    done: list[Told] = field(default_factory=list)
    before: Room | None = None
    after: Room | None = None


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
        if place.before is not None:
            console.print(f"{escape(name)}: {escape(_rooms(place.before, place.after))}", soft_wrap=True)


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
    words = _rooms(one.before, one.after)
    if one.after is None and not one.plan.steps:
        words += "; nothing to remove"
    if one.plan.foreign:
        words += f"; {one.plan.foreign} foreign images and containers are left alone"
    return words


def _rooms(before: Room, after: Room | None) -> str:
    words = f"{size(before.used)} used, {size(before.free)} free"
    return f"{words}; now {size(after.used)} used, {size(after.free)} free" if after is not None else words


def document(found: Mapping[str, HostPrune], places: Mapping[str, Place], *, check: bool) -> dict[str, object]:
    """`{check, hosts: {HOST: {before, after, planned, removed, kept, foreign}}, places: {NAME: …}}`; bytes, null where unknown."""
    return {
        "check": check,
        "hosts": {host: _host(one) for host, one in found.items()},
        "places": {name: _place(place) for name, place in places.items()},
    }


def _place(one: Place) -> dict[str, object]:
    return {
        "before": vars(one.before) if one.before else None,
        "after": vars(one.after) if one.after else None,
        **_told(one.steps, one.done, one.kept),
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
