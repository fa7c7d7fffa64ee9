"""`invoke build --explain`: why an image is had prebuilt, from source, or on a base of one's own."""

from collections.abc import Sequence
from dataclasses import asdict

from rich.markup import escape
from rich.table import Table

from fleet.image.strategy import FITS, OUT, UNKNOWN, Choice
from fleet.inventory.settings import Image
from fleet.report import terminal
from fleet.rollout.strategies import Explained

_STYLE = {FITS: "green", UNKNOWN: "yellow", OUT: "red"}


def show(found: Sequence[Explained]) -> None:
    """A table for each image that has a choice, and what comes of it."""
    console = terminal.out()
    for one in found:
        name = f"[bold]{escape(one.image.name)}[/]"
        if one.choice is None:
            console.print(f"{name}: {_only(one.image)}, as the inventory says", soft_wrap=True)
            continue
        console.print(name)
        console.print(_table(one.choice))
        console.print(f"{'chosen' if one.choice.kind else 'not chosen'}: {escape(one.choice.why)}", soft_wrap=True)
        console.print(f"[dim]{escape(_standing(one.locked, one.choice.kind))}[/]", soft_wrap=True)
    console.print(
        "[dim]only nightly tries an image on the builder before it goes out; with build and deploy the first host does[/]"
    )


def document(found: Sequence[Explained]) -> dict[str, object]:
    """`{images: [{image, chosen, locked, why, reasons: [{candidate, question, evidence, verdict}]}]}`."""
    return {
        "images": [
            {
                "image": one.image.name,
                "chosen": one.choice.kind if one.choice else _only(one.image),
                "locked": one.locked,
                "why": one.choice.why if one.choice else "as the inventory says",
                "reasons": [asdict(reason) for reason in one.choice.reasons] if one.choice else [],
            }
            for one in found
        ]
    }


def _table(choice: Choice) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("candidate", "question", "what is known", "verdict"):
        table.add_column(title, overflow="fold")
    before = ""
    for one in choice.reasons:
        name = one.candidate if one.candidate != before else ""
        before = one.candidate
        verdict = f"[{_STYLE[one.verdict]}]{one.verdict}[/]"
        table.add_row(name, one.question, escape(one.evidence), verdict)
    return table


def _standing(locked: str, kind: str) -> str:
    if not locked:
        return "the lock has no choice yet: the next build makes it"
    return "as the lock has it" if locked == kind else f"the lock has {locked}, until build --update"


def _only(image: Image) -> str:
    """The one way that an inventory names."""
    if image.source is None:
        return "prebuilt" if image.prebuilt else "archive"
    return "source" if image.source.base is None else "own_base"
