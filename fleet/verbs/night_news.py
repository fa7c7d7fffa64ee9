"""What is new since the last good night: upstream, and in the inventory. For the report alone; nothing hangs on it."""

from collections.abc import Mapping, Sequence
from typing import Any

from fleet.errors import FleetError
from fleet.image import lock as locks
from fleet.image.source import history, patch_hashes
from fleet.inventory.model import Host
from fleet.inventory.settings import Image
from fleet.nightly import changes
from fleet.rollout.imageorders import orders
from fleet.verbs.common import ROOT
from fleet.verbs.night_images import numbered


def news(hosts: Sequence[Host], old: locks.Lock, new: locks.Lock, last: Mapping[str, Any]) -> dict[str, Any]:
    """What changed since last good, for the report; `last` is what the last good night said of `recipes`.

    `changes` are sentences, `upstream` and `dropped` lists of commits.
    """
    told: dict[str, Any] = {"changes": [], "upstream": [], "dropped": []}
    images = distinct(hosts)
    sources = {repr(image.source): image.source for image in images.values() if image.source is not None}
    for source in sources.values():
        before, after = (lock.commit(source.repository, source.ref) for lock in (old, new))
        if before and after and before != after:
            try:
                found = history(source, before, after, ROOT)
            except FleetError as error:  # a list for people, on which nothing hangs
                told["changes"].append(
                    f"{source.ref}: {before[:12]} → {after[:12]}; what came between: {error.message}"
                )
                continue
            told["changes"].append(changes.of_history(source, before, after, found))
            for key, listed in (("upstream", found.commits), ("dropped", found.dropped)):
                told[key] += [{"commit": commit, "subject": subject} for commit, subject in listed]
    told["changes"] += changes.of_locks(old, new)
    told["recipes"] = {name: changes.recipe(image, _patches(image)) for name, image in images.items()}
    for name, recipe in told["recipes"].items():
        if name in last:
            told["changes"] += changes.of_recipes(name, last[name], recipe)
    return told


def distinct(hosts: Sequence[Host]) -> dict[str, Image]:
    """The images that the hosts' services ask for, by the names that their keys go by."""
    return dict(numbered((order.image.name, order.image) for order in orders(hosts)))


def _patches(image: Image) -> tuple[str, ...]:
    return patch_hashes(image.source) if image.source is not None else ()
