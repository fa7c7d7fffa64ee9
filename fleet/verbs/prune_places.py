"""A prune's part away from the hosts: the controller's files, builders, registries."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from fleet import calendar
from fleet.errors import FleetError, HostError
from fleet.image.build import builder_of
from fleet.image.machine import Here, Machine, There
from fleet.image.recipe import base_name
from fleet.image.registry_shelf import ShelfClient
from fleet.image.registry_words import UnsupportedError
from fleet.image.release import Release
from fleet.image.scratch import left
from fleet.image.strategy import AUTO
from fleet.inventory.model import Host, Inventory
from fleet.inventory.settings import Registry
from fleet.journal import Journal
from fleet.locks import Owner
from fleet.nightly import nights
from fleet.prune import builder, controller, registry
from fleet.prune.facts import Kept, Room
from fleet.prune.ledger import Ledger
from fleet.prune.ownership import Leave, Owned
from fleet.report.prune import Place, Told
from fleet.report.units import bytes_of
from fleet.rollout.claims import Claims
from fleet.rollout.imageorders import Order, orders
from fleet.rollout.images import pulls_from
from fleet.transport import Connector
from fleet.verbs.closing import Teller
from fleet.verbs.common import ROOT
from fleet.verbs.nightly_timer import nightly_of

S = TypeVar("S", bound=Told)


@dataclass(frozen=True)
class Scene:
    """What the places share; `places`, `failed` and `notes` take what comes of it. Without a journal nothing is done.

    `judged`: what every host of the inventory needs is known, so that what none of them needs can go.
    """

    hosts: Sequence[Host]
    keep: int
    needed: Mapping[str, str]  # release id -> why, of all hosts
    judged: bool
    ledger: Ledger
    owned: Owned
    known: dict[str, Release]
    places: dict[str, Place]
    failed: dict[str, HostError]
    notes: list[str]
    journal: Journal | None
    say: Teller

    def carry_out(self, name: str, steps: Sequence[S], kept: Sequence[Kept], do: Callable[[S], None]) -> None:
        """All steps of a place in order, until one fails. A registry that deletes nothing is a note, and no failure."""
        have = self.places.setdefault(name, Place())
        have.steps += tuple(steps)
        have.kept += tuple(kept)
        if (journal := self.journal) is None:
            return
        for step in steps:
            self.say.host(name, step.what)
            try:
                journal.perform(name, step, partial(do, step))
            except UnsupportedError as error:
                self.notes.append(f"{error.message}; {error.hint}")
                return
            except FleetError as error:
                self.failed[name] = HostError(name, error.message, hint=error.hint)
                return
            have.done.append(step)

    @contextmanager
    def measured(self, name: str, room: Callable[[], Room]) -> Iterator[None]:
        """The place's room before and, where something was done, after it."""
        have = self.places.setdefault(name, Place())
        have.before = room()
        try:
            yield
        finally:
            have.after = room() if have.done else None


def prune_files(scene: Scene, inventory: Inventory) -> None:
    """By the most patient of the hosts' settings: a journal tells of many hosts."""
    days = max((host.settings.retention.logs for host in scene.hosts), default=0.0)
    if days:
        steps = controller.plan_files(*controller.read(ROOT, calendar.now()), days * 86400)
        scene.carry_out(controller.NAME, steps, (), controller.remove)
    past = nights.nights(ROOT / "nights", str(inventory.sources[0].resolve()))
    steps = controller.plan_nights([ROOT / "nights" / one.id for one in past], nightly_of(inventory).keep)
    scene.carry_out(controller.NAME, steps, (), controller.remove)


def prune_layouts(scene: Scene) -> None:
    """What nobody goes on with goes in any case."""
    layouts = builder.read_layouts(ROOT, calendar.now())
    rest = builder.plan_scratch((*left(ROOT / "layouts"), *left(ROOT / "trees")))
    scene.carry_out(controller.NAME, (*builder.plan_unfinished(layouts), *rest), (), builder.remove_layout)
    if scene.judged:
        steps, kept = builder.plan_layouts(layouts, scene.needed, scene.keep, scene.owned)
        scene.carry_out(controller.NAME, steps, kept, _or_leave(scene, builder.remove_layout))


def prune_builders(scene: Scene, inventory: Inventory, connector: Connector, *, forks: int, wait: float) -> None:
    """Every machine that builds images of the hosts. One that is a host is locked meanwhile."""
    made = [one for one in _orders(scene) if one.image.source]
    names = frozenset(name for one in made for name in (one.image.name, base_name(one.image.name)))
    for name, staging in {one.builder: one.staging for one in made}.items():
        told = f"builder {name}" if name else "builder, this machine"
        try:
            if not name:
                _prune_builder(scene, told, Here(), scene.hosts, names)
                continue
            host = inventory.hosts[name]
            session = connector.connect(host)
            with Claims(Owner.here(scene.journal.id if scene.journal else "")) as claims:
                if scene.journal is not None:
                    missing = claims.take({name: session}, forks=forks, wait=wait, say=scene.say.host)
                    for error in missing.values():
                        raise error
                _prune_builder(scene, told, There(session, staging), (host,), names, staging)
        except FleetError as error:
            scene.failed[told] = HostError(told, error.message, hint=error.hint)


def _prune_builder(
    scene: Scene, told: str, machine: Machine, hosts: Sequence[Host], names: frozenset[str], staging: str = ""
) -> None:
    """A cache has no owner and can be had again, so what hosts need does not matter to it."""
    facts = builder_of(machine)
    if not facts.engine:  # such as a second controller, which only rolls what others have built
        scene.notes.append(f"{told}: no Docker engine answers there, so there is nothing to remove")
        return
    steps: tuple[builder.RemoveBuilt | Leave, ...] = ()
    kept: tuple[Kept, ...] = ()
    lost = sorted(name for name in scene.needed if name not in scene.known)
    if scene.judged and lost:
        scene.notes.append(f"{told}: images are left alone, because the records of {', '.join(lost)} are gone")
    elif scene.judged:
        keys = builder.keys_of(scene.needed, scene.known)
        steps, kept = builder.plan_built(builder.read_built(machine, names), keys, scene.keep, scene.owned)
    limit = max((bytes_of(host.settings.retention.cache) for host in hosts), default=0)
    run = partial(builder.run, machine=machine)
    with scene.measured(told, partial(builder.read_room, machine)):
        scene.carry_out(told, steps, kept, _or_leave(scene, run))
        # Read only now: an image that went has left its layers to the cache.
        scene.carry_out(told, builder.plan_cache(builder.read_cache(machine), limit, facts), (), run)
        scene.carry_out(told, builder.read_left(machine, staging) if staging else (), (), run)


def prune_registries(scene: Scene) -> dict[str, Registry]:
    """Every repository that the hosts pull from, unless one of them says that others do too; gives their registries."""
    spared = {one.host for host in scene.hosts if not host.settings.retention.registry for one in _registries(host)}
    shelves: dict[tuple[str, str], Registry] = {}
    bases: set[str] = set()
    lost = any(name not in scene.known for name in scene.needed)
    keys = builder.base_keys_of(scene.needed, scene.known)
    for order in _orders(scene):
        if order.registry is not None and order.published and order.registry.host not in spared:
            shelves[order.registry.host, order.image.name] = order.registry
            source = order.image.source
            if source is not None and (source.base is not None or order.image.strategy == AUTO):
                shelves[order.registry.host, base_name(order.image.name)] = order.registry
                bases.add(base_name(order.image.name))
    for (host, name), one in shelves.items():
        told = f"registry {host}"
        if name in bases and lost:
            scene.notes.append(f"{told}: {name} is left alone, because records of releases are gone")
            continue
        try:
            with ShelfClient(one) as client:
                shelf = registry.read(client, host, name)
                needed = registry.needed_bases(shelf, keys) if name in bases else scene.needed
                steps, kept = registry.plan_registry(shelf, needed, scene.keep, scene.owned)
                scene.carry_out(told, steps, kept, _or_leave(scene, partial(registry.delete, client=client)))
        except FleetError as error:
            scene.failed[told] = HostError(told, error.message, hint=error.hint)
    return {host: one for (host, _), one in shelves.items()}


def _or_leave(scene: Scene, do: Callable[[S], None]) -> Callable[[S | Leave], None]:
    def act(step: S | Leave) -> None:
        if isinstance(step, Leave):
            scene.ledger.forget(*step.tokens)
        else:
            do(step)

    return act


def _registries(host: Host) -> Sequence[Registry]:
    settings = host.settings
    return [one for service in settings.services.values() if (one := pulls_from(settings, service)) is not None]


def _orders(scene: Scene) -> Sequence[Order]:
    return orders(host for host in scene.hosts if host.settings.services)
