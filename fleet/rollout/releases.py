"""The releases that a set of hosts is to run: found or made, and put where the hosts can get them."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from fleet.delivery.depot import Depot
from fleet.delivery.progress import Moving, silent
from fleet.delivery.straight import Straight
from fleet.errors import FleetError
from fleet.image import lock as locks
from fleet.image.describe import LABEL_BASE_KEY, Made
from fleet.image.machine import Here, Machine, There
from fleet.image.produce import bring_again, look, produce
from fleet.image.release import Release
from fleet.image.scratch import sweep
from fleet.image.store import Store
from fleet.image.strategy import AUTO, key_of
from fleet.image.workshop import Workshop
from fleet.inventory.model import Host, Inventory
from fleet.inventory.settings import Image
from fleet.prune.ledger import Ledger
from fleet.rollout.base_images import keep_base
from fleet.rollout.imageorders import Order, declared_gfx, orders, relay_orders, wanting, wants
from fleet.rollout.records import HostRecords
from fleet.rollout.stock import Found, Stock, push_missing, take_in
from fleet.rollout.straighten import Depots
from fleet.rollout.strategies import Explained, settle, weigh
from fleet.transport import Connector

Say = Callable[[str], None]
Prove = Callable[[Machine, str, Image, tuple[str, ...]], None]


def obtain(
    inventory: Inventory,
    hosts: Iterable[Host],
    connector: Connector,
    root: Path,
    *,
    say: Say,
    update: bool = False,
    dry: bool = False,
    publish: bool = True,
    moving: Moving = silent,
    prove: Prove | None = None,
    avoid: Collection[str] = (),
    services: bool = True,
    depots: Depots | None = None,
) -> Stock:
    """Find or make each release and publish it; the lock moves when something was resolved. `dry` makes nothing. Without
    `services` only what relays run is had.

    `avoid` are content keys in whose place `update` leaves what the lock means. `prove` judges what was just built or
    brought, by its name on the builder and the gfx targets, before it goes anywhere. `publish` pushes what some host
    pulls, from the builder where it can; with `depots` what no host pulls stays on its builder. Raises FleetError. In a dry
    run a release that does not exist yet is a note, and its services have none.
    """
    if not dry:
        sweep(root / "layouts", root / "trees")
    stock = Stock(Store(root))
    before = lock = locks.read(inventory.lock_path)
    gfx = declared_gfx(inventory)
    hosts = tuple(hosts)
    machines: dict[str, Machine] = {}
    ledger = Ledger.of(root, inventory)
    for order in (*(orders(hosts) if services else ()), *relay_orders(hosts)):
        if order.builder not in machines:
            machines[order.builder] = _machine(inventory, order, connector)
        machine = machines[order.builder]
        bare = Workshop(
            stock.store, machine, order.registry, say, update, registries=order.registries, pulled=order.published
        )
        image, lock, why = settle(order.image, wanting(inventory, order.image), gfx, connector, bare, lock)
        if why:
            stock.notes.append(f"{image.name}: {why}")
        straight = None
        if publish and order.registry is not None and order.published and order.builder:
            straight = Straight(machine, order.registry, say, stock.notes.append, moving)
        depot = None
        if depots is not None and order.handed and not order.published and isinstance(machine, There):
            depot = depots.of(machine, inventory.hosts[order.builder], order.staging, hosts)
        workshop = replace(
            bare,
            straight=_bring(depot.keep if depot else straight.bring if straight else None, stock.store),
            kept=depot.has if depot else bare.kept,
            hosts=_records(inventory, hosts, order, connector, say) if order.wanted_by[0][1] else None,
            again=partial(_again, image, bare, depot),
            prove=_proof(prove, machine, image, gfx) if order.wanted_by[0][1] else None,
            claim=ledger.claim,
        )
        found = (look if dry else produce)(image, workshop, lock, gfx=gfx)
        avoided = ""
        if update and found.key in avoid:
            avoided, settled = found.key, replace(workshop, update=False)
            found = (look if dry else produce)(image, settled, lock, gfx=gfx)
        stock.lock = lock = found.lock
        if order.wanted_by[0][1]:
            at = order.registry if order.published else None
            stock.found.append(Found(image.name, found.key, found.release, at, found.why, avoided))
        if found.release is None:
            stock.notes.append(f"would {found.what}: {found.why}")
            if (way := depot or straight) is not None and image.source is not None:
                stock.notes.append(f"{image.name}: {way.words()}")
            continue
        if depot is not None and found.release.source == "source":
            stock.depots[found.release.id] = depot
        if not dry:
            ledger.claim(found.key, found.release.id, found.release.labels.get(LABEL_BASE_KEY, ""))
        take_in(stock, order, found, found.release, workshop)
        if publish and order.registry is not None and order.published:
            push_missing(stock, order, order.registry, found, workshop, dry=dry, moving=moving)
            said, changed = keep_base(found.release, order.registry, workshop, dry=dry)
            if said:
                (stock.changes if changed else stock.notes).append(said)
    if lock != before and not dry:
        locks.write(inventory.lock_path, lock)
    return stock


def explain(
    inventory: Inventory, hosts: Iterable[Host], connector: Connector, root: Path, *, say: Say
) -> tuple[Explained, ...]:
    """Why each image of the hosts is had the way it is, by what is so now. Nothing is made, and no lock moves."""
    lock, gfx = locks.read(inventory.lock_path), declared_gfx(inventory)
    told = []
    for order in orders(hosts):
        if order.image.strategy != AUTO:
            told.append(Explained(order.image, "", None))
            continue
        shop = Workshop(
            Store(root), _machine(inventory, order, connector), order.registry, say, True, registries=order.registries
        )
        choice = weigh(order.image, wanting(inventory, order.image), gfx, connector, shop, lock, everything=True)
        told.append(Explained(order.image, lock.choice(key_of(order.image, gfx)), choice))
    return tuple(told)


def _proof(prove: Prove | None, machine: Machine, image: Image, gfx: tuple[str, ...]) -> Callable[[str], None] | None:
    if prove is None:
        return None
    targets = (image.source.gfx if image.source else ()) or gfx
    return lambda tag: prove(machine, tag, image, targets)


def _bring(
    bring: Callable[[str, str, Made, Path], Release | None] | None, store: Store
) -> Callable[[str, str, Made], Release | None] | None:
    if bring is None:
        return None
    return lambda tag, name, made: bring(tag, name, made, store.root / "layouts")


def _again(image: Image, bare: Workshop, depot: Depot | None, release: Release) -> None:
    """A lost layout: as it lies on the builder, else as it was had the first time."""
    if depot is not None and release.source == "source" and depot.has(release):
        try:
            depot.bring(bare.store, release)
        except FleetError as error:  # its engine has the image too
            bare.on_line(f"what {depot.name} keeps of {release.local_name} is not used: {error.message}")
            depot.forget(release)
        else:
            return
    bring_again(image, bare, release)


def _machine(inventory: Inventory, order: Order, connector: Connector) -> Machine:
    """The builder's session lasts as long as the connector: a lost layout may be wanted from it later."""
    if not order.builder:
        return Here()
    return There(connector.connect(inventory.hosts[order.builder]), order.staging)


def _records(inventory: Inventory, chosen: Iterable[Host], order: Order, connector: Connector, say: Say) -> HostRecords:
    """The hosts that this image is for: the chosen ones, and the others of the inventory that ask for the same."""
    names = {name for name, _ in order.wanted_by}
    near = [host for host in chosen if host.name in names]
    far = [host for host in inventory.hosts.values() if host.name not in names and wants(host.settings, order.image)]
    return HostRecords(connector, near, far, say)
