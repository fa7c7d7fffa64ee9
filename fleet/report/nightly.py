"""Nights and what starts them, on the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from fleet.inventory.settings import Nightly
from fleet.journal.header import iso
from fleet.nightly.install import Written
from fleet.nightly.nights import Night
from fleet.nightly.plan import BUILD, Decision
from fleet.nightly.timer import Timer
from fleet.report import terminal
from fleet.report.night_words import serves


def show_files(written: Iterable[Written]) -> None:
    """Each file with its mode, as it would be."""
    for one in written:
        kept = ", kept where it is there" if one.keep else ""
        print(f"# {one.path} (mode {one.mode:04o}{kept})\n{one.text}")


def show_installed(changed: Sequence[str], following: datetime, jitter: int) -> None:
    for path in changed:
        print(f"wrote {path}")
    if not changed:
        print("all of it was there already")
    print(_next(following, jitter))


def show_removed(paths: Sequence[str], *, check: bool) -> None:
    for path in paths:
        print(f"{'would remove' if check else 'removed'} {path}")
    if not paths:
        print("nothing is installed")


def show_status(timer: Timer, there: Sequence[str], following: datetime | None, past: Sequence[Night]) -> None:
    for path in there:
        print(path)
    print(
        _next(following, timer.jitter) if following else "not installed: invoke nightly.install starts one every night"
    )
    if not past:
        print("no night is on record")
        return
    table = Table("night", "began (UTC)", "result", "what happened", box=None, pad_edge=False)
    for night in past:
        began = f"{datetime.fromtimestamp(night.began, UTC):%Y-%m-%d %H:%M}"
        table.add_row(night.id, began, night.result or "not ended", escape(night.said))
    terminal.out().print(table)
    print(f"after night {past[-1].id}: {serves(past[-1].document)}")


def status_document(
    timer: Timer, there: Sequence[str], following: datetime | None, past: Sequence[Night]
) -> dict[str, Any]:
    """What `nightly.status --json` prints; times in UTC, the jitter in minutes."""
    return {
        "name": timer.name,
        "files": list(there),
        "schedule": timer.schedule,
        "jitter": timer.jitter,
        "next": iso(following.timestamp()) if following else None,
        "nights": [
            {"id": one.id, "began": iso(one.began), "result": one.result or None, "said": one.said} for one in past
        ],
    }


def _next(following: datetime, jitter: int) -> str:
    late = f", up to {jitter} minutes later" if jitter else ""
    return f"next night: {following:%a %Y-%m-%d %H:%M %Z}{late}"


def show_night(document: Mapping[str, Any], folder: Path) -> None:
    """The night's last word, and where its report lies."""
    console = terminal.out()
    for phase in document["phases"]:
        word = {True: "well", False: "failed"}.get(phase["ok"], "not ended")
        console.print(f"{phase['name']}: {word}, {phase.get('seconds', 0):.0f} s")
    for pace in document.get("paces", ()):
        told = f"{pace['replica']} on {pace['host']}: {pace['after']:.1f} tokens/s, before {pace['before']:.1f}"
        console.print(escape(f"{told} ({pace['change']:+.0f} %)"))
    result = document["result"] or "not ended"
    console.print(escape(f"night {document['id']}: {result}: {document['said']}"), soft_wrap=True)
    console.print(escape(serves(document)), soft_wrap=True)
    console.print(escape(f"the report is {folder}/report.html"), soft_wrap=True)


def show_decision(decision: Decision, canaries: Sequence[str], settings: Nightly, reasons: Iterable[str]) -> None:
    """What `nightly --check` says."""
    print(decision.why)
    for reason in reasons:
        print(f"  {reason}")
    if decision.kind == BUILD:
        print(f"would make it, then deploy it to {', '.join(canaries)}, then {_after(settings)}")


def _after(settings: Nightly) -> str:
    return "to the rest of the fleet" if settings.promote == "auto" else "wait for invoke promote"
