"""The images of a night: what is asked for, what has to be made, and the names that it gets in the registry."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from fleet import calendar
from fleet.errors import FleetError
from fleet.image import lock as locks
from fleet.image.build_log import stage_seconds
from fleet.image.machine import Machine
from fleet.image.registry_api import RegistryClient
from fleet.image.scratch import temporary
from fleet.image.smoke import Said, smoke
from fleet.inventory.model import Host, Inventory
from fleet.inventory.settings import Image
from fleet.nightly import plan
from fleet.nightly.nights import Book, Night
from fleet.options import Options
from fleet.report import terminal
from fleet.rollout.releases import obtain
from fleet.rollout.stock import Found, Stock
from fleet.rollout.straighten import Depots
from fleet.verbs.common import ROOT, connected, narrator

T = TypeVar("T")
LAST_GOOD = "last-good"  # the tag that moves


@dataclass(frozen=True)
class Looked:
    """Content keys by image as upstream means them now; images in `spared` would have that other key, which failed before."""

    new: dict[str, str]
    spared: dict[str, str]
    stock: Stock


def last_good(options: Options, inventory: Inventory, hosts: Sequence[Host]) -> dict[str, Found]:
    """By image, what the inventory's lock means and was made; nothing, and said, where that cannot be told."""
    written = locks.read(inventory.lock_path)
    try:
        with connected(options) as connector:
            stock = obtain(inventory, hosts, connector, ROOT, say=narrator(options).line, dry=True)
    except FleetError as error:
        terminal.event("nightly", f"what was good before is not known: {error}")
        return {}
    if stock.lock != written:  # what had to be resolved for this was never deployed by this lock
        return {}
    return {name: one for name, one in named(stock.found) if one.release is not None}


def look(
    options: Options, inventory: Inventory, hosts: Sequence[Host], lock: Path | None, avoid: Collection[str]
) -> Looked:
    """Ask upstream; `lock` is where what it said is written. Images whose new key is one to `avoid` stay as they were, where
    that can be said apart from the others.
    """
    say = narrator(options)

    def ask(*, update: bool, avoid: Collection[str] = (), by: Path | None = None) -> Stock:
        mine = replace(inventory, lock=by) if by else inventory
        return obtain(mine, hosts, connector, ROOT, say=say.line, update=update, dry=True, avoid=avoid)

    with connected(options) as connector:
        stock = ask(update=True, avoid=avoid)
        spared = {name: one.avoided for name, one in named(stock.found) if one.avoided}
        if spared:
            with temporary("fleet-night-") as folder:
                tried = folder / "lock.yaml"
                locks.write(tried, stock.lock)
                mixed = keys_of(ask(update=False, by=tried).found)
            if mixed != keys_of(stock.found):  # two images of one ref: the lock cannot mean one commit to each
                stock, spared = ask(update=True), {}
    if lock is not None:
        locks.write(lock, stock.lock)
    return Looked(keys_of(stock.found), spared, stock)


def named(found: Iterable[Found]) -> list[tuple[str, Found]]:
    """Each with its image's name; further images of one name are numbered."""
    return numbered((one.image, one) for one in found)


def keys_of(found: Iterable[Found]) -> dict[str, str]:
    """Content keys by image."""
    return {name: one.key for name, one in named(found)}


def numbered(pairs: Iterable[tuple[str, T]]) -> list[tuple[str, T]]:
    told: dict[str, T] = {}
    for image, one in pairs:
        name, number = image, 2
        while name in told:
            name, number = f"{image} ({number})", number + 1
        told[name] = one
    return list(told.items())


def make(options: Options, inventory: Inventory, hosts: Sequence[Host], book: Book) -> None:
    """Build or bring what is new, judged on the builder before it goes anywhere; push; tag."""
    say = narrator(options)
    smokes: list[dict[str, Any]] = []

    def prove(machine: Machine, tag: str, image: Image, gfx: tuple[str, ...]) -> None:
        found = smoke(machine, tag, gfx, Said(image.gfx, image.rocm, built=image.source is not None))
        told: dict[str, Any] = {"image": tag, "vllm": found.version, "rocm": found.rocm, "gfx": list(found.gfx)}
        smokes.append({**told, "notes": list(found.notes)})
        for note in found.notes:
            terminal.event("smoke test", f"{tag}: {note}")

    began = time.time()
    try:
        with connected(options) as connector, Depots(say.line) as depots:
            mine = replace(inventory, lock=book.lock)
            stock = obtain(mine, hosts, connector, ROOT, say=say.line, prove=prove, moving=say.moving, depots=depots)
    finally:
        book.put(stages=stages_since(ROOT, began))
    images: list[dict[str, Any]] = []
    good = {str(one["image"]): str(one["release"]) for one in book.document.get("good", ())}
    ids = {one.release.id for one in stock.found if one.release is not None}
    for name, one in named(stock.found):
        if one.release is None:
            raise FleetError(f"image {one.image} could not be made: {one.why}")
        tag = plan.tag(calendar.now(), one.release.vllm_commit, one.key)
        told: dict[str, Any] = {"image": name, "before": good.get(name, ""), "release": one.release.local_name}
        told |= {"key": one.key, "why": one.why, "bytes": one.release.size}
        told |= {"version": one.release.vllm_version, "commit": one.release.vllm_commit}
        told |= {"base": one.release.base, "base_digest": one.release.base_digest}
        if one.registry is not None and one.release.is_ours_in(one.registry.host):
            with RegistryClient(one.registry) as client:
                client.tag(one.release.name, one.release.manifest_digest, tag)
            told["tag"] = tag
        images.append(told)
    keys = {one.release.id: one.key for one in stock.found if one.release is not None}
    asked = {host: {name: keys[one.id] for name, one in of.items()} for host, of in stock.releases.items()}
    book.put(images=images, smoke=smokes, asked=asked, brought=sorted({*book.document["brought"], *ids}))


def good_ones(found: Mapping[str, Found], past: Sequence[Night]) -> list[dict[str, str]]:
    """For the report: what an image was good as when the night began, and the night that promoted it."""
    since = {
        one["release"]: night.id
        for night in past
        if night.result == "promoted"
        for one in night.document.get("images") or ()
    }
    return [
        {
            "image": name,
            "release": one.release.local_name,
            "version": one.release.vllm_version,
            "commit": one.release.vllm_commit,
            "since": since.get(one.release.local_name, ""),
        }
        for name, one in found.items()
        if one.release is not None
    ]


def good_now(book: Book) -> list[dict[str, str]]:
    """For the report, when a night has promoted its images: those that it made, and what stayed as it was."""
    stayed = {one["release"]: one for one in book.document.get("good", ())}
    names = ("image", "release", "version", "commit")
    return [
        stayed.get(one["release"]) or {**{name: str(one.get(name, "")) for name in names}, "since": book.id}
        for one in book.document.get("images", ())
    ]


def stages_since(root: Path, moment: float) -> list[dict[str, Any]]:
    """How long the stages of each build took whose log was written since then: `image`, `stage`, `seconds`."""
    told = []
    for path in sorted((root / "logs").glob("build-*.log"), key=lambda one: one.stat().st_mtime):
        if path.stat().st_mtime >= moment:
            image = path.stem.removeprefix("build-").rpartition("-")[0]
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            told += [{"image": image, "stage": one, "seconds": took} for one, took in stage_seconds(lines).items()]
    return told


def foreign(options: Options, inventory: Inventory, hosts: Sequence[Host], book: Book) -> bool:
    """Does the inventory, with the night's lock, ask for an image that the night did not prove?"""
    with connected(options) as connector:
        mine = replace(inventory, lock=book.lock)
        stock = obtain(mine, hosts, connector, ROOT, say=narrator(options).line, dry=True)
    return bool({one.key for one in stock.found} - set(book.document["keys"].values()))


def move_last_good(options: Options, inventory: Inventory, hosts: Sequence[Host]) -> str:
    """The tag last-good in the registry; what went wrong, for the lock is what counts here."""
    try:
        with connected(options) as connector:
            stock = obtain(inventory, hosts, connector, ROOT, say=narrator(options).line, dry=True)
        for one in stock.found:
            if one.registry and one.release and one.release.is_ours_in(one.registry.host):
                with RegistryClient(one.registry) as client:
                    client.tag(one.release.name, one.release.manifest_digest, LAST_GOOD, move=True)
    except FleetError as error:
        return f"the tag {LAST_GOOD} could not be moved: {error.message}"
    return ""
