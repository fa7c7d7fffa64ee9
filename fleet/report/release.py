"""`invoke releases.show` and `releases.diff`: what one release is and where, and what two have otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.markup import escape
from rich.table import Table

from fleet.image.between import Between
from fleet.image.release import Release, to_json
from fleet.report import terminal
from fleet.report.releases import Row, rows
from fleet.report.releases import document as rows_document
from fleet.report.units import size
from fleet.rollout.compare import FIELDS, Difference, Layers
from fleet.rollout.past import Past

SHOWN = 30  # commits on a terminal


@dataclass(frozen=True)
class Place:
    """One host: does it hold the image, what the release was or is there, by service, and why it is pinned (None: not)."""

    image: bool
    rows: tuple[Row, ...]
    pinned: str | None = None


def places(release: Release, found: Mapping[str, Past]) -> dict[str, Place]:
    """The hosts that hold, run or ran it, or pin it. Pure."""
    told = {}
    for host, past in found.items():
        services = sorted({*past.lineages, *(one.service for one in past.containers)})
        mine = tuple(row for row in rows(past, services, {release.id: release}) if row.release == release.id)
        if mine or release.id in past.held or release.id in past.pinned:
            told[host] = Place(release.id in past.held, mine, past.pinned.get(release.id))
    return told


def show(release: Release, where: Mapping[str, Place]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("release", escape(release.local_name))
    table.add_row("manifest digest", release.manifest_digest)
    table.add_row("config digest", release.config_digest)
    for name in FIELDS:
        value = getattr(release, name)
        text = " ".join(value) if isinstance(value, tuple) else value
        if text and name != "name":
            table.add_row(name.replace("_", " "), escape(text))
    for word, told in (("arg", release.args), ("version", release.versions)):
        for name, value in sorted(told.items()):
            table.add_row(f"{word} {escape(name)}", escape(value))
    table.add_row("size", f"{size(release.size)} compressed, {len(release.diff_ids)} layers")
    terminal.out().print(table)
    for host, place in where.items():
        image = "image on the host" if place.image else "image not on the host"
        states = [f"{row.service}: {row.state}{', a roll-back goes here' if row.next else ''}" for row in place.rows]
        pin = [] if place.pinned is None else [f"pinned: {place.pinned}" if place.pinned else "pinned"]
        terminal.host_line(host, "; ".join([image, *states, *pin]))
    if not where:
        terminal.out().print("none of the asked hosts holds, runs or ran it")


def document(release: Release, where: Mapping[str, Place]) -> dict[str, object]:
    """`{release: RECORD, hosts: {HOST: {image, services: […], pinned}}}`, rows as in `releases`."""
    told = rows_document({host: place.rows for host, place in where.items()})
    hosts = {
        host: {"image": place.image, "services": told[host], "pinned": place.pinned} for host, place in where.items()
    }
    return {"release": {**to_json(release), "id": release.id, "size": release.size}, "hosts": hosts}


def show_difference(
    before: Release, after: Release, found: Sequence[Difference], layers: Layers, between: Between
) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("", before.local_name, after.local_name):
        table.add_column(title, overflow="fold")
    for one in found:
        table.add_row(escape(one.what), escape(one.before) or "[dim]none[/]", escape(one.after) or "[dim]none[/]")
    terminal.out().print(table if found else "their records tell the same but for digests and layers")
    terminal.out().print(
        f"{layers.shared} layers are the same, {layers.new} are new in {escape(after.local_name)}: "
        f"{size(layers.new_bytes)} compressed"
    )
    for word, commits in (("new", between.added), ("no longer in it", between.removed)):
        if commits:
            terminal.out().print(f"[bold]commits, {word}[/] ({len(commits)})")
        for commit, subject in commits[:SHOWN]:
            terminal.out().print(f"  {commit[:12]} {escape(subject)}", soft_wrap=True)
        if len(commits) > SHOWN:
            terminal.out().print(f"  and {len(commits) - SHOWN} more: --json has them")
    if between.unknown:
        terminal.out().print(
            f"[dim]the commits between them are not known: {escape(between.unknown)}[/]", soft_wrap=True
        )


def difference_document(
    before: Release, after: Release, found: Sequence[Difference], layers: Layers, between: Between
) -> dict[str, object]:
    """`{before, after, differences, layers, commits: {added: [{commit, subject}], removed, unknown}}`."""
    lists = {"added": between.added, "removed": between.removed}
    commits = {
        word: [{"commit": commit, "subject": subject} for commit, subject in told] for word, told in lists.items()
    }
    return {
        "before": before.local_name,
        "after": after.local_name,
        "differences": [asdict(one) for one in found],
        "layers": asdict(layers),
        "commits": {**commits, "unknown": between.unknown},
    }
