"""`invoke images`: what lies on each host, for a person and for machines."""

from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from fleet.image.release import Release
from fleet.journal.header import iso
from fleet.report import terminal
from fleet.report.units import size
from fleet.rollout.census import Seen, short


def shown(seen: Sequence[Seen]) -> tuple[Seen, ...]:
    """What the question is about: our images, and what containers use. Pure."""
    return tuple(one for one in seen if one.ours or one.users)


def show(found: Mapping[str, Sequence[Seen]], *, everything: bool) -> None:
    """A row for each image, then what is odd; what is neither ours nor used is counted, or listed with `everything`."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("host", "image", "names now", "before", "release", "size", "containers"):
        table.add_column(title, overflow="fold")
    for host, seen in found.items():
        for one in seen if everything else shown(seen):
            table.add_row(
                escape(host),
                short(one.image.id),
                escape("\n".join(one.image.names)) or "[dim]<none>[/]",
                escape("\n".join(_before(one))),
                _release(one),
                size(one.image.size),
                "\n".join(
                    f"[{'green' if user.state == 'running' else 'dim'}]{escape(user.name)} ({user.state})[/]"
                    for user in one.users
                ),
            )
    if table.row_count:
        terminal.out().print(table)
    for host, seen in found.items():
        for one in seen if everything else shown(seen):
            for remark in one.remarks:
                terminal.host_line(host, f"{short(one.image.id)}: {remark}")
        rest = [] if everything else [one for one in seen if not one.ours and not one.users]
        if rest:
            total = size(sum(one.image.size for one in rest))
            terminal.host_line(host, f"and {len(rest)} more that are not ours and that nothing uses, {total}: --all")
        elif not seen:
            terminal.host_line(host, "no images")


def _before(one: Seen) -> list[str]:
    """What its names meant before, and which names meant it."""
    here = [f"{name} was {', '.join(was)}" for name, was in one.before.items()]
    return [*here, *(f"it was {name}" for name in one.lost)]


def _release(one: Seen) -> str:
    if one.release is None and one.built is not None:
        return escape("\n".join(("built as", *_words(one.built))))
    if one.release is None:
        return "[yellow]none that is known[/]" if one.ours else "[dim]foreign[/]"
    return escape("\n".join(_words(one.release)))


def _words(release: Release) -> list[str]:
    vllm = f"vLLM {release.vllm_version}" if release.vllm_version else ""
    return [word for word in (release.local_name, vllm, release.source_reference) if word]


def document(found: Mapping[str, Sequence[Seen]]) -> dict[str, list[dict[str, object]]]:
    """By host, every image; sizes in bytes, times as ISO 8601 in UTC."""
    return {
        host: [
            {
                "id": one.image.id,
                "names": list(one.image.names),
                "repo_digests": list(one.image.repo_digests),
                "size": one.image.size,
                "created": iso(one.image.created),
                "ours": one.ours,
                "release": _told(one),
                "built": one.built.local_name if one.release is None and one.built is not None else None,
                "before": {name: list(was) for name, was in one.before.items()},
                "lost_names": list(one.lost),
                "containers": [{"name": user.name, "state": user.state, "asked": user.asked} for user in one.users],
                "remarks": list(one.remarks),
            }
            for one in seen
        ]
        for host, seen in found.items()
    }


def _told(one: Seen) -> dict[str, object] | None:
    if one.release is None:
        return None
    keys = ("id", "local_name", "manifest_digest", "source", "source_reference", "vllm_version", "vllm_commit", "rocm")
    return {key: getattr(one.release, key) for key in keys}
