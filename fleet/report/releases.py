"""`invoke releases --history`: what each host runs, ran, and can go back to. Rows are made here, pure, and shown."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from rich.markup import escape
from rich.table import Table

from fleet.image.release import Release
from fleet.journal.header import iso
from fleet.report import terminal
from fleet.rollout.lineage import Lineage
from fleet.rollout.past import Past

_STYLES = {"runs": "green", "left": "yellow", "unproved": "red"}


@dataclass(frozen=True)
class Row:
    """One release of one service on one host. `at`: when it answered there last, in seconds since the epoch; 0: never.

    `state`: runs, unproved (runs, and no audit says that it answered), before, left (rolled away from). `image`: is it
    still on the host; None where its record is gone. `next`: this is what a roll-back takes. `pinned`: prune leaves it.
    """

    service: str
    release: str
    state: str
    at: float
    run: str = ""
    name: str = ""
    source: str = ""
    vllm: str = ""
    image: bool | None = None
    container: bool = False  # is a container of it kept, which only has to be started?
    settings: bool = False  # are those of that time known?
    next: bool = False
    pinned: bool = False


def rows(past: Past, services: Iterable[str], known: Mapping[str, Release]) -> tuple[Row, ...]:
    """The newest first. `known` are releases of which others tell."""
    return tuple(row for service in services for row in _rows(past, service, {**known, **past.releases}))


def _rows(past: Past, service: str, known: Mapping[str, Release]) -> list[Row]:
    lineage, running = past.lineages.get(service, Lineage()), past.running(service)
    back = lineage.before(running)
    found = []
    for one in (*lineage.standing, *lineage.left):
        state = "runs" if one.release in running else "left" if one in lineage.left else "before"
        found.append(_row(past, service, one.release, state, known, at=one.at, run=one.run, next_=one == back))
    answered = {row.release for row in found}
    found += [_row(past, service, one, "unproved", known) for one in sorted(running - answered)]
    return sorted(found, key=lambda row: (row.state not in ("runs", "unproved"), -row.at))


def _row(
    past: Past,
    service: str,
    release: str,
    state: str,
    known: Mapping[str, Release],
    *,
    at: float = 0.0,
    run: str = "",
    next_: bool = False,
) -> Row:
    told = known.get(release)
    return Row(
        service,
        release,
        state,
        at,
        run,
        name=told.local_name if told else "",
        source=told.source_reference if told else "",
        vllm=told.vllm_version if told else "",
        image=release in past.held if told else None,
        container=release in past.kept(service),
        settings=(service, release) in past.records,
        next=next_,
        pinned=release in past.pinned,
    )


def document(rows_of: Mapping[str, Iterable[Row]]) -> dict[str, list[dict[str, object]]]:
    """By host, times as ISO 8601 in UTC."""
    return {
        host: [{**asdict(row), "at": iso(row.at) if row.at else None} for row in of_host]
        for host, of_host in rows_of.items()
    }


def show(rows_of: Mapping[str, Iterable[Row]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("host", "service", "release", "state", "answered (UTC)", "image", "made from", "vLLM", "rollback"):
        table.add_column(title, overflow="fold")
    for host, of_host in rows_of.items():
        for row in of_host:
            image = {True: "on the host", False: "not on the host", None: "unknown"}[row.image]
            image += ", container kept" if row.container else ""
            table.add_row(
                escape(host),
                escape(row.service),
                escape(row.name or row.release),
                f"[{_STYLES.get(row.state, 'dim')}]{row.state}[/]",
                iso(row.at)[:19].replace("T", " ") if row.at else "never",
                f"{image}, pinned" if row.pinned else image,
                escape(row.source),
                escape(row.vllm),
                "goes here" if row.next else "",
            )
    if table.row_count:
        terminal.out().print(table)
    else:
        terminal.out().print("nothing of ours runs or ran on these hosts")
