"""A roll's releases out of a bundle: no build, no git, and no registry but the site's own where its hosts pull from it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from fleet.bundle.contents import Record
from fleet.bundle.manifest import Manifest
from fleet.delivery.progress import Moving, silent
from fleet.image.lock import Lock
from fleet.image.machine import Here
from fleet.image.release import Release
from fleet.image.store import Store
from fleet.image.strategy import fingerprint
from fleet.image.workshop import Outlook, Workshop
from fleet.inventory.model import Host
from fleet.rollout.imageorders import orders, relay_orders
from fleet.rollout.relays import groups
from fleet.rollout.releases import Say
from fleet.rollout.stock import Stock, push_missing, take_in


def wanted(manifest: Manifest, found: Sequence[Record], hosts: Sequence[Host]) -> tuple[Release, ...]:
    """The releases of a bundle that these hosts ask for, each once. Pure."""
    images = {want.image: want.release for want in manifest.wants}
    asked = {images.get(fingerprint(order.image)) for order in (*orders(hosts), *relay_orders(hosts))}
    return tuple({one.release.id: one.release for one in found if one.release.id in asked}.values())


def over_ssh(manifest: Manifest, hosts: Sequence[Host]) -> frozenset[str]:
    """The ids of the releases that only go to hosts themselves, by sideload: layers that these hosts hold need not travel.

    What is pushed to a registry or served by a relay has to be whole. Pure.
    """
    images = {want.image: want.release for want in manifest.wants}
    shared = {name for group in groups(hosts) for name in group.names}
    asked = {images.get(fingerprint(order.image), ""): order for order in orders(hosts)}
    alone = {
        release
        for release, order in asked.items()
        if not order.published and not shared & {name for name, _ in order.wanted_by}
    }
    return frozenset(alone - {images.get(fingerprint(order.image), "") for order in relay_orders(hosts)})


def supply(
    manifest: Manifest,
    found: Sequence[Record],
    hosts: Sequence[Host],
    root: Path,
    *,
    say: Say,
    dry: bool,
    left_out: Mapping[str, frozenset[str]] = MappingProxyType({}),
    moving: Moving = silent,
) -> Stock:
    """What `obtain` gives, from the records of a bundle that has the image of every service of `hosts`.

    Layouts are expected in the store below `root`. What hosts pull is pushed to the inventory's registry; `dry` only asks
    it what it lacks. `left_out` are, by release, the layers that only hosts have. Raises FleetError.
    """
    stock = Stock(Store(root), left_out=left_out)
    workshop = Workshop(stock.store, Here(), None, say)
    images = {want.image: want.release for want in manifest.wants}
    for order in (*orders(hosts), *relay_orders(hosts)):
        release_id = images[fingerprint(order.image)]
        for record in (one for one in found if one.release.id == release_id):
            outlook = Outlook(record.release, record.key, Lock(), "", f"from bundle {manifest.id}")
            take_in(stock, order, outlook, record.release, workshop)
            if order.registry is not None and order.published:
                push_missing(stock, order, order.registry, outlook, workshop, dry=dry, moving=moving)
    return stock


def moved(ours: Lock, theirs: Lock) -> Lock:
    """The site's lock as a bundle moves it: what the bundle was made with counts, the rest stays. Pure."""
    return Lock(
        {**ours.commits, **theirs.commits},
        {**ours.images, **theirs.images},
        {**ours.archives, **theirs.archives},
        {**ours.local, **theirs.local},
        {**ours.models, **theirs.models},
        {**ours.choices, **theirs.choices},
    )
