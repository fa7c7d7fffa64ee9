"""The images of a night: what is asked for, what has to be made, and the names that it gets in the registry."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fleet import calendar
from fleet.cli import Options
from fleet.errors import FleetError
from fleet.image import lock as locks
from fleet.image.build_log import stage_seconds
from fleet.image.machine import Machine
from fleet.image.registry_api import RegistryClient
from fleet.image.smoke import smoke
from fleet.image.source import commits
from fleet.inventory.model import Host, Inventory
from fleet.nightly import plan
from fleet.nightly.nights import Book
from fleet.report import terminal
from fleet.rollout.releases import Found, Stock, obtain
from fleet.verbs.common import ROOT, connected, narrator

LAST_GOOD = "last-good"  # the tag that moves


def look(
    options: Options, inventory: Inventory, hosts: Sequence[Host], lock: Path | None
) -> tuple[dict[str, str], Stock]:
    """The content keys that the inventory's lock means, and what upstream means now; `lock` is where that is written."""
    say = narrator(options)
    written = locks.read(inventory.lock_path)
    with connected(options) as connector:
        try:
            was = obtain(inventory, hosts, connector, ROOT, say=say.line, dry=True)
            # What had to be resolved for this was never deployed by this lock.
            old = keys_of(one for one in was.found if one.release is not None) if was.lock == written else {}
        except FleetError as error:
            terminal.event("nightly", f"what was good before is not known: {error}")
            old = {}
        stock = obtain(inventory, hosts, connector, ROOT, say=say.line, update=True, dry=True)
    if lock is not None:
        locks.write(lock, stock.lock)
    return old, stock


def upstream(hosts: Sequence[Host], old: locks.Lock, new: locks.Lock) -> list[dict[str, str]]:
    """What changed upstream between two locks, as a list of commits; nothing where that cannot be told."""
    told: dict[str, dict[str, str]] = {}
    settings = [host.settings for host in hosts]
    images = [service.image or one.image for one in settings for service in one.services.values()]
    sources = {repr(image.source): image.source for image in images if image is not None and image.source is not None}
    for source in sources.values():
        before, after = (lock.commit(source.repository, source.ref) for lock in (old, new))
        if before and after and before != after:
            try:
                found = commits(source, before, after, ROOT)
            except FleetError:  # a list for people, on which nothing hangs
                continue
            told |= {commit: {"commit": commit, "subject": subject} for commit, subject in found}
    return list(told.values())


def keys_of(found: Iterable[Found]) -> dict[str, str]:
    """Content keys by image; further images of one name are numbered."""
    keys: dict[str, str] = {}
    for one in found:
        name, number = one.image, 2
        while name in keys:
            name, number = f"{one.image} ({number})", number + 1
        keys[name] = one.key
    return keys


def make(options: Options, inventory: Inventory, hosts: Sequence[Host], book: Book) -> None:
    """Build or bring what is new, judged on the builder before it goes anywhere; push; tag."""
    say = narrator(options)
    smokes: list[dict[str, Any]] = []

    def prove(machine: Machine, tag: str, gfx: tuple[str, ...]) -> None:
        found = smoke(machine, tag, gfx)
        smokes.append({"image": tag, "vllm": found.version, "rocm": found.rocm, "gfx": list(found.gfx)})

    began = time.time()
    try:
        with connected(options) as connector:
            mine = replace(inventory, lock=book.lock)
            stock = obtain(mine, hosts, connector, ROOT, say=say.line, prove=prove, moving=say.moving)
    finally:
        book.put(stages=stages_since(ROOT, began))
    images: list[dict[str, Any]] = []
    ids = {one.release.id for one in stock.found if one.release is not None}
    for one in stock.found:
        if one.release is None:
            raise FleetError(f"image {one.image} could not be made: {one.why}")
        name = plan.tag(calendar.now(), one.release.vllm_commit, one.key)
        told: dict[str, Any] = {"image": one.image, "key": one.key, "release": one.release.local_name, "why": one.why}
        told |= {"commit": one.release.vllm_commit, "bytes": one.release.size}
        if one.registry is not None and one.release.is_ours_in(one.registry.host):
            with RegistryClient(one.registry) as client:
                client.tag(one.release.name, one.release.manifest_digest, name)
            told["tag"] = name
        images.append(told)
    book.put(images=images, smoke=smokes, brought=sorted({*book.document["brought"], *ids}))


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
