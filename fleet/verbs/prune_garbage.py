"""A prune's last part: a registry on a host of the inventory collects its garbage; for any other one it is said how."""

from collections.abc import Mapping
from functools import partial

from fleet.errors import FleetError, HostError
from fleet.inventory.model import Host, Inventory
from fleet.inventory.settings import Registry
from fleet.locks import Owner
from fleet.prune import collecting
from fleet.prune.collect import Collect, choose, host_of, plan_collect
from fleet.prune.registry import COLLECT, DeleteManifest
from fleet.report.prune import Place
from fleet.rollout.claims import Claims
from fleet.transport import Connector, Session
from fleet.verbs.common import in_maintenance
from fleet.verbs.prune_places import Scene


def collect_garbage(
    scene: Scene,
    registries: Mapping[str, Registry],
    inventory: Inventory,
    connector: Connector,
    *,
    forks: int,
    wait: float,
) -> None:
    """Of every registry that was pruned, however little was deleted today: a collection may have failed before."""
    for address, registry in registries.items():
        told = f"registry {address}"
        if told in scene.failed:
            continue
        name = host_of(inventory, address)
        away = in_maintenance(inventory, [inventory.hosts[name]]) if name else {}
        if name and not away:
            try:
                _collect_on(scene, told, registry, inventory.hosts[name], connector, forks=forks, wait=wait)
            except FleetError as error:
                scene.failed[told] = HostError(told, error.message, hint=error.hint)
        elif _deleted(scene, told):
            why = f"its garbage is not collected, because {name} is {away[name]}; " if away else ""
            scene.notes.append(f"{told}: {why}{COLLECT}")


def _collect_on(
    scene: Scene, told: str, registry: Registry, host: Host, connector: Connector, *, forks: int, wait: float
) -> None:
    deleted = _deleted(scene, told)
    session = connector.connect(host)
    found = collecting.look(session)
    way = choose(found, registry.collect)
    if isinstance(way, str):
        left = f"; a collection was cut off there, and the configuration of before is {found.left[0]}"
        if deleted or found.left:
            scene.notes.append(f"{told}: {way}{left if found.left else ''}; {COLLECT}")
        return
    garbage = collecting.measure(session, way)
    place = scene.places.setdefault(told, Place())
    place.before = garbage.room
    if garbage.busy:
        scene.notes.append(f"{told}: somebody pushes to it, so its garbage is left to the next prune")
        return
    soon = 0 if scene.journal else deleted
    steps = plan_collect(registry.host, host.name, found, way, garbage, soon)
    with Claims(Owner.here(scene.journal.id if scene.journal else "")) as claims:
        if steps and scene.journal is not None:
            for error in claims.take({host.name: session}, forks=forks, wait=wait, say=scene.say.host).values():
                raise error
        scene.carry_out(told, steps, (), partial(_collect, session=session, place=place))


def _collect(step: Collect, *, session: Session, place: Place) -> None:
    place.before, place.after = collecting.collect(step, session)


def _deleted(scene: Scene, told: str) -> int:
    """Bytes of the manifests that were deleted there, or with --check would be."""
    place = scene.places.get(told, Place())
    steps = place.done if scene.journal else place.steps
    return sum(one.size for one in steps if isinstance(one, DeleteManifest))
