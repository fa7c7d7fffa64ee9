"""The releases that a set of hosts is to run: found or made, and put where the hosts can get them."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from fleet.delivery.depot import Depot
from fleet.delivery.progress import Moving, silent
from fleet.delivery.straight import Straight
from fleet.errors import FleetError
from fleet.facts.cards import gfx_of_model
from fleet.image import lock as locks
from fleet.image.describe import LABEL_BASE_KEY, Made
from fleet.image.machine import Here, Machine, There
from fleet.image.produce import bring_again, look, produce
from fleet.image.release import Release
from fleet.image.scratch import sweep
from fleet.image.store import Store
from fleet.image.strategy import AUTO, key_of, narrowed
from fleet.image.workshop import Outlook, Produced, Workshop
from fleet.inventory.model import Host, Inventory
from fleet.inventory.settings import Image, Registry, Settings
from fleet.prune.ledger import Ledger
from fleet.rollout.base_images import keep_base
from fleet.rollout.images import pulls_from, registry_of
from fleet.rollout.publish import publish as publish_release
from fleet.rollout.records import HostRecords
from fleet.rollout.relays import registry_images
from fleet.rollout.straighten import Depots
from fleet.rollout.strategies import Explained, settle, weigh
from fleet.transport import Connector

Say = Callable[[str], None]
Prove = Callable[[Machine, str, Image, tuple[str, ...]], None]


@dataclass(frozen=True)
class Order:
    """One image to have, for which hosts and services. `published`: some host pulls it from `registry`."""

    image: Image
    registry: Registry | None
    builder: str
    staging: str
    published: bool
    wanted_by: tuple[tuple[str, str], ...]  # (host, service); a registry for relays is for no service: ""
    registries: Mapping[str, Registry] = field(default_factory=dict)  # others that images come from, by host
    handed: bool = False  # some host would get it from the builder itself


@dataclass(frozen=True)
class Found:
    """What an image of the inventory comes to. `release` is None where it has yet to be made; `why` says so.

    `avoided` is the content key that it would have by now, where that one was to be avoided.
    """

    image: str
    key: str
    release: Release | None
    registry: Registry | None  # where hosts pull it from, None where none does
    why: str
    avoided: str = ""


@dataclass
class Stock:
    """What was found or made. `releases` go by host and service; `changes` tell what was made or pushed.

    `records`, by host and content key, are for the hosts to keep, because no registry of ours does.
    """

    store: Store
    releases: dict[str, dict[str, Release]] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    records: dict[str, dict[str, Release]] = field(default_factory=dict)
    workshops: dict[str, Workshop] = field(default_factory=dict)  # release id -> where its layout can be had
    depots: dict[str, Depot] = field(default_factory=dict)  # release id -> where its builder hands it out
    left_out: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by release id, layers that no store has
    relays: dict[str, Release] = field(default_factory=dict)  # by host that may be a relay, the registry's image
    found: list[Found] = field(default_factory=list)  # the images of services, in the inventory's order
    lock: locks.Lock = field(default_factory=locks.Lock)  # with all that was resolved

    @property
    def origins(self) -> dict[str, str]:
        """By release id, the registry or the builder that its layout would have to be fetched from, because it is not here."""
        releases = {one.id: one for of_host in self.releases.values() for one in of_host.values()}
        missing = {name for name, one in releases.items() if self.store.layout(one) is None}
        builders = {name: self.depots[name].name for name in missing & set(self.depots)}
        registries = {
            name: one.registry.host for name, one in self.workshops.items() if name in missing and one.registry
        }
        return {**registries, **builders}

    @classmethod
    def empty(cls) -> "Stock":
        return cls(Store(Path()))


def orders(hosts: Iterable[Host]) -> tuple[Order, ...]:
    """Every distinct image of the hosts' services, once. Pure. Raises FleetError for a service without an image."""
    found: dict[str, Order] = {}
    for host in hosts:
        settings = host.settings
        for service in settings.services.values():
            image, registry = image_of(settings, service.image, host.name, service.name), registry_of(settings, service)
            key = repr((image, registry, settings.builder, settings.registries))
            published = pulls_from(settings, service) is not None
            first = Order(image, registry, settings.builder, settings.staging_dir, False, (), settings.registries)
            before = found.get(key, first)
            found[key] = replace(
                before,
                published=before.published or published,
                handed=before.handed or (not published and settings.sideload.from_builder),
                wanted_by=(*before.wanted_by, (host.name, service.name)),
            )
    return tuple(found.values())


def relay_orders(hosts: Iterable[Host]) -> tuple[Order, ...]:
    """Every distinct image of a registry that one of the hosts may have to run as a relay, once. Pure."""
    hosts = tuple(hosts)
    by_name = {host.name: host.settings for host in hosts}
    return tuple(
        Order(image, None, "", "", False, tuple((name, "") for name in names), by_name[names[0]].registries)
        for image, names in registry_images(hosts).items()
    )


def image_of(settings: Settings, own: Image | None, host: str, service: str) -> Image:
    """A service's image: its own, else the host's; a name that is missing comes from the host's."""
    image = own or settings.image
    if image is None:
        raise FleetError(f"{host}: service {service} has no image", hint="set fleet.image, or image under the service")
    name = image.name or (settings.image.name if settings.image else "")
    return _one_way(replace(image, name=name or "vllm-rocm"))


def declared_gfx(inventory: Inventory) -> tuple[str, ...]:
    """The gfx targets of all GPUs that the whole inventory declares, never of a selection: a build serves everybody."""
    models = {host.settings.gpus.model for host in inventory.hosts.values()}
    return tuple(sorted({gfx for model in models if model and (gfx := gfx_of_model(model))}))


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
        image, lock, why = settle(order.image, _wanting(inventory, order.image), gfx, connector, bare, lock)
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
        wanting = _wanting(inventory, order.image)
        choice = weigh(order.image, wanting, gfx, connector, shop, lock, everything=True)
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
    far = [host for host in inventory.hosts.values() if host.name not in names and _wants(host.settings, order.image)]
    return HostRecords(connector, near, far, say)


def _wants(settings: Settings, image: Image) -> bool:
    own = [service.image or settings.image for service in settings.services.values()]
    return any(one is not None and _one_way(replace(one, name=image.name)) == image for one in own)


def _wanting(inventory: Inventory, image: Image) -> list[Host]:
    return [host for host in inventory.hosts.values() if _wants(host.settings, image)]


def _one_way(image: Image) -> Image:
    """A strategy that is no question is answered at once."""
    return narrowed(image, image.strategy)


def take_in(stock: Stock, order: Order, produced: Produced | Outlook, release: Release, workshop: Workshop) -> None:
    """Give the release to everybody who asked for it, and its record to the hosts where no registry of ours has it."""
    if isinstance(produced, Produced) and produced.changes:
        stock.changes.append(f"made {release.local_name}: {produced.why}")
    else:
        stock.notes.append(f"{release.local_name}: {produced.why}")
    stock.workshops[release.id] = workshop
    for host, service in order.wanted_by:
        if not service:
            stock.relays[host] = release
            continue
        stock.releases.setdefault(host, {})[service] = release
        if order.registry is None or not order.published:
            stock.records.setdefault(host, {})[produced.key] = release


def push_missing(
    stock: Stock,
    order: Order,
    registry: Registry,
    produced: Produced | Outlook,
    workshop: Workshop,
    *,
    dry: bool,
    moving: Moving,
) -> None:
    """See that the order's hosts can pull its release; where the registry takes no record, they keep it."""
    if produced.release is None:
        return
    done = publish_release(produced.release, produced.key, registry, workshop, dry=dry, moving=moving)
    stock.changes += done.changes
    stock.notes += [one for one in done.notes if one not in stock.notes]
    for host, service in order.wanted_by:
        if service and not done.recorded:
            stock.records.setdefault(host, {})[produced.key] = produced.release


def certificates(hosts: Mapping[str, Host]) -> dict[str, str]:
    """The CA of every registry that a host pulls from, as text, from the inventory's files."""
    found: dict[str, str] = {}
    for host in hosts.values():
        for service in host.settings.services.values():
            registry = pulls_from(host.settings, service)
            if registry is not None and registry.ca_file and registry.host not in found:
                try:
                    found[registry.host] = Path(registry.ca_file).read_text(encoding="utf-8")
                except OSError as error:
                    raise FleetError(
                        f"cannot read the CA of {registry.host}, {registry.ca_file}: {error.strerror}"
                    ) from error
    return found
