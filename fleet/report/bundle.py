"""Bundles on the terminal and as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from fleet.bundle.check import Bundle
from fleet.bundle.create import Made
from fleet.bundle.have import Have
from fleet.bundle.load import Loaded
from fleet.bundle.manifest import FOLDERS, Manifest
from fleet.image.release import Release
from fleet.report import terminal
from fleet.report.units import size, visible


def show_made(target: Path, made: Made, *, signed: bool) -> None:
    manifest = made.manifest
    _line(f"{target}: {_words(manifest)}; {made.written} of {len(manifest.files)} files were written now")
    if manifest.base:
        left = sum(one.size for one in manifest.base.absent)
        _line(f"a delta: {len(manifest.base.absent)} layers, {size(left)}, are left out")
        if files := manifest.base.files:
            _line(f"and {len(files)} files of models, {size(sum(one.size for one in files))}")
    _line("signed" if signed else "not signed: --sign-key FILE signs it, so that the site can tell whose it is")


def show_list(bundle: Bundle) -> None:
    manifest = bundle.manifest
    _line(f"{bundle.path}: {_words(manifest)}")
    _line(f"made {manifest.created} by {manifest.by} with fleet {manifest.fleet} from {', '.join(manifest.inventory)}")
    for release in sorted({want.release for want in manifest.wants}):
        hosts = sorted({want.host for want in manifest.wants if want.release == release})
        _line(f"release {release} for {', '.join(hosts)}")
    for model in manifest.models:
        _line(f"model {model}")
    for folder in FOLDERS:
        files = [one for one in manifest.files if one.path.startswith(f"{folder}/")]
        if files:
            _line(f"{folder}/: {len(files)} files, {size(sum(one.size for one in files))}")
    if manifest.packages:
        _line(f"the controller needs the Debian packages {', '.join(manifest.packages)}")
    if manifest.base:
        _line(f"a delta on what {manifest.base.by} held on {manifest.base.made}; left out:")
        for absent in manifest.base.absent:
            _line(f"  layer {absent.digest}, {size(absent.size)}, held by {', '.join(absent.held_by)}")
        for file in manifest.base.files:
            _line(f"  {file.path}, {size(file.size)}, held by {', '.join(file.held_by)}")


def show_verdict(
    bundle: Bundle, wrong: Sequence[str], lacking: Sequence[str], notes: Sequence[str], *, site: bool
) -> None:
    for problem in wrong:
        terminal.out().print(f"[bold red]DAMAGED[/] {escape(visible(problem))}", soft_wrap=True)
    for problem in lacking:
        terminal.out().print(f"[bold red]MISSING[/] {escape(visible(problem))}", soft_wrap=True)
    for note in notes:
        _line(f"note: {note}")
    if wrong or lacking:
        return
    _line(f"{bundle.path}: {_words(bundle.manifest)}; every file is as its manifest says")
    _line(f"signed by {bundle.signer}" if bundle.signer else "its signature was not asked for")
    if site:
        _line("this site could be deployed from it")


def verdict_document(
    bundle: Bundle, wrong: Sequence[str], lacking: Sequence[str], notes: Sequence[str]
) -> dict[str, Any]:
    return {
        "id": bundle.manifest.id,
        "signer": bundle.signer,
        "damaged": list(wrong),
        "missing": list(lacking),
        "notes": list(notes),
        "ok": not (wrong or lacking),
    }


def show_loaded(store: Path, loaded: Loaded) -> None:
    _line(f"{store}: {loaded.added} blobs are new")
    for release in loaded.complete:
        _line(f"{release.local_name} is complete here")
    for release in loaded.partial:
        _line(
            f"{release.local_name} is not complete here: a node without its older layers cannot get it from this store"
        )


def loaded_document(loaded: Loaded) -> dict[str, Any]:
    return {
        "added": loaded.added,
        "complete": [one.local_name for one in loaded.complete],
        "partial": [one.local_name for one in loaded.partial],
    }


def document(manifest: Manifest, releases: Sequence[Release] = ()) -> dict[str, Any]:
    """The manifest in short, as JSON-able data."""
    base = manifest.base
    return {
        "id": manifest.id,
        "created": manifest.created,
        "by": manifest.by,
        "inventory": list(manifest.inventory),
        "bytes": manifest.size,
        "files": len(manifest.files),
        "volumes": manifest.volumes,
        "releases": sorted({want.release for want in manifest.wants} | {one.id for one in releases}),
        "models": list(manifest.models),
        "packages": list(manifest.packages),
        "left_out": [{"digest": one.digest, "bytes": one.size, "held_by": list(one.held_by)} for one in base.absent]
        if base
        else [],
    }


def diff_document(old: Manifest, new: Manifest) -> dict[str, Any]:
    before, after = ({one.path: one for one in manifest.files} for manifest in (old, new))
    return {
        "added": {path: after[path].size for path in sorted(after.keys() - before.keys())},
        "removed": {path: before[path].size for path in sorted(before.keys() - after.keys())},
        "changed": {
            path: after[path].size
            for path in sorted(after.keys() & before.keys())
            if after[path].sha256 != before[path].sha256
        },
    }


def show_diff(old: Manifest, new: Manifest) -> None:
    found = diff_document(old, new)
    for word, sign in (("added", "+"), ("removed", "-"), ("changed", "~")):
        for path, count in found[word].items():
            _line(f"{sign} {path}, {size(count)}")
    counts = [f"{word} {len(files)} files, {size(sum(files.values()))}" for word, files in found.items()]
    _line("; ".join(counts))


def show_have(output: str, have: Have) -> None:
    _line(f"{output}: {len(have.blobs)} blobs in the store, images of {len(have.hosts)} hosts")


def _words(manifest: Manifest) -> str:
    volumes = f" in {manifest.volumes} volumes" if manifest.volumes > 1 else ""
    return f"bundle {manifest.id}, {len(manifest.files)} files, {size(manifest.size)}{volumes}"


def _line(text: str) -> None:
    terminal.out().print(escape(visible(text)), soft_wrap=True)
