"""The releases that a set of hosts is to run: found or made, and put where the hosts can get them."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from fleet.delivery.push import push
from fleet.errors import FleetError
from fleet.facts.cards import gfx_of_model
from fleet.image import lock as locks
from fleet.image.machine import Here, Machine, There
from fleet.image.produce import look, produce
from fleet.image.registry_api import RegistryClient
from fleet.image.release import Release
from fleet.image.store import Store
from fleet.image.workshop import Outlook, Produced, Workshop, ensure_layout
from fleet.image.workshop import publish as publish_record
from fleet.inventory.model import Host, Inventory
from fleet.inventory.settings import Image, Registry, Settings
from fleet.rollout.images import pulls_from, registry_of
from fleet.transport import Connector

Say = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """One image to have, for which hosts and services. `published`: some host pulls it from `registry`."""

    image: Image
    registry: Registry | None
    builder: str
    staging: str
    published: bool
    wanted_by: tuple[tuple[str, str], ...]  # (host, service)


@dataclass
class Stock:
    """What was found or made. `releases` go by host and service; `changes` tell what was made or pushed."""

    store: Store
    releases: dict[str, dict[str, Release]] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    workshops: dict[str, Workshop] = field(default_factory=dict)  # release id -> where its layout can be had

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
            key = repr((image, registry, settings.builder))
            published = pulls_from(settings, service) is not None
            before = found.get(key, Order(image, registry, settings.builder, settings.staging_dir, False, ()))
            found[key] = replace(
                before,
                published=before.published or published,
                wanted_by=(*before.wanted_by, (host.name, service.name)),
            )
    return tuple(found.values())


def image_of(settings: Settings, own: Image | None, host: str, service: str) -> Image:
    """A service's image: its own, else the host's; a name that is missing comes from the host's."""
    image = own or settings.image
    if image is None:
        raise FleetError(f"{host}: service {service} has no image", hint="set fleet.image, or image under the service")
    name = image.name or (settings.image.name if settings.image else "")
    return replace(image, name=name or "vllm-rocm")


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
) -> Stock:
    """Find or make each release and publish it; the lock moves when something was resolved. `dry` makes nothing.

    `publish` pushes what some host pulls. Raises FleetError. In a dry run a release that does not exist yet is a note, and its services have none.
    """
    stock = Stock(Store(root))
    before = lock = locks.read(inventory.lock_path)
    gfx = declared_gfx(inventory)
    with ExitStack() as open_sessions:
        machines: dict[str, Machine] = {}
        for order in orders(hosts):
            if order.builder not in machines:
                machines[order.builder] = _machine(inventory, order, connector, open_sessions)
            workshop = Workshop(stock.store, machines[order.builder], order.registry, say, update)
            found = (look if dry else produce)(order.image, workshop, lock, gfx=gfx)
            lock = found.lock
            if found.release is None:
                stock.notes.append(f"would {found.what}: {found.why}")
                continue
            _keep(stock, order, found, found.release, workshop)
            if publish and order.registry is not None and order.published:
                _publish(stock, order.registry, found, found.release, workshop, dry=dry)
    if lock != before and not dry:
        locks.write(inventory.lock_path, lock)
    return stock


def _machine(inventory: Inventory, order: Order, connector: Connector, stack: ExitStack) -> Machine:
    if not order.builder:
        return Here()
    return There(stack.enter_context(connector.connect(inventory.hosts[order.builder])), order.staging)


def _keep(stock: Stock, order: Order, produced: Produced | Outlook, release: Release, workshop: Workshop) -> None:
    if isinstance(produced, Produced) and produced.changes:
        stock.changes.append(f"made {release.local_name}: {produced.why}")
    else:
        stock.notes.append(f"{release.local_name}: {produced.why}")
    stock.workshops[release.id] = workshop
    for host, service in order.wanted_by:
        stock.releases.setdefault(host, {})[service] = release


def _publish(
    stock: Stock, registry: Registry, produced: Produced | Outlook, release: Release, workshop: Workshop, *, dry: bool
) -> None:
    """Push by digest what the registry lacks, and its record, which a second controller reads."""
    with RegistryClient(registry) as client:
        there = bool(client.digest(release.name, release.manifest_digest))
    if dry:
        if not there:
            stock.notes.append(f"{release.local_name} would be pushed to {registry.host}")
        return
    if not there:
        ensure_layout(workshop, release)
        workshop.on_line(f"pushing {release.local_name} to {registry.host}")
        push(stock.store.layout_path(release), registry, release.name, release.id, on_line=workshop.on_line)
        stock.changes.append(f"pushed {release.local_name} to {registry.host}")
    if publish_record(release, produced.key, registry) and there:
        stock.changes.append(f"recorded {release.local_name} in {registry.host}")


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
