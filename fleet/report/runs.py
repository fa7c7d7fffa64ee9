"""`invoke runs` and `runs.show`: what was done, and first of all what is broken and what to type next."""

import shlex
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fleet.journal.header import BAD, DONE, iso
from fleet.journal.story import HostStory, RunStory, RunSummary, remaining, summary
from fleet.report import terminal
from fleet.report.hosts import fold, of_all, of_any
from fleet.report.recap import duration

_COLOURS = {"ok": "green", "running": "cyan"}
_LONGEST = 48  # columns of a command in the table
RESUMABLE = frozenset({"deploy", "play"})  # verbs that have --resume and --only-failed; the others are just said again


def show_table(summaries: Iterable[RunSummary]) -> None:
    """One row a run, the newest last, where the eye is."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("run", "began (UTC)", "took", "ended", "hosts", "command"):
        table.add_column(title, overflow="fold")
    for run in summaries:
        word = ending(run.state, run.exit_code)
        command = " ".join(run.argv) or run.verb
        table.add_row(
            run.id,
            _when(run.began),
            duration(run.seconds) if run.seconds is not None else "-",
            f"[{_COLOURS.get(word, 'red')}]{word}[/]",
            escape(counts(run.counts)),
            escape(command if len(command) <= _LONGEST else f"{command[: _LONGEST - 1]}…"),
        )
    console = terminal.out()
    if table.row_count:
        console.print(table)
        console.print("[dim]invoke runs.show ID tells one; the beginning of an ID is enough[/]")
    else:
        console.print("no runs yet: a command that changes hosts makes one")


def show_story(story: RunStory, *, verbose: bool) -> None:
    """Failures first, with cause and next command; then what was left, what went well, and where the files are.

    `verbose` shows every step of every host.
    """
    console = terminal.out()
    word = ending(story.state, story.exit_code)
    colour = _COLOURS.get(word, "red")
    took = f"for {duration(story.seconds)} so far" if story.state == "running" else f"took {duration(story.seconds)}"
    console.print(
        f"[bold]{escape(story.header.verb)}[/] {story.id}  [{colour}]{word}[/]  began {_when(story.began)} UTC, {took}",
        soft_wrap=True,
    )
    console.print(f"  {escape(' '.join(story.header.argv))}", soft_wrap=True)
    if story.header.continues:
        console.print(f"  goes on from {escape(story.header.continues)}", soft_wrap=True)
    console.print(f"  {_hosts(len(story.hosts))}: {escape(counts(story.counts))}", soft_wrap=True)
    _show_ending(console, story)
    _show_failures(console, story)
    _show_middle(console, story)
    for line in _serving(story):
        console.print(escape(line), soft_wrap=True)
    for title, names in _folded(story):
        console.print(f"[bold]{title}[/] {escape(fold(names))}", soft_wrap=True)
    for batch in story.batches:
        name = escape(batch.name or f"batch {batch.number}")
        console.print(f"[dim]{duration(batch.start):>10}  {name}: {escape(fold(batch.hosts))}[/]", soft_wrap=True)
    if verbose:
        for host in story.hosts.values():
            _show_steps(console, host)
    for line in next_commands(story, told=True):
        console.print(f"next: {escape(line)}", soft_wrap=True)
    files = [path.name for path in sorted(story.path.iterdir()) if path.is_file()]
    files += ["hosts/NAME.log"] if any((story.path / "hosts").iterdir()) else []
    console.print(f"[dim]files: {escape(str(story.path))}: {', '.join(files)}[/]", soft_wrap=True)


def show_picture(path: object) -> None:
    terminal.out().print(f"timeline: {escape(str(path))}", soft_wrap=True)


def next_commands(story: RunStory, *, told: bool = False) -> tuple[str, ...]:
    """What to type to go on: resume what was not finished, and take the failed again once they are mended.

    `told`: whoever reads this has read the run's story. Nothing where all is well.
    """
    rest = remaining(story)
    if story.state == "running" or not (rest.hosts or rest.left_out):
        return ()
    lines = [] if told else [f"invoke runs.show {story.id}   (the run's story)"]
    if story.state == "killed" and any(step.kind == "Stop" for name in story.begun for step in story.hosts[name].steps):
        where = shlex.join(word for path in story.header.inventory for word in ("-i", path))
        lines.append(f"invoke status {where}   (a host cut off in the middle puts back by itself what served before)")
    verb = story.header.verb
    if story.header.flags.get("night"):  # it puts its hosts back itself, and the next one begins again
        return tuple(lines)
    if verb not in RESUMABLE:
        again = f"invoke {shlex.join(story.header.argv) or verb}"
        return (*lines, f"{again}   (the same again: {_hosts(len(rest.hosts) + len(rest.left_out))} to do)")
    command = f"invoke {verb} {story.header.flags.get('playbook', '')}" if verb == "play" else f"invoke {verb}"
    # A roll that failures ended goes on over them, once they are mended: not around them.
    cut_off = story.state == "killed" or not rest.left_out
    if rest.hosts and cut_off:
        lines.append(f"{command} --resume {story.id}   ({_hosts(len(rest.hosts))} to do)")
    if rest.left_out:
        both = _hosts(len(rest.left_out) + len(rest.hosts))
        lines.append(f"{command} --only-failed   (once the cause is mended: {both} failed or not begun)")
    return tuple(lines)


def counts(found: Mapping[str, int]) -> str:
    """`9 changed, 1 down`: the worst first."""
    order = (*BAD, "begun", "not begun", *DONE)
    return ", ".join(f"{found[word]} {word}" for word in sorted(found, key=order.index))


def ending(state: str, exit_code: int | None) -> str:
    if state != "finished":
        return state
    return {0: "ok", 130: "interrupted"}.get(exit_code or 0, "failed")


def document(story: RunStory) -> dict[str, object]:
    """A run for machines; times in seconds since the run began."""
    return {
        **summary_document(summary(story)),
        "continues": story.header.continues,
        "inventory": list(story.header.inventory),
        "limit": story.header.limit,
        "flags": dict(story.header.flags),
        "hosts": {name: _host_document(host) for name, host in story.hosts.items()},
        "batches": [
            {"number": one.number, "name": one.name, "hosts": list(one.hosts), "start": round(one.start, 3)}
            for one in story.batches
        ],
        "unreadable_lines": story.torn,
        "result": story.result,
        "next": list(next_commands(story)),
    }


def summary_document(run: RunSummary) -> dict[str, object]:
    return {
        "id": run.id,
        "verb": run.verb,
        "argv": list(run.argv),
        "began": iso(run.began),
        "seconds": None if run.seconds is None else round(run.seconds, 3),
        "state": run.state,
        "exit_code": run.exit_code,
        "counts": dict(run.counts),
    }


def _host_document(host: HostStory) -> dict[str, object]:
    steps = [
        {
            "kind": step.kind,
            "what": step.what,
            "why": step.why,
            "start": round(step.start, 3),
            "seconds": None if step.seconds is None else round(step.seconds, 3),
            "ok": step.ok,
            "error": step.error,
        }
        for step in host.steps
    ]
    told = {"outcome": host.outcome, "message": host.message, "hint": host.hint, "batch": host.batch}
    return {**told, "begun": host.begun, "steps": steps}


def _show_ending(console: Console, story: RunStory) -> None:
    """Why the whole run ended as it did, and what of its journal is missing."""
    result = story.result or {}
    first, *tail = str(result.get("error", "")).splitlines() or [""]
    if first:
        console.print(f"[bold red]the run ended by:[/] {escape(first)}", soft_wrap=True)
    for line in tail:
        console.print(f"  {escape(line)}", soft_wrap=True)
    if result.get("hint"):
        console.print(f"  next: {escape(str(result['hint']))}", soft_wrap=True)
    if result.get("ended"):
        console.print(f"[bold red]ENDED EARLY[/]: {escape(str(result['ended']))}", soft_wrap=True)
    if result.get("journal"):
        console.print(f"[bold red]journal {escape(str(result['journal']))}[/]", soft_wrap=True)
    if story.torn:
        console.print(f"[dim]{story.torn} unreadable line{'s' * (story.torn > 1)} of the journal read over[/]")


def _show_failures(console: Console, story: RunStory) -> None:
    """Hosts that ended badly, `down` before the others; equal causes are told once."""
    for outcome in BAD:
        told: dict[tuple[str, str, str], list[str]] = {}
        for name in story.with_outcome(outcome):
            host = story.hosts[name]
            step = host.broke
            message = host.message or (step.error if step else "")
            hint = host.hint or (step.hint if step else "")
            told.setdefault((step.what if step else "", message, of_any(hint, name)), []).append(name)
        for (what, message, hint), names in told.items():
            first, *tail = message.splitlines() or [""]
            console.print(f"[bold red]{outcome.upper()}[/] {escape(fold(names))}: {escape(first)}", soft_wrap=True)
            for line in tail:
                console.print(f"  {escape(line)}", soft_wrap=True)
            if what:
                console.print(f"  at: {escape(what)}", soft_wrap=True)
            if hint:
                console.print(f"  next: {escape(of_all(hint, names))}", soft_wrap=True)


def _serving(story: RunStory) -> list[str]:
    """What served at the end of a run that was not all well."""
    serves = (story.result or {}).get("serves")
    if not isinstance(serves, dict) or not story.exit_code:
        return []
    pairs = {name: two for name, two in serves.items() if isinstance(two, list) and len(two) == 2}
    away = (story.result or {}).get("unknown")
    unknown = {name: f"; not known of {fold(hosts)}" for name, hosts in away.items()} if isinstance(away, dict) else {}
    return [
        f"{name}: {count} of {total} replicas served at the end{unknown.get(name, '')}"
        for name, (count, total) in pairs.items()
    ]


def _show_middle(console: Console, story: RunStory) -> None:
    """Hosts in the middle of which the run ended, each with the step that was under way."""
    label = "UNDER WAY" if story.state == "running" else "CUT OFF"
    for name in story.begun:
        step = story.hosts[name].last_begun
        if step is None:
            continue
        where = "during" if step.ok is None else "after"
        ago = duration(max(0.0, story.seconds - step.start))
        text = f"{where}: {step.what}, begun {ago} before the last record"
        console.print(f"[bold red]{label}[/] {escape(name)}: {escape(text)}", soft_wrap=True)


def _folded(story: RunStory) -> list[tuple[str, tuple[str, ...]]]:
    back = story.put_back
    groups = [("put back, as they were:", back)]
    groups += [("not begun:", tuple(name for name in story.not_begun if name not in back))]
    groups += [(f"{word}:", story.with_outcome(word)) for word in ("changed", "ok", "skipped")]
    return [(title, names) for title, names in groups if names]


def _show_steps(console: Console, host: HostStory) -> None:
    console.print(f"[bold]{escape(host.name)}[/]  [dim]{host.outcome or 'no end'}[/]")
    for step in host.steps:
        mark = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[red]…[/]"}[step.ok]
        took = duration(step.seconds) if step.seconds is not None else "no end"
        why = f"  [dim]({escape(step.why)})[/]" if step.why else ""
        console.print(f"  {mark} {duration(step.start):>9}  {escape(step.what)}  {took}{why}", soft_wrap=True)
        for line in step.error.splitlines():
            console.print(f"      | {escape(line)}", soft_wrap=True)


def _hosts(count: int) -> str:
    return f"{count} host{'' if count == 1 else 's'}"


def _when(at: float) -> str:
    return iso(at)[:19].replace("T", " ")
