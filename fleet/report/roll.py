"""The last screen of a roll, for whoever is called at night: what is down, what failed, what still serves, what to type."""

from collections.abc import Mapping, Sequence

from rich.markup import escape

from fleet.report import terminal
from fleet.report.hosts import fold
from fleet.rollout.assign import Programme
from fleet.rollout.availability import NotBegunError
from fleet.rollout.run import Outcome


def show_programme(programme: Programme, *, stages: bool, hosts: bool) -> None:
    """Every play with its stages, its hosts, or both; nothing is looked at."""
    console = terminal.out()
    for number, one in enumerate(programme.assignments, start=1):
        console.print(f"[bold]play {number}: {escape(one.play.name)}[/]  [dim]{len(one.hosts)} hosts[/]")
        if stages:
            console.print(f"  stages: {', '.join(stage.name for stage in one.play.stages)}", soft_wrap=True)
        if hosts:
            for name in one.hosts:
                console.print(f"  {escape(name)}{' (canary)' if name in one.canaries else ''}", soft_wrap=True)


def show_end(found: Mapping[str, Outcome], ended: str, serves: Mapping[str, tuple[int, int]]) -> None:
    """What somebody has to know first: what is down, what still serves (service -> how many of how many), what was left.

    Nothing where all is well.
    """
    bad = {name: one for name, one in found.items() if one.error is not None}
    if not bad:
        return
    console = terminal.err()
    for name, one in bad.items():
        if one.down:
            services = ", ".join(one.down)
            console.print(
                f"[bold white on red]DOWN[/] {escape(name)}: {escape(services)} does not serve", soft_wrap=True
            )
    if ended:
        console.print(f"[bold red]ENDED EARLY[/]: {escape(ended)}", soft_wrap=True)
    untouched = [name for name, one in bad.items() if isinstance(one.error, NotBegunError)]
    if untouched:
        console.print(f"not begun, as they were: {escape(fold(untouched))}", soft_wrap=True)
    for service, (count, total) in serves.items():
        colour = "green" if count == total else "bold red" if not count else "yellow"
        console.print(f"[{colour}]{escape(service)}: {count} of {total} replicas serve[/]", soft_wrap=True)


def show_next(commands: Sequence[str]) -> None:
    """What to type: the last lines of a run that was not all well."""
    for line in commands:
        terminal.err().print(f"next: {escape(line)}", soft_wrap=True)


def show_gone_back(found: Mapping[str, Outcome]) -> None:
    """After a roll-back: what the inventory still asks for is another release, and the next deploy brings it."""
    changed = [name for name, one in found.items() if one.changed]
    if changed:
        console = terminal.err()
        text = f"{fold(changed)} went back, but the inventory and its lock still ask for what was left"
        console.print(f"[yellow]note[/]: {escape(text)}", soft_wrap=True)
        console.print("next: change the inventory's image before the next invoke deploy, which rolls forward again")
