"""Models on hosts, for a person and for machines."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from fleet.models.held import Ground, Model
from fleet.models.verify import Verdict
from fleet.report import terminal
from fleet.report.units import size


def show(found: Mapping[str, Ground], serves: Mapping[str, frozenset[str]]) -> None:
    """A line for each model; what of others is staged, and hosts without any, are said below."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("host", "model", "version", "size", "files", "checksums", "served", "kept beside it"):
        table.add_column(title, overflow="fold")
    for host, ground in found.items():
        for model in ground.models.values():
            others = [one.folder for one in model.versions if one.folder != model.current]
            table.add_row(
                host,
                escape(_name(model)),
                escape(_version(model)),
                size(model.bytes),
                str(len(model.sizes)),
                _listed(model),
                "yes" if model.name in serves.get(host, ()) else "",
                escape(", ".join(others)),
            )
    if table.row_count:
        terminal.out().print(table)
    for host, ground in found.items():
        staged = sum((*ground.blobs.values(), *ground.parts.values()))
        if staged:
            terminal.host_line(host, f"{size(staged)} of a push that did not end lie in {ground.directory}/.fleet")
        if not ground.models:
            where = "has no models" if ground.there else "is not there"
            terminal.host_line(host, f"{ground.directory} {where}")


def document(found: Mapping[str, Ground], serves: Mapping[str, frozenset[str]]) -> dict[str, Any]:
    """`{hosts: {HOST: {directory, free, staged, models: […]}}}`; bytes."""
    return {
        "hosts": {
            host: {
                "directory": ground.directory,
                "free": ground.free,
                "staged": sum((*ground.blobs.values(), *ground.parts.values())),
                "models": [_document(one, one.name in serves.get(host, ())) for one in ground.models.values()],
            }
            for host, ground in found.items()
        }
    }


def show_verdicts(found: Mapping[str, Sequence[Verdict]], bad: Mapping[str, Sequence[Verdict]]) -> None:
    for host, verdicts in found.items():
        for one in verdicts:
            colour = "red" if one in bad[host] else "yellow" if not one.known else "green"
            terminal.out().print(
                f"{escape(host)}: {escape(one.name)}: [{colour}]{escape(one.words)}[/]", soft_wrap=True
            )
        if not verdicts:
            terminal.host_line(host, "has no models")


def verdicts_document(found: Mapping[str, Sequence[Verdict]]) -> dict[str, Any]:
    return {"hosts": {host: [{**vars(one), "well": one.well} for one in verdicts] for host, verdicts in found.items()}}


def _document(model: Model, served: bool) -> dict[str, Any]:
    repository, revision = model.cached
    return {
        "name": model.name,
        "kind": "cache" if repository else model.kind,
        "version": model.current,
        "repository": repository,
        "revision": revision,
        "refs": list(model.refs),
        "bytes": model.bytes,
        "files": len(model.sizes),
        "listed": model.listed is not None,
        "changed": _changed(model),
        "versions": [vars(one) for one in model.versions],
        "served": served,
    }


def _name(model: Model) -> str:
    return model.cached[0] or model.name


def _version(model: Model) -> str:
    repository, revision = model.cached
    if repository:
        return f"cache {revision[:12]}" + (f" ({', '.join(model.refs)})" if model.refs else "")
    if model.current:
        return model.current.rpartition(".")[2]
    return f"link to {model.target}" if model.kind == "link" else "directory"


def _changed(model: Model) -> list[str]:
    """Files that are newer than the list or not in it."""
    return sorted(model.sizes.keys() - model.sums.keys()) if model.listed is not None else []


def _listed(model: Model) -> str:
    if model.listed is None:
        return "[dim]not listed[/]"
    changed = len(_changed(model))
    return f"[yellow]{changed} changed since[/]" if changed else "listed"
