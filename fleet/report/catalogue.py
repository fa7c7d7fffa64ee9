"""`invoke releases`: one row for each release, whoever tells of it; narrow enough for a terminal."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from fleet.image.release import Release
from fleet.journal.header import iso
from fleet.report import terminal
from fleet.report.hosts import fold
from fleet.report.units import size
from fleet.rollout.catalogue import Entry

_COLUMNS = (
    "release\nname\nkey",
    "vLLM\ncommit",
    "base",
    "gfx\nROCm",
    "size\nbuilt",
    "lies in",
    "answered on",
    "runs on",
    "kept",
)
_WHOLE = ("release", "gfx", "size")  # what is copied or of one short form is never broken


def show(entries: Sequence[Entry], notes: Sequence[str]) -> None:
    """What is short stands under what belongs to it, so that nine columns do for it all."""
    if entries:
        terminal.out().print(table(entries))
    else:
        terminal.out().print("no release of ours is known to these hosts, their registries and this controller")
    for note in notes:
        terminal.event("releases", note)


def table(entries: Sequence[Entry]) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in _COLUMNS:
        made.add_column(title, overflow="fold", no_wrap=title.startswith(_WHOLE))
    several = len({place for one in entries for place in one.registries}) > 1
    for one in entries:
        lies = [*one.registries, fold(one.held)]
        cells = [*_record(one), _lines(lies), fold(one.verified)]
        kept = [f"last-good in {place}" if several else "last-good" for place in one.last_good]
        kept += ["asked for"] if one.asked else []
        kept += [f"pinned on {fold(one.pinned)}"] if one.pinned else []
        made.add_row(*map(escape, cells), f"[green]{escape(fold(one.running))}[/]", escape(_lines(kept)))
    return made


def _record(one: Entry) -> tuple[str, str, str, str, str]:
    if (told := one.release) is None:
        return f"{one.id}\nits record is gone", "", "", "", ""
    made = f"{one.made[:4]}-{one.made[4:6]}-{one.made[6:]}" if one.made else ""
    return (
        _lines((one.id, told.name, told.content_key[:12])),
        _lines((told.vllm_version, told.vllm_commit[:9])),
        _lines((told.base, told.base_digest.removeprefix("sha256:")[:12])),
        _lines((*told.gfx, told.rocm)),
        _lines((size(told.size), made)),
    )


def _lines(words: Sequence[str]) -> str:
    return "\n".join(filter(None, words))


def document(entries: Sequence[Entry]) -> list[dict[str, object]]:
    """Each with its record's words (null where it is gone), bytes, and places; times as ISO 8601 in UTC."""
    return [
        {
            "id": one.id,
            "record": _told(one.release) if one.release else None,
            "built": one.made or None,
            "registries": list(one.registries),
            "tags": list(one.tags),
            "hosts": list(one.held),
            "verified": {host: iso(at) for host, at in one.verified.items()},
            "running": {host: list(services) for host, services in one.running.items()},
            "last_good": list(one.last_good),
            "asked": one.asked,
            "pinned": dict(one.pinned),
        }
        for one in entries
    ]


def _told(release: Release) -> dict[str, object]:
    names = (
        "local_name", "manifest_digest", "config_digest", "content_key", "source", "source_reference", "vllm_version",
        "vllm_commit", "base", "base_digest", "rocm", "created", "size",
    )  # fmt: skip
    return {**{name: getattr(release, name) for name in names}, "gfx": list(release.gfx)}
