"""The last screen of a roll, for whoever is called at night: what is down, what failed, what still serves, what to type."""

from collections.abc import Callable, Mapping, Sequence

from rich.markup import escape

from fleet.report import terminal
from fleet.report.hosts import fold
from fleet.rollout.assign import Programme
from fleet.rollout.availability import NotBegunError, PutBackError
from fleet.rollout.run import Outcome
from fleet.rollout.scene import Serves


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


def show_end(found: Mapping[str, Outcome], ended: str, serves: Mapping[str, Serves]) -> None:
    """What somebody has to know: what is down, or not known; what failed; what was left as it was; what still serves.

    Nothing where all is well. It stands behind the recap, because the end is what is on the screen.
    """
    bad = {name: one for name, one in found.items() if one.error is not None}
    if not bad:
        return
    console = terminal.err()

    def say(colour: str, words: str, text: str, mark: str = ": ") -> None:
        console.print(f"[{colour}]{words}[/]{mark}{escape(text)}", soft_wrap=True)

    for services, names in _by(bad, lambda one: one.down).items():
        say("bold white on red", "DOWN", f"{fold(names)}: {', '.join(services)} does not serve", " ")
    for services, names in _by(bad, lambda one: one.unknown).items():
        text = f"{fold(names)}: lost in the middle of a change, so whether {', '.join(services)} serves is not known"
        say("bold white on red", "NOT REACHED", f"{text}; by itself a host puts back what served before", " ")
    if ended:
        say("bold red", "ENDED EARLY", ended)
    told = {name: one.error for name, one in bad.items() if one.error and not isinstance(one.error, NotBegunError)}
    terminal.show_failures(told)
    back = [name for name, one in bad.items() if isinstance(one.error, PutBackError)]
    if back:
        say("bold", "put back, as they were", fold(back))
    untouched = [name for name, one in bad.items() if isinstance(one.error, NotBegunError) and name not in back]
    if untouched:
        say("bold", "not begun, as they were", fold(untouched))
    for service, one in serves.items():
        colour = "green" if one.count == one.total else "yellow" if one.count else "bold red"
        unknown = f"; not known of {fold(one.unknown)}" if one.unknown else ""
        console.print(
            f"[{colour}]{escape(f'{service}: {one.count} of {one.total} replicas serve{unknown}')}[/]", soft_wrap=True
        )


def _by(
    found: Mapping[str, Outcome], services: Callable[[Outcome], tuple[str, ...]]
) -> dict[tuple[str, ...], list[str]]:
    """Hosts by the same services; those with none are left out."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, one in found.items():
        if services(one):
            groups.setdefault(services(one), []).append(name)
    return groups


def show_next(commands: Sequence[str]) -> None:
    """What to type: the last lines of a run that was not all well."""
    for line in commands:
        terminal.err().print(f"next: {escape(line)}", soft_wrap=True)


def show_gone_back(found: Mapping[str, Outcome]) -> None:
    """After a roll-back: what the inventory still asks for is another release, and the next deploy brings it."""
    changed = [name for name, one in found.items() if one.changed]
    if changed:
        text = f"{fold(changed)} went back, but the inventory and its lock still ask for what was left"
        terminal.note(text)
        terminal.err().print(
            "next: change the inventory's image before the next invoke deploy, which rolls forward again"
        )
